//! From the settings and the environment to providers that can be called.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use nh_types::settings::SettingsFault;

use super::{ModelSettings, ProviderKind, ProviderSettings};

/// A provider that is ready to be called: its key read, its address known.
#[derive(Clone, Debug)]
pub struct ResolvedProvider {
    pub name: String,
    pub kind: ProviderKind,
    /// Without a slash at its end.
    pub base_url: String,
    pub api_key: Option<SecretString>,
    pub timeouts: Timeouts,
    pub models: Vec<ModelSettings>,
}

/// How long a provider is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect_ms: u64,
    pub first_byte_ms: u64,
    /// Between two bytes.
    pub pause_ms: u64,
}

impl Default for Timeouts {
    /// A plain answer begins when it is complete, and reasoning takes its time.
    fn default() -> Self {
        Self { connect_ms: 10_000, first_byte_ms: 600_000, pause_ms: 120_000 }
    }
}

/// The kinds that need nothing but a key in the environment.
const WELL_KNOWN: [ProviderKind; 4] =
    [ProviderKind::Openrouter, ProviderKind::Google, ProviderKind::Openai, ProviderKind::Anthropic];

/// A shorter key is a placeholder, as servers without keys have them, and part of many words.
const MIN_SECRET_BYTES: usize = 8;
const MAX_NAME_BYTES: usize = 64;
const MAX_PROVIDERS: usize = 100;
/// Of one wait.
const MAX_TIMEOUT_SECONDS: u64 = 3_600;
/// What the usage and the metrics call the hub's own models, kept answers, and workspaces' own
/// providers together.
const RESERVED_NAMES: [&str; 3] = ["neuralhub", "cache", "own"];

const fn public_address(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Openai => "https://api.openai.com/v1",
        ProviderKind::Openrouter => "https://openrouter.ai/api/v1",
        ProviderKind::Google => "https://generativelanguage.googleapis.com/v1beta",
        ProviderKind::Anthropic => "https://api.anthropic.com/v1",
    }
}

/// The environment variable whose presence alone makes a provider.
const fn key_variable(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Openai => "OPENAI_API_KEY",
        ProviderKind::Openrouter => "OPENROUTER_API_KEY",
        ProviderKind::Google => "GEMINI_API_KEY",
        ProviderKind::Anthropic => "ANTHROPIC_API_KEY",
    }
}

impl ResolvedProvider {
    /// Turns the configuration's providers into callable ones, and adds those
    /// that the environment alone is enough for: `OPENROUTER_API_KEY`,
    /// `GEMINI_API_KEY`, `OPENAI_API_KEY` and `ANTHROPIC_API_KEY` each make a provider at its public
    /// address, named after its kind, unless the configuration has that address
    /// or that name already. Reports every fault at once.
    pub fn resolve(
        settings: &[ProviderSettings],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<ResolvedProvider>, Vec<SettingsFault>> {
        let environment = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mut faults = Vec::new();
        let mut providers: Vec<ResolvedProvider> = Vec::new();
        if settings.len() > MAX_PROVIDERS {
            faults.push(fault(
                None,
                "",
                format!("{} providers; at most {MAX_PROVIDERS} can be", settings.len()),
            ));
        }
        for (index, one) in settings.iter().take(MAX_PROVIDERS).enumerate() {
            check(one, index, &providers, &mut faults);
            let api_key = read_key(one, &environment).and_then(check_key).unwrap_or_else(|mut problem| {
                problem.at = format!("providers[{index}].{}", problem.at);
                faults.push(problem);
                None
            });
            providers.push(ResolvedProvider {
                name: one.name.clone(),
                kind: one.kind,
                base_url: address(one),
                api_key,
                timeouts: timeouts(one),
                models: one.models.clone(),
            });
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        for kind in WELL_KNOWN {
            let is_there = |one: &ResolvedProvider| {
                one.name == kind.as_str() || (one.kind == kind && one.is_at_public_address())
            };
            if let Some(key) = environment(key_variable(kind))
                && !providers.iter().any(is_there)
            {
                let at = key_variable(kind).to_owned();
                if let Err(problem) = check_key(Some(secret(&key))) {
                    return Err(vec![SettingsFault { at, ..problem }]);
                }
                providers.push(ResolvedProvider {
                    name: kind.as_str().to_owned(),
                    kind,
                    base_url: public_address(kind).to_owned(),
                    api_key: Some(secret(&key)),
                    timeouts: Timeouts::default(),
                    models: Vec::new(),
                });
            }
        }
        Ok(providers)
    }

    /// Whether this is the kind's own service and not a server that speaks its
    /// protocol.
    pub(crate) fn is_at_public_address(&self) -> bool {
        self.base_url == public_address(self.kind)
    }

    /// Takes the provider's key out of a text that came from it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        match &self.api_key {
            Some(key) if key.expose_secret().len() >= MIN_SECRET_BYTES => {
                text.replace(key.expose_secret(), "(secret)")
            }
            _ => text.to_owned(),
        }
    }
}

fn fault(index: Option<usize>, field: &str, message: String) -> SettingsFault {
    let path = match index {
        Some(index) => format!("providers[{index}].{field}"),
        None => "providers".to_owned(),
    };
    SettingsFault { at: path, message }
}

