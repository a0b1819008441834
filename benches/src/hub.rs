//! A hub to be measured, and what is asked of it.

use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::baseline::with_checksum;
use crate::child::Server;
use crate::load::{self, Load};

/// A key of the right form; the hub that it opens lives as long as the
/// measurement.
const KEY: &str = "nh_0123456789abcdefghijklmnopqrstuvwx";

/// The workflow of [`Hub::make_chain`].
const CHAIN: &str = "chain";

pub struct Hub {
    pub server: Server,
    pub key: String,
}

impl Hub {
    /// Starts the release binary with its data in `data_dir`.
    pub fn start(binary: &Path, data_dir: &Path, config: &str) -> anyhow::Result<Self> {
        let key = with_checksum(KEY);
        Ok(Self { server: Server::hub(binary, data_dir, config, &key)?, key })
    }

    /// One request on a connection of its own; any status is an answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let (status, bytes) = self.ask(method, path, body).await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// What `/metrics` says of a metric without labels; 0 before it is there.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (status, bytes) = self.ask(Method::GET, "/metrics", &Value::Null).await?;
        ensure!(status == StatusCode::OK, "/metrics answered {status}");
        let text = String::from_utf8(bytes.into())?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.unwrap_or("0").parse()?)
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(self.server.address).await.context("connecting to the hub")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut connections = tokio::task::JoinSet::new();
        connections.spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.host());
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body.to_string())))?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    fn host(&self) -> String {
        self.server.address.to_string()
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        vec![("authorization".to_owned(), format!("Bearer {}", self.key))]
    }

    fn json_headers(&self) -> Vec<(String, String)> {
        let mut headers = self.headers();
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        headers
    }

    /// The workspace of its key.
    pub async fn workspace(&self) -> anyhow::Result<String> {
        let (_, me) = self.call(Method::GET, "/v1/auth/me", &Value::Null).await?;
        Ok(me["workspace"]["id"].as_str().with_context(|| format!("no workspace in {me}"))?.to_owned())
    }

    /// Makes the workflow `chain`: so many steps that do next to nothing, one
    /// after the other.
    pub async fn make_chain(&self, steps: usize) -> anyhow::Result<()> {
        let id = |number: usize| format!("s{number}");
        let step = |number: usize| {
            let needs: Vec<String> = number.checked_sub(1).map(id).into_iter().collect();
            json!({"id": id(number), "uses": "tool:current_time", "needs": needs})
        };
        let steps: Vec<Value> = (0..steps).map(step).collect();
        let workflow = json!({"id": CHAIN, "name": "Chain", "steps": steps});
        let (status, answer) = self.call(Method::POST, "/v1/workflows", &workflow).await?;
        ensure!(status == StatusCode::CREATED, "the workflow was refused: {answer}");
        Ok(())
    }

    /// A load of `POST /v1/run` with this body.
    pub fn runs(&self, body: &Value, in_flight: usize) -> Load {
        let is_async = body["async"] == true;
        Load {
            address: self.server.address,
            method: Method::POST,
            path: load::always("/v1/run"),
            headers: self.json_headers(),
            body: Bytes::from(body.to_string()),
            in_flight,
            expect: if is_async { StatusCode::ACCEPTED } else { StatusCode::OK },
            per_second: None,
        }
    }
}

/// A run of [`Hub::make_chain`]'s workflow.
pub fn chain() -> Value {
    json!({"target": CHAIN, "type": "workflow"})
}

/// An agent's run: the planner, a calculation, the planner.
pub fn agent() -> Value {
    json!({"target": "agent_default", "type": "agent", "input": {"goal": "Calculate 17 * 23"}})
}

/// A tool's run.
pub fn tool() -> Value {
    json!({"target": "calculate", "type": "tool", "input": {"expression": "17 * 23"}})
}
