//! What is seen of each call of a tool: a span for OpenTelemetry, and the
//! counters behind `/metrics`. Only tools of the registry are told by name: a
//! model may ask for any other.

use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};
use nh_types::span::TARGET;
use tracing::Span;
use tracing::field::Empty;

use super::tool::{ToolCall, ToolError};

/// The counters of one tool.
pub(super) struct ToolMeter {
    tool: String,
    completed: Counter,
    seconds: Histogram,
}

/// A call under way. Dropped without an end it was cancelled.
pub(super) struct Watched<'m> {
    meter: &'m ToolMeter,
    span: Span,
    began: Instant,
    is_over: bool,
}

impl ToolMeter {
    pub(super) fn new(tool: &str) -> Self {
        Self {
            completed: ended(tool, "completed"),
            seconds: histogram!("neuralhub_tool_call_seconds", "tool" => tool.to_owned()),
            tool: tool.to_owned(),
        }
    }

    pub(super) fn begin(&self, call: &ToolCall<'_>) -> Watched<'_> {
        let span = tracing::info_span!(
            target: TARGET, "execute_tool",
            otel.name = format_args!("execute_tool {}", self.tool),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = self.tool,
            gen_ai.tool.type = "function",
            gen_ai.tool.call.id = call.idempotency_key,
            error.type = Empty,
        );
        Watched { meter: self, span, began: Instant::now(), is_over: false }
    }
}

impl Watched<'_> {
    pub(super) fn end(mut self, error: Option<&ToolError>) {
        self.is_over = true;
        self.meter.seconds.record(self.began.elapsed());
        match error {
            None => self.meter.completed.increment(1),
            Some(error) => {
                let outcome = if error.code == "timeout" { "timed_out" } else { "failed" };
                ended(&self.meter.tool, outcome).increment(1);
                self.span.record("error.type", error.code.as_str());
            }
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            ended(&self.meter.tool, "cancelled").increment(1);
            self.span.record("error.type", "cancelled");
        }
    }
}

fn ended(tool: &str, outcome: &'static str) -> Counter {
    counter!("neuralhub_tool_calls_total", "tool" => tool.to_owned(), "outcome" => outcome)
}
