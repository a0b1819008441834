//! The one door: [`Models`].

use std::sync::Arc;

use nh_types::model::{ModelView, Usage};
use nh_types::{KeyId, RunId, SharedClock, SharedIds, WorkspaceId};
use serde_json::{Map, Value};

use crate::{ChatStream, ModelError, ResolvedProvider, UsageSink, offline};

/// On whose account a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub workspace_id: WorkspaceId,
    /// The API key of the request, where there is one.
    pub key_id: Option<KeyId>,
    /// The run that makes the call, where there is one.
    pub run_id: Option<RunId>,
}

/// A whole chat answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// OpenAI's `chat.completion` object: `id, object, created, model,
    /// choices[{index, message{role, content, tool_calls?}, finish_reason}],
    /// usage` and whatever else the provider sent. Send `message` back as it
    /// is on the next turn: providers hide state in fields of it.
    pub body: Map<String, Value>,
    pub usage: Usage,
}

/// What [`Models`] is made of.
pub struct ModelsSetup {
    pub providers: Vec<ResolvedProvider>,
    /// `[agents] default_model`.
    pub default_model: Option<String>,
    pub clock: SharedClock,
    pub ids: SharedIds,
    pub usage: UsageSink,
}

/// Every model that this hub can call.
#[derive(Clone)]
pub struct Models(Arc<ModelsSetup>);

impl Models {
    pub fn new(setup: ModelsSetup) -> Self {
        Self(Arc::new(setup))
    }

    /// Every model, in the order of the providers in the configuration; the
    /// built-in offline model last.
    pub async fn list(&self) -> Vec<ModelView> {
        Vec::new()
    }

    /// One model by any id that [`Models::chat`] takes.
    pub async fn find(&self, id: &str) -> Option<ModelView> {
        self.list().await.into_iter().find(|model| model.id == id)
    }

    /// The configured default, else the first provider's, else the offline
    /// model.
    pub fn default_model(&self) -> String {
        self.0.default_model.clone().unwrap_or_else(|| offline::MODEL_ID.to_owned())
    }

    /// A whole answer to OpenAI's `POST /chat/completions` body; `stream` in it
    /// is ignored.
    pub async fn chat(&self, caller: &Caller, body: Map<String, Value>) -> Result<Completion, ModelError> {
        let _ = (caller, body);
        Err(ModelError::Overloaded)
    }

    /// The same as a stream. An error that shows before the first byte is an
    /// `Err`; one that shows later is a frame of the stream.
    pub async fn chat_stream(&self, caller: &Caller, body: Map<String, Value>) -> Result<ChatStream, ModelError> {
        let _ = (caller, body);
        Err(ModelError::Overloaded)
    }

    /// The answer to OpenAI's `POST /embeddings` body.
    pub async fn embeddings(&self, caller: &Caller, body: Map<String, Value>) -> Result<Value, ModelError> {
        let _ = (caller, body);
        Err(ModelError::Overloaded)
    }
}
