//! Who asks the processes for something: submits runs, and tells them things.
//! An answer may never come; then a client with an idempotency key asks again.

use std::sync::{Arc, Mutex};

use nh_engine::{NewRun, Submitted, approval_of};
use nh_store::Idempotency;
use nh_store::runs::{Group, Sent, SignalRow};
use nh_types::run::RunType;
use nh_types::{Clock, RunId, ScopeSet, WorkspaceId};
use serde_json::{Value, json};

use super::dice::Dice;
use super::machine::Machine;
use super::plan::any_plan;
use super::world::World;

/// One wish for a run.
pub(super) struct Ticket {
    pub(super) number: usize,
    pub(super) new: NewRun,
    pub(super) key: Option<String>,
    /// What was answered so far.
    pub(super) runs: Vec<RunId>,
    pub(super) submissions: u64,
}

pub(super) struct Clients {
    pub(super) world: Arc<World>,
    dice: Dice,
    pub(super) tickets: Arc<Mutex<Vec<Ticket>>>,
    /// Signals and decisions are told apart by it.
    words: u64,
}

impl Clients {
    pub(super) fn new(world: &Arc<World>, dice: &Dice) -> Self {
        Self { world: world.clone(), dice: dice.clone(), tickets: Arc::default(), words: 0 }
    }

    /// A new wish, and the first try to have it fulfilled.
    pub(super) fn submit_new(&mut self, machine: &Machine, workspaces: &[WorkspaceId]) {
        let dice = &self.dice;
        let number = self.tickets.lock().unwrap().len();
        let mut plan = any_plan(dice, 0);
        let groups = match dice.below(4) {
            0 => vec![Group { name: "agent:a".to_owned(), most: 1 }],
            1 => vec![
                Group { name: "agent:b".to_owned(), most: 2 },
                Group { name: "key:1".to_owned(), most: 2 },
            ],
            _ => Vec::new(),
        };
        plan["grouped"] = dice.happens(500).into();
        let new = NewRun {
            workspace_id: dice.pick(workspaces).expect("a workspace").clone(),
            target: "plan".to_owned(),
            run_type: RunType::Tool,
            input: plan,
            definition: json!({}),
            scopes: ScopeSet::all(),
            created_by: "key:1".to_owned(),
            metadata: json!({ "ticket": number }).as_object().cloned().expect("an object"),
            timeout_ms: dice.happens(150).then(|| dice.between(1, 6000) as i64),
            priority: dice.between(0, 2) as i64 - 1,
            delay_ms: if dice.happens(150) { dice.between(1, 3000) as i64 } else { 0 },
            groups,
            thread_id: dice.happens(350).then(|| format!("thread-{}", dice.below(2))),
            fork: None,
            webhook_url: None,
        };
        let key = dice.happens(600).then(|| format!("key-{number}"));
        let ticket = Ticket { number, new, key, runs: Vec::new(), submissions: 0 };
        self.tickets.lock().unwrap().push(ticket);
        self.submit(machine, number, true);
    }

    /// Submits once more what has a key; with another body, that is refused.
    pub(super) fn submit_again(&mut self, machine: &Machine) {
        let keyed: Vec<(usize, bool)> = {
            let tickets = self.tickets.lock().unwrap();
            let keyed = tickets.iter().filter(|ticket| ticket.key.is_some());
            keyed.map(|ticket| (ticket.number, !ticket.runs.is_empty())).collect()
        };
        let Some((number, is_known)) = self.dice.pick(&keyed).copied() else { return };
        let is_same = !is_known || self.dice.happens(700);
        self.submit(machine, number, is_same);
    }

    /// Submits all that nobody answered yet, if it may be submitted twice.
    pub(super) fn submit_unanswered(&mut self, machine: &Machine) {
        let open: Vec<usize> = {
            let tickets = self.tickets.lock().unwrap();
            let open = tickets.iter().filter(|ticket| ticket.key.is_some() && ticket.runs.is_empty());
            open.map(|ticket| ticket.number).collect()
        };
        open.into_iter().for_each(|number| self.submit(machine, number, true));
    }

