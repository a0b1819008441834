//! What a URL may carry so that its holder needs no key: what it allows, under a code that
//! only the hub can make.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nh_store::seals::Sealer;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CODE_BYTES: usize = 32;
/// Far more than any needs.
const MAX_CHARS: usize = 2048;

/// What `allowed` allows with what it is `about`, for one purpose.
pub(crate) fn seal(
    sealer: &Sealer,
    purpose: &str,
    about: &[&str],
    allowed: &impl Serialize,
) -> Result<String, serde_json::Error> {
    let allowed = serde_json::to_vec(allowed)?;
    let code = sealer.sign(purpose, &message(about, &allowed));
    Ok(URL_SAFE_NO_PAD.encode([&code[..], &allowed].concat()))
}

/// None: it is not as it was made, or is about something else.
pub(crate) fn open<T: DeserializeOwned>(
    given: &str,
    sealer: &Sealer,
    purpose: impl Fn(&T) -> String,
    about: &[&str],
) -> Option<T> {
    let (code, allowed) = parts(given)?;
    let read: T = serde_json::from_slice(&allowed).ok()?;
    sealer.is_signed(&purpose(&read), &message(about, &allowed), &code).then_some(read)
}

/// Whether it has the form, whoever made it and whatever it is about.
pub(crate) fn is_of<T: DeserializeOwned>(given: &str) -> bool {
    parts(given).is_some_and(|(_, allowed)| serde_json::from_slice::<T>(&allowed).is_ok())
}

/// The code, and what is under it.
fn parts(given: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut code = (given.len() <= MAX_CHARS).then(|| URL_SAFE_NO_PAD.decode(given).ok()).flatten()?;
    let allowed = code.split_at_checked(CODE_BYTES)?.1.to_vec();
    code.truncate(CODE_BYTES);
    Some((code, allowed))
}

/// Each part behind its length, so that no two read the same.
fn message(about: &[&str], allowed: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in about.iter().map(|part| part.as_bytes()).chain([allowed]) {
        message.extend_from_slice(&(part.len() as u64).to_le_bytes());
        message.extend_from_slice(part);
    }
    message
}
