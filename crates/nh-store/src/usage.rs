//! What model calls used: one row a call.

use nh_types::model::Usage;
use nh_types::{KeyId, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Tx, Write};

/// What kind of model call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    Chat,
    Embeddings,
}

impl UsageKind {
    pub const EVERY: [UsageKind; 2] = [UsageKind::Chat, UsageKind::Embeddings];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}

/// One model call.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    pub workspace_id: WorkspaceId,
    pub at: Timestamp,
    pub key_id: Option<KeyId>,
    pub run_id: Option<RunId>,
    pub provider: String,
    pub model: String,
    pub kind: UsageKind,
    pub usage: Usage,
    /// The provider did not say, so the tokens are a guess from the sizes.
    pub estimated: bool,
}

/// One statement for many calls; rows of several workspaces may be mixed.
#[derive(Clone, Debug)]
pub struct RecordMany(pub Vec<UsageRow>);

impl Write for RecordMany {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}

/// The sum over one provider's model.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageTotal {
    pub provider: String,
    pub model: String,
    pub kind: UsageKind,
    pub calls: i64,
    /// Calls whose tokens are a guess.
    pub estimated_calls: i64,
    /// Its cost is unknown when that of one call is.
    pub usage: Usage,
}

/// What the workspace used at `since` or later, by provider and model.
pub async fn totals(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _since: Timestamp,
) -> Result<Vec<UsageTotal>, StoreError> {
    todo!()
}
