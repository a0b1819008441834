//! Chat answers that come whole.

use bytes::Bytes;
use nh_http::Response;
use nh_store::usage::UsageKind;
use nh_types::model::Usage;
use nh_types::{JsonSize, SharedIds};
use serde_json::{Map, Value, json};

use crate::bids::{self, Called};
use crate::call::Call;
use crate::catalogue::Model;
use crate::models::Inner;
use crate::passed::{Answer, Passed};
use crate::provider::{Asked, Operation, Provider, To};
use crate::usage::{Meter, Metered, at_most, prompt_tokens};
use crate::{Caller, Completion, ModelError};

/// Of a provider's answer. Small ones take many times their text in memory.
pub(crate) const MAX_VALUES: usize = 500_000;
/// Of one with embeddings, where each number is one.
const MAX_EMBEDDED_VALUES: usize = 4_000_000;
/// Where an answer has them.
pub(crate) const EMBEDDINGS: &str = "data";

pub(crate) const ID_LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// `chatcmpl-…`, as OpenAI makes them.
pub(crate) fn completion_id(ids: &SharedIds) -> String {
    format!("chatcmpl-{}", ids.text(ID_LETTERS, 24))
}

/// `call_…`, as OpenAI makes them.
pub(crate) fn call_id(ids: &SharedIds) -> String {
    format!("call_{}", ids.text(ID_LETTERS, 24))
}

/// What every chat request must have, whoever answers it.
pub(crate) fn check(body: &Map<String, Value>) -> Result<(), ModelError> {
    let invalid = |message: String, param: String| Err(ModelError::Invalid { message, param });
    let Some(messages) = body.get("messages") else {
        return invalid(
            "`messages` is missing; give a list such as [{\"role\": \"user\", \"content\": \"Hello\"}]"
                .to_owned(),
            "messages".to_owned(),
        );
    };
    let Some(messages) = messages.as_array().filter(|messages| !messages.is_empty()) else {
        let given = shown(messages);
        let message = format!("`messages` is {given}; it must be a list with at least one message");
        return invalid(message, "messages".to_owned());
    };
    for (index, message) in messages.iter().enumerate() {
        if !message.get("role").is_some_and(Value::is_string) {
            let given = message.get("role").map_or_else(|| "missing".to_owned(), shown);
            let message = format!(
                "`messages[{index}].role` is {given}; \
                 it must be one of system, developer, user, assistant, tool"
            );
            return invalid(message, format!("messages[{index}].role"));
        }
    }
    Ok(())
}

/// What a client gave, short enough for a message to it.
pub(crate) fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// Asks a provider, and mends its answer where it needs that.
pub(crate) async fn ask(
    hub: &Inner,
    to: To<'_>,
    caller: &Caller,
    call: &Call,
    mut body: Map<String, Value>,
) -> Result<Answer, ModelError> {
    let To { provider, model, .. } = to;
    let meter = begin(hub, provider, model, caller, call, &mut body).await?;
    body.insert("model".to_owned(), Value::from(model.upstream_id.clone()));
    let (mut meter, Asked { response, leave }) = open(to, Operation::Chat, body, meter).await?;
    let text = read_text(provider, response, MAX_VALUES).await;
    if let Some(passed) = text.as_ref().ok().and_then(|text| Passed::of(provider, text)) {
        provider.ended(leave, None);
        meter.report(passed.reported);
        let usage = meter.settle();
        let provider = provider.name().to_owned();
        return Ok(Answer::Passed { text: passed.told(&usage), usage, provider });
    }
    let answer = text.and_then(|text| take(provider, &text, "choices", meter));
    provider.ended(leave, answer.as_ref().err());
    let (meter, answer) = answer?;
    Ok(Answer::Mended(completion(hub, provider, model, meter, answer)))
}

