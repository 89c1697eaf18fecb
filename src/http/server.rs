//! The HTTP server: listens, serves until it is told to stop, then finishes what it holds.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::SwaggerUi;

use crate::lifecycle::Lifecycle;

use super::document::DocumentText;
use super::{State, access, api, openapi, routes};

/// Time a client has to send its request's head, and to take part in the shutdown.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings {
    /// Threads that serve.
    pub workers: usize,
    /// How long a stop waits for replies under way.
    pub grace: Duration,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on it: {}", .0.kind())]
    Listen(#[from] std::io::Error),
    /// The API document cannot be written.
    #[error("the API document cannot be written")]
    Document(#[from] serde_json::Error),
}

impl Server {
    /// Serves `state` on a listener that is bound already.
    pub fn start(
        listener: TcpListener,
        state: State,
        settings: ServerSettings,
        lifecycle: &Lifecycle,
    ) -> Result<Self, ServerError> {
        let address = listener.local_addr()?;
        let state = web::Data::new(state);
        let document = web::Data::new(DocumentText(openapi::text()?.into()));
        let spec = openapi::generate();
        let server = HttpServer::new(move || {
            let docs =
                SwaggerUi::new("/api/docs/{_:.*}").url("/api/docs/openapi.json", spec.clone());
            let (app, _) = App::new()
                .into_utoipa_app()
                .app_data(state.clone())
                .app_data(document.clone())
                .configure(routes::configure)
                .split_for_parts();
            app.service(web::redirect("/api/docs", "/api/docs/"))
                .service(docs)
                .default_service(web::to(api::unrouted))
                .wrap(from_fn(access::trace))
        });
        let server = server
            .workers(settings.workers)
            .shutdown_timeout(settings.grace.as_secs())
            .client_request_timeout(CLIENT_LIMIT)
            .client_disconnect_timeout(CLIENT_LIMIT)
            .disable_signals()
            .listen(listener)?
            .run();
        let handle = server.handle();
        // Accepts connections and hands them to its own threads; ends when it is stopped.
        lifecycle.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(kind = %error.kind(), "the HTTP server ended");
            }
        });
        Ok(Self { address, handle })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, finishes the replies under way within the grace, and ends.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}
