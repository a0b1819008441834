//! The harness: a whole hub without a socket.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use nh_agents::memory::InProcess;
use nh_agents::search::SearchSettings;
use nh_agents::tools::{BuiltinSetup, Tools, code_tools, memory_tools, storage_tools};
use nh_agents::webhooks::Webhooks;
use nh_agents::{Hub, HubSetup};
use nh_blobs::{BlobSettings, Blobs, BlobsSetup, Bucket};
use nh_compute::{Compute, ComputeSettings, ComputeSetup, DriverChoice};
use nh_engine::EngineSettings;
use nh_http::{HttpSettings, Outbound};
use nh_memory::{LOCAL_MODEL, Memories, MemoriesSetup, MemorySettings, Weights};
use nh_models::{
    CacheSettings, Models, ModelsSetup, OwnProviders, ResolvedProvider, ResponseCache, UsageSink,
    WorkspaceLimits,
};
use nh_server::auth::api_key::ApiKey;
use nh_server::{App, AppSetup, Metrics, ServerSettings};
use nh_store::seals::{MasterKey, Sealer};
use nh_store::{Store, keys, workspaces};
use nh_testkit::{FixedClock, SeededIds, TestBucket, TestStore};
use nh_types::agent::AgentDefinition;
use nh_types::{Clock, ScopeSet, SharedIds, WorkspaceId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub(crate) const HOST: &str = "127.0.0.1:8080";

/// A hub with one workspace and a key for all of it.
pub(crate) struct TestApp {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) clock: FixedClock,
    pub(crate) ids: SharedIds,
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) key: String,
    pub(crate) hub: Hub,
    pub(crate) stopping: CancellationToken,
    /// Of objects.
    pub(crate) files: tempfile::TempDir,
    /// Instead of the files.
    pub(crate) bucket: Option<TestBucket>,
    store: TestStore,
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::with(ServerSettings::default(), Vec::new()).await
    }

    pub(crate) async fn with(settings: ServerSettings, providers: Vec<ResolvedProvider>) -> Self {
        Self::on(TestStore::of_environment().await, settings, providers).await
    }

    /// A hub on a store that another hub may use too.
    pub(crate) async fn on(
        store: TestStore,
        settings: ServerSettings,
        providers: Vec<ResolvedProvider>,
    ) -> Self {
        let webhooks = Outbound::guarded(&HttpSettings::default(), Vec::new()).expect("client");
        Self::telling(store, settings, providers, webhooks).await
    }

    /// One that has sandboxes as these settings say.
    pub(crate) async fn with_sandboxes(compute: ComputeSettings) -> Self {
        let webhooks = Outbound::guarded(&HttpSettings::default(), Vec::new()).expect("client");
        let store = TestStore::of_environment().await;
        Self::made(store, ServerSettings::default(), Vec::new(), webhooks, compute, Default::default()).await
    }

    /// One whose webhooks go through this client.
    pub(crate) async fn telling(
        store: TestStore,
        settings: ServerSettings,
        providers: Vec<ResolvedProvider>,
        webhooks: Outbound,
    ) -> Self {
        Self::made(store, settings, providers, webhooks, no_sandboxes(), Default::default()).await
    }

    /// One whose workspaces are held to these limits.
    pub(crate) async fn limited(limits: WorkspaceLimits, providers: Vec<ResolvedProvider>) -> Self {
        let webhooks = Outbound::guarded(&HttpSettings::default(), Vec::new()).expect("client");
        let store = TestStore::of_environment().await;
        Self::made(store, ServerSettings::default(), providers, webhooks, no_sandboxes(), limits).await
    }

    async fn made(
        store: TestStore,
        settings: ServerSettings,
        providers: Vec<ResolvedProvider>,
        webhooks: Outbound,
        compute: ComputeSettings,
        limits: WorkspaceLimits,
    ) -> Self {
        let clock = FixedClock::default();
        let ids: SharedIds = Arc::new(SeededIds::new(1));
        let stopping = CancellationToken::new();
        let metrics = metrics();
        let files = tempfile::tempdir().expect("a directory");
        let bucket = TestBucket::of_environment();
        let blobs = blobs(store.store(), files.path(), bucket.as_ref(), &clock, &ids);
        let compute = Compute::new(ComputeSetup {
            store: store.store().clone(),
            settings: compute,
            workspace_budget_usd: limits.budget_usd,
            data_dir: files.path().to_owned(),
            clock: Arc::new(clock.clone()),
            ids: ids.clone(),
        });
        let compute = compute.expect("recipes");
        TaskTracker::new().spawn(nh_compute::keep(compute.clone(), stopping.clone()));
        let hub =
            hub(store.store(), blobs, compute, &clock, &ids, providers, &stopping, webhooks, limits).await;
        let setup = AppSetup {
            settings,
            hub: hub.clone(),
            clock: Arc::new(clock.clone()),
            ids: ids.clone(),
            metrics,
            stopping: stopping.clone(),
        };
        let app = App::new(setup);
        let router = nh_server::router(app.clone());
        let workspace_id = workspace(store.store(), &clock, &ids, "default").await;
        let key = key(store.store(), &clock, &ids, &workspace_id, ScopeSet::all()).await;
        Self { app, router, clock, ids, workspace_id, key, hub, stopping, files, bucket, store }
    }

    /// A second process on the same store: its own caches, the same clock.
    pub(crate) async fn second_process(&self) -> Router {
        let setup = AppSetup {
            settings: ServerSettings::default(),
            hub: self.hub.clone(),
            clock: Arc::new(self.clock.clone()),
            ids: self.ids.clone(),
            metrics: metrics(),
            stopping: self.stopping.clone(),
        };
        nh_server::router(App::new(setup))
    }

    /// The store's file, if it is one.
    pub(crate) fn store_file(&self) -> Option<std::path::PathBuf> {
        self.store.path()
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.store()
    }

    /// A key of the app's workspace with these scopes.
    pub(crate) async fn key_with(&self, scopes: &str) -> String {
        let scopes = ScopeSet::from_text(scopes).expect("scopes");
        key(self.store(), &self.clock, &self.ids, &self.workspace_id, scopes).await
    }

    /// Another workspace, and a key for all of it.
    pub(crate) async fn other_workspace(&self) -> (WorkspaceId, String) {
        let id = workspace(self.store(), &self.clock, &self.ids, "other").await;
        let key = key(self.store(), &self.clock, &self.ids, &id, ScopeSet::all()).await;
        (id, key)
    }

    /// A request of the app's own key.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        self.anonymous(method, path).key(&self.key)
    }

    /// A request without a credential.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> Call {
        Call::new(self.router.clone(), method, path)
    }

    /// What is at a path, once it is so.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let watch = async {
            loop {
                let now = self.get(path).send().await.ok(200);
                if is_so(&now) {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), watch).await.expect("it comes to that")
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Call {
        self.call(Method::POST, path).json(body)
    }

    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn blobs(
    store: &Store,
    files: &std::path::Path,
    bucket: Option<&TestBucket>,
    clock: &FixedClock,
    ids: &SharedIds,
) -> Blobs {
    let mut settings = BlobSettings {
        max_size_bytes: 2_000_000,
        quota_bytes: Some(10_000_000),
        price_per_gb_month: Some(730.0),
        ..BlobSettings::default()
    };
    if let Some(bucket) = bucket {
        settings.url = Some(bucket.url.clone());
        settings.endpoint = Some(bucket.endpoint.parse().expect("an address"));
        settings.access_key_id = Some(TestBucket::ACCESS_KEY_ID.to_owned());
        settings.secret_access_key = Some(TestBucket::SECRET_ACCESS_KEY.into());
    }
    Blobs::new(BlobsSetup {
        store: store.clone(),
        directory: files.join("blobs"),
        bucket: Bucket::resolve(&settings, |_| None).expect("right"),
        settings,
        clock: Arc::new(clock.clone()),
        ids: ids.clone(),
    })
}

