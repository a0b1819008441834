//! What a workspace can call: its models and providers, and which of them answers to an id.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use nh_types::WorkspaceId;
use nh_types::model::ModelView;
use nh_types::provider::ProviderView;

use crate::catalogue::{Model, is_id};
use crate::models::{Inner, Route};
use crate::own::Providers;
use crate::provider::Provider;
use crate::{ModelAlias, ModelError, Models, ProviderKind, local, offline};

/// A provider's models are looked up again after so long.
const LISTING_AGE_MS: i64 = 3_600_000;
/// A model that nobody knows makes the hub ask again, but not more often.
const UNKNOWN_AGE_MS: i64 = 30_000;
/// The list is shown from what was read within this time.
const SHOWN_AGE_MS: i64 = 300_000;
/// `<provider name>/default` is the provider's first model, whichever it is.
const FIRST_MODEL: &str = "default";

impl Models {
    /// Every model of the workspace's own providers, then those of the configuration in its
    /// order; the built-in ones last.
    pub async fn list(&self, workspace_id: &WorkspaceId) -> Result<Vec<ModelView>, ModelError> {
        let providers = self.0.providers_of(workspace_id).await?;
        join_all(providers.iter().map(|provider| provider.look_up(SHOWN_AGE_MS))).await;
        let mut seen = HashSet::new();
        let mut views = Vec::new();
        for provider in providers.iter() {
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
            views.extend(self.0.alias_view(&providers, alias).await);
        }
        Ok(views)
    }

    /// How the calls of each of a workspace's providers went on this node, in the order in which
    /// a model is looked for.
    pub async fn providers(&self, workspace_id: &WorkspaceId) -> Result<Vec<ProviderView>, ModelError> {
        let providers = self.0.providers_of(workspace_id).await?;
        Ok(providers.iter().map(|provider| provider.view()).collect())
    }

    /// One of them by its name. With `asks` it is asked for its models first, if that was not
    /// tried yet.
    pub async fn provider(
        &self,
        workspace_id: &WorkspaceId,
        name: &str,
        asks: bool,
    ) -> Result<Option<ProviderView>, ModelError> {
        let providers = self.0.providers_of(workspace_id).await?;
        let Some(provider) = providers.iter().find(|provider| provider.name() == name) else {
            return Ok(None);
        };
        if asks {
            provider.look_up(UNKNOWN_AGE_MS).await;
        }
        Ok(Some(provider.view()))
    }

    /// One model by any id that [`Models::chat`] takes.
    pub async fn find(&self, workspace_id: &WorkspaceId, id: &str) -> Result<Option<ModelView>, ModelError> {
        let providers = self.0.providers_of(workspace_id).await?;
        if let Some(alias) = self.0.alias(id) {
            return Ok(self.0.alias_view(&providers, alias).await);
        }
        Ok(match self.0.route_among(&providers, id).await {
            Ok(Route::Offline) => Some(offline::view()),
            Ok(Route::Local(_)) => Some(local::view()),
            Ok(Route::Provider(_, model)) => Some(ModelView { id: id.to_owned(), ..model.view.clone() }),
            Err(_) => None,
        })
    }

    /// Tokens that a prompt and its answer may have together; None where nobody
    /// says.
    pub async fn context_length(&self, workspace_id: &WorkspaceId, id: &str) -> Option<u64> {
        let providers = self.0.providers_of(workspace_id).await.ok()?;
        let Some(alias) = self.0.alias(id) else { return self.0.context_length(&providers, id).await };
        let mut shortest = None;
        for id in &alias.models {
            shortest = shortest.into_iter().chain(self.0.context_length(&providers, id).await).min();
        }
        shortest
    }

    /// The configured default, else the first provider's, else the offline
    /// model. A provider of unknown models is asked when the id is used:
    /// `<provider name>/default` is its first chat model.
    pub async fn default_model(&self, workspace_id: &WorkspaceId) -> Result<String, ModelError> {
        if let Some(id) = &self.0.default_model {
            return Ok(id.clone());
        }
        let providers = self.0.providers_of(workspace_id).await?;
        let Some(provider) = providers.first() else {
            return Ok(offline::MODEL_ID.to_owned());
        };
        if let Some(model) = provider.settings.models.iter().find(|model| !model.id.contains("embed")) {
            let listed = provider.find(&model.id);
            return Ok(listed.map_or_else(|| model.id.clone(), |model| model.view.id.clone()));
        }
        let is_public = provider.settings.is_at_public_address();
        Ok(match provider.settings.kind {
            ProviderKind::Openrouter | ProviderKind::Google => "google/gemini-2.5-flash-lite".to_owned(),
            ProviderKind::Openai if is_public => "gpt-5-mini".to_owned(),
            ProviderKind::Anthropic if is_public => "claude-haiku-4-5".to_owned(),
            ProviderKind::Openai | ProviderKind::Anthropic => format!("{}/{FIRST_MODEL}", provider.name()),
        })
    }
}

