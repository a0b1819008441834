//! What can be read: what the workspace remembers, its files and its runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use nh_blobs::BlobError;
use nh_memory::Which;
use nh_store::StoreError;
use nh_store::blobs::BlobRecord;
use nh_store::runs::{self, RunFilter, RunRecord};
use nh_types::blob::{Named, Pathname};
use nh_types::memory::MemoryView;
use nh_types::{ErrorCode, PageRequest, Scope};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde::Serialize;

use super::server::Server;
use super::shown::refused;
use crate::failure::{Answer, Failure};
use crate::paging::seal_cursor;

const SCHEME: &str = "neuralhub://";
/// What is larger is read from its URL.
const MAX_BYTES: usize = 1024 * 1024;
/// A memory's beginning is its title.
const TITLE_CHARS: usize = 80;
const JSON: &str = "application/json";
/// What stays as it is in the path of a URI (RFC 3986, section 2.3), and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The lists, one after another.
const KINDS: [(Kind, &str, Scope); 3] = [
    (Kind::Memories, "memories", Scope::MemoriesRead),
    (Kind::Files, "storage", Scope::StorageRead),
    (Kind::Runs, "runs", Scope::RunRead),
];

#[derive(Clone, Copy)]
enum Kind {
    Memories,
    Files,
    Runs,
}

/// One kind after another, as far as the key may read them: memories and runs from the
/// newest, files by their names.
pub(super) async fn list(server: &Server, page: PageRequest) -> Answer<ListResourcesResult> {
    let (name, mut after) = match page.after.as_deref() {
        None => (KINDS[0].1, None),
        Some(given) => match given.split_once(':') {
            Some((name, after)) if KINDS.iter().any(|(_, known, _)| *known == name) => {
                (name, Some(after.to_owned()).filter(|after| !after.is_empty()))
            }
            _ => return Err(StoreError::InvalidCursor(given.chars().take(80).collect()).into()),
        },
    };
    let mut listed = Vec::new();
    let mut next = None;
    for (kind, name, scope) in KINDS.into_iter().skip_while(|(_, known, _)| *known != name) {
        let room = page.limit.saturating_sub(u32::try_from(listed.len()).unwrap_or(u32::MAX));
        if room == 0 {
            next = Some(format!("{name}:"));
            break;
        }
        if !server.may(scope) {
            continue;
        }
        let (found, more) = of_kind(server, kind, PageRequest { limit: room, after: after.take() }).await?;
        listed.extend(found);
        if let Some(more) = more {
            next = Some(format!("{name}:{more}"));
            break;
        }
    }
    let mut listed = ListResourcesResult::with_all_items(listed);
    listed.next_cursor = next.as_deref().map(seal_cursor);
    Ok(listed)
}

async fn of_kind(server: &Server, kind: Kind, page: PageRequest) -> Answer<(Vec<Resource>, Option<String>)> {
    let (hub, workspace_id) = (&server.app.hub, &server.principal.workspace_id);
    Ok(match kind {
        Kind::Memories => {
            let every = Which { namespace: None, filter: None, run_id: None };
            let found = hub.memories.list(workspace_id, &every, &page).await?;
            (found.items.iter().map(memory).collect(), found.next)
        }
        Kind::Files => {
            let found = hub.blobs.list(workspace_id, "", page.after, page.limit, false).await?;
            (found.blobs.iter().map(file).collect(), found.next)
        }
        Kind::Runs => {
            let found = runs::list(&hub.store, workspace_id, &RunFilter::default(), &page).await?;
            (found.items.iter().map(run).collect(), found.next)
        }
    })
}

fn memory(memory: &MemoryView) -> Resource {
    let title: String = memory.content.chars().take(TITLE_CHARS).collect();
    Resource::new(format!("{SCHEME}memories/{}", memory.id), memory.id.to_string())
        .with_title(title)
        .with_description(format!("Remembered in {} at {}.", memory.namespace, memory.created_at))
        .with_mime_type(JSON)
}

fn file(blob: &BlobRecord) -> Resource {
    let path = utf8_percent_encode(blob.pathname.as_str(), ESCAPED);
    Resource::new(format!("{SCHEME}storage/{path}"), blob.pathname.as_str())
        .with_description(format!("Stored at {}.", blob.uploaded_at))
        .with_mime_type(blob.content_type.clone())
        .with_size(blob.size)
}

