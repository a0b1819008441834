//! What the client gets for each frame of the provider.

use bytes::BytesMut;
use nh_types::SharedIds;
use nh_types::model::Usage;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::chunk::{Choice, Chunk};
use super::form::Form;
use crate::chat::{call_id, estimated_usage, finish_reason, put_cost, put_if_absent};

/// More choices or calls than these are a provider's nonsense.
const MAX_CHOICES: usize = 128;
const MAX_CALLS: usize = 1_024;
const MAX_NAME_BYTES: usize = 256;

/// What every chunk of an answer has in common, until the provider says it.
pub(crate) struct Header {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) wants_usage: bool,
    pub(crate) mends_tool_turns: bool,
}

/// Why a stream cannot go on.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// The provider's error object.
    Told(Value),
    /// What came makes no sense, or ended too soon.
    Broken(String),
}

/// What one frame told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// `[DONE]`.
    pub(crate) done: bool,
    pub(crate) usage: Option<Value>,
    pub(crate) output_bytes: usize,
}

#[derive(Default)]
struct ChoiceState {
    has_role: bool,
    is_finished: bool,
    /// The ids of the calls so far, for providers that give no index.
    calls: Vec<String>,
    has_calls: bool,
}

/// Follows one stream.
pub(crate) struct Shaper {
    header: Header,
    ids: SharedIds,
    /// The provider's own `id` and `created`, as JSON, once it said them.
    told_id: Option<Box<str>>,
    told_created: Option<Box<str>>,
    choices: Vec<ChoiceState>,
    usage: Option<Value>,
    /// Of the last chunk that went out as it came.
    form: Option<Form>,
}

impl Shaper {
    pub(crate) fn new(header: Header, ids: SharedIds) -> Self {
        Self { header, ids, told_id: None, told_created: None, choices: Vec::new(), usage: None, form: None }
    }

