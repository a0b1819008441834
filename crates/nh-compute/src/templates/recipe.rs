use std::fmt::Write as _;

use nh_guest::protocol::Language;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::TemplateError;

/// Of how templates are built: one more, and all are built anew.
const FORMAT: u32 = 3;

/// What is in a template, as `recipe.toml` in its folder says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// For people.
    pub description: String,
    /// Debian's release, such as `bookworm`.
    pub suite: String,
    /// Its packages, beside those that every system needs.
    pub debian: Vec<String>,
    /// PyPI's packages, each with `==` and a version or without.
    #[serde(default)]
    pub pypi: Vec<String>,
    /// Of which an interpreter is started before anybody asks.
    pub language: Option<Language>,
    /// What it runs then.
    #[serde(default)]
    pub warm: String,
}

impl Recipe {
    pub(super) fn read(name: &str, text: &str) -> Result<Self, TemplateError> {
        let wrong = |reason: String| TemplateError::Recipe { name: name.to_owned(), reason };
        if !is_name(name, "-") {
            return Err(wrong("a template's name has lower-case letters, digits and `-`".to_owned()));
        }
        let recipe: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if !is_name(&recipe.suite, "-") {
            return Err(wrong(format!("`suite`: `{}` is no release of Debian", recipe.suite)));
        }
        for (field, packages, also) in [("debian", &recipe.debian, "+.-"), ("pypi", &recipe.pypi, "._-=")] {
            if let Some(package) = packages.iter().find(|package| !is_name(&package.to_lowercase(), also)) {
                return Err(wrong(format!("`{field}`: `{package}` is no name of a package")));
            }
        }
        Ok(recipe)
    }

    /// Tells templates that are built from others.
    pub(super) fn hash(&self) -> String {
        let Self { description: _, suite, debian, pypi, language: _, warm: _ } = self;
        let hash = Sha256::digest(format!("{FORMAT} {suite} {debian:?} {pypi:?}"));
        hash.iter().take(8).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Whether it begins with a letter or a digit, and has only those and `also`.
fn is_name(text: &str, also: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    text.starts_with(is_plain) && text.chars().all(|letter| is_plain(letter) || also.contains(letter))
}
