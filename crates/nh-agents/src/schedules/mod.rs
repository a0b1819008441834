//! Schedules: [`cron`] says when, `fire` begins the runs, and here is what may
//! stand in one: the checks behind `POST` and `PATCH /v1/schedules`.

pub mod cron;
mod fire;

use nh_store::schedules::ScheduleRecord;
use nh_types::run::StartRun;
use nh_types::schedule::{ChangeSchedule, CreateSchedule, ScheduleDefinition, ScheduleView};
use nh_types::{ApiError, ScheduleId, Timestamp};

use crate::hub::{Hub, HubError, RunCaller};
use crate::schedules::cron::{Ticks, Unreadable};
use crate::start::{self, invalid};

pub use fire::keep;

/// Schedules of one workspace.
pub const MAX_SCHEDULES: u32 = 1000;
const MAX_NAME_CHARS: usize = 128;

/// A new schedule, checked.
pub async fn created(
    hub: &Hub,
    caller: &RunCaller,
    id: ScheduleId,
    new: CreateSchedule,
) -> Result<ScheduleRecord, HubError> {
    let definition = ScheduleDefinition {
        name: new.name.unwrap_or_default(),
        cron: new.cron,
        time_zone: new.time_zone.unwrap_or_else(utc),
        run: new.run,
        missed: new.missed,
        overlap: new.overlap,
    };
    let now = hub.clock.now();
    let record = ScheduleRecord {
        workspace_id: caller.workspace_id.clone(),
        id,
        definition,
        enabled: new.enabled.unwrap_or(true),
        created_by: caller.created_by.clone(),
        scopes: caller.scopes.clone(),
        next_at: None,
        last_at: None,
        last_run_id: None,
        last_error: None,
        created_at: now,
        updated_at: now,
    };
    checked(hub, caller, record, now).await
}

/// `schedule` with the change made to it; from now on it has the caller's scopes.
pub async fn changed(
    hub: &Hub,
    caller: &RunCaller,
    schedule: ScheduleRecord,
    change: ChangeSchedule,
) -> Result<ScheduleRecord, HubError> {
    let old = schedule.definition.clone();
    let definition = ScheduleDefinition {
        name: change.name.map_or(old.name, Option::unwrap_or_default),
        cron: change.cron.unwrap_or(old.cron),
        time_zone: change.time_zone.map_or(old.time_zone, |zone| zone.unwrap_or_else(utc)),
        run: change.run.unwrap_or(old.run),
        missed: change.missed.unwrap_or(old.missed),
        overlap: change.overlap.unwrap_or(old.overlap),
    };
    // Greater than before, so that two changes in one millisecond differ.
    let now = hub.clock.now().max(schedule.updated_at.plus_millis(1));
    let is_as_before = definition.cron == schedule.definition.cron
        && definition.time_zone == schedule.definition.time_zone
        && change.enabled.unwrap_or(schedule.enabled) == schedule.enabled;
    let pending = schedule.next_at.filter(|_| is_as_before);
    let record = ScheduleRecord {
        definition,
        enabled: change.enabled.unwrap_or(schedule.enabled),
        created_by: caller.created_by.clone(),
        scopes: caller.scopes.clone(),
        last_error: None,
        updated_at: now,
        ..schedule
    };
    let checked = checked(hub, caller, record, hub.clock.now()).await?;
    // A tick that is tried again soon is not lost.
    Ok(ScheduleRecord { next_at: pending.or(checked.next_at), ..checked })
}

fn utc() -> String {
    "UTC".to_owned()
}

async fn checked(
    hub: &Hub,
    caller: &RunCaller,
    mut record: ScheduleRecord,
    now: Timestamp,
) -> Result<ScheduleRecord, HubError> {
    let ScheduleDefinition { name, cron, time_zone, run, .. } = &record.definition;
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS || name.contains('\0') {
        let message = format!("`name` has {chars} characters; it may have {MAX_NAME_CHARS}, and no NUL");
        return Err(invalid("name", message).into());
    }
    let ticks = Ticks::read(cron, time_zone).map_err(|unreadable| match unreadable {
        Unreadable::Cron(told) => invalid("cron", format!("`cron` is `{}`: {told}", start::shortened(cron))),
        Unreadable::TimeZone(told) => invalid("time_zone", format!("`time_zone`: {told}")),
    })?;
    let next = ticks.after(now);
    if next.is_none() {
        let message = format!("`cron` is `{cron}`, and no such time will come");
        return Err(invalid("cron", message).into());
    }
    // Whatever has become of what it runs, it can be disabled.
    if record.enabled {
        check_run(hub, caller, run.clone()).await?;
    }
    record.next_at = next.filter(|_| record.enabled);
    Ok(record)
}

/// That the run could be started now.
async fn check_run(hub: &Hub, caller: &RunCaller, run: StartRun) -> Result<(), HubError> {
    let given = [
        ("async", run.is_async),
        ("wait_seconds", run.wait_seconds.is_some()),
        ("delay_seconds", run.delay_seconds.is_some()),
    ];
    if let Some((field, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
        let message =
            format!("`run.{field}` has no meaning in a schedule: nobody waits for its runs; leave it out");
        return Err(invalid(&format!("run.{field}"), message).into());
    }
    let tools = hub.tools_of(&caller.workspace_id).await?;
    let default_model = hub.models.default_model(&caller.workspace_id).await.map_err(ApiError::from)?;
    let started = start::new_run(&hub.store, &tools, default_model, caller, run).await;
    let checked = started.and_then(|mut run| Ok(hub.webhooks.check_run(&mut run)?));
    checked.map_err(|error| match error {
        HubError::Refused(error) => HubError::Refused(within_run(error)),
        other => other,
    })
}

/// The fault's place, seen from the schedule.
fn within_run(error: ApiError) -> ApiError {
    let param = error.param.as_ref().map(|param| match param.parse::<nh_types::Scope>() {
        // It names a scope and no field.
        Ok(_) => param.clone(),
        Err(_) => format!("run.{param}"),
    });
    ApiError { param, ..error }
}

pub fn view(record: ScheduleRecord) -> ScheduleView {
    ScheduleView {
        id: record.id,
        definition: record.definition,
        enabled: record.enabled,
        next_at: record.next_at,
        last_at: record.last_at,
        last_run_id: record.last_run_id,
        last_error: record.last_error,
        created_by: record.created_by,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}
