//! What object storage is held against: plain copies of a file, a bare writer of
//! the same rows, a bare reader of them; and a store with many objects.

pub mod bare;
pub mod listing;
pub mod transfer;

use std::path::Path;

use nh_store::Store;
use nh_store::workspaces::{self, Workspace};
use nh_types::agent::AgentDefinition;
use nh_types::{Clock as _, SystemClock, SystemIds, WorkspaceId};
use rusqlite::Connection;

/// An id as the hub makes them for bytes.
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LETTERS: usize = 26;

/// A new file in `directory` with the hub's schema and a workspace.
async fn new_store(directory: &Path) -> anyhow::Result<(std::path::PathBuf, WorkspaceId)> {
    let file = directory.join("bare.db");
    let store = Store::open_sqlite(&file).await?;
    let id = WorkspaceId::generate(&SystemIds);
    let workspace = Workspace { id: id.clone(), name: "bare".to_owned(), created_at: SystemClock.now() };
    let default_agent = AgentDefinition::default_agent();
    store.write(workspaces::Create { workspace, default_agent }).await?;
    store.close().await;
    Ok((file, id))
}

/// With the hub's durability and settings.
fn connect(file: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -4096; \
         pragma foreign_keys = on; pragma temp_store = memory",
    )?;
    Ok(connection)
}
