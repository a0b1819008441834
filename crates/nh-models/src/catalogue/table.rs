//! The built-in price table, for providers whose own listing tells no prices.
//! The configuration's `models` override it; OpenRouter tells its own.
//!
//! Sources, read in November 2026 (standard tier, text, US dollars per million
//! tokens), none of them the providers' own pages, which were out of reach:
//! - OpenAI's <https://platform.openai.com/docs/pricing> as recorded in
//!   <https://github.com/pydantic/genai-prices>, checked there between 2025-07-04
//!   and 2025-11-13; `gpt-5.2` as in
//!   <https://nicolalazzari.ai/articles/openai-api-pricing-explained-2026>;
//! - Google's <https://ai.google.dev/gemini-api/docs/pricing> as told in
//!   <https://www.morphllm.com/gemini-api-pricing> and
//!   <https://deploybase.ai/articles/gemini-api-pricing> (March 2026), which also
//!   has cached input at a tenth of the price;
//! - Anthropic's <https://docs.anthropic.com/en/docs/about-claude/pricing>, and for
//!   the models of 2026 <https://deploybase.ai/articles/claude-api-pricing> (March 2026).
//!
//! Prices change: what none of them tells is left out, and a call to it is
//! recorded with its tokens and without a cost.

use super::price::{LongPrompt, Price};
use crate::ProviderKind;

/// What is known of a model without asking.
pub(crate) struct Known {
    pub(crate) id: &'static str,
    pub(crate) price: Price,
    /// Tokens; 0 where it is not known.
    pub(crate) context_length: u64,
    pub(crate) capabilities: &'static [&'static str],
}

const SEEING: &[&str] = &["chat", "tools", "vision"];
const TALKING: &[&str] = &["chat", "tools"];
const EMBEDDING: &[&str] = &["embeddings"];

const fn known(
    id: &'static str,
    price: Price,
    context_length: u64,
    capabilities: &'static [&'static str],
) -> Known {
    Known { id, price, context_length, capabilities }
}

const fn tiered(input: f64, output: f64, cached_input: f64, long_output: f64) -> Price {
    Price {
        input,
        output,
        cached_input: Some(cached_input),
        long: Some(LongPrompt {
            above_tokens: 200_000,
            input: input * 2.0,
            output: long_output,
            cached_input: cached_input * 2.0,
        }),
    }
}

#[rustfmt::skip]
const OPENAI: &[Known] = &[
    known("gpt-3.5-turbo-0613", Price::flat(1.5, 2.0), 16_385, TALKING),
    known("gpt-3.5-turbo-1106", Price::flat(1.0, 2.0), 16_385, TALKING),
    known("gpt-3.5-turbo", Price::flat(0.5, 1.5), 16_385, TALKING),
    known("gpt-4", Price::flat(30.0, 60.0), 8_192, TALKING),
    known("gpt-4-turbo", Price::flat(10.0, 30.0), 128_000, SEEING),
    known("gpt-4.1", Price::cached(2.0, 8.0, 0.5), 1_047_576, SEEING),
    known("gpt-4.1-mini", Price::cached(0.4, 1.6, 0.1), 1_047_576, SEEING),
    known("gpt-4.1-nano", Price::cached(0.1, 0.4, 0.025), 1_047_576, SEEING),
    known("gpt-4o", Price::cached(2.5, 10.0, 1.25), 128_000, SEEING),
    known("gpt-4o-mini", Price::cached(0.15, 0.6, 0.075), 128_000, SEEING),
    known("gpt-5", Price::cached(1.25, 10.0, 0.125), 400_000, SEEING),
    known("gpt-5-chat", Price::cached(1.25, 10.0, 0.125), 128_000, SEEING),
    known("gpt-5-mini", Price::cached(0.25, 2.0, 0.025), 400_000, SEEING),
    known("gpt-5-nano", Price::cached(0.05, 0.4, 0.005), 400_000, SEEING),
    known("gpt-5.1", Price::cached(1.25, 10.0, 0.125), 400_000, SEEING),
    known("gpt-5.1-codex-mini", Price::cached(0.25, 2.0, 0.025), 400_000, SEEING),
    known("gpt-5.2", Price::cached(1.75, 14.0, 0.175), 400_000, SEEING),
    known("o1", Price::cached(15.0, 60.0, 7.5), 200_000, SEEING),
    known("o3", Price::cached(2.0, 8.0, 0.5), 200_000, SEEING),
    known("o3-mini", Price::cached(1.1, 4.4, 0.55), 200_000, TALKING),
    known("o4-mini", Price::cached(1.1, 4.4, 0.275), 200_000, SEEING),
    known("text-embedding-3-large", Price::flat(0.13, 0.0), 8_191, EMBEDDING),
    known("text-embedding-3-small", Price::flat(0.02, 0.0), 8_191, EMBEDDING),
    known("text-embedding-ada-002", Price::flat(0.1, 0.0), 8_191, EMBEDDING),
];

