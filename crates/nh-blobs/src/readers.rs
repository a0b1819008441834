//! Objects of several pieces that are being read. The sweep leaves their places
//! alone until whoever reads is through, although the object was replaced or
//! deleted. One of one piece needs none of this: it is open already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::blobs::Piece;

/// How many read each place, in this process.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<HashMap<String, usize>>>);

/// One that reads these, until it is dropped.
pub(crate) struct Reader {
    readers: Readers,
    places: Vec<String>,
}

impl Readers {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, pieces: &[Piece]) -> Reader {
        let places: Vec<String> = pieces.iter().map(|Piece(place, _)| place.clone()).collect();
        let mut counts = self.counts();
        for place in &places {
            *counts.entry(place.clone()).or_default() += 1;
        }
        Reader { readers: self.clone(), places }
    }

    pub(crate) fn has(&self, place: &str) -> bool {
        self.counts().contains_key(place)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        for place in &self.places {
            if let Some(count) = counts.get_mut(place) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(place);
                }
            }
        }
    }
}
