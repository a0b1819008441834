//! The local model at work: threads of its own, and bounded queues before them.
//!
//! Questions have a thread and places for themselves, so none waits behind a
//! content; what somebody waits for goes before what is imported. Nothing is
//! padded, so texts need not be sorted by length to be batched.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select_biased};
use nh_minilm::{Embedding, MAX_TOKENS, MiniLm};
use nh_types::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::settings::MemorySettings;
use crate::weights::Weights;

/// Of a part of a long content; the model reads 256.
const PART_TOKENS: usize = 250;
const OVERLAP_TOKENS: usize = 30;

/// Texts that go through the model together.
const MAX_TEXTS_AT_ONCE: usize = 8;
/// Bytes of the texts in a batch, so that no batch takes long.
const MAX_BYTES_AT_ONCE: usize = 2048;

/// Texts of one request to the gateway that wait at the same time.
const GATEWAY_TEXTS_AT_ONCE: usize = 32;

/// How long whoever first needs the model waits for it.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// What went wrong is not tried again before.
const RETRY_PAUSE: Duration = Duration::from_secs(15);
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
    weights: Arc<Weights>,
    queues: [Places; 3],
    state: watch::Sender<State>,
    tasks: TaskTracker,
}

/// Places in a queue, and how many there are: they bound its channel.
struct Places {
    free: Arc<Semaphore>,
    most: usize,
}

#[derive(Clone)]
enum State {
    Idle,
    /// The files come, or are being read.
    Starting,
    Ready(Arc<Working>),
    Failed(ApiError, Instant),
}

struct Working {
    model: Arc<MiniLm>,
    /// In the order of [`Lane`].
    queues: [Sender<Job>; 3],
}

struct Job {
    text: String,
    answer: oneshot::Sender<Result<(Vec<f32>, usize), String>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Local {
    pub(crate) fn new(weights: Weights, settings: &MemorySettings) -> Self {
        let places = || {
            let most = settings.max_waiting_texts.max(1);
            Places { free: Arc::new(Semaphore::new(most)), most }
        };
        Self {
            weights: Arc::new(weights),
            queues: [places(), places(), places()],
            state: watch::Sender::new(State::Idle),
            tasks: TaskTracker::new(),
        }
    }

    /// Has the model started when it is first needed, by a task of its own: who
    /// asks goes away when they like, and are told when it takes longer.
    async fn working(&self) -> Result<Arc<Working>, ApiError> {
        let mut seen = self.state.subscribe();
        self.state.send_if_modified(|state| {
            let starts = match state {
                State::Idle => true,
                State::Failed(_, at) => at.elapsed() >= RETRY_PAUSE,
                State::Starting | State::Ready(_) => false,
            };
            if starts {
                *state = State::Starting;
                self.tasks.spawn(start(self.weights.clone(), self.state.clone()));
            }
            starts
        });
        let settled = seen.wait_for(|state| !matches!(state, State::Starting));
        match timeout(START_PATIENCE, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Ready(working) => Ok(working.clone()),
                State::Failed(error, _) => Err(error.clone()),
                State::Idle | State::Starting => Err(self.weights.being_fetched()),
            },
            Ok(Err(_)) | Err(_) => Err(self.weights.being_fetched()),
        }
    }

    /// For the gateway: in the order of the texts.
    pub(crate) async fn embed_many(&self, texts: Vec<String>) -> Result<Embedded, ApiError> {
        let mut embedded = Vec::with_capacity(texts.len());
        for texts in texts.chunks(GATEWAY_TEXTS_AT_ONCE) {
            embedded.extend(self.embed(Lane::Contents, texts.to_vec()).await?);
        }
        Ok(embedded)
    }

    /// Embeds texts; what is too long for the model is cut off.
    pub(crate) async fn embed(&self, lane: Lane, texts: Vec<String>) -> Result<Embedded, ApiError> {
        let working = self.working().await?;
        let mut places = self.places(lane, texts.len()).await?;
        let mut answers = Vec::with_capacity(texts.len());
        for text in texts {
            let (answer, asked) = oneshot::channel();
            let job = Job { text, answer, _place: places.split(1) };
            working.queues[lane as usize].send(job).map_err(|_| stopped())?;
            answers.push(asked);
        }
        let mut embedded = Vec::with_capacity(answers.len());
        for answer in answers {
            embedded.push(answer.await.map_err(|_| stopped())?.map_err(|message| unavailable(&message))?);
        }
        Ok(embedded)
    }

    /// The embeddings of all parts of a content.
    pub(crate) async fn embed_content(&self, lane: Lane, content: &str) -> Result<Vec<Vec<f32>>, ApiError> {
        let parts = if content.len() <= PART_TOKENS {
            // A token has at least one byte.
            vec![content.to_owned()]
        } else {
            let (model, content) = (self.working().await?.model.clone(), content.to_owned());
            let cut = move || {
                let parts = model.pieces(&content, PART_TOKENS, OVERLAP_TOKENS)?;
                Ok(parts.into_iter().map(|part| content[part].to_owned()).collect())
            };
            let cut = tokio::task::spawn_blocking(cut).await;
            let failed = |error: nh_minilm::TokenizeError| unavailable(&error.to_string());
            cut.map_err(|_| unavailable("the content could not be cut into parts"))?.map_err(failed)?
        };
        Ok(self.embed(lane, parts).await?.into_iter().map(|(vector, _)| vector).collect())
    }