    /// Takes the data of one frame and appends what the client gets to `out`.
    pub(crate) fn frame(&mut self, data: &str, out: &mut BytesMut) -> Result<Told, Fault> {
        let data = data.trim();
        if data == "[DONE]" {
            return Ok(Told { done: true, ..Told::default() });
        }
        if data.is_empty() {
            return Ok(Told::default());
        }
        if let Some(output_bytes) = self.form.as_ref().and_then(|form| form.output_bytes(data)) {
            pass_on(data, out);
            return Ok(Told { output_bytes, ..Told::default() });
        }
        if !data.contains('\n')
            && let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data)
            && let Some(told) = self.pass(&chunk)
        {
            self.form = Form::of(data, &chunk);
            pass_on(data, out);
            return Ok(told);
        }
        self.mend(data, out)
    }

    /// The short way: Some when the chunk can go out as it came.
    fn pass(&mut self, chunk: &Chunk<'_>) -> Option<Told> {
        let is_plain = chunk.error.is_none() && chunk.usage.is_none() && chunk.model.is_some();
        let (id, created, choices) = (chunk.id?, chunk.created?, chunk.choices.as_ref()?);
        if !is_plain || chunk.object?.get() != "\"chat.completion.chunk\"" || choices.is_empty() {
            return None;
        }
        if !is_same(&mut self.told_id, id) || !is_same(&mut self.told_created, created) {
            return None;
        }
        if !choices.iter().all(|choice| self.is_well_formed(choice)) {
            return None;
        }
        let mut output_bytes = 0;
        for choice in choices {
            let (Some(delta), Some(index)) = (&choice.delta, choice.index) else { return None };
            let state = &mut self.choices[index as usize];
            state.has_calls |= delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
            state.is_finished |= choice.finish_reason.is_some();
            output_bytes += delta.output_bytes();
        }
        Some(Told { output_bytes, ..Told::default() })
    }

    /// Whether nothing of a choice must be changed. The first of each is sent
    /// through the mending, which learns the role.
    fn is_well_formed(&self, choice: &Choice<'_>) -> bool {
        let Some(state) = choice.index.and_then(|index| self.choices.get(index as usize)) else {
            return false;
        };
        let Some(delta) = &choice.delta else { return false };
        let has_calls = delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        let calls_go_on = delta.tool_calls.iter().flatten().all(|call| {
            let is_known = call.index.is_some_and(|index| (index as usize) < state.calls.len());
            is_known
                && call.id.is_none()
                && call.function.as_ref().is_none_or(|function| function.name.is_none())
        });
        let is_mended_finish = choice.finish_reason.is_some_and(|reason| {
            reason.get() == "\"\""
                || (self.header.mends_tool_turns
                    && reason.get() == "\"stop\""
                    && (state.has_calls || has_calls))
        });
        state.has_role && delta.role.is_none_or(is_assistant) && calls_go_on && !is_mended_finish
    }

    /// The long way: takes the chunk apart and puts it together again.
    fn mend(&mut self, data: &str, out: &mut BytesMut) -> Result<Told, Fault> {
        let Ok(Value::Object(mut chunk)) = serde_json::from_str(data) else {
            let shown: String = data.chars().take(80).collect();
            return Err(Fault::Broken(format!("a frame of its stream is not a JSON object: {shown}")));
        };
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            return Err(Fault::Told(error));
        }
        let mut told =
            Told { usage: chunk.remove("usage").filter(|usage| !usage.is_null()), ..Told::default() };
        self.usage = told.usage.clone().or_else(|| self.usage.take());
        let has_choices =
            chunk.get("choices").and_then(Value::as_array).is_some_and(|choices| !choices.is_empty());
        if !has_choices {
            return Ok(told);
        }
        self.mend_header(&mut chunk);
        if let Some(choices) = chunk.get_mut("choices").and_then(Value::as_array_mut) {
            choices.retain(Value::is_object);
            for (place, choice) in choices.iter_mut().filter_map(Value::as_object_mut).enumerate() {
                told.output_bytes += self.mend_choice(place, choice)?;
            }
        }
        write(out, &chunk);
        Ok(told)
    }

    fn mend_header(&mut self, chunk: &mut Map<String, Value>) {
        if self.told_id.is_none()
            && let Some(id) = chunk.get("id").and_then(Value::as_str).filter(|id| is_name(id))
        {
            self.header.id = id.to_owned();
        }
        if self.told_created.is_none()
            && let Some(created) = chunk.get("created").and_then(Value::as_i64)
        {
            self.header.created = created;
        }
        self.told_id = Some(Value::from(self.header.id.as_str()).to_string().into());
        self.told_created = Some(self.header.created.to_string().into());
        chunk.insert("id".to_owned(), Value::from(self.header.id.as_str()));
        chunk.insert("object".to_owned(), Value::from("chat.completion.chunk"));
        chunk.insert("created".to_owned(), Value::from(self.header.created));
        match chunk.get("model").and_then(Value::as_str).filter(|model| is_name(model)) {
            Some(model) => self.header.model = model.to_owned(),
            None => {
                chunk.insert("model".to_owned(), Value::from(self.header.model.as_str()));
            }
        }
    }

    fn mend_choice(&mut self, place: usize, choice: &mut Map<String, Value>) -> Result<usize, Fault> {
        put_if_absent(choice, "index", || Value::from(place));
        let index = choice.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index.filter(|index| *index < MAX_CHOICES) else {
            return Err(Fault::Broken("a choice of its stream has no sensible index".to_owned()));
        };
        while self.choices.len() <= index {
            self.choices.push(ChoiceState::default());
        }
        let (state, ids) = (&mut self.choices[index], &self.ids);
        put_if_absent(choice, "delta", || json!({}));
        let mut output_bytes = 0;
        if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
            if !std::mem::replace(&mut state.has_role, true) {
                put_if_absent(delta, "role", || Value::from("assistant"));
            }
            state.mend_calls(delta, ids)?;
            output_bytes = written_bytes(delta);
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned);
        let mended = match reason.as_deref() {
            None => None,
            Some("") => Some(Value::Null),
            Some("stop") if state.has_calls && self.header.mends_tool_turns => {
                Some(Value::from("tool_calls"))
            }
            Some(_) => None,
        };
        state.is_finished |= reason.is_some_and(|reason| !reason.is_empty());
        match mended {
            Some(mended) => choice.insert("finish_reason".to_owned(), mended),
            None => choice.insert(
                "finish_reason".to_owned(),
                choice.get("finish_reason").cloned().unwrap_or(Value::Null),
            ),
        };
        Ok(output_bytes)
    }

    /// Whether the provider said of all that it began that it ended.
    pub(crate) fn has_finished(&self) -> bool {
        let mut begun = self.choices.iter().filter(|choice| choice.has_role).peekable();
        begun.peek().is_some() && begun.all(|choice| choice.is_finished)
    }

    /// The end of the stream, with `[DONE]` or without. `known` is what to say of the usage when
    /// the provider said nothing, and of its cost.
    pub(crate) fn finish(&mut self, was_done: bool, known: &Usage, out: &mut BytesMut) -> Result<(), Fault> {
        let seen = self.choices.iter().filter(|choice| choice.has_role).count();
        let unfinished = self.choices.iter().any(|choice| choice.has_role && !choice.is_finished);
        if seen == 0 {
            return Err(Fault::Broken("its stream ended without an answer".to_owned()));
        }
        if unfinished && !was_done {
            return Err(Fault::Broken("its stream ended in the middle of the answer".to_owned()));
        }
        for index in 0..self.choices.len() {
            let choice = &self.choices[index];
            if choice.has_role && !choice.is_finished {
                let reason = finish_reason(choice.has_calls);
                let choices = json!([{"index": index, "delta": {}, "finish_reason": reason}]);
                write(out, &self.chunk(choices));
            }
        }
        if self.header.wants_usage {
            let guess = || estimated_usage(known.input_tokens, known.output_tokens);
            let mut usage = self.usage.take().unwrap_or_else(guess);
            put_cost(&mut usage, known);
            let mut chunk = self.chunk(json!([]));
            chunk.insert("usage".to_owned(), usage);
            write(out, &chunk);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }

    /// A chunk of the hub's own.
    fn chunk(&self, choices: Value) -> Map<String, Value> {
        Map::from_iter([
            ("id".to_owned(), Value::from(self.header.id.as_str())),
            ("object".to_owned(), Value::from("chat.completion.chunk")),
            ("created".to_owned(), Value::from(self.header.created)),
            ("model".to_owned(), Value::from(self.header.model.as_str())),
            ("choices".to_owned(), choices),
        ])
    }
}

