//! The `usage` object of a provider's answer.

use nh_types::model::Usage;
use serde_json::Value;

/// What a provider says that a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reported {
    /// Its `cost_usd` is the provider's own word, where it gives one.
    pub(crate) usage: Usage,
    /// Input tokens that cost as much as what comes on top of the counts' prices.
    pub(crate) surcharge_tokens: f64,
}

impl Reported {
    /// Reads OpenAI's shape and the traps of its imitators:
    /// - Google and xAI leave reasoning tokens out of `completion_tokens` but
    ///   not out of `total_tokens`; they are billed as output.
    /// - DeepSeek has `prompt_cache_hit_tokens`, some have `cached_tokens` at
    ///   the top.
    /// - OpenRouter says the `cost` in US dollars.
    ///
    /// None when it holds no token count at all.
    pub(crate) fn read(usage: &Value) -> Option<Self> {
        // Field by field: looking each up by its name takes longer.
        let (mut input, mut output, mut total) = ([None; 2], [None; 2], None);
        let (mut reasoning, mut cached, mut cost_usd) = ([None; 2], [None; 3], None);
        for (field, value) in usage.as_object()? {
            match field.as_str() {
                "prompt_tokens" => input[0] = tokens(value),
                "input_tokens" => input[1] = tokens(value),
                "completion_tokens" => output[0] = tokens(value),
                "output_tokens" => output[1] = tokens(value),
                "total_tokens" => total = tokens(value),
                "completion_tokens_details" => reasoning[0] = value.get("reasoning_tokens").and_then(tokens),
                "reasoning_tokens" => reasoning[1] = tokens(value),
                "prompt_tokens_details" => cached[0] = value.get("cached_tokens").and_then(tokens),
                "prompt_cache_hit_tokens" => cached[1] = tokens(value),
                "cached_tokens" => cached[2] = tokens(value),
                "cost" => cost_usd = value.as_f64().filter(|cost| (0.0..=MAX_COST_USD).contains(cost)),
                _ => {}
            }
        }
        let first = |told: &[Option<u64>]| told.iter().copied().find_map(|told| told);
        let (input_tokens, stated_output) = (first(&input), first(&output));
        let input_tokens = match (input_tokens, total) {
            (Some(input), _) => input,
            (None, Some(total)) => total.saturating_sub(stated_output.unwrap_or(0)),
            (None, None) => {
                stated_output?;
                0
            }
        };
        let stated_output = stated_output.unwrap_or(0);
        let hidden = total.unwrap_or(0).saturating_sub(input_tokens.saturating_add(stated_output));
        let output_tokens = stated_output.saturating_add(hidden);
        let (reasoning, cached) = (first(&reasoning).unwrap_or(0), first(&cached).unwrap_or(0));
        Some(Self {
            usage: Usage {
                input_tokens,
                output_tokens,
                cached_tokens: cached.min(input_tokens),
                reasoning_tokens: reasoning.max(hidden).min(output_tokens),
                cost_usd,
            },
            surcharge_tokens: 0.0,
        })
    }
}

/// No call can use more; a larger number is a provider's mistake, and the
/// store's integers must be able to hold it.
const MAX_TOKENS: f64 = 1e12;
/// As for tokens. What is told of one that costs more is not believed.
const MAX_COST_USD: f64 = 1e5;

/// Some providers write whole numbers as `12.0`.
fn tokens(value: &Value) -> Option<u64> {
    let number = value.as_f64()?;
    (number >= 0.0).then(|| number.min(MAX_TOKENS).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Usage {
        Reported::read(&value).expect("has counts").usage
    }

    #[test]
    fn reasoning_that_only_the_total_shows_is_output() {
        let usage = read(json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}));
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (30, 25));
    }

    #[test]
    fn reasoning_within_the_output_is_counted_once() {
        let usage = read(json!({"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 25}}));
        assert_eq!((usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens), (30, 25, 4));
    }

    #[test]
    fn nonsense_does_no_harm() {
        assert_eq!(Reported::read(&json!(null)), None);
        assert_eq!(Reported::read(&json!({"prompt_tokens": "many"})), None);
        let usage =
            read(json!({"prompt_tokens": -3.0, "completion_tokens": 1e300, "total_tokens": 1, "cost": -1}));
        assert_eq!(usage.cost_usd, None);
        assert!(usage.output_tokens <= 1_000_000_000_000);
        let usage = read(json!({"prompt_tokens": 1, "cost": 1e7}));
        assert_eq!(usage.cost_usd, None, "no call costs so much");
        let usage = read(json!({"total_tokens": 7, "cached_tokens": 9}));
        assert_eq!((usage.input_tokens, usage.cached_tokens), (7, 7));
    }
}
