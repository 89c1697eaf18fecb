//! Owns the description of one route, which the guard, the metrics and the API document use. The
//! list of the routes stands in `routes`.

use utoipa::openapi::HttpMethod;

use crate::domain::action::Action;
use crate::domain::caller::Role;

/// A route that needs a token.
#[derive(Debug, Clone)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The whole path, with its parameters in braces.
    pub path: String,
    /// The role that the token must have.
    pub role: Role,
    /// The action that the audit record of a request names.
    pub action: Action,
}

/// A route that everybody may use.
#[derive(Debug, Clone)]
pub struct OpenRoute {
    /// The HTTP method.
    pub method: &'static str,
    /// The whole path.
    pub path: String,
}

impl Route {
    /// Returns the route of the handler `H`. The handler's own path continues `prefix`.
    pub fn of<H: utoipa::Path>(prefix: &str, role: Role, action: Action) -> Self {
        let OpenRoute { method, path } = OpenRoute::of::<H>();
        Self { method, path: format!("{prefix}{path}"), role, action }
    }
}

impl OpenRoute {
    /// Returns the route of the handler `H`.
    pub fn of<H: utoipa::Path>() -> Self {
        // The macros that stand at handlers, such as `#[get("/path")]`, take exactly one method.
        let method = H::methods().first().map_or("", name_of);
        Self { method, path: H::path() }
    }
}

const fn name_of(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Head => "HEAD",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Trace => "TRACE",
    }
}
