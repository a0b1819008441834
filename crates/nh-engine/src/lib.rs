//! Durable runs: the journal, the queue, and the worker that drives a run
//! from its journal to its end.
//!
//! The engine asks the run's [`Work`], which a [`Program`] makes, what comes next
//! (a pure function of the run and its journal), performs the answer, appends what came of it to the
//! journal, and asks again. A crash anywhere resumes by asking again. The
//! contract is honest: an accepted run is never lost; each step's result is
//! recorded exactly once; a repeatable step that was in flight at a crash runs
//! again under the same idempotency key; one that is not repeatable makes its
//! run wait for a decision.
//!
//! This crate must never know of models, tools or HTTP. Start reading at
//! [`program`], then `driver.rs`.

mod cancel;
mod core;
mod driven;
mod driver;
mod engine;
mod fork;
mod history;
pub mod journal;
mod lease;
mod live;
mod meters;
pub mod program;
mod queue;
mod queue_room;
mod reading;
mod retention;
mod settings;
mod shares;
mod spans;
mod timers;
mod upkeep;
mod values;
mod waits;
mod watch;

pub use engine::{Engine, EngineError, NewRun, Submitted};
pub use fork::{Fork, ForkError};
pub use history::{History, Outcome, StepRecord, StepsTaken};
pub use journal::{Event, Step, Wait, approval_of, read_journal};
pub use live::{Listening, Live, LiveWord};
pub use program::{ChildRun, Decision, Ending, Performed, Program, Work};
pub use settings::EngineSettings;
pub use values::{ValueStore, fill_events, read_value, values_of};
pub use watch::{EndedRun, Watch};
