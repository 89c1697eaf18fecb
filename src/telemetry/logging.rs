//! Log lines on stderr. Crates other than ours never log below info, whatever the filter says,
//! because the debug output of a driver holds rows and replies.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The reason why there is no logging.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is malformed.
    #[error("the log filter is malformed")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is in place.
    #[error("logging was set up twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins to log to stderr.
pub fn init(filter: &str, format: Format) -> Result<(), LoggingError> {
    Registry::default().with(layer(filter, format, io::stderr)?).try_init()?;
    Ok(())
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "ai_cache" || metadata.target().starts_with("ai_cache::")
}

/// Makes the layer that writes the lines that `filter` lets through to `writer`.
pub fn layer<S, W>(
    filter: &str,
    format: Format,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LoggingError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let asked =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(filter)?;
    let capped = filter_fn(|metadata| is_ours(metadata) || *metadata.level() <= Level::INFO);
    let filter = capped.and(asked);
    Ok(match format {
        Format::Text => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(writer)
            .with_filter(filter)
            .boxed(),
        Format::Json => fmt::layer().json().with_writer(writer).with_filter(filter).boxed(),
    })
}
