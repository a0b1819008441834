//! Google Programmable Search: <https://developers.google.com/custom-search/v1/using_rest>.

use bytes::Bytes;
use http::Request;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Hit, Provider, get};

#[derive(Deserialize)]
struct Answer {
    /// Absent when nothing was found.
    #[serde(default)]
    items: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    title: String,
    link: String,
    #[serde(default)]
    snippet: String,
}

/// The key is part of the URL, as the API wants it; nh-http prints no URL.
pub(super) fn request(provider: &Provider, query: &str, count: u64) -> Result<Request<Bytes>, String> {
    let mut url = provider.endpoint("/customsearch/v1");
    url.query_pairs_mut()
        .append_pair("key", provider.api_key.expose_secret())
        .append_pair("cx", &provider.engine_id)
        .append_pair("q", query)
        .append_pair("num", &count.to_string());
    get(&url)
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Hit>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let hit = |found: Found| Hit { title: found.title, url: found.link, snippet: found.snippet };
    Ok(answer.items.into_iter().map(hit).collect())
}
