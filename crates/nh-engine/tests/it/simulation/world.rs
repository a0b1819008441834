//! What is outside of all processes and outlives them: the time, what tools
//! did, what was asked and answered, and the trace of all that happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use futures_util::FutureExt;
use nh_engine::Step;
use nh_store::runs::{self, CancelOutcome, EventRow, Group, RunFilter, RunRecord};
use nh_store::{Store, StoreError, nodes};
use nh_types::{PageRequest, RunId, WorkspaceId};
use serde_json::Value;

use super::plan::has_child;

/// What a tool did for one idempotency key.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// The machines and nodes that are at it.
    under_way: Vec<(usize, Option<String>)>,
}

/// What was asked of a run, whether or not an answer came.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) cancels: Vec<Option<CancelOutcome>>,
    /// By the signals' names: what they said.
    pub(super) signals: BTreeMap<String, Vec<i64>>,
    /// By the steps: how often each was approved and denied.
    pub(super) approved: BTreeMap<String, u64>,
    pub(super) denied: BTreeMap<String, u64>,
}

#[derive(Default)]
pub(super) struct Facts {
    pub(super) effects: BTreeMap<String, Effect>,
    pub(super) asked: BTreeMap<RunId, Asked>,
    pub(super) crashes: u64,
    /// Nodes whose leases were seen alive, and those whose leases have ended
    /// since: such a process may go on for a while with what it has lost.
    live: BTreeSet<String>,
    pub(super) lapsed: BTreeSet<String>,
    pub(super) violations: Vec<String>,
    trace: Vec<String>,
}

#[derive(Default)]
pub(super) struct World {
    now_ms: AtomicU64,
    observer: OnceLock<Store>,
    /// The inputs and groups of runs.
    known: Mutex<BTreeMap<RunId, (Value, Vec<Group>)>>,
    facts: Mutex<Facts>,
}

/// A tool at work. Dropped without an end: somebody gave up on it.
pub(super) struct Performing {
    world: Arc<World>,
    machine: usize,
    node: Option<String>,
    key: String,
}

impl Drop for Performing {
    fn drop(&mut self) {
        let mut facts = self.world.facts();
        let under_way = &mut facts.effects.entry(self.key.clone()).or_default().under_way;
        let place = under_way.iter().position(|other| *other == (self.machine, self.node.clone()));
        place.map(|place| under_way.swap_remove(place));
    }
}

impl Performing {
    pub(super) fn end(self) {
        self.world.facts().effects.entry(self.key.clone()).or_default().ended += 1;
        self.world.note(|| format!("machine {} has done {}", self.machine, self.key));
    }
}

impl World {
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    pub(super) fn observe_with(&self, store: Store) {
        assert!(self.observer.set(store).is_ok(), "one store observes");
    }

    /// A store where nothing goes wrong.
    pub(super) fn observer(&self) -> &Store {
        self.observer.get().expect("it was set first")
    }

