use std::collections::HashSet;

use super::quantized::quantize;
use crate::identifiers::Fingerprint;

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
    /// Of what is written in a memory, with its first row; sorted.
    written: Vec<(Fingerprint, u16)>,
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

    /// What is written in the memory whose row came last; to be sorted.
    pub(super) fn note(&mut self, written: impl Iterator<Item = Fingerprint>) {
        let Some(row) = self.owners.len().checked_sub(1) else { return };
        self.written.extend(written.map(|print| (print, row as u16)));
    }

    pub(super) fn sort(&mut self) {
        self.written.sort_unstable();
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
        let kept = old.written.into_iter();
        self.written = kept.filter_map(|(print, row)| Some((print, places[usize::from(row)]?))).collect();
    }

    /// The memories in which this is written.
    pub(super) fn with(&self, print: Fingerprint) -> impl Iterator<Item = &Owner> {
        let start = self.written.partition_point(|(one, _)| *one < print);
        let rows = self.written[start..].iter().take_while(move |(one, _)| *one == print);
        rows.map(|(_, row)| &self.owners[usize::from(*row)]).filter(|owner| owner.is_alive)
    }

    pub(super) fn alive(&self) -> usize {
        self.owners.len() - self.dead
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.capacity()
            + self.scales.capacity() * size_of::<f32>()
            + self.owners.capacity() * size_of::<Owner>()
            + self.written.capacity() * size_of::<(Fingerprint, u16)>()
    }
}
