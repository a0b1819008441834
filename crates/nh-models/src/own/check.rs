//! What a workspace may register as a provider.

use nh_store::StoreError;
use nh_store::providers::TABLE;
use nh_store::seals::{Put, Sealer, owned_row};
use nh_types::provider::{ChangeProvider, CreateProvider, ModelSettings, OwnProvider, ProviderKind};
use nh_types::tool::SecretText;
use nh_types::{ApiError, ErrorCode, WorkspaceId};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use url::Url;

use crate::ProviderSettings;
use crate::settings::{address, check_key, faults};

const MAX_MODELS: usize = 100;
const MAX_URL_BYTES: usize = 2_048;
const MAX_KEY_BYTES: usize = 4_096;
const MAX_ID_BYTES: usize = 256;
const MAX_CAPABILITIES: usize = 16;
const MAX_CAPABILITY_BYTES: usize = 64;
/// Of the one secret that a provider has.
const KEY: &str = "api_key";

/// What is to be kept, and the key.
pub fn created(
    new: CreateProvider,
    generation: String,
) -> Result<(OwnProvider, Option<SecretString>), ApiError> {
    let base_url = new.base_url.as_deref().map(parse_url).transpose()?;
    let key = new.api_key.map(parse_key).transpose()?;
    let base_url = checked(&new.name, new.kind, base_url, &new.models)?;
    let provider = OwnProvider {
        name: new.name,
        kind: new.kind,
        base_url,
        has_api_key: key.is_some(),
        models: new.models,
        generation,
    };
    Ok((provider, key))
}

/// `now` with the change made to it, and what becomes of the key: None when it stays.
#[allow(clippy::type_complexity)] // a key that may be absent, in a change that may be
pub fn changed(
    now: OwnProvider,
    change: ChangeProvider,
) -> Result<(OwnProvider, Option<Option<SecretString>>), ApiError> {
    let key = change.api_key.map(|key| key.map(parse_key).transpose()).transpose()?;
    let models = change.models.unwrap_or(now.models);
    let url = parse_url(change.base_url.as_deref().unwrap_or(&now.base_url))?;
    let base_url = checked(&now.name, now.kind, Some(url), &models)?;
    // What was told to one server is told to no other by a change of the address.
    if now.has_api_key && key.is_none() && origin(&base_url) != origin(&now.base_url) {
        let message = "`base_url` is at another origin, and the key belongs to the one before: \
                       give `api_key` anew, or null where none is needed";
        return Err(invalid(KEY, message.to_owned()));
    }
    let has_api_key = key.as_ref().map_or(now.has_api_key, Option::is_some);
    Ok((OwnProvider { base_url, models, has_api_key, ..now }, key))
}

/// The key, ready to be kept.
pub fn sealed(
    sealer: &Sealer,
    workspace_id: &WorkspaceId,
    provider: &OwnProvider,
    key: &SecretString,
) -> Result<Put, StoreError> {
    let key = SecretSlice::from(key.expose_secret().as_bytes().to_vec());
    Put::sealing(sealer, workspace_id, TABLE, &key_row(provider), &key)
}

/// It belongs to one registration, and to the origin that it is told to.
pub(super) fn key_row(provider: &OwnProvider) -> String {
    owned_row(&provider.name, KEY, &provider.generation, &origin(&provider.base_url))
}

fn origin(url: &str) -> String {
    Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

/// The address that is called.
fn checked(
    name: &str,
    kind: ProviderKind,
    base_url: Option<Url>,
    models: &[ModelSettings],
) -> Result<String, ApiError> {
    if models.len() > MAX_MODELS {
        let message = format!("`models` has {} models; it may have {MAX_MODELS}", models.len());
        return Err(invalid("models", message));
    }
    for (place, model) in models.iter().enumerate() {
        if model.id.len() > MAX_ID_BYTES || model.id.chars().any(char::is_control) {
            let at = format!("models[{place}].id");
            let message = format!("`{at}` is no id: it has at most {MAX_ID_BYTES} bytes, none of control");
            return Err(invalid(&at, message));
        }
        let words = model.capabilities.as_deref().unwrap_or_default();
        if words.len() > MAX_CAPABILITIES || words.iter().any(|word| word.len() > MAX_CAPABILITY_BYTES) {
            let at = format!("models[{place}].capabilities");
            let message = format!(
                "`{at}` has at most {MAX_CAPABILITIES} words of {MAX_CAPABILITY_BYTES} bytes: of `chat`, \
                 `tools`, `vision`, `embeddings`"
            );
            return Err(invalid(&at, message));
        }
    }
    let (name, models) = (name.to_owned(), models.to_vec());
    let settings = ProviderSettings { name, kind, base_url, models, ..ProviderSettings::default() };
    match faults(&settings).into_iter().next() {
        Some((field, message)) => Err(invalid(&field, format!("`{field}`: {message}"))),
        None => Ok(address(&settings)),
    }
}

fn parse_url(text: &str) -> Result<Url, ApiError> {
    if text.len() > MAX_URL_BYTES {
        let message = format!("`base_url` has {} bytes; it may have {MAX_URL_BYTES}", text.len());
        return Err(invalid("base_url", message));
    }
    Url::parse(text).map_err(|error| {
        let message =
            format!("`base_url` is no address ({error}); write one such as `https://api.example.com/v1`");
        invalid("base_url", message)
    })
}

/// Its value is in no message.
fn parse_key(key: SecretText) -> Result<SecretString, ApiError> {
    let key = SecretString::from(key.0);
    let bytes = key.expose_secret().len();
    if !(1..=MAX_KEY_BYTES).contains(&bytes) {
        return Err(invalid(KEY, format!("`{KEY}` has {bytes} bytes; it must have 1 to {MAX_KEY_BYTES}")));
    }
    let key = check_key(Some(key)).map_err(|fault| invalid(KEY, format!("`{KEY}`: {}", fault.message)))?;
    Ok(key.unwrap_or_default())
}

fn invalid(field: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(field)
}
