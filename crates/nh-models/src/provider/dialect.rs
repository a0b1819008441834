//! Within the hub a chat is OpenAI's, whoever answers it. A provider of another protocol is
//! written to and read from here, and nowhere else.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::asking::Operation;
use super::{Provider, anthropic, google, openai, openrouter};
use crate::{ModelError, ProviderKind};

/// A request as the provider's protocol has it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Behind the `base_url`.
    pub(super) path: String,
    pub(super) body: Bytes,
    /// Anthropic's header of betas.
    pub(super) beta: Option<HeaderValue>,
}

/// Follows a stream of a protocol that is not OpenAI's.
pub(crate) enum Events {
    Anthropic(anthropic::Events),
    Google(google::Events),
}

impl Events {
    /// What an event says, as the data of OpenAI's frames.
    pub(crate) fn frames(&mut self, event: &str) -> Vec<String> {
        match self {
            Self::Anthropic(events) => events.frames(event),
            Self::Google(events) => events.frames(event),
        }
    }
}

impl Provider {
    pub(super) const fn listing_path(&self) -> &'static str {
        match self.settings.kind {
            ProviderKind::Anthropic => "models?limit=1000",
            ProviderKind::Google => "models?pageSize=1000",
            ProviderKind::Openai | ProviderKind::Openrouter => "models",
        }
    }

    /// `body` is OpenAI's, with the provider's own id of the model.
    pub(crate) fn write(
        &self,
        operation: Operation,
        mut body: Map<String, Value>,
    ) -> Result<Written, ModelError> {
        let path = match operation {
            Operation::Chat => {
                body.remove("stream");
                body.remove("stream_options");
                "chat/completions"
            }
            Operation::ChatStream => {
                body.insert("stream".to_owned(), Value::Bool(true));
                match body.get_mut("stream_options").and_then(Value::as_object_mut) {
                    Some(options) => drop(options.insert("include_usage".to_owned(), Value::Bool(true))),
                    None => drop(body.insert("stream_options".to_owned(), json!({"include_usage": true}))),
                }
                "chat/completions"
            }
            Operation::Embeddings => "embeddings",
        };
        if self.settings.kind == ProviderKind::Openai {
            openai::check_files(&body)?;
        }
        if self.settings.kind != ProviderKind::Anthropic && body.contains_key(anthropic::OWN) {
            anthropic::without_own(&mut body, self.taken())?;
        }
        if matches!(self.settings.kind, ProviderKind::Openai | ProviderKind::Openrouter)
            && let Some(Value::Array(messages)) = body.get_mut("messages")
        {
            *messages = openai::let_user_show(std::mem::take(messages));
        }
        match self.settings.kind {
            ProviderKind::Anthropic => {
                let beta = anthropic::beta(&body);
                let body = anthropic::write(operation, body)?;
                return Ok(Written { beta, ..self.written("messages".to_owned(), &body)? });
            }
            ProviderKind::Google => {
                let (path, body) = google::write(operation, &body)?;
                return self.written(path, &body);
            }
            ProviderKind::Openai if !self.settings.is_at_public_address() => {
                openai::fit_chat_of_imitator(&mut body);
            }
            ProviderKind::Openai => openai::fit_chat_of_openai(&mut body),
            ProviderKind::Openrouter => openrouter::fit_chat(&mut body),
        }
        self.written(path.to_owned(), &body)
    }

    /// What else than OpenAI's own fields it takes, of a request that came as Anthropic's.
    fn taken(&self) -> anthropic::Taken {
        let kind = self.settings.kind;
        let is_imitator = kind == ProviderKind::Openai && !self.settings.is_at_public_address();
        anthropic::Taken {
            all: kind == ProviderKind::Openrouter,
            reasoning_content: is_imitator,
            reasoning_effort: !is_imitator,
            answer_limit: self.answer_limit(),
        }
    }

    fn written(&self, path: String, body: &Map<String, Value>) -> Result<Written, ModelError> {
        let body = serde_json::to_vec(body).map_err(|error| self.failed(error.to_string()))?;
        Ok(Written { path, body: body.into(), beta: None })
    }

    /// Whether its answers are OpenAI's as they come.
    pub(crate) const fn speaks_openai(&self) -> bool {
        matches!(self.settings.kind, ProviderKind::Openai | ProviderKind::Openrouter)
    }

    /// A whole answer as OpenAI's. What is no answer (an error) stays as it is.
    pub(crate) fn read(&self, answer: Map<String, Value>) -> Map<String, Value> {
        match self.settings.kind {
            ProviderKind::Anthropic => anthropic::read(answer),
            ProviderKind::Google => google::read(answer),
            ProviderKind::Openai | ProviderKind::Openrouter => answer,
        }
    }

    /// None where the provider's streams are OpenAI's.
    pub(crate) fn events(&self) -> Option<Events> {
        match self.settings.kind {
            ProviderKind::Anthropic => Some(Events::Anthropic(anthropic::Events::default())),
            ProviderKind::Google => Some(Events::Google(google::Events::default())),
            ProviderKind::Openai | ProviderKind::Openrouter => None,
        }
    }
}
