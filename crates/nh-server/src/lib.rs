//! The HTTP server: routes, credentials, errors, limits, OpenAPI, metrics.
//!
//! This crate must never know how anything is done: a handler checks who is
//! calling, calls one function of the crates below, and shapes the answer. It
//! knows no SQL and no model provider. Only this crate names axum.
//!
//! Start reading at `router.rs` for all routes on one page, then at `edge.rs`
//! for what every request passes, `auth/mod.rs` for how a handler comes by its
//! caller, and any file of `routes/`. [`serve`] is the listener, [`App`] the
//! state, [`first_start`] what a new store needs before its first request.

mod app;
pub mod auth;
mod body_room;
mod document;
mod edge;
mod event_stream;
mod failure;
mod first_start;
mod idempotency;
mod json;
mod mcp;
mod metrics;
mod paging;
mod router;
mod routes;
mod run_stream;
mod sandbox_origin;
mod serve;
mod served;
mod settings;
mod signed;
mod signed_link;
mod span;
mod store_failure;
mod sync_waits;
mod unread;
mod yaml;

pub use app::{App, AppSetup};
pub use first_start::{FirstKey, FirstStart, FirstStartError, first_start};
pub use metrics::{METRICS, Metric, MetricKind, Metrics};
pub use router::{metrics_router, openapi, router};
pub use serve::{serve, serve_metrics};
pub use settings::{SecuritySettings, ServerSettings};
