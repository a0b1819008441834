//! The one door: [`Models`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use nh_http::Outbound;
use nh_types::key::ModelLimits;
use nh_types::model::{ModelView, ProviderView, Usage};
use nh_types::{KeyId, RunId, SharedClock, SharedIds, WorkspaceId};
use serde_json::{Map, Value};

use crate::cache::Question;
use crate::cache::{CacheUse, ResponseCache};
use crate::call::{Call, Operation};
use crate::catalogue::Model;
use crate::ledger::Charge;
use crate::limits::{UnderWay, check_model};
use crate::meters::Meters;
use crate::provider::{Provider, To};
use crate::routing::{Candidate, Candidates, ChatRoute, RETRIES};
use crate::{
    ChatStream, Listener, LocalEmbedder, ModelAlias, ModelError, ProviderKind, ResolvedProvider, UsageSink,
    WorkspaceLimits, chat, embeddings, local, offline, stream,
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
    /// The agent whose run that is.
    pub agent: Option<String>,
    /// What the key is held to.
    pub limits: ModelLimits,
    /// Whether an answer that is kept will do.
    pub cache: CacheUse,
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
    pub aliases: Vec<ModelAlias>,
    /// `[agents] default_model`.
    pub default_model: Option<String>,
    /// A client of the operator's trust: a `base_url` is the operator's word.
    pub http: Outbound,
    pub clock: SharedClock,
    pub ids: SharedIds,
    pub usage: UsageSink,
    /// What serves `neuralhub/minilm`; absent: nothing does.
    pub local: Option<Arc<dyn LocalEmbedder>>,
    pub workspace_limits: WorkspaceLimits,
    /// Absent: no answers are kept.
    pub cache: Option<ResponseCache>,
}

/// Every model that this hub can call.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

pub(crate) struct Inner {
    providers: Vec<Arc<Provider>>,
    pub(crate) aliases: Vec<ModelAlias>,
    default_model: Option<String>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) usage: UsageSink,
    meters: Meters,
    pub(crate) toolbox: offline::Toolbox,
    local: Option<Arc<dyn LocalEmbedder>>,
    pub(crate) under_way: UnderWay,
    pub(crate) workspace_limits: WorkspaceLimits,
    cache: Option<Arc<ResponseCache>>,
}

/// Who answers a call.
pub(crate) enum Route {
    Offline,
    Local(Arc<dyn LocalEmbedder>),
    Provider(Arc<Provider>, Arc<Model>),
}

impl Route {
    fn model_id(&self) -> &str {
        match self {
            Self::Offline => offline::MODEL_ID,
            Self::Local(_) => local::MODEL_ID,
            Self::Provider(_, model) => &model.view.id,
        }
    }
}

