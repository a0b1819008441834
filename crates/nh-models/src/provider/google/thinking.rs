//! How much a model is to think: models from Gemini 3 on take a word for it, 2.5 a number of
//! tokens, and those before do not think (<https://ai.google.dev/gemini-api/docs/thinking>).

use serde_json::{Map, Value, json};

/// The least that `gemini-2.5-pro` takes.
const LEAST_OF_PRO: u64 = 128;

/// `thinkingConfig` for `reasoning_effort`, or OpenRouter's `reasoning`; None where nothing is
/// asked for, or the model cannot.
pub(super) fn config(model: &str, body: &Map<String, Value>) -> Option<Value> {
    let reasoning = body.get("reasoning").unwrap_or(&Value::Null);
    let effort = body.get("reasoning_effort").and_then(Value::as_str).or(reasoning["effort"].as_str())?;
    let is_told = effort != "none" && reasoning["exclude"] != true;
    match generation(model) {
        (..2, _) | (2, ..5) => None,
        (2, _) => Some(json!({"thinkingBudget": budget(model, effort), "includeThoughts": is_told})),
        newer => Some(json!({"thinkingLevel": level(model, newer, effort), "includeThoughts": is_told})),
    }
}

/// Whether it refuses a tool call in the history that has no signature.
pub(super) fn wants_signatures(model: &str) -> bool {
    generation(model) >= (3, 0)
}

/// As Google's OpenAI-compatible endpoint has them
/// (<https://ai.google.dev/gemini-api/docs/openai#thinking>).
fn budget(model: &str, effort: &str) -> u64 {
    match effort {
        "none" if model.contains("-pro") => LEAST_OF_PRO,
        "none" => 0,
        "minimal" | "low" => 1_024,
        "medium" => 8_192,
        _ => 24_576,
    }
}

/// None of them can leave it altogether, and the larger ones know fewer words.
fn level(model: &str, generation: (u32, u32), effort: &str) -> &'static str {
    let is_pro = model.contains("-pro");
    match effort {
        "none" | "minimal" if !is_pro => "minimal",
        "none" | "minimal" | "low" => "low",
        "medium" if !is_pro || generation > (3, 0) => "medium",
        _ => "high",
    }
}

/// `gemini-2.5-flash` is (2, 5). A name without a number (`gemini-flash-latest`) is the newest's.
fn generation(model: &str) -> (u32, u32) {
    let is_number = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    let Some(number) = model.split(['-', '/']).find(is_number) else { return (u32::MAX, 0) };
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    (major.parse().unwrap_or(u32::MAX), minor.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_told_in_its_own_words() {
        let budget = |tokens: u64| json!({"thinkingBudget": tokens, "includeThoughts": tokens > 500});
        let level = |word: &str, is_told: bool| json!({"thinkingLevel": word, "includeThoughts": is_told});
        for (model, effort, expected) in [
            ("gemini-2.5-flash", "none", Some(budget(0))),
            ("gemini-2.5-pro", "none", Some(budget(128))),
            ("models/gemini-2.5-flash-lite-preview-09-2025", "low", Some(budget(1_024))),
            ("gemini-2.5-flash", "medium", Some(budget(8_192))),
            ("gemini-2.5-pro", "xhigh", Some(budget(24_576))),
            ("gemini-2.0-flash", "high", None),
            ("gemini-3-flash-preview", "none", Some(level("minimal", false))),
            ("gemini-3-flash-preview", "medium", Some(level("medium", true))),
            ("gemini-3-pro-preview", "medium", Some(level("high", true))),
            ("gemini-3.1-pro", "medium", Some(level("medium", true))),
            ("gemini-3.1-pro", "minimal", Some(level("low", true))),
            ("gemini-flash-latest", "high", Some(level("high", true))),
        ] {
            let body = Map::from_iter([("reasoning".to_owned(), json!({"effort": effort}))]);
            assert_eq!(config(model, &body), expected, "{model} {effort}");
        }
        assert_eq!(config("gemini-3-flash", &Map::new()), None);
        assert!(wants_signatures("gemini-3-flash") && !wants_signatures("gemini-2.5-pro"));
    }
}
