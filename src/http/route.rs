//! Which routes there are: what each is, who may use it and what its record says. Where handlers
//! stand is in `routes`.

use actix_web::HttpRequest;

use crate::domain::audit_record::Action;
use crate::domain::caller::Role;

/// An authenticated route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path with its parameters in braces.
    pub path: &'static str,
    /// The role it needs.
    pub role: Role,
    /// What its record says.
    pub action: Action,
}

const fn route(method: &'static str, path: &'static str, role: Role, action: Action) -> Route {
    Route { method, path, role, action }
}

const fn decision(path: &'static str, action: Action) -> Route {
    route("POST", path, Role::Compliance, action)
}

/// Every authenticated route.
pub const AUTHENTICATED: &[Route] = &[
    route("POST", "/api/ai-cache/query", Role::App, Action::Query),
    route("POST", "/api/ai-cache/invalidate", Role::Admin, Action::Invalidate),
    route("GET", "/api/ai-cache/entries", Role::Admin, Action::EntryList),
    route("GET", "/api/ai-cache/entries/{entryId}", Role::Admin, Action::EntryRead),
    route("DELETE", "/api/ai-cache/entries/{entryId}", Role::Admin, Action::EntryDelete),
    route("GET", "/api/ai-cache/statistics", Role::Admin, Action::StatisticsRead),
    route("GET", "/api/ai-cache/audit/verification", Role::Compliance, Action::VerificationRead),
    route("GET", "/api/ai-cache/audit", Role::Compliance, Action::AuditRead),
    route("GET", "/api/ai-cache/audit/export", Role::Compliance, Action::AuditExport),
    route("POST", "/api/ai-cache/gdpr/requests", Role::Compliance, Action::GdprFile),
    route("GET", "/api/ai-cache/gdpr/requests", Role::Compliance, Action::GdprList),
    route("GET", "/api/ai-cache/gdpr/requests/{requestId}", Role::Compliance, Action::GdprRead),
    route(
        "GET",
        "/api/ai-cache/gdpr/requests/{requestId}/certificate",
        Role::Compliance,
        Action::CertificateRead,
    ),
    route(
        "GET",
        "/api/ai-cache/gdpr/requests/{requestId}/export",
        Role::Compliance,
        Action::GdprDownload,
    ),
    decision("/api/ai-cache/gdpr/requests/{requestId}/approve", Action::GdprApprove),
    decision("/api/ai-cache/gdpr/requests/{requestId}/reject", Action::GdprReject),
    decision("/api/ai-cache/gdpr/requests/{requestId}/cancel", Action::GdprCancel),
    decision("/api/ai-cache/gdpr/requests/{requestId}/extend", Action::GdprExtend),
    route("GET", "/api/ai-cache/gdpr/legal-holds", Role::Compliance, Action::HoldList),
    route("PUT", "/api/ai-cache/gdpr/legal-holds", Role::Compliance, Action::HoldSet),
    route("GET", "/api/ai-cache/tokens", Role::Admin, Action::TokenList),
    route("POST", "/api/ai-cache/tokens", Role::Admin, Action::TokenCreate),
    route("DELETE", "/api/ai-cache/tokens/{tokenId}", Role::Admin, Action::TokenRevoke),
    route("POST", "/api/ai-cache/admin/purge", Role::Operator, Action::Purge),
    route("GET", "/api/ai-cache/admin/tenants", Role::Operator, Action::TenantList),
    route("POST", "/api/ai-cache/admin/tenants", Role::Operator, Action::TenantCreate),
    route("PATCH", "/api/ai-cache/admin/tenants/{slug}", Role::Operator, Action::TenantUpdate),
    route("GET", "/api/ai-cache/admin/tenants/{slug}/tokens", Role::Operator, Action::TokenList),
    route("POST", "/api/ai-cache/admin/tenants/{slug}/tokens", Role::Operator, Action::TokenCreate),
    route(
        "DELETE",
        "/api/ai-cache/admin/tenants/{slug}/tokens/{tokenId}",
        Role::Operator,
        Action::TokenRevoke,
    ),
];

/// Paths that everybody may ask for.
pub const OPEN: &[&str] = &[
    "/health",
    "/health/ready",
    "/health/cache",
    "/api/health",
    "/api/metrics",
    "/api/openapi.json",
];

/// The authenticated route a request is for.
pub fn find(request: &HttpRequest) -> Option<&'static Route> {
    let method = request.method().as_str();
    let matches = |path: &str| {
        AUTHENTICATED.iter().find(|route| route.path == path && route.method == method)
    };
    matches(request.path()).or_else(|| matches(&request.match_pattern()?))
}

/// The methods that the path of a request takes.
pub fn methods(request: &HttpRequest) -> Vec<&'static str> {
    let pattern = request.match_pattern();
    let pattern = pattern.as_deref().unwrap_or_else(|| request.path());
    let same = AUTHENTICATED.iter().filter(|route| route.path == pattern);
    let mut methods: Vec<&'static str> = same.map(|route| route.method).collect();
    if OPEN.contains(&pattern) {
        methods.push("GET");
    }
    methods
}

/// The request's route for metrics and logs: a path of ours, never what was asked for.
pub fn label(request: &HttpRequest) -> &'static str {
    if let Some(route) = find(request) {
        return route.path;
    }
    let path = request.path();
    let open = OPEN.iter().find(|open| **open == path);
    open.copied().unwrap_or("other")
}
