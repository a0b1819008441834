//! The engine in simulated time, in a simulated world: processes that crash at
//! commits, freeze, stop and start; a store whose answers are lost; clocks that
//! jump; clients that ask twice. All of it follows from a seed, so a failure is
//! the same each time:
//!
//! `NEURALHUB_SIMULATION_SEED=42 cargo test -p nh-engine --test it simulation`
//!
//! `NEURALHUB_SIMULATION_SEEDS` says how many seeds are tried.

mod checks;
mod clients;
mod dice;
mod faults;
mod machine;
mod model;
mod plan;
mod schedule;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nh_store::memory::Moment;

use faults::Odds;
use schedule::{Settings, Simulation};

/// Lines of a trace that a failure shows.
const SHOWN: usize = 60;

/// Failures that are told, of those that are found.
const MOST_TOLD: usize = 5;

struct Played {
    violations: Vec<String>,
    trace: Vec<String>,
    has_died: bool,
}

fn play(settings: Settings, dies_at: Option<(usize, u64, Moment)>) -> Played {
    let mut simulation = Simulation::new(settings);
    if let Some((machine, commit, moment)) = dies_at {
        simulation.machines[machine].faults.die_at(commit, moment);
    }
    let panic = catch_unwind(AssertUnwindSafe(|| simulation.run())).err();
    let world = simulation.world.clone();
    let mut violations = world.facts().violations.clone();
    violations.extend(panic.map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        format!(
            "panicked: {}",
            text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        )
    }));
    Played {
        violations,
        trace: world.trace(),
        has_died: simulation.machines.iter().any(|machine| machine.life > 1),
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is `{value}`; give a number")))
}

/// Plays the seeds on all processors; tells of those that fail.
fn play_all(seeds: std::ops::Range<u64>, play_one: impl Fn(u64) -> Vec<String> + Sync) {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= MOST_TOLD {
                        return;
                    }
                    let violations = play_one(seed);
                    if !violations.is_empty() {
                        failed.lock().unwrap().push((seed, violations));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    assert!(failed.is_empty(), "{}", told(&failed));
}

fn told(failed: &[(u64, Vec<String>)]) -> String {
    let mut text = String::new();
    for (seed, violations) in failed {
        text += &format!(
            "seed {seed} failed; to see it again:\n  \
             NEURALHUB_SIMULATION_SEED={seed} cargo test -p nh-engine --test it simulation::seeds\n"
        );
        violations.iter().for_each(|violation| text += &format!("  - {violation}\n"));
    }
    text
}

#[test]
fn seeds_of_troubles_leave_every_invariant() {
    if let Some(seed) = number_of("NEURALHUB_SIMULATION_SEED") {
        let settings = Settings::of_seed(seed);
        println!("{settings:#?}");
        let Played { violations, trace, .. } = play(settings, None);
        println!("{}", trace.join("\n"));
        assert!(violations.is_empty(), "{}", told(&[(seed, violations)]));
        return;
    }
    let seeds = number_of("NEURALHUB_SIMULATION_SEEDS").unwrap_or(200);
    play_all(0..seeds, |seed| play(Settings::of_seed(seed), None).violations);
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    play_all(1000..1010, |seed| {
        let (one, two) = (play(Settings::of_seed(seed), None), play(Settings::of_seed(seed), None));
        let place = one.trace.iter().zip(&two.trace).position(|(one, two)| one != two);
        assert!(one.trace.len() > SHOWN, "something happens");
        if place.is_none() && one.trace.len() == two.trace.len() {
            return Vec::new();
        }
        let place = place.unwrap_or(one.trace.len().min(two.trace.len()));
        let shown = |trace: &[String]| {
            trace[..trace.len().min(place + 1)]
                .iter()
                .rev()
                .take(SHOWN)
                .rev()
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        };
        vec![format!("two traces part at line {place}:\n{}\nand\n{}", shown(&one.trace), shown(&two.trace))]
    });
}

/// A quiet world with few runs, in which nothing happens but one death.
fn quiet(seed: u64, machines: usize) -> Settings {
    Settings {
        machines,
        max_running: 2,
        tickets: 2,
        ticks: 60,
        odds: Odds::default(),
        crashes: 0,
        stops: 0,
        freezes: 0,
        outages: 0,
        clock_jumps: 0,
        cancels: 0,
        ..Settings::of_seed(seed)
    }
}

/// Each seed is a world with a machine that dies at each commit, before it and
/// after it.
#[test]
fn a_death_at_any_commit_loses_nothing() {
    let worlds = [
        (7, 1, Moment::BeforeCommit),
        (7, 1, Moment::AfterCommit),
        (8, 2, Moment::BeforeCommit),
        (8, 2, Moment::AfterCommit),
    ];
    play_all(0..worlds.len() as u64, |world| {
        let (seed, machines, moment) = worlds[world as usize];
        for commit in 1.. {
            let played = play(quiet(seed, machines), Some((0, commit, moment)));
            if !played.violations.is_empty() {
                let place = format!("seed {seed}, dead at commit {commit}, {moment:?}");
                return [vec![place], played.violations, played.trace].concat();
            }
            if !played.has_died {
                assert!(commit > 20, "there are commits to die at");
                break;
            }
        }
        Vec::new()
    });
}
