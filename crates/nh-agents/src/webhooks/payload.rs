use nh_store::runs::RunRecord;
use nh_types::webhook::{WebhookEvent, WebhookRun, event_type};

use crate::view;

/// A larger result is left out: whoever is told can ask for it.
const MAX_RESULT_BYTES: usize = 64 * 1024;
const MAX_MESSAGE_CHARS: usize = 4000;

/// What is told of a run that has ended. Its row does not change any more, so
/// each try has the same body.
pub(super) fn event(mut run: RunRecord) -> WebhookEvent {
    let result = run.result.take();
    let is_large = result.as_ref().is_some_and(|result| result.to_string().len() > MAX_RESULT_BYTES);
    if let Some(error) = &mut run.error
        && let Some((cut, _)) = error.message.char_indices().nth(MAX_MESSAGE_CHARS)
    {
        error.message.truncate(cut);
    }
    WebhookEvent {
        event_type: event_type(run.state).to_owned(),
        timestamp: run.finished_at.unwrap_or(run.created_at),
        data: WebhookRun {
            run: view::summary(run),
            result: result.filter(|_| !is_large),
            result_omitted: is_large,
        },
    }
}
