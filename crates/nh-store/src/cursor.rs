//! Cursors of lists that are sorted by a time and then by an id.

use nh_types::Timestamp;

use crate::StoreError;

/// The place of one row in a list that runs from the newest to the oldest.
pub(crate) struct Cursor {
    pub(crate) at_ms: i64,
    pub(crate) id: String,
}

impl Cursor {
    /// `1770379200000.agent_1`.
    pub(crate) fn text(at: Timestamp, id: &str) -> String {
        format!("{}.{id}", at.as_millis())
    }

    /// Where a list goes on; without a cursor, before its first row.
    pub(crate) fn after(cursor: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = cursor else {
            return Ok(Self { at_ms: i64::MAX, id: String::new() });
        };
        let place = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
        let (at_ms, id) = place.ok_or_else(|| StoreError::InvalidCursor(text.chars().take(80).collect()))?;
        Ok(Self { at_ms, id })
    }
}
