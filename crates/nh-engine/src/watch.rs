//! Who waits for a run's journal to grow, or for its end. News travel in
//! process; a slow look at the store behind them serves runs that another
//! node drives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_store::runs::RunRecord;
use nh_types::RunId;
use tokio::sync::watch;

use crate::history::History;

/// A run that has ended, as the store has it.
#[derive(Clone, Debug)]
pub struct EndedRun {
    pub run: RunRecord,
    pub history: History,
}

/// The last that was heard of a run.
#[derive(Clone, Default)]
enum News {
    /// Its journal grew; its driver, here, goes on.
    #[default]
    Grew,
    /// It may have changed in any way: only the store can tell.
    Changed,
    Ended(Arc<EndedRun>),
}

#[derive(Clone)]
pub(crate) struct Watchers {
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<News>>>>,
    /// After so long a waiter looks at the store although nobody woke it.
    backstop: Duration,
}

impl Watchers {
    pub(crate) fn new(backstop: Duration) -> Self {
        Self { runs: Arc::default(), backstop }
    }

    /// The run's driver, of this process, has saved something, and goes on.
    pub(crate) fn grew(&self, run: RunId) {
        self.tell(run, || News::Grew);
    }

    /// Something has become of the run; what, is to be read.
    pub(crate) fn changed(&self, run: RunId) {
        self.tell(run, || News::Changed);
    }

    /// The run's end is stored.
    pub(crate) fn ended(&self, run: RunRecord, history: History) {
        self.tell(run.id, || News::Ended(Arc::new(EndedRun { run, history })));
    }

    fn tell(&self, run: RunId, news: impl FnOnce() -> News) {
        if let Some(sender) = self.runs().get(&run) {
            sender.send_replace(news());
        }
    }

    pub(crate) fn watch(&self, run: RunId) -> Watch {
        let mut runs = self.runs();
        let sender = runs.entry(run).or_insert_with(|| watch::channel(News::default()).0);
        Watch { run, news: Some(sender.subscribe()), watchers: self.clone() }
    }

    fn forget_if_unwatched(&self, run: RunId) {
        let mut runs = self.runs();
        if runs.get(&run).is_some_and(|sender| sender.receiver_count() == 0) {
            runs.remove(&run);
        }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<News>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-out for one run. Make it before reading the store, so that nothing
/// is missed between the two.
pub struct Watch {
    run: RunId,
    news: Option<watch::Receiver<News>>,
    watchers: Watchers,
}

/// What a waiter has learned.
pub(crate) enum Heard {
    Ended(Arc<EndedRun>),
    /// The store is to be looked at.
    Unsure,
}

impl Watch {
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// Returns when the journal may have grown, or after a while.
    pub async fn changed(&mut self) {
        let Some(news) = self.news.as_mut() else { return };
        // An ended sender cannot be: the map keeps it while a receiver lives.
        let _ = tokio::time::timeout(self.watchers.backstop, news.changed()).await;
    }

    /// Whether the journal may have grown since [`Watch::changed`] returned.
    pub fn has_changed(&self) -> bool {
        self.news.as_ref().is_some_and(|news| news.has_changed().unwrap_or(false))
    }

    /// Returns when the run has ended or may have, or after a while.
    pub(crate) async fn heard(&mut self) -> Heard {
        let Some(news) = self.news.as_mut() else { return Heard::Unsure };
        let told = async {
            loop {
                if news.changed().await.is_err() {
                    return Heard::Unsure;
                }
                match &*news.borrow_and_update() {
                    News::Grew => {}
                    News::Changed => return Heard::Unsure,
                    News::Ended(ended) => return Heard::Ended(ended.clone()),
                }
            }
        };
        tokio::time::timeout(self.watchers.backstop, told).await.unwrap_or(Heard::Unsure)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.news = None;
        self.watchers.forget_if_unwatched(self.run);
    }
}