fn no_sandboxes() -> ComputeSettings {
    ComputeSettings { driver: DriverChoice::Off, ..ComputeSettings::default() }
}

#[allow(clippy::too_many_arguments)] // each is one part
async fn hub(
    store: &Store,
    blobs: Blobs,
    compute: Compute,
    clock: &FixedClock,
    ids: &SharedIds,
    providers: Vec<ResolvedProvider>,
    stopping: &CancellationToken,
    webhooks: Outbound,
    workspace_limits: WorkspaceLimits,
) -> Hub {
    let (usage, writer) = UsageSink::new(64);
    TaskTracker::new().spawn(writer.run(store.clone()));
    let operator = Outbound::operator().expect("client");
    let memories = Memories::new(MemoriesSetup {
        store: store.clone(),
        weights: Weights::new(nh_testkit::weights(), None),
        default_model: LOCAL_MODEL.to_owned(),
        settings: &MemorySettings::default(),
        clock: Arc::new(clock.clone()),
        ids: ids.clone(),
    });
    let master = MasterKey::from_bytes(&[7; MasterKey::LENGTH_BYTES]).expect("a key");
    let sealer = Arc::new(Sealer::new(&master, &[], ids.clone()));
    let own_providers = OwnProviders::new(
        store.clone(),
        sealer.clone(),
        webhooks.clone(),
        Arc::new(clock.clone()),
        ids.clone(),
    );
    let models = Models::new(ModelsSetup {
        own: Some(own_providers.clone()),
        workspace_limits,
        cache: Some(ResponseCache::new(
            store.clone(),
            Arc::new(clock.clone()),
            CacheSettings { max_entries: 3, ..Default::default() },
        )),
        aliases: Vec::new(),
        local: Some(Arc::new(InProcess(memories.clone()))),
        providers,
        default_model: None,
        http: operator.clone(),
        clock: Arc::new(clock.clone()),
        ids: ids.clone(),
        usage,
    });
    let guarded = Outbound::guarded(&HttpSettings::default(), Vec::new()).expect("client");
    let search = SearchSettings::default();
    let setup = BuiltinSetup { guarded, operator, search: &search, environment: &|_| None };
    let of_hub = memory_tools(&memories, &models)
        .into_iter()
        .chain(storage_tools(&blobs))
        .chain(code_tools(&compute, &blobs));
    let tools = Tools::builtin(setup, of_hub);
    let clock = Arc::new(clock.clone());
    let setup = HubSetup {
        own_providers,
        mcp_servers: Vec::new(),
        store: store.clone(),
        models,
        memories,
        blobs,
        compute,
        tools: tools.expect("tools"),
        webhooks: Webhooks { http: webhooks, sealer },
        clock,
        ids: ids.clone(),
        settings: &EngineSettings::default(),
        stopping: stopping.clone(),
    };
    Hub::start(setup).await.expect("engine")
}

