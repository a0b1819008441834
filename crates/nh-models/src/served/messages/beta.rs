//! The header `anthropic-beta`, by which a client asks for what Anthropic does not promise yet.

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::request::invalid;
use crate::ModelError;
use crate::provider::{BETA, MAX_BETA_BYTES, OWN};

/// Puts the names of betas into what [`request`](super::request()) made, for Anthropic alone.
pub fn put_beta(chat: &mut Map<String, Value>, headers: &HeaderMap) -> Result<(), ModelError> {
    let mut betas = Vec::new();
    for given in headers.get_all(BETA) {
        let unreadable =
            |_| invalid(BETA, "has letters that are not ASCII; give names such as `one-2025-01-01`");
        betas.push(given.to_str().map_err(unreadable)?);
    }
    let betas = betas.join(",");
    if betas.is_empty() {
        return Ok(());
    }
    if betas.len() > MAX_BETA_BYTES {
        let told = format!("has {} bytes; it may have {MAX_BETA_BYTES}: leave some names out", betas.len());
        return Err(invalid(BETA, told));
    }
    if let Some(own) = chat.entry(OWN).or_insert_with(|| json!({})).as_object_mut() {
        own.insert(BETA.to_owned(), Value::from(betas));
    }
    Ok(())
}
