use crate::{StoreError, Tx, Write};

/// Nothing but the record of an idempotency key: a signed URL is in no table.
#[derive(Clone, Debug)]
pub struct NoteLink {
    pub id: String,
}

impl Write for NoteLink {
    type Output = String;

    async fn apply<'t>(&'t self, _: &'t mut Tx) -> Result<String, StoreError> {
        Ok(self.id.clone())
    }
}
