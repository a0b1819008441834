//! Whose turn it is in the queue: the workspaces with ready runs go round in
//! the order of their ids, each with as many runs in a turn as its weight says.

use std::collections::HashMap;

use nh_types::WorkspaceId;

use super::lane::{self, Group};
use crate::StoreError;

/// What a workspace may have of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Runs in a turn, 1 or more.
    pub weight: u32,
    /// Runs under way; None: as many as there are slots.
    pub max_running: Option<u32>,
}

/// The shares that are not as all are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(pub HashMap<WorkspaceId, Share>);

impl Shares {
    pub fn of(&self, workspace_id: &WorkspaceId) -> Share {
        self.0.get(workspace_id).copied().unwrap_or(Share { weight: 1, max_running: None })
    }
}

/// Who had the last turn, and how many runs of it in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub workspace_id: WorkspaceId,
    pub taken: u32,
}

/// A workspace whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) workspace_id: WorkspaceId,
    /// All of its lanes with ready runs.
    pub(super) lanes: Vec<(String, Vec<Group>)>,
}

/// The workspaces of lanes that come in order.
pub(super) fn candidates(lanes: Vec<String>) -> Result<Vec<Candidate>, StoreError> {
    let mut found: Vec<Candidate> = Vec::new();
    for lane in lanes {
        let (workspace_id, groups) = lane::parse(&lane)?;
        match found.last_mut().filter(|last| last.workspace_id == workspace_id) {
            Some(last) => last.lanes.push((lane, groups)),
            None => found.push(Candidate { workspace_id, lanes: vec![(lane, groups)] }),
        }
    }
    Ok(found)
}

/// Where a round begins: with whoever had the last turn if some of it is left,
/// else behind it. Lanes are read after the text.
pub(super) fn start(last: Option<&Turn>, shares: &Shares) -> String {
    let Some(Turn { workspace_id, taken }) = last else { return String::new() };
    match *taken < shares.of(workspace_id).weight {
        true => workspace_id.as_str().chars().take(workspace_id.as_str().len() - 1).collect(),
        false => behind(workspace_id),
    }
}

/// Greater than every lane.
pub(super) const END: &str = "x";

/// Greater than every lane of the workspace, less than those of all after it.
pub(super) fn behind(workspace_id: &WorkspaceId) -> String {
    // `0` comes after `/`.
    format!("{workspace_id}0")
}

/// How many of `free` slots each of the workspaces may have in this turn: by
/// their weights, at least one for each part of a weight that is left.
pub(super) fn quotas(turn: &[Candidate], last: Option<&Turn>, free: u32, shares: &Shares) -> Vec<u32> {
    let weight = |candidate: &Candidate| shares.of(&candidate.workspace_id).weight;
    let all: u32 = turn.iter().map(weight).fold(0, u32::saturating_add);
    let each = (free / all.max(1)).max(1);
    let left = |candidate: &Candidate| {
        let had = last.filter(|last| last.workspace_id == candidate.workspace_id);
        had.map_or(weight(candidate), |last| weight(candidate).saturating_sub(last.taken).max(1))
    };
    turn.iter().map(|candidate| left(candidate).saturating_mul(each)).collect()
}

/// Who had the last turn now: cut short, when no slot was left for more of it.
pub(super) fn after(last: Option<Turn>, of: &WorkspaceId, taken: u32, is_cut: bool, shares: &Shares) -> Turn {
    let weight = shares.of(of).weight;
    let before =
        last.filter(|last| last.workspace_id == *of && last.taken < weight).map_or(0, |last| last.taken);
    let taken = if is_cut { before.saturating_add(taken).min(weight) } else { weight };
    Turn { workspace_id: of.clone(), taken }
}
