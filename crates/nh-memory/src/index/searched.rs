use std::sync::Arc;

use nh_store::{Store, StoreError};

use super::large::Pages;
use super::{Block, Found, Key, Wanted};
use crate::identifiers::Fingerprint;
use crate::memories::MemoryError;

/// A block with more rows is searched where it holds up nobody else.
const MAX_ROWS_INLINE: usize = 4096;

/// All memories of one workspace, as one model embeds them, wherever they are.
pub(crate) enum Searched {
    Block(Arc<Block>),
    Pages(Pages),
}

impl Searched {
    /// The memories nearest to what is wanted, about in their order; best first.
    pub(crate) async fn nearest(&self, store: &Store, wanted: Wanted) -> Result<Found, MemoryError> {
        let block = match self {
            Self::Pages(pages) => return Ok(pages.nearest(store, &wanted).await?),
            Self::Block(block) if block.rows() <= MAX_ROWS_INLINE => return Ok(block.nearest(&wanted)),
            Self::Block(block) => block.clone(),
        };
        let looked = tokio::task::spawn_blocking(move || block.nearest(&wanted)).await;
        looked.map_err(|_| crate::local::unavailable("the search was broken off; try again").into())
    }

    /// For each of these, the memories in which it is written; None where they are
    /// more than `most`.
    pub(crate) async fn with(
        &self,
        store: &Store,
        prints: &[Fingerprint],
        most: usize,
    ) -> Result<Vec<Option<Vec<Key>>>, StoreError> {
        match self {
            Self::Block(block) => Ok(prints.iter().map(|print| block.with(*print, most)).collect()),
            Self::Pages(pages) => pages.with(store, prints, most).await,
        }
    }

    /// Rows that are searched; of large workspaces, about.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Block(block) => block.rows(),
            Self::Pages(pages) => pages.rows(),
        }
    }
}
