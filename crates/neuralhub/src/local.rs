//! What commands beside a hub need of its own files: its configuration, its
//! data directory, its store, its master key.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use nh_blobs::Bucket;
use nh_models::ResolvedProvider;
use nh_store::Store;
use nh_store::seals::MasterKey;
use nh_store::workspaces::{self, Workspace};
use nh_telemetry::{Collector, SpanLayer, Telemetry};
use nh_types::{Ids, SystemClock, SystemIds, WorkspaceId};
use serde_json::Value;

use crate::cli::{Bind, Local};
use crate::config::{self, Config, Fault, Faults, Sources};
use crate::exit::Failure;

/// What is to be known where PostgreSQL has the store and no bucket the objects.
pub(crate) const FILES_OF_ONE_NODE: &str = "objects are in files of this node, which other nodes on the same \
    PostgreSQL cannot read; for more than one node put them into a bucket ([blobs] url)";

/// Defaults, file, variables, flags.
pub(crate) fn load(local: &Local, bind: &Bind) -> Result<Config, Failure> {
    let flags = bind.bind.map(|address| (&["server", "bind"][..], Value::String(address.to_string())));
    let sources = Sources {
        file: local.config.clone(),
        environment: std::env::vars().collect(),
        flags: flags.into_iter().collect(),
    };
    Ok(config::load(&sources)?)
}

/// The configured providers, with those that the environment alone makes.
pub(crate) fn providers(config: &Config) -> Result<Vec<ResolvedProvider>, Failure> {
    let resolved = ResolvedProvider::resolve(&config.providers, |name| std::env::var(name).ok());
    resolved.map_err(|faults| Faults(faults.into_iter().map(Fault::from).collect()).into())
}

/// The bucket that objects are in, unless that is files.
pub(crate) fn bucket(config: &Config) -> Result<Option<Bucket>, Failure> {
    let resolved = Bucket::resolve(&config.blobs, |name| std::env::var(name).ok());
    resolved.map_err(|faults| Faults(faults.into_iter().map(Fault::from).collect()).into())
}

/// Where spans go, if anywhere.
pub(crate) fn collector(config: &Config) -> Result<Option<Collector>, Failure> {
    let collector = Collector::resolve(&config.telemetry, |name| std::env::var(name).ok());
    collector.map_err(|fault| Faults(vec![fault.into()]).into())
}

/// The sending of spans, if they go anywhere.
pub(crate) fn telemetry(config: &Config) -> Result<Option<(Telemetry, SpanLayer)>, Failure> {
    let start = |collector| Telemetry::start(collector, Arc::new(SystemClock), Arc::new(SystemIds));
    Ok(collector(config)?.map(start).transpose().context("spans cannot be sent")?)
}

/// Makes the data directory, for its owner alone.
pub(crate) fn make_data_dir(data_dir: &Path) -> Result<(), anyhow::Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("the data directory {} cannot be made", data_dir.display()))
}

/// Where the local embedding model's files are.
pub(crate) fn weights_dir(config: &Config, data_dir: &Path) -> PathBuf {
    let own = || data_dir.join("models").join("all-MiniLM-L6-v2");
    config.memory.weights_dir.clone().unwrap_or_else(own)
}

/// The SQLite store in the data directory.
pub(crate) fn store_file(data_dir: &Path) -> PathBuf {
    data_dir.join("neuralhub.db")
}

/// The store that the configuration names, with its schema up to date.
pub(crate) async fn store(config: &Config, data_dir: &Path) -> Result<Store, anyhow::Error> {
    match &config.store.url {
        Some(url) => Store::open_postgres(url).await.context("the PostgreSQL store cannot be opened"),
        None => {
            make_data_dir(data_dir)?;
            let file = store_file(data_dir);
            Store::open_sqlite(&file)
                .await
                .with_context(|| format!("the store {} cannot be opened", file.display()))
        }
    }
}

/// The store for a command of the operator, beside a running hub or not.
pub(crate) async fn open_store(local: &Local) -> Result<Store, Failure> {
    let config = load(local, &Bind::default())?;
    Ok(store(&config, &local.data_dir).await?)
}

/// A workspace by its name or its id.
pub(crate) async fn workspace(store: &Store, name: &str) -> Result<Workspace, Failure> {
    let by_name = workspaces::find_by_name(store, name).await.map_err(anyhow::Error::new)?;
    let found = match (by_name, name.parse::<WorkspaceId>()) {
        (Some(workspace), _) => Some(workspace),
        (None, Ok(id)) => workspaces::find(store, &id).await.map_err(anyhow::Error::new)?,
        (None, Err(_)) => None,
    };
    let help = "`neuralhub workspaces create NAME` makes one, and the first start of a hub makes `default`";
    found.ok_or_else(|| anyhow!("there is no workspace `{name}`; {help}").into())
}

/// The 32 bytes of a master key file.
pub(crate) fn read_master_key(file: &Path) -> Result<MasterKey, anyhow::Error> {
    let name = file.display();
    let bytes = fs::read(file).with_context(|| format!("the master key file {name} cannot be read"))?;
    MasterKey::from_bytes(&bytes).with_context(|| format!("the master key file {name} cannot be used"))
}

/// The key that seals secrets at rest, and the ones before it. On SQLite the
/// first start makes one; with PostgreSQL, which nodes share, it must be given.
pub(crate) fn master_keys(
    config: &Config,
    data_dir: &Path,
) -> Result<(MasterKey, Vec<MasterKey>), anyhow::Error> {
    let old = config.security.old_master_key_files.iter().map(|file| read_master_key(file));
    let old = old.collect::<Result<Vec<_>, _>>()?;
    let own = data_dir.join("master.key");
    let current = match &config.security.master_key_file {
        Some(file) => read_master_key(file)?,
        None if config.store.url.is_some() => {
            return Err(anyhow!(
                "with PostgreSQL a master key must be given, the same to all nodes: \
                 head -c 32 /dev/urandom > master.key, and name that file in [security] master_key_file"
            ));
        }
        None if own.exists() => read_master_key(&own)?,
        None => {
            let mut bytes = [0; MasterKey::LENGTH_BYTES];
            SystemIds.fill(&mut bytes);
            write_private(&own, &bytes)?;
            read_master_key(&own)?
        }
    };
    Ok((current, old))
}

/// Writes a new file that only its owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), anyhow::Error> {
    let fail = || format!("{} cannot be written", path.display());
    let unfinished = path.with_extension("new");
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let mut file = opened.with_context(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(fail)?;
    fs::rename(&unfinished, path).with_context(fail)
}
