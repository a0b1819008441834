//! How a sandbox comes to be, from what is asked for to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nh_guest::protocol::Killed;
use nh_store::idempotency::Withdraw;
use nh_store::sandboxes::{Begin, Begun, Forget, SandboxRecord, Started};
use nh_store::{Idempotency, Once};
use nh_types::sandbox::{SandboxState, StopReason};
use nh_types::{ApiError, ErrorCode, RunId, SandboxId, WorkspaceId};
use tokio::time::Instant;

use crate::compute::{Compute, DEFAULT_LIFE_SECONDS, Found, Here, check_life};
use crate::drivers::{Driver, Ended, HOME, Limits, Running, Spec};
use crate::error::{ComputeError, invalid};
use crate::guest::Guest;
use crate::live::{End, Live};
use crate::meters::{self, From};
use crate::settings::ComputeSettings;
use crate::upkeep::HOLD_MS;

const MAX_VARIABLES: usize = 128;
const MAX_ENV_BYTES: usize = 64 * 1024;
const MIN_MEMORY_MB: u32 = 64;
const MIN_CPUS: f64 = 0.1;
/// Of an id that a sandbox has on its host alone.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// What every program in a sandbox is told.
const ENV: [(&str, &str); 5] = [
    ("PATH", "/home/user/.local/bin:/usr/local/bin:/usr/bin:/bin"),
    ("HOME", HOME),
    ("USER", "user"),
    ("LANG", "C.UTF-8"),
    ("MPLBACKEND", "agg"),
];

/// A sandbox that somebody asks for. What is absent is as it is configured.
#[derive(Clone, Debug)]
pub struct New {
    pub template: String,
    pub env: BTreeMap<String, String>,
    pub life_seconds: Option<u32>,
    pub memory_mb: Option<u32>,
    pub cpus: Option<f64>,
}

/// For whom.
#[derive(Clone, Debug)]
pub struct Author {
    pub workspace_id: WorkspaceId,
    pub created_by: String,
    /// It ends with this run.
    pub run_id: Option<RunId>,
}

/// What a sandbox may have, of what can be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) memory_mb: u32,
    pub(crate) cpu_millis: u32,
}

impl Asked {
    /// Where nobody asks for anything.
    pub(crate) fn usual(settings: &ComputeSettings) -> Self {
        Self { memory_mb: settings.memory_mb, cpu_millis: (settings.cpus * 1000.0) as u32 }
    }

    fn read(settings: &ComputeSettings, new: &New) -> Result<Self, ComputeError> {
        let usual = Self::usual(settings);
        let memory_mb = new.memory_mb.unwrap_or(usual.memory_mb);
        if new.memory_mb.is_some() && !(MIN_MEMORY_MB..=settings.max_memory_mb).contains(&memory_mb) {
            let most = settings.max_memory_mb;
            let message = format!(
                "`memory_mb` is {memory_mb}; it must be {MIN_MEMORY_MB} to {most} ([compute] max_memory_mb)"
            );
            return Err(invalid("memory_mb", message));
        }
        let cpus = new.cpus.unwrap_or(settings.cpus);
        if new.cpus.is_some() && !(MIN_CPUS..=settings.max_cpus).contains(&cpus) {
            let most = settings.max_cpus;
            let message = format!("`cpus` is {cpus}; it must be {MIN_CPUS} to {most} ([compute] max_cpus)");
            return Err(invalid("cpus", message));
        }
        check_env(&new.env)?;
        Ok(Self { memory_mb, cpu_millis: (cpus * 1000.0) as u32 })
    }

    pub(crate) fn limits(self, settings: &ComputeSettings) -> Limits {
        Limits {
            memory_bytes: u64::from(self.memory_mb) << 20,
            cpus: self.cpu_millis as f32 / 1000.0,
            processes: settings.max_processes,
            disk_bytes: u64::from(settings.disk_mb) << 20,
        }
    }
}

