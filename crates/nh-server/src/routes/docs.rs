//! `/openapi.json`, and `/docs` from a viewer inside the binary.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa_swagger_ui::Config;

use crate::app::App;
use crate::failure::{Answer, Failure};

/// The viewer styles itself inline and runs only what the hub serves.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// This API as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "Discovery", security(()),
    responses((status = 200, body = Object)))]
pub(crate) async fn openapi_json(State(app): State<Arc<App>>) -> impl IntoResponse {
    let write = || Bytes::from(serde_json::to_vec(&crate::openapi()).unwrap_or_default());
    ([(CONTENT_TYPE, "application/json")], app.openapi_json.get_or_init(write).clone())
}

/// This API in a browser.
#[utoipa::path(get, path = "/docs", tag = "Discovery", security(()),
    responses((status = 303, description = "To `/docs/`")))]
pub(crate) async fn open() -> Redirect {
    Redirect::to("/docs/")
}

/// The viewer's files.
pub(crate) fn viewer() -> Router<Arc<App>> {
    let config = Arc::new(Config::from("/openapi.json"));
    Router::new()
        .route("/docs/", get(|Extension(config)| async move { file("", config) }))
        .route(
            "/docs/{*file}",
            get(|Path(name): Path<String>, Extension(config)| async move { file(&name, config) }),
        )
        .layer(Extension(config))
}

fn file(name: &str, config: Arc<Config<'static>>) -> Answer<Response> {
    let found =
        utoipa_swagger_ui::serve(name, config).map_err(|error| Failure::internal(error.to_string()))?;
    let file = found.ok_or_else(|| Failure::not_found("file of the viewer", name))?;
    let headers = [(CONTENT_TYPE, file.content_type), (CONTENT_SECURITY_POLICY, POLICY.to_owned())];
    let mut response = (headers, file.bytes.into_owned()).into_response();
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
