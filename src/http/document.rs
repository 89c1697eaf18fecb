//! `GET /api/openapi.json`.

use actix_web::{HttpResponse, get, web};

/// The document as text, made once.
#[derive(Clone)]
pub struct DocumentText(pub std::sync::Arc<str>);

/// The description of this API.
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
    security(()),
)]
#[get("/api/openapi.json")]
pub async fn get_document(text: web::Data<DocumentText>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.to_string())
}
