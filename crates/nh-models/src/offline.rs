//! `neuralhub/offline`: a deterministic planner that speaks the chat protocol.

/// The id of the built-in model.
pub const MODEL_ID: &str = "neuralhub/offline";
