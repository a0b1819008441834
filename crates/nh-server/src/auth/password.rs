//! Passwords: argon2id, as PHC strings. Hashing takes about 20 MB and tens of
//! milliseconds, so callers do it off the async threads and a few at a time.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use nh_types::Ids;
use secrecy::{ExposeSecret, SecretString};

/// The fewest characters that a password may have.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// The most bytes: nobody needs more, and each is hashed.
pub const MAX_PASSWORD_BYTES: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has at least {MIN_PASSWORD_CHARS} characters")]
    TooShort,
    #[error("a password has at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    #[error("the password cannot be hashed: {0}")]
    Hash(argon2::password_hash::Error),
}

/// The PHC string to store. Blocks for tens of milliseconds.
pub fn hash_password(ids: &dyn Ids, password: &SecretString) -> Result<String, PasswordError> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_PASSWORD_CHARS {
        return Err(PasswordError::TooShort);
    }
    if text.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::TooLong);
    }
    let mut salt = [0; 16];
    ids.fill(&mut salt);
    let hash: PasswordHash =
        Argon2::default().hash_password_with_salt(text.as_bytes(), &salt).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// Blocks for tens of milliseconds, whatever the outcome.
pub(crate) fn fits(password: &SecretString, stored: &str) -> bool {
    let bytes = password.expose_secret().as_bytes();
    bytes.len() <= MAX_PASSWORD_BYTES
        && PasswordHash::new(stored).is_ok_and(|hash| Argon2::default().verify_password(bytes, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nh_types::SystemIds;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = hash_password(&SystemIds, &"correct horse".into()).expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        assert!(fits(&"correct horse".into(), &hash));
        assert!(!fits(&"correct house".into(), &hash));
        assert!(!fits(&"correct horse".into(), "not a hash"));
        assert!(matches!(hash_password(&SystemIds, &"short".into()), Err(PasswordError::TooShort)));
    }
}
