//! Sandboxes that were started before anybody asks for one. Each is one of the copies of
//! its template that nobody has had, and whoever takes it has it alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_guest::protocol::{Answer, Language, Request, Run};
use tokio::sync::Notify;

use crate::compute::Compute;
use crate::create::{Asked, environment, stop};
use crate::drivers::{Driver, Running, Spec, StartError};
use crate::meters::From;
use crate::snapshots::is_kept;
use crate::templates::Recipe;

const WARM_TIMEOUT_MS: u64 = 120_000;
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// After a start that failed.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Between looks at those that wait: one may end by itself.
const LOOK: Duration = Duration::from_secs(30);

/// Variables that a program reads once, when it starts: a started interpreter does not
/// see them.
const READ_AT_START: [&str; 15] = [
    "PYTHON",
    "NODE_",
    "LD_",
    "LC_",
    "LANG",
    "TZ",
    "MPL",
    "HOME",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NUMEXPR_",
    "MALLOC_",
    "GLIBC_",
    "TMPDIR",
];

#[derive(Default)]
pub(crate) struct Pool {
    ready: Mutex<HashMap<String, VecDeque<Running>>>,
    /// One was taken, or something else is to be done.
    taken: Notify,
}

impl Pool {
    fn ready(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Running>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, template: &str) -> u32 {
        self.ready().get(template).map_or(0, |ready| u32::try_from(ready.len()).unwrap_or(u32::MAX))
    }

    /// Has whoever keeps it see what is to be done.
    pub(crate) fn look(&self) {
        self.taken.notify_one();
    }

    fn take(&self, template: &str) -> Option<Running> {
        self.ready().get_mut(template)?.pop_front()
    }

    /// Those that ended while they waited.
    fn take_ended(&self) -> Vec<Running> {
        let mut ended = Vec::new();
        for ready in self.ready().values_mut() {
            let (gone, here) = ready.drain(..).partition(|running| running.guest.is_closed());
            *ready = here;
            ended.extend::<VecDeque<_>>(gone);
        }
        ended
    }

    fn take_all(&self) -> Vec<Running> {
        self.ready().drain().flat_map(|(_, ready)| ready).collect()
    }
}

impl Compute {
    /// One that waits, with the variables of who asked; `spec` is what it would be
    /// started as.
    pub(crate) async fn take_warm(
        &self,
        template: &str,
        env: &BTreeMap<String, String>,
        spec: &Spec,
    ) -> Option<Running> {
        if is_read_at_start(env) {
            return None;
        }
        let pool = &self.inner.pool;
        let language = self.inner.templates.recipe(template).ok().and_then(|recipe| recipe.language);
        if language == Some(Language::Bash) && !env.is_empty() {
            return None;
        }
        while let Some(running) = pool.take(template) {
            pool.look();
            if env.is_empty() && !running.guest.is_closed() {
                return Some(running);
            }
            match give_env(&running, language, env, spec).await {
                Ok(()) => return Some(running),
                Err(error) => {
                    tracing::warn!(%error, template, "a started sandbox had ended; the next one is taken");
                    stop(running).await;
                }
            }
        }
        None
    }

    /// Keeps as many started as there are to be, and what they are copies of, until the hub
    /// stops.
    pub(crate) async fn keep_pool(&self) {
        let Ok(driver) = self.driver().await else { return };
        self.fill_pool(&driver).await;
        for running in self.inner.pool.take_all() {
            stop(running).await;
        }
    }

