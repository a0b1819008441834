//! The counters of model calls. Their labels are names that a provider lists
//! or that the configuration gives. A user can ask for other names where a
//! provider does not say what it serves: such a one is counted as `other` until
//! the provider has answered to it, and only so many of them have a place. What
//! workspaces registered themselves is counted together.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use nh_types::model::Usage;

/// Names that no provider lists and that are counted by themselves.
const MAX_UNLISTED: usize = 64;
const OTHER: &str = "other";
/// All providers that workspaces registered.
const OWN: &str = "own";

#[derive(Clone, Default)]
pub(crate) struct Meters(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    /// By the provider's name, then by the model's id.
    meters: HashMap<String, HashMap<String, Arc<CallMeter>>>,
    unlisted: usize,
}

/// Of one model of one provider.
pub(crate) struct CallMeter {
    provider: String,
    model: String,
    succeeded: Counter,
    seconds: Histogram,
    first_chunk_seconds: OnceLock<Histogram>,
    input: Counter,
    output: Counter,
    cached: Counter,
    reasoning: Counter,
    dollars: Histogram,
}

impl Meters {
    pub(crate) fn of(&self, provider: &str, model: &str, is_listed: bool) -> Arc<CallMeter> {
        if let Some(meter) = self.0.read().unwrap_or_else(PoisonError::into_inner).find(provider, model) {
            return meter.clone();
        }
        let model = if is_listed { model } else { OTHER };
        self.0.write().unwrap_or_else(PoisonError::into_inner).make(provider, model)
    }

    pub(crate) fn of_own_providers(&self) -> Arc<CallMeter> {
        self.of(OWN, OTHER, true)
    }

    /// Counts the calls of a model that nobody lists by its name from now on,
    /// because its provider (that of `meter`) has answered to it.
    pub(crate) fn admit(&self, meter: &CallMeter, model: String) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.unlisted < MAX_UNLISTED && known.find(&meter.provider, &model).is_none() {
            known.unlisted += 1;
            known.make(&meter.provider, &model);
        }
    }
}

impl Known {
    fn find(&self, provider: &str, model: &str) -> Option<&Arc<CallMeter>> {
        self.meters.get(provider)?.get(model)
    }

    fn make(&mut self, provider: &str, model: &str) -> Arc<CallMeter> {
        let models = self.meters.entry(provider.to_owned()).or_default();
        let meter =
            models.entry(model.to_owned()).or_insert_with(|| Arc::new(CallMeter::new(provider, model)));
        meter.clone()
    }
}

impl CallMeter {
    fn new(provider: &str, model: &str) -> Self {
        let labels = || [("provider", provider.to_owned()), ("model", model.to_owned())];
        let tokens = |direction: &'static str| {
            counter!("neuralhub_model_tokens_total",
                "provider" => provider.to_owned(), "model" => model.to_owned(), "direction" => direction)
        };
        Self {
            succeeded: ended(provider, model, "ok"),
            seconds: histogram!("neuralhub_model_call_seconds", &labels()),
            first_chunk_seconds: OnceLock::new(),
            input: tokens("input"),
            output: tokens("output"),
            cached: tokens("cached"),
            reasoning: tokens("reasoning"),
            dollars: histogram!("neuralhub_model_call_dollars", &labels()),
            provider: provider.to_owned(),
            model: model.to_owned(),
        }
    }

    pub(crate) fn first_chunk(&self, seconds: f64) {
        let histogram = self.first_chunk_seconds.get_or_init(|| {
            let labels = [("provider", self.provider.clone()), ("model", self.model.clone())];
            histogram!("neuralhub_model_first_chunk_seconds", &labels)
        });
        histogram.record(seconds);
    }

    pub(crate) fn succeeded(&self, time: Duration) {
        self.succeeded.increment(1);
        self.seconds.record(time);
    }

    pub(crate) fn failed(&self, outcome: &'static str, time: Duration) {
        ended(&self.provider, &self.model, outcome).increment(1);
        self.seconds.record(time);
    }

    /// Its caller went away.
    pub(crate) fn left(&self) {
        ended(&self.provider, &self.model, "cancelled").increment(1);
    }

    /// What is written down of a call, however it ended.
    pub(crate) fn used(&self, usage: &Usage) {
        self.input.increment(usage.input_tokens);
        self.output.increment(usage.output_tokens);
        self.cached.increment(usage.cached_tokens);
        self.reasoning.increment(usage.reasoning_tokens);
        if let Some(cost_usd) = usage.cost_usd {
            self.dollars.record(cost_usd);
        }
    }
}

fn ended(provider: &str, model: &str, outcome: &'static str) -> Counter {
    counter!("neuralhub_model_calls_total",
        "provider" => provider.to_owned(), "model" => model.to_owned(), "outcome" => outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_lists_have_a_place_once_they_are_answered_to_and_only_so_many() {
        let meters = Meters::default();
        let label = |model: &str| meters.of("local", model, false).model.clone();
        assert_eq!(label("made-up"), OTHER);
        for number in 0..MAX_UNLISTED + 10 {
            meters.admit(&meters.of("local", "made-up", false), format!("model-{number}"));
        }
        assert_eq!(label("model-0"), "model-0");
        assert_eq!(label(&format!("model-{MAX_UNLISTED}")), OTHER);
        assert_eq!(label("made-up"), OTHER);
        assert_eq!(meters.of("local", "listed", true).model, "listed");
    }
}