    pub(super) fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let line = format!("{:>8} {}", self.now_ms(), what());
        self.facts().trace.push(line);
    }

    pub(super) fn violated(&self, what: String) {
        self.note(|| format!("VIOLATED: {what}"));
        self.facts().violations.push(what);
    }

    pub(super) fn holds(&self, is_true: bool, what: impl FnOnce() -> String) {
        if !is_true {
            self.violated(what());
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.facts().violations.is_empty()
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.facts().trace.clone()
    }

    /// What an asker does with the facts of a run.
    pub(super) fn asked<T>(&self, run: RunId, note: impl FnOnce(&mut Asked) -> T) -> T {
        note(self.facts().asked.entry(run).or_default())
    }

    /// A tool begins its work: the moment of truth for a step.
    pub(super) fn begin(self: &Arc<Self>, machine: usize, run: &RunRecord, step: &Step) -> Performing {
        let key = step.idempotency_key(run.id);
        self.note(|| format!("machine {machine} does {key} `{}` under epoch {}", step.name, run.epoch));
        let (begun, under_way) = {
            let mut facts = self.facts();
            let effect = facts.effects.entry(key.clone()).or_default();
            effect.begun += 1;
            effect.under_way.push((machine, run.owner.clone()));
            (effect.begun, effect.under_way.clone())
        };
        let performing =
            Performing { world: self.clone(), machine, node: run.owner.clone(), key: key.clone() };
        for (other, node) in under_way.iter().filter(|(other, _)| *other != machine) {
            self.holds(self.has_lapsed(node.as_ref()), || {
                format!("{key} is done although machine {other}, whose lease lives, is at it")
            });
        }
        let approved = self.asked(run.id, |asked| asked.approved.get(&step.id).copied().unwrap_or(0));
        self.holds(step.repeatable || begun <= 1 + approved, || {
            format!("{key} must not be repeated, was approved {approved} times, and is done {begun} times")
        });
        let stored = now(runs::find(self.observer(), &run.workspace_id, run.id));
        let journal = now(runs::events(self.observer(), &run.workspace_id, run.id, 0, 10_000));
        let started = |row: &&EventRow| row.kind == "step.started" && row_step(row) == Some(step.id.clone());
        self.holds(journal.iter().any(|row| started(&row)), || {
            format!("{key} is done before it is recorded")
        });
        let is_stale = stored.as_ref().is_none_or(|stored| stored.epoch != run.epoch);
        let may_be_stale = self.has_lapsed(run.owner.as_ref());
        self.holds(!is_stale || may_be_stale, || format!("{key} is done by a driver that lost it"));
        let is_over = |row: &EventRow| {
            row.kind != "step.started" && row_step(row) == Some(step.id.clone())
                || ["run.succeeded", "run.failed", "run.cancelled"].contains(&row.kind.as_str())
        };
        let is_over = journal.iter().any(|row| row.kind != "run.waiting" && is_over(row));
        self.holds(is_stale || !is_over, || format!("{key} is done although its outcome is recorded"));
        self.check_thread(run, &key);
        performing
    }

    /// Whether a tool works for the run.
    pub(super) fn is_at_work(&self, run: RunId) -> bool {
        let steps = format!("{run}:");
        let facts = self.facts();
        let mut of_run = facts.effects.iter().filter(|(key, _)| key.starts_with(&steps));
        of_run.any(|(_, effect)| !effect.under_way.is_empty())
    }

    fn has_lapsed(&self, node: Option<&String>) -> bool {
        node.is_some_and(|node| self.facts().lapsed.contains(node))
    }

    /// Looks whose leases live, as often as time goes by.
    pub(super) fn watch_leases(&self) {
        let live: BTreeSet<String> = now(nodes::live(self.observer())).into_iter().collect();
        let facts = &mut *self.facts();
        facts.lapsed.extend(facts.live.difference(&live).cloned());
        facts.live.extend(live);
    }

    fn check_thread(&self, run: &RunRecord, key: &str) {
        let Some(thread) = &run.thread else { return };
        let filter = RunFilter { thread_id: Some(thread.thread_id.clone()), ..RunFilter::default() };
        let page = PageRequest { limit: 100, after: None };
        for other in now(runs::list(self.observer(), &run.workspace_id, &filter, &page)).items {
            let is_before = other.thread.is_some_and(|place| place.seq < thread.seq);
            self.holds(!is_before || other.state.is_terminal(), || {
                format!("{key} is done while {}, before it in its thread, goes on", other.id)
            });
        }
    }
}

/// In memory an answer is there at once.
pub(super) fn now<T: Debug>(read: impl Future<Output = Result<T, StoreError>>) -> T {
    let read = std::pin::pin!(tokio::task::coop::unconstrained(read));
    read.now_or_never().expect("an answer at once").expect("an answer")
}

/// The step that an event of a journal is about.
pub(super) fn row_step(row: &EventRow) -> Option<String> {
    let data: Value = row.data.read().unwrap_or_default();
    data["step"].as_str().map(str::to_owned)
}

/// All runs, the oldest first. What never changes of them is read once.
pub(super) fn all_runs(world: &World, workspaces: &[WorkspaceId]) -> Vec<RunRecord> {
    let mut found = Vec::new();
    for workspace_id in workspaces {
        list(world, workspace_id, None, &mut found);
    }
    found.sort_by_key(|run| run.id);
    found
}

fn list(world: &World, workspace_id: &WorkspaceId, parent: Option<RunId>, found: &mut Vec<RunRecord>) {
    let filter = RunFilter { parent, ..RunFilter::default() };
    let page = PageRequest { limit: 1000, after: None };
    for item in now(runs::list(world.observer(), workspace_id, &filter, &page)).items {
        let known = world.known.lock().unwrap().get(&item.id).cloned();
        let (input, groups) = known.unwrap_or_else(|| {
            let run = now(runs::find(world.observer(), workspace_id, item.id)).expect("it was listed");
            let known = (run.input, run.groups);
            world.known.lock().unwrap().insert(item.id, known.clone());
            known
        });
        let (id, may_have_children) = (item.id, has_child(&input));
        found.push(RunRecord { input, groups, ..item });
        if may_have_children {
            list(world, workspace_id, Some(id), found);
        }
    }
}

/// All runs, the oldest first, as they are stored.
pub(super) fn whole_runs(world: &World, workspaces: &[WorkspaceId]) -> Vec<RunRecord> {
    let listed = all_runs(world, workspaces).into_iter();
    listed.filter_map(|run| now(runs::find(world.observer(), &run.workspace_id, run.id))).collect()
}
