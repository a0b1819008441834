//! The crates' spans, sent to OpenTelemetry: which trace each belongs to, and
//! how a collector is told (OTLP over HTTP, protobuf).
//!
//! A span for OpenTelemetry is a `tracing` span of the target
//! [`nh_types::span::TARGET`]. Its fields are its attributes, but for those that
//! begin with `otel.` or `trace.`, which say where it belongs (`span.rs`). The
//! trace of a run is the run's own id, so that its spans come together from any
//! process and after any restart (`context.rs`).
//!
//! This crate must never know what a span is about. Start reading at
//! [`Telemetry`], then at `layer.rs`.

mod context;
mod export;
mod layer;
mod otlp;
mod settings;
mod span;

pub use export::Telemetry;
pub use layer::SpanLayer;
pub use settings::{Collector, TelemetrySettings};
