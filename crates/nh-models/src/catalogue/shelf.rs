//! One provider's models, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use nh_types::model::ModelView;
use serde_json::Value;

use super::listing::{self, Listed, ListingBounds};
use super::price::Price;
use super::table;
use crate::{ModelSettings, ProviderKind, ResolvedProvider};

/// A model that can be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) view: ModelView,
    /// What the provider knows it by.
    pub(crate) upstream_id: String,
    pub(crate) price: Option<Price>,
    /// Its provider lists it, or the configuration does.
    pub(crate) is_listed: bool,
}

/// A provider's models at one instant.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    models: Vec<Arc<Model>>,
    /// By the id on the wire and by the provider's own.
    by_id: HashMap<String, Arc<Model>>,
}

impl Shelf {
    /// What the configuration names, before the provider was ever asked.
    pub(crate) fn configured(provider: &ResolvedProvider) -> Self {
        Self::stack(provider, Vec::new())
    }

    /// What the provider lists, and what the configuration adds and overrides.
    /// None when `body` is not a list of models. Those beyond the bounds are left out.
    pub(crate) fn listed(provider: &ResolvedProvider, body: &Value, bounds: ListingBounds) -> Option<Self> {
        Some(Self::stack(provider, listing::read(body, bounds)?))
    }

    fn stack(provider: &ResolvedProvider, listed: Vec<Listed>) -> Self {
        let mut shelf = Self::default();
        for settings in &provider.models {
            let from_listing = listed.iter().find(|one| own_id(provider.kind, &one.id) == settings.id);
            let listed = from_listing
                .cloned()
                .unwrap_or_else(|| Listed { id: settings.id.clone(), ..Listed::default() });
            shelf.put(model(provider, listed, Some(settings)));
        }
        for one in listed {
            shelf.put(model(provider, one, None));
        }
        shelf
    }

    /// The first of an id stays.
    fn put(&mut self, model: Model) {
        if self.by_id.contains_key(&model.view.id) {
            return;
        }
        let model = Arc::new(model);
        self.by_id.entry(model.upstream_id.clone()).or_insert_with(|| model.clone());
        self.by_id.insert(model.view.id.clone(), model.clone());
        self.models.push(model);
    }

    pub(crate) fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Model>> {
        self.by_id.get(id).cloned()
    }
}

impl Model {
    /// A model that the provider does not list but may serve all the same.
    pub(crate) fn unlisted(provider: &ResolvedProvider, id: &str) -> Self {
        let listed = Listed { id: id.to_owned(), ..Listed::default() };
        Self { is_listed: false, ..model(provider, listed, None) }
    }
}

/// The provider's id without the decoration of its listing: Google says
/// `models/gemini-…`.
fn own_id(kind: ProviderKind, id: &str) -> &str {
    match kind {
        ProviderKind::Google => id.strip_prefix("models/").unwrap_or(id),
        ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Anthropic => id,
    }
}

fn model(provider: &ResolvedProvider, listed: Listed, settings: Option<&ModelSettings>) -> Model {
    let upstream_id = own_id(provider.kind, &listed.id).to_owned();
    let known = if provider.is_at_public_address() { table::find(provider.kind, &upstream_id) } else { None };
    let price = price(&listed, settings, known.map(|known| known.price));
    let capabilities = settings
        .and_then(|settings| settings.capabilities.clone())
        .or_else(|| (!listed.capabilities.is_empty()).then(|| listed.capabilities.clone()))
        .or_else(|| known.map(|known| known.capabilities.iter().map(|&word| word.to_owned()).collect()))
        .unwrap_or_else(|| vec![guess_capability(&upstream_id).to_owned()]);
    let context_length = settings
        .and_then(|settings| settings.context_length)
        .or(listed.context_length)
        .or_else(|| known.map(|known| known.context_length));
    let id = match provider.kind {
        ProviderKind::Google => format!("google/{upstream_id}"),
        ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Anthropic => upstream_id.clone(),
    };
    Model {
        view: ModelView {
            id,
            object: "model".to_owned(),
            created: listed.created,
            owned_by: provider.name.clone(),
            description: listed.description,
            input_cost: price.map(|price| price.input),
            output_cost: price.map(|price| price.output),
            context_length,
            capabilities,
        },
        upstream_id,
        price,
        is_listed: true,
    }
}

fn price(listed: &Listed, settings: Option<&ModelSettings>, known: Option<Price>) -> Option<Price> {
    let configured = |pick: fn(&ModelSettings) -> Option<f64>| settings.and_then(pick);
    let (input, output) = (configured(|model| model.input_cost), configured(|model| model.output_cost));
    if input.is_some() || output.is_some() {
        let base = known.unwrap_or(Price::FREE);
        return Some(Price::flat(
            input.or(listed.input_cost).unwrap_or(base.input),
            output.or(listed.output_cost).unwrap_or(base.output),
        ));
    }
    match (listed.input_cost, listed.output_cost) {
        (Some(input), Some(output)) => {
            Some(Price { cached_input: listed.cached_input_cost, ..Price::flat(input, output) })
        }
        _ => known,
    }
}

fn guess_capability(id: &str) -> &'static str {
    if id.to_ascii_lowercase().contains("embed") { "embeddings" } else { "chat" }
}
