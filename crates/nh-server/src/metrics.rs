//! What is measured of requests, for Prometheus. No label names a workspace.

use std::collections::HashMap;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "neuralhub_http_requests_total";
const SECONDS: &str = "neuralhub_http_request_seconds";
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The process's metrics: what every crate counts, and how it is printed.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of this process; works once in a process.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
        describe_counter!(REQUESTS, "Requests answered, by route, method and class of status.");
        describe_histogram!(SECONDS, "Seconds from a request's headers to its answer's headers.");
        describe_gauge!("neuralhub_runs_running", "Runs that this process drives.");
        describe_gauge!("neuralhub_runs_ready", "Runs in the queue, of all workspaces.");
        describe_gauge!("neuralhub_runs_ready_oldest_seconds", "Seconds since the oldest of them was made.");
        describe_gauge!("neuralhub_runs_asleep", "Runs that wait for a time: a delay, a deadline.");
        describe_counter!("neuralhub_runs_finished_total", "Runs that ended here, by state.");
        describe_counter!("neuralhub_steps_total", "Steps that were begun here, by kind.");
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
