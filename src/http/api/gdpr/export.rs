//! Handles `/api/ai-cache/gdpr/requests/{requestId}/export`, which streams the package of an
//! export.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, get};
use futures_util::stream::{self, Stream};
use utoipa::ToSchema;

use crate::call::{OnWord, ServiceError};
use crate::compliance::ExportDownload;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::Problem;

use super::id_of;

/// The package of an export, a zip file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "the shape in the API document; the body is streamed")]
pub struct PackageBody(Vec<u8>);

/// Downloads the package of a completed export, any number of times until it expires. Each download
/// has a record of its beginning and one of its end. It is cut short when the token is revoked or
/// the tenant disabled, and when a part of the package is damaged. A stream that is cut short, for
/// whatever reason, lacks the last chunk of the transfer coding.
#[utoipa::path(
    tag = "compliance",
    params(("requestId" = String, Path, description = "The request's id")),
    responses(
        (status = 200, description = "JSON Lines, a manifest with the SHA-256 of each, and a page to read", body = PackageBody, content_type = "application/zip"),
        (status = "4XX", description = "Refused; 409 while it is not completed, 410 when it is not kept any longer"),
    ),
)]
#[get("/gdpr/requests/{requestId}/export")]
pub async fn get_export(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = id_of(&path)?;
    let download = state.compliance.download_export(OnWord::Call(current.call()?), id).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/zip")
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"export-{id}.zip\"")))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(parts(download)))
}

/// Returns the stream of a download, with a chunk for each part. actix drops the stream, and the
/// download with it, when the client closes the connection.
fn parts(download: ExportDownload) -> impl Stream<Item = Result<Bytes, ServiceError>> {
    stream::unfold(Some(download), async |download| {
        let mut download = download?;
        match download.next().await {
            Ok(None) => None,
            Ok(Some(part)) => Some((Ok(Bytes::copy_from_slice(part.as_bytes())), Some(download))),
            Err(error) => {
                tracing::warn!(%error, "the download of an export was cut short");
                Some((Err(error), None))
            }
        }
    })
}
