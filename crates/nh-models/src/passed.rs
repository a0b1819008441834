//! Whole answers that go to the client as they came. Most need no mending: of those only as much
//! is read as says so, and what the call cost is put into their usage.

use bytes::{Bytes, BytesMut};
use nh_types::model::Usage;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::provider::Provider;
use crate::usage::Reported;
use crate::{Completion, ModelError};

/// A whole answer, for whoever asked for it.
pub(crate) enum Answer {
    /// As the provider sent it.
    Passed {
        text: Bytes,
        usage: Usage,
        provider: String,
    },
    Mended(Completion),
}

impl Answer {
    pub(crate) fn usage(&self) -> &Usage {
        match self {
            Self::Passed { usage, .. } => usage,
            Self::Mended(completion) => &completion.usage,
        }
    }

    pub(crate) fn into_completion(self) -> Result<Completion, ModelError> {
        match self {
            Self::Mended(completion) => Ok(completion),
            Self::Passed { text, usage, provider } => match serde_json::from_slice(&text) {
                Ok(body) => Ok(Completion { body, usage }),
                Err(error) => {
                    Err(ModelError::Failed { provider, message: format!("its answer is no JSON: {error}") })
                }
            },
        }
    }

    pub(crate) fn into_text(self) -> Bytes {
        match self {
            Self::Passed { text, .. } => text,
            Self::Mended(Completion { body, .. }) => Value::Object(body).to_string().into(),
        }
    }
}

/// An answer that needs no mending.
pub(crate) struct Passed {
    pub(crate) reported: Reported,
    text: Bytes,
    /// Where the object of its usage ends, before the brace; None where its cost is in it already.
    costs_at: Option<usize>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    /// It may be null.
    #[serde(default, rename = "content", deserialize_with = "is_there")]
    has_content: bool,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl Passed {
    /// None where something has to be changed, or is no answer.
    pub(crate) fn of(provider: &Provider, text: &Bytes) -> Option<Self> {
        if !provider.speaks_openai() {
            return None;
        }
        let whole: Whole<'_> = serde_json::from_str(std::str::from_utf8(text).ok()?).ok()?;
        let has_header = [whole.id, whole.object, whole.created, whole.model].iter().all(Option::is_some);
        let choices = whole.choices.as_deref().filter(|choices| !choices.is_empty())?;
        let is_well_formed = |choice: &Choice<'_>| choice.is_well_formed(provider.mends_tool_turns());
        if !has_header || whole.error.is_some() || !choices.iter().all(is_well_formed) {
            return None;
        }
        let told = whole.usage?.get();
        let usage: Value = serde_json::from_str(told).ok()?;
        let reported = provider.reported(&usage)?;
        // Both are of the same text; a reported usage has a field at least.
        let end = told.as_ptr() as usize - text.as_ptr() as usize + told.len() - 1;
        let costs_at = match usage.get("cost") {
            None => Some(end),
            Some(Value::Null) => return None,
            Some(_) => None,
        };
        Some(Self { reported, text: text.clone(), costs_at })
    }

    /// What the client gets. `usage` is what the call used.
    pub(crate) fn told(self, usage: &Usage) -> Bytes {
        let (Some(end), Some(cost_usd)) = (self.costs_at, usage.cost_usd) else { return self.text };
        let cost = format!(",\"cost\":{}", Value::from(cost_usd));
        let mut told = BytesMut::with_capacity(self.text.len() + cost.len());
        told.extend_from_slice(&self.text[..end]);
        told.extend_from_slice(cost.as_bytes());
        told.extend_from_slice(&self.text[end..]);
        told.freeze()
    }
}

impl Choice<'_> {
    fn is_well_formed(&self, mends_tool_turns: bool) -> bool {
        let (Some(_), Some(message)) = (self.index, &self.message) else { return false };
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        let has_ended = self.finish_reason.is_some_and(|reason| {
            let is_mended = mends_tool_turns && !calls.is_empty() && reason.get() == "\"stop\"";
            is_text(reason) && !is_mended
        });
        let is_named = |call: &ToolCall<'_>| call.id.is_some_and(is_text) && call.kind.is_some();
        message.role.is_some() && message.has_content && has_ended && calls.iter().all(is_named)
    }
}

/// A string that is not empty.
fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"') && value.get() != "\"\""
}
