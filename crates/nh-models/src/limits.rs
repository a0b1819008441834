//! What the caller's limits let through: which models, how long a prompt, and how many calls at
//! once. Tokens a minute are reserved in the [ledger](crate::ledger).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_types::{ApiError, ErrorCode, KeyId, WorkspaceId};

use crate::{Caller, ModelError};

/// Seconds after which a call may have ended; nobody knows.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Calls under way in this process.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashMap<Owner, i64>>>);

/// Of one key, or of a whole workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner(WorkspaceId, Option<KeyId>);

/// A call's places among those under way, until it is dropped.
pub(crate) struct Turn {
    under_way: UnderWay,
    owners: Vec<Owner>,
}

impl UnderWay {
    /// Of a workspace there may be `of_workspace` at most.
    pub(crate) fn admit(&self, caller: &Caller, of_workspace: Option<i64>) -> Result<Turn, ModelError> {
        let mut turn = Turn { under_way: self.clone(), owners: Vec::new() };
        let key = caller.key_id.zip(caller.limits.max_concurrent);
        let limits =
            key.map(|(id, most)| (Some(id), most)).into_iter().chain(of_workspace.map(|most| (None, most)));
        for (key_id, most) in limits {
            let owner = Owner(caller.workspace_id.clone(), key_id);
            let mut counts = self.counts();
            let count = counts.entry(owner.clone()).or_default();
            if *count >= most {
                drop(counts);
                return Err(too_many(key_id, most));
            }
            *count += 1;
            turn.owners.push(owner);
        }
        Ok(turn)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Owner, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.under_way.counts();
        for owner in &self.owners {
            if let Some(count) = counts.get_mut(owner) {
                *count -= 1;
                if *count <= 0 {
                    counts.remove(owner);
                }
            }
        }
    }
}

fn too_many(key_id: Option<KeyId>, most: i64) -> ModelError {
    let who = key_id.map_or_else(|| "this workspace".to_owned(), |id| format!("key {id}"));
    let message = format!("{who} may have {most} model calls under way at once; wait until one has ended");
    ModelError::Limited(ApiError::new(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER_SECONDS))
}

/// `names` are those of one model.
pub(crate) fn check_model(caller: &Caller, names: &[&str]) -> Result<(), ModelError> {
    if names.iter().any(|name| caller.limits.allows(name)) {
        return Ok(());
    }
    let allowed = caller.limits.models.as_deref().unwrap_or_default().join(", ");
    let named = names.first().copied().unwrap_or_default();
    let message = format!("this key may not ask the model `{named}`; it may ask: {allowed}");
    Err(ModelError::Limited(ApiError::new(ErrorCode::ModelNotAllowed, message).param("model")))
}

pub(crate) fn check_prompt(caller: &Caller, tokens: u64) -> Result<(), ModelError> {
    let Some(most) =
        caller.limits.max_prompt_tokens.filter(|most| u64::try_from(*most).is_ok_and(|most| tokens > most))
    else {
        return Ok(());
    };
    let message =
        format!("the prompt has about {tokens} tokens; with this key it may have {most} at most: shorten it");
    Err(ModelError::Limited(ApiError::new(ErrorCode::PayloadTooLarge, message).param("messages")))
}
