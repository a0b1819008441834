//! What may pass is tried again a few times.

use std::time::Duration;

use nh_http::HttpError;
use nh_types::ErrorCode;

use super::objects::is_refused;
use crate::exit::Failure;
use crate::output::Progress;

const MAX_TRIES: u32 = 6;
/// The longest pause between two tries by itself, and one that the hub may ask for.
const MAX_PAUSE_SECONDS: u64 = 15;
const MAX_ASKED_PAUSE_SECONDS: u64 = 120;

/// Whether the same request may succeed later.
pub(super) fn is_passing(failure: &Failure) -> bool {
    let is_broken = |error: &HttpError| {
        matches!(
            error,
            HttpError::Resolve { .. }
                | HttpError::Connect { .. }
                | HttpError::TimedOut { .. }
                | HttpError::Broken { .. }
        )
    };
    match failure {
        Failure::Unreachable { source, .. } => is_broken(source),
        Failure::Refused { status, .. } => {
            matches!(status, 408 | 429 | 500..) || is_refused(failure, ErrorCode::IdempotencyInFlight)
        }
        Failure::Other(error) => error.downcast_ref::<HttpError>().is_some_and(is_broken),
        _ => false,
    }
}

/// Waits before the next try, of which `tries` were made; what cannot pass, or
/// did not, is the end.
pub(super) async fn pause(failure: Failure, tries: u32, progress: &Progress) -> Result<(), Failure> {
    let asked = match &failure {
        Failure::Refused { retry_after_seconds, .. } => retry_after_seconds.unwrap_or(0),
        _ => 0,
    };
    if tries >= MAX_TRIES || asked > MAX_ASKED_PAUSE_SECONDS || !is_passing(&failure) {
        return Err(failure);
    }
    let seconds = MAX_PAUSE_SECONDS.min(1 << tries >> 1).max(asked);
    let why = match &failure {
        Failure::Unreachable { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    progress.note(format!("{why}; trying again in {seconds} s"));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(())
}

/// Makes a request that may be made twice, until it is answered. Requests are large,
/// and so are many of them side by side: each is in a place of its own.
pub(super) async fn patiently<T, F>(progress: &Progress, request: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut tries = 1;
    loop {
        match Box::pin(request()).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => pause(failure, tries, progress).await?,
        }
        tries += 1;
    }
}
