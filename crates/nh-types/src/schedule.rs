//! `/v1/schedules`: runs that begin by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::{RunId, ScheduleId};
use crate::patch::{not_null, present};
use crate::run::{RunError, StartRun};

/// What becomes of ticks that passed while no hub was there to see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// However many there were, one run begins, late.
    #[default]
    RunOnce,
    /// A tick that is more than a minute old is passed over.
    Skip,
}

/// What becomes of a tick while the run of the last one goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Another run begins beside it.
    #[default]
    Allow,
    /// The tick is passed over.
    Skip,
}

/// What a schedule starts, and when.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDefinition {
    pub name: String,
    /// Five fields, or one of `@hourly @daily @weekly @monthly @yearly`.
    pub cron: String,
    /// A name of the IANA time zone database.
    pub time_zone: String,
    /// As `POST /v1/run` takes it, without what says how to wait for it.
    pub run: StartRun,
    pub missed: Missed,
    pub overlap: Overlap,
}

/// A schedule as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    pub id: ScheduleId,
    #[serde(flatten)]
    pub definition: ScheduleDefinition,
    pub enabled: bool,
    /// When its next run begins; null while it is not enabled, or when no such
    /// time will come.
    pub next_at: Option<Timestamp>,
    /// The tick of its last run.
    pub last_at: Option<Timestamp>,
    pub last_run_id: Option<RunId>,
    /// Why the last tick began no run.
    pub last_error: Option<RunError>,
    /// `key:42` or `session:user_…`: whose scopes its runs have.
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `GET /v1/schedules`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    pub schedules: Vec<ScheduleView>,
    pub next_cursor: Option<String>,
}

/// `POST /v1/schedules`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Morning report", "cron": "0 7 * * 1-5", "time_zone": "Europe/Berlin", "run": {"target": "agent_default", "type": "agent", "input": {"goal": "What is 17 * 23?"}}}))]
pub struct CreateSchedule {
    /// Absent: the hub makes one, `sched_…`.
    #[serde(default)]
    pub id: Option<String>,
    /// At most 128 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// Minute, hour, day of the month, month, day of the week; or one of
    /// `@hourly @daily @weekly @monthly @yearly`.
    pub cron: String,
    /// A name of the IANA time zone database; absent: `UTC`.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// As `POST /v1/run` takes it; `async`, `wait_seconds` and `delay_seconds`
    /// have no meaning here.
    pub run: StartRun,
    #[serde(default)]
    pub missed: Missed,
    #[serde(default)]
    pub overlap: Overlap,
    /// Absent: true.
    #[serde(default)]
    pub enabled: Option<bool>,
}

/// `PATCH /v1/schedules/{id}`: what is absent stays as it is. Whoever changes a
/// schedule lends it their scopes from then on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"enabled": false}))]
pub struct ChangeSchedule {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Option<String>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub cron: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<Option<String>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = StartRun, required = false)]
    pub run: Option<StartRun>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Missed, required = false)]
    pub missed: Option<Missed>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Overlap, required = false)]
    pub overlap: Option<Overlap>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    pub enabled: Option<bool>,
}
