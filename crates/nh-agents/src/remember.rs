//! The steps by which an agent remembers, done: see `agent/recall.rs` for what
//! they are.

use std::time::Duration;

use nh_engine::program::Performing;
use nh_engine::{History, Performed, Step};
use nh_memory::{Author, MemoryError, Query};
use nh_models::Caller;
use nh_store::Once;
use nh_store::memories::Added;
use nh_store::runs::RunRecord;
use nh_types::memory::CreateMemory;
use nh_types::model::Usage;
use nh_types::run::RunError;
use nh_types::{ApiError, ErrorCode, MemoryId};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::agent::recall;
use crate::definition::PinnedAgent;
use crate::memory::{ByProvider, told};
use crate::program::{RunProgram, model_error};
use crate::spending::RunCharges;

/// Memories that are less like the goal than this say nothing about it.
const MIN_SIMILARITY: f64 = 0.25;
const MAX_RECALLED: usize = 20;

/// A run that can go on without is not held up longer.
const RECALL_LIMIT: Duration = Duration::from_secs(10);
const EXTRACT_LIMIT: Duration = Duration::from_secs(60);

impl RunProgram {
    /// Looks up what fits the goal. When that cannot be done the step fails, and
    /// the run goes on without.
    pub(crate) fn recall(
        &self,
        run: &RunRecord,
        charges: &RunCharges,
        pinned: &PinnedAgent,
        step: &Step,
    ) -> Performing {
        let remote = self.remote(run, charges, step);
        let (memories, created_by) = (self.memories.clone(), run.created_by.clone());
        let workspace_id = run.workspace_id.clone();
        let (memory, question) = (pinned.agent.memory.clone(), recall::question(&run.input));
        Box::pin(async move {
            let Some(text) = question else { return Ok(done(json!({"memories": []}), Usage::NONE)) };
            let query = Query {
                text,
                limit: MAX_RECALLED,
                min_similarity: Some(MIN_SIMILARITY),
                namespace: Some(memory.namespace.unwrap_or_else(|| nh_memory::DEFAULT_NAMESPACE.to_owned())),
                filter: None,
            };
            let author =
                Author { workspace_id: &workspace_id, created_by: &created_by, run: None, remote: &remote };
            let hits = within(RECALL_LIMIT, memories.search(author, query)).await?;
            Ok(done(recall::within(hits, memory.max_tokens), remote.spent()))
        })
    }

    /// Asks the model for the facts in the run, and stores them.
    pub(crate) fn extract(
        &self,
        run: &RunRecord,
        charges: &RunCharges,
        pinned: &PinnedAgent,
        history: &History,
        step: &Step,
    ) -> Performing {
        let caller = charges.caller(run, step.idempotency_key(run.id), self.clock.now());
        let body = recall::extraction(pinned, &run.input, history);
        let remote = self.remote(run, charges, step);
        let (program, namespace) = (self.clone(), pinned.agent.memory.namespace.clone());
        let (run_id, created_by, step_id) = (run.id, run.created_by.clone(), step.id.clone());
        Box::pin(async move {
            let (facts, usage) = match timeout(EXTRACT_LIMIT, program.facts(&caller, body)).await {
                Ok(Ok((Ok(facts), usage))) => (facts, usage),
                Ok(Ok((Err(told), usage))) => return Ok(done(json!({"stored": [], "error": told}), usage)),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(late(EXTRACT_LIMIT)),
            };
            let share = usage.cost_usd.map(|usd| usd / facts.len().max(1) as f64);
            let mut stored = Vec::with_capacity(facts.len());
            for content in facts {
                let author = Author {
                    workspace_id: &caller.workspace_id,
                    created_by: &created_by,
                    run: Some((run_id, &step_id)),
                    remote: &remote,
                };
                let metadata = json!({"extracted": true, "cost_usd": share});
                let new = CreateMemory {
                    content: content.clone(),
                    metadata: metadata.as_object().cloned(),
                    namespace: namespace.clone(),
                    expires_at: None,
                };
                let kept = within(EXTRACT_LIMIT, program.keep(author, new)).await;
                stored.push(match kept {
                    Ok((id, is_new)) => {
                        json!({"id": id, "content": content, "new": is_new, "cost_usd": share})
                    }
                    Err(error) => json!({"content": content, "error": error.message, "cost_usd": share}),
                });
            }
            Ok(done(json!({"stored": stored}), usage.plus(remote.spent())))
        })
    }

    async fn facts(
        &self,
        caller: &Caller,
        body: serde_json::Map<String, Value>,
    ) -> Result<(Result<Vec<String>, String>, Usage), RunError> {
        let completion =
            self.models.chat(caller, std::borrow::Cow::Owned(body)).await.map_err(model_error)?;
        let answer = completion.body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        Ok((recall::facts(answer), completion.usage))
    }

    /// What is known already stays as it is: nobody asked for it to be changed.
    async fn keep(&self, author: Author<'_>, new: CreateMemory) -> Result<(MemoryId, bool), MemoryError> {
        let namespace = new.namespace.as_deref();
        if let Some(known) = self.memories.known(author.workspace_id, namespace, &new.content).await? {
            return Ok((known.id, false));
        }
        match self.memories.add(author, new, None).await? {
            Once::First(Added::New { id, .. }) => Ok((id, true)),
            Once::First(Added::Known { id, .. }) => Ok((id, false)),
            _ => Err(ApiError::new(ErrorCode::Conflict, "the workspace's model is being changed").into()),
        }
    }

    fn remote(&self, run: &RunRecord, charges: &RunCharges, step: &Step) -> ByProvider {
        let id = format!("{}:embed", step.idempotency_key(run.id));
        ByProvider::new(self.models.clone(), charges.caller(run, id, self.clock.now()))
    }
}

fn done(output: Value, usage: Usage) -> Performed {
    Performed { output, usage }
}

/// What is the memory's trouble is told, and holds up the run for so long at most.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, MemoryError>>,
) -> Result<T, RunError> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| refused(told(error))),
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> RunError {
    RunError::new("timeout", format!("It took longer than {} s.", limit.as_secs()))
}

fn refused(error: ApiError) -> RunError {
    RunError::new(error.code.as_str(), error.message)
}
