//! Tavily's search API: <https://docs.tavily.com/documentation/api-reference/endpoint/search>.

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::{Hit, Provider, secret_header};

#[derive(Deserialize)]
struct Answer {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    title: String,
    url: String,
    #[serde(default)]
    content: String,
}

pub(super) fn request(provider: &Provider, query: &str, count: u64) -> Result<Request<Bytes>, String> {
    let key = secret_header(&format!("Bearer {}", provider.api_key.expose_secret()))?;
    let body = json!({"query": query, "max_results": count}).to_string();
    Request::post(provider.endpoint("/search").as_str())
        .header(AUTHORIZATION, key)
        .header(CONTENT_TYPE, "application/json")
        .body(Bytes::from(body))
        .map_err(|error| error.to_string())
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Hit>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let hit = |found: Found| Hit { title: found.title, url: found.url, snippet: found.content };
    Ok(answer.results.into_iter().map(hit).collect())
}
