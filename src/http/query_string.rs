//! Reads the query string of a request. Its parameters are read like the fields of a body.

use actix_web::{HttpRequest, web};
use chrono::{DateTime, Utc};

use crate::domain::fields::{FieldError, Fields};
use crate::domain::json::{Json, Object};

use super::problem::{Problem, ProblemKind};

/// The parameters of a request. No parameter is given twice.
pub struct Parameters(Fields);

impl Parameters {
    /// Reads the query string. A parameter that is given twice is an error.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let malformed =
            |_| Problem::new(ProblemKind::MalformedRequest, "the query string is malformed");
        let mut members = Object::new();
        for (name, value) in pairs.map_err(malformed)?.into_inner() {
            let twice = format!("the parameter {name:?} is given twice");
            if members.insert(name, Json::Text(value)).is_some() {
                return Err(Problem::new(ProblemKind::MalformedRequest, twice));
            }
        }
        Fields::root(Json::Object(members)).map(Self).map_err(Problem::from)
    }

    /// Takes the parameter `name`. Returns `None` if it is absent or if `parse` refused it. A
    /// refusal is also an error of [`Self::finish`], in the words of `rule`.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.0.parsed(name, rule, parse)
    }

    /// Takes the parameter `name` as a time of RFC 3339, as [`Self::parsed`] does.
    pub fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.0.time(name)
    }

    /// Adds an error about the parameter `name`.
    pub fn refuse(&mut self, name: &str, detail: &str) {
        self.0.refuse(name, detail);
    }

    /// Returns all errors so far, if there are any. A parameter that was not taken is an error too.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        self.0.finish()
    }
}
