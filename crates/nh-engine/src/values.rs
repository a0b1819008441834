//! Large values: what stands in a run's rows for them, where they are kept, and
//! how a run is read with all of them in their places.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use nh_store::runs::{self, EventReference, EventRow, Insert, Kept, LargeValue, RunRecord, SignalRow};
use nh_store::{Store, StoreError};
use nh_types::{JsonText, RunId, Timestamp, WorkspaceId};
use serde_json::Value;

use crate::engine::EngineError;
use crate::journal::Event;

/// A value is kept apart from its row when its JSON text has more bytes.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Parts of 256 KiB removed in one transaction, while other writes wait.
const PARTS_REMOVED_AT_ONCE: u32 = 64;

/// Where large values are kept, by run and name.
///
/// Whoever reads a reference must find what it refers to, so a value is put
/// before its row is committed. A store of objects writes it in `put`; what a
/// commit that fails leaves behind is an orphan like any other. (A driver that
/// lost its run may put another value under the same name: objects must be
/// told apart by the epoch or their content.) The table of this store lets it
/// ride in the commit itself, which costs no write of its own and leaves no
/// orphans.
pub trait ValueStore: Send + Sync + 'static {
    /// Keeps a value of a run. What comes back is written with the row that
    /// refers to it: without its text, once that is kept elsewhere.
    fn put<'a>(
        &'a self,
        workspace_id: &'a WorkspaceId,
        run_id: RunId,
        value: LargeValue,
    ) -> BoxFuture<'a, Result<LargeValue, StoreError>>;

    /// How many bytes a value has; None when the workspace's run has none such.
    fn bytes<'a>(
        &'a self,
        workspace_id: &'a WorkspaceId,
        run_id: RunId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// The bytes of a value from one on, as many as are well read at once;
    /// none only at its end.
    fn read<'a>(
        &'a self,
        workspace_id: &'a WorkspaceId,
        run_id: RunId,
        name: &'a str,
        from: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Removes some values of runs that were made before and are no more;
    /// whether there may be others.
    fn remove_orphans(&self, before: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// Where this hub keeps large values.
pub fn values_of(store: &Store) -> Arc<dyn ValueStore> {
    Arc::new(ValueTable(store.clone()))
}

/// In parts, in a table beside the rows.
struct ValueTable(Store);

impl ValueStore for ValueTable {
    fn put<'a>(
        &'a self,
        _: &'a WorkspaceId,
        _: RunId,
        value: LargeValue,
    ) -> BoxFuture<'a, Result<LargeValue, StoreError>> {
        Box::pin(std::future::ready(Ok(value)))
    }

    fn bytes<'a>(
        &'a self,
        workspace_id: &'a WorkspaceId,
        run_id: RunId,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(runs::value_bytes(&self.0, workspace_id, run_id, name))
    }

    fn read<'a>(
        &'a self,
        workspace_id: &'a WorkspaceId,
        run_id: RunId,
        name: &'a str,
        from: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(runs::value_from(&self.0, workspace_id, run_id, name, from))
    }

    fn remove_orphans(&self, before: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let limit = PARTS_REMOVED_AT_ONCE;
            let removed = self.0.write(runs::RemoveOrphans { before, limit }).await?;
            Ok(removed == u64::from(limit))
        })
    }
}

/// A large value as text.
pub async fn read_value(
    values: &dyn ValueStore,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    name: &str,
    bytes: u64,
) -> Result<String, EngineError> {
    let unreadable = |reason: String| EngineError::UnreadableValue { name: name.to_owned(), reason };
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    while (text.len() as u64) < bytes {
        let more = values.read(workspace_id, run_id, name, text.len() as u64).await?;
        if more.is_empty() {
            return Err(unreadable(format!("{} of its {bytes} bytes are there", text.len())));
        }
        text.extend(more);
    }
    String::from_utf8(text).map_err(|error| unreadable(error.to_string()))
}

/// Puts into a run that was read what is kept apart of its row.
pub(crate) async fn fill_run(values: &dyn ValueStore, run: &mut RunRecord) -> Result<(), EngineError> {
    let apart = run.apart;
    if let Some(bytes) = apart.input {
        run.input = read_column(values, run, "input", bytes).await?;
    }
    if let Some(bytes) = apart.definition {
        run.definition = read_column(values, run, "definition", bytes).await?;
    }
    if let Some(bytes) = apart.result {
        run.result = Some(read_column(values, run, "result", bytes).await?);
    }
    Ok(())
}

async fn read_column(
    values: &dyn ValueStore,
    run: &RunRecord,
    name: &str,
    bytes: u64,
) -> Result<Value, EngineError> {
    let text = read_value(values, &run.workspace_id, run.id, name, bytes).await?;
    serde_json::from_str(&text).map_err(|error| unreadable(name, &error))
}

