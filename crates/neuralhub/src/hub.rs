//! A hub from start to end: what is opened in which order, and closed again.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nh_agents::memory::{ByProvider, InProcess};
use nh_agents::tools::{BuiltinSetup, Tools, code_tools, memory_tools, storage_tools};
use nh_agents::webhooks::Webhooks;
use nh_agents::{Hub, HubSetup};
use nh_blobs::{Blobs, BlobsSetup, Bucket};
use nh_compute::{Compute, ComputeSetup};
use nh_http::Outbound;
use nh_memory::{Memories, MemoriesSetup, Sources, Weights};
use nh_models::{Models, ModelsSetup, OwnProviders, ResolvedProvider, ResponseCache, UsageSink};
use nh_server::{App, AppSetup, FirstKey, Metrics};
use nh_store::Store;
use nh_store::seals::{self, Proof, Sealer};
use nh_telemetry::Telemetry;
use nh_types::{Ids, SharedClock, SharedIds, SystemClock, SystemIds, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::exit::Failure;
use crate::lock::DataLock;
use crate::{local, output};

/// How long running steps may go on after a stop was asked for. The server
/// drains beside them; both together stay below 30 s.
const RUNS_GRACE: Duration = Duration::from_secs(20);

/// After so long the process ends whatever hangs, such as a store that does
/// not answer.
const STOP_LIMIT: Duration = Duration::from_secs(28);

/// How long the last spans may take to be sent after that.
const SPANS_GRACE: Duration = Duration::from_secs(2);

/// The variable that holds the operator's own first key.
const BOOTSTRAP_KEY: &str = "NEURALHUB_BOOTSTRAP_KEY";

/// The file in the data directory that holds the first key otherwise.
const FIRST_KEY_FILE: &str = "first-key";

/// The parts of a running hub that must be closed in order.
struct Parts {
    store: Store,
    hub: Hub,
    app: Arc<App>,
    /// Of webhooks: those under way are finished before the store is closed.
    deliveries: TaskTracker,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

struct Listeners {
    main: TcpListener,
    metrics: Option<TcpListener>,
}

/// Serves until SIGTERM or Ctrl-C, then drains.
pub async fn serve(
    config: Config,
    providers: Vec<ResolvedProvider>,
    bucket: Option<Bucket>,
    data_dir: &Path,
    metrics: Metrics,
    telemetry: Option<Telemetry>,
) -> Result<(), Failure> {
    local::make_data_dir(data_dir)?;
    let listeners = Listeners::bind(&config).await?;
    let address = listeners.main.local_addr().map_err(anyhow::Error::new)?;
    let _lock = match config.store.url {
        // Nodes share PostgreSQL; the rows' own leases keep them apart.
        Some(_) => None,
        None => {
            Some(DataLock::take(data_dir, &format!("process {} at http://{address}", std::process::id()))?)
        }
    };
    let mut stop = Stop::listen()?;
    let parts = open(config, providers, bucket, data_dir, &listeners, metrics).await?;
    tracing::info!(%address, data_dir = %data_dir.display(), version = env!("CARGO_PKG_VERSION"), "the hub is up");

    if let Some(listener) = listeners.metrics {
        parts.tasks.spawn(nh_server::serve_metrics(listener, parts.app.clone()));
    }
    let serving = parts.tasks.spawn(nh_server::serve(listeners.main, parts.app.clone()));
    output::line(format!("listening on http://{address}"))?;

    let reason = stop.asked().await;
    tracing::info!(reason, "stopping: no new work is taken, and what runs is finished or parked");
    tokio::select! {
        ended = tokio::time::timeout(STOP_LIMIT, close(&parts, serving)) => match ended {
            Ok(ended) => ended?,
            Err(_elapsed) => tracing::error!("not all could be ended in time; the next start goes on with it"),
        },
        _ = stop.asked() => return Err(anyhow!("stopped at once; what was unfinished goes on at the next start").into()),
    }
    if let Some(telemetry) = telemetry {
        telemetry.shutdown(SPANS_GRACE).await;
    }
    tracing::info!("stopped");
    Ok(())
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, anyhow::Error> {
        let main = bind(config.server.bind, "bind").await?;
        let metrics = match config.server.metrics_bind {
            Some(address) => Some(bind(address, "metrics_bind").await?),
            None => None,
        };
        Ok(Self { main, metrics })
    }

    /// What no tool may reach.
    fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = [Some(&self.main), self.metrics.as_ref()];
        listeners.into_iter().flatten().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, anyhow::Error> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("{address} cannot be listened on; choose another with [server] {setting}"))
}

async fn open(
    config: Config,
    providers: Vec<ResolvedProvider>,
    bucket: Option<Bucket>,
    data_dir: &Path,
    listeners: &Listeners,
    metrics: Metrics,
) -> Result<Parts, anyhow::Error> {
    let (clock, ids): (SharedClock, SharedIds) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let store = local::store(&config, data_dir).await?;
    let sealer = prove_master_key(&config, data_dir, &store, ids.clone()).await?;
    prove_bucket(bucket.as_ref(), &store, ids.as_ref()).await?;
    first_start(&store, data_dir).await?;

    say_what_models(&providers);
    let (usage, writer) = UsageSink::new(UsageSink::DEFAULT_CAPACITY_ROWS);
    tasks.spawn(writer.run(store.clone()));
    let operator = Outbound::operator()?;
    let memories = memories(&config, &providers, data_dir, &store, &operator, clock.clone(), ids.clone());
    let guarded = Outbound::guarded(&config.http, listeners.addresses())?;
    let own_providers =
        OwnProviders::new(store.clone(), sealer.clone(), guarded.clone(), clock.clone(), ids.clone());
    let models = Models::new(ModelsSetup {
        own: Some(own_providers.clone()),
        aliases: config.model_aliases.clone(),
        workspace_limits: config.workspace_limits,
        cache: Some(ResponseCache::new(store.clone(), clock.clone(), config.response_cache.clone())),
        local: Some(Arc::new(InProcess(memories.clone()))),
        providers,
        http: operator.clone(),
        default_model: config.agents.default_model.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        usage,
    });
    let setup = BuiltinSetup {
        guarded: guarded.clone(),
        operator,
        search: &config.search,
        environment: &|name| std::env::var(name).ok(),
    };
    let blobs = Blobs::new(BlobsSetup {
        store: store.clone(),
        directory: data_dir.join("blobs"),
        bucket,
        settings: config.blobs.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
    });
    let compute = Compute::new(ComputeSetup {
        store: store.clone(),
        settings: config.compute.clone(),
        workspace_budget_usd: config.workspace_limits.budget_usd,
        data_dir: data_dir.to_owned(),
        clock: clock.clone(),
        ids: ids.clone(),
    })?;
    let of_hub = memory_tools(&memories, &models)
        .into_iter()
        .chain(storage_tools(&blobs))
        .chain(code_tools(&compute, &blobs));
    let tools = Tools::builtin(setup, of_hub)?;
    let hub = Hub::start(HubSetup {
        store: store.clone(),
        models: models.clone(),
        own_providers,
        memories: memories.clone(),
        blobs: blobs.clone(),
        compute: compute.clone(),
        tools,
        webhooks: Webhooks { http: guarded, sealer },
        mcp_servers: config.mcp_servers,
        clock: clock.clone(),
        ids: ids.clone(),
        settings: &config.engine,
        stopping: stopping.clone(),
    })
    .await?;
    let deliveries = TaskTracker::new();
    deliveries.spawn(nh_agents::webhooks::keep(hub.clone(), stopping.clone()));
    tasks.spawn(nh_agents::schedules::keep(hub.clone(), stopping.clone()));
    let of = hub.clone();
    let remote = move |workspace_id: &WorkspaceId| ByProvider::of_workspace(&of, workspace_id);
    tasks.spawn(nh_memory::keep(memories, remote, stopping.clone()));
    tasks.spawn(nh_blobs::keep(blobs, stopping.clone()));
    tasks.spawn(nh_agents::mcp::keep(hub.mcp.clone(), stopping.clone()));
    tasks.spawn(nh_compute::keep(compute, stopping.clone()));
    let app = App::new(AppSetup {
        settings: config.server,
        hub: hub.clone(),
        clock,
        ids,
        metrics,
        stopping: stopping.clone(),
    });
    #[cfg(debug_assertions)]
    if std::env::var_os("NEURALHUB_MCP_FIXTURES").is_some() {
        app.show_mcp_fixtures();
    }
    Ok(Parts { store, hub, app, deliveries, tasks, stopping })
}

fn memories(
    config: &Config,
    providers: &[ResolvedProvider],
    data_dir: &Path,
    store: &Store,
    http: &Outbound,
    clock: SharedClock,
    ids: SharedIds,
) -> Memories {
    let settings = &config.memory;
    let has_openai = providers.iter().any(|provider| provider.name == "openai");
    let default = if has_openai { nh_memory::REMOTE_MODEL } else { nh_memory::LOCAL_MODEL };
    let fetched_by = settings.fetch_weights.then(|| (http.clone(), Sources::default()));
    Memories::new(MemoriesSetup {
        store: store.clone(),
        weights: Weights::new(local::weights_dir(config, data_dir), fetched_by),
        default_model: settings.model.clone().unwrap_or_else(|| default.to_owned()),
        settings,
        clock,
        ids,
    })
}

/// In the order in which each still needs the next: answers and runs, the
/// usage that they recorded, the store.
async fn close(parts: &Parts, serving: JoinHandle<io::Result<()>>) -> Result<(), anyhow::Error> {
    parts.stopping.cancel();
    parts.deliveries.close();
    let ((), (), served) =
        tokio::join!(parts.hub.engine.shutdown(RUNS_GRACE), parts.deliveries.wait(), serving);
    tokio::join!(parts.hub.compute.close(), parts.hub.mcp.close());
    parts.hub.ledger.close().await;
    parts.store.close().await;
    served.context("the server stopped by itself")?.context("the server could not end well")
}

async fn prove_master_key(
    config: &Config,
    data_dir: &Path,
    store: &Store,
    ids: SharedIds,
) -> Result<Arc<Sealer>, anyhow::Error> {
    let (current, old) = local::master_keys(config, data_dir)?;
    let sealer = Arc::new(Sealer::new(&current, &old, ids));
    match seals::prove(store, &sealer).await? {
        Proof::First | Proof::Same => {}
        Proof::Rotated { secrets } => {
            tracing::info!(secrets, "the master key was changed; the old one is no longer needed");
        }
    }
    Ok(sealer)
}

/// As the store, a bucket that cannot be used keeps the hub from starting.
async fn prove_bucket(bucket: Option<&Bucket>, store: &Store, ids: &dyn Ids) -> Result<(), anyhow::Error> {
    match bucket {
        Some(bucket) => bucket.probe(ids).await.context("the bucket of [blobs] url cannot be used")?,
        None if store.is_shared() => tracing::warn!("{}", local::FILES_OF_ONE_NODE),
        None => {}
    }
    Ok(())
}

async fn first_start(store: &Store, data_dir: &Path) -> Result<(), anyhow::Error> {
    let bootstrap = std::env::var(BOOTSTRAP_KEY).ok().filter(|key| !key.is_empty()).map(SecretString::from);
    let file = data_dir.join(FIRST_KEY_FILE);
    let first = nh_server::first_start(store, &SystemClock, &SystemIds, bootstrap.as_ref(), &file).await?;
    match first.first_key {
        FirstKey::Created { key, path } => {
            tracing::info!(path = %path.display(), "the first API key is in this file");
            if io::stderr().is_terminal() {
                output::note(format!(
                    "The first API key, kept in {}: {}",
                    path.display(),
                    key.expose_secret()
                ));
            }
        }
        FirstKey::Installed => tracing::info!("the key of {BOOTSTRAP_KEY} is installed"),
        FirstKey::BootstrapRevoked => {
            tracing::warn!(
                "the key of {BOOTSTRAP_KEY} was revoked once and stays so: take it out of the environment"
            );
        }
        FirstKey::Present => {}
    }
    Ok(())
}

fn say_what_models(providers: &[ResolvedProvider]) {
    if providers.is_empty() {
        tracing::warn!(
            "no model provider is configured, so agents use the built-in neuralhub/offline: it is not a language \
             model but a planner that picks tools by their words. Set OPENROUTER_API_KEY, GEMINI_API_KEY or \
             OPENAI_API_KEY, or add [[providers]] to the configuration"
        );
    }
    for provider in providers {
        tracing::info!(provider = provider.name, base_url = %provider.base_url, "models come from here");
    }
}

/// SIGTERM (a service manager) and SIGINT (Ctrl-C).
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, anyhow::Error> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
        }
    }
}
