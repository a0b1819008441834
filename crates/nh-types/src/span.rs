//! What the spans of all crates share. They are made with `tracing` and sent to
//! OpenTelemetry by `nh-telemetry`, which says what their fields mean.

/// The target of every span that is meant for OpenTelemetry. The log shows
/// none of them, and where nobody wants them they cost nothing.
pub const TARGET: &str = "neuralhub.span";
