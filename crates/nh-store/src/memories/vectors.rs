use crate::StoreError;
use crate::columns::Columns;

/// The embeddings of one content.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    pub model: String,
    /// Numbers in each embedding.
    pub dimensions: u32,
    /// Of each part of the content, one after the other, each of length 1.
    pub values: Vec<f32>,
}

impl Vectors {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

impl Columns<'_> {
    pub(super) fn floats(&mut self) -> Result<Vec<f32>, StoreError> {
        let bytes = self.bytes()?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(StoreError::Corrupt(format!("embeddings of {} bytes", bytes.len())));
        }
        Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}
