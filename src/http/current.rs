//! Hands the authenticated call from the middleware to a handler and back, so that the middleware
//! settles its record however the handler ends.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use crate::call::{Call, CallStart};

use super::problem::Problem;

/// Where the call is while no handler has it. One request, one thread.
#[derive(Clone, Default)]
pub struct CallSlot(Rc<Cell<Option<Box<Call>>>>);

impl CallSlot {
    /// Puts a call in.
    pub fn put(&self, call: Box<Call>) {
        self.0.set(Some(call));
    }

    /// Takes the call out.
    pub fn take(&self) -> Option<Box<Call>> {
        self.0.take()
    }
}

/// The request's call, lent to its handler.
pub struct Current {
    call: Option<Box<Call>>,
    slot: CallSlot,
}

impl FromRequest for Current {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slot = request.extensions().get::<CallSlot>().cloned().unwrap_or_default();
        let Some(call) = slot.take() else {
            tracing::error!("a handler needs a call that no middleware made");
            return ready(Err(Problem::unauthenticated()));
        };
        ready(Ok(Self { call: Some(call), slot }))
    }
}

impl Current {
    /// The call.
    pub fn call(&mut self) -> Result<&mut Call, Problem> {
        self.call.as_deref_mut().ok_or_else(Problem::unauthenticated)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.slot.put(call);
        }
    }
}

/// When and as what the request arrived, as the outermost middleware noted it.
pub fn start_of(request: &impl HttpMessage) -> Option<CallStart> {
    request.extensions().get::<CallStart>().copied()
}