fn run(run: &RunRecord) -> Resource {
    Resource::new(format!("{SCHEME}runs/{}", run.id), run.id.to_string())
        .with_title(format!("{} {}", run.run_type, run.target))
        .with_description(format!("{}, begun at {}.", run.state, run.created_at))
        .with_mime_type(JSON)
}

/// Those of what the key may read.
pub(super) fn templates(server: &Server) -> Vec<ResourceTemplate> {
    let of_kind = |(kind, name, _): (Kind, &str, Scope)| {
        let (variable, about) = match kind {
            Kind::Memories => ("id", "A memory, as GET /v1/memory/{id} shows it."),
            Kind::Files => ("+pathname", "A stored file."),
            Kind::Runs => ("runId", "A run with its tool calls, as GET /v1/run/{runId} shows it."),
        };
        ResourceTemplate::new(format!("{SCHEME}{name}/{{{variable}}}"), name).with_description(about)
    };
    KINDS.into_iter().filter(|(_, _, scope)| server.may(*scope)).map(of_kind).collect()
}

pub(super) async fn read(server: &Server, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let named = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
    let known = named.and_then(|(kind, name)| {
        let (kind, _, scope) = KINDS.into_iter().find(|(_, known, _)| *known == kind)?;
        server.may(scope).then_some((kind, name))
    });
    let Some((kind, name)) = known else { return Err(missing(uri)) };
    let contents = match kind {
        Kind::Memories => {
            let Ok(id) = name.parse() else { return Err(missing(uri)) };
            let found = server.app.hub.memories.find(&server.principal.workspace_id, &id).await;
            let memory = found.map_err(|error| refused(error.into()))?.ok_or_else(|| missing(uri))?;
            ResourceContents::text(in_json(&memory), uri).with_mime_type(JSON)
        }
        Kind::Files => {
            file_contents(server, uri, name).await.map_err(refused)?.ok_or_else(|| missing(uri))?
        }
        Kind::Runs => {
            let Ok(id) = name.parse() else { return Err(missing(uri)) };
            let found = server.app.hub.run_view(&server.principal.workspace_id, id).await;
            let run = found.map_err(|error| refused(error.into()))?.ok_or_else(|| missing(uri))?;
            // Writing a large one as text would hold others up.
            let text = if run.is_large { None } else { Some(in_json(&run)) };
            let text = text.filter(|text| text.len() <= MAX_BYTES).ok_or_else(|| {
                let message = format!(
                    "the run has more than the {MAX_BYTES} bytes that are sent here; read it with GET /v1/run/{id}"
                );
                refused(Failure::new(ErrorCode::PayloadTooLarge, message))
            })?;
            ResourceContents::text(text, uri).with_mime_type(JSON)
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

fn in_json(value: &impl Serialize) -> String {
    // What the API shows serialises.
    serde_json::to_string(value).unwrap_or_default()
}

async fn file_contents(server: &Server, uri: &str, path: &str) -> Answer<Option<ResourceContents>> {
    let workspace_id = &server.principal.workspace_id;
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return Ok(None) };
    let Ok(Named::Here(pathname)) = Pathname::of(workspace_id, &path) else { return Ok(None) };
    let Some(opened) = server.app.hub.blobs.open(workspace_id, &pathname).await? else { return Ok(None) };
    let blob = opened.blob.clone();
    if blob.size > MAX_BYTES as u64 {
        let message = format!(
            "the file has {} bytes, more than the {MAX_BYTES} that are sent here; read it with \
             GET /v1/storage/{}",
            blob.size,
            pathname.full(workspace_id)
        );
        return Err(Failure::new(ErrorCode::PayloadTooLarge, message));
    }
    let bytes = opened.read(0..blob.size).await?.try_fold(Vec::new(), |mut bytes, more| async move {
        bytes.extend_from_slice(&more);
        Ok(bytes)
    });
    let contents = match String::from_utf8(bytes.await.map_err(BlobError::Files)?) {
        Ok(text) => ResourceContents::text(text, uri),
        Err(bytes) => ResourceContents::blob(STANDARD.encode(bytes.as_bytes()), uri),
    };
    Ok(Some(contents.with_mime_type(blob.content_type)))
}

fn missing(uri: &str) -> ErrorData {
    let uri: String = uri.chars().take(200).collect();
    ErrorData::resource_not_found(
        format!("there is no resource `{uri}` that this key may read; resources/list tells which there are"),
        Some(serde_json::json!({"uri": uri})),
    )
}
