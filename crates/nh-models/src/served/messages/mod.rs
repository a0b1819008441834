//! Anthropic's Messages API (<https://docs.anthropic.com/en/api/messages>) for its own clients,
//! whoever answers them.
//!
//! What OpenAI's chat has no word for is kept under `anthropic`, in the request and as the type of
//! a part: Anthropic's own provider gets it back as it was, and no other provider sees it. What
//! other models want to have back on the next turn, and Anthropic's clients have no word for,
//! travels as a block of redacted thinking.

mod answer;
mod beta;
mod errors;
mod events;
mod hidden;
mod request;

pub use answer::answer;
pub use beta::put_beta;
pub use errors::error;
pub use events::{Events, events};
pub use request::{Request, count, request};
