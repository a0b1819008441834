//! Brave's web search API: <https://api-dashboard.search.brave.com/app/documentation/web-search>.

use bytes::Bytes;
use http::Request;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Hit, Provider, get, secret_header};
use crate::tools::http_fetch::readable;

const MAX_SNIPPET_CHARS: usize = 2_000;

#[derive(Deserialize)]
struct Answer {
    /// Absent when nothing was found.
    web: Option<Web>,
}

#[derive(Deserialize)]
struct Web {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    title: String,
    url: String,
    /// Holds HTML entities.
    #[serde(default)]
    description: String,
}

pub(super) fn request(provider: &Provider, query: &str, count: u64) -> Result<Request<Bytes>, String> {
    let mut url = provider.endpoint("/res/v1/web/search");
    url.query_pairs_mut()
        .append_pair("q", query)
        .append_pair("count", &count.to_string())
        .append_pair("result_filter", "web")
        .append_pair("text_decorations", "false");
    let mut request = get(&url)?;
    let key = secret_header(provider.api_key.expose_secret())?;
    request.headers_mut().insert("x-subscription-token", key);
    Ok(request)
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Hit>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let text = |html: &str| readable(html, None, MAX_SNIPPET_CHARS).text;
    let hit =
        |found: Found| Hit { title: text(&found.title), url: found.url, snippet: text(&found.description) };
    Ok(answer.web.map(|web| web.results).unwrap_or_default().into_iter().map(hit).collect())
}