    fn submit(&self, machine: &Machine, number: usize, is_same: bool) {
        let Some(engine) = machine.engine() else { return };
        let (new, once) = {
            let ticket = &mut self.tickets.lock().unwrap()[number];
            ticket.submissions += 1;
            let body_hash = [u8::from(is_same); 32];
            let once = ticket.key.clone().map(|key| Idempotency {
                owner: "key:1".to_owned(),
                key,
                body_hash,
                at: machine.clock.now(),
            });
            (ticket.new.clone(), once)
        };
        self.world.note(|| {
            let NewRun { input, timeout_ms, priority, delay_ms, groups, thread_id, .. } = &new;
            let groups: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            format!(
                "ticket {number} to machine {}: {input}, delay {delay_ms}, time-out {timeout_ms:?}, \
                 priority {priority}, groups {groups:?}, thread {thread_id:?}",
                machine.number
            )
        });
        let (world, tickets) = (self.world.clone(), self.tickets.clone());
        machine.spawn(async move {
            let submitted = engine.submit(new, once).await;
            let run = match submitted {
                Ok(Submitted::Started(watch)) => Some(watch.run_id()),
                Ok(Submitted::Replay(run)) => Some(run),
                Ok(Submitted::Mismatch) => None,
                Err(error) => return world.note(|| format!("ticket {number}: {error}")),
            };
            world.note(|| format!("ticket {number}: run {run:?}"));
            world.holds(run.is_some() == is_same, || {
                format!("ticket {number} with the same body ({is_same}) was answered {run:?}")
            });
            tickets.lock().unwrap()[number].runs.extend(run);
        });
    }

    pub(super) fn cancel(&self, machine: &Machine, workspace_id: &WorkspaceId, run_id: RunId) {
        let Some(engine) = machine.engine() else { return };
        let place = self.world.asked(run_id, |asked| {
            asked.cancels.push(None);
            asked.cancels.len() - 1
        });
        self.world.note(|| format!("cancel {run_id} at machine {}", machine.number));
        let (world, workspace_id) = (self.world.clone(), workspace_id.clone());
        machine.spawn(async move {
            let outcome = engine.cancel(&workspace_id, run_id).await;
            world.note(|| format!("cancel {run_id}: {outcome:?}"));
            world.asked(run_id, |asked| asked.cancels[place] = outcome.ok());
        });
    }

    /// Tells the run something; now and then twice.
    pub(super) fn signal(
        &mut self,
        machine: &Machine,
        workspace_id: &WorkspaceId,
        run_id: RunId,
        name: &str,
    ) {
        self.words += 1;
        let word = self.words as i64;
        self.world.asked(run_id, |asked| asked.signals.entry(name.to_owned()).or_default().push(word));
        self.tell(machine, workspace_id, run_id, name, json!(word));
    }

    /// Approves a doubtful step, or denies it.
    pub(super) fn decide(
        &mut self,
        machine: &Machine,
        workspace_id: &WorkspaceId,
        run_id: RunId,
        step: &str,
    ) {
        self.words += 1;
        let approved = self.dice.happens(600);
        self.world.asked(run_id, |asked| {
            let decided = if approved { &mut asked.approved } else { &mut asked.denied };
            *decided.entry(step.to_owned()).or_default() += 1;
        });
        self.tell(machine, workspace_id, run_id, &approval_of(step), json!({ "approved": approved }));
    }

    fn tell(&self, machine: &Machine, workspace_id: &WorkspaceId, run_id: RunId, name: &str, data: Value) {
        let Some(engine) = machine.engine() else { return };
        let signal = SignalRow {
            id: format!("word-{}", self.words),
            name: name.to_owned(),
            sent_by: "key:1".to_owned(),
            at: machine.clock.now(),
            data: data.into(),
            large: None,
        };
        let times = if self.dice.happens(200) { 2 } else { 1 };
        for _ in 0..times {
            self.world.note(|| format!("{} `{name}` to {run_id} at machine {}", signal.id, machine.number));
            let (world, engine, signal) = (self.world.clone(), engine.clone(), signal.clone());
            let workspace_id = workspace_id.clone();
            machine.spawn(async move {
                let sent = engine.signal(&workspace_id, run_id, signal.clone()).await;
                world.note(|| format!("{} to {run_id}: {sent:?}", signal.id));
                let is_odd = matches!(sent, Ok(Sent::Full | Sent::Missing));
                world.holds(!is_odd, || format!("{} to {run_id} was answered {sent:?}", signal.id));
            });
        }
    }
}
