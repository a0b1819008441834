//! A `Models` on fixed time and ids, and short ways to ask it.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::StreamExt;
use nh_http::Outbound;
use nh_models::{
    Caller, ModelAlias, ModelError, ModelSettings, Models, ModelsSetup, ProviderKind, ResolvedProvider,
    Timeouts, UsageSink, UsageWriter, WorkspaceLimits,
};
use nh_testkit::upstream::Upstream;
use nh_testkit::{FixedClock, SeededIds};
use nh_types::key::ModelLimits;
use nh_types::model::ModelView;
use nh_types::provider::ProviderView;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

pub(crate) struct Hub {
    pub(crate) models: Models,
    pub(crate) clock: FixedClock,
    pub(crate) rows: UsageWriter,
}

pub(crate) fn hub(providers: Vec<ResolvedProvider>) -> Hub {
    hub_with(providers, Vec::new())
}

pub(crate) fn hub_with(providers: Vec<ResolvedProvider>, aliases: Vec<ModelAlias>) -> Hub {
    let clock = FixedClock::default();
    let (usage, rows) = UsageSink::new(64);
    let models = Models::new(ModelsSetup {
        aliases,
        local: None,
        workspace_limits: WorkspaceLimits::default(),
        cache: None,
        own: None,
        providers,
        default_model: None,
        http: Outbound::operator().expect("a client"),
        clock: Arc::new(clock.clone()),
        ids: Arc::new(SeededIds::new(7)),
        usage,
    });
    Hub { models, clock, rows }
}

pub(crate) fn caller() -> Caller {
    Caller {
        workspace_id: "ws_0123456789abcdefghij".parse().expect("an id"),
        key_id: Some(42),
        run_id: None,
        agent: None,
        limits: ModelLimits::default(),
        cache: Default::default(),
        charge: None,
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

impl Hub {
    pub(crate) async fn list(&self) -> Vec<ModelView> {
        self.models.list(&caller().workspace_id).await.expect("a list")
    }

    pub(crate) async fn find(&self, id: &str) -> Option<ModelView> {
        self.models.find(&caller().workspace_id, id).await.expect("looked for")
    }

    pub(crate) async fn providers(&self) -> Vec<ProviderView> {
        self.models.providers(&caller().workspace_id).await.expect("a list")
    }

    pub(crate) async fn default_model(&self) -> String {
        self.models.default_model(&caller().workspace_id).await.expect("a model")
    }

    pub(crate) async fn chat(&self, body: Value) -> Result<Value, ModelError> {
        let completion = self.models.chat(&caller(), Cow::Owned(object(body))).await?;
        Ok(Value::Object(completion.body))
    }

    /// As the client gets it.
    pub(crate) async fn chat_text(&self, body: Value) -> Result<String, ModelError> {
        let text = self.models.chat_text(&caller(), Cow::Owned(object(body))).await?;
        Ok(String::from_utf8(text.to_vec()).expect("UTF-8"))
    }

    pub(crate) async fn embed(&self, body: Value) -> Result<Value, ModelError> {
        let completion = self.models.embeddings(&caller(), object(body)).await?;
        Ok(Value::Object(completion.body))
    }

    /// All of a stream, as text.
    pub(crate) async fn stream(&self, body: Value) -> Result<String, ModelError> {
        let stream = self.models.chat_stream(&caller(), object(body)).await?;
        let bytes: Vec<u8> = stream.map(|bytes| bytes.to_vec()).concat().await;
        Ok(String::from_utf8(bytes).expect("UTF-8"))
    }
}

/// The data of each frame; comments are left out.
pub(crate) fn frames(stream: &str) -> Vec<String> {
    stream
        .split("\n\n")
        .filter(|frame| !frame.is_empty() && !frame.starts_with(':'))
        .map(|frame| frame.strip_prefix("data: ").expect("a data frame").to_owned())
        .collect()
}

/// The chunks of a stream, without `[DONE]`.
pub(crate) fn chunks(stream: &str) -> Vec<Value> {
    frames(stream)
        .into_iter()
        .filter(|frame| frame != "[DONE]")
        .map(|frame| serde_json::from_str(&frame).expect("JSON"))
        .collect()
}

/// A provider of any kind at the mock upstream.
pub(crate) fn provider(name: &str, kind: ProviderKind, base_url: &str) -> ResolvedProvider {
    ResolvedProvider {
        name: name.to_owned(),
        kind,
        base_url: base_url.to_owned(),
        api_key: Some(SecretString::from("sk-hub-secret")),
        timeouts: Timeouts::default(),
        models: vec![ModelSettings {
            id: "priced".to_owned(),
            input_cost: Some(2.0),
            output_cost: Some(10.0),
            ..ModelSettings::default()
        }],
    }
}

/// A hub with one provider of the kind, at a fresh mock upstream.
pub(crate) async fn hub_of(kind: ProviderKind) -> (Hub, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    let hub = hub(vec![provider("mock", kind, &upstream.base_url())]);
    (hub, upstream)
}

pub(crate) fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
}

pub(crate) fn hello_streamed(model: &str) -> Value {
    let mut body = hello(model);
    body["stream"] = json!(true);
    body
}
