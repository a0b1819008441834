//! One simulation: what happens when, by the seed alone; then a calm in which
//! all that was accepted has to come to its end.

use std::sync::Arc;
use std::time::Duration;

use nh_engine::{EngineSettings, History, Wait};
use nh_store::memory::{Memory, NoFaults};
use nh_store::runs::{self, RunRecord, Share};
use nh_store::{Store, workspaces};
use nh_testkit::FixedClock;
use nh_types::run::RunState;
use nh_types::{RunId, WorkspaceId};
use tokio::runtime::{Builder, Runtime};

use super::checks;
use super::clients::Clients;
use super::dice::Dice;
use super::faults::{FaultPlan, Odds};
use super::machine::{Machine, Phase};
use super::plan::SIGNALS;
use super::world::{World, all_runs, now};

/// What may happen in a simulation, and how much of it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    /// More than one process, each under a lease.
    pub(super) machines: usize,
    pub(super) max_running: usize,
    pub(super) tickets: usize,
    /// Of the storm before the calm.
    pub(super) ticks: u64,
    pub(super) odds: Odds,
    /// Of a thousand ticks.
    pub(super) crashes: u64,
    pub(super) stops: u64,
    pub(super) freezes: u64,
    pub(super) outages: u64,
    pub(super) clock_jumps: u64,
    pub(super) cancels: u64,
    pub(super) is_bounded: bool,
}

impl Settings {
    /// Each trouble is in some simulations, so that it does not hide others.
    pub(super) fn of_seed(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let machines = if dice.happens(300) { 1 } else { dice.between(2, 3) as usize };
        let some = |most| if dice.happens(350) { dice.between(1, most) } else { 0 };
        let odds = Odds {
            read_fails: some(30),
            begin_fails: some(60),
            commit_fails: some(60),
            answer_is_lost: some(60),
            hangs: some(4),
            dies_before_commit: some(25),
            dies_after_commit: some(25),
        };
        Self {
            seed,
            machines,
            max_running: dice.between(1, 4) as usize,
            tickets: dice.between(3, 9) as usize,
            ticks: dice.between(100, 250),
            odds,
            crashes: some(12),
            stops: some(12),
            freezes: if machines > 1 && dice.happens(500) { dice.between(4, 20) } else { 0 },
            outages: some(8),
            clock_jumps: some(15),
            cancels: some(25),
            is_bounded: dice.happens(300),
        }
    }
}

pub(super) struct Simulation {
    pub(super) settings: Settings,
    pub(super) world: Arc<World>,
    pub(super) workspaces: Vec<WorkspaceId>,
    pub(super) clients: Clients,
    pub(super) machines: Vec<Machine>,
    dice: Dice,
    database_clock: FixedClock,
    observing: Runtime,
}

/// The calm ends after so much time: what then goes on is lost.
const LONGEST_CALM_MS: u64 = 3_600_000;

impl Simulation {
    pub(super) fn new(settings: Settings) -> Self {
        let dice = Dice::new(settings.seed ^ 0x5EED);
        let world = Arc::new(World::default());
        let database_clock = FixedClock::default();
        let memory = Memory::new(Arc::new(database_clock.clone()), settings.machines > 1).unwrap();
        let observing = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (observer, workspaces) = observing.block_on(prepared(&memory, settings.is_bounded));
        world.observe_with(observer);
        let engine =
            EngineSettings { max_running: settings.max_running, lease_ms: 2000, ..EngineSettings::default() };
        let machines = (0..settings.machines).map(|number| {
            let faults = FaultPlan::new(number, &dice, &world);
            Machine::new(number, settings.seed, &memory, &engine, faults, &world)
        });
        let machines = machines.collect();
        let clients = Clients::new(&world, &dice);
        Self { settings, world, workspaces, clients, machines, dice, database_clock, observing }
    }

    /// Everything, to the last check.
    pub(super) fn run(&mut self) {
        self.storm();
        if self.world.is_sound() {
            self.calm();
        }
        let _guard = self.observing.enter();
        if self.world.is_sound() {
            checks::check_all(&self.world, &self.workspaces, &self.clients);
        }
        checks::note_journals(&self.world, &self.workspaces);
    }

