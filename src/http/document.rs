//! Handles `GET /api/openapi.json`, which shows the API document.

use actix_web::{HttpResponse, get, web};

/// The text of the API document. It is made once, when the server starts.
#[derive(Clone)]
pub struct DocumentText(pub std::sync::Arc<str>);

/// Shows the description of this API.
#[utoipa::path(
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
#[get("/api/openapi.json")]
pub async fn get_document(text: web::Data<DocumentText>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.to_string())
}