async fn workspace(store: &Store, clock: &FixedClock, ids: &SharedIds, name: &str) -> WorkspaceId {
    let id = WorkspaceId::generate(ids.as_ref());
    let workspace = workspaces::Workspace { id: id.clone(), name: name.to_owned(), created_at: clock.now() };
    let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
    store.write(create).await.expect("workspace");
    id
}

async fn key(
    store: &Store,
    clock: &FixedClock,
    ids: &SharedIds,
    owner: &WorkspaceId,
    scopes: ScopeSet,
) -> String {
    let key = ApiKey::generate(ids.as_ref());
    let create = keys::Create {
        workspace_id: owner.clone(),
        name: "test".to_owned(),
        prefix: key.prefix(),
        hash: key.hash(),
        scopes,
        created_at: clock.now(),
        expires_at: None,
        rate_limit: None,
        limits: nh_types::key::KeyLimits::default(),
    };
    store.write(create).await.expect("key");
    key.expose().to_owned()
}

/// One recorder serves all tests of this process.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::install().expect("first")).clone()
}

/// One request.
pub(crate) struct Call {
    router: Router,
    request: Request<Body>,
}

impl Call {
    pub(crate) fn new(router: Router, method: Method, path: &str) -> Self {
        let builder = Request::builder().method(method).uri(path).header("host", HOST);
        Self { router, request: builder.body(Body::empty()).expect("request") }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("header");
        self.request.headers_mut().insert(HeaderName::from_static(name), value);
        self
    }

    /// A header beside others of its name.
    pub(crate) fn append(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("header");
        self.request.headers_mut().append(HeaderName::from_static(name), value);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn peer(mut self, peer: SocketAddr) -> Self {
        self.request.extensions_mut().insert(ConnectInfo(peer));
        self
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    /// The answer with its body still to come.
    pub(crate) async fn open(self) -> http::Response<Body> {
        self.router.oneshot(self.request).await.expect("infallible")
    }

    pub(crate) async fn send(self) -> Reply {
        let (parts, body) = self.open().await.into_parts();
        let body = body.collect().await.expect("body").to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The code and the param of an error; checks that its form is the one.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> (String, Option<String>) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        let body = self.json();
        let error = &body["error"];
        assert_eq!(body.as_object().map(|body| body.len()), Some(1), "{body}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert!(error["type"].is_string(), "{body}");
        assert_eq!(error["request_id"].as_str(), Some(self.header("x-request-id")), "{body}");
        let text = |field: &Value| field.as_str().map(str::to_owned);
        (text(&error["code"]).expect("code"), text(&error["param"]))
    }

    #[track_caller]
    pub(crate) fn code(&self, status: u16) -> String {
        self.error(status).0
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}
