//! What goes wrong between one process and the store, and where it dies.

use std::sync::{Arc, Mutex};

use nh_store::memory::{Fate, Faults, Moment};

use super::dice::Dice;
use super::world::World;

/// How often something goes wrong, of a thousand times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Odds {
    pub(super) read_fails: u64,
    pub(super) begin_fails: u64,
    pub(super) commit_fails: u64,
    pub(super) answer_is_lost: u64,
    pub(super) hangs: u64,
    pub(super) dies_before_commit: u64,
    pub(super) dies_after_commit: u64,
}

#[derive(Default)]
struct State {
    odds: Odds,
    /// The database cannot be reached.
    is_cut_off: bool,
    /// At the commit of that number the process dies.
    dies_at: Option<(u64, Moment)>,
    commits: u64,
    is_dead: bool,
}

/// The faults of one process. They stay with it over its restarts, so commits
/// are counted on.
#[derive(Clone)]
pub(super) struct FaultPlan {
    machine: usize,
    dice: Dice,
    world: Arc<World>,
    state: Arc<Mutex<State>>,
}

impl FaultPlan {
    pub(super) fn new(machine: usize, dice: &Dice, world: &Arc<World>) -> Self {
        Self { machine, dice: dice.clone(), world: world.clone(), state: Arc::default() }
    }

    pub(super) fn set_odds(&self, odds: Odds) {
        self.state.lock().unwrap().odds = odds;
    }

    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.state.lock().unwrap().is_cut_off = is_cut_off;
    }

    pub(super) fn die_at(&self, commit: u64, moment: Moment) {
        self.state.lock().unwrap().dies_at = Some((commit, moment));
    }

    /// Whether a commit killed the process.
    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().is_dead
    }

    /// The process begins anew.
    pub(super) fn revive(&self) {
        self.state.lock().unwrap().is_dead = false;
    }

    fn draw(&self, moment: Moment) -> (Fate, bool) {
        let mut state = self.state.lock().unwrap();
        if state.is_dead {
            return (Fate::Hang, false);
        }
        if moment == Moment::BeforeCommit {
            state.commits += 1;
        }
        let odds = state.odds;
        let (fails, dies) = match moment {
            Moment::Read => (odds.read_fails, 0),
            Moment::Begin => (odds.begin_fails, 0),
            Moment::BeforeCommit => (odds.commit_fails, odds.dies_before_commit),
            Moment::AfterCommit => (odds.answer_is_lost, odds.dies_after_commit),
        };
        let is_planned = state.dies_at == Some((state.commits, moment));
        if is_planned || (dies > 0 && self.dice.happens(dies)) {
            state.is_dead = true;
            state.dies_at = None;
            return (Fate::Hang, true);
        }
        // An outage does not take back what is kept.
        if state.is_cut_off && moment != Moment::AfterCommit || fails > 0 && self.dice.happens(fails) {
            return (Fate::Fail, false);
        }
        if odds.hangs > 0 && self.dice.happens(odds.hangs) {
            return (Fate::Hang, false);
        }
        (Fate::GoOn, false)
    }
}

impl Faults for FaultPlan {
    fn at(&self, moment: Moment) -> Fate {
        let (fate, dies) = self.draw(moment);
        if fate == Fate::GoOn && moment == Moment::AfterCommit {
            self.world.note(|| format!("machine {} commits", self.machine));
        } else if fate != Fate::GoOn {
            let end = if dies { " and dies" } else { "" };
            self.world.note(|| format!("machine {} store {moment:?}: {fate:?}{end}", self.machine));
        }
        fate
    }
}