fn check(one: &ProviderSettings, index: usize, before: &[ResolvedProvider], found: &mut Vec<SettingsFault>) {
    let name = &one.name;
    if before.iter().any(|other| other.name == *name) {
        let message = format!("`{name}` is the name of another provider too; each needs its own");
        found.push(fault(Some(index), "name", message));
    }
    found.extend(faults(one).into_iter().map(|(field, message)| fault(Some(index), &field, message)));
}

/// What is wrong with one, whoever registers it: each with its field.
pub(crate) fn faults(one: &ProviderSettings) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut say = |field: &str, message: String| found.push((field.to_owned(), message));
    let name = one.name.as_str();
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !is_name {
        let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
        say(
            "name",
            format!(
                "`{shown}` is not a name; use 1 to {MAX_NAME_BYTES} of letters, digits, `_`, `-` and `.`, a letter or digit first"
            ),
        );
    } else if RESERVED_NAMES.contains(&name) {
        say("name", format!("`{name}` is a name of the hub's own; choose another"));
    }
    for (field, seconds) in [
        ("connect_timeout_seconds", one.connect_timeout_seconds),
        ("first_byte_timeout_seconds", one.first_byte_timeout_seconds),
        ("pause_timeout_seconds", one.pause_timeout_seconds),
    ] {
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
            say(field, format!("{seconds} is not from 1 to {MAX_TIMEOUT_SECONDS} seconds"));
        }
    }
    if let Some(url) = &one.base_url {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            say("base_url", format!("`{}` is not an http or https address", shown(url)));
        } else if !url.username().is_empty() || url.password().is_some() {
            say(
                "base_url",
                "it holds a user name or password; give the key in a field of its own".to_owned(),
            );
        } else if url.query().is_some() || url.fragment().is_some() {
            say("base_url", format!("`{}` has a query or fragment; leave it out", shown(url)));
        } else if one.kind == ProviderKind::Google && address(one).ends_with("/openai") {
            let text = "is not where Gemini's own API is; leave `/openai` out, or use kind `openai`";
            say("base_url", format!("`{}` {text}", shown(url)));
        }
    }
    let keys = [one.api_key.is_some(), one.api_key_env.is_some(), one.api_key_file.is_some()];
    if keys.iter().filter(|given| **given).count() > 1 {
        say("api_key", "give one of `api_key`, `api_key_env` and `api_key_file`, not several".to_owned());
    }
    for (place, model) in one.models.iter().enumerate() {
        if model.id.is_empty() {
            say(
                &format!("models[{place}].id"),
                "it is empty; give the id that the provider knows the model by".to_owned(),
            );
        }
        for (field, cost) in [("input_cost", model.input_cost), ("output_cost", model.output_cost)] {
            if cost.is_some_and(|cost| !(0.0..=1e9).contains(&cost)) {
                say(
                    &format!("models[{place}].{field}"),
                    "a cost is a number of US dollars from 0 up".to_owned(),
                );
            }
        }
    }
    found
}

/// The URL without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

pub(crate) fn address(one: &ProviderSettings) -> String {
    match &one.base_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => public_address(one.kind).to_owned(),
    }
}

fn timeouts(one: &ProviderSettings) -> Timeouts {
    Timeouts {
        connect_ms: one.connect_timeout_seconds.saturating_mul(1_000),
        first_byte_ms: one.first_byte_timeout_seconds.saturating_mul(1_000),
        pause_ms: one.pause_timeout_seconds.saturating_mul(1_000),
    }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text.trim().to_owned())
}

/// It must fit into a header.
pub(crate) fn check_key(key: Option<SecretString>) -> Result<Option<SecretString>, SettingsFault> {
    match &key {
        Some(key) if !key.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) => Err(SettingsFault {
            at: "api_key".to_owned(),
            message: "the key holds a space or another character that no key has".to_owned(),
        }),
        _ => Ok(key),
    }
}

/// The fault's path is the field alone.
fn read_key(
    one: &ProviderSettings,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<SecretString>, SettingsFault> {
    let problem = |field: &str, message: String| SettingsFault { at: field.to_owned(), message };
    if let Some(key) = &one.api_key {
        return Ok(Some(secret(key.expose_secret())));
    }
    if let Some(name) = &one.api_key_env {
        let key = environment(name).ok_or_else(|| {
            problem("api_key_env", format!("the environment has no `{name}`; set it, or leave the field out"))
        })?;
        return Ok(Some(secret(&key)));
    }
    if let Some(path) = &one.api_key_file {
        let key = std::fs::read_to_string(path)
            .map_err(|error| problem("api_key_file", format!("`{path}` cannot be read: {error}")))?;
        if key.trim().is_empty() {
            return Err(problem("api_key_file", format!("`{path}` is empty; write the key into it")));
        }
        return Ok(Some(secret(&key)));
    }
    // The kind's own variable, but never to an address that it is not meant for.
    let is_public = address(one) == public_address(one.kind);
    Ok(if is_public { environment(key_variable(one.kind)).map(|key| secret(&key)) } else { None })
}