    fn storm(&mut self) {
        for machine in &mut self.machines {
            machine.faults.set_odds(self.settings.odds);
            machine.start();
        }
        for tick in 0..self.settings.ticks {
            self.disturb();
            self.ask(tick);
            for place in 0..self.machines.len() {
                let passes = self.dice.below(30);
                // Not always in the same order.
                let place = (place + tick as usize) % self.machines.len();
                self.machines[place].run(passes);
            }
            let ms = match self.dice.below(100) {
                0..50 => self.dice.between(0, 4),
                50..90 => self.dice.between(1, 60),
                90..98 => self.dice.between(50, 700),
                _ => self.dice.between(500, 5000),
            };
            self.advance(ms);
            if tick % 16 == 15 {
                self.check_now();
            }
            if !self.world.is_sound() {
                return;
            }
        }
    }

    fn watch_leases(&self) {
        if self.machines.len() > 1 {
            let _guard = self.observing.enter();
            self.world.watch_leases();
        }
    }

    fn check_now(&self) {
        let _guard = self.observing.enter();
        checks::check_rows(&self.world, &self.workspaces);
    }

    fn advance(&mut self, ms: u64) {
        // Before, too: a lease that is taken and ends between two looks is seen.
        self.watch_leases();
        self.world.advance(ms);
        self.database_clock.advance_ms(ms as i64);
        self.watch_leases();
        for machine in &mut self.machines {
            machine.clock.advance_ms(ms as i64);
            machine.advance(Duration::from_millis(ms));
        }
    }

    /// Troubles of the processes and their surroundings.
    fn disturb(&mut self) {
        for place in 0..self.machines.len() {
            self.disturb_machine(place);
        }
        if self.dice.happens(self.settings.clock_jumps) {
            let ms = self.dice.between(0, 20_000) as i64 - 8_000;
            let place = self.dice.below(self.machines.len() as u64 + 1) as usize;
            self.world.note(|| format!("the clock of {place} jumps by {ms} ms"));
            match self.machines.get(place) {
                Some(machine) => machine.clock.advance_ms(ms),
                None => self.database_clock.advance_ms(ms),
            }
            self.watch_leases();
        }
    }

    fn disturb_machine(&mut self, place: usize) {
        let (dice, settings) = (self.dice.clone(), self.settings.clone());
        let machine = &mut self.machines[place];
        if dice.happens(settings.outages) {
            self.world.note(|| format!("machine {place} is cut off"));
            machine.faults.cut_off(true);
        } else if dice.happens(40) {
            machine.faults.cut_off(false);
        }
        if machine.is_frozen {
            // Mostly after its lease.
            if dice.happens(30) {
                machine.thaw(dice.happens(300));
            }
            return;
        }
        match machine.phase() {
            Phase::Down if dice.happens(200) => machine.start(),
            Phase::Up | Phase::Stopping | Phase::Starting if dice.happens(settings.crashes) => {
                machine.crash();
            }
            Phase::Up if dice.happens(settings.stops) => {
                machine.stop(Duration::from_millis(dice.between(0, 400)));
            }
            Phase::Up if dice.happens(settings.freezes) => {
                self.world.note(|| format!("machine {place} freezes"));
                machine.is_frozen = true;
            }
            _ => {}
        }
    }

    /// What clients want.
    fn ask(&mut self, tick: u64) {
        let place = self.dice.below(self.machines.len() as u64) as usize;
        let machine = &self.machines[place];
        if machine.engine().is_none() {
            return;
        }
        let known = self.clients.tickets.lock().unwrap().len();
        let is_time = tick * (self.settings.tickets as u64 + 1) / (self.settings.ticks / 2) > known as u64;
        if known < self.settings.tickets && is_time {
            self.clients.submit_new(machine, &self.workspaces);
        }
        if self.dice.happens(40) {
            self.clients.submit_again(machine);
        }
        let runs: Vec<(WorkspaceId, RunId)> = {
            let tickets = self.clients.tickets.lock().unwrap();
            let known = tickets.iter().filter_map(|ticket| Some((ticket, *ticket.runs.first()?)));
            known.map(|(ticket, run)| (ticket.new.workspace_id.clone(), run)).collect()
        };
        let Some((workspace_id, run_id)) = self.dice.pick(&runs).cloned() else { return };
        if self.dice.happens(self.settings.cancels) {
            self.clients.cancel(machine, &workspace_id, run_id);
        }
        if self.dice.happens(80) {
            let name = SIGNALS[self.dice.below(3) as usize];
            self.clients.signal(machine, &workspace_id, run_id, name);
        }
        if self.dice.happens(60) {
            self.answer_waiting(place, 500);
        }
    }

