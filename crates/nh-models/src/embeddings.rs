//! Embeddings, in the encoding that the client asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nh_store::usage::UsageKind;
use serde_json::{Map, Value, json};

use crate::bids::{self, Called};
use crate::call::Call;
use crate::chat::{EMBEDDINGS, exchange, put_if_absent};
use crate::models::Inner;
use crate::provider::{Operation, To};
use crate::usage::{Meter, Metered, at_most, prompt_tokens};
use crate::{Caller, Completion, ModelError};

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A JSON list.
    Float,
    /// Little-endian f32, as base64.
    Base64,
}

impl Encoding {
    pub(crate) fn asked_for(body: &Map<String, Value>) -> Result<Self, ModelError> {
        match body.get("encoding_format") {
            None | Some(Value::Null) => Ok(Self::Float),
            Some(Value::String(word)) if word == "float" => Ok(Self::Float),
            Some(Value::String(word)) if word == "base64" => Ok(Self::Base64),
            Some(other) => Err(ModelError::Invalid {
                message: format!("`encoding_format` must be \"float\" or \"base64\", not {other}"),
                param: "encoding_format".to_owned(),
            }),
        }
    }
}

pub(crate) fn check(body: &Map<String, Value>) -> Result<Encoding, ModelError> {
    let is_given = match body.get("input") {
        Some(Value::String(_)) => true,
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    if !is_given {
        return Err(ModelError::Invalid {
            message: "`input` must be a text, or a list that is not empty of texts or tokens".to_owned(),
            param: "input".to_owned(),
        });
    }
    Encoding::asked_for(body)
}

pub(crate) async fn ask(
    hub: &Inner,
    to: To<'_>,
    caller: &Caller,
    call: &Call,
    mut body: Map<String, Value>,
    encoding: Encoding,
) -> Result<Completion, ModelError> {
    let To { provider, model, .. } = to;
    let prompt_tokens = prompt_tokens(&body);
    let metered = Metered {
        caller,
        meter: call.meter(),
        provider: provider.name(),
        model: &model.view.id,
        kind: UsageKind::Embeddings,
        price: model.price,
        prompt_tokens,
    };
    let mut meter = Meter::begin(hub, metered).await?;
    if let Some(charge) = &caller.charge {
        let called =
            Called { model: &model.view.id, price: model.price, prompt_tokens: at_most(prompt_tokens) };
        bids::reserve_prompt(charge, &mut meter, called).await?;
    }
    body.insert("model".to_owned(), Value::from(model.upstream_id.clone()));
    let (mut meter, mut answer) = exchange(to, Operation::Embeddings, body, EMBEDDINGS, meter).await?;
    if let Some(reported) = answer.get("usage").and_then(|usage| provider.reported(usage)) {
        meter.report(reported);
    }
    let encoded = encode(&mut answer, encoding);
    let usage = meter.settle();
    if !encoded {
        return Err(provider.failed("an embedding in its answer is neither numbers nor base64"));
    }
    put_if_absent(&mut answer, "object", || Value::from("list"));
    put_if_absent(&mut answer, "model", || Value::from(model.view.id.clone()));
    put_if_absent(
        &mut answer,
        "usage",
        || json!({"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens, "estimated": true}),
    );
    Ok(Completion { body: answer, usage })
}

/// Writes every embedding as it was asked for, whatever the provider did with
/// `encoding_format`. False when one is neither numbers nor base64.
fn encode(answer: &mut Map<String, Value>, encoding: Encoding) -> bool {
    let Some(items) = answer.get_mut("data").and_then(Value::as_array_mut) else { return false };
    for (index, item) in items.iter_mut().enumerate() {
        let Some(item) = item.as_object_mut() else { return false };
        put_if_absent(item, "object", || Value::from("embedding"));
        put_if_absent(item, "index", || Value::from(index));
        let encoded = match (item.get("embedding"), encoding) {
            (Some(Value::Array(numbers)), Encoding::Base64) => to_base64(numbers),
            (Some(Value::String(text)), Encoding::Float) => to_numbers(text),
            (Some(Value::Array(_)), Encoding::Float) | (Some(Value::String(_)), Encoding::Base64) => continue,
            _ => None,
        };
        let Some(encoded) = encoded else { return false };
        item.insert("embedding".to_owned(), encoded);
    }
    true
}

fn to_base64(numbers: &[Value]) -> Option<Value> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        bytes.extend_from_slice(&(number.as_f64()? as f32).to_le_bytes());
    }
    Some(Value::from(STANDARD.encode(bytes)))
}

fn to_numbers(text: &str) -> Option<Value> {
    let bytes = STANDARD.decode(text).ok()?;
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    Some(words.iter().map(|word| Value::from(f32::from_le_bytes(*word))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(embedding: Value) -> Map<String, Value> {
        Map::from_iter([("data".to_owned(), json!([{"embedding": embedding}]))])
    }

    #[test]
    fn numbers_become_base64_of_little_endian_f32_and_back() {
        let mut body = answer(json!([1.0, -0.5, 0]));
        assert!(encode(&mut body, Encoding::Base64));
        assert_eq!(body["data"][0]["embedding"], "AACAPwAAAL8AAAAA");
        assert_eq!(body["data"][0]["index"], 0);
        assert!(encode(&mut body, Encoding::Float));
        assert_eq!(body["data"][0]["embedding"], json!([1.0, -0.5, 0.0]));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bad in [json!("AAA"), json!("!"), json!(null), json!(7)] {
            assert!(!encode(&mut answer(bad), Encoding::Float));
        }
        assert!(!encode(&mut answer(json!(["x"])), Encoding::Base64));
    }
}
