//! What a provider's own `GET /models` says.

use serde_json::Value;

const MAX_ID_BYTES: usize = 256;
/// Of a million tokens. Who asks for more is not believed.
const MAX_USD: f64 = 1e6;

/// How much of a listing is kept.
#[derive(Clone, Copy)]
pub(crate) struct ListingBounds {
    pub(crate) models: usize,
    /// Of each description.
    pub(crate) description_chars: usize,
}

/// One model as its provider lists it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) description: Option<String>,
    /// US dollars per million tokens.
    pub(super) input_cost: Option<f64>,
    pub(super) output_cost: Option<f64>,
    pub(super) cached_input_cost: Option<f64>,
    pub(super) context_length: Option<u64>,
    /// Empty where the provider does not say.
    pub(super) capabilities: Vec<String>,
}

/// Reads OpenAI's shape (`data: [{id, created}]`) with what OpenRouter
/// (`pricing`, `architecture`, `supported_parameters`, `context_length`), vLLM
/// (`max_model_len`) and llama.cpp (`meta.n_ctx_train`) add, and Gemini's
/// (`models: [{name, supportedGenerationMethods}]`). None when it is not a list
/// of models. Those beyond the bounds are left out, with a warning.
pub(super) fn read(body: &Value, bounds: ListingBounds) -> Option<Vec<Listed>> {
    let most = bounds.models;
    let items = body.get("data").or_else(|| body.get("models")).unwrap_or(body).as_array()?;
    let listed = items.iter().filter_map(|item| model(item).or_else(|| gemini(item))).map(|mut listed| {
        listed.description =
            listed.description.map(|text| text.chars().take(bounds.description_chars).collect());
        listed
    });
    let listed: Vec<Listed> = listed.take(most).collect();
    if items.len() > most {
        tracing::warn!(listed = items.len(), kept = most, "a provider lists more models than are kept");
    }
    Some(listed)
}

fn model(item: &Value) -> Option<Listed> {
    let id = item.get("id")?.as_str().filter(|id| is_id(id))?;
    let number = |path: &str| item.pointer(path).and_then(Value::as_u64);
    Some(Listed {
        id: id.to_owned(),
        created: item.get("created").and_then(Value::as_i64).unwrap_or(0),
        description: text(item, "description")
            .or_else(|| text(item, "name"))
            .or_else(|| text(item, "display_name")),
        input_cost: price(item, "/pricing/prompt"),
        output_cost: price(item, "/pricing/completion"),
        cached_input_cost: price(item, "/pricing/input_cache_read"),
        context_length: number("/context_length")
            .or_else(|| number("/max_model_len"))
            .or_else(|| number("/max_input_tokens"))
            .or_else(|| number("/meta/n_ctx_train")),
        capabilities: capabilities(item),
    })
}

/// Whether it may be the id of a model.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control)
}

/// <https://ai.google.dev/api/models#Model>. What neither chats nor makes
/// embeddings is left out.
fn gemini(item: &Value) -> Option<Listed> {
    let id = item.get("name")?.as_str().filter(|id| is_id(id))?;
    let methods = item.get("supportedGenerationMethods")?.as_array()?;
    let capabilities = if methods.iter().any(|method| method == "generateContent") {
        // Whether it takes tools or images it does not say.
        Vec::new()
    } else if methods.iter().any(|method| method == "embedContent") {
        vec!["embeddings".to_owned()]
    } else {
        return None;
    };
    Some(Listed {
        id: id.to_owned(),
        description: text(item, "description").or_else(|| text(item, "displayName")),
        context_length: item.get("inputTokenLimit").and_then(Value::as_u64),
        capabilities,
        ..Listed::default()
    })
}

fn text(item: &Value, field: &str) -> Option<String> {
    let text = item.get(field)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// OpenRouter says dollars per token, as text; a negative price means "it
/// depends" (<https://openrouter.ai/docs/api-reference/list-available-models>).
fn price(item: &Value, path: &str) -> Option<f64> {
    let value = item.pointer(path)?;
    let per_token = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    let per_million = per_token * 1_000_000.0;
    // Removes what the multiplication adds: 0.0000001 is 0.1, not 0.09999999999999999.
    let rounded = (per_million * 1e9).round() / 1e9;
    (0.0..=MAX_USD).contains(&rounded).then_some(rounded)
}

fn capabilities(item: &Value) -> Vec<String> {
    let holds = |path: &str, word: &str| {
        item.pointer(path).and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == word))
    };
    let mut found = Vec::new();
    if holds("/architecture/output_modalities", "text") {
        found.push("chat");
    }
    if holds("/supported_parameters", "tools") {
        found.push("tools");
    }
    if holds("/architecture/input_modalities", "image") {
        found.push("vision");
    }
    if holds("/architecture/output_modalities", "embeddings") {
        found.push("embeddings");
    }
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ListingBounds = ListingBounds { models: 10, description_chars: 100 };
    use serde_json::json;

    #[test]
    fn openrouters_listing_tells_prices_and_capabilities() {
        let body = json!({"data": [{
            "id": "google/gemini-2.5-flash-lite", "name": "Google: Gemini 2.5 Flash Lite", "created": 1753200276,
            "context_length": 1048576,
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
            "pricing": {"prompt": "0.0000001", "completion": "0.0000004", "input_cache_read": "0.00000001"},
            "supported_parameters": ["max_tokens", "tools"],
        }, {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}}]});
        let models = read(&body, BOUNDS).expect("a list");
        assert_eq!(models[0].input_cost, Some(0.1));
        assert_eq!(models[0].output_cost, Some(0.4));
        assert_eq!(models[0].cached_input_cost, Some(0.01));
        assert_eq!(models[0].capabilities, ["chat", "tools", "vision"]);
        assert_eq!(models[1].input_cost, None);
    }

    #[test]
    fn what_is_not_a_model_is_left_out() {
        let body =
            json!([{"id": "llama"}, {"id": ""}, {"id": 7}, null, {"id": "a\nb"}, {"id": "x".repeat(300)}]);
        assert_eq!(read(&body, BOUNDS).expect("a list").len(), 1);
        assert_eq!(read(&json!({"error": "no"}), BOUNDS), None);
    }
}
