use nh_types::run::{RunState, RunType};
use nh_types::{Page, PageRequest, RunId, Timestamp, WorkspaceId};

use super::{EventRow, RunRecord};
use crate::{Store, StoreError};

/// Which runs a list holds; an absent field does not narrow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub state: Option<RunState>,
    pub target: Option<String>,
    pub run_type: Option<RunType>,
    /// Created at this instant or later.
    pub created_after: Option<Timestamp>,
    /// Created before this instant.
    pub created_before: Option<Timestamp>,
}

pub async fn find(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _run_id: RunId,
) -> Result<Option<RunRecord>, StoreError> {
    todo!()
}

/// The journal after `after_seq` (0: from its start), in order.
pub async fn events(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _run_id: RunId,
    _after_seq: i64,
    _limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    todo!()
}

/// Newest first.
pub async fn list(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _filter: &RunFilter,
    _page: &PageRequest,
) -> Result<Page<RunRecord>, StoreError> {
    todo!()
}

/// The unfinished runs of `node` that somebody wants cancelled.
pub async fn cancel_requests(_store: &Store, _node: &str) -> Result<Vec<RunId>, StoreError> {
    todo!()
}

pub async fn count_unfinished(_store: &Store, _workspace_id: &WorkspaceId) -> Result<i64, StoreError> {
    todo!()
}