impl Models {
    pub fn new(setup: ModelsSetup) -> Self {
        let ModelsSetup {
            providers,
            aliases,
            default_model,
            http,
            clock,
            ids,
            usage,
            local,
            workspace_limits,
            cache,
        } = setup;
        let made = |provider| Arc::new(Provider::new(provider, http.clone(), clock.clone(), ids.clone()));
        let providers = providers.into_iter().map(made).collect();
        Self(Arc::new(Inner {
            providers,
            aliases,
            default_model,
            clock,
            ids,
            usage,
            meters: Meters::default(),
            toolbox: offline::Toolbox::new(),
            local,
            under_way: UnderWay::default(),
            workspace_limits,
            cache: cache.map(Arc::new),
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
        for alias in &self.0.aliases {
            views.retain(|view| view.id != alias.name);
            views.extend(self.0.alias_view(alias).await);
        }
        views
    }

    /// How each provider's calls went on this node, in the order of the configuration.
    pub fn providers(&self) -> Vec<ProviderView> {
        self.0.providers.iter().map(|provider| provider.view()).collect()
    }

    /// One model by any id that [`Models::chat`] takes.
    pub async fn find(&self, id: &str) -> Option<ModelView> {
        if let Some(alias) = self.0.alias(id) {
            return self.0.alias_view(alias).await;
        }
        match self.0.route(id).await.ok()? {
            Route::Offline => Some(offline::view()),
            Route::Local(_) => Some(local::view()),
            Route::Provider(_, model) => Some(ModelView { id: id.to_owned(), ..model.view.clone() }),
        }
    }

    /// Tokens that a prompt and its answer may have together; None where nobody
    /// says.
    pub async fn context_length(&self, id: &str) -> Option<u64> {
        let Some(alias) = self.0.alias(id) else { return self.0.context_length(id).await };
        let mut shortest = None;
        for id in &alias.models {
            shortest = shortest.into_iter().chain(self.0.context_length(id).await).min();
        }
        shortest
    }

    /// What each workspace's calls are held to.
    pub fn workspace_limits(&self) -> WorkspaceLimits {
        self.0.workspace_limits
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
            ProviderKind::Anthropic if provider.settings.is_at_public_address() => {
                "claude-haiku-4-5".to_owned()
            }
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
        let question = self.0.question(caller, &body);
        let mut candidates = self.0.candidates(caller, body).await?;
        if let Some(question) = &question
            && let Some(kept) = question.answer(&self.0.usage).await?
        {
            return Ok(kept);
        }
        let answer = self.ask(caller, &mut candidates).await;
        if let (Some(question), Ok(answer)) = (&question, &answer) {
            question.keep(answer).await;
        }
        answer
    }

    async fn ask(&self, caller: &Caller, candidates: &mut Candidates<'_>) -> Result<Completion, ModelError> {
        while let Some(Candidate { route, body, retries }) = candidates.next() {
            let call = self.0.begin(Operation::Chat, &route);
            let answer = match &route {
                ChatRoute::Offline => offline::chat(&self.0, caller, &call, &body).await,
                ChatRoute::Provider(provider, model) => {
                    let to = To { provider, model, retries };
                    chat::ask(&self.0, to, caller, &call, body.into_owned()).await
                }
            };
            call.end(&answer);
            match answer {
                Err(error) if candidates.go_on_after(&error) => {}
                answer => return answer,
            }
        }
        Err(nobody())
    }

    /// The same, told to `listener` while it is written: providers are asked
    /// for a stream.
    pub async fn chat_live(
        &self,
        caller: &Caller,
        body: &Map<String, Value>,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        let mut candidates = self.0.candidates(caller, Cow::Borrowed(body)).await?;
        while let Some(candidate) = candidates.next() {
            let call = if let (ChatRoute::Offline, false) = (&candidate.route, listener.is_heard) {
                let call = self.0.begin(Operation::Chat, &candidate.route);
                let answer = offline::chat(&self.0, caller, &call, &candidate.body).await;
                call.end(&answer);
                return answer;
            } else {
                self.0.begin(Operation::ChatStream, &candidate.route)
            };
            let span = call.span();
            match self.0.stream_at(candidate, caller, call).await {
                Ok(frames) => {
                    let completion = stream::gather(frames, listener).await?;
                    Call::tell(&span, &completion.body);
                    return Ok(completion);
                }
                Err(error) if candidates.go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(nobody())
    }

    /// The same as a stream. An error that shows before the first byte is an
    /// `Err`; one that shows later is a frame of the stream.
    pub async fn chat_stream(
        &self,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<ChatStream, ModelError> {
        let question = self.0.question(caller, &body);
        let wants_usage = stream::wants_usage(&body);
        let mut candidates = self.0.candidates(caller, Cow::Owned(body)).await?;
        if let Some(question) = &question
            && let Some(kept) = question.answer(&self.0.usage).await?
        {
            return Ok(stream::stream_of(kept, wants_usage));
        }
        while let Some(candidate) = candidates.next() {
            let call = self.0.begin(Operation::ChatStream, &candidate.route);
            match self.0.stream_at(candidate, caller, call).await {
                Err(error) if candidates.go_on_after(&error) => {}
                stream => {
                    return Ok(match question {
                        Some(question) => stream::keeping(stream?, question),
                        None => stream?,
                    });
                }
            }
        }
        Err(nobody())
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
        let id = match self.0.alias(id).map(|alias| alias.models.as_slice()) {
            None => id,
            Some([one]) => one,
            Some(_) => {
                let message =
                    format!("`{id}` stands for several models, whose vectors do not go together; name one");
                return Err(ModelError::Invalid { message, param: "model".to_owned() });
            }
        };
        let route = self.0.route(id).await?;
        check_model(caller, &[id, route.model_id()])?;
        match route {
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
                let to = To { provider: &provider, model: &model, retries: RETRIES };
                let answer = embeddings::ask(&self.0, to, caller, &call, body, encoding).await;
                call.end(&answer);
                answer
            }
        }
    }
}

/// [`Candidates`](crate::routing::Candidates) are never none.
fn nobody() -> ModelError {
    ModelError::NotFound { model: String::new() }
}

pub(crate) fn model_of(body: &Map<String, Value>) -> Result<&str, ModelError> {
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
    fn question(&self, caller: &Caller, body: &Map<String, Value>) -> Option<Question> {
        self.cache.as_ref()?.question(caller, body)
    }

    async fn context_length(&self, id: &str) -> Option<u64> {
        match self.route(id).await.ok()? {
            Route::Offline | Route::Local(_) => None,
            Route::Provider(_, model) => model.view.context_length,
        }
    }

    /// What its first model is that is there, under its own name.
    async fn alias_view(&self, alias: &ModelAlias) -> Option<ModelView> {
        for id in &alias.models {
            let view = match self.route(id).await {
                Ok(Route::Offline) => offline::view(),
                Ok(Route::Local(_)) => local::view(),
                Ok(Route::Provider(_, model)) => model.view.clone(),
                Err(_) => continue,
            };
            let description =
                Some(format!("One of {}, the next where one cannot answer.", alias.models.join(", ")));
            return Some(ModelView {
                id: alias.name.clone(),
                owned_by: offline::PROVIDER.to_owned(),
                description,
                ..view
            });
        }
        None
    }

    fn begin(&self, operation: Operation, route: &ChatRoute) -> Call {
        match route {
            ChatRoute::Offline => Call::begin_built_in(&self.meters, operation, offline::MODEL_ID),
            ChatRoute::Provider(provider, model) => Call::begin(&self.meters, operation, provider, model),
        }
    }

    async fn stream_at(
        &self,
        candidate: Candidate<'_>,
        caller: &Caller,
        call: Call,
    ) -> Result<ChatStream, ModelError> {
        let Candidate { route, body, retries } = candidate;
        match route {
            ChatRoute::Provider(provider, model) => {
                stream::ask(self, provider, &model, retries, caller, call, body.into_owned()).await
            }
            ChatRoute::Offline => match offline::chat_stream(self, caller, &call, &body).await {
                Ok((stream, usage)) => {
                    call.succeed(&usage);
                    Ok(stream)
                }
                Err(error) => {
                    call.fail(&error);
                    Err(error)
                }
            },
        }
    }

    /// In memory, except when the id is unknown or the listing is old.
    pub(crate) async fn route(&self, id: &str) -> Result<Route, ModelError> {
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
