//! The one door: [`Models`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use nh_http::Outbound;
use nh_types::model::{ModelView, Usage};
use nh_types::{KeyId, RunId, SharedClock, SharedIds, WorkspaceId};
use serde_json::{Map, Value};

use crate::call::{Call, Operation};
use crate::catalogue::Model;
use crate::ledger::Charge;
use crate::meters::Meters;
use crate::provider::Provider;
use crate::{
    ChatStream, Listener, LocalEmbedder, ModelError, ProviderKind, ResolvedProvider, UsageSink, chat,
    embeddings, local, offline, stream,
};

/// A provider's models are looked up again after so long.
const LISTING_AGE_MS: i64 = 3_600_000;
/// A model that nobody knows makes the hub ask again, but not more often.
const UNKNOWN_AGE_MS: i64 = 30_000;
/// The list is shown from what was read within this time.
const SHOWN_AGE_MS: i64 = 300_000;
/// `<provider name>/default` is the provider's first model, whichever it is.
const FIRST_MODEL: &str = "default";

/// On whose account a call goes.
#[derive(Clone)]
pub struct Caller {
    pub workspace_id: WorkspaceId,
    /// The API key of the request, where there is one.
    pub key_id: Option<KeyId>,
    /// The run that makes the call, where there is one.
    pub run_id: Option<RunId>,
    /// What the call is charged to, where that is bounded.
    pub charge: Option<Charge>,
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
    /// A client of the operator's trust: a `base_url` is the operator's word.
    pub http: Outbound,
    pub clock: SharedClock,
    pub ids: SharedIds,
    pub usage: UsageSink,
    /// What serves `neuralhub/minilm`; absent: nothing does.
    pub local: Option<Arc<dyn LocalEmbedder>>,
}

/// Every model that this hub can call.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

pub(crate) struct Inner {
    providers: Vec<Arc<Provider>>,
    default_model: Option<String>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) usage: UsageSink,
    meters: Meters,
    pub(crate) toolbox: offline::Toolbox,
    local: Option<Arc<dyn LocalEmbedder>>,
}

/// Who answers a call.
enum Route {
    Offline,
    Local(Arc<dyn LocalEmbedder>),
    Provider(Arc<Provider>, Arc<Model>),
}

impl Models {
    pub fn new(setup: ModelsSetup) -> Self {
        let ModelsSetup { providers, default_model, http, clock, ids, usage, local } = setup;
        let providers = providers
            .into_iter()
            .map(|provider| Arc::new(Provider::new(provider, http.clone(), clock.clone())))
            .collect();
        Self(Arc::new(Inner {
            providers,
            default_model,
            clock,
            ids,
            usage,
            meters: Meters::default(),
            toolbox: offline::Toolbox::new(),
            local,
        }))
    }

    /// Every model, in the order of the providers in the configuration; the
    /// built-in offline model last.
    pub async fn list(&self) -> Vec<ModelView> {
        join_all(self.0.providers.iter().map(|provider| provider.look_up(SHOWN_AGE_MS))).await;
        let mut seen = HashSet::new();
        let mut views = Vec::new();
        for provider in &self.0.providers {
            for model in provider.shelf().models() {
                let mut view = model.view.clone();
                // The first provider serves the bare id; the others' models
                // are reached, and so listed, under their provider's name.
                if seen.contains(&view.id) {
                    view.id = format!("{}/{}", provider.name(), model.upstream_id);
                }
                if seen.insert(view.id.clone()) {
                    views.push(view);
                }
            }
        }
        views.push(offline::view());
        views.extend(self.0.local.is_some().then(local::view));
        views
    }

    /// One model by any id that [`Models::chat`] takes.
    pub async fn find(&self, id: &str) -> Option<ModelView> {
        match self.0.route(id).await.ok()? {
            Route::Offline => Some(offline::view()),
            Route::Local(_) => Some(local::view()),
            Route::Provider(_, model) => Some(ModelView { id: id.to_owned(), ..model.view.clone() }),
        }
    }

    /// Tokens that a prompt and its answer may have together; None where nobody
    /// says.
    pub async fn context_length(&self, id: &str) -> Option<u64> {
        match self.0.route(id).await.ok()? {
            Route::Offline | Route::Local(_) => None,
            Route::Provider(_, model) => model.view.context_length,
        }
    }

