//! The log: to stderr, for people on a terminal and as JSON lines otherwise.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};

/// Starts the log of this process; only the first call has an effect.
pub(crate) fn start(settings: &LogSettings) -> Result<(), anyhow::Error> {
    let filter = targets(&settings.level).map_err(|message| anyhow::anyhow!("log.level: {message}"))?;
    let is_pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // Fails only when a log was started before, as in a test that starts two hubs.
    let _ = if is_pretty {
        registry.with(lines.with_target(false)).try_init()
    } else {
        registry.with(lines.json().flatten_event(true)).try_init()
    };
    Ok(())
}

/// A level for all, and levels by module: `info,nh_models=debug`.
pub(crate) fn targets(text: &str) -> Result<Targets, String> {
    let is_level =
        |part: &str| part.rsplit('=').next().is_some_and(|level| level.parse::<LevelFilter>().is_ok());
    let wrong =
        || format!("`{text}` should be error, warn, info, debug or trace, or such as info,nh_models=debug");
    if text.split(',').all(|part| is_level(part.trim())) {
        text.parse().map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}
