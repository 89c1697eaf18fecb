//! Owns the HTTP server. It serves until it is told to stop, and then finishes the requests that
//! have begun.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use utoipa_actix_web::{AppExt, scope};
use utoipa_swagger_ui::SwaggerUi;

use crate::lifecycle::Lifecycle;

use super::document::DocumentText;
use super::problem::Problem;
use super::{State, access, audited, matching, openapi, routes};

/// The time that a client has to send a request's head, and to close its connection at a shutdown.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// The settings of the server.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings {
    /// The number of threads that serve requests.
    pub workers: usize,
    /// The longest time that a stop waits for requests that have begun.
    pub grace: Duration,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
}

/// The reasons why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener cannot be used.
    #[error("cannot listen on it: {}", .0.kind())]
    Listen(#[from] std::io::Error),
    /// The API document cannot be written.
    #[error("the API document cannot be written")]
    Document(#[from] serde_json::Error),
}

impl Server {
    /// Starts to serve `state` on `listener`, which is bound already.
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
            let guarded = scope::scope(routes::PREFIX)
                .configure(routes::guarded)
                .map(|scope| scope.wrap(from_fn(audited::guard)));
            let docs =
                SwaggerUi::new("/api/docs/{_:.*}").url("/api/docs/openapi.json", spec.clone());
            let (app, _) = App::new()
                .into_utoipa_app()
                .app_data(state.clone())
                .app_data(document.clone())
                .service(guarded)
                .configure(routes::open)
                .split_for_parts();
            app.service(web::redirect("/api/docs", "/api/docs/"))
                .service(docs)
                .default_service(web::to(unrouted))
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
        // The task accepts connections and hands them to threads of its own. `Server::stop` ends
        // it.
        lifecycle.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(kind = %error.kind(), "the HTTP server ended");
            }
        });
        Ok(Self { address, handle })
    }

    /// Returns the address on which the server listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, finishes the requests that have begun, and returns. Requests
    /// that take longer than `ServerSettings::grace` are cut.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// Answers a request that no route takes.
async fn unrouted(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(matching::no_route(&request))
}
