//! The configuration: `neuralhub.toml`, overridden by `NEURALHUB__SECTION__KEY`
//! variables, overridden by flags.
//!
//! Each crate owns its section's struct; this module composes them, reads the
//! three sources into one tree ([`load`]), and tells every fault of it at once
//! ([`check`]). The commented reference ([`reference`]) is printed from the
//! same structs.

mod check;
mod environment;
mod print;
mod reference;
mod schema;

use std::fmt;
use std::path::{Path, PathBuf};

use nh_types::settings::SettingsFault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use print::printed;
pub use reference::reference;
pub use schema::Schema;

/// The name of the file that is read when `--config` names none.
pub const DEFAULT_FILE: &str = "neuralhub.toml";

/// A configuration file over this size is refused rather than read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// All that can be set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: nh_server::ServerSettings,
    pub store: nh_store::StoreSettings,
    pub security: nh_server::SecuritySettings,
    pub agents: nh_agents::AgentsSettings,
    /// Where models come from, in order of preference. `OPENROUTER_API_KEY`,
    /// `GEMINI_API_KEY`, `OPENAI_API_KEY` and `ANTHROPIC_API_KEY` in the environment each make a
    /// provider of their kind when none of that kind is listed here.
    pub providers: Vec<nh_models::ProviderSettings>,
    /// Names that stand for several models. A request may name several itself, in `models`.
    pub model_aliases: Vec<nh_models::ModelAlias>,
    pub workspace_limits: nh_models::WorkspaceLimits,
    pub response_cache: nh_models::CacheSettings,
    /// Programs of this machine that speak the Model Context Protocol, whose tools agents may use.
    pub mcp_servers: Vec<nh_mcp::LocalServer>,
    pub memory: nh_memory::MemorySettings,
    pub blobs: nh_blobs::BlobSettings,
    pub compute: nh_compute::ComputeSettings,
    pub search: nh_agents::search::SearchSettings,
    pub http: nh_http::HttpSettings,
    pub engine: nh_engine::EngineSettings,
    pub log: LogSettings,
    pub telemetry: nh_telemetry::TelemetrySettings,
}

/// What the hub tells about itself on stderr.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`; also by module, such as
    /// `info,nh_models=debug`.
    pub level: String,
    pub format: LogFormat,
    /// Regular expressions: `[redacted]` is written in place of what they match in a line, as it is
    /// written: in JSON a quote within a text is `\"`.
    pub redact: Vec<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` otherwise.
    Auto,
    Pretty,
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto, redact: Vec::new() }
    }
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Absent: `neuralhub.toml` of the working directory, if it is there.
    pub file: Option<PathBuf>,
    /// All variables of the environment; those that do not begin with
    /// `NEURALHUB__` are left alone.
    pub environment: Vec<(String, String)>,
    /// What flags set: a path such as `["server", "bind"]` and its value.
    pub flags: Vec<(&'static [&'static str], Value)>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `server.bind` or `providers[0].kind`.
    pub at: String,
    pub message: String,
}

impl From<SettingsFault> for Fault {
    fn from(SettingsFault { at, message }: SettingsFault) -> Self {
        Self { at, message }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {}: {}", fault.at, fault.message))
    }
}

impl Faults {
    fn one(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Fault { at: at.into(), message: message.into() }])
    }
}

/// Reads all sources; tells every fault at once.
pub fn load(sources: &Sources) -> Result<Config, Faults> {
    let schema = Schema::of_config();
    let mut tree = match &sources.file {
        Some(path) => read_file(path)?,
        None if Path::new(DEFAULT_FILE).is_file() => read_file(Path::new(DEFAULT_FILE))?,
        None => Value::Object(Map::new()),
    };
    let mut faults = environment::overlay(&mut tree, &sources.environment, &schema);
    for (path, value) in &sources.flags {
        set(&mut tree, path, value.clone());
    }
    let (config, more) = check::checked(tree, &schema);
    faults.extend(more);
    match config {
        // Only who needs the providers asks for their keys too.
        Some(config) if faults.is_empty() => Ok(config),
        config => {
            // What is left of a faulty provider would be told as a second fault.
            if !faults.iter().any(|fault| fault.at.to_ascii_lowercase().contains("providers")) {
                faults.extend(config.iter().flat_map(|config| provider_faults(config, &sources.environment)));
            }
            if !faults.iter().any(|fault| fault.at.to_ascii_lowercase().contains("blobs")) {
                faults.extend(config.iter().flat_map(|config| bucket_faults(config, &sources.environment)));
            }
            Err(Faults(faults))
        }
    }
}

fn provider_faults(config: &Config, environment: &[(String, String)]) -> Vec<Fault> {
    let resolved =
        nh_models::ResolvedProvider::resolve(&config.providers, |name| variable(environment, name));
    resolved.err().into_iter().flatten().map(Fault::from).collect()
}

fn bucket_faults(config: &Config, environment: &[(String, String)]) -> Vec<Fault> {
    let resolved = nh_blobs::Bucket::resolve(&config.blobs, |name| variable(environment, name));
    resolved.err().into_iter().flatten().map(Fault::from).collect()
}

fn variable(environment: &[(String, String)], name: &str) -> Option<String> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// Reads a configuration from the text of a file alone.
pub fn parse(text: &str) -> Result<Config, Faults> {
    let (config, faults) = check::checked(parse_toml(text, DEFAULT_FILE)?, &Schema::of_config());
    config.filter(|_| faults.is_empty()).ok_or(Faults(faults))
}

fn read_file(path: &Path) -> Result<Value, Faults> {
    let name = path.display().to_string();
    let fail = |error: std::io::Error| Faults::one(&name, format!("cannot be read: {error}"));
    if std::fs::metadata(path).map_err(fail)?.len() > MAX_FILE_BYTES {
        return Err(Faults::one(&name, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    parse_toml(&std::fs::read_to_string(path).map_err(fail)?, &name)
}

fn parse_toml(text: &str, name: &str) -> Result<Value, Faults> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| Faults::one(name, not_toml(text, &error)))?;
    serde_json::to_value(table).map_err(|error| Faults::one(name, error.to_string()))
}

/// Where the text stops being TOML. The line itself is not repeated: it may
/// hold a secret.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.split('\n').count());
    format!("line {line} is not TOML: {}", error.message())
}

/// Puts a value where a flag says, over whatever stands in the way.
fn set(tree: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = tree;
    for part in parents {
        if !at[*part].is_object() {
            at[*part] = Value::Object(Map::new());
        }
        at = &mut at[*part];
    }
    at[*last] = value;
}
