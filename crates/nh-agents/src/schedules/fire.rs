//! Begins the runs of schedules whose time has come.
//!
//! A tick begins one run, whoever sees it and however often: the run is started
//! under an idempotency record that the schedule and the tick name, and then
//! the schedule's row is moved on, only if it is still as it was read. A crash
//! between the two begins no second run, as long as the hub is back within the
//! record's life (24 h).

use std::time::Duration;

use nh_engine::{EngineError, Submitted};
use nh_store::schedules::{self, ScheduleRecord, Ticked};
use nh_store::{Idempotency, StoreError, keys, runs, users};
use nh_types::key::KeyLimits;
use nh_types::run::RunError;
use nh_types::schedule::{Missed, Overlap};
use nh_types::{ScopeSet, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, HubError, RunCaller, RunRequest};
use crate::schedules::cron::Ticks;

/// Schedules seen to in one look.
const BATCH: u32 = 100;
/// A tick so old is a missed one.
const GRACE_MS: i64 = 60_000;
/// After so long it is tried again where the queue was full.
const QUEUE_FULL_MS: i64 = 10_000;
/// Schedules of other nodes, and clocks that jump, are seen within this time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Why a tick begins no run.
enum Refusal {
    /// Nothing that waiting would mend: the schedule is disabled.
    Disable(RunError),
    /// This tick is passed over.
    Pass(RunError),
    /// It is tried again soon.
    Later(RunError),
}

/// Sees to all schedules until the hub stops.
pub async fn keep(hub: Hub, stopping: CancellationToken) {
    loop {
        let wait = match hub.fire_due().await {
            Ok(Some(next)) => {
                let ms = next.millis_since(hub.clock.now()).max(0);
                Duration::from_millis(ms.unsigned_abs()).min(LOOK_AGAIN)
            }
            Ok(None) => LOOK_AGAIN,
            Err(error) => {
                tracing::error!(%error, "schedules could not be seen to");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = hub.schedules_changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Hub {
    /// Begins what is due, and says when more will be.
    pub async fn fire_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = schedules::due(&self.store, self.clock.now(), BATCH).await?;
        for schedule in due {
            let id = schedule.id.clone();
            if let Err(error) = self.fire(schedule).await {
                tracing::error!(schedule = %id, %error, "a schedule could not be seen to; it is tried again");
            }
        }
        schedules::next_due(&self.store).await
    }

    async fn fire(&self, schedule: ScheduleRecord) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(was_due_at) = schedule.next_at else { return Ok(()) };
        let (workspace_id, id) = (schedule.workspace_id.clone(), schedule.id.clone());
        let was_updated_at = schedule.updated_at;
        let definition = &schedule.definition;
        let ticks = Ticks::read(&definition.cron, &definition.time_zone).ok();
        let mut next_at = ticks.as_ref().and_then(|ticks| ticks.after(now));
        let tick = ticks.and_then(|ticks| ticks.at_or_before(now)).unwrap_or(was_due_at);
        let (mut began, mut error, mut disables) = (None, None, false);
        let is_missed = now.millis_since(tick) > GRACE_MS && definition.missed == Missed::Skip;
        if !is_missed {
            match self.begin(&schedule, tick).await? {
                Ok(run_id) => began = Some((tick, run_id)),
                Err(Refusal::Pass(why)) => error = Some(why),
                Err(Refusal::Later(why)) => {
                    let soon = now.plus_millis(QUEUE_FULL_MS);
                    (error, next_at) = (Some(why), Some(next_at.map_or(soon, |next| next.min(soon))));
                }
                Err(Refusal::Disable(why)) => (error, next_at, disables) = (Some(why), None, true),
            }
        }
        let ticked = Ticked { workspace_id, id, was_due_at, was_updated_at, next_at, began, error, disables };
        self.store.write(ticked).await.map(drop)
    }

    async fn begin(
        &self,
        schedule: &ScheduleRecord,
        tick: Timestamp,
    ) -> Result<Result<nh_types::RunId, Refusal>, StoreError> {
        if schedule.definition.overlap == Overlap::Skip && self.goes_on(schedule).await? {
            let message = "The run of the last tick still went on, so this one was passed over.";
            return Ok(Err(Refusal::Pass(RunError::new("overlap", message))));
        }
        let caller = match self.owner(schedule).await? {
            Some(caller) => caller,
            None => {
                let message = format!(
                    "Who made or last changed the schedule, {}, is no longer there or may no longer act here; \
                     change it with a credential that works to enable it again.",
                    schedule.created_by
                );
                return Ok(Err(Refusal::Disable(RunError::new("credential_ended", message))));
            }
        };
        let mut run = schedule.definition.run.clone();
        let metadata = run.metadata.get_or_insert_default();
        metadata.insert("schedule_id".to_owned(), Value::from(schedule.id.as_str()));
        metadata.insert("scheduled_for".to_owned(), Value::from(tick.to_string()));
        let once = Idempotency {
            owner: format!("{}/schedule:{}", schedule.workspace_id, schedule.id),
            key: tick.to_string(),
            body_hash: [0; 32],
            at: self.clock.now(),
        };
        match self.start_run(&caller, RunRequest::Start(run), Some(once)).await {
            Ok(Submitted::Started(watch)) => Ok(Ok(watch.run_id())),
            Ok(Submitted::Replay(run_id)) => Ok(Ok(run_id)),
            Ok(Submitted::Mismatch) => {
                let message = "Another run has this tick's name.";
                Ok(Err(Refusal::Pass(RunError::new("internal_error", message))))
            }
            Err(HubError::Refused(error)) => {
                Ok(Err(Refusal::Pass(RunError::new(error.code.as_str(), error.message))))
            }
            Err(HubError::Engine(EngineError::Store(error))) => Err(error),
            Err(HubError::Engine(error)) => Ok(Err(Refusal::Later(RunError::new(
                "queue_full",
                format!("{error}; it is tried again soon."),
            )))),
        }
    }

    /// Whether the run of the last tick has not ended.
    async fn goes_on(&self, schedule: &ScheduleRecord) -> Result<bool, StoreError> {
        let Some(run_id) = schedule.last_run_id else { return Ok(false) };
        let run = runs::find(&self.store, &schedule.workspace_id, run_id).await?;
        Ok(run.is_some_and(|run| !run.state.is_terminal()))
    }

    /// On whose behalf its runs go, if they may still act in the workspace.
    async fn owner(&self, schedule: &ScheduleRecord) -> Result<Option<RunCaller>, StoreError> {
        let (workspace_id, now) = (&schedule.workspace_id, self.clock.now());
        let caller = |scopes: ScopeSet, limits: KeyLimits| RunCaller {
            workspace_id: workspace_id.clone(),
            scopes,
            created_by: schedule.created_by.clone(),
            limits,
        };
        match schedule.created_by.split_once(':') {
            Some(("key", id)) => {
                let Ok(id) = id.parse() else { return Ok(None) };
                let key = keys::find(&self.store, workspace_id, id).await?;
                let is_good = |key: &keys::KeyRecord| {
                    key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > now)
                };
                Ok(key
                    .filter(is_good)
                    .map(|key| caller(schedule.scopes.shared_with(&key.scopes), key.limits)))
            }
            Some(("session", id)) => {
                let Ok(id) = id.parse() else { return Ok(None) };
                let memberships = users::memberships(&self.store, &id).await?;
                let is_member = memberships.iter().any(|member| member.workspace_id == *workspace_id);
                Ok(is_member.then(|| caller(schedule.scopes.clone(), KeyLimits::default())))
            }
            _ => Ok(None),
        }
    }
}
