//! Anthropic's counts as OpenAI's: input that is read from the cache or written
//! to it is not in `input_tokens`
//! (<https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching>).

use serde_json::{Map, Value, json};

/// What writing to the cache costs on top of the input's price: a quarter of it for
/// five minutes, and as much again for an hour.
const SHORT_SURCHARGE: f64 = 0.25;
const LONG_SURCHARGE: f64 = 1.0;

/// What is known so far. A stream says it twice: at its beginning and, in full, at
/// its end.
#[derive(Default)]
pub(super) struct Counts(Map<String, Value>);

impl Counts {
    pub(super) fn add(&mut self, usage: &Value) {
        let Some(usage) = usage.as_object() else { return };
        let told = usage.iter().filter(|(_, value)| !value.is_null());
        self.0.extend(told.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// OpenAI's `usage`; None where nothing was said.
    pub(super) fn told(&self) -> Option<Value> {
        let count = |name: &str| self.0.get(name).and_then(Value::as_u64).unwrap_or(0);
        if self.0.is_empty() {
            return None;
        }
        let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
        let input = count("input_tokens").saturating_add(read).saturating_add(written);
        let output = count("output_tokens");
        let long = self.0.get("cache_creation").and_then(|by| by["ephemeral_1h_input_tokens"].as_u64());
        Some(json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input.saturating_add(output),
            "prompt_tokens_details": {
                "cached_tokens": read,
                "cache_write_tokens": written,
                "cache_write_1h_tokens": long.unwrap_or(0).min(written),
            },
        }))
    }
}

/// Input tokens that cost as much as what a call pays for writing to the cache, on top of
/// the input itself. `usage` is as [`Counts::told`] has it.
pub(in crate::provider) fn cache_surcharge(usage: &Value) -> f64 {
    let count = |name: &str| usage["prompt_tokens_details"][name].as_u64().unwrap_or(0);
    let (written, long) = (count("cache_write_tokens"), count("cache_write_1h_tokens"));
    written.saturating_sub(long) as f64 * SHORT_SURCHARGE + long as f64 * LONG_SURCHARGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_input_is_counted_and_writing_to_the_cache_costs_more() {
        let mut counts = Counts::default();
        assert_eq!(counts.told(), None);
        counts.add(&json!({"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 60,
            "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 20}, "output_tokens": 1}));
        counts.add(&json!({"output_tokens": 7, "input_tokens": null}));
        let told = counts.told().expect("counts");
        assert_eq!((&told["prompt_tokens"], &told["completion_tokens"]), (&json!(170), &json!(7)));
        assert_eq!(told["prompt_tokens_details"]["cached_tokens"], 100);
        assert!((cache_surcharge(&told) - 30.0).abs() < 1e-9);
    }
}
