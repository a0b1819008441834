use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nh_store::memory::{Memory, NoFaults};
use nh_store::{Store, schemas};
use nh_types::SystemClock;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

/// The variable that `scripts/with-postgres` sets.
const POSTGRES: &str = "NEURALHUB_TEST_POSTGRES";

/// An empty store of its own, removed on drop.
pub struct TestStore {
    store: Store,
    home: Home,
}

enum Home {
    Directory(TempDir),
    Schema { server: SecretString, name: String },
    Memory(Memory),
}

impl TestStore {
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open_sqlite(&directory.path().join("hub.db")).await.expect("a SQLite store");
        Self { store, home: Home::Directory(directory) }
    }

    pub async fn postgres() -> Self {
        let server = std::env::var(POSTGRES).unwrap_or_else(|_| {
            panic!(
                "{POSTGRES} is not set: run the tests through scripts/with-postgres, such as \
                    `scripts/with-postgres cargo test`"
            )
        });
        let server = SecretString::from(server);
        let name = schema_name();
        schemas::create(&server, &name).await.expect("a schema");
        let home = Home::Schema { server, name };
        let store = home.open().await;
        Self { store, home }
    }

    /// What the simulation of the engine runs on, as several processes share it.
    pub async fn memory() -> Self {
        let home = Home::Memory(Memory::new(Arc::new(SystemClock), true).expect("rows in memory"));
        let store = home.open().await;
        Self { store, home }
    }

    /// The engine that `NEURALHUB_TEST_STORE` names, SQLite unless it is
    /// `postgres`: for suites that are run once on each.
    pub async fn of_environment() -> Self {
        match std::env::var("NEURALHUB_TEST_STORE").as_deref() {
            Ok("postgres") => Self::postgres().await,
            _ => Self::sqlite().await,
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The SQLite file, if it is one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.home {
            Home::Directory(directory) => Some(file(directory.path())),
            Home::Schema { .. } | Home::Memory(_) => None,
        }
    }

    /// The URL of a PostgreSQL store, for a process of its own.
    pub fn url(&self) -> Option<String> {
        match &self.home {
            Home::Directory(_) | Home::Memory(_) => None,
            Home::Schema { server, name } => Some(schema_url(server, name)),
        }
    }

    /// Another store on the same rows, as a second process would open it.
    pub async fn open_again(&self) -> Store {
        self.home.open().await
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("hub.db")
}

fn schema_url(server: &SecretString, name: &str) -> String {
    format!("{}?options=-csearch_path%3D{name}", server.expose_secret())
}

impl Home {
    async fn open(&self) -> Store {
        match self {
            Self::Directory(directory) => Store::open_sqlite(&file(directory.path())).await,
            Self::Schema { server, name } => Store::open_postgres(&schema_url(server, name).into()).await,
            Self::Memory(memory) => Store::open_memory(memory, Arc::new(NoFaults)).await,
        }
        .expect("the store opens")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Self::Schema { server, name } = self else { return };
        let (server, name) = (server.clone(), name.clone());
        // A test's own runtime may be ending, so this has another.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { schemas::remove(&server, &name).await.map_err(std::io::Error::other) })
        });
        match removal.join() {
            Ok(Ok(())) => {}
            // The server is the tests' own and ends with them.
            _ => eprintln!("a test's schema was left behind"),
        }
    }
}

/// Unique among the processes and tests that share a server.
fn schema_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs one async test body on both engines and in memory:
/// `each_engine!(async fn name(store: TestStore) { … })` makes the tests
/// `name::sqlite`, `name::postgres` and `name::memory`.
#[macro_export]
macro_rules! each_engine {
    ($($(#[$meta:meta])* async fn $name:ident($store:ident: $kind:ty) $body:block)+) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn check($store: $kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::TestStore::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::TestStore::postgres().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                check($crate::TestStore::memory().await).await;
            }
        }
    )+};
}
