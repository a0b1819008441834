//! A span under way: what its fields say, and what becomes of it.
//!
//! Fields that are no attributes:
//!
//! | field | |
//! |---|---|
//! | `otel.name` | the span's name, where it is made of parts |
//! | `otel.kind` | `server` or `client`; else it is internal |
//! | `trace.run` | the run that it belongs to, and so its trace |
//! | `trace.is_root` | it is the run's root span |
//! | `trace.parent` | a `traceparent` header that came from outside |
//! | `trace.linked_run` | another run, to whose root it is linked |
//! | `trace.started_ms` | when it began, in milliseconds since 1970, if before it was made |
//!
//! A span with an `error.type` failed.

use std::fmt;
use std::time::{Duration, Instant};

use nh_types::Clock;
use tracing::field::{Field, Visit};

use crate::context::{Context, Sampling};
use crate::otlp::{self, AnyKind, AnyValue, KeyValue, List, SpanKind, StatusCode};

/// Longer texts are cut.
const MAX_TEXT_CHARS: usize = 256;
const MAX_LINKS: usize = 8;
const RUN_ID: &str = "neuralhub.run.id";
/// Fields whose text is a list, parted by commas.
const LISTS: [&str; 1] = ["gen_ai.response.finish_reasons"];

/// Ties this process's monotonic time to the clock. Spans within one another
/// share one, so that their times agree below a millisecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    at_nanos: u64,
    at: Instant,
}

impl Anchor {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { at_nanos: nanos(clock.now().as_millis()), at: Instant::now() }
    }

    fn now_nanos(self) -> u64 {
        let since = Duration::from_nanos(self.at_nanos) + self.at.elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn nanos(ms: i64) -> u64 {
    ms.unsigned_abs().saturating_mul(1_000_000)
}

/// What a span's fields say.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    name: Option<String>,
    kind: Option<SpanKind>,
    pub(crate) run: Option<u128>,
    is_root: bool,
    pub(crate) remote: Option<Context>,
    linked_run: Option<u128>,
    started_ms: Option<i64>,
    has_failed: bool,
    attributes: Vec<KeyValue>,
}

/// A span that is not over.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) context: Context,
    pub(crate) run: Option<u128>,
    pub(crate) anchor: Anchor,
    parent: Option<u64>,
    started_nanos: u64,
    links: Vec<Context>,
    fields: Fields,
}

impl Open {
    /// `parent` is the span around it in this process, if there is one.
    pub(crate) fn new(
        fields: Fields,
        parent: Option<&Open>,
        sampling: Sampling,
        new_id: impl Fn() -> u128,
        clock: &dyn Clock,
    ) -> Self {
        let around = parent.map(|parent| parent.context);
        let of_run = fields.run.map(|run| Context::of_run(run, sampling));
        let above = match of_run {
            // Within the run it is where it is; from elsewhere it hangs on the root.
            Some(root) => around.filter(|around| around.trace_id == root.trace_id).or(Some(root)),
            None => around.or(fields.remote),
        };
        let context = match (of_run, above) {
            (Some(root), _) if fields.is_root => root,
            (_, Some(above)) => Context { span_id: span_id(&new_id), ..above },
            (_, None) => {
                let trace_id = new_id();
                Context { trace_id, span_id: span_id(&new_id), is_sampled: sampling.takes(trace_id) }
            }
        };
        let anchor = parent.map_or_else(|| Anchor::new(clock), |parent| parent.anchor);
        let linked = fields.linked_run.map(|run| Context::of_run(run, sampling));
        Self {
            context,
            run: fields.run.or(parent.and_then(|parent| parent.run)),
            anchor,
            parent: above.filter(|_| !fields.is_root).map(|above| above.span_id),
            started_nanos: fields.started_ms.map_or_else(|| anchor.now_nanos(), nanos),
            links: linked.into_iter().collect(),
            fields,
        }
    }

    pub(crate) fn link(&mut self, to: Context) {
        if self.links.len() < MAX_LINKS {
            self.links.push(to);
        }
    }

    pub(crate) fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// As OTLP has it, ended now.
    pub(crate) fn end(self, name: &str) -> otlp::Span {
        let mut attributes = self.fields.attributes;
        if let Some(run) = self.run.filter(|_| !attributes.iter().any(|known| known.key == RUN_ID)) {
            attributes.push(KeyValue::text(RUN_ID, run_id(run)));
        }
        let link = |to: Context| otlp::Link {
            trace_id: to.trace_id.to_be_bytes().to_vec(),
            span_id: to.span_id.to_be_bytes().to_vec(),
        };
        otlp::Span {
            trace_id: self.context.trace_id.to_be_bytes().to_vec(),
            span_id: self.context.span_id.to_be_bytes().to_vec(),
            parent_span_id: self.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            name: self.fields.name.unwrap_or_else(|| name.to_owned()),
            kind: self.fields.kind.unwrap_or(SpanKind::Internal).into(),
            start_time_unix_nano: self.started_nanos,
            end_time_unix_nano: self.anchor.now_nanos().max(self.started_nanos),
            attributes,
            links: self.links.into_iter().map(link).collect(),
            status: self.fields.has_failed.then_some(otlp::Status { code: StatusCode::Error.into() }),
            flags: u32::from(self.context.is_sampled),
        }
    }
}

fn span_id(new_id: impl Fn() -> u128) -> u64 {
    // Zero is no id.
    (new_id() as u64).max(1)
}

/// With its hyphens, as everywhere else.
fn run_id(run: u128) -> String {
    let digits = format!("{run:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

impl Fields {
    fn put(&mut self, field: &Field, value: AnyKind) {
        self.has_failed |= field.name() == "error.type";
        match self.attributes.iter_mut().find(|known| known.key == field.name()) {
            Some(known) => known.value = Some(AnyValue { value: Some(value) }),
            None => self.attributes.push(KeyValue::new(field.name(), value)),
        }
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        let cut: String = text.chars().take(MAX_TEXT_CHARS).collect();
        match field.name() {
            "otel.name" => self.name = Some(cut),
            "otel.kind" => {
                self.kind = match text {
                    "server" => Some(SpanKind::Server),
                    "client" => Some(SpanKind::Client),
                    _ => None,
                }
            }
            "trace.parent" => self.remote = Context::parse(text),
            name if LISTS.contains(&name) => {
                let values = cut.split(',').filter(|part| !part.is_empty());
                let values = values.map(|part| AnyValue { value: Some(AnyKind::Text(part.to_owned())) });
                self.put(field, AnyKind::List(List { values: values.collect() }));
            }
            _ => self.put(field, AnyKind::Text(cut)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, AnyKind::Double(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "trace.started_ms" => self.started_ms = Some(value),
            _ => self.put(field, AnyKind::Int(value)),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, AnyKind::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match field.name() {
            "trace.run" => self.run = Some(value),
            "trace.linked_run" => self.linked_run = Some(value),
            _ => self.put_text(field, &value.to_string()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "trace.is_root" => self.is_root = value,
            _ => self.put(field, AnyKind::Flag(value)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }
}