impl Inner {
    /// Who may be asked for a workspace, in the order in which a model is looked for.
    pub(crate) async fn providers_of(&self, workspace_id: &WorkspaceId) -> Result<Providers, ModelError> {
        let Some(own) = &self.own else { return Ok(self.providers.clone()) };
        own.before(workspace_id, &self.providers).await.map_err(|error| {
            tracing::error!(%error, "a workspace's providers cannot be read");
            ModelError::ProvidersUnreadable
        })
    }

    async fn context_length(&self, providers: &[Arc<Provider>], id: &str) -> Option<u64> {
        match self.route_among(providers, id).await.ok()? {
            Route::Offline | Route::Local(_) => None,
            Route::Provider(_, model) => model.view.context_length,
        }
    }

    /// What its first model is that is there, under its own name.
    async fn alias_view(&self, providers: &[Arc<Provider>], alias: &ModelAlias) -> Option<ModelView> {
        for id in &alias.models {
            let view = match self.route_among(providers, id).await {
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

    pub(crate) async fn route(&self, workspace_id: &WorkspaceId, id: &str) -> Result<Route, ModelError> {
        self.route_among(&self.providers_of(workspace_id).await?, id).await
    }

    /// In memory, except when the id is unknown or the listing is old.
    pub(crate) async fn route_among(
        &self,
        providers: &[Arc<Provider>],
        id: &str,
    ) -> Result<Route, ModelError> {
        if id == offline::MODEL_ID {
            return Ok(Route::Offline);
        }
        if let (local::MODEL_ID, Some(embedder)) = (id, &self.local) {
            return Ok(Route::Local(embedder.clone()));
        }
        // What a workspace's own serve is not asked of another because they were not asked yet.
        let unasked = |provider: &&Arc<Provider>| provider.own().is_some() && !provider.is_listed();
        join_all(providers.iter().filter(unasked).map(|provider| provider.look_up(UNKNOWN_AGE_MS))).await;
        if let Some((provider, model)) = known(providers, id) {
            if !provider.look_up_again(LISTING_AGE_MS).await {
                return Ok(Route::Provider(provider, model));
            }
            let model = provider.find(id).unwrap_or(model);
            return Ok(Route::Provider(provider, model));
        }
        join_all(providers.iter().map(|provider| provider.look_up(UNKNOWN_AGE_MS))).await;
        if let Some((provider, model)) = known(providers, id).or_else(|| first_of(providers, id)) {
            return Ok(Route::Provider(provider, model));
        }
        let mut unlisted = None;
        for provider in providers {
            let Some(reason) = provider.unlisted_because() else { continue };
            // Named outright, and nobody can say that it is not there.
            let named = provider.without_name(id).filter(|own| *own != FIRST_MODEL && is_id(own));
            if let Some(own) = named {
                let model = Model::unlisted(&provider.settings, own);
                return Ok(Route::Provider(provider.clone(), Arc::new(model)));
            }
            unlisted = unlisted.or(Some((provider, reason)));
        }
        Err(match unlisted {
            Some((provider, reason)) => {
                provider.failed(format!("whether it serves `{id}` is not known: {reason}"))
            }
            None => ModelError::NotFound { model: id.chars().take(256).collect() },
        })
    }
}

fn known(providers: &[Arc<Provider>], id: &str) -> Option<(Arc<Provider>, Arc<Model>)> {
    providers.iter().find_map(|provider| Some((provider.clone(), provider.find(id)?)))
}

/// `<provider name>/default`.
fn first_of(providers: &[Arc<Provider>], id: &str) -> Option<(Arc<Provider>, Arc<Model>)> {
    providers.iter().find_map(|provider| {
        provider.without_name(id).filter(|own| *own == FIRST_MODEL)?;
        let shelf = provider.shelf();
        let chats = |model: &&Arc<Model>| model.view.capabilities.iter().any(|word| word == "chat");
        Some((provider.clone(), shelf.models().iter().find(chats)?.clone()))
    })
}
