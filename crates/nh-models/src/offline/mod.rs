//! `neuralhub/offline`: a deterministic planner that speaks the chat protocol,
//! so that a first try, the demo and the tests need no key and no network. It
//! is not a language model.
//!
//! A request goes through [`conversation`] (what was asked, what was done),
//! [`clauses`] (the goal cut into pieces), [`choose`] (a tool for each piece),
//! [`arguments`] (filled from the words, valid under the tool's schema),
//! [`plan`] (what to call next) and [`answer`] (the outputs in words). The same
//! request always gets the same reply; of a request nothing is kept but its
//! tools, read.

mod answer;
mod arguments;
mod arithmetic;
mod choose;
mod clauses;
mod conversation;
mod places;
mod plan;
mod spans;
mod speak;
mod toolbox;
mod values;
mod words;

use nh_types::model::ModelView;

pub(crate) use speak::{chat, chat_stream};
pub(crate) use toolbox::Toolbox;

/// The id of the built-in model.
pub const MODEL_ID: &str = "neuralhub/offline";

/// Who serves it.
pub(crate) const PROVIDER: &str = "neuralhub";

/// What `GET /v1/models` and the start log say of it.
pub const DESCRIPTION: &str = "The hub's built-in offline planner. It is not a language model: it picks tools by the \
                               words of a goal and reports what they return. It needs no key and no network.";

pub(crate) fn view() -> ModelView {
    ModelView {
        id: MODEL_ID.to_owned(),
        object: "model".to_owned(),
        created: 0,
        owned_by: PROVIDER.to_owned(),
        description: Some(DESCRIPTION.to_owned()),
        input_cost: Some(0.0),
        output_cost: Some(0.0),
        context_length: None,
        capabilities: vec!["chat".to_owned(), "tools".to_owned()],
    }
}
