//! In which order what was found is shown: by the cosine of the embeddings, and
//! higher where a memory has the identifiers or quoted words of the question, or
//! is associated with one of the best.
//!
//! Two memories are associated that share a name which few have. Of "Project
//! Heron moves the ledger to PostgreSQL" and "Heron is two sprints behind", a
//! question about the ledger's move finds the first by its meaning, and by that
//! the second.

use std::collections::HashMap;

use nh_store::memories::Embedded;
use nh_types::memory::MemoryHit;

use crate::identifiers::{Fingerprint, identifiers, names, quoted};
use crate::index::{Key, dot, key_of};

/// What having all of the question's identifiers is worth, as a difference of
/// cosines. Chosen on the tuning half of the quality set (`benches/memory`).
const LIFT: f64 = 0.3;

/// How many of the best others are associated with.
pub(crate) const MOST_LIKE: usize = 5;
/// What an associate of a memory gets of its similarity; shared among them.
const ASSOCIATE_SHARE: f64 = 0.5;
/// A name that more memories have associates nothing, nor one that more than
/// one in `RARE_AMONG` has.
const MOST_SHARING: usize = 6;
const RARE_AMONG: usize = 20;

/// What is looked for.
pub(crate) struct Question {
    pub(crate) vector: Vec<f32>,
    pub(crate) identifiers: Vec<String>,
    quoted: Vec<String>,
}

/// A hit with what it is ranked by.
pub(crate) struct Ranked {
    pub(crate) hit: MemoryHit,
    score: f64,
}

impl Question {
    pub(crate) fn new(text: &str, vector: Vec<f32>) -> Self {
        Self { vector, identifiers: identifiers(text).into_iter().collect(), quoted: quoted(text) }
    }

    pub(crate) fn rank(&self, found: Embedded) -> Ranked {
        let parts = found.vectors.chunks_exact(self.vector.len().max(1));
        let similarity = parts.map(|part| dot(&self.vector, part)).fold(-1.0, f64::max).clamp(-1.0, 1.0);
        let view = found.memory.view;
        let score = similarity + LIFT * self.share(&view.content);
        let hit = MemoryHit {
            id: view.id,
            content: view.content,
            similarity,
            metadata: view.metadata,
            namespace: view.namespace,
            created_at: view.created_at,
        };
        Ranked { hit, score }
    }

    /// Whether it has words that no index finds.
    pub(crate) fn has_quoted(&self) -> bool {
        !self.quoted.is_empty()
    }

    /// Of what the question names exactly, the part that is in the content.
    fn share(&self, content: &str) -> f64 {
        let named = self.identifiers.len() + self.quoted.len();
        if named == 0 {
            return 0.0;
        }
        let has = identifiers(content);
        let lower = content.to_lowercase();
        let count = self.identifiers.iter().filter(|identifier| has.contains(*identifier)).count()
            + self.quoted.iter().filter(|words| lower.contains(*words)).count();
        count as f64 / named as f64
    }
}

/// How many memories may share a name that associates them, of so many.
pub(crate) fn most_sharing(rows: usize) -> usize {
    MOST_SHARING.min(rows / RARE_AMONG)
}

/// The names in the best, each with whose it is.
pub(crate) fn names_of(best: &[Ranked]) -> (Vec<&Ranked>, Vec<Fingerprint>) {
    let named = |one: &'_ Ranked| names(&one.hit.content);
    let of = best.iter().flat_map(|one| named(one).into_iter().map(move |name| (one, name)));
    of.map(|(one, name)| (one, Fingerprint::of_name(&name))).unzip()
}

/// What the associates of the best get, by their keys. `sharing` is who has each name.
pub(crate) fn associates(owners: &[&Ranked], sharing: Vec<Option<Vec<Key>>>) -> HashMap<Key, f64> {
    let mut shares: HashMap<Key, f64> = HashMap::new();
    for (one, others) in owners.iter().zip(sharing) {
        let others = others.unwrap_or_default();
        let own = key_of(&one.hit.id);
        // Whose name it is may have been changed since.
        let among = others.len().saturating_sub(1).max(1) as f64;
        let share = ASSOCIATE_SHARE * one.hit.similarity.max(0.0) / among;
        for key in others.into_iter().filter(|key| *key != own) {
            let best = shares.entry(key).or_insert(share);
            *best = best.max(share);
        }
    }
    shares
}

impl Ranked {
    pub(crate) fn lift(&mut self, shares: &HashMap<Key, f64>) {
        self.score += shares.get(&key_of(&self.hit.id)).unwrap_or(&0.0);
    }
}

/// Best first; of equals the one that was written last, so that the order is
/// always the same.
pub(crate) fn sort(ranked: &mut [Ranked]) {
    ranked.sort_by(|one, other| {
        let later = other.hit.created_at.cmp(&one.hit.created_at);
        other.score.total_cmp(&one.score).then(later).then_with(|| one.hit.id.cmp(&other.hit.id))
    });
}
