//! `neuralhub doctor`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use http::{Request, header};
use nh_compute::DriverChoice;
use nh_compute::drivers::{Driver, HostSetup};
use nh_http::{Limits, Outbound};
use nh_models::ResolvedProvider;
use nh_types::sandbox::Isolation;
use nh_types::{SystemClock, SystemIds};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{Bind, ClientArgs, Local};
use crate::client::Client;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::{self, Waiting};
use crate::{local, lock};

/// A provider that has not answered by then is called unreachable.
const PROVIDER_LIMITS: Limits = Limits {
    connect_ms: 5_000,
    first_byte_ms: 10_000,
    between_bytes_ms: 10_000,
    total_ms: 20_000,
    max_body_bytes: 16 * 1024 * 1024,
    max_redirects: 0,
};

#[derive(Debug, Args)]
pub struct Doctor {
    /// The configuration file [default: ./neuralhub.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ok,
    /// Works, but worth knowing.
    Note,
    Wrong,
}

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    health: Health,
    /// What was found, and how to mend it.
    says: String,
}

impl Finding {
    fn new(what: impl Into<String>, health: Health, says: impl Into<String>) -> Self {
        Self { what: what.into(), health, says: says.into() }
    }
}

impl Doctor {
    pub async fn perform(self) -> Result<(), Failure> {
        let waiting = Waiting::start("looking");
        let findings = self.findings().await;
        drop(waiting);
        if self.client.output.json {
            output::json(&findings)?;
        } else {
            for finding in &findings {
                let mark = match finding.health {
                    Health::Ok => "ok   ",
                    Health::Note => "note ",
                    Health::Wrong => "WRONG",
                };
                output::line(format!("{mark}  {}: {}", finding.what, output::printable(&finding.says)))?;
            }
        }
        match findings.iter().filter(|finding| finding.health == Health::Wrong).count() {
            0 => Ok(()),
            count => {
                Err(anyhow::anyhow!("{count} of {} checks found something wrong", findings.len()).into())
            }
        }
    }

    async fn findings(&self) -> Vec<Finding> {
        let data_dir = &self.client.data_dir;
        let mut findings = Vec::new();
        let local = Local { config: self.config.clone(), data_dir: data_dir.clone() };
        match local::load(&local, &Bind::default()) {
            Ok(config) => {
                findings.push(Finding::new("configuration", Health::Ok, "right"));
                findings.push(look_at_data_dir(&config, data_dir));
                findings.push(look_at_store(&config, data_dir).await);
                findings.push(look_at_objects(&config, data_dir).await);
                findings.push(look_at_master_key(&config));
                findings.extend(look_at_providers(&config).await);
                findings.push(look_at_search(&config));
                findings.push(look_at_weights(&config, data_dir));
                findings.push(look_at_isolation(&config, data_dir).await);
                findings.push(look_at_templates(&config, data_dir));
            }
            Err(failure) => findings.push(Finding::new("configuration", Health::Wrong, failure.to_string())),
        }
        findings.extend(look_at_hub(&self.client).await);
        findings
    }
}

fn look_at_data_dir(config: &Config, data_dir: &Path) -> Finding {
    let what = format!("data directory {}", data_dir.display());
    if config.store.url.is_some() {
        return Finding::new(what, Health::Note, "holds little: the store is PostgreSQL");
    }
    match std::fs::metadata(data_dir) {
        Ok(metadata) if !metadata.is_dir() => Finding::new(what, Health::Wrong, "is not a directory"),
        Ok(metadata) if metadata.permissions().readonly() => {
            Finding::new(what, Health::Wrong, "cannot be written")
        }
        Ok(_) if lock::is_held(data_dir) => Finding::new(what, Health::Ok, "in use by a running hub"),
        Ok(_) => Finding::new(what, Health::Ok, "there; no hub is using it"),
        Err(_) => Finding::new(what, Health::Note, "not there yet; the first `neuralhub serve` makes it"),
    }
}

async fn look_at_store(config: &Config, data_dir: &Path) -> Finding {
    let what = if config.store.url.is_some() { "store (PostgreSQL)" } else { "store (SQLite)" };
    if config.store.url.is_none() && !local::store_file(data_dir).exists() {
        return Finding::new(what, Health::Note, "not there yet; the first `neuralhub serve` makes it");
    }
    match local::store(config, data_dir).await {
        Ok(store) => {
            let answer = store.ping().await;
            store.close().await;
            match answer {
                Ok(()) => Finding::new(what, Health::Ok, "answers, and its schema is up to date"),
                Err(error) => Finding::new(what, Health::Wrong, error.to_string()),
            }
        }
        Err(error) => Finding::new(what, Health::Wrong, format!("{error:#}")),
    }
}

