//! One process: an engine on a runtime of its own, with a clock of its own. To
//! crash it is to drop the runtime in the middle of whatever it does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nh_engine::{Engine, EngineSettings};
use nh_store::Store;
use nh_store::memory::Memory;
use nh_testkit::{FixedClock, SeededIds};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::faults::FaultPlan;
use super::plan::PlanProgram;
use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Down,
    Starting,
    Up,
    Stopping,
}

/// What is told from inside the runtime.
struct Inside {
    phase: Phase,
    engine: Option<Engine>,
}

pub(super) struct Machine {
    pub(super) number: usize,
    pub(super) clock: FixedClock,
    pub(super) faults: FaultPlan,
    /// It gets no time of the processor.
    pub(super) is_frozen: bool,
    /// Time of its own clock that it missed.
    behind: Duration,
    /// How often it was started.
    pub(super) life: u64,
    seed: u64,
    memory: Memory,
    settings: EngineSettings,
    world: Arc<World>,
    runtime: Option<Runtime>,
    inside: Arc<Mutex<Inside>>,
}

impl Machine {
    pub(super) fn new(
        number: usize,
        seed: u64,
        memory: &Memory,
        settings: &EngineSettings,
        faults: FaultPlan,
        world: &Arc<World>,
    ) -> Self {
        Self {
            number,
            clock: FixedClock::default(),
            faults,
            is_frozen: false,
            behind: Duration::ZERO,
            life: 0,
            seed,
            memory: memory.clone(),
            settings: settings.clone(),
            world: world.clone(),
            runtime: None,
            inside: Arc::new(Mutex::new(Inside { phase: Phase::Down, engine: None })),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.inside.lock().unwrap().phase
    }

    /// The engine, if it takes requests.
    pub(super) fn engine(&self) -> Option<Engine> {
        self.inside.lock().unwrap().engine.clone()
    }

    pub(super) fn start(&mut self) {
        self.life += 1;
        self.faults.revive();
        (self.is_frozen, self.behind) = (false, Duration::ZERO);
        self.world.note(|| format!("machine {} starts", self.number));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let inside = Arc::new(Mutex::new(Inside { phase: Phase::Starting, engine: None }));
        self.inside = inside.clone();
        let (memory, faults) = (self.memory.clone(), Arc::new(self.faults.clone()));
        let (clock, settings) = (Arc::new(self.clock.clone()), self.settings.clone());
        let ids = Arc::new(SeededIds::new(self.seed ^ (self.life << 32) ^ ((self.number as u64) << 56)));
        let program = Arc::new(PlanProgram { machine: self.number, world: self.world.clone() });
        runtime.spawn(async move {
            let started = async {
                let store = Store::open_memory(&memory, faults).await.ok()?;
                let stopping = CancellationToken::new();
                Engine::start(store, program, clock, ids, &settings, stopping).await.ok()
            };
            let engine = started.await;
            let phase = if engine.is_some() { Phase::Up } else { Phase::Down };
            *inside.lock().unwrap() = Inside { phase, engine };
        });
        self.runtime = Some(runtime);
    }

    /// Drops all that the process was doing.
    pub(super) fn crash(&mut self) {
        self.world.note(|| format!("machine {} crashes", self.number));
        self.world.facts().crashes += 1;
        self.is_frozen = false;
        self.inside = Arc::new(Mutex::new(Inside { phase: Phase::Down, engine: None }));
        self.runtime = None;
    }

    /// As at SIGTERM.
    pub(super) fn stop(&mut self, grace: Duration) {
        let Some((engine, runtime)) = self.engine().zip(self.runtime.as_ref()) else { return };
        self.world.note(|| format!("machine {} stops within {grace:?}", self.number));
        let inside = self.inside.clone();
        inside.lock().unwrap().phase = Phase::Stopping;
        runtime.spawn(async move {
            engine.shutdown(grace).await;
            *inside.lock().unwrap() = Inside { phase: Phase::Down, engine: None };
        });
    }

    /// Lets it come back from a freeze. If it slept with its machine, its own
    /// clock of durations stood still meanwhile.
    pub(super) fn thaw(&mut self, it_slept: bool) {
        self.world.note(|| format!("machine {} thaws, {:?} later", self.number, self.behind));
        self.is_frozen = false;
        let behind = std::mem::take(&mut self.behind);
        if !it_slept {
            self.advance(behind);
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Lets its tasks run for some passes. No time goes by.
    pub(super) fn run(&mut self, passes: u64) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.is_frozen) else { return };
        runtime.block_on(async {
            for _ in 0..passes {
                tokio::task::yield_now().await;
            }
        });
        if self.faults.is_dead() {
            self.crash();
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        if self.is_frozen {
            self.behind += by;
        } else if let Some(runtime) = &self.runtime {
            runtime.block_on(tokio::time::advance(by));
        }
    }
}
