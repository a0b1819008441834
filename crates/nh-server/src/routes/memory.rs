//! `/v1/memory`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::memory::ByProvider;
use nh_memory::filter::Filter;
use nh_memory::{Author, DEFAULT_LIMIT, MAX_LIMIT, Query as Search, Which};
use nh_store::Once;
use nh_store::memories::Added;
use nh_types::memory::{
    ChangeMemory, ChangeMemoryModel, CreateMemory, CreatedMemory, DeletedMemories, MemoryHit, MemoryList,
    MemoryModel, MemoryView,
};
use nh_types::{ApiError, ErrorCode, MemoryId};

use super::chat;
use crate::app::App;
use crate::auth::{Auth, MemoriesRead, MemoriesWrite, Principal};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{self, Creating};
use crate::paging::{Query, invalid, seal_cursor};

/// Who asks, and on whose account a provider embeds for them.
pub(super) struct Asker {
    principal: Arc<Principal>,
    created_by: String,
    remote: ByProvider,
}

impl Asker {
    pub(super) fn new<N>(app: &App, auth: &Auth<N>) -> Self {
        let principal = auth.shared();
        let mut caller = chat::caller(app, &principal);
        // The workspace has chosen the model, and a long text is cut into parts.
        (caller.limits.models, caller.limits.max_prompt_tokens) = (None, None);
        let remote = ByProvider::new(app.hub.models.clone(), caller);
        Self { created_by: principal.created_by(), principal, remote }
    }

    pub(super) fn author(&self) -> Author<'_> {
        Author {
            workspace_id: &self.principal.workspace_id,
            created_by: &self.created_by,
            run: None,
            remote: &self.remote,
        }
    }
}

/// Store a memory. The same content in the same namespace is one memory: it
/// answers 200 with the first one's id, and its metadata is merged.
#[utoipa::path(post, path = "/v1/memory", tag = "Memory", request_body = CreateMemory,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 201, body = CreatedMemory),
        (status = 200, description = "It was there already", body = CreatedMemory),
        (status = 503, description = "Nothing can embed it at present", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateMemory>,
) -> Answer<(StatusCode, Json<CreatedMemory>)> {
    let asker = Asker::new(&app, &auth);
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    match app.hub.memories.add(asker.author(), creating.body, once).await? {
        Once::First(Added::New { id, created_at }) | Once::Replay(Added::New { id, created_at }) => {
            Ok((StatusCode::CREATED, Json(CreatedMemory { id, created_at })))
        }
        Once::First(Added::Known { id, created_at }) | Once::Replay(Added::Known { id, created_at }) => {
            Ok((StatusCode::OK, Json(CreatedMemory { id, created_at })))
        }
        Once::Mismatch => Err(mismatch().into()),
        Once::First(Added::Lacking | Added::OtherModel { .. })
        | Once::Replay(Added::Lacking | Added::OtherModel { .. }) => {
            Err(Failure::new(ErrorCode::Conflict, "the workspace's model is being changed; try again"))
        }
    }
}

/// Search memories by their meaning, best first.
#[utoipa::path(get, path = "/v1/memory/search", tag = "Memory",
    params(("q" = Option<String>, Query, description = "What to look for; `query` is the same"),
        ("query" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100),
        ("min_similarity" = Option<f64>, Query, minimum = -1, maximum = 1),
        ("namespace" = Option<String>, Query, description = "Absent: `default`; `*`: all"),
        ("filter" = Option<String>, Query, description = "JSON over metadata, such as `{\"source\": \"chat\"}`")),
    security(("bearer" = ["memories:read"]), ("session" = ["memories:read"])),
    responses((status = 200, body = Vec<MemoryHit>),
        (status = 503, description = "Nothing can embed the question at present", body = nh_types::ErrorBody)))]
