use std::collections::{BTreeMap, HashSet};

use http::{HeaderName, HeaderValue};
use nh_types::ApiError;
use nh_types::tool::SecretValues;

use super::template::{Part, parts};
use crate::start::invalid;

const MAX_HEADERS: usize = 32;
const MAX_HEADER_NAME: usize = 128;
const MAX_HEADER_BYTES: usize = 4096;
const MAX_SECRETS: usize = 16;
const MAX_SECRET_NAME: usize = 64;
/// Shorter ones could not be told from chance in what a server answers.
const MIN_SECRET_BYTES: usize = 8;
const MAX_SECRET_BYTES: usize = 4096;
/// The client's own (RFC 9110, sections 7.2 and 7.6.1; RFC 9112, section 6), and the hub's.
const RESERVED: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The names of the secrets that the headers need, sorted.
pub(crate) fn check_headers(
    headers: &BTreeMap<String, String>,
    known: &[String],
    given: Option<&SecretValues>,
) -> Result<Vec<String>, ApiError> {
    if headers.len() > MAX_HEADERS {
        return Err(invalid(
            "headers",
            format!("there are {} headers; at most {MAX_HEADERS} fit", headers.len()),
        ));
    }
    let (mut needed, mut names) = (Vec::new(), HashSet::new());
    for (name, value) in headers {
        let at = format!("headers.{}", name.chars().take(80).collect::<String>());
        let wrong = |why: String| Err(invalid(&at, format!("`{at}`: {why}")));
        if name.len() > MAX_HEADER_NAME || value.len() > MAX_HEADER_BYTES {
            let most = format!("{MAX_HEADER_NAME} and {MAX_HEADER_BYTES}");
            return wrong(format!("a name and a value have at most {most} bytes"));
        }
        let Ok(parsed) = name.parse::<HeaderName>() else {
            return wrong("this is no name of a header".to_owned());
        };
        if RESERVED.contains(&parsed.as_str()) {
            return wrong("this one is written by the hub itself; leave it out".to_owned());
        }
        if !names.insert(parsed) {
            return wrong("it is there twice; names of headers differ by more than capitals".to_owned());
        }
        let parts = match parts(value) {
            Ok(parts) => parts,
            Err(why) => return wrong(why),
        };
        for part in parts {
            match part {
                Part::Text(text) if HeaderValue::from_str(text).is_err() => {
                    return wrong("its value has a character that no header can have".to_owned());
                }
                Part::Text(_) => {}
                Part::Secret(secret) => needed.push(secret.to_owned()),
                Part::Argument(argument) => {
                    return wrong(format!(
                        "`{{{argument}}}`: arguments stand in the path, the query or the body; a secret is \
                         `{{secret:NAME}}`"
                    ));
                }
            }
        }
    }
    needed.sort_unstable();
    needed.dedup();
    check_secrets(&needed, known, given)?;
    Ok(needed)
}

fn check_secrets(needed: &[String], known: &[String], given: Option<&SecretValues>) -> Result<(), ApiError> {
    if needed.len() > MAX_SECRETS {
        return Err(invalid(
            "headers",
            format!("they name {} secrets; at most {MAX_SECRETS} fit", needed.len()),
        ));
    }
    let values = given.map(|given| &given.0);
    for (name, value) in values.into_iter().flatten() {
        let shown: String = name.chars().take(MAX_SECRET_NAME).collect();
        let at = format!("secrets.{shown}");
        if !needed.contains(name) {
            return Err(invalid(
                &at,
                format!("no header names the secret `{shown}`; write `{{secret:{shown}}}` into one"),
            ));
        }
        let bytes = value.len();
        let is_kept_whole = value.trim() == value && HeaderValue::from_str(value).is_ok();
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&bytes) || !is_kept_whole {
            let message = format!(
                "the secret `{shown}` must have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes that a header can have, no \
                 blank at its ends; it has {bytes}"
            );
            return Err(invalid(&at, message));
        }
    }
    let is_there =
        |name: &&String| known.contains(name) || values.is_some_and(|values| values.contains_key(*name));
    match needed.iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(name) => Err(invalid(
            "secrets",
            format!("a header names the secret `{name}`, which `secrets` does not give"),
        )),
    }
}
