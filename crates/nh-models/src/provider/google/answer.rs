//! A whole answer as OpenAI's completion.

use serde_json::{Map, Value, json};

use super::embeddings;

/// What is no answer stays as it is.
pub(in crate::provider) fn read(answer: Map<String, Value>) -> Map<String, Value> {
    if answer.contains_key("embeddings") {
        return embeddings::read(&answer);
    }
    let candidates = candidates(&answer);
    if let Some(error) = candidates.iter().find_map(fault) {
        // It is billed all the same.
        let used = usage(&answer).map(|usage| ("usage".to_owned(), usage));
        return std::iter::once(("error".to_owned(), error)).chain(used).collect();
    }
    let mut choices: Vec<Value> = candidates.iter().enumerate().map(choice).collect();
    if is_blocked(&answer) {
        let message = json!({"role": "assistant", "content": ""});
        choices.push(json!({"index": 0, "message": message, "finish_reason": "content_filter"}));
    }
    if choices.is_empty() {
        return answer;
    }
    let mut completion = head(&answer);
    completion.insert("object".to_owned(), Value::from("chat.completion"));
    completion.insert("choices".to_owned(), Value::Array(choices));
    completion.extend(usage(&answer).map(|usage| ("usage".to_owned(), usage)));
    completion
}

pub(super) fn candidates(answer: &Map<String, Value>) -> &[Value] {
    answer.get("candidates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether the prompt was refused, so that there is no candidate.
pub(super) fn is_blocked(answer: &Map<String, Value>) -> bool {
    let feedback = answer.get("promptFeedback").unwrap_or(&Value::Null);
    candidates(answer).is_empty() && feedback["blockReason"].is_string()
}

/// What the chunks of an answer have in common.
pub(super) fn head(answer: &Map<String, Value>) -> Map<String, Value> {
    let told = [("responseId", "id"), ("modelVersion", "model")];
    let told =
        told.iter().filter_map(|(there, here)| Some(((*here).to_owned(), answer.get(*there)?.clone())));
    told.collect()
}

fn choice((place, candidate): (usize, &Value)) -> Value {
    let said = Said::of(candidate);
    let has_calls = !said.calls.is_empty();
    let finish_reason = finish_reason(candidate, has_calls).unwrap_or("stop");
    let mut message = said.into_fields();
    message.insert("role".to_owned(), Value::from("assistant"));
    let absent = if has_calls { Value::Null } else { Value::from("") };
    message.entry("content").or_insert(absent);
    json!({"index": index(place, candidate), "message": message, "finish_reason": finish_reason})
}

pub(super) fn index(place: usize, candidate: &Value) -> u64 {
    candidate["index"].as_u64().unwrap_or(place as u64)
}

/// What a candidate's parts say.
#[derive(Default)]
pub(super) struct Said {
    text: String,
    thoughts: String,
    images: Vec<Value>,
    pub(super) calls: Vec<Value>,
    /// Of what is no call: the first, as there is one in an answer.
    pub(super) signature: Option<String>,
}

impl Said {
    pub(super) fn of(candidate: &Value) -> Self {
        let mut said = Self::default();
        let parts = candidate["content"]["parts"].as_array();
        parts.into_iter().flatten().for_each(|part| said.add(part));
        said
    }

    fn add(&mut self, part: &Value) {
        let signature = part["thoughtSignature"].as_str().filter(|signature| !signature.is_empty());
        let call = &part["functionCall"];
        if call.is_object() {
            self.calls.push(tool_call(call, signature));
            return;
        }
        if let Some(text) = part["text"].as_str() {
            let is_thought = part["thought"] == true;
            if is_thought { self.thoughts.push_str(text) } else { self.text.push_str(text) }
        }
        let (code, output) = (&part["executableCode"], &part["codeExecutionResult"]);
        if let Some(text) = code["code"].as_str() {
            let language = code["language"].as_str().unwrap_or_default().to_lowercase();
            self.text.push_str(&format!("\n```{language}\n{text}\n```\n"));
        }
        if let Some(text) = output["output"].as_str() {
            self.text.push_str(&format!("\n```\n{text}\n```\n"));
        }
        let (kind, data) = (&part["inlineData"]["mimeType"], &part["inlineData"]["data"]);
        if let (Some(kind), Some(data)) = (kind.as_str(), data.as_str())
            && kind.starts_with("image/")
        {
            let url = format!("data:{kind};base64,{data}");
            self.images.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        self.signature = self.signature.take().or_else(|| signature.map(str::to_owned));
    }

    /// As a message or a delta has them; absent, what is not said.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        let signed = self.signature.as_deref().map(extra_content).unwrap_or_default();
        let fields = [
            ("content", !self.text.is_empty(), Value::from(self.text)),
            ("reasoning_content", !self.thoughts.is_empty(), Value::from(self.thoughts)),
            ("images", !self.images.is_empty(), Value::Array(self.images)),
            ("tool_calls", !self.calls.is_empty(), Value::Array(self.calls)),
            ("extra_content", !signed.is_null(), signed),
        ];
        let said = fields.into_iter().filter(|(_, is_said, _)| *is_said);
        said.map(|(field, _, value)| (field.to_owned(), value)).collect()
    }
}

fn tool_call(call: &Value, signature: Option<&str>) -> Value {
    let arguments = match &call["args"] {
        Value::Null => "{}".to_owned(),
        args => args.to_string(),
    };
    let function = json!({"name": call["name"], "arguments": arguments});
    let mut made = json!({"type": "function", "function": function});
    if let Some(id) = call["id"].as_str().filter(|id| !id.is_empty()) {
        made["id"] = Value::from(id);
    }
    if let Some(signature) = signature {
        made["extra_content"] = extra_content(signature);
    }
    made
}

fn extra_content(signature: &str) -> Value {
    json!({"google": {"thought_signature": signature}})
}

/// OpenAI's word for why a candidate ended
/// (<https://ai.google.dev/api/generate-content#FinishReason>); None while it goes on.
pub(super) fn finish_reason(candidate: &Value, has_calls: bool) -> Option<&'static str> {
    Some(match candidate["finishReason"].as_str()? {
        "FINISH_REASON_UNSPECIFIED" | "" => return None,
        "MAX_TOKENS" => "length",
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" | "OTHER"
        | "NO_IMAGE" => "content_filter",
        word if word.starts_with("IMAGE_") => "content_filter",
        _ if has_calls => "tool_calls",
        _ => "stop",
    })
}

/// The error that a candidate is, whose model wrote what cannot be read: it must not look
/// complete.
pub(super) fn fault(candidate: &Value) -> Option<Value> {
    let reason = candidate["finishReason"].as_str()?;
    let is_fault = reason.starts_with("MALFORMED_")
        || ["UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"].contains(&reason);
    let more = candidate["finishMessage"].as_str().unwrap_or("the model's answer cannot be used");
    is_fault.then(|| json!({"code": 502, "message": format!("{reason}: {more}")}))
}

/// OpenAI's `usage`: thoughts are paid for as output
/// (<https://ai.google.dev/api/generate-content#UsageMetadata>).
pub(super) fn usage(answer: &Map<String, Value>) -> Option<Value> {
    let used = answer.get("usageMetadata")?;
    used.as_object()?.values().find(|count| count.is_u64())?;
    // Some count the output at its end alone; until then nothing is known of it.
    let is_counted =
        count(used, "candidatesTokenCount").or_else(|| count(used, "thoughtsTokenCount")).is_some();
    let candidates = answer.get("candidates").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_under_way = candidates.iter().any(|candidate| candidate["finishReason"].is_null());
    if !is_counted && is_under_way {
        return None;
    }
    let count = |name: &str| count(used, name).unwrap_or(0);
    let input = count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount"));
    let thoughts = count("thoughtsTokenCount");
    let output = count("candidatesTokenCount").saturating_add(thoughts);
    Some(json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": {"cached_tokens": count("cachedContentTokenCount")},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }))
}

pub(super) fn count(used: &Value, name: &str) -> Option<u64> {
    used[name].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_is_billed_for_it() {
        let answer = json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 4}});
        let read = read(answer.as_object().cloned().unwrap_or_default());
        assert_eq!(read["error"]["code"], 502);
        assert_eq!(
            (&read["usage"]["prompt_tokens"], &read["usage"]["completion_tokens"]),
            (&json!(9), &json!(7))
        );
    }
}
