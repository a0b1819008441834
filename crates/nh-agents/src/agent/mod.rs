//! The agent loop: [`decide`] says what comes next, [`messages`] what the
//! model is shown.

mod cut;
pub mod decide;
pub mod messages;
mod output;
pub(crate) mod recall;
mod repeats;
pub mod window;

/// Step kinds in the journal.
pub const MODEL_STEP: &str = "model";
pub const TOOL_STEP: &str = "tool";

pub(crate) use repeats::refused;