impl Compute {
    /// Starts one, or takes one that was started. With an idempotency key that came
    /// before: the one that was made then, as it is now.
    pub async fn create(
        &self,
        author: Author,
        new: New,
        once: Option<Idempotency>,
    ) -> Result<Once<Found>, ComputeError> {
        let life = new.life_seconds.unwrap_or(DEFAULT_LIFE_SECONDS);
        check_life(life)?;
        let asked = Asked::read(&self.inner.settings, &new)?;
        let root = self.root(&new.template)?;
        if self.inner.stopping.is_cancelled() {
            return Err(ApiError::new(ErrorCode::ShuttingDown, "the hub is stopping").into());
        }
        let driver = self.driver().await?;
        let work = self.clone();
        // Whoever asked may go away: what was begun is still to be finished.
        let created = self.inner.tasks.spawn(async move {
            let begun = work.begin(&author, &new, asked, life, &driver, once.clone()).await;
            let record = match begun {
                Ok(Once::First(record)) => record,
                Ok(other) => return other_than_first(&work, other).await,
                Err(error) => {
                    work.withdraw(once).await?;
                    return Err(error);
                }
            };
            let spec = Spec {
                id: work.inner.ids.text(LETTERS, 16),
                root,
                env: environment(&new.env),
                limits: asked.limits(&work.inner.settings),
            };
            let starting = async {
                work.check_budgets(&record).await?;
                work.start(&driver, &new, asked, &spec).await
            };
            let started = match starting.await {
                Ok(running) => work.run(record.clone(), running, life).await,
                Err(error) => Err(error),
            };
            if started.is_err() {
                work.here().remove(&record.id);
                let (workspace_id, id) = (record.workspace_id, record.id);
                work.inner.store.write(Forget { workspace_id, id }).await?;
                work.withdraw(once).await?;
            }
            Ok(Once::First(started?))
        });
        created.await.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?
    }

    /// What came of nothing may be asked for again.
    async fn withdraw(&self, once: Option<Idempotency>) -> Result<(), ComputeError> {
        match once {
            Some(once) => Ok(self.inner.store.write(Withdraw(once)).await?),
            None => Ok(()),
        }
    }

    /// The files of a template that is built.
    fn root(&self, template: &str) -> Result<std::path::PathBuf, ComputeError> {
        match self.inner.templates.root(template) {
            Ok(Some(root)) => Ok(root),
            Ok(None) => {
                let message = format!(
                    "the template `{template}` is not built on this host yet: `neuralhub templates build \
                     {template}` does that, with the hub's own --config and --data-dir, while it runs or not"
                );
                Err(ApiError::new(ErrorCode::ComponentUnavailable, message).param("template").into())
            }
            Err(error) => Err(invalid("template", error.to_string())),
        }
    }

    /// The row comes before the sandbox, so that none is ever there without one.
    async fn begin(
        &self,
        author: &Author,
        new: &New,
        asked: Asked,
        life: u32,
        driver: &Driver,
        once: Option<Idempotency>,
    ) -> Result<Once<SandboxRecord>, ComputeError> {
        let inner = &self.inner;
        let id = SandboxId::generate(inner.ids.as_ref());
        let now = inner.clock.now();
        let sandbox = SandboxRecord {
            id: id.clone(),
            workspace_id: author.workspace_id.clone(),
            node: inner.node.clone(),
            template: new.template.clone(),
            isolation: driver.isolation(),
            state: SandboxState::Starting,
            stop_reason: None,
            created_by: author.created_by.clone(),
            run_id: author.run_id,
            memory_mb: asked.memory_mb,
            cpu_millis: asked.cpu_millis,
            created_at: now,
            expires_at: now.plus_millis(i64::from(life) * 1000),
            stopped_at: None,
        };
        let most = inner.settings.max_per_workspace;
        self.here().insert(id.clone(), Here::Starting);
        let begun = inner.store.write_once(once, Begin { sandbox, most, hold_ms: HOLD_MS }).await;
        if !matches!(begun, Ok(Once::First(Begun::Done(_)))) {
            self.here().remove(&id);
        }
        match begun? {
            Once::First(Begun::Done(record)) => Ok(Once::First(*record)),
            Once::Replay(Begun::Done(record)) => Ok(Once::Replay(*record)),
            Once::Mismatch => Ok(Once::Mismatch),
            Once::First(Begun::Full) | Once::Replay(Begun::Full) => {
                let message = format!(
                    "the workspace has {most} sandboxes, as many as it may have at once \
                     ([compute] max_per_workspace); delete one, or wait until one ends"
                );
                Err(ApiError::new(ErrorCode::QueueFull, message).retry_after(5).into())
            }
        }
    }

    async fn start(
        &self,
        driver: &Driver,
        new: &New,
        asked: Asked,
        spec: &Spec,
    ) -> Result<Running, ComputeError> {
        let began = Instant::now();
        if asked == Asked::usual(&self.inner.settings)
            && let Some(running) = self.take_warm(&new.template, &new.env, spec).await
        {
            meters::started(From::Pool, began.elapsed());
            return Ok(running);
        }
        match self.begin_running(driver, &new.template, &new.env, spec).await {
            Ok((running, from)) => {
                meters::started(from, began.elapsed());
                Ok(running)
            }
            Err(error) => {
                meters::not_started();
                Err(error.into())
            }
        }
    }

