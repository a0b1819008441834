//! What a new store needs before its first request: a workspace, and a key to
//! reach it with.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nh_store::keys::{Bootstrap, InstallBootstrap};
use nh_store::workspaces::{self, Workspace};
use nh_store::{Store, StoreError};
use nh_types::agent::AgentDefinition;
use nh_types::{Clock, Ids, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

use crate::auth::api_key::{ApiKey, InvalidApiKey};

/// The name of the workspace that every store begins with.
const DEFAULT_WORKSPACE: &str = "default";

#[derive(Debug)]
pub struct FirstStart {
    pub workspace_id: WorkspaceId,
    pub first_key: FirstKey,
}

/// What became of the first key.
#[derive(Debug)]
pub enum FirstKey {
    /// Made now, and written to the file; show it only on a terminal.
    Created { key: SecretString, path: PathBuf },
    /// The operator's bootstrap key was installed now.
    Installed,
    /// There is nothing to do: this is not the first start.
    Present,
    /// The bootstrap key was revoked once and stays so: warn.
    BootstrapRevoked,
}

#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    #[error("NEURALHUB_BOOTSTRAP_KEY cannot be used (`neuralhub keys generate` prints a good one)")]
    BootstrapKey(#[from] InvalidApiKey),
    #[error("the first key cannot be written to {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} does not hold an API key: remove it, then start again")]
    FileContent { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the default workspace when it is missing and sees to its first key:
/// the operator's `bootstrap` if given, else one of the hub's own in
/// `first_key_file` (mode 0600). The file is written before the key counts, so
/// that a crash between the two leaves a key that the next start installs.
pub async fn first_start(
    store: &Store,
    clock: &dyn Clock,
    ids: &dyn Ids,
    bootstrap: Option<&SecretString>,
    first_key_file: &Path,
) -> Result<FirstStart, FirstStartError> {
    let bootstrap = bootstrap.map(|key| ApiKey::parse(key.expose_secret().trim())).transpose()?;
    let existing = workspaces::find_by_name(store, DEFAULT_WORKSPACE).await?;
    let written = match bootstrap {
        Some(_) => None,
        None => read_key(first_key_file)?,
    };
    let created = match (&bootstrap, &written, &existing) {
        (None, None, None) => Some(write_key(first_key_file, ids)?),
        _ => None,
    };
    let workspace_id = match existing {
        Some(workspace) => workspace.id,
        None => make_workspace(store, clock, ids).await?,
    };
    let is_bootstrap = bootstrap.is_some();
    let Some(key) = bootstrap.or(written).or_else(|| created.clone()) else {
        return Ok(FirstStart { workspace_id, first_key: FirstKey::Present });
    };
    let install = InstallBootstrap {
        workspace_id: workspace_id.clone(),
        hash: key.hash(),
        prefix: key.prefix(),
        at: clock.now(),
    };
    let first_key = match (store.write(install).await?, created, is_bootstrap) {
        (_, Some(key), _) => FirstKey::Created { key: key.secret().clone(), path: first_key_file.to_owned() },
        (Bootstrap::Installed, None, _) => FirstKey::Installed,
        (Bootstrap::Revoked, None, true) => FirstKey::BootstrapRevoked,
        (Bootstrap::AlreadyThere, None, _) | (Bootstrap::Revoked, None, false) => FirstKey::Present,
    };
    Ok(FirstStart { workspace_id, first_key })
}

/// Another node may make it at the same time; then that one is taken.
async fn make_workspace(
    store: &Store,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<WorkspaceId, FirstStartError> {
    let workspace = Workspace {
        id: WorkspaceId::generate(ids),
        name: DEFAULT_WORKSPACE.to_owned(),
        created_at: clock.now(),
    };
    let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
    match store.write(create).await {
        Ok(made) => Ok(made.id),
        Err(StoreError::Conflict(text)) => match workspaces::find_by_name(store, DEFAULT_WORKSPACE).await? {
            Some(theirs) => Ok(theirs.id),
            None => Err(StoreError::Conflict(text).into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn read_key(path: &Path) -> Result<Option<ApiKey>, FirstStartError> {
    match std::fs::read_to_string(path) {
        Ok(text) => ApiKey::parse(text.trim())
            .map(Some)
            .map_err(|_| FirstStartError::FileContent { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FirstStartError::File { path: path.to_owned(), source }),
    }
}

/// Whole or not at all: written beside, then renamed into place.
fn write_key(path: &Path, ids: &dyn Ids) -> Result<ApiKey, FirstStartError> {
    let key = ApiKey::generate(ids);
    let beside = path.with_extension("new");
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(format!("{}\n", key.expose()).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| FirstStartError::File { path: path.to_owned(), source })?;
    Ok(key)
}