    /// Gives waiting runs what they wait for.
    fn answer_waiting(&mut self, place: usize, in_a_thousand: u64) {
        let _guard = self.observing.enter();
        let machine = &self.machines[place];
        for run in all_runs(&self.world, &self.workspaces) {
            if run.state != RunState::Waiting || !self.dice.happens(in_a_thousand) {
                continue;
            }
            let journal = now(runs::events(self.world.observer(), &run.workspace_id, run.id, 0, 10_000));
            let history = History::read(&journal).expect("a journal");
            if let Some(step) = history.doubt() {
                self.clients.decide(machine, &run.workspace_id, run.id, step);
            }
            for record in history.waiting() {
                if let Some(Wait::Signal { name, .. }) = &record.step.wait {
                    self.clients.signal(machine, &run.workspace_id, run.id, name);
                }
            }
        }
    }

    /// No more troubles: everything has to come to its end.
    fn calm(&mut self) {
        self.world.note(|| "the calm".to_owned());
        for machine in &mut self.machines {
            machine.faults.set_odds(Odds::default());
            machine.faults.cut_off(false);
            if machine.is_frozen {
                machine.thaw(false);
            }
        }
        let begun = self.world.now_ms();
        let mut round = 0;
        while self.world.now_ms() - begun < LONGEST_CALM_MS && self.world.is_sound() {
            self.calm_round(round);
            if round % 8 == 7 && self.is_over() {
                return;
            }
            round += 1;
        }
        let open: Vec<_> = self.unfinished().iter().map(|run| (run.id, run.state)).collect();
        self.world.violated(format!("after the longest calm these go on: {open:?}"));
    }

    fn calm_round(&mut self, round: u64) {
        for machine in &mut self.machines {
            if machine.phase() == Phase::Down {
                machine.start();
            }
            machine.run(24);
        }
        if round % 8 == 3 {
            let place = self.dice.below(self.machines.len() as u64) as usize;
            let machine = &self.machines[place];
            // What is asked now is answered by who does not die.
            self.clients.submit_unanswered(machine);
            if machine.engine().is_some() {
                self.answer_waiting(place, 1000);
            }
            self.check_now();
        }
        let ms = match round {
            0..40 => 50,
            40..80 => 250,
            _ => 1000,
        };
        self.advance(ms);
    }

    fn unfinished(&self) -> Vec<RunRecord> {
        let _guard = self.observing.enter();
        let runs = all_runs(&self.world, &self.workspaces);
        runs.into_iter().filter(|run| !run.state.is_terminal()).collect()
    }

    fn is_over(&self) -> bool {
        let is_answered = {
            let tickets = self.clients.tickets.lock().unwrap();
            tickets.iter().all(|ticket| ticket.key.is_none() || !ticket.runs.is_empty())
        };
        is_answered && self.unfinished().is_empty()
    }
}

async fn prepared(memory: &Memory, is_bounded: bool) -> (Store, Vec<WorkspaceId>) {
    let store = Store::open_memory(memory, Arc::new(NoFaults)).await.unwrap();
    let mut made = Vec::new();
    for name in ["one", "two"] {
        made.push(crate::script::new_workspace(&store, name, name.len() as u64 + made.len() as u64).await);
    }
    if is_bounded {
        let share = Share { weight: 2, max_running: Some(2) };
        store.write(workspaces::SetShare { id: made[0].clone(), share }).await.unwrap();
    }
    (store, made)
}
