//! What a run does, as the engine sees it: decide apart from do.

use std::future::Future;
use std::pin::Pin;

use nh_store::runs::{Group, RunRecord};
use nh_types::model::Usage;
use nh_types::run::{RunError, RunType};
use serde_json::Value;

use crate::history::History;
use crate::journal::Step;
use crate::live::Live;

/// What comes next for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// These steps should be under way or done. Those that the journal does
    /// not know yet are started; naming one again changes nothing.
    Perform(Vec<Step>),
    Finish(Ending),
}

/// How a run ends when its program says so.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Success(Value),
    Failure(RunError),
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Performed {
    pub output: Value,
    /// What it cost; [`Usage::NONE`] where nothing was bought.
    pub usage: Usage,
}

pub type Performing = Pin<Box<dyn Future<Output = Result<Performed, RunError>> + Send + 'static>>;

/// What the runs of a hub do.
pub trait Program: Send + Sync + 'static {
    /// Reads what the run runs, once for all its steps in this process. What
    /// cannot be read is work that fails.
    fn open(&self, run: &RunRecord) -> Box<dyn Work>;
}

/// What one run does.
pub trait Work: Send + Sync {
    /// A pure function of its arguments: no clock, no I/O, no memory. Asked
    /// again after a crash, it must give the same steps for the same journal.
    fn decide(&self, run: &RunRecord, history: &History) -> Decision;

    /// Does one step. The future may be dropped at any await (cancel, time-out,
    /// shutdown) and made again after a crash, with the same
    /// [`Step::idempotency_key`]; it owns what it needs. What it says by `live`
    /// is heard by whoever follows the run, and not kept.
    fn perform(&self, run: &RunRecord, history: &History, step: &Step, live: Live) -> Performing;

    /// What people call what the run runs, for traces.
    fn name<'n>(&'n self, run: &'n RunRecord) -> &'n str {
        &run.target
    }

    /// The run that a step of [`Wait::Run`](crate::Wait::Run) begins, asked when the step is
    /// started. What cannot be begun fails the step.
    fn child(&self, _: &RunRecord, _: &History, step: &Step) -> Result<ChildRun, RunError> {
        let message = format!("The step `{}` begins no run.", step.id);
        Err(RunError::new("internal_error", message))
    }
}

/// A run that another begins and waits for. It may do what the other may.
#[derive(Clone, Debug)]
pub struct ChildRun {
    pub target: String,
    pub run_type: RunType,
    pub input: Value,
    pub definition: Value,
    pub timeout_ms: Option<i64>,
    /// What it counts against while it is under way.
    pub groups: Vec<Group>,
}