/// Puts into events that were read what is kept apart of them.
pub async fn fill_events(
    values: &dyn ValueStore,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    rows: &mut [EventRow],
) -> Result<(), EngineError> {
    for row in rows {
        let Some(reference) = EventReference::read(row.data.as_str()) else { continue };
        let name = reference.name(&row.kind, row.seq);
        let text = read_value(values, workspace_id, run_id, &name, reference.bytes).await?;
        let filled = JsonText::new(reference.filled(&text)).map_err(|error| unreadable(&name, &error))?;
        row.data = filled;
    }
    Ok(())
}

fn unreadable(name: &str, error: &serde_json::Error) -> EngineError {
    EngineError::UnreadableValue { name: name.to_owned(), reason: error.to_string() }
}

/// Takes what is large out of the row of a run that is to be stored.
pub(crate) fn split_run(insert: &mut Insert) {
    let Insert { run, input, definition, large, .. } = insert;
    let columns =
        [("input", input, &mut run.apart.input), ("definition", definition, &mut run.apart.definition)];
    for (name, column, apart) in columns {
        let Kept::Here(text) = column else { continue };
        if text.len() > LARGE_BYTES {
            let bytes = text.len() as u64;
            large.push(LargeValue::new(name, std::mem::take(text)));
            (*column, *apart) = (Kept::Apart(bytes), Some(bytes));
        }
    }
}

/// Takes out of an event's row the value in it that is large, if one is; the
/// row's text is over [`LARGE_BYTES`].
pub(crate) fn split_event(event: &Event, row: &EventRow) -> Option<(EventRow, LargeValue)> {
    let (field, text) = event.value()?;
    if text.len() <= LARGE_BYTES {
        return None;
    }
    // Only texts stand before the value, and in a text a quote has a backslash
    // before it: so the first place that looks like the field's name is it.
    let (before, after) = row.data.as_str().split_once(&format!(r#""{field}":"#))?;
    let after = after.strip_prefix(text.as_str())?;
    let before = before.strip_prefix('{')?.trim_end_matches(',');
    let rest = if before.is_empty() { after.to_owned() } else { format!(",{before}{after}") };
    let reference = EventReference { field, bytes: text.len() as u64, rest: &rest };
    let data = JsonText::new(reference.write()).ok()?;
    let value = LargeValue::new(reference.name(&row.kind, row.seq), text);
    Some((EventRow { data, ..row.clone() }, value))
}

/// Takes what is large out of a word to a run.
pub(crate) fn split_signal(mut signal: SignalRow) -> SignalRow {
    if signal.data.as_str().len() > LARGE_BYTES {
        let data = std::mem::take(&mut signal.data);
        signal.large = Some(LargeValue::new(signal.value_name(), data.as_str()));
    }
    signal
}

/// Puts into signals that were read what is kept apart of them. What cannot be
/// read says nothing, which whoever waits for it takes as a fault.
pub(crate) async fn fill_signals(
    values: &dyn ValueStore,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    signals: &mut [SignalRow],
) -> Result<(), StoreError> {
    for signal in signals {
        let Some(LargeValue { name, bytes, .. }) = &signal.large else { continue };
        match read_value(values, workspace_id, run_id, name, *bytes).await {
            Ok(text) => signal.data = JsonText::new(text).unwrap_or_default(),
            Err(EngineError::Store(error)) => return Err(error),
            Err(error) => tracing::error!(run = %run_id, %error, "a signal cannot be read"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nh_types::model::Usage;
    use serde_json::json;

    use crate::journal::Step;

    #[test]
    fn a_large_value_is_taken_out_of_its_event_and_put_back() {
        let long = json!({"output": "\"output\":", "text": "é\u{0}\\\"".repeat(LARGE_BYTES / 8)});
        let usage = Usage::NONE;
        let step = Step {
            id: r#"a","arguments":"#.into(),
            kind: "tool".into(),
            name: "t".into(),
            arguments: long.clone(),
            repeatable: false,
            wait: None,
        };
        let id = step.id.clone();
        for (event, name) in [
            (Event::StepStarted(step), "7.arguments"),
            (Event::StepCompleted { step: id, output: long.clone(), usage, within: Vec::new() }, "7.output"),
            (Event::SignalReceived { name: "n".into(), data: long.clone().into(), by: "b".into() }, "7.data"),
            (Event::Succeeded { result: long.clone() }, "result"),
        ] {
            let row = event.to_row(7, Timestamp::from_millis(1));
            let (small, value) = split_event(&event, &row).expect("a split");
            assert_eq!((value.name.as_str(), value.bytes), (name, long.to_string().len() as u64));
            assert!(small.data.as_str().len() < 300, "{:?}", small.data);
            Event::read(&small).expect_err("a reference is no event");
            let reference = EventReference::read(small.data.as_str()).expect("a reference");
            let filled = reference.filled(value.text.as_deref().expect("its text"));
            let filled = EventRow { data: JsonText::new(filled).expect("json"), ..small };
            assert!(Event::read(&filled).expect("readable") == event);
        }
    }
}
