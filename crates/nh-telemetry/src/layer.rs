//! Where `tracing` hands the spans over.

use std::sync::Arc;

use metrics::{Counter, counter};
use nh_types::span::TARGET;
use nh_types::{SharedClock, SharedIds};
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context as Around;
use tracing_subscriber::registry::LookupSpan;

use crate::context::Sampling;
use crate::otlp;
use crate::span::{Fields, Open};

/// Makes spans of the target [`TARGET`] into OpenTelemetry's, and queues those
/// that are over. Events are none of its business: the log's lines may hold
/// what no collector should.
pub struct SpanLayer {
    clock: SharedClock,
    ids: SharedIds,
    sampling: Sampling,
    queue: mpsc::Sender<otlp::Span>,
    dropped: Arc<Counter>,
}

impl SpanLayer {
    pub(crate) fn new(
        clock: SharedClock,
        ids: SharedIds,
        sampling: Sampling,
        queue: mpsc::Sender<otlp::Span>,
    ) -> Self {
        let dropped = Arc::new(counter!("neuralhub_telemetry_spans_total", "outcome" => "dropped"));
        Self { clock, ids, sampling, queue, dropped }
    }

    /// What the layer is to be shown.
    pub fn filter() -> Targets {
        Targets::new().with_target(TARGET, LevelFilter::INFO)
    }

    fn new_id(&self) -> u128 {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        u128::from_be_bytes(bytes).max(1)
    }
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, around: Around<'_, S>) {
        let Some(span) = around.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = span.parent();
        let parent = parent.as_ref().map(|parent| parent.extensions());
        let parent = parent.as_ref().and_then(|extensions| extensions.get::<Open>());
        let open = Open::new(fields, parent, self.sampling, || self.new_id(), self.clock.as_ref());
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, around: Around<'_, S>) {
        let Some(span) = around.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>().filter(|open| open.context.is_sampled) {
            record.record(open.fields());
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, around: Around<'_, S>) {
        let (Some(span), Some(before)) = (around.span(id), around.span(follows)) else { return };
        let Some(to) = before.extensions().get::<Open>().map(|open| open.context) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            open.link(to);
        }
    }

    fn on_close(&self, id: Id, around: Around<'_, S>) {
        let Some(span) = around.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        if open.context.is_sampled && self.queue.try_send(open.end(span.name())).is_err() {
            self.dropped.increment(1);
        }
    }
}
