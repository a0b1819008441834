//! `/v1/tools`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nh_types::Page;
use nh_types::tool::ToolList;

use crate::app::App;
use crate::auth::{Auth, ToolsRead};
use crate::failure::Answer;
use crate::paging::{Query, seal_cursor};

/// List the tools by name: what they do, what they need, whether they work.
#[utoipa::path(get, path = "/v1/tools", tag = "Tools",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = ToolList)))]
pub(crate) async fn list(
    _: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<ToolList>> {
    let page = query.page()?;
    query.finish()?;
    let after = page.after.unwrap_or_default();
    let rows = app.hub.tools.view().into_iter().filter(|tool| tool.name > after).collect();
    let cut = Page::cut(rows, page.limit, |tool| tool.name.clone());
    Ok(Json(ToolList { tools: cut.items, next_cursor: cut.next.as_deref().map(seal_cursor) }))
}
