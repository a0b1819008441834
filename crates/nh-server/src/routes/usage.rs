//! `/v1/usage`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use nh_store::usage;
use nh_types::usage::{UsageBy, UsageReport};
use nh_types::{ApiError, ErrorCode, Timestamp};

use crate::app::App;
use crate::auth::{Auth, UsageRead};
use crate::failure::{Answer, Failure};
use crate::paging::Query;

const MAX_SUMS: u32 = 5_000;
/// Shown where nothing else is asked for.
const DEFAULT_MS: i64 = 30 * 86_400_000;
/// How long a report waits for the calls that have just ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sum up what the workspace's model calls, sandboxes and stored bytes used and cost, by day, key,
/// provider, model, agent or kind, or several of them.
#[utoipa::path(get, path = "/v1/usage", tag = "Chat and models",
    params(
        ("by" = Option<String>, Query, description = "One or several of `day`, `key`, `provider`, `model`, `agent` and `kind`, with commas between; absent: `day`"),
        ("from" = Option<Timestamp>, Query, description = "Absent: 30 days before `to`"),
        ("to" = Option<Timestamp>, Query, description = "Not included; absent: now")),
    security(("bearer" = ["usage:read"]), ("session" = ["usage:read"])),
    responses((status = 200, body = UsageReport)))]
pub(crate) async fn report(
    auth: Auth<UsageRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<UsageReport>> {
    let by = by(query.take("by")?.as_deref())?;
    // The last calls count too: what is under way ends later.
    let _too_slow = tokio::time::timeout(PATIENCE, app.hub.models.usage().flush()).await;
    let to = query.time("to")?.unwrap_or_else(|| app.clock.now().plus_millis(1));
    let from = query.time("from")?.unwrap_or_else(|| to.plus_millis(-DEFAULT_MS));
    query.finish()?;
    if from >= to {
        let message = format!("`from` is {from}, which is not before `to`, {to}");
        return Err(ApiError::new(ErrorCode::InvalidValue, message).param("from").into());
    }
    let (store, time) = (&app.hub.store, (from, to));
    let mut sums = usage::sums(store, &auth.workspace_id, time, &by, MAX_SUMS + 1).await?;
    let total = usage::sums(store, &auth.workspace_id, time, &[], 1).await?;
    let is_truncated = sums.len() > MAX_SUMS as usize;
    sums.truncate(MAX_SUMS as usize);
    let total = total.into_iter().next().unwrap_or_default();
    Ok(Json(UsageReport { from, to, by, usage: sums, total, is_truncated }))
}

fn by(text: Option<&str>) -> Answer<Vec<UsageBy>> {
    let mut by = Vec::new();
    for word in text.unwrap_or("day").split(',').map(str::trim) {
        let one: UsageBy = word.parse().map_err(|error: nh_types::run::UnknownWord| {
            Failure::from(ApiError::new(ErrorCode::InvalidValue, format!("`by`: {error}")).param("by"))
        })?;
        if !by.contains(&one) {
            by.push(one);
        }
    }
    Ok(by)
}