    async fn places(&self, lane: Lane, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let Places { free, most } = &self.queues[lane as usize];
        // A content with more parts than there are places takes all of them.
        let wanted = u32::try_from(count.min(*most)).unwrap_or(u32::MAX);
        let taken = match lane {
            Lane::Bulk => free.clone().acquire_many_owned(wanted).await.ok(),
            Lane::Questions | Lane::Contents => free.clone().try_acquire_many_owned(wanted).ok(),
        };
        taken.ok_or_else(|| {
            let message = "as many texts wait for the local model as may wait; try again, \
                           or raise `[memory] max_waiting_texts`";
            ApiError::new(ErrorCode::QueueFull, message).retry_after(RETRY_AFTER_SECONDS)
        })
    }
}

/// The files, then the model, then its threads.
async fn start(weights: Arc<Weights>, state: watch::Sender<State>) {
    let started = async {
        let directory = weights.ready().await?;
        let loading = tokio::task::spawn_blocking(move || MiniLm::load(&directory)).await;
        let loaded = loading.map_err(|_| unavailable("loading the local model was broken off"))?;
        work_on(loaded.map_err(|error| weights.unusable(&error))?)
    };
    let started = match started.await {
        Ok(working) => State::Ready(Arc::new(working)),
        Err(error) => {
            tracing::warn!(%error, "the local model could not be started");
            State::Failed(error, Instant::now())
        }
    };
    state.send_replace(started);
}

fn work_on(model: MiniLm) -> Result<Working, ApiError> {
    let model = Arc::new(model);
    let [questions, contents, bulk] = std::array::from_fn(|_| crossbeam_channel::unbounded::<Job>());
    begin("embed-questions", &model, &questions.1, &questions.1)?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    for _ in 0..(cores - 1).max(1) {
        begin("embed-contents", &model, &contents.1, &bulk.1)?;
    }
    Ok(Working { model, queues: [questions.0, contents.0, bulk.0] })
}

/// A thread that takes from `first` as long as there is something.
fn begin(
    name: &str,
    model: &Arc<MiniLm>,
    first: &Receiver<Job>,
    then: &Receiver<Job>,
) -> Result<(), ApiError> {
    let (model, first, then) = (model.clone(), first.clone(), then.clone());
    let work = move || {
        while let Some(batch) = next_batch(&first, &then) {
            answer(&model, batch);
        }
    };
    let failed = |error| unavailable(&format!("no thread could be started for the local model: {error}"));
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(failed)
}

/// None when nobody can ask any more.
fn next_batch(first: &Receiver<Job>, then: &Receiver<Job>) -> Option<Vec<Job>> {
    let (job, queue) = select_biased! {
        recv(first) -> job => (job.ok()?, first),
        recv(then) -> job => (job.ok()?, then),
    };
    let mut bytes = job.text.len();
    let mut batch = vec![job];
    while batch.len() < MAX_TEXTS_AT_ONCE && bytes < MAX_BYTES_AT_ONCE {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.text.len();
        batch.push(next);
    }
    // Who no longer waits is not worked for.
    batch.retain(|job| !job.answer.is_closed());
    Some(batch)
}

fn answer(model: &MiniLm, batch: Vec<Job>) {
    let texts: Vec<&str> = batch.iter().map(|job| job.text.as_str()).collect();
    // A fault of the model's code costs these texts, and not the thread.
    let embedded = catch_unwind(AssertUnwindSafe(|| model.embed(&texts)));
    metrics::counter!("neuralhub_memory_embedded_texts_total").increment(batch.len() as u64);
    let embedded: Result<Vec<Embedding>, String> = match embedded {
        Ok(embedded) => embedded.map_err(|error| error.to_string()),
        Err(_) => Err("the local model failed on this text, or on one beside it".to_owned()),
    };
    match embedded {
        Ok(embedded) => {
            for (job, one) in batch.into_iter().zip(embedded) {
                let _ = job.answer.send(Ok((one.vector, one.tokens)));
            }
        }
        Err(message) => {
            for job in batch {
                let _ = job.answer.send(Err(message.clone()));
            }
        }
    }
}

fn stopped() -> ApiError {
    unavailable("the local model has stopped; start the hub again")
}

pub(crate) fn unavailable(message: &str) -> ApiError {
    ApiError::new(ErrorCode::EmbedderUnavailable, message).retry_after(RETRY_AFTER_SECONDS)
}

const _: () = assert!(PART_TOKENS <= MAX_TOKENS);
