//! A streamed answer as OpenAI's chunks: each event is a whole answer with what is new
//! (<https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent>).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{Said, candidates, fault, finish_reason, head, index, is_blocked, usage};

#[derive(Default)]
pub(crate) struct Events {
    /// By their indexes, the candidates so far.
    choices: BTreeMap<u64, Choice>,
}

#[derive(Default)]
struct Choice {
    calls: usize,
    is_signed: bool,
}

impl Events {
    /// What an event says, as the data of OpenAI's frames. An error goes on as it is, and so
    /// does what makes no sense, to be refused there.
    pub(crate) fn frames(&mut self, event: &str) -> Vec<String> {
        let Ok(Value::Object(answer)) = serde_json::from_str(event) else { return vec![event.to_owned()] };
        if answer.get("error").is_some_and(|error| !error.is_null()) {
            return vec![event.to_owned()];
        }
        let candidates = candidates(&answer);
        let mut choices: Vec<Value> =
            candidates.iter().enumerate().filter_map(|one| self.choice(one)).collect();
        if is_blocked(&answer) {
            choices.push(json!({"index": 0, "delta": {"content": ""}, "finish_reason": "content_filter"}));
        }
        let mut chunk = head(&answer);
        chunk.insert("choices".to_owned(), Value::Array(choices));
        // It grows from event to event, and the last one counts.
        chunk.extend(usage(&answer).map(|usage| ("usage".to_owned(), usage)));
        let error = candidates.iter().find_map(fault).map(|error| json!({"error": error}).to_string());
        std::iter::once(Value::Object(chunk).to_string()).chain(error).collect()
    }

    /// None where nothing is new.
    fn choice(&mut self, (place, candidate): (usize, &Value)) -> Option<Value> {
        let index = index(place, candidate);
        let choice = self.choices.entry(index).or_default();
        let mut said = Said::of(candidate);
        for call in &mut said.calls {
            call["index"] = Value::from(choice.calls);
            choice.calls += 1;
        }
        // Pieces of a field are joined by who reads them, and a second signature would be too.
        if said.signature.is_some() && std::mem::replace(&mut choice.is_signed, true) {
            said.signature = None;
        }
        // A fault has no end but the error behind it.
        let is_sound = fault(candidate).is_none();
        let finish_reason = finish_reason(candidate, choice.calls > 0).filter(|_| is_sound);
        let delta = said.into_fields();
        let is_new = !delta.is_empty() || finish_reason.is_some();
        is_new.then(|| json!({"index": index, "delta": delta, "finish_reason": finish_reason}))
    }
}
