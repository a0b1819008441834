//! Machines that were saved when they were ready, one of each template, where the driver
//! has such ([`Microvm`](crate::drivers::Microvm)): who comes gets a copy.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use nh_guest::protocol::Language;

use crate::compute::Compute;
use crate::create::stop;
use crate::drivers::{Driver, Running, Snapshot, Spec, StartError};
use crate::pool::{give_env, is_read_at_start, run, warm};
use crate::templates::Recipe;

/// Has each copy of an interpreter draw other numbers, and defines nothing in it. Its
/// kernel's are others already.
const RESEED: &str = "([modules[name].seed() for modules in [__import__('sys').modules] \
     for name in ('random', 'numpy.random') if name in modules], None)[1]";

#[derive(Default)]
pub(crate) struct Snapshots(Mutex<HashMap<String, Snapshot>>);

impl Snapshots {
    fn of(&self, template: &str, spec: &Spec) -> Option<Snapshot> {
        let snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.get(template).filter(|snapshot| snapshot.is_of(spec)).cloned()
    }

    fn put(&self, template: &str, snapshot: Snapshot) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(template.to_owned(), snapshot);
    }
}

impl Compute {
    /// A copy that is such a sandbox; None: there is nothing to copy.
    pub(crate) async fn copy(
        &self,
        driver: &Driver,
        template: &str,
        env: &BTreeMap<String, String>,
        spec: &Spec,
    ) -> Option<Result<Running, StartError>> {
        let Driver::Microvm(microvm) = driver else { return None };
        if is_read_at_start(env) {
            return None;
        }
        let snapshot = self.inner.snapshots.of(template, spec)?;
        let language = self.inner.templates.recipe(template).ok()?.language;
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

    /// Saves one to copy, where there is none yet and can be.
    pub(crate) async fn save(
        &self,
        driver: &Driver,
        template: &str,
        recipe: &Recipe,
        spec: &Spec,
    ) -> Result<(), StartError> {
        let Driver::Microvm(microvm) = driver else { return Ok(()) };
        if self.inner.snapshots.of(template, spec).is_some() {
            return Ok(());
        }
        let warmed = async |running: &Running| match is_kept(recipe.language) {
            true => warm(running, recipe).await,
            false => Ok(()),
        };
        let snapshot = microvm.save(spec, warmed).await?;
        self.inner.snapshots.put(template, snapshot);
        tracing::info!(template, "a machine was saved to copy");
        Ok(())
    }
}

/// Whether an interpreter is saved with its machine: only of one that can be told to draw
/// other random numbers than its copies. Node.js cannot.
fn is_kept(language: Option<Language>) -> bool {
    language == Some(Language::Python)
}
