//! The metrics of a process, for Prometheus, and what is measured of requests.
//! No label names a workspace.

mod table;

use std::collections::HashMap;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use table::{METRICS, Metric, MetricKind};

const REQUESTS: &str = "neuralhub_http_requests_total";
const SECONDS: &str = "neuralhub_http_request_seconds";
/// Of histograms, which would be summaries without: those cannot be added up
/// over nodes.
const BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Of those that do not measure what a request or a step takes.
const OTHER_BUCKETS: [(&str, &[f64]); 4] = [
    ("neuralhub_wait_seconds", &[0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0]),
    (
        "neuralhub_memory_search_seconds",
        &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0],
    ),
    ("neuralhub_store_commit_writes", &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
    ("neuralhub_model_call_dollars", &[0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]),
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The process's metrics: what every crate counts, and how it is printed.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of this process; works once in a process, before
    /// anything that counts is made.
    pub fn install() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
            let other = OTHER_BUCKETS.iter().find(|(name, _)| *name == metric.name);
            let buckets = other.map_or(BUCKETS, |(_, buckets)| buckets);
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
        let handle = builder.install_recorder()?;
        table::describe();
        Ok(Self(handle))
    }

    /// The text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what was sampled since the last call; without it samples pile up.
    pub(crate) fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// The meters of one method of one route, made once.
pub(crate) struct Meter {
    requests: [Counter; 5],
    seconds: Histogram,
}

impl Meter {
    fn new(route: &str, method: &str) -> Self {
        let requests = CLASSES.map(|class| {
            counter!(REQUESTS, "route" => route.to_owned(), "method" => method.to_owned(), "status" => class)
        });
        let seconds = histogram!(SECONDS, "route" => route.to_owned(), "method" => method.to_owned());
        Self { requests, seconds }
    }

    pub(crate) fn count(&self, status: StatusCode, time: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].increment(1);
        self.seconds.record(time.as_secs_f64());
    }
}

/// The meters of all routes, so that a request costs two look-ups and no text.
pub(crate) struct Meters {
    routes: HashMap<String, HashMap<Method, Meter>>,
    other: Meter,
}

impl Meters {
    pub(crate) fn new(operations: impl Iterator<Item = (String, Method)>) -> Self {
        let mut routes: HashMap<String, HashMap<Method, Meter>> = HashMap::new();
        for (route, method) in operations {
            let meter = Meter::new(&route, method.as_str());
            routes.entry(route).or_default().insert(method, meter);
        }
        Self { routes, other: Meter::new("other", "other") }
    }

    pub(crate) fn of(&self, route: Option<&str>, method: &Method) -> &Meter {
        route
            .and_then(|route| self.routes.get(route))
            .and_then(|methods| methods.get(method))
            .unwrap_or(&self.other)
    }
}
