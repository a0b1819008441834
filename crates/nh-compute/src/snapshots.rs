//! Machines that were saved when they were ready, one of each template, where the driver
//! has such ([`Microvm`](crate::drivers::Microvm)): who comes gets a copy.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nh_guest::protocol::Language;

use crate::compute::Compute;
use crate::create::stop;
use crate::drivers::{Driver, Running, Snapshot, Spec, StartError};
use crate::meters::From;
use crate::pool::{give_env, is_read_at_start, run, warm};
use crate::templates::Recipe;

/// Has each copy of an interpreter draw other numbers, and defines nothing in it. Its
/// kernel's are others already.
const RESEED: &str = r#"exec('''
import os, sys
modules = sys.modules
for name in ("random", "numpy.random"):
    if name in modules:
        modules[name].seed()
if "tempfile" in modules:
    modules["tempfile"]._name_sequence = None
if "ssl" in modules:
    modules["ssl"].RAND_add(os.urandom(32), 32.0)
''', {})"#;

#[derive(Default)]
pub(crate) struct Snapshots(Mutex<HashMap<String, Kept>>);

/// Of a template.
enum Kept {
    /// Somebody asked for one.
    Wanted,
    Saved(Snapshot),
    /// It is not tried again.
    Failed,
}

impl Snapshots {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where there is none, it is wanted from now on.
    fn of(&self, template: &str, spec: &Spec) -> Option<Snapshot> {
        match self.all().entry(template.to_owned()).or_insert(Kept::Wanted) {
            Kept::Saved(snapshot) => Some(snapshot.clone()).filter(|snapshot| snapshot.is_of(spec)),
            Kept::Wanted | Kept::Failed => None,
        }
    }

    fn put(&self, template: &str, kept: Kept) {
        self.all().insert(template.to_owned(), kept);
    }
}

impl Compute {
    /// Starts such a sandbox, as a copy where there is something to copy.
    pub(crate) async fn begin_running(
        &self,
        driver: &Driver,
        template: &str,
        env: &BTreeMap<String, String>,
        spec: &Spec,
    ) -> Result<(Running, From), StartError> {
        match self.copy(driver, template, env, spec).await {
            Some(Ok(running)) => return Ok((running, From::Snapshot)),
            Some(Err(StartError::Stopping)) => return Err(StartError::Stopping),
            Some(Err(error)) => {
                tracing::warn!(%error, template, "a machine that was saved cannot be copied; none is from now on");
                self.inner.snapshots.put(template, Kept::Failed);
            }
            None => {}
        }
        Ok((driver.start(spec).await?, From::Nothing))
    }

    /// None: there is nothing to copy.
    async fn copy(
        &self,
        driver: &Driver,
        template: &str,
        env: &BTreeMap<String, String>,
        spec: &Spec,
    ) -> Option<Result<Running, StartError>> {
        let Driver::Microvm(microvm) = driver else { return None };
        let language = self.inner.templates.recipe(template).ok()?.language;
        if is_kept(language) && is_read_at_start(env) {
            return None;
        }
        let Some(snapshot) = self.inner.snapshots.of(template, spec) else {
            self.inner.pool.look();
            return None;
        };
        let copied = async {
            let running = microvm.restore(&snapshot, spec).await?;
            if !is_kept(language) {
                return Ok(running);
            }
            let renewed = async {
                run(&running, Language::Python, RESEED.to_owned()).await?;
                if env.is_empty() { Ok(()) } else { give_env(&running, language, env, spec).await }
            };
            match renewed.await {
                Ok(()) => Ok(running),
                Err(error) => {
                    stop(running).await;
                    Err(error)
                }
            }
        };
        Some(copied.await)
    }

    /// Saves a machine to copy, where there is none and one is wanted. Without one, each is
    /// started from nothing.
    pub(crate) async fn save(&self, driver: &Driver, template: &str, recipe: &Recipe, spec: &Spec) {
        let Driver::Microvm(microvm) = driver else { return };
        let is_wanted = match self.inner.snapshots.all().get(template) {
            None => self.inner.settings.pool_size > 0,
            Some(Kept::Wanted) => true,
            Some(Kept::Saved(snapshot)) => !snapshot.is_of(spec),
            Some(Kept::Failed) => false,
        };
        if !is_wanted || self.inner.stopping.is_cancelled() {
            return;
        }
        let warmed = async |running: &Running| match is_kept(recipe.language) {
            true => warm(running, recipe).await,
            false => Ok(()),
        };
        match microvm.save(spec, warmed).await {
            Ok(snapshot) => {
                self.inner.snapshots.put(template, Kept::Saved(snapshot));
                tracing::info!(template, "a machine was saved to copy");
            }
            Err(StartError::Stopping) => {}
            Err(error) => {
                tracing::warn!(%error, template, "no machine could be saved to copy; each is started from nothing");
                self.inner.snapshots.put(template, Kept::Failed);
            }
        }
    }
}

/// Whether an interpreter is saved with its machine: only of one that can be told to draw
/// other random numbers than its copies. Node.js cannot.
pub(crate) fn is_kept(language: Option<Language>) -> bool {
    language == Some(Language::Python)
}
