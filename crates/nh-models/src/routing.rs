//! Who may answer a chat: the model that is named, or several, one after another. What fails
//! before the first byte of an answer goes to the next; nobody is asked after that.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalogue::Model;
use crate::chat::shown;
use crate::limits::check_model;
use crate::models::{Inner, Route, model_of};
use crate::provider::Provider;
use crate::{Caller, ModelAlias, ModelError, chat, offline};

/// Of one request.
const MAX_MODELS: usize = 16;
/// Where nobody else can be asked.
pub(crate) const RETRIES: u32 = 2;

/// Who answers.
pub(crate) enum ChatRoute {
    Offline,
    Provider(Arc<Provider>, Arc<Model>),
}

/// A request, and those who were not asked yet.
pub(crate) struct Candidates<'b> {
    left: VecDeque<ChatRoute>,
    body: Cow<'b, Map<String, Value>>,
}

/// One try.
pub(crate) struct Candidate<'b> {
    pub(crate) route: ChatRoute,
    pub(crate) body: Cow<'b, Map<String, Value>>,
    /// How often the same may be asked again.
    pub(crate) retries: u32,
}

impl ChatRoute {
    fn model_id(&self) -> &str {
        match self {
            Self::Offline => offline::MODEL_ID,
            Self::Provider(_, model) => &model.view.id,
        }
    }
}

impl<'b> Candidates<'b> {
    /// The next one; None when all were asked.
    pub(crate) fn next(&mut self) -> Option<Candidate<'b>> {
        let route = self.left.pop_front()?;
        Some(match self.left.is_empty() {
            true => Candidate { route, body: std::mem::take(&mut self.body), retries: RETRIES },
            false => Candidate { route, body: Cow::Owned(self.body.as_ref().clone()), retries: 0 },
        })
    }

    /// Whether another is to be asked after this.
    pub(crate) fn go_on_after(&self, error: &ModelError) -> bool {
        let goes_on = !self.left.is_empty() && may_be_another(error);
        if goes_on {
            tracing::warn!(%error, "a model cannot answer; the next one is asked");
        }
        goes_on
    }
}

/// What another provider, or another model, may do better.
fn may_be_another(error: &ModelError) -> bool {
    match error {
        ModelError::NotFound { .. }
        | ModelError::Refused { .. }
        | ModelError::RateLimited { .. }
        | ModelError::Failed { .. }
        | ModelError::TimedOut { .. } => true,
        // The model is not there; all other mistakes of the request stay mistakes.
        ModelError::Rejected { status, .. } => *status == 404,
        ModelError::Invalid { .. }
        | ModelError::BudgetExceeded { .. }
        | ModelError::Limited(_)
        | ModelError::Overloaded
        | ModelError::ProvidersUnreadable
        | ModelError::Local(_) => false,
    }
}

impl Inner {
    pub(crate) fn alias(&self, id: &str) -> Option<&ModelAlias> {
        self.aliases.iter().find(|alias| alias.name == id)
    }

    /// At least one. What is named and cannot be found is an error only where it is all.
    pub(crate) async fn candidates<'b>(
        &self,
        caller: &Caller,
        mut body: Cow<'b, Map<String, Value>>,
    ) -> Result<Candidates<'b>, ModelError> {
        let named = named(&body)?;
        chat::check(&body)?;
        if body.contains_key("models") {
            body.to_mut().remove("models");
        }
        let ids = named.iter().flat_map(|name| match self.alias(name) {
            Some(alias) => alias.order(&self.ids).into_iter().map(|id| (name, id.to_owned())).collect(),
            None => vec![(name, name.clone())],
        });
        let providers = self.providers_of(&caller.workspace_id).await?;
        let (mut left, mut missing) = (VecDeque::new(), None);
        for (name, id) in ids.take(MAX_MODELS) {
            match self.chat_route(&providers, &id).await {
                Ok(route) => {
                    check_model(caller, &[name, &id, route.model_id()])?;
                    left.push_back(route);
                }
                Err(error) => missing = missing.or(Some(error)),
            }
        }
        match missing {
            Some(error) if left.is_empty() => Err(error),
            _ => Ok(Candidates { left, body }),
        }
    }

    async fn chat_route(&self, providers: &[Arc<Provider>], id: &str) -> Result<ChatRoute, ModelError> {
        match self.route_among(providers, id).await? {
            Route::Local(_) => Err(ModelError::Invalid {
                message: format!("`{id}` makes embeddings only; choose a model with the capability `chat`"),
                param: "model".to_owned(),
            }),
            Route::Offline => Ok(ChatRoute::Offline),
            Route::Provider(provider, model) => Ok(ChatRoute::Provider(provider, model)),
        }
    }
}

/// `model`, and then `models`, as OpenRouter's requests have them.
fn named(body: &Map<String, Value>) -> Result<Vec<String>, ModelError> {
    let invalid = |message: String| ModelError::Invalid { message, param: "models".to_owned() };
    let more = match body.get("models") {
        None | Some(Value::Null) => return Ok(vec![model_of(body)?.to_owned()]),
        Some(Value::Array(models)) => models,
        Some(other) => {
            return Err(invalid(format!("`models` is {}; it must be a list of models' ids", shown(other))));
        }
    };
    let mut ids: Vec<String> = match body.get("model") {
        None => Vec::new(),
        Some(_) => vec![model_of(body)?.to_owned()],
    };
    for (place, id) in more.iter().enumerate() {
        let Some(id) = id.as_str().filter(|id| !id.is_empty()) else {
            return Err(invalid(format!("`models[{place}]` is {}; it must be a model's id", shown(id))));
        };
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    if ids.is_empty() || ids.len() > MAX_MODELS {
        return Err(invalid(format!("`models` has {} models; it must have 1 to {MAX_MODELS}", more.len())));
    }
    Ok(ids)
}
