//! The form of an API key: `nh_`, 34 random base62 characters, and 6 of
//! checksum. The checksum lets a typo be refused before any look-up and lets
//! secret scanners match a leaked key without guessing.

use nh_types::Ids;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Base62, most significant digit first.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub(crate) const START: &str = "nh_";
const RANDOM_CHARS: usize = 34;
const CHECKSUM_CHARS: usize = 6;
const LENGTH: usize = START.len() + RANDOM_CHARS + CHECKSUM_CHARS;
const PREFIX_CHARS: usize = 7;

/// A well-formed API key.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

/// Says nothing of what was given: it may be most of a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidApiKey {
    #[error("an API key is `nh_` and 40 of 0-9, A-Z, a-z")]
    Form,
    #[error("the API key's checksum does not fit: it is mistyped or cut off")]
    Checksum,
}

impl ApiKey {
    pub fn generate(ids: &dyn Ids) -> Self {
        let body = format!("{START}{}", ids.text(ALPHABET, RANDOM_CHARS));
        let checksum = checksum(&body);
        Self(SecretString::from(body + &checksum))
    }

    pub fn parse(text: &str) -> Result<Self, InvalidApiKey> {
        let tail = text.strip_prefix(START).ok_or(InvalidApiKey::Form)?;
        if text.len() != LENGTH || !tail.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(InvalidApiKey::Form);
        }
        let (body, given) = text.split_at(LENGTH - CHECKSUM_CHARS);
        if checksum(body) != given {
            return Err(InvalidApiKey::Checksum);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Whether `text` is long enough and shaped so that a log or a browser's
    /// history that holds it has leaked a key.
    pub fn is_in(text: &str) -> bool {
        text.match_indices(START)
            .any(|(at, _)| text.get(at..at + LENGTH).is_some_and(|key| Self::parse(key).is_ok()))
    }

    /// SHA-256 of the whole key: all that the store keeps of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose_secret()).into()
    }

    /// The first 7 characters, by which people recognise a key.
    pub fn prefix(&self) -> String {
        self.0.expose_secret().chars().take(PREFIX_CHARS).collect()
    }

    pub fn secret(&self) -> &SecretString {
        &self.0
    }

    /// The raw key, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// CRC-32 (IEEE) as six base62 digits; 62^6 exceeds 2^32.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nh_types::SystemIds;
    use proptest::prelude::*;

    #[test]
    fn a_generated_key_is_well_formed() {
        let key = ApiKey::generate(&SystemIds);
        assert_eq!(key.expose().len(), 43);
        assert_eq!(key.prefix().len(), 7);
        assert_eq!(ApiKey::parse(key.expose()).expect("valid").hash(), key.hash());
        assert!(ApiKey::is_in(&format!("x{}y", key.expose())));
        assert!(!format!("{key:?}").contains(&key.expose()[3..]), "a key must not be printable by accident");
    }

    /// The CRC-32 of this body by Python's `zlib.crc32`.
    #[test]
    fn the_checksum_is_crc_32_in_base62() {
        let body = format!("nh_{}", "0".repeat(34));
        let mut value = 0_u64;
        for byte in checksum(&body).bytes() {
            let digit = ALPHABET.iter().position(|letter| *letter == byte).expect("base62");
            value = value * 62 + digit as u64;
        }
        assert_eq!(value, 0x8599_e7a7);
    }

    #[test]
    fn a_typo_is_told_from_a_wrong_form() {
        let key = ApiKey::generate(&SystemIds);
        let mut typo = key.expose().to_owned();
        let last = if typo.ends_with('0') { "1" } else { "0" };
        typo.replace_range(42.., last);
        assert_eq!(ApiKey::parse(&typo).map(|_| ()), Err(InvalidApiKey::Checksum));
        for wrong in ["", "nh_", "sk-abc", &key.expose()[..42], &format!("{} ", key.expose())] {
            assert_eq!(ApiKey::parse(wrong).map(|_| ()), Err(InvalidApiKey::Form), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = ApiKey::parse(&text);
            let _ = ApiKey::is_in(&text);
        }
    }
}
