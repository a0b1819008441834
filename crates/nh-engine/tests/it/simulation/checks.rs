//! What must hold of the rows: at any time, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use nh_store::runs::{self, CancelOutcome, EventRow, RunRecord};
use nh_types::run::RunState;
use nh_types::{RunId, WorkspaceId};

use super::clients::Clients;
use super::model;
use super::world::{World, all_runs, now, whole_runs};

/// Between any two commits: each run has ended, or somebody drives it, or
/// something will wake it; and no bound is passed.
pub(super) fn check_rows(world: &World, workspaces: &[WorkspaceId]) {
    let checked = now(runs::check(world.observer(), None));
    world.holds(checked.faults.is_empty(), || format!("`neuralhub check` finds {:?}", checked.faults));
    let shares = now(nh_store::workspaces::shares(world.observer()));
    let mut owned: BTreeMap<WorkspaceId, u32> = BTreeMap::new();
    let mut groups: BTreeMap<(WorkspaceId, String), (u32, u32)> = BTreeMap::new();
    // One whose time is over may be owned beyond a bound, only to be ended.
    let counts = |run: &RunRecord| run.deadline_at.is_none() || world.is_at_work(run.id);
    for run in all_runs(world, workspaces).iter().filter(|run| run.owner.is_some() && counts(run)) {
        *owned.entry(run.workspace_id.clone()).or_default() += 1;
        for group in &run.groups {
            let (count, most) = groups.entry((run.workspace_id.clone(), group.name.clone())).or_default();
            (*count, *most) = (*count + 1, group.most);
        }
    }
    for (group, (count, most)) in groups {
        world.holds(count <= most, || format!("{count} runs of {group:?} are under way, of at most {most}"));
    }
    for (workspace_id, count) in owned {
        let most = shares.of(&workspace_id).max_running;
        world.holds(most.is_none_or(|most| count <= most), || {
            format!("{count} runs of {workspace_id} are under way, of at most {most:?}")
        });
    }
}

/// When all has come to its end.
pub(super) fn check_all(world: &World, workspaces: &[WorkspaceId], clients: &Clients) {
    check_rows(world, workspaces);
    let runs = whole_runs(world, workspaces);
    check_tickets(world, clients, &runs);
    check_cancels(world, &runs);
    let by_id: BTreeMap<RunId, &RunRecord> = runs.iter().map(|run| (run.id, run)).collect();
    let mut children: BTreeMap<(RunId, String), Vec<&RunRecord>> = BTreeMap::new();
    for run in &runs {
        if let Some(parent) = &run.parent {
            children.entry((parent.run_id, parent.step.clone())).or_default().push(run);
        }
    }
    for run in &runs {
        let journal = now(runs::events(world.observer(), &run.workspace_id, run.id, 0, 10_000));
        for fault in model::faults_of(world, run, &journal, &by_id, &children) {
            world.violated(format!("run {}: {fault}", run.id));
        }
    }
}

/// No accepted run is lost, and none is there twice.
fn check_tickets(world: &World, clients: &Clients, runs: &[RunRecord]) {
    let mut made: BTreeMap<u64, BTreeSet<RunId>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.parent.is_none()) {
        let ticket = run.metadata["ticket"].as_u64().expect("a ticket");
        made.entry(ticket).or_default().insert(run.id);
    }
    for ticket in clients.tickets.lock().unwrap().iter() {
        let made = made.remove(&(ticket.number as u64)).unwrap_or_default();
        let answered: BTreeSet<RunId> = ticket.runs.iter().copied().collect();
        let number = ticket.number;
        world.holds(answered.is_subset(&made), || {
            format!("ticket {number}: of {answered:?} there is {made:?}")
        });
        world.holds(made.len() <= 1, || format!("ticket {number} made the runs {made:?}"));
    }
}

/// What a cancel was told is so.
fn check_cancels(world: &World, runs: &[RunRecord]) {
    for run in runs {
        let cancels = world.asked(run.id, |asked| asked.cancels.clone());
        for outcome in cancels.into_iter().flatten() {
            let is_so = match outcome {
                CancelOutcome::Cancelled => run.state == RunState::Cancelled,
                CancelOutcome::Finished(state) => run.state == state,
                CancelOutcome::Requested => true,
                CancelOutcome::Missing => false,
            };
            world.holds(is_so, || format!("a cancel of {} got {outcome:?}; it is {:?}", run.id, run.state));
        }
    }
}

/// The trace ends with all that is stored.
pub(super) fn note_journals(world: &World, workspaces: &[WorkspaceId]) {
    for run in whole_runs(world, workspaces) {
        world.note(|| {
            format!(
                "run {} is {:?}, owner {:?}, epoch {}, ready {}, wakes at {:?}, signals {}, thread {:?}, usage {}: {:?} {:?}",
                run.id,
                run.state,
                run.owner,
                run.epoch,
                run.ready,
                run.wake_at.map(|at| at.to_string()),
                run.signals,
                run.thread,
                run.usage.input_tokens,
                run.result,
                run.error
            )
        });
        let journal = now(runs::events(world.observer(), &run.workspace_id, run.id, 0, 10_000));
        for EventRow { seq, kind, at, data } in journal {
            world.note(|| format!("  {seq} {kind} at {at} {}", data.as_str()));
        }
    }
}
