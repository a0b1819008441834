use std::collections::HashSet;
use std::sync::Arc;

use nh_store::memories::{IndexRow, Space};
use nh_types::{MemoryId, Timestamp};

use super::quantized::{quantize, score_rows};
use super::segment::{Key, Owner, Segment};
use crate::identifiers::{Fingerprint, fingerprints};

/// How far two memories may be apart from how they seem by the codes, in scales of
/// the question's. Rounding is off by at most half a scale, evenly: by its root of
/// a twelfth, so with the question's and both memories' roundings, each times an
/// embedding of length 1, the difference is off by half a scale (one standard
/// deviation). This is four.
const CODE_ERRORS: f32 = 2.0;

/// All memories of one workspace, as one model embeds them. What was handed out
/// stays as it is: a change is made to a copy of the segment that it is in.
#[derive(Clone)]
pub(crate) struct Block {
    pub(super) model: String,
    dimensions: usize,
    /// The revision from which on the workspace has this model.
    since: i64,
    /// All changes up to this revision of the workspace are in it.
    pub(super) revision: i64,
    /// When the first of its memories expires, in milliseconds since 1970.
    pub(super) next_expiry: i64,
    namespaces: Vec<String>,
    segments: Vec<Arc<Segment>>,
}

/// What is searched for.
pub(crate) struct Wanted {
    pub(crate) vector: Vec<f32>,
    /// Absent: in all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) at: Timestamp,
    /// Absent: all.
    pub(crate) among: Option<Arc<HashSet<Key>>>,
    /// About the least cosine that counts.
    pub(crate) at_least: f32,
    /// Rows to find.
    pub(crate) count: usize,
    /// What cannot be among so many best memories, however exactly they are
    /// compared, may be left out. Absent: nothing is.
    pub(crate) best: Option<usize>,
}

/// What was found.
pub(crate) struct Found {
    /// The nearest, each memory once, best first.
    pub(crate) keys: Vec<Key>,
    /// There were no others.
    pub(crate) is_all: bool,
}

impl Block {
    pub(super) fn empty(space: &Space) -> Self {
        Self {
            model: space.model.clone(),
            dimensions: space.dimensions as usize,
            since: space.model_since,
            revision: 0,
            next_expiry: i64::MAX,
            namespaces: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Takes in what was written or changed after its revision.
    pub(super) fn apply(&mut self, rows: &[IndexRow]) {
        let changed = rows.iter().filter(|row| row.born <= self.revision).map(|row| key_of(&row.id));
        self.remove(&changed.collect());
        let first = self.segments.len().saturating_sub(1);
        for row in rows {
            self.push(row);
            self.revision = row.revision;
        }
        for segment in self.segments.iter_mut().skip(first).filter(|_| !rows.is_empty()) {
            Arc::make_mut(segment).sort();
        }
    }

    pub(super) fn is_of(&self, space: &Space) -> bool {
        self.model == space.model && self.since == space.model_since
    }

    pub(super) fn remove_expired(&mut self, at: Timestamp) {
        let owners = self.segments.iter().flat_map(|segment| &segment.owners);
        let expired = owners.filter(|owner| owner.expires_at <= at.as_millis()).map(|owner| owner.key);
        self.remove(&expired.collect());
        let owners = self.segments.iter().flat_map(|segment| &segment.owners);
        let alive = owners.filter(|owner| owner.is_alive).map(|owner| owner.expires_at);
        self.next_expiry = alive.min().unwrap_or(i64::MAX);
    }

    fn push(&mut self, row: &IndexRow) {
        let owner = Owner {
            key: key_of(&row.id),
            namespace: self.namespace(&row.namespace),
            expires_at: row.expires_at.map_or(i64::MAX, Timestamp::as_millis),
            is_alive: true,
        };
        self.next_expiry = self.next_expiry.min(owner.expires_at);
        for (part, vector) in row.vectors.chunks_exact(self.dimensions).enumerate() {
            let segment = self.last_segment();
            segment.push(owner.clone(), vector);
            if part == 0 {
                segment.note(fingerprints(&row.content));
            }
        }
    }

    fn namespace(&mut self, name: &str) -> u32 {
        let place = self.place_of(name).unwrap_or_else(|| {
            self.namespaces.push(name.to_owned());
            self.namespaces.len() - 1
        });
        place as u32
    }

    fn place_of(&self, namespace: &str) -> Option<usize> {
        self.namespaces.iter().position(|known| known == namespace)
    }

    fn last_segment(&mut self) -> &mut Segment {
        if self.segments.last().is_none_or(|segment| segment.is_full()) {
            self.segments.push(Arc::default());
        }
        let last = self.segments.len() - 1;
        Arc::make_mut(&mut self.segments[last])
    }

    pub(super) fn remove(&mut self, keys: &HashSet<Key>) {
        if keys.is_empty() {
            return;
        }
        for segment in &mut self.segments {
            if segment.has_any(keys) {
                Arc::make_mut(segment).remove(keys, self.dimensions);
            }
        }
        self.segments.retain(|segment| segment.alive() > 0);
    }

    /// The memories nearest to what is wanted, by the codes; best first.
    pub(crate) fn nearest(&self, wanted: &Wanted) -> Found {
        let namespace = wanted.namespace.as_ref().map(|name| self.place_of(name));
        if matches!(namespace, Some(None)) || wanted.vector.len() != self.dimensions {
            return Found { keys: Vec::new(), is_all: true };
        }
        let namespace = namespace.flatten().map(|place| place as u32);
        let at = wanted.at.as_millis();
        let counts = |owner: &Owner| {
            owner.is_alive
                && owner.expires_at > at
                && namespace.is_none_or(|namespace| namespace == owner.namespace)
                && wanted.among.as_ref().is_none_or(|among| among.contains(&owner.key))
        };
        let mut query = Vec::with_capacity(self.dimensions);
        let scale = quantize(&wanted.vector, &mut query);
        let mut best = Best::new(wanted.count, wanted.at_least);
        let mut scores = Vec::new();
        for segment in &self.segments {
            score_rows(&query, scale, &segment.codes, &segment.scales, &mut scores);
            for (row, score) in scores.iter().enumerate() {
                if *score >= best.floor && counts(&segment.owners[row]) {
                    best.push(*score, segment.owners[row].key);
                }
            }
        }
        best.found(wanted.best, CODE_ERRORS * scale)
    }

    /// The memories in which this is written; None where they are more than `most`.
    pub(crate) fn with(&self, print: Fingerprint, most: usize) -> Option<Vec<Key>> {
        let with = self.segments.iter().flat_map(|segment| segment.with(print));
        let keys: Vec<Key> = with.map(|owner| owner.key).take(most + 1).collect();
        (keys.len() <= most).then_some(keys)
    }

    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes()).sum()
    }

