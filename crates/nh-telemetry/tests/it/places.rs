//! Which trace a span is in, and on which span it hangs.

use std::time::Duration;

use nh_types::span::TARGET;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing::field::Empty;
use tracing::info_span;
use tracing::subscriber::with_default;

use crate::collector::{Receiver, telemetry};

const RUN: u128 = 0x01a2_143c_e712_7034_9633_9a3c_07c6_c79c;
const OTHER_RUN: u128 = 0x01a2_143c_e713_7034_8633_9a3c_07c6_c79c;

async fn told(sample_ratio: f64, make: impl FnOnce()) -> Vec<Span> {
    let receiver = Receiver::start(&[]).await;
    let (telemetry, subscriber) = telemetry(&receiver.endpoint, sample_ratio);
    with_default(subscriber, make);
    telemetry.shutdown(Duration::from_secs(30)).await;
    receiver.spans()
}

#[track_caller]
fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
}

fn text(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|given| given.key == key)?.value.clone()?.value?;
    let Value::StringValue(text) = found else { panic!("{found:?}") };
    Some(text)
}

#[tokio::test]
async fn a_runs_spans_hang_on_its_root_whichever_span_is_around_them() {
    let spans = told(1.0, || {
        let request = info_span!(target: TARGET, "request").entered();
        let drive = info_span!(target: TARGET, "drive", trace.run = RUN);
        drive.follows_from(request.id());
        let drive = drive.entered();
        let step = info_span!(target: TARGET, "step").entered();
        // Nothing that goes to the log is told.
        tracing::info!("a line of the log");
        drop(tracing::info_span!("of the log alone"));
        drop(info_span!(target: TARGET, "within", trace.run = OTHER_RUN));
        drop(step);
        drop(info_span!(target: TARGET, "root", trace.run = RUN, trace.is_root = true, trace.started_ms = 5_i64));
        drop(drive);
    })
    .await;
    assert_eq!(spans.len(), 5, "{spans:#?}");
    let (request, drive, step) = (named(&spans, "request"), named(&spans, "drive"), named(&spans, "step"));
    let (root, within) = (named(&spans, "root"), named(&spans, "within"));
    let run = RUN.to_be_bytes().to_vec();
    for span in [drive, step, root] {
        assert_eq!(span.trace_id, run);
        assert_eq!(text(span, "neuralhub.run.id").as_deref(), Some("01a2143c-e712-7034-9633-9a3c07c6c79c"));
    }
    assert!(request.trace_id != run && request.parent_span_id.is_empty() && request.attributes.is_empty());
    assert_eq!((root.span_id.as_slice(), root.parent_span_id.as_slice()), (&run[8..], &[][..]));
    assert_eq!((&drive.parent_span_id, &step.parent_span_id), (&root.span_id, &drive.span_id));
    assert_eq!(root.start_time_unix_nano, 5_000_000);
    assert_eq!((&drive.links[0].trace_id, &drive.links[0].span_id), (&request.trace_id, &request.span_id));
    assert_eq!(within.trace_id, OTHER_RUN.to_be_bytes());
    assert_eq!(within.parent_span_id, OTHER_RUN.to_be_bytes()[8..]);
}

#[tokio::test]
async fn a_traceparent_decides_whether_a_request_is_told_and_the_ratio_about_the_rest() {
    let make = |flags: &'static str| {
        move || {
            let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            let request = info_span!(target: TARGET, "request", trace.parent = parent.as_str()).entered();
            drop(info_span!(target: TARGET, "call"));
            drop(info_span!(target: TARGET, "drive", trace.run = RUN));
            drop(request);
            drop(info_span!(target: TARGET, "alone", trace.parent = "nonsense"));
        }
    };
    let names = |spans: &[Span]| spans.iter().map(|span| span.name.clone()).collect::<Vec<_>>();
    let taken = told(0.0, make("01")).await;
    assert_eq!(names(&taken), ["call", "request"]);
    assert_eq!(taken[1].parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(names(&told(1.0, make("00")).await), ["drive", "alone"]);
}

#[tokio::test]
async fn what_is_told_is_short_and_a_failure_is_marked() {
    let spans = told(1.0, || {
        let span = info_span!(target: TARGET, "plain", otel.name = %"x".repeat(999), otel.kind = "client",
            long = %"ä".repeat(999), error.type = Empty, empty = Empty);
        span.record("error.type", "timeout");
        span.record("error.type", "cancelled");
    })
    .await;
    let span = &spans[0];
    assert_eq!((span.name.len(), text(span, "long").map(|text| text.chars().count())), (256, Some(256)));
    assert_eq!((span.kind, span.status.as_ref().map(|status| status.code)), (3, Some(2)));
    assert_eq!(text(span, "error.type").as_deref(), Some("cancelled"));
    assert_eq!(span.attributes.len(), 2, "{span:#?}");
}
