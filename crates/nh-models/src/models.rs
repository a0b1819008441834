//! The one door: [`Models`].

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use nh_http::Outbound;
use nh_types::key::ModelLimits;
use nh_types::model::Usage;
use nh_types::{KeyId, RunId, SharedClock, SharedIds, WorkspaceId};
use serde_json::{Map, Value};

use crate::cache::Question;
use crate::cache::{CacheUse, ResponseCache};
use crate::call::{Call, Operation};
use crate::catalogue::Model;
use crate::ledger::Charge;
use crate::limits::{UnderWay, check_model};
use crate::meters::Meters;
use crate::own::{OwnProviders, Providers};
use crate::passed::Answer;
use crate::provider::{Provider, To};
use crate::routing::{Candidate, Candidates, ChatRoute, RETRIES};
use crate::{
    ChatStream, Listener, LocalEmbedder, ModelAlias, ModelError, ResolvedProvider, UsageSink,
    WorkspaceLimits, chat, embeddings, local, offline, stream,
};

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
    /// Absent: workspaces have no providers of their own.
    pub own: Option<OwnProviders>,
}

/// Every model that this hub can call.
#[derive(Clone)]
pub struct Models(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Those of the configuration.
    pub(crate) providers: Providers,
    pub(crate) own: Option<OwnProviders>,
    pub(crate) aliases: Vec<ModelAlias>,
    pub(crate) default_model: Option<String>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) usage: UsageSink,
    meters: Meters,
    pub(crate) toolbox: offline::Toolbox,
    pub(crate) local: Option<Arc<dyn LocalEmbedder>>,
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
            own,
        } = setup;
        let made =
            |provider| Arc::new(Provider::new(provider, None, http.clone(), clock.clone(), ids.clone()));
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
            own,
        }))
    }

    /// What each workspace's calls are held to.
    pub fn workspace_limits(&self) -> WorkspaceLimits {
        self.0.workspace_limits
    }

    /// Where what calls use is recorded.
    pub fn usage(&self) -> &UsageSink {
        &self.0.usage
    }

    /// A whole answer to OpenAI's `POST /chat/completions` body; `stream` in it
    /// is ignored. A borrowed body is copied where it must be fitted to a
    /// provider.
    pub async fn chat(
        &self,
        caller: &Caller,
        body: Cow<'_, Map<String, Value>>,
    ) -> Result<Completion, ModelError> {
        self.answer(caller, body).await?.into_completion()
    }

    /// The same as JSON, and as the provider wrote it where it needs no mending.
    pub async fn chat_text(
        &self,
        caller: &Caller,
        body: Cow<'_, Map<String, Value>>,
    ) -> Result<Bytes, ModelError> {
        self.answer(caller, body).await.map(Answer::into_text)
    }

    async fn answer(&self, caller: &Caller, body: Cow<'_, Map<String, Value>>) -> Result<Answer, ModelError> {
        let question = self.0.question(caller, &body);
        let mut candidates = self.0.candidates(caller, body).await?;
        let Some(question) = question else { return self.ask(caller, &mut candidates).await };
        // Boxed: most calls are not looked for among what is kept.
        Box::pin(async {
            if let Some(kept) = question.answer(&self.0.usage).await? {
                return Ok(Answer::Mended(kept));
            }
            let answer = self.ask(caller, &mut candidates).await?.into_completion()?;
            question.keep(&answer).await;
            Ok(Answer::Mended(answer))
        })
        .await
    }

    async fn ask(&self, caller: &Caller, candidates: &mut Candidates<'_>) -> Result<Answer, ModelError> {
        while let Some(Candidate { route, body, retries }) = candidates.next() {
            let call = self.0.begin(Operation::Chat, &route);
            let answer = match &route {
                ChatRoute::Offline => {
                    Box::pin(offline::chat(&self.0, caller, &call, &body)).await.map(Answer::Mended)
                }
                ChatRoute::Provider(provider, model) => {
                    let to = To { provider, model, retries };
                    chat::ask(&self.0, to, caller, &call, body.into_owned()).await
                }
            };
            call.end_with(&answer);
            match answer {
                Err(error) if candidates.go_on_after(&error) => {}
                answer => return answer,
            }
        }
        Err(nobody())
    }

    /// The same, told to `listener` while it is written: providers are asked
    /// for a stream. None is asked twice: who listens says that it begins anew, and
    /// tries again himself.
    pub async fn chat_live(
        &self,
        caller: &Caller,
        body: &Map<String, Value>,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        let mut candidates = self.0.candidates(caller, Cow::Borrowed(body)).await?;
        while let Some(candidate) = candidates.next() {
            let candidate = Candidate { retries: 0, ..candidate };
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
        let route = self.0.route(&caller.workspace_id, id).await?;
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
}