/// A bucket is written, read and emptied once.
async fn look_at_objects(config: &Config, data_dir: &Path) -> Finding {
    let bucket = match local::bucket(config) {
        Ok(bucket) => bucket,
        Err(failure) => return Finding::new("objects", Health::Wrong, failure.to_string()),
    };
    let Some(bucket) = bucket else {
        let what = format!("objects in {}", data_dir.join("blobs").display());
        return match config.store.url {
            Some(_) => Finding::new(what, Health::Note, local::FILES_OF_ONE_NODE),
            None => Finding::new(what, Health::Ok, "files of this node"),
        };
    };
    let what = format!("objects in {}", config.blobs.url.as_deref().unwrap_or_default());
    match bucket.probe(&SystemIds).await {
        Ok(()) => Finding::new(what, Health::Ok, "can be written, read and deleted"),
        Err(error) => Finding::new(what, Health::Wrong, error.to_string()),
    }
}

fn look_at_master_key(config: &Config) -> Finding {
    let what = "master key";
    match &config.security.master_key_file {
        Some(file) => match local::read_master_key(file) {
            Ok(_) => Finding::new(what, Health::Ok, format!("{} can be read", file.display())),
            Err(error) => Finding::new(what, Health::Wrong, format!("{error:#}")),
        },
        None if config.store.url.is_some() => {
            let help = "with PostgreSQL it must be given: head -c 32 /dev/urandom > master.key, \
                        and name that file in [security] master_key_file";
            Finding::new(what, Health::Wrong, help)
        }
        None => Finding::new(what, Health::Ok, "kept in the data directory; back it up with the store"),
    }
}

async fn look_at_providers(config: &Config) -> Vec<Finding> {
    let providers = match local::providers(config) {
        Ok(providers) => providers,
        Err(failure) => return vec![Finding::new("providers", Health::Wrong, failure.to_string())],
    };
    if providers.is_empty() {
        let says = "none, so agents use the built-in neuralhub/offline, which is not a language model; \
                    set OPENROUTER_API_KEY, GEMINI_API_KEY or OPENAI_API_KEY, or add [[providers]]";
        return vec![Finding::new("providers", Health::Note, says)];
    }
    let mut findings = Vec::new();
    for provider in &providers {
        findings.push(look_at_provider(provider).await);
    }
    findings
}

async fn look_at_provider(provider: &ResolvedProvider) -> Finding {
    let what = format!("provider {}", provider.name);
    let base = provider.base_url.as_str().trim_end_matches('/');
    let mut request = Request::get(format!("{base}/models"));
    if let Some(key) = &provider.api_key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    }
    let answer = match (Outbound::operator(), request.body(bytes::Bytes::new())) {
        (Ok(http), Ok(request)) => http.send(request, PROVIDER_LIMITS).await,
        (Err(error), _) => Err(error),
        (_, Err(_)) => {
            return Finding::new(what, Health::Wrong, "its API key is not one that a header can carry");
        }
    };
    match answer.map(|response| response.status.as_u16()) {
        Ok(200..=299) => Finding::new(what, Health::Ok, "answers"),
        Ok(401 | 403) => Finding::new(what, Health::Wrong, "refuses its API key"),
        Ok(status) => Finding::new(what, Health::Wrong, format!("answers {status} to GET {base}/models")),
        Err(error) => Finding::new(what, Health::Wrong, error.to_string()),
    }
}

fn look_at_search(config: &Config) -> Finding {
    match &config.search.provider {
        Some(_) => Finding::new("web search", Health::Ok, "a provider is configured"),
        None => {
            let says = "not configured, so the tool web_search is not offered; set [search] provider";
            Finding::new("web search", Health::Note, says)
        }
    }
}

