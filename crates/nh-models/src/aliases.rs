//! Names that stand for several models, of which one is asked after another.

use nh_types::SharedIds;
use nh_types::settings::SettingsFault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const MAX_NAME_BYTES: usize = 64;
const MAX_ALIASES: usize = 100;
const MAX_MODELS: usize = 16;
const MAX_WEIGHT: u32 = 1_000_000;
/// Of what is drawn; a weight's share is rounded to this part.
const DRAWN: u64 = 1 << 32;

/// A name for several models: where the first cannot answer, the next is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelAlias {
    /// What requests call it, such as `fast`.
    pub name: String,
    /// Ids of models, as `GET /v1/models` lists them.
    pub models: Vec<String>,
    /// How often each is the first, one number for each model: 3 and 1 send three of four
    /// requests to the first. A model of weight 0 is asked only when the others cannot answer.
    /// Absent: always in the order of `models`.
    pub weights: Option<Vec<u32>>,
}

impl ModelAlias {
    /// Every fault of all aliases.
    pub fn faults(aliases: &[ModelAlias]) -> Vec<SettingsFault> {
        let mut faults = Vec::new();
        if aliases.len() > MAX_ALIASES {
            let message = format!("{} aliases; at most {MAX_ALIASES} can be", aliases.len());
            faults.push(SettingsFault { at: "model_aliases".to_owned(), message });
        }
        for (place, alias) in aliases.iter().enumerate() {
            let mut say = |field: &str, message: String| {
                faults.push(SettingsFault { at: format!("model_aliases[{place}].{field}"), message });
            };
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
            let name = &alias.name;
            if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_letter) {
                say(
                    "name",
                    format!(
                        "`{name}` is not a name; use 1 to {MAX_NAME_BYTES} of letters, digits, `_`, `-`, `.` and `:`"
                    ),
                );
            } else if aliases[..place].iter().any(|other| other.name == *name) {
                say("name", format!("`{name}` is the name of another alias too; each needs its own"));
            }
            if !(1..=MAX_MODELS).contains(&alias.models.len()) {
                say(
                    "models",
                    format!("it has {} models; it must have 1 to {MAX_MODELS}", alias.models.len()),
                );
            }
            if let Some(within) =
                alias.models.iter().find(|id| aliases.iter().any(|other| other.name == **id))
            {
                say("models", format!("`{within}` is an alias; name the models themselves"));
            }
            let weights = alias.weights.as_deref().unwrap_or_default();
            if alias.weights.is_some() && weights.len() != alias.models.len() {
                say(
                    "weights",
                    format!(
                        "there are {} for {} models; give one for each",
                        weights.len(),
                        alias.models.len()
                    ),
                );
            }
            if weights.iter().any(|weight| *weight > MAX_WEIGHT) {
                say("weights", format!("a weight is at most {MAX_WEIGHT}"));
            }
        }
        faults
    }

    /// The models in the order in which they are asked now.
    pub(crate) fn order(&self, ids: &SharedIds) -> Vec<&str> {
        match &self.weights {
            None => self.models.iter().map(String::as_str).collect(),
            Some(weights) => drawn(&self.models, weights, || random(ids)),
        }
    }
}

/// A number below [`DRAWN`].
pub(crate) fn random(ids: &SharedIds) -> u64 {
    let mut bytes = [0; 4];
    ids.fill(&mut bytes);
    u32::from_le_bytes(bytes).into()
}

/// By their weights, without putting back; those of weight 0 last, in order.
fn drawn<'m>(models: &'m [String], weights: &[u32], mut random: impl FnMut() -> u64) -> Vec<&'m str> {
    let mut left: Vec<_> =
        models.iter().zip(weights.iter().copied()).filter(|(_, weight)| *weight > 0).collect();
    let mut order = Vec::with_capacity(models.len());
    while !left.is_empty() {
        let total: u64 = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut point = random() * total / DRAWN;
        let place = left.iter().position(|(_, weight)| match point.checked_sub(u64::from(*weight)) {
            None => true,
            Some(rest) => {
                point = rest;
                false
            }
        });
        order.push(left.remove(place.unwrap_or(0)).0.as_str());
    }
    let unweighted = models.iter().zip(weights).filter(|(_, weight)| **weight == 0);
    order.extend(unweighted.map(|(model, _)| model.as_str()));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_the_weights_say() {
        let models: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 32
        };
        let mut firsts = [0; 2];
        for _ in 0..4000 {
            let order = drawn(&models, &[3, 1, 0], &mut random);
            assert_eq!((order.len(), order[2]), (3, "c"));
            firsts[usize::from(order[0] == "b")] += 1;
        }
        assert!((2900..3100).contains(&firsts[0]), "{firsts:?}");
        assert_eq!(drawn(&models, &[0, 0, 5], || DRAWN - 1), ["c", "a", "b"]);
    }

    #[test]
    fn every_fault_is_told_by_its_place() {
        let alias = |name: &str, models: &[&str], weights: Option<Vec<u32>>| ModelAlias {
            name: name.to_owned(),
            models: models.iter().map(|id| (*id).to_owned()).collect(),
            weights,
        };
        assert!(ModelAlias::faults(&[alias("fast", &["a/b", "c"], Some(vec![1, 0]))]).is_empty());
        let wrong = [
            alias("fast", &["a"], Some(vec![1, 2])),
            alias("fast", &["a"], None),
            alias("", &[], None),
            alias("slow", &["fast"], Some(vec![u32::MAX])),
        ];
        let at: Vec<_> = ModelAlias::faults(&wrong).into_iter().map(|fault| fault.at).collect();
        assert_eq!(
            at,
            [
                "model_aliases[0].weights",
                "model_aliases[1].name",
                "model_aliases[2].name",
                "model_aliases[2].models",
                "model_aliases[3].models",
                "model_aliases[3].weights"
            ]
        );
    }
}
