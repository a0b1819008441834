//! The local model at work: threads of its own, and bounded queues before them.
//!
//! Questions have a thread for themselves, so none waits behind a long content.
//! Nothing is padded, so texts need not be sorted by length to be batched.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use nh_minilm::{MAX_TOKENS, MiniLm};
use nh_types::{ApiError, ErrorCode};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::settings::MemorySettings;
use crate::weights::Weights;

/// Of a part of a long content; the model reads 256, two of them its own marks.
const PART_TOKENS: usize = 250;
const OVERLAP_TOKENS: usize = 30;

/// Texts that go through the model together.
const MAX_TEXTS_AT_ONCE: usize = 8;
/// Bytes of the texts in a batch, so that no batch takes long.
const MAX_BYTES_AT_ONCE: usize = 2048;

const RETRY_AFTER_SECONDS: u64 = 1;

/// Who waits for an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Questions,
    Contents,
    /// Contents whose writer waits for a place in the queue.
    Bulk,
}

/// Embeddings, each with the tokens that were read.
pub(crate) type Embedded = Vec<(Vec<f32>, usize)>;

pub(crate) struct Local {
    weights: Weights,
    /// Places in the queues, and how many there are: they bound the channels.
    places: Arc<Semaphore>,
    bulk_places: Arc<Semaphore>,
    most: usize,
    working: OnceCell<Working>,
}

struct Working {
    model: Arc<MiniLm>,
    questions: Sender<Job>,
    contents: Sender<Job>,
}

struct Job {
    text: String,
    answer: oneshot::Sender<Result<(Vec<f32>, usize), String>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Local {
    pub(crate) fn new(weights: Weights, settings: &MemorySettings) -> Self {
        let most = settings.max_waiting_texts.max(1);
        Self {
            weights,
            places: Arc::new(Semaphore::new(most)),
            bulk_places: Arc::new(Semaphore::new(most)),
            most,
            working: OnceCell::new(),
        }
    }

    /// Loads the model when it is first needed. What went wrong is tried again
    /// with the next call.
    async fn working(&self) -> Result<&Working, ApiError> {
        self.working.get_or_try_init(|| self.start()).await
    }

    async fn start(&self) -> Result<Working, ApiError> {
        let directory = self.weights.ready().await?;
        let loaded = tokio::task::spawn_blocking(move || MiniLm::load(&directory)).await;
        let model = match loaded {
            Ok(Ok(model)) => Arc::new(model),
            Ok(Err(error)) => return Err(self.weights.unusable(&error)),
            Err(_) => return Err(unavailable("loading the local model was broken off; try again")),
        };
        let (questions, asked) = crossbeam_channel::unbounded();
        let (contents, given) = crossbeam_channel::unbounded();
        begin("embed-questions", &model, &asked)?;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        for _ in 0..(cores - 1).max(1) {
            begin("embed-contents", &model, &given)?;
        }
        Ok(Working { model, questions, contents })
    }

    /// Embeds texts; what is too long for the model is cut off.
    pub(crate) async fn embed(&self, lane: Lane, texts: Vec<String>) -> Result<Embedded, ApiError> {
        let working = self.working().await?;
        let queue = if lane == Lane::Questions { &working.questions } else { &working.contents };
        let mut answers = Vec::with_capacity(texts.len());
        let mut places = self.places(lane, texts.len()).await?;
        for text in texts {
            let (answer, asked) = oneshot::channel();
            let place = places.split(1);
            if queue.send(Job { text, answer, _place: place }).is_err() {
                return Err(unavailable("the local model has stopped; start the hub again"));
            }
            answers.push(asked);
        }
        let mut embedded = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer.await {
                Ok(Ok(vector)) => embedded.push(vector),
                Ok(Err(message)) => return Err(unavailable(&message)),
                Err(_) => return Err(unavailable("the local model has stopped; start the hub again")),
            }
        }
        Ok(embedded)
    }

    /// The embeddings of all parts of a content.
    pub(crate) async fn embed_content(&self, lane: Lane, content: &str) -> Result<Vec<Vec<f32>>, ApiError> {
        let model = self.working().await?.model.clone();
        let parts = if content.len() <= PART_TOKENS {
            // A token has at least one byte.
            vec![content.to_owned()]
        } else {
            let content = content.to_owned();
            let cut = move || {
                let parts = model.pieces(&content, PART_TOKENS, OVERLAP_TOKENS)?;
                Ok(parts.into_iter().map(|part| content[part].to_owned()).collect())
            };
            let cut = tokio::task::spawn_blocking(cut).await;
            let failed = |error: nh_minilm::TokenizeError| unavailable(&error.to_string());
            cut.map_err(|_| unavailable("cutting the content was broken off; try again"))?.map_err(failed)?
        };
        Ok(self.embed(lane, parts).await?.into_iter().map(|(vector, _)| vector).collect())
    }

    async fn places(&self, lane: Lane, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        // A content with more parts than there are places takes all of them.
        let wanted = u32::try_from(count.min(self.most)).unwrap_or(u32::MAX);
        let taken = match lane {
            Lane::Bulk => self.bulk_places.clone().acquire_many_owned(wanted).await.ok(),
            Lane::Questions | Lane::Contents => self.places.clone().try_acquire_many_owned(wanted).ok(),
        };
        taken.ok_or_else(|| {
            let message = "as many texts wait for the local model as may wait; try again, \
                           or raise `[memory] max_waiting_texts`";
            ApiError::new(ErrorCode::QueueFull, message).retry_after(RETRY_AFTER_SECONDS)
        })
    }
}

fn begin(name: &str, model: &Arc<MiniLm>, jobs: &Receiver<Job>) -> Result<(), ApiError> {
    let (model, jobs) = (model.clone(), jobs.clone());
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || work(&model, &jobs));
    started
        .map(drop)
        .map_err(|error| unavailable(&format!("no thread could be started for the local model: {error}")))
}

/// Until nobody can ask any more.
fn work(model: &MiniLm, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        let mut bytes = batch[0].text.len();
        while batch.len() < MAX_TEXTS_AT_ONCE && bytes < MAX_BYTES_AT_ONCE {
            let Ok(next) = jobs.try_recv() else { break };
            bytes += next.text.len();
            batch.push(next);
        }
        // Who no longer waits is not worked for.
        batch.retain(|job| !job.answer.is_closed());
        answer(model, batch);
    }
}

fn answer(model: &MiniLm, batch: Vec<Job>) {
    let texts: Vec<&str> = batch.iter().map(|job| job.text.as_str()).collect();
    let embedded = model.embed(&texts);
    let count = batch.len() as u64;
    metrics::counter!("neuralhub_memory_embedded_texts_total").increment(count);
    match embedded {
        Ok(embedded) => {
            for (job, one) in batch.into_iter().zip(embedded) {
                let _ = job.answer.send(Ok((one.vector, one.tokens)));
            }
        }
        Err(error) => {
            for job in batch {
                let _ = job.answer.send(Err(error.to_string()));
            }
        }
    }
}

pub(crate) fn unavailable(message: &str) -> ApiError {
    ApiError::new(ErrorCode::EmbedderUnavailable, message).retry_after(RETRY_AFTER_SECONDS)
}

const _: () = assert!(PART_TOKENS + 2 <= MAX_TOKENS);
