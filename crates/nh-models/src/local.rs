//! `neuralhub/minilm`: the embedding model that runs in this process. What it
//! needs to know of it is a trait here; the model itself is elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use nh_store::usage::UsageKind;
use nh_types::ApiError;
use nh_types::model::{ModelView, Usage};
use serde_json::{Map, Value, json};

use crate::bids::{self, Called};
use crate::call::Call;
use crate::catalogue::Price;
use crate::embeddings::Encoding;
use crate::models::Inner;
use crate::offline;
use crate::usage::{Meter, Metered, Reported, at_most, prompt_tokens};
use crate::{Caller, Completion, ModelError};

/// The id of the local embedding model.
pub(crate) const MODEL_ID: &str = "neuralhub/minilm";

/// Texts in one request; OpenAI takes as many.
const MAX_TEXTS: usize = 2048;
const CONTEXT_TOKENS: u64 = 256;

/// A vector, and the number of tokens that were read of its text.
pub type Embedded = (Vec<f32>, usize);

/// Embeds in this process.
pub trait LocalEmbedder: Send + Sync + 'static {
    /// One for each text, in order.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedded>, ApiError>>;
}

pub(crate) fn view() -> ModelView {
    let description = "all-MiniLM-L6-v2, in the hub's own process: 384 dimensions, 256 tokens of each text, \
                       no key and no network.";
    ModelView {
        id: MODEL_ID.to_owned(),
        object: "model".to_owned(),
        created: 0,
        owned_by: offline::PROVIDER.to_owned(),
        description: Some(description.to_owned()),
        input_cost: Some(0.0),
        output_cost: Some(0.0),
        context_length: Some(CONTEXT_TOKENS),
        capabilities: vec!["embeddings".to_owned()],
    }
}

pub(crate) async fn ask(
    hub: &Inner,
    embedder: &dyn LocalEmbedder,
    caller: &Caller,
    call: &Call,
    body: &Map<String, Value>,
    encoding: Encoding,
) -> Result<Completion, ModelError> {
    let texts = texts(&body["input"])?;
    let prompt_tokens = prompt_tokens(body);
    let metered = Metered {
        caller,
        meter: call.meter(),
        provider: offline::PROVIDER,
        model: MODEL_ID,
        kind: UsageKind::Embeddings,
        price: Some(Price::FREE),
        prompt_tokens,
    };
    let mut meter = Meter::begin(hub, metered).await?;
    if let Some(charge) = &caller.charge {
        let most = CONTEXT_TOKENS * texts.len() as u64;
        let prompt_tokens = at_most(prompt_tokens).min(most);
        let called = Called { model: MODEL_ID, price: Some(Price::FREE), prompt_tokens };
        bids::reserve_prompt(charge, &mut meter, called).await?;
    }
    let embedded = match embedder.embed(texts).await {
        Ok(embedded) => embedded,
        Err(error) => {
            meter.waive();
            return Err(ModelError::Local(error));
        }
    };
    let tokens = embedded.iter().map(|(_, tokens)| *tokens as u64).sum();
    let used = Usage { input_tokens: tokens, ..Usage::NONE };
    meter.report(Reported { usage: used, ..Reported::default() });
    let usage = meter.settle();
    let dimensions = embedded.first().map_or(0, |(vector, _)| vector.len());
    check_dimensions(body.get("dimensions"), dimensions)?;
    let data: Vec<Value> = embedded
        .into_iter()
        .enumerate()
        .map(|(index, (vector, _))| {
            json!({"object": "embedding", "index": index, "embedding": encoded(&vector, encoding)})
        })
        .collect();
    let body = [
        ("object", Value::from("list")),
        ("data", Value::Array(data)),
        ("model", Value::from(MODEL_ID)),
        ("usage", json!({"prompt_tokens": tokens, "total_tokens": tokens})),
    ];
    Ok(Completion { body: body.map(|(field, value)| (field.to_owned(), value)).into_iter().collect(), usage })
}

fn texts(input: &Value) -> Result<Vec<String>, ModelError> {
    let invalid = |message: String| Err(ModelError::Invalid { message, param: "input".to_owned() });
    let items = match input {
        Value::String(text) => std::slice::from_ref(input).iter().take(usize::from(!text.is_empty())),
        Value::Array(items) if items.len() <= MAX_TEXTS => items.iter().take(MAX_TEXTS),
        Value::Array(items) => {
            return invalid(format!("`input` has {} texts; at most {MAX_TEXTS} fit", items.len()));
        }
        _ => return invalid("`input` must be a text or a list of texts".to_owned()),
    };
    let mut texts = Vec::with_capacity(items.len());
    for (place, item) in items.enumerate() {
        match item {
            Value::String(text) if !text.is_empty() => texts.push(text.clone()),
            Value::String(_) => return invalid(format!("`input[{place}]` is empty; give some words")),
            _ => {
                return invalid(format!("`input[{place}]` is no text; `{MODEL_ID}` takes texts, not tokens"));
            }
        }
    }
    if texts.is_empty() { invalid("`input` is empty; give some words".to_owned()) } else { Ok(texts) }
}

fn check_dimensions(asked: Option<&Value>, has: usize) -> Result<(), ModelError> {
    match asked {
        None | Some(Value::Null) => Ok(()),
        Some(asked) if asked.as_u64() == Some(has as u64) => Ok(()),
        Some(_) => Err(ModelError::Invalid {
            message: format!("`dimensions` must be {has} for `{MODEL_ID}`, or left out"),
            param: "dimensions".to_owned(),
        }),
    }
}

fn encoded(vector: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => vector.iter().copied().map(Value::from).collect(),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Value::from(STANDARD.encode(bytes))
        }
    }
}
