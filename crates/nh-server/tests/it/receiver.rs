//! Who is told: a server that keeps what it is sent, and answers as scripted.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use nh_http::{Guard, HttpSettings, Outbound, Resolve, Resolving};
use nh_server::ServerSettings;
use nh_testkit::TestStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::TestApp;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<VecDeque<Response<Body>>>>,
    told: Arc<watch::Sender<Vec<Told>>>,
}

/// Answers 204 unless something else is scripted, and `/silent` never.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Shared,
    _server: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared { script: Arc::default(), told: Arc::new(watch::Sender::new(Vec::new())) };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ends_with_the_test = axum::serve(listener, router).await;
        });
        Self { address, shared, _server: server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The answer to the next request.
    pub(crate) fn reply(&self, status: u16, headers: &[(&str, &str)], body: impl Into<Body>) {
        let response = headers.iter().fold(Response::builder().status(status), |response, (name, value)| {
            response.header(*name, *value)
        });
        self.shared.script.lock().expect("a lock").push_back(response.body(body.into()).expect("an answer"));
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.shared.told.borrow().clone()
    }

    /// Until so many requests came.
    pub(crate) async fn until(&self, count: usize) -> Vec<Told> {
        let mut told = self.shared.told.subscribe();
        let came = told.wait_for(|told| told.len() >= count);
        tokio::time::timeout(Duration::from_secs(20), came).await.expect("they come").expect("open").clone()
    }
}

async fn answer(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    let told = Told { method: head.method, path, query, headers: head.headers, body };
    let is_silent = told.path == "/silent";
    shared.told.send_modify(|all| all.push(told));
    if is_silent {
        std::future::pending::<()>().await;
    }
    let scripted = shared.script.lock().expect("a lock").pop_front();
    scripted.unwrap_or_else(|| Response::builder().status(204).body(Body::empty()).expect("an answer"))
}

/// Names that a test chose.
struct Names(HashMap<&'static str, IpAddr>);

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        let found = self.0.get(host).map(|ip| SocketAddr::new(*ip, port));
        Box::pin(async move { Ok(found.into_iter().collect()) })
    }
}

/// A client that may reach these networks, never this listener, and that knows
/// `this.example` (127.0.0.1) and `inner.example` (10.0.0.1).
pub(crate) fn client(allowed: &[&str], own: Option<SocketAddr>) -> Outbound {
    let allow_networks = allowed.iter().map(|network| network.parse().expect("a network")).collect();
    let guard = Guard::new(&HttpSettings { allow_networks }, own.into_iter().collect());
    let names = [("this.example", "127.0.0.1"), ("inner.example", "10.0.0.1")];
    let names = names.map(|(name, address)| (name, address.parse().expect("an address")));
    Outbound::guarded_with(guard, Arc::new(Names(names.into()))).expect("a client")
}

/// A hub that may tell this machine.
pub(crate) async fn telling_app() -> TestApp {
    app_with(client(&["127.0.0.0/8"], None)).await
}

pub(crate) async fn app_with(client: Outbound) -> TestApp {
    let store = TestStore::of_environment().await;
    TestApp::telling(store, ServerSettings::default(), Vec::new(), client).await
}
