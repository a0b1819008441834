//! What the tests begin with.

use nh_store::Store;
use nh_store::runs::{Apart, Append, EventRow, Insert, RunChange, RunEnding, RunRecord, Then};
use nh_store::workspaces::{self, Workspace};
use nh_testkit::{SeededIds, TestStore};
use nh_types::agent::AgentDefinition;
use nh_types::model::Usage;
use nh_types::run::{RunState, RunType};
use nh_types::{RunId, Scope, ScopeSet, Timestamp, WorkspaceId};
use serde_json::json;

/// The time in the API reference's examples.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_770_379_200_000);

pub(crate) fn later(ms: i64) -> Timestamp {
    NOW.plus_millis(ms)
}

pub(crate) fn has_leases(store: &TestStore) -> bool {
    store.store().is_shared()
}

/// A new workspace; the name gives the id too.
pub(crate) async fn workspace(store: &Store, name: &str) -> WorkspaceId {
    let seed = name.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let id = WorkspaceId::generate(&SeededIds::new(seed));
    let workspace = Workspace { id: id.clone(), name: name.to_owned(), created_at: NOW };
    let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
    store.write(create).await.expect("a workspace");
    id
}

/// The `number`th run's id: greater numbers are newer.
pub(crate) fn run_id(number: u64) -> RunId {
    RunId(uuid::Uuid::from_u64_pair(0x0197_0000_0000_7000 | (number << 16), 0x8000_0000_0000_0000))
}

pub(crate) fn run(workspace_id: &WorkspaceId, number: u64) -> RunRecord {
    RunRecord {
        id: run_id(number),
        workspace_id: workspace_id.clone(),
        target: "agent_default".to_owned(),
        run_type: RunType::Agent,
        state: RunState::Pending,
        input: json!({"goal": "What is 17 * 23? \u{1F9EE} \u{0}"}),
        definition: json!({"tools": ["*"]}),
        scopes: [Scope::RunWrite].into_iter().collect::<ScopeSet>(),
        created_by: "key:1".to_owned(),
        result: None,
        error: None,
        usage: Usage::NONE,
        metadata: json!({"a": 1}).as_object().cloned().expect("an object"),
        created_at: later(number as i64),
        started_at: None,
        finished_at: None,
        deadline_at: None,
        owner: None,
        epoch: 0,
        cancel_requested: false,
        last_seq: 0,
        priority: 0,
        ready: true,
        wake_at: None,
        timeout_ms: None,
        parent: None,
        signals: 0,
        groups: Vec::new(),
        thread: None,
        apart: Apart::default(),
        webhook_url: None,
    }
}

pub(crate) fn event(seq: i64) -> EventRow {
    EventRow { seq, kind: "step.completed".to_owned(), at: later(seq), data: json!({"step": seq}).into() }
}

pub(crate) fn insert(run: RunRecord) -> Insert {
    Insert::new(run, vec![EventRow { kind: "run.created".to_owned(), ..event(1) }])
}

/// An append of the events `from..=to`, RUNNING.
pub(crate) fn append(run: &RunRecord, epoch: i64, from: i64, to: i64) -> Append {
    Append {
        run_id: run.id,
        workspace_id: run.workspace_id.clone(),
        epoch,
        events: (from..=to).map(event).collect(),
        took: Vec::new(),
        children: Vec::new(),
        large: Vec::new(),
        gone: Vec::new(),
        change: RunChange { state: RunState::Running, started_at: Some(later(1)), then: Then::GoOn },
    }
}

pub(crate) fn ending() -> RunEnding {
    RunEnding {
        finished_at: later(9),
        result: Some(json!("391")),
        error: None,
        usage: Usage { input_tokens: 7, output_tokens: 2, cost_usd: None, ..Usage::NONE },
        tells: None,
        cancels_children: false,
        thread_id: None,
        webhook_url: None,
    }
}