/// Starts a sandbox of nothing, and ends it.
async fn look_at_isolation(config: &Config, data_dir: &Path) -> Finding {
    let what = "sandboxes";
    let settings = &config.compute;
    // Where it was asked for by name, to be without it is a fault.
    let missing = match settings.driver {
        DriverChoice::Off => {
            return Finding::new(what, Health::Note, "turned off by [compute] driver");
        }
        DriverChoice::Auto => Health::Note,
        DriverChoice::Microvm | DriverChoice::Gvisor | DriverChoice::Process => Health::Wrong,
    };
    let kernel = nh_compute::templates(settings, data_dir).ok().and_then(|templates| templates.kernel());
    let directory = std::env::temp_dir().join(format!("neuralhub-doctor-{}", std::process::id()));
    let setup = HostSetup {
        directory: directory.clone(),
        tasks: TaskTracker::new(),
        clock: Arc::new(SystemClock),
        stopping: CancellationToken::new(),
    };
    let opened = Driver::open(settings, kernel.as_deref(), setup).await;
    let opened = opened.map(|driver| driver.isolation());
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        tracing::debug!(%error, "the doctor's folder could not be removed");
    }
    match opened {
        Ok(isolation) => {
            let (health, by) = match isolation {
                Isolation::Microvm => (Health::Ok, "virtual machines isolate them"),
                Isolation::MicrovmEmulated => {
                    (Health::Note, "virtual machines isolate them, emulated, which is slow")
                }
                Isolation::Gvisor => (Health::Ok, "gVisor isolates them"),
                Isolation::Process => {
                    (Health::Note, "this host's kernel alone isolates them: no place for code of strangers")
                }
            };
            Finding::new(what, health, format!("one was started and ended; {by}"))
        }
        Err(error) => Finding::new(what, missing, format!("there can be none: {error}")),
    }
}

fn look_at_templates(config: &Config, data_dir: &Path) -> Finding {
    let what = "templates of sandboxes";
    let recipes = match nh_compute::templates(&config.compute, data_dir) {
        Ok(recipes) => recipes,
        Err(error) => return Finding::new(what, Health::Wrong, error.to_string()),
    };
    let is_built = |name: &str| recipes.root(name).is_ok_and(|root| root.is_some());
    let built: Vec<&str> = recipes.recipes().map(|(name, _)| name).filter(|name| is_built(name)).collect();
    match built.is_empty() {
        true => {
            Finding::new(what, Health::Note, "none is built; `sudo neuralhub templates build` builds them")
        }
        false => Finding::new(what, Health::Ok, format!("built: {}", built.join(", "))),
    }
}

/// Whether the local embedding model's files are there; reading them to the end is left to
/// whoever loads them.
fn look_at_weights(config: &Config, data_dir: &Path) -> Finding {
    let directory = local::weights_dir(config, data_dir);
    let what = format!("embedding model {}", directory.display());
    for file in &nh_memory::FILES {
        match std::fs::metadata(directory.join(file.name)) {
            Ok(metadata) if metadata.len() == file.bytes => {}
            Ok(metadata) => {
                let (is, name, bytes) = (metadata.len(), file.name, file.bytes);
                let says =
                    format!("{name} has {is} bytes instead of {bytes}; `neuralhub setup` fetches it anew");
                return Finding::new(what, Health::Wrong, says);
            }
            Err(_) => {
                let first = match config.memory.fetch_weights {
                    true => "the first memory or search fetches it (91 MB), or",
                    false => "memories cannot be embedded by it until",
                };
                let says = format!("{} is not there; {first} `neuralhub setup` does", file.name);
                return Finding::new(what, Health::Note, says);
            }
        }
    }
    Finding::new(what, Health::Ok, "there")
}

/// A running hub, and whether the key that this client would use is good.
async fn look_at_hub(arguments: &ClientArgs) -> Vec<Finding> {
    let client = match Client::new(arguments) {
        Ok(client) => client,
        Err(failure) => return vec![Finding::new("client", Health::Wrong, failure.to_string())],
    };
    let what = format!("hub {}", client.base());
    match client.probe("/readyz").await {
        Ok((200, _)) => {}
        Ok((status, text)) => {
            let says = format!("answers {status} to /readyz: {}", output::short(&text, 200));
            return vec![Finding::new(what, Health::Wrong, says)];
        }
        Err(Failure::Unreachable { .. }) => {
            return vec![Finding::new(what, Health::Note, "not running; `neuralhub serve` starts one")];
        }
        Err(failure) => return vec![Finding::new(what, Health::Wrong, failure.to_string())],
    }
    let key = if !client.has_key() {
        Finding::new("API key", Health::Note, "none here; see `neuralhub keys --help`")
    } else {
        match client.get::<Value>("/v1/models").await {
            Ok(_) => Finding::new("API key", Health::Ok, "accepted"),
            Err(failure) => Finding::new("API key", Health::Wrong, failure.to_string()),
        }
    };
    vec![Finding::new(what, Health::Ok, "ready"), key]
}