    /// Where what calls use is recorded.
    pub fn usage(&self) -> &UsageSink {
        &self.0.usage
    }

    /// The configured default, else the first provider's, else the offline
    /// model. A provider of unknown models is asked when the id is used:
    /// `<provider name>/default` is its first chat model.
    pub fn default_model(&self) -> String {
        if let Some(id) = &self.0.default_model {
            return id.clone();
        }
        let Some(provider) = self.0.providers.first() else {
            return offline::MODEL_ID.to_owned();
        };
        if let Some(model) = provider.settings.models.iter().find(|model| !model.id.contains("embed")) {
            return provider.find(&model.id).map_or_else(|| model.id.clone(), |model| model.view.id.clone());
        }
        match provider.settings.kind {
            ProviderKind::Openrouter | ProviderKind::Google => "google/gemini-2.5-flash-lite".to_owned(),
            ProviderKind::Openai if provider.settings.is_at_public_address() => "gpt-5-mini".to_owned(),
            ProviderKind::Openai | ProviderKind::Anthropic => format!("{}/{FIRST_MODEL}", provider.name()),
        }
    }

    /// Whether no provider is configured, so that only the offline model is
    /// there.
    pub fn is_offline_only(&self) -> bool {
        self.0.providers.is_empty()
    }

    /// A whole answer to OpenAI's `POST /chat/completions` body; `stream` in it
    /// is ignored. A borrowed body is copied where it must be fitted to a
    /// provider.
    pub async fn chat(
        &self,
        caller: &Caller,
        body: Cow<'_, Map<String, Value>>,
    ) -> Result<Completion, ModelError> {
        match self.0.chat_route(&body).await? {
            None => {
                let call = Call::begin_built_in(&self.0.meters, Operation::Chat, offline::MODEL_ID);
                let answer = offline::chat(&self.0, caller, &call, &body).await;
                call.end(&answer);
                answer
            }
            Some((provider, model)) => {
                let call = Call::begin(&self.0.meters, Operation::Chat, &provider, &model);
                let asking = chat::ask(&self.0, &provider, &model, caller, &call, body.into_owned());
                let answer = asking.await;
                call.end(&answer);
                answer
            }
        }
    }

    /// The same, told to `listener` while it is written: providers are asked
    /// for a stream.
    pub async fn chat_live(
        &self,
        caller: &Caller,
        body: &Map<String, Value>,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        match self.0.chat_route(body).await? {
            None if !listener.is_heard => {
                let call = Call::begin_built_in(&self.0.meters, Operation::Chat, offline::MODEL_ID);
                let answer = offline::chat(&self.0, caller, &call, body).await;
                call.end(&answer);
                answer
            }
            None => {
                let call = Call::begin_built_in(&self.0.meters, Operation::ChatStream, offline::MODEL_ID);
                let answer = match offline::chat_stream(&self.0, caller, &call, body).await {
                    Ok((frames, _)) => stream::gather(frames, listener).await,
                    Err(error) => Err(error),
                };
                call.end(&answer);
                answer
            }
            Some((provider, model)) => {
                let call = Call::begin(&self.0.meters, Operation::ChatStream, &provider, &model);
                let span = call.span();
                let frames = stream::ask(&self.0, provider, &model, caller, call, body.clone()).await?;
                let completion = stream::gather(frames, listener).await?;
                Call::tell(&span, &completion.body);
                Ok(completion)
            }
        }
    }

