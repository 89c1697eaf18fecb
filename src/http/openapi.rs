//! The OpenAPI 3.1 document: generated from the handlers, served, and printed by `ai-cache openapi`.

use actix_web::App;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa_actix_web::AppExt;

use super::routes;

/// What the document says besides its paths.
fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("ai-cache")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A multi-tenant cache for answers that cost money and time. Errors are \
             application/problem+json (RFC 9457).",
        ))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// The whole document.
pub fn generate() -> OpenApi {
    let (_, mut spec) = App::new()
        .into_utoipa_app()
        .openapi(frame())
        .configure(routes::configure)
        .split_for_parts();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = spec.components.get_or_insert_default();
    components.add_security_scheme("token", token);
    spec
}

/// The whole document as indented JSON, ending in a line break.
pub fn text() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&generate()).map(|text| text + "\n")
}
