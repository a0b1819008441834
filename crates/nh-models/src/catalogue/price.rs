//! Money for tokens.

use nh_types::model::Usage;

const MILLION: f64 = 1_000_000.0;

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
    /// Input that the provider reads from its cache; absent: as `input`.
    pub(crate) cached_input: Option<f64>,
    /// What a long prompt costs instead, all of it.
    pub(crate) long: Option<LongPrompt>,
}

/// The price of a call whose prompt is over a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LongPrompt {
    pub(crate) above_tokens: u64,
    pub(crate) input: f64,
    pub(crate) output: f64,
    pub(crate) cached_input: f64,
}

impl Price {
    pub(crate) const FREE: Price = Price::flat(0.0, 0.0);

    pub(crate) const fn flat(input: f64, output: f64) -> Self {
        Self { input, output, cached_input: None, long: None }
    }

    pub(crate) const fn cached(input: f64, output: f64, cached_input: f64) -> Self {
        Self { input, output, cached_input: Some(cached_input), long: None }
    }

    /// US dollars for so many tokens of plain input.
    pub(crate) fn of_input(&self, tokens: f64) -> f64 {
        tokens * self.input / MILLION
    }

    pub(crate) fn cost_usd(&self, usage: &Usage) -> f64 {
        let (input, output, cached_input) = match self.long {
            Some(long) if usage.input_tokens > long.above_tokens => {
                (long.input, long.output, long.cached_input)
            }
            _ => (self.input, self.output, self.cached_input.unwrap_or(self.input)),
        };
        let fresh = usage.input_tokens.saturating_sub(usage.cached_tokens);
        (fresh as f64 * input
            + usage.cached_tokens as f64 * cached_input
            + usage.output_tokens as f64 * output)
            / MILLION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_and_long_prompts_have_their_own_price() {
        let price = Price {
            long: Some(LongPrompt { above_tokens: 200_000, input: 2.5, output: 15.0, cached_input: 0.25 }),
            ..Price::cached(1.25, 10.0, 0.125)
        };
        let usage = Usage { input_tokens: 1_000, cached_tokens: 400, output_tokens: 100, ..Usage::NONE };
        assert!((price.cost_usd(&usage) - 0.0018).abs() < 1e-12);
        let long = Usage { input_tokens: 400_000, cached_tokens: 0, output_tokens: 0, ..Usage::NONE };
        assert!((price.cost_usd(&long) - 1.0).abs() < 1e-12);
    }
}
