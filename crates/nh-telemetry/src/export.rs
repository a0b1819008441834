//! The way from the queue to the collector: in batches, bounded in memory and
//! time, and without harm to anything else when the collector is down.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use metrics::{Counter, counter};
use nh_http::{HttpError, Limits, Outbound};
use nh_types::{SharedClock, SharedIds};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Sampling;
use crate::layer::SpanLayer;
use crate::otlp::{self, ExportRequest, ExportResponse, KeyValue};
use crate::settings::Collector;

/// Spans that wait to be sent; further ones are dropped, and counted.
const MAX_QUEUED: usize = 8192;
const MAX_BATCH: usize = 512;
/// How long a span may wait for others to be sent with.
const LINGER: Duration = Duration::from_secs(2);
/// Tries of one batch, and the pause before the second.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Between two lines of the log on a collector that is down.
const WARN_EVERY: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits {
    connect_ms: 5_000,
    first_byte_ms: 10_000,
    between_bytes_ms: 5_000,
    total_ms: 15_000,
    max_body_bytes: 1_000_000,
    max_redirects: 0,
};

/// The sending of spans, while it is on.
pub struct Telemetry {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Telemetry {
    /// The layer is for the process's subscriber, with [`SpanLayer::filter`].
    pub fn start(
        collector: Collector,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<(Self, SpanLayer), HttpError> {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let instance = ids.uuid_v7(clock.now()).to_string();
        let layer = SpanLayer::new(clock, ids, Sampling::new(collector.sample_ratio), queue);
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let sender = Sender::new(collector, instance, stopping.clone())?;
        tasks.spawn(sender.run(queued));
        tasks.close();
        Ok((Self { tasks, stopping }, layer))
    }

    /// Sends what is queued, at most for so long.
    pub async fn shutdown(&self, within: Duration) {
        self.stopping.cancel();
        if timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

struct Sender {
    http: Outbound,
    collector: Collector,
    resource: otlp::Resource,
    stopping: CancellationToken,
    sent: Counter,
    failed: Counter,
    /// When the log was last told of a failure, and how many spans were lost since.
    warned_at: Option<Instant>,
    lost: usize,
}

/// Why a batch was not taken.
struct Refusal {
    message: String,
    may_pass: bool,
}

impl Sender {
    fn new(collector: Collector, instance: String, stopping: CancellationToken) -> Result<Self, HttpError> {
        let attributes = vec![
            KeyValue::text("service.name", collector.service_name.clone()),
            KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::text("service.instance.id", instance),
        ];
        let spans = |outcome: &'static str| counter!("neuralhub_telemetry_spans_total", "outcome" => outcome);
        Ok(Self {
            http: Outbound::operator()?,
            collector,
            resource: otlp::Resource { attributes },
            stopping,
            sent: spans("sent"),
            failed: spans("failed"),
            warned_at: None,
            lost: 0,
        })
    }

    async fn run(mut self, mut queued: mpsc::Receiver<otlp::Span>) {
        loop {
            let mut batch = Vec::new();
            let first = tokio::select! {
                first = queued.recv() => first,
                () = self.stopping.cancelled() => {
                    // What is made from here on has missed the last batch.
                    queued.close();
                    queued.recv().await
                }
            };
            let Some(first) = first else { return };
            batch.push(first);
            let until = Instant::now() + LINGER;
            while batch.len() < MAX_BATCH {
                let room = MAX_BATCH - batch.len();
                tokio::select! {
                    biased;
                    more = queued.recv_many(&mut batch, room) => if more == 0 { break },
                    () = self.stopping.cancelled() => break,
                    () = sleep_until(until) => break,
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<otlp::Span>) {
        let count = batch.len();
        let scope =
            otlp::Scope { name: "neuralhub".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = vec![otlp::ScopeSpans { scope: Some(scope), spans: batch }];
        let resource_spans = vec![otlp::ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        let body = Bytes::from(ExportRequest { resource_spans }.encode_to_vec());
        let mut tries = 1;
        loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.sent.increment((count - rejected) as u64);
                    if rejected > 0 {
                        self.lose(rejected, "it rejected some of them");
                    }
                    return;
                }
                Err(refusal) if !refusal.may_pass || tries >= TRIES || self.stopping.is_cancelled() => {
                    return self.lose(count, &refusal.message);
                }
                Err(_) => {
                    tokio::select! {
                        () = sleep(PAUSE * tries) => {}
                        () = self.stopping.cancelled() => {}
                    }
                    tries += 1;
                }
            }
        }
    }

    /// How many of the spans the collector rejected.
    async fn post(&self, body: Bytes) -> Result<usize, Refusal> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        let uri = self.collector.url.as_str().parse();
        *request.uri_mut() = uri.map_err(|_| Refusal::for_good("its address cannot be used".to_owned()))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.extend(self.collector.headers.iter().cloned());
        let answer = self.http.send(request, LIMITS).await.map_err(|error| Refusal::passing(&error))?;
        let status = answer.status;
        if status.is_success() {
            let body = answer.bytes().await.unwrap_or_default();
            let said = ExportResponse::decode(body).ok().and_then(|said| said.partial_success);
            return Ok(said.map_or(0, |said| usize::try_from(said.rejected_spans).unwrap_or(0)));
        }
        let message = format!("it answered with status {}", status.as_u16());
        let may_pass = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        Err(Refusal { message, may_pass })
    }

    fn lose(&mut self, count: usize, message: &str) {
        self.failed.increment(count as u64);
        self.lost += count;
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_EVERY) {
            tracing::warn!(
                spans = self.lost,
                reason = message,
                "the collector did not take spans, and they are lost"
            );
            (self.warned_at, self.lost) = (Some(now), 0);
        }
    }
}

impl Refusal {
    fn for_good(message: String) -> Self {
        Self { message, may_pass: false }
    }

    fn passing(error: &HttpError) -> Self {
        Self { message: error.to_string(), may_pass: true }
    }
}