impl ChoiceState {
    /// Gives each call its `index`, and the first piece of each its `id` and
    /// `type`. Some leave the index out and send calls whole; a call without
    /// an id goes on with the one before, unless it names a function again.
    fn mend_calls(&mut self, delta: &mut Map<String, Value>, ids: &SharedIds) -> Result<(), Fault> {
        let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) else { return Ok(()) };
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            self.has_calls = true;
            let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
            let names = call
                .get("function")
                .and_then(|function| function.get("name")?.as_str())
                .is_some_and(|name| !name.is_empty());
            let given =
                call.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
            // Some give every call the index 0.
            let is_another = |given: &usize| {
                let known = self.calls.get(*given).filter(|known| !known.is_empty());
                known.zip(id.as_ref()).is_some_and(|(known, id)| known != id)
            };
            let given = given.filter(|given| !is_another(given));
            let index = given.unwrap_or_else(|| self.place_of(id.as_deref(), names));
            if index >= MAX_CALLS {
                return Err(Fault::Broken(format!("its stream has more than {MAX_CALLS} tool calls")));
            }
            while self.calls.len() <= index {
                self.calls.push(String::new());
            }
            if self.calls[index].is_empty() {
                let id = id.unwrap_or_else(|| call_id(ids));
                call.insert("id".to_owned(), Value::from(id.as_str()));
                put_if_absent(call, "type", || Value::from("function"));
                self.calls[index] = id;
            }
            call.insert("index".to_owned(), Value::from(index));
        }
        Ok(())
    }

    fn place_of(&self, id: Option<&str>, names: bool) -> usize {
        match id {
            Some(id) => self.calls.iter().position(|one| one == id).unwrap_or(self.calls.len()),
            None if names => self.calls.len(),
            None => self.calls.len().saturating_sub(1),
        }
    }
}

/// What a model wrote, as [`Delta::output_bytes`](super::chunk::Delta::output_bytes) counts it.
fn written_bytes(delta: &Map<String, Value>) -> usize {
    let size = |value: Option<&Value>| value.and_then(Value::as_str).map_or(0, str::len);
    let calls = delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let called =
        calls.map(|call| size(call.pointer("/function/name")) + size(call.pointer("/function/arguments")));
    size(delta.get("content"))
        + size(delta.get("refusal"))
        + size(delta.get("reasoning_content")).max(size(delta.get("reasoning")))
        + called.sum::<usize>()
}

/// It is repeated in every chunk.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
}

fn is_same(told: &mut Option<Box<str>>, now: &RawValue) -> bool {
    told.as_deref() == Some(now.get())
}

fn is_assistant(role: &RawValue) -> bool {
    role.get() == "\"assistant\""
}

fn pass_on(data: &str, out: &mut BytesMut) {
    out.reserve(data.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn write(out: &mut BytesMut, chunk: &Map<String, Value>) {
    out.extend_from_slice(b"data: ");
    if let Ok(text) = serde_json::to_vec(chunk) {
        out.extend_from_slice(&text);
    }
    out.extend_from_slice(b"\n\n");
}
