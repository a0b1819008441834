//! `/v1/memory/import` and `/export`: many memories, one a line, as they come
//! and go: neither is ever whole in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use nh_memory::{Importing, Which};
use nh_types::memory::{ImportMemory, ImportedMemories, MemoryView};
use nh_types::{ErrorCode, PageRequest, WorkspaceId};

use super::memory::{Asker, which};
use crate::app::App;
use crate::auth::{Auth, MemoriesRead, MemoriesWrite};
use crate::failure::{Answer, Failure};
use crate::json::media_type;
use crate::paging::Query;

const LINES: &str = "application/x-ndjson";
/// What a line may be sent as.
const MEDIA_TYPES: [&str; 4] = [LINES, "application/ndjson", "application/jsonl", "application/json-lines"];

/// More than the largest content, metadata and escapes need.
const MAX_LINE_BYTES: usize = 512 * 1024;
const PAGE_LINES: u32 = 200;

/// Import memories: a body of `POST /v1/memory` on each line, or what an export
/// gave. A line with something wrong in it is passed over and told of; what is
/// counted is durable, and importing the same lines again finds them there.
#[utoipa::path(post, path = "/v1/memory/import", tag = "Memory",
    request_body(content = ImportMemory, content_type = "application/x-ndjson"),
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 200, body = ImportedMemories),
        (status = 503, description = "Nothing can embed at present; what came before is stored", body = nh_types::ErrorBody)))]
pub(crate) async fn import(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ImportedMemories>> {
    if !MEDIA_TYPES.contains(&media_type(&headers).as_str()) {
        let message = format!("the body's Content-Type must be {LINES}: a JSON object on each line");
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, message));
    }
    let asker = Asker::new(&app, &auth);
    let mut importing = app.hub.memories.import(asker.author());
    let patience = Duration::from_millis(app.settings.body_timeout_ms);
    read_lines(body, patience, &mut importing).await?;
    Ok(Json(importing.finish().await?))
}

/// Each line as soon as it is whole; while it is seen to, no more is read.
async fn read_lines(mut body: Body, patience: Duration, importing: &mut Importing<'_>) -> Answer<()> {
    let mut line = BytesMut::new();
    // What is left of a line that is too long.
    let mut is_skipping = false;
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| {
            let message = format!("nothing more of the body came for {} ms", patience.as_millis());
            Failure::new(ErrorCode::RequestTimeout, message)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            let message = format!("the body could not be read to its end: {error}");
            Failure::new(ErrorCode::InvalidRequest, message)
        })?;
        let Ok(mut piece) = frame.into_data() else { continue };
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&piece.split_to(end + 1));
            if !std::mem::take(&mut is_skipping) {
                take(importing, &line).await?;
            }
            line.clear();
        }
        if !is_skipping {
            line.extend_from_slice(&piece);
        }
        if line.len() > MAX_LINE_BYTES {
            importing.too_long(MAX_LINE_BYTES);
            line.clear();
            is_skipping = true;
        }
    }
    if is_skipping || line.is_empty() { Ok(()) } else { take(importing, &line).await }
}

async fn take(importing: &mut Importing<'_>, line: &[u8]) -> Answer<()> {
    if line.len() > MAX_LINE_BYTES {
        importing.too_long(MAX_LINE_BYTES);
        return Ok(());
    }
    Ok(importing.line(line).await?)
}

/// Export memories, one a line, newest first: what `import` takes.
#[utoipa::path(get, path = "/v1/memory/export", tag = "Memory",
    params(("namespace" = Option<String>, Query, description = "Absent: `default`, with `run_id` all; `*`: all"),
        ("filter" = Option<String>, Query), ("run_id" = Option<String>, Query)),
    security(("bearer" = ["memories:read"]), ("session" = ["memories:read"])),
    responses((status = 200, description = "A memory on each line", body = MemoryView, content_type = "application/x-ndjson")))]
pub(crate) async fn export(
    auth: Auth<MemoriesRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Response> {
    let which = which(&mut query)?;
    query.finish()?;
    let pages = Pages { app, workspace_id: auth.workspace_id.clone(), which, after: Some(None) };
    let mut response = Body::from_stream(stream::try_unfold(pages, Pages::next)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(response)
}

/// An export on its way to a client, of which one page is in memory.
struct Pages {
    app: Arc<App>,
    workspace_id: WorkspaceId,
    which: Which,
    /// Where the next page begins; None after the last.
    after: Option<Option<String>>,
}

impl Pages {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let page = PageRequest { limit: PAGE_LINES, after };
        let read = self.app.hub.memories.list(&self.workspace_id, &self.which, &page).await;
        let read = read.map_err(|error| {
            tracing::error!(%error, "an export was broken off");
            std::io::Error::other("the export was broken off")
        })?;
        let mut lines = Vec::new();
        for memory in &read.items {
            serde_json::to_writer(&mut lines, memory)?;
            lines.push(b'\n');
        }
        self.after = read.next.map(Some);
        Ok(Some((lines.into(), self)))
    }
}
