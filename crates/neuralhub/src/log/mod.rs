//! The log: to stderr, for people on a terminal and as JSON lines otherwise.

mod redact;

use std::io::IsTerminal;

use nh_telemetry::SpanLayer;
use nh_types::span;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};
use redact::Redacting;

pub(crate) use redact::compiled;

/// Starts the log of this process, and the making of spans beside it if there
/// is who wants them; only the first call has an effect.
pub(crate) fn start(settings: &LogSettings, spans: Option<SpanLayer>) -> Result<(), anyhow::Error> {
    let filter = targets(&settings.level).map_err(|message| anyhow::anyhow!("log.level: {message}"))?;
    // Without who wants them they are never made.
    let filter = filter.with_target(span::TARGET, LevelFilter::OFF);
    let is_pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let writer =
        Redacting::new(&settings.redact).map_err(|message| anyhow::anyhow!("log.redact: {message}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines =
        if is_pretty { lines.with_target(false).boxed() } else { lines.json().flatten_event(true).boxed() };
    // Fails only when a log was started before, as in a test that starts two hubs.
    let _ = match spans {
        Some(spans) => {
            let spans = spans.with_filter(SpanLayer::filter());
            tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()
        }
        // A filter for all is asked once for each place in the code.
        None => tracing_subscriber::registry().with(lines).with(filter).try_init(),
    };
    Ok(())
}

const NOT_OF_CLIENT: &str = "rmcp::transport::worker=off,rmcp::transport::common=off,\
    rmcp::transport::streamable_http_client=off,rmcp::transport::async_rw=off,";

/// A level for all, and levels by module: `info,nh_models=debug`.
pub(crate) fn targets(text: &str) -> Result<Targets, String> {
    let is_level =
        |part: &str| part.rsplit('=').next().is_some_and(|level| level.parse::<LevelFilter>().is_ok());
    // It tells of each request three times, and of each refusal in the client's own words; of
    // servers that the hub calls it says what they said, which may be what they were told.
    let whole = format!("rmcp=error,rmcp::service=off,{NOT_OF_CLIENT}{text}");
    let wrong =
        || format!("`{text}` should be error, warn, info, debug or trace, or such as info,nh_models=debug");
    if text.split(',').all(|part| is_level(part.trim())) {
        whole.parse().map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}
