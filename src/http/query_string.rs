//! The query string of a request, taken apart parameter by parameter like a body's fields.

use actix_web::{HttpRequest, web};
use chrono::{DateTime, Utc};

use crate::domain::fields::{FieldError, Fields};
use crate::domain::json::{Json, Object};

use super::problem::{Problem, ProblemKind};

/// The parameters of a request, each at most once.
pub struct Parameters(Fields);

impl Parameters {
    /// Reads the query string.
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

    /// A parameter that `parse` accepts; `rule` says what it accepts.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.0.parsed(name, rule, parse)
    }

    /// A time of RFC 3339.
    pub fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.0.time(name)
    }

    /// Notes that a parameter breaks a rule.
    pub fn refuse(&mut self, name: &str, detail: &str) {
        self.0.refuse(name, detail);
    }

    /// Every fault; a parameter nobody took is one.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        self.0.finish()
    }
}