pub(crate) async fn search(
    auth: Auth<MemoriesRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<Vec<MemoryHit>>> {
    let text = match (query.take("q")?, query.take("query")?) {
        (Some(text), None) | (None, Some(text)) => text,
        (Some(_), Some(_)) => return Err(wrong("q", "`q` and `query` are the same; give one of them")),
        (None, None) => return Err(wrong("q", "`q` is missing; say what to look for")),
    };
    let search = Search {
        text,
        limit: limit(&mut query)?,
        min_similarity: min_similarity(&mut query)?,
        namespace: namespace(&mut query)?,
        filter: filter(&mut query)?,
    };
    query.finish()?;
    let asker = Asker::new(&app, &auth);
    Ok(Json(app.hub.memories.search(asker.author(), search).await?))
}

/// List memories, newest first.
#[utoipa::path(get, path = "/v1/memory", tag = "Memory",
    params(("namespace" = Option<String>, Query, description = "Absent: `default`, with `run_id` all; `*`: all"),
        ("filter" = Option<String>, Query), ("run_id" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["memories:read"]), ("session" = ["memories:read"])),
    responses((status = 200, body = MemoryList)))]
pub(crate) async fn list(
    auth: Auth<MemoriesRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<MemoryList>> {
    let page = query.page()?;
    let which = which(&mut query)?;
    query.finish()?;
    let found = app.hub.memories.list(&auth.workspace_id, &which, &page).await?;
    let next_cursor = found.next.as_deref().map(seal_cursor);
    Ok(Json(MemoryList { memories: found.items, next_cursor }))
}

/// Delete the memories of a namespace, that match a filter, or that a run wrote.
/// At least one of the parameters must be given; `namespace=*` alone is all.
#[utoipa::path(delete, path = "/v1/memory", tag = "Memory",
    params(("namespace" = Option<String>, Query, description = "Absent: `default`, with `run_id` all; `*`: all"),
        ("filter" = Option<String>, Query), ("run_id" = Option<String>, Query)),
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 200, body = DeletedMemories)))]
pub(crate) async fn delete_many(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<DeletedMemories>> {
    if query.is_empty() {
        let message = "give `namespace`, `filter` or `run_id` to say what to delete; `namespace=*` is all";
        return Err(wrong("namespace", message));
    }
    let which = which(&mut query)?;
    query.finish()?;
    let deleted = app.hub.memories.delete_which(&auth.workspace_id, &which).await?;
    Ok(Json(DeletedMemories { deleted }))
}

/// Get a memory.
#[utoipa::path(get, path = "/v1/memory/{id}", tag = "Memory", params(("id" = String, Path)),
    security(("bearer" = ["memories:read"]), ("session" = ["memories:read"])),
    responses((status = 200, body = MemoryView)))]
pub(crate) async fn find(
    auth: Auth<MemoriesRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<MemoryView>> {
    let found = app.hub.memories.find(&auth.workspace_id, &parse(&id)?).await?;
    found.map(Json).ok_or_else(|| missing(&id))
}

/// Change a memory: what is absent stays. Another content is embedded anew.
#[utoipa::path(patch, path = "/v1/memory/{id}", tag = "Memory", request_body = ChangeMemory,
    params(("id" = String, Path)),
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 200, body = MemoryView),
        (status = 409, description = "Another memory has this content, or it was changed meanwhile", body = nh_types::ErrorBody),
        (status = 503, description = "Nothing can embed it at present", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    json::Json(body, _room): json::Json<ChangeMemory>,
) -> Answer<Json<MemoryView>> {
    let asker = Asker::new(&app, &auth);
    let changed = app.hub.memories.change(asker.author(), &parse(&id)?, body).await?;
    changed.map(Json).ok_or_else(|| missing(&id))
}

/// Delete a memory.
#[utoipa::path(delete, path = "/v1/memory/{id}", tag = "Memory", params(("id" = String, Path)),
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let deleted = app.hub.memories.delete(&auth.workspace_id, &parse(&id)?).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id)) }
}

