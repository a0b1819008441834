//! Model providers that misbehave, each on a port of its own.

use axum::Router;
use axum::response::Response;
use axum::routing::post;
use nh_models::{ModelSettings, ProviderKind, ResolvedProvider, Timeouts};
use nh_server::ServerSettings;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::app::TestApp;

/// The model that the misbehaving provider serves.
pub(crate) const MODEL: &str = "local/m";

/// A hub whose only provider answers each chat so.
pub(crate) async fn app_with(answer: fn() -> Response) -> TestApp {
    served(Router::new().route("/v1/chat/completions", post(move || async move { answer() }))).await
}

/// A hub whose only provider never answers.
pub(crate) async fn app_with_silence() -> TestApp {
    served(Router::new().route("/v1/chat/completions", post(std::future::pending::<Response>))).await
}

async fn served(router: Router) -> TestApp {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("address"));
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    app_on(base_url).await
}

/// A hub whose only provider is at `base_url`.
pub(crate) async fn app_on(base_url: String) -> TestApp {
    app_serving(base_url, serde_json::from_value(json!({"id": "m"})).expect("settings")).await
}

/// The same, with what the configuration says of the model.
pub(crate) async fn app_serving(base_url: String, model: ModelSettings) -> TestApp {
    TestApp::with(ServerSettings::default(), vec![provider_of(base_url, model)]).await
}

pub(crate) fn provider_of(base_url: String, model: ModelSettings) -> ResolvedProvider {
    ResolvedProvider {
        name: "local".to_owned(),
        kind: ProviderKind::Openai,
        base_url,
        api_key: Some("upstream-secret".into()),
        timeouts: Timeouts::default(),
        models: vec![model],
    }
}

pub(crate) fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hello!"}]})
}
