//! Webhooks: the ends of runs, told as Standard Webhooks says
//! (<https://www.standardwebhooks.com>). The commit that ends a run writes what
//! is owed; [`deliver`] sends it, [`sign`] signs it, [`backoff`] says when it is
//! tried again, and here is what the API asks for.

mod attempt;
pub mod backoff;
mod deliver;
mod payload;
mod places;
mod secrets;
pub mod sign;

use std::fmt;
use std::sync::Arc;

use http::Uri;
use nh_engine::NewRun;
use nh_http::Outbound;
use nh_store::StoreError;
use nh_store::seals::Sealer;
use nh_store::webhooks::{self, Attempt, DeliveryRecord};
use nh_types::webhook::{AttemptView, DeliveryDetail, DeliveryId, DeliveryView, event_type};
use nh_types::{ApiError, RunId, WorkspaceId};
use url::Url;

use crate::hub::Hub;
use crate::start::{invalid, shortened};

pub use deliver::{Deliveries, keep};
pub use secrets::{OLD_SIGNS_MS, Rotated, rotate, secret_view};

const MAX_URL_CHARS: usize = 2048;

/// What deliveries go through.
#[derive(Clone)]
pub struct Webhooks {
    /// The URLs come from users, so it is the guarded one.
    pub http: Outbound,
    /// Of the secrets that sign.
    pub sealer: Arc<Sealer>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

impl Webhooks {
    /// That the run's `webhook_url`, if it has one, can be told anything.
    pub(crate) fn check_run(&self, run: &mut NewRun) -> Result<(), ApiError> {
        if let Some(url) = &mut run.webhook_url {
            *url = self.checked(url)?;
        }
        Ok(())
    }

    /// The URL as it is asked for. No message repeats more of it than its host:
    /// the rest may be a secret.
    fn checked(&self, given: &str) -> Result<String, ApiError> {
        let refused = |why: String| {
            invalid("webhook_url", format!("`webhook_url` {why}; give one such as https://example.com/hook"))
        };
        let chars = given.chars().count();
        if chars > MAX_URL_CHARS {
            return Err(refused(format!("has {chars} characters, more than {MAX_URL_CHARS}")));
        }
        let mut url = Url::parse(given).map_err(|error| refused(format!("is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = shortened(url.scheme());
            return Err(refused(format!("has the scheme `{scheme}`; only https and http can be used")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(
                "holds a user name or a password; put a token into its path or query".to_owned(),
            ));
        }
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().map_err(|error| refused(format!("is no URL: {error}")))?;
        self.http.check(&uri).map_err(|error| refused(format!("cannot be used: {error}")))?;
        Ok(url.into())
    }
}

/// Has a delivery made once more; None when the workspace has none such.
pub async fn redeliver(
    hub: &Hub,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Option<DeliveryView>, StoreError> {
    let redeliver = webhooks::Redeliver { workspace_id: workspace_id.clone(), run_id, now: hub.clock.now() };
    let found = hub.store.write(redeliver).await?;
    hub.engine.webhook_owed().notify_one();
    Ok(found.map(view))
}

/// A delivery with its tries; None when the workspace has none such.
pub async fn detail(
    hub: &Hub,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Option<DeliveryDetail>, StoreError> {
    let Some(found) = webhooks::find(&hub.store, workspace_id, run_id).await? else { return Ok(None) };
    let attempts = webhooks::attempts(&hub.store, workspace_id, run_id).await?;
    Ok(Some(DeliveryDetail { delivery: view(found), attempts: attempts.into_iter().map(attempt).collect() }))
}

pub fn view(record: DeliveryRecord) -> DeliveryView {
    DeliveryView {
        id: DeliveryId::of(record.run_id),
        run_id: record.run_id,
        event_type: event_type(record.run_state).to_owned(),
        url: record.url,
        state: record.state,
        attempt_count: record.attempt_count,
        next_attempt_at: record.next_at,
        last_status_code: record.last_status_code,
        last_error: record.last_error,
        created_at: record.created_at,
    }
}

fn attempt(attempt: Attempt) -> AttemptView {
    let Attempt { at, duration_ms, status_code, error, response } = attempt;
    AttemptView { at, duration_ms, status_code, error, response }
}
