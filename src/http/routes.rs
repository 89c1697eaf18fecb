//! Every handler of the service on one screen, in its place.

use actix_web::middleware::from_fn;
use utoipa_actix_web::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{api, audited, document, health};

/// Puts every handler in its place.
pub fn configure(config: &mut ServiceConfig<'_>) {
    let authenticated = scope::scope("/api/ai-cache")
        .service(api::query::post_query)
        .service(api::invalidate::post_invalidate)
        .service(api::entries::list_entries)
        .service(api::entries::get_entry)
        .service(api::entries::delete_entry)
        .service(api::statistics::get_statistics)
        .service(api::verification::get_verification)
        .service(api::audit::list_audit)
        .service(api::audit::export_audit)
        .service(api::gdpr::post_request)
        .service(api::gdpr::list_requests)
        .service(api::gdpr::get_request)
        .service(api::gdpr::get_certificate)
        .service(api::gdpr::get_export)
        .service(api::gdpr::approve_request)
        .service(api::gdpr::reject_request)
        .service(api::gdpr::cancel_request)
        .service(api::gdpr::extend_request)
        .service(api::holds::list_holds)
        .service(api::holds::put_hold)
        .service(api::tokens::list_tokens)
        .service(api::tokens::post_token)
        .service(api::tokens::delete_token)
        .service(api::purge::post_purge)
        .service(api::tenants::list_tenants)
        .service(api::tenants::post_tenant)
        .service(api::tenants::patch_tenant)
        .service(api::tenants::list_tenant_tokens)
        .service(api::tenants::post_tenant_token)
        .service(api::tenants::delete_tenant_token)
        .map(|scope| scope.wrap(from_fn(audited::guard)));
    config
        .service(authenticated)
        .service(health::live)
        .service(health::ready)
        .service(health::cache)
        .service(health::api_health)
        .service(health::metrics)
        .service(document::get_document);
}
