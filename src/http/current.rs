//! Hands the authenticated call from the middleware to a handler and back. So the middleware can
//! settle the call's audit record however the handler ends.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use crate::call::{Call, CallStart};

use super::problem::Problem;

/// The place of the call while no handler has it. `Rc` suffices, because one thread serves a
/// request.
#[derive(Clone, Default)]
pub struct CallSlot(Rc<Cell<Option<Box<Call>>>>);

impl CallSlot {
    /// Puts a call into the slot.
    pub fn put(&self, call: Box<Call>) {
        self.0.set(Some(call));
    }

    /// Takes the call out of the slot. Returns `None` if a handler has it or if none was put in.
    pub fn take(&self) -> Option<Box<Call>> {
        self.0.take()
    }
}

/// The request's call while its handler has it. When a `Current` is dropped, the call goes back
/// into the slot.
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
    /// Returns the call. Returns an error if no middleware made one.
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

/// Returns the id and the time of the request. Returns `None` if the middleware `access::trace` did
/// not run.
pub fn start_of(request: &impl HttpMessage) -> Option<CallStart> {
    request.extensions().get::<CallStart>().copied()
}