/// The whole answer to a request for a stream.
pub(crate) async fn take_whole(
    hub: &Inner,
    provider: &Provider,
    model: &Model,
    asked: Asked,
    meter: Meter,
) -> Result<Completion, ModelError> {
    let (meter, answer) = read(provider, asked, "choices", meter).await?;
    Ok(completion(hub, provider, model, meter, answer))
}

fn completion(
    hub: &Inner,
    provider: &Provider,
    model: &Model,
    mut meter: Meter,
    mut answer: Map<String, Value>,
) -> Completion {
    mend(hub, provider, model, &mut answer);
    match answer.get("usage").and_then(|usage| provider.reported(usage)) {
        Some(reported) => meter.report(reported),
        None => {
            let size = answer.get("choices").map_or(0, |choices| choices.to_string().len());
            meter.add_output_bytes(size);
            let (usage, _) = meter.usage();
            answer.insert("usage".to_owned(), estimated_usage(usage.input_tokens, usage.output_tokens));
        }
    }
    let usage = meter.settle();
    if let Some(told) = answer.get_mut("usage") {
        put_cost(told, &usage);
    }
    Completion { body: answer, usage }
}

pub(crate) async fn begin(
    hub: &Inner,
    provider: &Provider,
    model: &Model,
    caller: &Caller,
    call: &Call,
    body: &mut Map<String, Value>,
) -> Result<Meter, ModelError> {
    let prompt_tokens = prompt_tokens(body);
    let metered = Metered {
        caller,
        meter: call.meter(),
        provider: provider.name(),
        model: &model.view.id,
        kind: UsageKind::Chat,
        price: model.price,
        prompt_tokens,
    };
    let mut meter = Meter::begin(hub, metered).await?;
    if let Some(charge) = &caller.charge {
        let called =
            Called { model: &model.view.id, price: model.price, prompt_tokens: at_most(prompt_tokens) };
        bids::reserve_chat(charge, &mut meter, called, body, provider.answer_limit()).await?;
    }
    Ok(meter)
}

/// US dollars, as OpenRouter has them in its answers.
pub(crate) fn put_cost(told: &mut Value, usage: &Usage) {
    if let (Some(told), Some(cost_usd)) = (told.as_object_mut(), usage.cost_usd) {
        put_if_absent(told, "cost", || Value::from(cost_usd));
    }
}

/// `usage` where the provider gave none: OpenAI's shape, and a word that it is
/// a guess.
pub(crate) fn estimated_usage(input_tokens: u64, output_tokens: u64) -> Value {
    json!({
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens.saturating_add(output_tokens),
        "estimated": true,
    })
}

/// Sends a request and reads its whole answer, an object whose `list` is a list
/// that is not empty. A call that the provider refused costs nothing; one that
/// it began to answer, or did not answer in time, is accounted for as far as it
/// is known.
pub(crate) async fn exchange(
    to: To<'_>,
    operation: Operation,
    body: Map<String, Value>,
    list: &str,
    meter: Meter,
) -> Result<(Meter, Map<String, Value>), ModelError> {
    let provider = to.provider;
    let (meter, asked) = open(to, operation, body, meter).await?;
    read(provider, asked, list, meter).await
}

/// Sends a request; what is refused costs nothing.
pub(crate) async fn open(
    to: To<'_>,
    operation: Operation,
    body: Map<String, Value>,
    meter: Meter,
) -> Result<(Meter, Asked), ModelError> {
    let answer = match to.provider.write(operation, body) {
        // Boxed: it would be moved with each of the futures around it.
        Ok(request) => Box::pin(to.provider.ask(operation, request, to.retries)).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(asked) => Ok((meter, asked)),
        Err(error) => {
            if !matches!(error, ModelError::TimedOut { was_sent: true, .. }) {
                meter.waive();
            }
            Err(error)
        }
    }
}

