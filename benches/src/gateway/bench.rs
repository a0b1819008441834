//! All that takes part, on one machine: the upstream, nginx, the hub, and the
//! keys that the hub is asked with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::nginx::{Nginx, free_address};
use super::streams::StreamLoad;
use super::upstream::{CHUNKS, COUNT_PATH, FRAMES, INTERVAL, PLAIN_PATH, Pace};
use crate::child::Server;
use crate::hub::Hub;
use crate::load::{Connection, Load, always, request_head};

/// The option with which this program is the upstream instead.
pub const UPSTREAM_OPTION: &str = "--upstream";

/// What keys may spend: more than a benchmark does, and the most that can be set.
const BUDGET_USD: f64 = 1_000_000.0;

/// How long the last calls' rows may take to be written.
const FLUSH_TRIES: usize = 200;
const FLUSH_PAUSE: Duration = Duration::from_millis(50);

pub struct Bench {
    pub upstream: Server,
    pub nginx: Nginx,
    pub hub: Hub,
    keys: Keys,
}

/// All may ask the same models.
struct Keys {
    /// Neither a budget nor limits.
    free: String,
    budget: String,
    limits: String,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The upstream itself.
    Upstream,
    Nginx,
    /// With a key that has neither a budget nor limits. The call is in the ledger all the same.
    Hub,
    /// With a key that has a budget: what each call may cost is reserved before it.
    HubBudget,
    /// With a key that has a budget and limits of every kind.
    HubLimits,
}

impl Asked {
    pub fn name(self) -> &'static str {
        match self {
            Asked::Upstream => "upstream",
            Asked::Nginx => "nginx",
            Asked::Hub => "hub",
            Asked::HubBudget => "hub, budget",
            Asked::HubLimits => "hub, budget and limits",
        }
    }
}

impl Bench {
    /// With all data in `directory`.
    pub async fn start(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(UPSTREAM_OPTION).arg(address.to_string());
        let upstream = Server::other(command, address)?;
        let nginx = Nginx::start(&directory.join("nginx"), address)?;
        let hub = Hub::start(binary, directory, &config(address))?;
        let keys = Keys::make(&hub).await?;
        Ok(Self { upstream, nginx, hub, keys })
    }

    pub fn server(&self, asked: Asked) -> &Server {
        match asked {
            Asked::Upstream => &self.upstream,
            Asked::Nginx => &self.nginx.server,
            Asked::Hub | Asked::HubBudget | Asked::HubLimits => &self.hub.server,
        }
    }

    /// Whole answers to so many at once, or paced.
    pub fn plain(&self, asked: Asked, in_flight: usize, per_second: Option<f64>) -> Load {
        Load {
            address: self.server(asked).address,
            method: Method::POST,
            path: always(PLAIN_PATH),
            headers: self.headers(asked),
            body: question(Pace::Steady, false),
            in_flight,
            expect: StatusCode::OK,
            per_second,
        }
    }

    pub fn streams(&self, asked: Asked, at_once: usize, pace: Pace) -> StreamLoad {
        let address = match asked {
            Asked::Nginx => self.nginx.streams,
            other => self.server(other).address,
        };
        StreamLoad {
            address,
            path: PLAIN_PATH,
            headers: self.headers(asked),
            body: question(pace, true),
            at_once,
            begin_within: if pace == Pace::Steady { INTERVAL * CHUNKS } else { Duration::ZERO },
            frames: FRAMES,
        }
    }

    fn headers(&self, asked: Asked) -> Vec<(String, String)> {
        let key = match asked {
            Asked::Upstream | Asked::Nginx | Asked::Hub => &self.keys.free,
            Asked::HubBudget => &self.keys.budget,
            Asked::HubLimits => &self.keys.limits,
        };
        vec![
            ("authorization".to_owned(), format!("Bearer {key}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ]
    }

    /// Answers of the upstream, streams that were broken off among them.
    pub async fn upstream_count(&self) -> anyhow::Result<i64> {
        self.counted(&["plain", "streams"]).await
    }

    /// Streams of the upstream whose client went away.
    pub async fn left_streams(&self) -> anyhow::Result<i64> {
        self.counted(&["left_streams"]).await
    }

    async fn counted(&self, what: &[&str]) -> anyhow::Result<i64> {
        let address = self.upstream.address;
        let request = request_head(&Method::GET, COUNT_PATH, address, &[], 0);
        let mut connection = Connection::open(address).await?;
        let (_, body) = connection.ask(request.as_bytes()).await?;
        let counted: Value = serde_json::from_slice(body)?;
        let count = |of: &&str| counted[*of].as_i64().with_context(|| format!("no `{of}` in {counted}"));
        what.iter().map(count).sum()
    }

    /// Calls that `GET /v1/usage` has, once it has `expected` or does not grow any more.
    pub async fn ledger_rows(&self, expected: Option<i64>) -> anyhow::Result<i64> {
        let mut last = -1;
        for _ in 0..FLUSH_TRIES {
            let (status, report) = self.hub.call(Method::GET, "/v1/usage", &Value::Null).await?;
            ensure!(status == StatusCode::OK, "/v1/usage answered {status}: {report}");
            let rows = report["total"]["calls"].as_i64().context("no calls in /v1/usage")?;
            if expected == Some(rows) || (expected.is_none() && rows == last) {
                return Ok(rows);
            }
            last = rows;
            tokio::time::sleep(FLUSH_PAUSE).await;
        }
        Ok(last)
    }
}

impl Keys {
    async fn make(hub: &Hub) -> anyhow::Result<Self> {
        let limits = json!({"models": ["bench*"], "max_prompt_tokens": 100_000,
            "tokens_per_minute": 1_000_000_000_000_i64, "max_concurrent": 100_000});
        Ok(Self {
            free: key(hub, "free", json!({})).await?,
            budget: key(hub, "budget", json!({"budget_usd": BUDGET_USD})).await?,
            limits: key(
                hub,
                "limits",
                json!({"budget_usd": BUDGET_USD, "rate_limit": 1_000_000, "model_limits": limits}),
            )
            .await?,
        })
    }
}

/// Makes a key that may chat, and has `more` in its request.
async fn key(hub: &Hub, name: &str, mut more: Value) -> anyhow::Result<String> {
    more["name"] = json!(name);
    more["scopes"] = json!(["chat:write"]);
    let (status, created) = hub.call(Method::POST, "/v1/keys", &more).await?;
    ensure!(status == StatusCode::CREATED, "the key `{name}` was refused: {created}");
    Ok(created["key"].as_str().context("no key in the answer")?.to_owned())
}

fn config(upstream: std::net::SocketAddr) -> String {
    let model = |pace: Pace| format!("{{ id = \"{}\", input_cost = 0.1, output_cost = 0.3 }}", pace.model());
    format!(
        "[[providers]]\nname = \"bench\"\nkind = \"openai\"\nbase_url = \"http://{upstream}/v1\"\nmodels = [{}]\n",
        Pace::EVERY.map(model).join(", ")
    )
}

fn question(pace: Pace, stream: bool) -> Bytes {
    let mut question = json!({"model": pace.model(), "messages": [
        {"role": "system", "content": "You are an assistant."},
        {"role": "user", "content": "When and how did the internet start? Answer in one sentence."},
    ], "temperature": 0.2});
    if stream {
        question["stream"] = json!(true);
        question["stream_options"] = json!({"include_usage": true});
    }
    Bytes::from(question.to_string())
}