    /// Follows it from now on.
    async fn run(&self, record: SandboxRecord, running: Running, life: u32) -> Result<Found, ComputeError> {
        let inner = &self.inner;
        let at = inner.clock.now();
        let expires_at = at.plus_millis(i64::from(life) * 1000);
        let is_still = inner.store.write(Started { id: record.id.clone(), at, expires_at }).await;
        if !matches!(is_still, Ok(true)) {
            stop(running).await;
            is_still?;
            let message = "the sandbox was taken for lost while it started; create another one";
            return Err(ApiError::new(ErrorCode::SandboxStopped, message).into());
        }
        let record = SandboxRecord { state: SandboxState::Running, expires_at, ..record };
        let live = Arc::new(Live::new(record.clone(), &running, Duration::from_secs(life.into())));
        self.put_here(record.id.clone(), Some(Here::Running(live.clone())));
        if inner.stopping.is_cancelled() {
            live.ask(End::Stopped(StopReason::HubStopped));
        }
        if record.run_id.is_some() {
            inner.of_run_made.notify_one();
        }
        tracing::info!(
            sandbox = record.id.as_str(),
            template = record.template,
            isolation = record.isolation.as_str(),
            "a sandbox runs"
        );
        inner.tasks.spawn(self.clone().follow(live, running));
        Ok(self.found(record))
    }

    /// Until it ends, for whatever reason, and its row says so.
    async fn follow(self, live: Arc<Live>, mut running: Running) {
        let guest = running.guest.clone();
        let end = tokio::select! {
            ended = running.ended() => End::Stopped(reason(&guest, &ended)),
            end = live.asked() => end,
            () = live.life_over() => End::Stopped(StopReason::Expired),
            () = guest.closed() => match tokio::time::timeout(WRITE_AGAIN, running.ended()).await {
                Ok(ended) => End::Stopped(reason(&guest, &ended)),
                Err(_) => End::Stopped(StopReason::BrokeProtocol),
            },
        };
        live.ask(end);
        stop(running).await;
        // Somebody may have asked for more meanwhile.
        let end = live.last_asked().unwrap_or(end);
        let id = live.record.id.clone();
        let at = self.inner.clock.now();
        while let Err(error) = self.write_end(&live.record, end, at).await {
            tracing::warn!(%error, sandbox = id.as_str(), "the end of a sandbox could not be written; again");
            tokio::select! {
                () = tokio::time::sleep(WRITE_AGAIN) => {}
                // The next start finds it.
                () = self.inner.stopping.cancelled() => break,
            }
        }
        tracing::info!(sandbox = id.as_str(), ?end, "a sandbox has ended");
        meters::ended(end);
        self.put_here(id, None);
        live.set_gone();
    }
}

/// What is answered to a request that came before.
async fn other_than_first(
    compute: &Compute,
    other: Once<SandboxRecord>,
) -> Result<Once<Found>, ComputeError> {
    let Once::Replay(record) = other else { return Ok(Once::Mismatch) };
    match compute.find(&record.workspace_id, &record.id).await? {
        Some(found) => Ok(Once::Replay(found)),
        None => {
            let message = format!("this Idempotency-Key made the sandbox `{}`, which is no more", record.id);
            Err(ApiError::new(ErrorCode::AlreadyCreated, message).param("Idempotency-Key").into())
        }
    }
}

pub(crate) async fn stop(running: Running) {
    if let Err(error) = running.stop().await {
        tracing::error!(%error, "something is left of a sandbox; the next start of the hub removes it");
    }
}

fn reason(guest: &Guest, ended: &Ended) -> StopReason {
    match ended.killed {
        None if guest.is_broken() => StopReason::BrokeProtocol,
        Some(Killed::Memory) => StopReason::Memory,
        Some(Killed::Processes) => StopReason::Processes,
        Some(Killed::Timeout | Killed::Cancelled) | None => StopReason::Ended,
    }
}

pub(crate) fn environment(own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> =
        ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.extend(own.clone());
    env
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), ComputeError> {
    if env.len() > MAX_VARIABLES {
        let message = format!("`env` has {} variables; it may have {MAX_VARIABLES}", env.len());
        return Err(invalid("env", message));
    }
    let is_name = |name: &str| {
        let mut letters = name.bytes();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    for (name, value) in env {
        let shown: String = name.chars().take(80).collect();
        if !is_name(name) {
            let message =
                format!("`env` has the name `{shown}`; one is letters, digits and `_`, and no digit first");
            return Err(invalid("env", message));
        }
        if value.contains('\0') {
            let message = format!("`env.{shown}` has a NUL, which no variable can have");
            return Err(invalid("env", message));
        }
    }
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    match bytes <= MAX_ENV_BYTES {
        true => Ok(()),
        false => {
            let message =
                format!("`env` is {bytes} bytes; it may be {MAX_ENV_BYTES}: put files into the sandbox");
            Err(invalid("env", message))
        }
    }
}
