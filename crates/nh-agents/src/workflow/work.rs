use std::time::Duration;

use nh_engine::program::Performing;
use nh_engine::{ChildRun, Decision, Ending, History, Live, Step, Work};
use nh_store::runs::RunRecord;
use nh_types::run::RunError;
use serde_json::Value;

use super::decide::decide;
use super::plan::{Fault, Plan};
use crate::definition::{PinnedUse, PinnedWorkflow};
use crate::program::{RunProgram, child_run};
use crate::spending::RunCharges;

/// The steps of a workflow.
pub(crate) struct WorkflowWork {
    program: RunProgram,
    charges: RunCharges,
    pinned: PinnedWorkflow,
    plan: Result<Plan, Fault>,
}

impl WorkflowWork {
    pub(crate) fn new(program: RunProgram, charges: RunCharges, pinned: PinnedWorkflow) -> Self {
        let plan = Plan::read(&pinned.workflow);
        Self { program, charges, pinned, plan }
    }

    fn timeout_ms(&self, step: &Step) -> Option<i64> {
        self.plan.as_ref().ok()?.step_of(&step.id)?.timeout_ms
    }
}

impl Work for WorkflowWork {
    fn decide(&self, run: &RunRecord, history: &History) -> Decision {
        match &self.plan {
            Ok(plan) => {
                let accepts = |used: &PinnedUse, arguments: &Value| self.program.accepts(used, arguments);
                decide(plan, &self.pinned.uses, &accepts, &run.input, history)
            }
            Err(Fault { place, message }) => {
                let message =
                    format!("This version of the hub cannot read the workflow: `{place}`: {message}.");
                Decision::Finish(Ending::Failure(RunError::new("internal_error", message)))
            }
        }
    }

    fn perform(&self, run: &RunRecord, _: &History, step: &Step, _: Live) -> Performing {
        let call = self.program.call_tool(run, &self.charges, step);
        let Some(ms) = self.timeout_ms(step) else { return call };
        let late =
            RunError::new("timeout", format!("It took longer than its `timeout_seconds`, {}.", ms / 1000));
        let limit = Duration::from_millis(ms.unsigned_abs());
        Box::pin(async move { tokio::time::timeout(limit, call).await.unwrap_or(Err(late)) })
    }

    fn name<'n>(&'n self, _: &'n RunRecord) -> &'n str {
        &self.pinned.workflow.name
    }

    fn child(&self, run: &RunRecord, _: &History, step: &Step) -> Result<ChildRun, RunError> {
        let planned = self.plan.as_ref().ok().and_then(|plan| plan.step_of(&step.id));
        let used = planned.and_then(|planned| self.pinned.uses.get(&planned.id));
        let Some(PinnedUse::Run(called)) = used else {
            let message = format!("The step `{}` begins no run.", step.id);
            return Err(RunError::new("internal_error", message));
        };
        child_run(called, step, self.timeout_ms(step), run, self.charges.spending())
    }
}
