//! `/llms.txt` and `/llms-full.txt`: what there is here, for models that read.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use nh_agents::{Callable, Target};
use nh_types::{ErrorCode, PageRequest};
use serde_json::json;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;

use crate::app::App;
use crate::auth::{Anyone, MaybeAuth};
use crate::failure::Answer;
use crate::{document, mcp};

const SUMMARY: &str = "One self-hosted API for agents, compute and knowledge: durable runs of agents, tools and \
    workflows, an OpenAI-compatible model gateway, semantic memory, object storage, sandboxes for Python and \
    Node.js, and the Model Context Protocol.";

/// What can be done here, in the form of llms.txt (https://llmstxt.org).
///
/// Markdown or, where JSON is asked for, `{"content": "…"}`. Without a key it lists the
/// tools that the hub has, with one what that key may call.
#[utoipa::path(get, path = "/llms.txt", tag = "Discovery", security(()),
    responses((status = 200, description = "What there is", content(
        (String = "text/markdown"), (Object = "application/json")))))]
pub(crate) async fn short(
    auth: MaybeAuth<Anyone>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (base, listed) = (app.base_url(&headers), listed(&app, auth).await?);
    let mut text = head(&base);
    for (title, kind) in KINDS {
        section(&mut text, title, listed.iter().filter(|one| kind(&one.target)).map(|one| line(&base, one)));
    }
    let _ = write!(
        text,
        "\n## Optional\n\n- [All of it]({base}/llms-full.txt): every operation, and the schema of every tool\n"
    );
    Ok(negotiated(text, &headers))
}

/// The same with every operation, and with all that is said of what can be called.
#[utoipa::path(get, path = "/llms-full.txt", tag = "Discovery", security(()),
    responses((status = 200, description = "What there is", content(
        (String = "text/markdown"), (Object = "application/json")))))]
pub(crate) async fn full(
    auth: MaybeAuth<Anyone>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (base, listed) = (app.base_url(&headers), listed(&app, auth).await?);
    let mut text = head(&base);
    text.push_str(app.llms_operations.get_or_init(|| {
        let mut text = String::new();
        section(&mut text, "Operations", operations(&crate::openapi()));
        text
    }));
    for one in &listed {
        let schema = |name: &str, schema: &serde_json::Value| format!("{name}:\n\n```json\n{schema}\n```\n");
        let input = schema("Arguments", &one.input_schema);
        let output = one.output_schema.as_ref().map(|output| schema("Result", output)).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {}\n\n{}\n\n{input}\n{output}", one.name, on_one_line(&one.description));
    }
    Ok(negotiated(text, &headers))
}

type IsKind = fn(&Target) -> bool;

const KINDS: [(&str, IsKind); 3] = [
    ("Tools", |target| matches!(target, Target::Tool(_))),
    ("Agents", |target| matches!(target, Target::Agent(_))),
    ("Workflows", |target| matches!(target, Target::Workflow(_))),
];

/// A wrong credential is refused, none is not.
async fn listed(app: &App, auth: MaybeAuth<Anyone>) -> Answer<Vec<Callable>> {
    match auth.required() {
        Ok(auth) => {
            let page = PageRequest { limit: PageRequest::MAX_LIMIT, after: None };
            let catalogue = app.hub.catalogue(&auth.workspace_id, &auth.scopes).await?;
            Ok(catalogue.page(&page).await?.items)
        }
        Err(failure) if failure.error.code == ErrorCode::MissingCredential => Ok(app.hub.builtins()),
        Err(failure) => Err(failure),
    }
}

fn head(base: &str) -> String {
    format!(
        "# NeuralHub Capabilities\n\n> {SUMMARY}\n\n\
         The API is at {base}. Each request carries `Authorization: Bearer nh_…`. What is listed here is called \
         by its name: over the Model Context Protocol at {base}{}, or with `POST {base}/v1/run` as \
         `{{\"type\": \"tool\", \"target\": \"NAME\", \"input\": {{…}}}}`; agents and workflows by their ids, with \
         type `agent` or `workflow`.\n\n\
         ## API\n\n\
         - [OpenAPI 3.1]({base}/openapi.json): every operation, with its scope and its errors\n\
         - [Manifest]({base}/v1/mcp/manifest): what a key may call, with schemas\n",
        mcp::PATH
    )
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    let _ = write!(text, "\n## {title}\n\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
}

fn line(base: &str, one: &Callable) -> String {
    let (kind, name) = match &one.target {
        Target::Tool(name) => ("tools", name.as_str()),
        Target::Agent(id) => ("agents", id.as_str()),
        Target::Workflow(id) => ("workflows", id.as_str()),
    };
    format!("- [{}]({base}/v1/{kind}/{name}): {}", one.name, on_one_line(&one.description))
}

/// What somebody wrote makes no heading and no item of its own.
fn on_one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .trim_start_matches(['#', '-', '>', '`', ' '])
        .to_owned()
}

fn operations(document: &OpenApi) -> impl Iterator<Item = String> {
    document::operations(document).map(|(path, method, operation)| {
        let about = on_one_line(operation.summary.as_deref().unwrap_or_default());
        format!("- `{method} {path}`{}: {about}", scope(operation))
    })
}

fn scope(operation: &Operation) -> String {
    let needed = operation.security.iter().flatten().find_map(|way| {
        let way = serde_json::to_value(way).ok()?;
        Some(way["bearer"].as_array()?.first()?.as_str()?.to_owned())
    });
    needed.map(|scope| format!(" ({scope})")).unwrap_or_default()
}

/// Markdown, unless JSON is named and no text is preferred to it.
fn negotiated(text: String, headers: &HeaderMap) -> Response {
    // It tells each reader something else.
    let vary = [(VARY, "Accept, Authorization, Cookie"), (CACHE_CONTROL, "private, no-cache")];
    let (json, markdown) = (quality(headers, is_json), quality(headers, |range| range.starts_with("text/")));
    if json > 0 && json >= markdown {
        return (vary, Json(json!({"content": text}))).into_response();
    }
    (vary, [(CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response()
}

fn is_json(range: &str) -> bool {
    range == "application/json"
}

/// How much is wanted of what is named so, in thousandths (RFC 9110, section 12.4.2).
fn quality(headers: &HeaderMap, is_meant: impl Fn(&str) -> bool) -> u32 {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = lines.flat_map(|line| line.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
        is_meant(&name).then(|| (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32)
    });
    ranges.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_given_to_who_names_it_and_prefers_no_text() {
        let is_json = |accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().expect("a header"))]);
            negotiated(String::new(), &headers).headers()[CONTENT_TYPE] == "application/json"
        };
        assert!(is_json("application/json"));
        assert!(is_json("application/json, text/plain, */*"));
        assert!(is_json("text/html;q=0.5, application/json;q=0.9"));
        for text in [
            "*/*",
            "",
            "text/html,application/xhtml+xml",
            "text/markdown, application/json;q=0.9",
            "application/json;q=0",
        ] {
            assert!(!is_json(text), "{text}");
        }
    }
}