    async fn fill_pool(&self, driver: &Driver) {
        let (pool, stopping) = (&self.inner.pool, &self.inner.stopping);
        while !stopping.is_cancelled() {
            for running in pool.take_ended() {
                stop(running).await;
            }
            let pause = if self.fill_once(driver).await { LOOK } else { TRY_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = pool.taken.notified() => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// Whether each template has as many as it is to have; what keeps one from it is no
    /// other's matter.
    async fn fill_once(&self, driver: &Driver) -> bool {
        let inner = &self.inner;
        let mut is_full = true;
        for (name, recipe) in inner.templates.recipes() {
            let Ok(Some(root)) = inner.templates.root(name) else { continue };
            if let Err(error) = self.fill_one(driver, name, recipe, root).await {
                tracing::warn!(
                    %error,
                    template = name,
                    "no sandbox can be started before it is asked for; it is tried again"
                );
                is_full = false;
            }
        }
        is_full
    }

    /// One at a time, so that whoever waits for theirs has the processors.
    async fn fill_one(
        &self,
        driver: &Driver,
        name: &str,
        recipe: &Recipe,
        root: PathBuf,
    ) -> Result<(), StartError> {
        let inner = &self.inner;
        let spec = || Spec {
            id: inner.ids.text(LETTERS, 16),
            root: root.clone(),
            env: environment(&BTreeMap::new()),
            limits: Asked::usual(&inner.settings).limits(&inner.settings),
        };
        self.save(driver, name, recipe, &spec()).await;
        while inner.pool.count(name) < inner.settings.pool_size && !inner.stopping.is_cancelled() {
            let (running, from) = self.begin_running(driver, name, &BTreeMap::new(), &spec()).await?;
            let warmed = async {
                // What it is a copy of was warm.
                if from == From::Snapshot && is_kept(recipe.language) {
                    Ok(())
                } else {
                    warm(&running, recipe).await
                }
            };
            let warmed = tokio::select! {
                warmed = warmed => warmed,
                () = inner.stopping.cancelled() => Err(StartError::Stopping),
            };
            if let Err(error) = warmed {
                stop(running).await;
                return if inner.stopping.is_cancelled() { Ok(()) } else { Err(error) };
            }
            inner.pool.ready().entry(name.to_owned()).or_default().push_back(running);
        }
        Ok(())
    }
}

/// Whether an interpreter that is started already would not see all of them.
pub(crate) fn is_read_at_start(env: &BTreeMap<String, String>) -> bool {
    env.keys().any(|name| READ_AT_START.iter().any(|start| name.starts_with(start)))
}

/// Starts the interpreter that will be asked for, with what takes long to import.
pub(crate) async fn warm(running: &Running, recipe: &Recipe) -> Result<(), StartError> {
    match recipe.language {
        Some(language) => run(running, language, recipe.warm.clone()).await,
        None => Ok(()),
    }
}

pub(crate) async fn run(running: &Running, language: Language, code: String) -> Result<(), StartError> {
    let run =
        Run { language, code, stdin: String::new(), timeout_ms: WARM_TIMEOUT_MS, max_output: 64 * 1024 };
    match running.guest.open(Request::Run(run))?.answer().await? {
        Answer::Ended(ended) if ended.exit_code == 0 && !ended.state_reset => Ok(()),
        other => Err(StartError::Ended(format!("its interpreter could not be started: {other:?}"))),
    }
}

/// To what is started from now on, and to the interpreter that is.
pub(crate) async fn give_env(
    running: &Running,
    language: Option<Language>,
    env: &BTreeMap<String, String>,
    spec: &Spec,
) -> Result<(), StartError> {
    running.tell(spec).await?;
    // A JSON text is a literal of both languages, and the JSON in it another.
    let json = serde_json::to_string(env).and_then(|json| serde_json::to_string(&json));
    let json = json.map_err(|error| StartError::Ended(error.to_string()))?;
    match language {
        Some(Language::Python) => {
            let code = format!("__import__('os').environ.update(__import__('json').loads({json}))");
            run(running, Language::Python, code).await
        }
        Some(Language::Nodejs) => {
            let code = format!("void Object.assign(process.env, JSON.parse({json}))");
            run(running, Language::Nodejs, code).await
        }
        Some(Language::Bash) | None => Ok(()),
    }
}
