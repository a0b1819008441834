//! `/v1/tools`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::tools::secrets_of;
use nh_store::tools::{self, Created, Imported, ToolRecord};
use nh_store::{Idempotency, Once, StoreError, seals};
use nh_types::tool::{
    ChangeTool, CreateTool, CreatedTools, ImportedTools, OwnTool, SecretValues, ToolList, ToolView,
};
use nh_types::{ApiError, ErrorCode, Page, WorkspaceId};

use crate::app::App;
use crate::auth::{Auth, Principal, ToolsRead, ToolsWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, Json as JsonBody};
use crate::paging::{Query, seal_cursor};

/// Tools that a workspace may register.
const MAX_TOOLS: u32 = 100;

/// List the tools by name: what they do, what they need, whether they work.
#[utoipa::path(get, path = "/v1/tools", tag = "Tools",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = ToolList)))]
pub(crate) async fn list(
    auth: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<ToolList>> {
    let page = query.page()?;
    query.finish()?;
    let after = page.after.unwrap_or_default();
    let tools = app.hub.tools_of(&auth.workspace_id).await?;
    let rows = tools.view().into_iter().filter(|tool| tool.name > after).collect();
    let cut = Page::cut(rows, page.limit, |tool| tool.name.clone());
    Ok(Json(ToolList { tools: cut.items, next_cursor: cut.next.as_deref().map(seal_cursor) }))
}

/// Register a tool: a function in Python or JavaScript, which runs in the sandbox of the
/// run that calls it, a request to a server, or all of the requests that an OpenAPI document
/// describes.
#[utoipa::path(post, path = "/v1/tools", tag = "Tools", request_body = CreateTool,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 201, description = "The tool or, of a document, its tools", body = CreatedTools),
        (status = 409, description = "The name is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateTool>,
) -> Answer<(StatusCode, Json<CreatedTools>)> {
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    let is_document = creating.body.kind.as_deref() == Some("openapi");
    let created = match is_document {
        true => CreatedTools::Several(import(&app, &auth, creating.body, once).await?),
        false => CreatedTools::One(Box::new(create_one(&app, &auth, creating.body, once).await?)),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

async fn create_one(
    app: &App,
    auth: &Principal,
    body: CreateTool,
    once: Option<Idempotency>,
) -> Answer<ToolView> {
    let values = body.secrets.clone();
    let definition = nh_agents::tools::created(body, &app.hub.tools, &generation(app))?;
    let name = definition.name().to_owned();
    let (tool, secrets) = new_row(app, auth, definition, values)?;
    match app.hub.store.write_once(once, tools::Create { tool, secrets, most: MAX_TOOLS }).await {
        Ok(Once::First(Created::Done(_)) | Once::Replay(Created::Done(_))) => {
            view(app, &auth.workspace_id, &name).await
        }
        Ok(Once::First(Created::Full) | Once::Replay(Created::Full)) => Err(full(0).into()),
        Ok(Once::Mismatch) => Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => Err(taken(&name).into()),
        Err(error) => Err(error.into()),
    }
}

/// All of a document's tools, or none.
async fn import(
    app: &App,
    auth: &Principal,
    body: CreateTool,
    once: Option<Idempotency>,
) -> Answer<ImportedTools> {
    let values = body.secrets.clone();
    let (definitions, skipped) = nh_agents::tools::imported(body, &app.hub.tools, &generation(app))?;
    let names: BTreeSet<_> = definitions.iter().map(|tool| tool.name().to_owned()).collect();
    let rows = definitions.into_iter().map(|tool| new_row(app, auth, tool, values.clone()));
    let import = tools::Import { tools: rows.collect::<Answer<_>>()?, most: MAX_TOOLS };
    match app.hub.store.write_once(once, import).await {
        Ok(Once::First(Imported::Done) | Once::Replay(Imported::Done)) => {}
        Ok(Once::First(Imported::Full { room }) | Once::Replay(Imported::Full { room })) => {
            return Err(full(room).into());
        }
        Ok(Once::Mismatch) => return Err(mismatch().into()),
        Err(StoreError::Conflict(told)) => {
            return Err(ApiError::new(ErrorCode::AlreadyExists, told).param("name").into());
        }
        Err(error) => return Err(error.into()),
    }
    let tools = app.hub.tools_of(&auth.workspace_id).await?.view();
    Ok(ImportedTools {
        tools: tools.into_iter().filter(|tool| names.contains(&tool.name)).collect(),
        skipped,
    })
}

fn generation(app: &App) -> String {
    app.ids.uuid_v7(app.clock.now()).to_string()
}

fn new_row(
    app: &App,
    auth: &Principal,
    definition: OwnTool,
    values: Option<SecretValues>,
) -> Answer<(ToolRecord, Vec<seals::Put>)> {
    let (workspace_id, now) = (auth.workspace_id.clone(), app.clock.now());
    let secrets = sealed(app, &workspace_id, &definition, values.as_ref())?;
    let created_by = auth.created_by();
    Ok((ToolRecord { workspace_id, definition, created_by, created_at: now, updated_at: now }, secrets))
}

/// Get a tool, with what it does where the workspace registered it.
#[utoipa::path(get, path = "/v1/tools/{name}", tag = "Tools", params(("name" = String, Path)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = ToolView)))]
pub(crate) async fn find(
    auth: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<ToolView>> {
    view(&app, &auth.workspace_id, &name).await.map(Json)
}

/// Change a registered tool: what is absent stays. Runs under way go on with what they
/// began with.
#[utoipa::path(patch, path = "/v1/tools/{name}", tag = "Tools", request_body = ChangeTool,
    params(("name" = String, Path)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 200, body = ToolView),
        (status = 409, description = "Somebody else changed it meanwhile", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(body, _room): JsonBody<ChangeTool>,
) -> Answer<Json<ToolView>> {
    let now = tools::find(&app.hub.store, &auth.workspace_id, &name).await?;
    let now = now.ok_or_else(|| missing(&app, &name))?;
    let from = now.updated_at;
    let definition = nh_agents::tools::changed(now.definition.clone(), &body)?;
    let secrets = sealed(&app, &auth.workspace_id, &definition, body.secrets.as_ref())?;
    let rows = |tool| secrets_of(tool).map(|secrets| secrets.rows()).unwrap_or_default();
    let kept = rows(&definition);
    let forgotten = rows(&now.definition).into_iter().filter(|row| !kept.contains(row)).collect();
    // Each change is later than the one before, whatever the clock says.
    let updated_at = app.clock.now().max(from.plus_millis(1));
    let change =
        tools::Change { tool: ToolRecord { definition, updated_at, ..now }, from, secrets, forgotten };
    match app.hub.store.write(change).await {
        Ok(()) => view(&app, &auth.workspace_id, &name).await.map(Json),
        Err(StoreError::Conflict(_)) => {
            let message =
                format!("the tool `{name}` was changed or deleted meanwhile; read it and try again");
            Err(Failure::new(ErrorCode::Conflict, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// Delete a registered tool. Runs under way go on with it.
#[utoipa::path(delete, path = "/v1/tools/{name}", tag = "Tools", params(("name" = String, Path)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    let delete = tools::Delete { workspace_id: auth.workspace_id.clone(), name: name.clone() };
    if app.hub.store.write(delete).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&app, &name)) }
}

fn sealed(
    app: &App,
    workspace_id: &WorkspaceId,
    tool: &OwnTool,
    values: Option<&SecretValues>,
) -> Answer<Vec<seals::Put>> {
    let sealed = secrets_of(tool).map(|secrets| secrets.seal(app.hub.sealer(), workspace_id, values));
    Ok(sealed.transpose()?.unwrap_or_default())
}

async fn view(app: &App, workspace_id: &WorkspaceId, name: &str) -> Answer<ToolView> {
    let tools = app.hub.tools_of(workspace_id).await?;
    let found = tools.view().into_iter().find(|tool| tool.name == name);
    found.ok_or_else(|| Failure::not_found("tool", name))
}

/// A tool of the hub is there, but nobody's to change.
fn missing(app: &App, name: &str) -> Failure {
    match app.hub.tools.get(name) {
        Some(_) => {
            let message = format!("`{name}` is a tool of the hub, which nobody changes or deletes");
            Failure::new(ErrorCode::Conflict, message)
        }
        None => Failure::not_found("tool", name),
    }
}

fn taken(name: &str) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("there is a tool `{name}` already")).param("name")
}

/// `room` is what there still is.
fn full(room: u32) -> ApiError {
    let message = format!(
        "a workspace may have {MAX_TOOLS} tools, and this one has room for {room} more; delete some first"
    );
    ApiError::new(ErrorCode::Conflict, message)
}
