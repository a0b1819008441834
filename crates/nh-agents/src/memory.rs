//! Memory on behalf of requests and runs: a provider's models embed on their
//! account, and the local model serves the gateway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use nh_memory::{Memories, MemoryError, Remote};
use nh_models::{CacheUse, Caller, Charge, Embedded, LocalEmbedder, Models};
use nh_types::key::ModelLimits;
use nh_types::model::Usage;
use nh_types::{ApiError, ErrorCode, WorkspaceId};
use serde_json::{Map, Value};

use crate::Hub;

/// How long what is done in the background waits for calls under way: shorter than it may keep
/// its work from other nodes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries of one request to a provider, and the longest pause between two that it
/// may ask for.
const TRIES: u32 = 3;
const RETRY_MAX_SECONDS: u64 = 5;

/// Embeds by the gateway's providers, on the caller's account.
pub struct ByProvider {
    models: Models,
    caller: Caller,
    /// Requests so far: each has a reservation of its own.
    asked: AtomicU64,
    spent: Mutex<Usage>,
}

impl ByProvider {
    pub fn new(models: Models, caller: Caller) -> Self {
        Self { models, caller, asked: AtomicU64::new(0), spent: Mutex::new(Usage::NONE) }
    }

    /// What its answers cost so far.
    pub fn spent(&self) -> Usage {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, usage: Usage) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = spent.plus(usage);
    }

    fn caller(&self) -> Caller {
        let mut caller = self.caller.clone();
        if let Some(charge) = &mut caller.charge {
            charge.id = format!("{}:{}", charge.id, self.asked.fetch_add(1, Ordering::Relaxed));
        }
        caller
    }

    /// On the workspace's account alone, for what is done in the background.
    pub fn of_workspace(hub: &Hub, workspace_id: &WorkspaceId) -> Box<dyn Remote> {
        let (workspace_id, ledger) = (workspace_id.clone(), hub.ledger.clone());
        let accounts = ledger.workspace_accounts();
        let charge = (!accounts.is_empty()).then(|| Charge {
            is_of_many: false,
            ledger,
            workspace_id: workspace_id.clone(),
            id: format!("embedding:{}", hub.ids.uuid_v7(hub.clock.now())),
            accounts,
            patience: PATIENCE,
        });
        let caller = Caller {
            workspace_id,
            key_id: None,
            run_id: None,
            agent: None,
            limits: ModelLimits::default(),
            cache: CacheUse::default(),
            charge,
        };
        Box::new(Self::new(hub.models.clone(), caller))
    }
}

impl Remote for ByProvider {
    fn embed<'a>(
        &'a self,
        model: &'a str,
        texts: Vec<String>,
    ) -> BoxFuture<'a, Result<Vec<Vec<f32>>, ApiError>> {
        Box::pin(async move {
            let body = Map::from_iter([
                ("model".to_owned(), Value::from(model)),
                ("input".to_owned(), Value::from(texts)),
                ("encoding_format".to_owned(), Value::from("base64")),
            ]);
            let (caller, mut tries) = (self.caller(), 1);
            loop {
                let error = match self.models.embeddings(&caller, body.clone()).await {
                    Ok(answer) => {
                        self.spend(answer.usage);
                        return vectors(&answer.body).ok_or_else(|| unreadable(model));
                    }
                    Err(error) => error,
                };
                let seconds = error.retry_after_seconds().unwrap_or(1);
                if !error.is_retryable() || tries >= TRIES || seconds > RETRY_MAX_SECONDS {
                    return Err(error.into());
                }
                tracing::warn!(%error, tries, "an embedding is tried again");
                tokio::time::sleep(Duration::from_secs(seconds * u64::from(tries))).await;
                tries += 1;
            }
        })
    }
}

/// In the order of the texts, whatever the order of the answer.
fn vectors(answer: &Map<String, Value>) -> Option<Vec<Vec<f32>>> {
    let mut items: Vec<(u64, Vec<f32>)> = answer
        .get("data")?
        .as_array()?
        .iter()
        .map(|item| {
            let bytes = STANDARD.decode(item["embedding"].as_str()?).ok()?;
            let (words, rest) = bytes.as_chunks::<4>();
            let vector = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            rest.is_empty().then_some((item["index"].as_u64()?, vector))
        })
        .collect::<Option<_>>()?;
    items.sort_by_key(|(index, _)| *index);
    Some(items.into_iter().map(|(_, vector)| vector).collect())
}

fn unreadable(model: &str) -> ApiError {
    ApiError::new(ErrorCode::UpstreamError, format!("`{model}` answered with no embeddings"))
}

/// The local model, for `POST /v1/embeddings`.
pub struct InProcess(pub Memories);

impl LocalEmbedder for InProcess {
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedded>, ApiError>> {
        Box::pin(self.0.embed_locally(texts))
    }
}

/// What a tool or a step is told of an error; the log has the cause of one that
/// is the hub's own.
pub(crate) fn told(error: MemoryError) -> ApiError {
    match error {
        MemoryError::Refused(error) => error,
        MemoryError::Store(error) => {
            tracing::error!(%error, "a run could not reach its memories");
            ApiError::new(ErrorCode::ComponentUnavailable, "the store cannot be reached at present")
        }
    }
}
