//! Finds the route of a request. The path is compared as it was sent and as actix matched it.

use actix_web::HttpRequest;

use super::problem::{Problem, ProblemKind};
use super::route::Route;
use super::routes::{AUTHENTICATED, OPEN};

/// Returns the guarded route that a request is for. Returns `None` if no guarded route takes the
/// request.
pub fn find(request: &HttpRequest) -> Option<&'static Route> {
    let method = request.method().as_str();
    let matches = |path: &str| {
        AUTHENTICATED.iter().find(|route| route.path == path && route.method == method)
    };
    matches(request.path()).or_else(|| matches(&request.match_pattern()?))
}

/// Returns the label of a request in metrics and logs. It is the path of a route or `other`, and
/// never the path that was sent.
pub fn label(request: &HttpRequest) -> &'static str {
    if let Some(route) = find(request) {
        return &route.path;
    }
    let path = request.path();
    OPEN.iter().find(|route| route.path == path).map_or("other", |route| &route.path)
}

/// Returns the refusal of a request that no route takes. It is a 405 if the path has other methods,
/// and a 404 if there is no such path.
pub fn no_route(request: &HttpRequest) -> Problem {
    let allow = methods(request);
    if allow.is_empty() {
        return Problem::not_found();
    }
    let detail = format!("this path takes {}", allow.join(", "));
    Problem { allow, ..Problem::new(ProblemKind::MethodNotAllowed, detail) }
}

/// Returns the methods that the path of a request takes. The list is empty if there is no such
/// path.
fn methods(request: &HttpRequest) -> Vec<&'static str> {
    let pattern = request.match_pattern();
    let pattern = pattern.as_deref().unwrap_or_else(|| request.path());
    let guarded = AUTHENTICATED.iter().map(|route| (&route.path, route.method));
    let open = OPEN.iter().map(|route| (&route.path, route.method));
    let same = guarded.chain(open).filter(|(path, _)| *path == pattern);
    same.map(|(_, method)| method).collect()
}
