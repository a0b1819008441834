use std::collections::HashSet;

use super::quantized::quantize;
use crate::identifiers::fingerprint;

/// Rows of one segment; the last segment of a block is filled up to it.
pub(super) const SEGMENT_ROWS: usize = 4096;

/// A memory's id without its prefix.
pub(crate) type Key = [u8; 20];

/// Some rows of a block: each is the embedding of one part of a memory.
#[derive(Clone, Default)]
pub(super) struct Segment {
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) owners: Vec<Owner>,
    /// Fingerprints of the identifiers in a memory, with its first row.
    identifiers: Vec<(u32, u16)>,
    dead: usize,
}

/// Whose row it is.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) key: Key,
    pub(super) namespace: u32,
    /// Milliseconds since 1970.
    pub(super) expires_at: i64,
    pub(super) is_alive: bool,
}

impl Segment {
    pub(super) fn is_full(&self) -> bool {
        self.owners.len() >= SEGMENT_ROWS
    }

    pub(super) fn push(&mut self, owner: Owner, vector: &[f32]) {
        let scale = quantize(vector, &mut self.codes);
        self.scales.push(scale);
        self.owners.push(owner);
    }

    /// Of the memory whose row came last.
    pub(super) fn note(&mut self, identifiers: impl Iterator<Item = String>) {
        let Some(row) = self.owners.len().checked_sub(1) else { return };
        self.identifiers.extend(identifiers.map(|identifier| (fingerprint(&identifier), row as u16)));
    }

    pub(super) fn has_any(&self, keys: &HashSet<Key>) -> bool {
        self.owners.iter().any(|owner| owner.is_alive && keys.contains(&owner.key))
    }

    /// The rows are passed over from now on, and gone once half of all are dead.
    pub(super) fn remove(&mut self, keys: &HashSet<Key>, dimensions: usize) {
        for owner in &mut self.owners {
            if owner.is_alive && keys.contains(&owner.key) {
                owner.is_alive = false;
                self.dead += 1;
            }
        }
        if self.dead * 2 > self.owners.len() {
            self.compact(dimensions);
        }
    }

    fn compact(&mut self, dimensions: usize) {
        let old = std::mem::take(self);
        let mut places = vec![None; old.owners.len()];
        for (row, owner) in old.owners.into_iter().enumerate() {
            if owner.is_alive {
                places[row] = Some(self.owners.len() as u16);
                self.codes.extend_from_slice(&old.codes[row * dimensions..][..dimensions]);
                self.scales.push(old.scales[row]);
                self.owners.push(owner);
            }
        }
        let kept = old.identifiers.into_iter();
        self.identifiers = kept.filter_map(|(print, row)| Some((print, places[usize::from(row)]?))).collect();
    }

    /// The memories that are alive and have an identifier with this fingerprint.
    pub(super) fn naming(&self, print: u32) -> impl Iterator<Item = &Owner> {
        self.identifiers
            .iter()
            .filter(move |(one, _)| *one == print)
            .map(|(_, row)| &self.owners[usize::from(*row)])
            .filter(|owner| owner.is_alive)
    }

    pub(super) fn alive(&self) -> usize {
        self.owners.len() - self.dead
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.capacity()
            + self.scales.capacity() * size_of::<f32>()
            + self.owners.capacity() * size_of::<Owner>()
            + self.identifiers.capacity() * size_of::<(u32, u16)>()
    }
}
