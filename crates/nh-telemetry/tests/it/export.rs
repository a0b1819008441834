use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use nh_types::span::TARGET;
use tracing::info_span;
use tracing::subscriber::with_default;

use crate::collector::{Receiver, SILENT, telemetry};

const LONG: Duration = Duration::from_secs(30);

fn make(subscriber: impl tracing::Subscriber + Send + Sync + 'static, count: usize) {
    with_default(subscriber, || {
        for number in 0..count {
            drop(info_span!(target: TARGET, "made", number));
        }
    });
}

/// The sending with counters of its own.
fn counted(
    endpoint: &str,
) -> (nh_telemetry::Telemetry, impl tracing::Subscriber + Send + Sync, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let (telemetry, subscriber) = metrics::with_local_recorder(&recorder, || telemetry(endpoint, 1.0));
    (telemetry, subscriber, recorder.handle())
}

fn spans(handle: &PrometheusHandle, outcome: &str) -> usize {
    let text = handle.render();
    let series = format!("neuralhub_telemetry_spans_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
}

#[tokio::test]
async fn what_a_busy_collector_refuses_is_sent_again() {
    let receiver = Receiver::start(&[503]).await;
    let (telemetry, subscriber, counters) = counted(&receiver.endpoint);
    make(subscriber, 3);
    while receiver.bodies().len() < 2 {
        tokio::task::yield_now().await;
    }
    telemetry.shutdown(LONG).await;
    let bodies = receiver.bodies();
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    assert_eq!((spans(&counters, "sent"), spans(&counters, "failed")), (3, 0));
}

#[tokio::test]
async fn what_a_collector_refuses_for_good_is_given_up() {
    let receiver = Receiver::start(&[400]).await;
    let (telemetry, subscriber, counters) = counted(&receiver.endpoint);
    make(subscriber, 3);
    telemetry.shutdown(LONG).await;
    assert_eq!(receiver.bodies().len(), 1);
    assert_eq!((spans(&counters, "sent"), spans(&counters, "failed")), (0, 3));
}

#[tokio::test]
async fn a_stop_sends_all_that_waits_in_batches() {
    let receiver = Receiver::start(&[]).await;
    let (telemetry, subscriber, counters) = counted(&receiver.endpoint);
    make(subscriber, 1200);
    telemetry.shutdown(LONG).await;
    assert_eq!((receiver.spans().len(), spans(&counters, "sent")), (1200, 1200));
    assert!(receiver.bodies().len() >= 3, "{}", receiver.bodies().len());
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_spans_nor_a_stop() {
    let receiver = Receiver::start(&[SILENT]).await;
    let (telemetry, subscriber, counters) = counted(&receiver.endpoint);
    make(subscriber, 20_000);
    // The queue holds 8192; this test's one thread has sent none meanwhile.
    assert_eq!(spans(&counters, "dropped"), 20_000 - 8192);
    let begun = Instant::now();
    telemetry.shutdown(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
