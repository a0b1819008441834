//! What steps say while they are under way, such as a model's words: heard by
//! whoever listens to the run on the node that drives it, kept by nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_types::RunId;
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Words that a listener who is behind may have before it; older ones it
/// misses.
const MAX_BEHIND: usize = 1024;

/// One word of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveWord {
    pub step: String,
    pub said: Value,
}

#[derive(Clone, Default)]
pub(crate) struct LiveWords(Arc<Mutex<HashMap<RunId, broadcast::Sender<Arc<LiveWord>>>>>);

impl LiveWords {
    pub(crate) fn of(&self, run_id: RunId, step: &str) -> Live {
        Live { words: self.clone(), run_id, step: step.to_owned() }
    }

    pub(crate) fn listen(&self, run_id: RunId) -> Listening {
        let mut runs = self.runs();
        let sender = runs.entry(run_id).or_insert_with(|| broadcast::channel(MAX_BEHIND).0);
        Listening { words: self.clone(), run_id, heard: Some(sender.subscribe()) }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, broadcast::Sender<Arc<LiveWord>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step's voice.
#[derive(Clone)]
pub struct Live {
    words: LiveWords,
    run_id: RunId,
    step: String,
}

impl Live {
    /// Whether somebody listens now.
    pub fn is_heard(&self) -> bool {
        self.words.runs().contains_key(&self.run_id)
    }

    pub fn tell(&self, said: impl FnOnce() -> Value) {
        if let Some(sender) = self.words.runs().get(&self.run_id) {
            // The last listener may be on its way out.
            let _ = sender.send(Arc::new(LiveWord { step: self.step.clone(), said: said() }));
        }
    }
}

/// One listener to a run.
pub struct Listening {
    words: LiveWords,
    run_id: RunId,
    heard: Option<broadcast::Receiver<Arc<LiveWord>>>,
}

impl Listening {
    /// The next word; what was missed is passed over.
    pub async fn next(&mut self) -> Arc<LiveWord> {
        let Some(heard) = self.heard.as_mut() else { return std::future::pending().await };
        loop {
            match heard.recv().await {
                Ok(word) => return word,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    /// A word that is there already.
    pub fn try_next(&mut self) -> Option<Arc<LiveWord>> {
        loop {
            match self.heard.as_mut()?.try_recv() {
                Ok(word) => return Some(word),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.heard = None;
        let mut runs = self.words.runs();
        if runs.get(&self.run_id).is_some_and(|sender| sender.receiver_count() == 0) {
            runs.remove(&self.run_id);
        }
    }
}