    /// The same as a stream. An error that shows before the first byte is an
    /// `Err`; one that shows later is a frame of the stream.
    pub async fn chat_stream(
        &self,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<ChatStream, ModelError> {
        match self.0.chat_route(&body).await? {
            None => {
                let call = Call::begin_built_in(&self.0.meters, Operation::ChatStream, offline::MODEL_ID);
                match offline::chat_stream(&self.0, caller, &call, &body).await {
                    Ok((stream, usage)) => {
                        call.succeed(&usage);
                        Ok(stream)
                    }
                    Err(error) => {
                        call.fail(&error);
                        Err(error)
                    }
                }
            }
            Some((provider, model)) => {
                let call = Call::begin(&self.0.meters, Operation::ChatStream, &provider, &model);
                stream::ask(&self.0, provider, &model, caller, call, body).await
            }
        }
    }

    /// The answer to OpenAI's `POST /embeddings` body. `encoding_format` and
    /// `dimensions` go to the provider; the hub sees to `encoding_format` itself
    /// where the provider ignores it.
    pub async fn embeddings(
        &self,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<Completion, ModelError> {
        let id = model_of(&body)?;
        let encoding = embeddings::check(&body)?;
        match self.0.route(id).await? {
            Route::Offline => Err(ModelError::Invalid {
                message: format!(
                    "`{id}` makes no embeddings; choose a model with the capability `embeddings`"
                ),
                param: "model".to_owned(),
            }),
            Route::Local(embedder) => {
                let call = Call::begin_built_in(&self.0.meters, Operation::Embeddings, local::MODEL_ID);
                let answer = local::ask(&self.0, embedder.as_ref(), caller, &call, &body, encoding).await;
                call.end(&answer);
                answer
            }
            Route::Provider(provider, model) => {
                let call = Call::begin(&self.0.meters, Operation::Embeddings, &provider, &model);
                let asking = embeddings::ask(&self.0, &provider, &model, caller, &call, body, encoding);
                let answer = asking.await;
                call.end(&answer);
                answer
            }
        }
    }
}

fn model_of(body: &Map<String, Value>) -> Result<&str, ModelError> {
    match body.get("model") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        Some(other) => Err(ModelError::Invalid {
            message: format!(
                "`model` is {}; it must be the id of a model, as GET /v1/models lists them",
                chat::shown(other)
            ),
            param: "model".to_owned(),
        }),
        None => Err(ModelError::Invalid {
            message: "`model` is missing; give the id of a model, as GET /v1/models lists them".to_owned(),
            param: "model".to_owned(),
        }),
    }
}

impl Inner {
    /// None: the offline model.
    async fn chat_route(
        &self,
        body: &Map<String, Value>,
    ) -> Result<Option<(Arc<Provider>, Arc<Model>)>, ModelError> {
        let id = model_of(body)?;
        chat::check(body)?;
        match self.route(id).await? {
            Route::Local(_) => Err(ModelError::Invalid {
                message: format!("`{id}` makes embeddings only; choose a model with the capability `chat`"),
                param: "model".to_owned(),
            }),
            Route::Offline => Ok(None),
            Route::Provider(provider, model) => Ok(Some((provider, model))),
        }
    }

    /// In memory, except when the id is unknown or the listing is old.
    async fn route(&self, id: &str) -> Result<Route, ModelError> {
        if id == offline::MODEL_ID {
            return Ok(Route::Offline);
        }
        if let (local::MODEL_ID, Some(embedder)) = (id, &self.local) {
            return Ok(Route::Local(embedder.clone()));
        }
        if let Some((provider, model)) = self.known(id) {
            if !provider.look_up_again(LISTING_AGE_MS).await {
                return Ok(Route::Provider(provider, model));
            }
            let model = provider.find(id).unwrap_or(model);
            return Ok(Route::Provider(provider, model));
        }
        join_all(self.providers.iter().map(|provider| provider.look_up(UNKNOWN_AGE_MS))).await;
        if let Some((provider, model)) = self.known(id).or_else(|| self.first_of(id)) {
            return Ok(Route::Provider(provider, model));
        }
        for provider in &self.providers {
            let Some(reason) = provider.unlisted_because() else { continue };
            // Named outright, and nobody can say that it is not there.
            if let Some(own) = provider.without_name(id).filter(|own| *own != FIRST_MODEL) {
                let model = Model::unlisted(&provider.settings, own);
                return Ok(Route::Provider(provider.clone(), Arc::new(model)));
            }
            return Err(provider.failed(format!("whether it serves `{id}` is not known: {reason}")));
        }
        Err(ModelError::NotFound { model: id.chars().take(256).collect() })
    }

    fn known(&self, id: &str) -> Option<(Arc<Provider>, Arc<Model>)> {
        self.providers.iter().find_map(|provider| Some((provider.clone(), provider.find(id)?)))
    }

    /// `<provider name>/default`.
    fn first_of(&self, id: &str) -> Option<(Arc<Provider>, Arc<Model>)> {
        self.providers.iter().find_map(|provider| {
            provider.without_name(id).filter(|own| *own == FIRST_MODEL)?;
            let shelf = provider.shelf();
            let chats = |model: &&Arc<Model>| model.view.capabilities.iter().any(|word| word == "chat");
            Some((provider.clone(), shelf.models().iter().find(chats)?.clone()))
        })
    }
}
