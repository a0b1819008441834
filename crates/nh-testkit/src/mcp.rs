//! A server that speaks the Model Context Protocol as a test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

const MAX_BODY_BYTES: usize = 1_000_000;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub id: Value,
    pub params: Value,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What it answers.
pub enum Answer {
    Result(Value),
    Error(i32, String),
    /// The whole body of the answer, instead of one that is right.
    Body(&'static str, Body),
    Status(u16, String),
    Never,
}

type Scripted = Box<dyn Fn(&Asked) -> Option<Answer> + Send>;

struct Shared {
    is_modern: bool,
    script: Mutex<Scripted>,
    tools: Mutex<Value>,
    results: Mutex<VecDeque<Value>>,
    asked: watch::Sender<Vec<Asked>>,
}

/// Of 2025-11-25 without sessions, or of 2026-07-28.
pub struct McpStub {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

impl McpStub {
    pub async fn start() -> Self {
        Self::of(false, "127.0.0.1:0".parse().expect("an address")).await
    }

    pub async fn modern() -> Self {
        Self::of(true, "127.0.0.1:0".parse().expect("an address")).await
    }

    /// Again, where it was.
    pub async fn again(address: SocketAddr) -> Self {
        Self::of(false, address).await
    }

    async fn of(is_modern: bool, address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("set");
        socket.bind(address).expect("a port");
        let listener: TcpListener = socket.listen(64).expect("listening");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            is_modern,
            script: Mutex::new(Box::new(|_| None)),
            tools: Mutex::new(json!([tool("find")])),
            results: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ends_with_the_test = axum::serve(listener, router).await;
        });
        Self { address, shared, server }
    }

    pub async fn stop(mut self) -> SocketAddr {
        self.server.shutdown().await;
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn offer(&self, tools: Value) {
        *self.shared.tools.lock().expect("a lock") = tools;
    }

    /// What comes of the next call.
    pub fn result(&self, result: Value) {
        self.shared.results.lock().expect("a lock").push_back(result);
    }

    /// None: as it should.
    pub fn script(&self, script: impl Fn(&Asked) -> Option<Answer> + Send + 'static) {
        *self.shared.script.lock().expect("a lock") = Box::new(script);
    }

    /// All of one method.
    pub fn asked(&self, method: &str) -> Vec<Asked> {
        self.shared.asked.borrow().iter().filter(|asked| asked.method == method).cloned().collect()
    }

    /// Until so many of a method came.
    pub async fn until(&self, method: &str, count: usize) {
        let mut asked = self.shared.asked.subscribe();
        let came =
            asked.wait_for(|asked| asked.iter().filter(|asked| asked.method == method).count() >= count);
        tokio::time::timeout(Duration::from_secs(20), came).await.expect("they come").expect("open");
    }
}

pub fn tool(name: &str) -> Value {
    json!({"name": name, "description": "Finds tickets.", "inputSchema": {"type": "object",
        "properties": {"words": {"type": "string"}}, "required": ["words"]}})
}

pub fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.expect("a body");
    let body: Value =
        serde_json::from_slice(&body).unwrap_or_else(|_| json!({"method": head.method.as_str()}));
    let asked = Asked {
        method: body["method"].as_str().unwrap_or_default().to_owned(),
        id: body["id"].clone(),
        params: body["params"].clone(),
        headers: head.headers,
    };
    let scripted = (shared.script.lock().expect("a lock"))(&asked);
    let answer = scripted.unwrap_or_else(|| as_it_should(&shared, &asked));
    shared.asked.send_modify(|all| all.push(asked));
    let reply = |status: u16, kind: &str, body: Body| {
        Response::builder().status(status).header("content-type", kind).body(body).expect("an answer")
    };
    let rpc = |message: Value| reply(200, "application/json", message.to_string().into());
    match answer {
        _ if body["id"].is_null() && body["jsonrpc"].is_string() => reply(202, "text/plain", Body::empty()),
        Answer::Result(result) => rpc(json!({"jsonrpc": "2.0", "id": body["id"], "result": result})),
        Answer::Error(code, message) => {
            rpc(json!({"jsonrpc": "2.0", "id": body["id"], "error": {"code": code, "message": message}}))
        }
        Answer::Body(kind, body) => reply(200, kind, body),
        Answer::Status(status, said) => reply(status, "text/plain", said.into()),
        Answer::Never => std::future::pending().await,
    }
}

fn as_it_should(shared: &Shared, asked: &Asked) -> Answer {
    let capabilities = json!({"tools": {"listChanged": true}});
    let about = json!({"name": "stub", "version": "1.2"});
    let mut result = match asked.method.as_str() {
        "server/discover" if shared.is_modern => {
            json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "ttlMs": 0, "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": about}})
        }
        "initialize" if !shared.is_modern => {
            json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": about})
        }
        "tools/list" => json!({"tools": *shared.tools.lock().expect("a lock")}),
        "tools/call" => {
            let scripted = shared.results.lock().expect("a lock").pop_front();
            scripted.unwrap_or_else(|| text("Nothing."))
        }
        "notifications/initialized" | "notifications/cancelled" => Value::Null,
        other => return Answer::Error(-32601, format!("there is no method {other}")),
    };
    if shared.is_modern && result.is_object() {
        result["resultType"] = "complete".into();
        if asked.method == "tools/list" {
            (result["ttlMs"], result["cacheScope"]) = (json!(0), json!("private"));
        }
    }
    Answer::Result(result)
}
