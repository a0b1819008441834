//! Every metric of the hub, whichever crate counts it: what `/metrics` says of
//! it, and what `docs/operating.md` lists.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric. Its unit is the end of its name, but for counters before their
/// `_total`.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    pub about: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: Unit::Count, labels, about }
}

const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    about: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, labels, about }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, unit: Unit::Seconds, labels, about }
}

const fn sizes(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, unit: Unit::Count, labels, about }
}

const MODEL: &[&str] = &["provider", "model"];

/// All of them.
pub const METRICS: &[Metric] = &[
    counter(
        "neuralhub_http_requests_total",
        &["route", "method", "status"],
        "Requests answered here, by class of status",
    ),
    seconds(
        "neuralhub_http_request_seconds",
        &["route", "method"],
        "From a request's headers to its answer's headers",
    ),
    gauge("neuralhub_runs_running", Unit::Count, &[], "Runs that this process drives"),
    gauge(
        "neuralhub_runs_unfinished",
        Unit::Count,
        &["state"],
        "Runs in the store: `pending`, `running` (some process drives them), `waiting`",
    ),
    gauge("neuralhub_runs_ready", Unit::Count, &[], "Runs in the store's queue"),
    gauge(
        "neuralhub_runs_ready_oldest_seconds",
        Unit::Seconds,
        &[],
        "Since the oldest run in the queue was made",
    ),
    gauge(
        "neuralhub_runs_asleep",
        Unit::Count,
        &[],
        "Runs in the store with a time at which they are looked at: a delay, a timer, a deadline",
    ),
    counter("neuralhub_runs_finished_total", &["state"], "Runs that ended here"),
    counter(
        "neuralhub_runs_taken_over_total",
        &[],
        "Runs of dead nodes that this one put back into the queue",
    ),
    counter(
        "neuralhub_steps_total",
        &["kind", "outcome"],
        "Steps performed here: `completed`, `failed`, `dropped` (cancelled, or given back at a stop)",
    ),
    seconds("neuralhub_step_seconds", &["kind"], "How long steps took that completed or failed"),
    counter("neuralhub_waits_total", &["kind", "outcome"], "Waits that ended here"),
    seconds("neuralhub_wait_seconds", &["kind"], "How long they took: `sleep`, `signal`, `approval`, `run`"),
    gauge(
        "neuralhub_lease_seconds_left",
        Unit::Seconds,
        &[],
        "Until this node's lease runs out (PostgreSQL); at 0 others take its runs",
    ),
    counter("neuralhub_lease_renewals_total", &["outcome"], "Tries to renew it: `renewed`, `failed`"),
    counter(
        "neuralhub_model_calls_total",
        &["provider", "model", "outcome"],
        "Calls: `ok`, `cancelled`, or why they failed, such as `rate_limited`, `timed_out`",
    ),
    seconds("neuralhub_model_call_seconds", MODEL, "From a call to the end of its answer, or to its failure"),
    seconds(
        "neuralhub_model_first_chunk_seconds",
        MODEL,
        "From a streamed call to the first bytes of its answer",
    ),
    counter(
        "neuralhub_model_tokens_total",
        &["provider", "model", "direction"],
        "Tokens: `input`, of which `cached`; `output`, of which `reasoning`",
    ),
    sizes(
        "neuralhub_model_call_dollars",
        MODEL,
        "US dollars a call, where the price is known: `_sum` is what all of them cost",
    ),
    counter(
        "neuralhub_tool_calls_total",
        &["tool", "outcome"],
        "Calls of tools: `completed`, `failed`, `timed_out`, `cancelled`",
    ),
    seconds("neuralhub_tool_call_seconds", &["tool"], "How long they took"),
    counter(
        "neuralhub_webhook_attempts_total",
        &["outcome"],
        "Tries to tell a webhook of a run's end: `delivered`, `failed`",
    ),
    counter("neuralhub_memory_embedded_texts_total", &[], "Texts that the local model embedded here"),
    seconds("neuralhub_memory_embed_seconds", &[], "How long searches waited for their question's embedding"),
    seconds(
        "neuralhub_memory_search_seconds",
        &[],
        "How long they took from there: the index is brought up to date and looked through",
    ),
    gauge("neuralhub_memory_index_bytes", Unit::Bytes, &[], "Embeddings in memory, of all workspaces"),
    sizes("neuralhub_store_commit_writes", &[], "Writes in one commit"),
    seconds("neuralhub_store_commit_seconds", &[], "How long a commit took, from its first statement"),
    counter(
        "neuralhub_telemetry_spans_total",
        &["outcome"],
        "Spans for OpenTelemetry: `sent`, `failed` (the collector did not take them), `dropped` (the queue was full)",
    ),
    gauge("neuralhub_sandboxes_running", Unit::Count, &[], "Sandboxes of this process that somebody has"),
    seconds(
        "neuralhub_sandbox_start_seconds",
        &["from"],
        "Until a sandbox ran that was asked for: from the `pool`, a `snapshot`, or `nothing`",
    ),
    counter("neuralhub_sandbox_starts_failed_total", &[], "Sandboxes that could not be started"),
    counter("neuralhub_sandboxes_ended_total", &["reason"], "Sandboxes that ended here, and why"),
];

/// Tells the recorder what each metric is.
pub(super) fn describe() {
    for Metric { name, kind, unit, about, .. } in METRICS {
        match kind {
            MetricKind::Counter => describe_counter!(*name, *unit, *about),
            MetricKind::Gauge => describe_gauge!(*name, *unit, *about),
            MetricKind::Histogram => describe_histogram!(*name, *unit, *about),
        }
    }
}