    /// Rows that are searched.
    pub(crate) fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.alive()).sum()
    }
}

/// The best so far. What is under the floor is not among them.
struct Best {
    count: usize,
    floor: f32,
    kept: Vec<(f32, Key)>,
    /// Something was left out because there was better.
    is_cut: bool,
}

impl Best {
    fn new(count: usize, floor: f32) -> Self {
        let count = count.max(1);
        Self { count, floor, kept: Vec::with_capacity(count * 2), is_cut: false }
    }

    fn push(&mut self, score: f32, key: Key) {
        self.kept.push((score, key));
        if self.kept.len() == self.count * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let last = self.count - 1;
        self.kept.select_nth_unstable_by(last, |one, other| other.0.total_cmp(&one.0));
        self.kept.truncate(self.count);
        self.floor = self.kept[last].0;
        self.is_cut = true;
    }

    /// `error` is how far the cosines of two may be from how they seem to each other.
    fn found(mut self, best: Option<usize>, error: f32) -> Found {
        let mut is_all = !self.is_cut && self.kept.len() <= self.count;
        self.kept.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        self.kept.truncate(self.count);
        let mut seen = HashSet::with_capacity(self.kept.len());
        self.kept.retain(|(_, key)| seen.insert(*key));
        if let Some((last, _)) = best.and_then(|best| self.kept.get(best.saturating_sub(1))) {
            let least = last - error;
            let could_be = self.kept.partition_point(|(score, _)| *score >= least);
            is_all &= could_be == self.kept.len();
            self.kept.truncate(could_be);
        }
        Found { keys: self.kept.into_iter().map(|(_, key)| key).collect(), is_all }
    }
}

/// An id is `mem_` and 20 letters; what is not is found nowhere.
pub(crate) fn key_of(id: &MemoryId) -> Key {
    id.as_str().as_bytes().last_chunk().copied().unwrap_or_default()
}

pub(crate) fn id_of(key: &Key) -> Option<MemoryId> {
    format!("mem_{}", std::str::from_utf8(key).ok()?).parse().ok()
}