#[rustfmt::skip]
const GOOGLE: &[Known] = &[
    known("gemini-2.0-flash", Price::flat(0.1, 0.4), 1_048_576, SEEING),
    known("gemini-2.0-flash-lite", Price::flat(0.075, 0.3), 1_048_576, SEEING),
    known("gemini-2.5-flash", Price::cached(0.3, 2.5, 0.03), 1_048_576, SEEING),
    known("gemini-2.5-flash-lite", Price::cached(0.1, 0.4, 0.01), 1_048_576, SEEING),
    known("gemini-2.5-pro", tiered(1.25, 10.0, 0.125, 15.0), 1_048_576, SEEING),
    known("gemini-3-flash", Price::cached(0.5, 3.0, 0.05), 1_048_576, SEEING),
    known("gemini-3-pro", tiered(2.0, 12.0, 0.2, 18.0), 1_048_576, SEEING),
    known("gemini-3.1-flash-lite", Price::flat(0.25, 1.5), 1_048_576, SEEING),
    known("gemini-3.1-pro", tiered(2.0, 12.0, 0.2, 18.0), 1_048_576, SEEING),
];

/// Cached input is a tenth of the price for all of them.
const fn claude(id: &'static str, input: f64, output: f64, context_length: u64) -> Known {
    known(id, Price::cached(input, output, input / 10.0), context_length, SEEING)
}

#[rustfmt::skip]
const ANTHROPIC: &[Known] = &[
    claude("claude-3-haiku", 0.25, 1.25, 200_000),
    claude("claude-3-5-haiku", 0.8, 4.0, 200_000),
    claude("claude-3-7-sonnet", 3.0, 15.0, 200_000),
    claude("claude-haiku-4-5", 1.0, 5.0, 200_000),
    claude("claude-opus-4", 15.0, 75.0, 200_000),
    claude("claude-opus-4-1", 15.0, 75.0, 200_000),
    claude("claude-opus-4-5", 5.0, 25.0, 200_000),
    claude("claude-opus-4-6", 5.0, 25.0, 1_000_000),
    claude("claude-sonnet-4", 3.0, 15.0, 200_000),
    claude("claude-sonnet-4-5", 3.0, 15.0, 200_000),
    claude("claude-sonnet-4-6", 3.0, 15.0, 1_000_000),
];

/// Looks `id` up as the provider knows it; a version behind the name
/// (`gpt-5-2025-08-07`, `gemini-2.0-flash-001`, `…-preview`, `…-latest`) is the
/// same model.
pub(crate) fn find(kind: ProviderKind, id: &str) -> Option<&'static Known> {
    let table = match kind {
        ProviderKind::Openai => OPENAI,
        ProviderKind::Google => GOOGLE,
        ProviderKind::Anthropic => ANTHROPIC,
        ProviderKind::Openrouter => return None,
    };
    table.iter().find(|known| id.strip_prefix(known.id).is_some_and(is_version))
}

fn is_version(rest: &str) -> bool {
    let rest = rest.strip_prefix("-preview").unwrap_or(rest);
    match rest.strip_prefix('-') {
        None => rest.is_empty(),
        Some("latest") => true,
        Some(version) => {
            version.len() >= 3 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_same_model_and_variants_are_not() {
        let found = |kind, id| find(kind, id).map(|known| known.id);
        assert_eq!(found(ProviderKind::Openai, "gpt-5-mini-2025-08-07"), Some("gpt-5-mini"));
        assert_eq!(found(ProviderKind::Openai, "gpt-4o-audio-preview"), None);
        assert_eq!(found(ProviderKind::Google, "gemini-3-pro-preview"), Some("gemini-3-pro"));
        assert_eq!(found(ProviderKind::Google, "gemini-2.5-flash-preview-09-2025"), Some("gemini-2.5-flash"));
        assert_eq!(found(ProviderKind::Google, "gemini-2.5-flash-image"), None);
        assert_eq!(found(ProviderKind::Openrouter, "gpt-5"), None);
    }

    #[test]
    fn every_price_is_sane_and_every_id_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for known in OPENAI.iter().chain(GOOGLE).chain(ANTHROPIC) {
            assert!(seen.insert(known.id), "{} stands twice", known.id);
            assert!(known.price.input > 0.0 && known.price.input < 100.0, "{}", known.id);
            assert!(known.price.cached_input.unwrap_or(0.0) < known.price.input, "{}", known.id);
        }
    }
}