/// Tell what the workspace's memories are embedded by, and how far embedding
/// them anew is.
#[utoipa::path(get, path = "/v1/memory/model", tag = "Memory",
    security(("bearer" = ["memories:read"]), ("session" = ["memories:read"])),
    responses((status = 200, body = MemoryModel)))]
pub(crate) async fn model(
    auth: Auth<MemoriesRead>,
    State(app): State<Arc<App>>,
) -> Answer<Json<MemoryModel>> {
    Ok(Json(app.hub.memories.model_view(&auth.workspace_id).await?))
}

/// Have all memories embedded by another model, in the background. Searches go
/// by the present one until that is done.
#[utoipa::path(put, path = "/v1/memory/model", tag = "Memory", request_body = ChangeMemoryModel,
    security(("bearer" = ["memories:write"]), ("session" = ["memories:write"])),
    responses((status = 202, body = MemoryModel),
        (status = 404, description = "No provider serves the model", body = nh_types::ErrorBody),
        (status = 503, description = "The model cannot embed at present", body = nh_types::ErrorBody)))]
pub(crate) async fn change_model(
    auth: Auth<MemoriesWrite>,
    State(app): State<Arc<App>>,
    json::Json(body, _room): json::Json<ChangeMemoryModel>,
) -> Answer<(StatusCode, Json<MemoryModel>)> {
    let limits = auth.limits();
    if limits.models.models.is_some() {
        let message = "a key that may ask certain models alone cannot choose what embeds all memories; \
                       use another key";
        return Err(Failure::new(ErrorCode::LimitedKey, message));
    }
    if limits.budget_usd.is_some() {
        let message = "a key with a budget cannot have all memories embedded by another model: \
                       that is on no key's account; use a key without one";
        return Err(Failure::new(ErrorCode::LimitedKey, message));
    }
    let asker = Asker::new(&app, &auth);
    let model = app.hub.memories.change_model(asker.author(), &body.model).await?;
    Ok((StatusCode::ACCEPTED, Json(model)))
}

/// Which memories are listed, exported or deleted.
pub(super) fn which(query: &mut Query) -> Answer<Which> {
    let run_id = query.parsed("run_id")?;
    let given = query.take("namespace")?;
    let namespace = if given.is_none() && run_id.is_some() { None } else { nh_memory::namespaces(given)? };
    Ok(Which { namespace, filter: filter(query)?, run_id })
}

fn namespace(query: &mut Query) -> Answer<Option<String>> {
    Ok(nh_memory::namespaces(query.take("namespace")?)?)
}

fn filter(query: &mut Query) -> Answer<Option<Filter>> {
    let Some(text) = query.take("filter")? else { return Ok(None) };
    match Filter::parse("filter", &text) {
        Ok(filter) => Ok(Some(filter)),
        Err(bad) => Err(invalid(&bad.at.clone(), bad.to_string()).into()),
    }
}

fn limit(query: &mut Query) -> Answer<usize> {
    let Some(text) = query.take("limit")? else { return Ok(DEFAULT_LIMIT) };
    match text.parse::<i64>() {
        Err(_) => Err(wrong("limit", format!("`limit` must be a whole number; it is `{}`", shown(&text)))),
        Ok(limit) if (1..=MAX_LIMIT as i64).contains(&limit) => Ok(limit as usize),
        Ok(limit) => Err(invalid("limit", format!("`limit` is {limit}; it must be 1 to {MAX_LIMIT}")).into()),
    }
}

fn min_similarity(query: &mut Query) -> Answer<Option<f64>> {
    let Some(text) = query.take("min_similarity")? else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(least) if (-1.0..=1.0).contains(&least) => Ok(Some(least)),
        _ => {
            let message = format!("`min_similarity` is `{}`; it must be a number from -1 to 1", shown(&text));
            Err(invalid("min_similarity", message).into())
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn wrong(param: &str, message: impl Into<String>) -> Failure {
    ApiError::new(ErrorCode::InvalidRequest, message).param(param).into()
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<MemoryId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("memory", id)
}
