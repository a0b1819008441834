//! SearXNG's search API: <https://docs.searxng.org/dev/search_api.html>.

use bytes::Bytes;
use http::Request;
use serde::Deserialize;

use super::{Hit, Provider, get};

#[derive(Deserialize)]
struct Answer {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    title: String,
    url: String,
    /// Null for results that are no pages.
    #[serde(default)]
    content: Option<String>,
}

/// It has no parameter for the number of results.
pub(super) fn request(provider: &Provider, query: &str) -> Result<Request<Bytes>, String> {
    let mut url = provider.endpoint("/search");
    url.query_pairs_mut().append_pair("q", query).append_pair("format", "json");
    get(&url)
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Hit>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let hit =
        |found: Found| Hit { title: found.title, url: found.url, snippet: found.content.unwrap_or_default() };
    Ok(answer.results.into_iter().map(hit).collect())
}
