//! All routes on one page.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, options};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::document;
use crate::edge::{self, Edge, Methods};
use crate::metrics::Meters;
use crate::routes::storage::{links, objects, read, upload, uploads, vercel};
use crate::routes::{
    agents, answers, auth, chat, docs, health, keys, llms, mcp, mcp_servers, memory, memory_lines, messages,
    metrics, models, providers, resources, responses, runs, schedules, tools, usage, values, webhooks,
    workflows,
};

fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(health::is_alive))
        .routes(routes!(health::is_ready))
        .routes(routes!(auth::login))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(auth::switch_workspace))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::find, agents::change, agents::delete))
        .routes(routes!(runs::start))
        .routes(routes!(runs::list))
        .routes(routes!(runs::find))
        .routes(routes!(runs::events))
        .routes(routes!(values::value))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(runs::fork))
        .routes(routes!(answers::signal))
        .routes(routes!(answers::approve))
        .routes(routes!(answers::deny))
        .routes(routes!(workflows::list, workflows::create))
        .routes(routes!(workflows::find, workflows::change, workflows::delete))
        .routes(routes!(schedules::list, schedules::create))
        .routes(routes!(schedules::find, schedules::change, schedules::delete))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::find))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::secret))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(memory::list, memory::create, memory::delete_many))
        .routes(routes!(memory::search))
        .routes(routes!(memory_lines::import))
        .routes(routes!(memory_lines::export))
        .routes(routes!(memory::model, memory::change_model))
        .routes(routes!(memory::find, memory::change, memory::delete))
        .routes(routes!(upload::upload))
        .routes(routes!(objects::list))
        .routes(routes!(objects::usage))
        .routes(routes!(objects::copy))
        .routes(routes!(objects::rename))
        .routes(routes!(objects::create_folder))
        .routes(routes!(uploads::list, uploads::create))
        .routes(routes!(uploads::find, uploads::abort))
        .routes(routes!(uploads::put_part))
        .routes(routes!(uploads::complete))
        .routes(routes!(vercel::put, vercel::get))
        .routes(routes!(vercel::rename))
        .routes(routes!(vercel::delete))
        .routes(routes!(vercel::multipart))
        .routes(routes!(links::sign))
        .routes(routes!(read::read, objects::delete, links::put))
        .routes(routes!(resources::list, resources::create))
        .routes(routes!(resources::find, resources::change, resources::delete))
        .routes(routes!(resources::exec::execute))
        .routes(routes!(resources::files::list_files))
        .routes(routes!(
            resources::files::read_file,
            resources::files::write_file,
            resources::files::delete_file
        ))
        .routes(routes!(resources::templates::list_templates))
        .routes(routes!(models::list))
        .routes(routes!(models::find))
        .routes(routes!(providers::list, providers::create))
        .routes(routes!(providers::find, providers::change, providers::delete))
        .routes(routes!(chat::complete))
        .routes(routes!(messages::create_message))
        .routes(routes!(messages::count_tokens))
        .routes(routes!(responses::respond))
        .routes(routes!(usage::report))
        .routes(routes!(chat::embed))
        .routes(routes!(tools::list, tools::create))
        .routes(routes!(tools::find, tools::change, tools::delete))
        .routes(routes!(mcp_servers::list, mcp_servers::create))
        .routes(routes!(mcp_servers::find, mcp_servers::change, mcp_servers::delete))
        .routes(routes!(mcp_servers::refresh))
        .routes(routes!(mcp::speak))
        .routes(routes!(mcp::manifest))
        .routes(routes!(mcp::registry_entry))
        .routes(routes!(llms::short))
        .routes(routes!(llms::full))
        .routes(routes!(metrics::show))
        .routes(routes!(docs::openapi_json))
        .routes(routes!(docs::open))
}

/// The document that `GET /openapi.json` serves.
pub fn openapi() -> OpenApi {
    document::complete(documented().into_openapi())
}

/// The whole API.
pub fn router(app: Arc<App>) -> Router {
    let (routes, written) = documented().split_for_parts();
    let meters = Arc::new(Meters::new(document::routes(&written).into_iter()));
    let methods = Arc::new(Methods::new(document::routes(&written).into_iter()));
    #[cfg(debug_assertions)]
    let routes = match app.has_mcp_fixtures() {
        true => routes.route("/v1/mcp", get(mcp::in_session).delete(mcp::in_session)),
        false => routes,
    };
    let edge = Edge { app: app.clone(), meters, methods };
    routes
        .route("/v1/storage/{workspace}/{*pathname}", options(links::preflight))
        .route("/v1/storage/vercel/", any(vercel::tolerant))
        .route("/v1/storage/vercel/{*operation}", any(vercel::tolerant))
        .merge(docs::viewer())
        .fallback(nothing)
        .layer(from_fn_with_state(edge, edge::pass))
        .with_state(app)
}

/// `/metrics` alone, without a credential.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new().route("/metrics", get(metrics::show_to_anyone)).with_state(app)
}

async fn nothing(uri: http::Uri) -> crate::failure::Failure {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("there is nothing at `{path}`; GET /openapi.json lists every path");
    crate::failure::Failure::new(nh_types::ErrorCode::NotFound, message)
}