async fn read(
    provider: &Provider,
    asked: Asked,
    list: &str,
    meter: Meter,
) -> Result<(Meter, Map<String, Value>), ModelError> {
    let Asked { response, leave } = asked;
    let most_values = if list == EMBEDDINGS { MAX_EMBEDDED_VALUES } else { MAX_VALUES };
    let text = read_text(provider, response, most_values).await;
    let answer = text.and_then(|text| take(provider, &text, list, meter));
    provider.ended(leave, answer.as_ref().err());
    answer
}

async fn read_text(provider: &Provider, response: Response, most_values: usize) -> Result<Bytes, ModelError> {
    let text = response.bytes().await.map_err(|error| provider.broken(&error))?;
    match (JsonSize { values: most_values, depth: usize::MAX }).holds(&text) {
        true => Ok(text),
        false => Err(provider.failed(format!("its answer has more than {most_values} values"))),
    }
}

fn take(
    provider: &Provider,
    text: &[u8],
    list: &str,
    mut meter: Meter,
) -> Result<(Meter, Map<String, Value>), ModelError> {
    let answer: Map<String, Value> =
        serde_json::from_slice(text).map_err(|_| provider.failed("its answer is not a JSON object"))?;
    let answer = provider.read(answer);
    if answer.get(list).and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        return Ok((meter, answer));
    }
    if let Some(reported) = answer.get("usage").and_then(|usage| provider.reported(usage)) {
        meter.report(reported);
        meter.is_whole();
    }
    match answer.get("error") {
        Some(error) if !error.is_null() => {
            meter.refused();
            Err(provider.error_in_answer(error))
        }
        _ => Err(provider.failed(format!("its answer has no `{list}`"))),
    }
}

/// Puts in what OpenAI's SDKs need and some providers leave out.
fn mend(hub: &Inner, provider: &Provider, model: &Model, answer: &mut Map<String, Value>) {
    put_if_absent(answer, "id", || Value::from(completion_id(&hub.ids)));
    put_if_absent(answer, "object", || Value::from("chat.completion"));
    put_if_absent(answer, "created", || Value::from(hub.clock.now().as_millis() / 1_000));
    put_if_absent(answer, "model", || Value::from(model.view.id.clone()));
    let Some(choices) = answer.get_mut("choices").and_then(Value::as_array_mut) else { return };
    for (index, choice) in choices.iter_mut().enumerate() {
        let Some(choice) = choice.as_object_mut() else { continue };
        put_if_absent(choice, "index", || Value::from(index));
        put_if_absent(choice, "message", || json!({}));
        let mut has_calls = false;
        if let Some(message) = choice.get_mut("message").and_then(Value::as_object_mut) {
            put_if_absent(message, "role", || Value::from("assistant"));
            message.entry("content").or_insert(Value::Null);
            has_calls = mend_calls(hub, message);
        }
        mend_finish_reason(choice, has_calls, provider.mends_tool_turns());
    }
}

/// Whether there are tool calls.
fn mend_calls(hub: &Inner, message: &mut Map<String, Value>) -> bool {
    let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) else { return false };
    for call in calls.iter_mut().filter_map(Value::as_object_mut) {
        if call.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
            call.insert("id".to_owned(), Value::from(call_id(&hub.ids)));
        }
        put_if_absent(call, "type", || Value::from("function"));
    }
    !calls.is_empty()
}

fn mend_finish_reason(choice: &mut Map<String, Value>, has_calls: bool, mends_tool_turns: bool) {
    let reason = choice.get("finish_reason").and_then(Value::as_str);
    let mended = match reason {
        None | Some("") => finish_reason(has_calls),
        Some("stop") if has_calls && mends_tool_turns => "tool_calls",
        Some(_) => return,
    };
    choice.insert("finish_reason".to_owned(), Value::from(mended));
}

pub(crate) const fn finish_reason(has_calls: bool) -> &'static str {
    if has_calls { "tool_calls" } else { "stop" }
}

pub(crate) fn put_if_absent(map: &mut Map<String, Value>, field: &str, value: impl FnOnce() -> Value) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value());
    }
}
