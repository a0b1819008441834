//! Answers that are given again: to a request that is the same to the letter, of the same
//! workspace, where the caller asks for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nh_store::Store;
use nh_store::answers::{self, Keep, Kept};
use nh_store::usage::{UsageKind, UsageRow};
use nh_types::model::Usage;
use nh_types::{SharedClock, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::catalogue::is_id;
use crate::limits::check_prompt;
use crate::settings::CacheSettings;
use crate::usage::{UsageSink, prompt_tokens};
use crate::{Caller, Completion, ModelError};

/// In the ledger, of what is given again.
const PROVIDER: &str = "cache";
/// A longer one is not kept.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// So long the store may take to say whether an answer is kept, and so long an answer waits until
/// it is. The store does what it was asked to later all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// What does not change the answer.
const NOT_OF_ANSWER: [&str; 2] = ["stream", "stream_options"];
/// An answer that was cut off, or not given, is not given again.
const WHOLE: [&str; 2] = ["stop", "tool_calls"];

/// What a caller wants of kept answers, and whether one was given.
#[derive(Clone, Debug, Default)]
pub struct CacheUse {
    seconds: Option<u64>,
    told: Arc<OnceLock<CacheTold>>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheTold {
    /// The answer was made then.
    Hit(Timestamp),
    Miss,
}

impl CacheUse {
    /// For so many seconds answers are kept; 0: none is given or kept; absent: as the
    /// configuration says.
    pub fn of(seconds: Option<u64>) -> Self {
        Self { seconds, told: Arc::default() }
    }

    /// None: nothing was looked for.
    pub fn told(&self) -> Option<CacheTold> {
        self.told.get().copied()
    }

    fn tell(&self, told: CacheTold) {
        self.told.get_or_init(|| told);
    }
}

/// What is kept, and for how long.
#[derive(Clone)]
pub struct ResponseCache {
    store: Store,
    clock: SharedClock,
    settings: CacheSettings,
}

/// A request that may be answered so, and whose answer is kept.
#[derive(Clone)]
pub(crate) struct Question {
    cache: Arc<ResponseCache>,
    caller: Caller,
    request: [u8; 32],
    /// Where the caller's prompts have a limit.
    prompt_tokens: Option<u64>,
    keep_seconds: u64,
}

impl ResponseCache {
    pub fn new(store: Store, clock: SharedClock, settings: CacheSettings) -> Self {
        Self { store, clock, settings }
    }

    /// None where the caller wants nothing of it.
    pub(crate) fn question(self: &Arc<Self>, caller: &Caller, body: &Map<String, Value>) -> Option<Question> {
        let keep_seconds =
            caller.cache.seconds.or(self.settings.ttl_seconds).filter(|seconds| *seconds > 0)?;
        // A run goes on from what its journal holds.
        if caller.run_id.is_some() {
            return None;
        }
        let prompt_tokens = caller.limits.max_prompt_tokens.map(|_| prompt_tokens(body));
        let (request, caller) = (digest(body), caller.clone());
        Some(Question { cache: self.clone(), caller, request, prompt_tokens, keep_seconds })
    }
}

impl Question {
    /// What cannot be read is not there. An error where the caller may not ask this.
    pub(crate) async fn answer(&self, sink: &UsageSink) -> Result<Option<Completion>, ModelError> {
        if let Some(tokens) = self.prompt_tokens {
            check_prompt(&self.caller, tokens)?;
        }
        let ResponseCache { store, clock, .. } = &*self.cache;
        let find = answers::find(store, &self.caller.workspace_id, &self.request, clock.now());
        let kept = match timeout(PATIENCE, find).await {
            Ok(found) => found.unwrap_or_else(|error| not_there(&error)),
            Err(too_late) => not_there(&too_late),
        };
        let read = |kept: Kept| Some((serde_json::from_str::<Map<String, Value>>(&kept.answer).ok()?, kept));
        let Some((mut body, kept)) = kept.and_then(read) else {
            self.caller.cache.tell(CacheTold::Miss);
            return Ok(None);
        };
        if let Some(Value::Object(usage)) = body.get_mut("usage") {
            usage.insert("cost".to_owned(), Value::from(0.0));
            usage.extend(kept.cost_usd.map(|usd| ("cost_saved".to_owned(), Value::from(usd))));
        }
        let usage = Usage { cost_usd: Some(0.0), ..Usage::NONE };
        let row = UsageRow {
            workspace_id: self.caller.workspace_id.clone(),
            at: clock.now(),
            key_id: self.caller.key_id,
            run_id: None,
            agent: None,
            provider: PROVIDER.to_owned(),
            model: body
                .get("model")
                .and_then(Value::as_str)
                .filter(|id| is_id(id))
                .unwrap_or_default()
                .to_owned(),
            kind: UsageKind::Chat,
            usage,
            estimated: false,
            saved_usd: kept.cost_usd,
        };
        sink.reserve().await?.record(Some(row), None);
        self.caller.cache.tell(CacheTold::Hit(kept.created_at));
        Ok(Some(Completion { body, usage }))
    }

    /// An answer that is whole is kept; that it cannot be is told in the log alone.
    pub(crate) async fn keep(&self, completion: &Completion) {
        let choices = completion.body.get("choices").and_then(Value::as_array);
        let is_whole =
            |choice: &Value| choice["finish_reason"].as_str().is_some_and(|reason| WHOLE.contains(&reason));
        if choices.is_none_or(|choices| choices.is_empty() || !choices.iter().all(is_whole)) {
            return;
        }
        let Ok(answer) = serde_json::to_string(&completion.body) else { return };
        if answer.len() > MAX_ANSWER_BYTES {
            return;
        }
        let ResponseCache { store, clock, settings } = &*self.cache;
        let created_at = clock.now();
        let seconds = i64::try_from(self.keep_seconds).unwrap_or(i64::MAX);
        let keep = Keep {
            workspace_id: self.caller.workspace_id.clone(),
            request: self.request,
            kept: Kept { answer, cost_usd: completion.usage.cost_usd, created_at },
            expires_at: created_at.plus_millis(seconds.saturating_mul(1_000)),
            most: settings.max_entries,
        };
        match timeout(PATIENCE, store.write(keep)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an answer could not be kept"),
            Err(_too_late) => tracing::warn!("the store is slow: an answer is given before it is kept"),
        }
    }
}

fn not_there(error: &impl std::fmt::Display) -> Option<Kept> {
    tracing::warn!(%error, "kept answers could not be read");
    None
}

/// Of all that may change the answer, whatever the order of its fields.
fn digest(body: &Map<String, Value>) -> [u8; 32] {
    let mut hash = Sha256::new();
    put_fields(&mut hash, body.iter().filter(|(field, _)| !NOT_OF_ANSWER.contains(&field.as_str())));
    hash.finalize().into()
}

/// As JSON has it, with the fields of each object in order.
fn put(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => put_fields(hash, fields.iter()),
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                put(hash, item);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

fn put_fields<'v>(hash: &mut Sha256, fields: impl Iterator<Item = (&'v String, &'v Value)>) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(field, _)| *field);
    hash.update(b"{");
    for (field, value) in fields {
        hash.update(Value::from(field.as_str()).to_string());
        hash.update(b":");
        put(hash, value);
        hash.update(b",");
    }
    hash.update(b"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_the_same_whatever_the_order_of_their_fields() {
        let of = |value: Value| digest(value.as_object().expect("an object"));
        let one = of(json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}));
        assert_eq!(one, of(json!({"messages": [{"content": "x", "role": "user"}], "model": "m"})));
        for other in [
            json!({"model": "m", "messages": [{"role": "user", "content": "x "}]}),
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0}),
            json!({"model": "m", "messages": [{"role": "user", "content": ["x"]}]}),
            json!({"model": "m", "messages": ["x"]}),
        ] {
            assert_ne!(one, of(other));
        }
        assert_ne!(of(json!({"a": [["b"], "c"]})), of(json!({"a": ["b", ["c"]]})));
        assert_ne!(of(json!({"a": "1"})), of(json!({"a": 1})));
    }
}
