use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};
use nh_minilm::DIMENSIONS;
use nh_store::memories::Vectors;
use nh_types::{ApiError, ErrorCode};

use crate::local::{Lane, Local};
use crate::parts;

/// The local model, as requests name it.
pub const LOCAL_MODEL: &str = "neuralhub/minilm";

/// Texts in one request to a provider.
const MAX_TEXTS_AT_ONCE: usize = 64;

/// Embeds by a model provider, on somebody's account.
pub trait Remote: Send + Sync {
    /// One embedding for each text, in order.
    fn embed<'a>(
        &'a self,
        model: &'a str,
        texts: Vec<String>,
    ) -> BoxFuture<'a, Result<Vec<Vec<f32>>, ApiError>>;
}

/// Embeds by whatever model is asked for.
pub(crate) struct Embedder {
    pub(crate) local: Arc<Local>,
}

impl Embedder {
    /// What is asked, for a search.
    pub(crate) async fn question(
        &self,
        remote: &dyn Remote,
        model: &str,
        text: &str,
    ) -> Result<Vec<f32>, ApiError> {
        let embedded = if model == LOCAL_MODEL {
            self.local
                .embed(Lane::Questions, vec![text.to_owned()])
                .await?
                .into_iter()
                .map(|(vector, _)| vector)
                .collect()
        } else {
            by_provider(remote, model, vec![text.to_owned()]).await?
        };
        embedded.into_iter().next().ok_or_else(|| unusable(model, "gave no embedding"))
    }

    /// All parts of a content, which is cut where it is too long for one.
    pub(crate) async fn content(
        &self,
        remote: &dyn Remote,
        model: &str,
        content: &str,
    ) -> Result<Vectors, ApiError> {
        if model == LOCAL_MODEL {
            return Ok(of_local(self.local.embed_content(Lane::Contents, content).await?));
        }
        joined(model, by_provider(remote, model, parts_of(content)).await?)
    }

    /// Several contents, for who waits for a place in the queue. A provider is
    /// asked for as many at once as it takes.
    pub(crate) async fn contents(
        &self,
        remote: &dyn Remote,
        model: &str,
        contents: &[&str],
    ) -> Result<Vec<Vectors>, ApiError> {
        if model == LOCAL_MODEL {
            let embed = contents.iter().map(|content| self.local.embed_content(Lane::Bulk, content));
            return Ok(try_join_all(embed).await?.into_iter().map(of_local).collect());
        }
        let parts: Vec<Vec<String>> = contents.iter().map(|content| parts_of(content)).collect();
        let counts: Vec<usize> = parts.iter().map(Vec::len).collect();
        let embedded = by_provider(remote, model, parts.into_iter().flatten().collect()).await?;
        let mut embedded = embedded.into_iter();
        counts.into_iter().map(|count| joined(model, embedded.by_ref().take(count).collect())).collect()
    }
}

/// One embedding by a model that may not be there, and what the provider itself
/// says if it gives none.
pub(crate) async fn probe(
    embedder: &Embedder,
    remote: &dyn Remote,
    model: &str,
) -> Result<Vectors, ApiError> {
    const TEXT: &str = "probe";
    if model != LOCAL_MODEL {
        remote.embed(model, vec![TEXT.to_owned()]).await?;
    }
    embedder.content(remote, model, TEXT).await
}

fn of_local(embedded: Vec<Vec<f32>>) -> Vectors {
    let values = embedded.into_iter().flatten().collect();
    Vectors { model: LOCAL_MODEL.to_owned(), dimensions: DIMENSIONS as u32, values }
}

fn parts_of(content: &str) -> Vec<String> {
    parts::cut(content).into_iter().map(|part| content[part].to_owned()).collect()
}

async fn by_provider(
    remote: &dyn Remote,
    model: &str,
    texts: Vec<String>,
) -> Result<Vec<Vec<f32>>, ApiError> {
    let mut embedded = Vec::with_capacity(texts.len());
    for texts in texts.chunks(MAX_TEXTS_AT_ONCE) {
        let vectors = remote.embed(model, texts.to_vec()).await.map_err(|error| unavailable(model, error))?;
        if vectors.len() != texts.len() {
            return Err(unusable(
                model,
                &format!("gave {} embeddings for {} texts", vectors.len(), texts.len()),
            ));
        }
        embedded.extend(vectors);
    }
    embedded.into_iter().map(|vector| of_length_one(model, vector)).collect()
}

fn joined(model: &str, vectors: Vec<Vec<f32>>) -> Result<Vectors, ApiError> {
    let dimensions = vectors.first().map_or(0, Vec::len);
    if vectors.iter().any(|vector| vector.len() != dimensions) {
        return Err(unusable(model, "gave embeddings of several lengths"));
    }
    Ok(Vectors {
        model: model.to_owned(),
        dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
        values: vectors.into_iter().flatten().collect(),
    })
}

/// So that a dot product is a cosine.
fn of_length_one(model: &str, mut vector: Vec<f32>) -> Result<Vec<f32>, ApiError> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(unusable(model, "gave an embedding without a direction"));
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Ok(vector)
}

/// A provider that is down takes search and writes with it, and nothing else;
/// what is the caller's own fault, such as a spent budget, stays so.
fn unavailable(model: &str, error: ApiError) -> ApiError {
    if error.code.status() < 500 && error.code != ErrorCode::ModelNotFound {
        return error;
    }
    let message = format!("`{model}` cannot embed at present: {}", error.message);
    let seconds = error.retry_after_seconds.unwrap_or(2);
    ApiError::new(ErrorCode::EmbedderUnavailable, message).retry_after(seconds)
}

fn unusable(model: &str, what: &str) -> ApiError {
    ApiError::new(ErrorCode::EmbedderUnavailable, format!("`{model}` {what}")).retry_after(2)
}
