//! What is seen of each model call: a span for OpenTelemetry, by its
//! conventions for generative AI, and the counters behind `/metrics`.

use std::sync::Arc;
use std::time::Instant;

use nh_types::model::Usage;
use nh_types::span::TARGET;
use serde_json::{Map, Value};
use tracing::Span;
use tracing::field::Empty;

use crate::catalogue::Model;
use crate::meters::{CallMeter, Meters};
use crate::passed::Answer;
use crate::provider::Provider;
use crate::{Completion, ModelError, ProviderKind, offline};

/// Of what a provider says of an answer.
const MAX_SPAN_BYTES: usize = 256;
const MAX_SPAN_CHOICES: usize = 128;

/// A call under way. Dropped without an end it was left: its caller went away,
/// or was cancelled.
pub(crate) struct Call {
    span: Span,
    meter: Arc<CallMeter>,
    /// To be counted by its own name from now on, if it is answered.
    unlisted: Option<(Meters, String)>,
    began: Instant,
    is_over: bool,
}

/// What a call does, in the words of the conventions.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Chat,
    ChatStream,
    Embeddings,
}

impl Operation {
    const fn word(self) -> &'static str {
        match self {
            Self::Chat | Self::ChatStream => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}

impl Call {
    pub(crate) fn begin(meters: &Meters, operation: Operation, provider: &Provider, model: &Model) -> Self {
        let name = provider.name();
        let is_own = provider.own().is_some();
        let meter = match is_own {
            true => meters.of_own_providers(),
            false => meters.of(name, &model.view.id, model.is_listed),
        };
        let unlisted = (!model.is_listed && !is_own).then(|| (meters.clone(), model.view.id.clone()));
        let (server, port) = provider.server();
        let span = tracing::info_span!(
            target: TARGET, "chat",
            otel.name = format_args!("{} {}", operation.word(), model.upstream_id),
            otel.kind = "client",
            gen_ai.operation.name = operation.word(),
            gen_ai.provider.name = well_known_name(provider),
            gen_ai.request.model = model.upstream_id,
            gen_ai.request.stream = matches!(operation, Operation::ChatStream).then_some(true),
            server.address = server,
            server.port = port,
            neuralhub.provider = name,
            gen_ai.response.id = Empty,
            gen_ai.response.model = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.response.time_to_first_chunk = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            gen_ai.usage.reasoning.output_tokens = Empty,
            neuralhub.cost_usd = Empty,
            error.type = Empty,
        );
        Self { span, meter, unlisted, began: Instant::now(), is_over: false }
    }

    /// Of a built-in model, which is no other process.
    pub(crate) fn begin_built_in(meters: &Meters, operation: Operation, model: &'static str) -> Self {
        let span = tracing::info_span!(
            target: TARGET, "chat",
            otel.name = format_args!("{} {model}", operation.word()),
            otel.kind = "internal",
            gen_ai.operation.name = operation.word(),
            gen_ai.provider.name = offline::PROVIDER,
            gen_ai.request.model = model,
            gen_ai.request.stream = matches!(operation, Operation::ChatStream).then_some(true),
            gen_ai.response.id = Empty,
            gen_ai.response.model = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            neuralhub.cost_usd = Empty,
            error.type = Empty,
        );
        let meter = meters.of(offline::PROVIDER, model, true);
        Self { span, meter, unlisted: None, began: Instant::now(), is_over: false }
    }

    pub(crate) fn meter(&self) -> &Arc<CallMeter> {
        &self.meter
    }

    /// The first bytes of a stream are here.
    pub(crate) fn first_chunk(&self) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.meter.first_chunk(seconds);
        self.span.record("gen_ai.response.time_to_first_chunk", seconds);
    }

    /// It is over, and `usage` is what it used.
    pub(crate) fn succeed(mut self, usage: &Usage) {
        self.is_over = true;
        if let Some((meters, model)) = self.unlisted.take() {
            meters.admit(&self.meter, model);
        }
        self.meter.succeeded(self.began.elapsed());
        let span = &self.span;
        span.record("gen_ai.usage.input_tokens", usage.input_tokens);
        span.record("gen_ai.usage.output_tokens", usage.output_tokens);
        if usage.cached_tokens > 0 {
            span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
        }
        if usage.reasoning_tokens > 0 {
            span.record("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens);
        }
        if let Some(cost_usd) = usage.cost_usd {
            span.record("neuralhub.cost_usd", cost_usd);
        }
    }

    pub(crate) fn fail(mut self, error: &ModelError) {
        self.is_over = true;
        self.meter.failed(error.word(), self.began.elapsed());
        self.span.record("error.type", error.word());
    }

    /// The end of a call whose answer comes whole.
    pub(crate) fn end(self, answer: &Result<Completion, ModelError>) {
        match answer {
            Ok(completion) => {
                Self::tell(&self.span, &completion.body);
                self.succeed(&completion.usage);
            }
            Err(error) => self.fail(error),
        }
    }

    /// The same, where the answer may be the provider's text.
    pub(crate) fn end_with(self, answer: &Result<Answer, ModelError>) {
        match answer {
            Ok(answer) => {
                match answer {
                    Answer::Mended(completion) => Self::tell(&self.span, &completion.body),
                    Answer::Passed { text, .. } if !self.span.is_disabled() => {
                        if let Ok(body) = serde_json::from_slice(text) {
                            Self::tell(&self.span, &body);
                        }
                    }
                    Answer::Passed { .. } => {}
                }
                self.succeed(answer.usage());
            }
            Err(error) => self.fail(error),
        }
    }

    /// To be told what a stream amounts to, when it has ended.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Of an answer nothing is told that it says.
    pub(crate) fn tell(span: &Span, answer: &Map<String, Value>) {
        if span.is_disabled() {
            return;
        }
        for (field, name) in [("id", "gen_ai.response.id"), ("model", "gen_ai.response.model")] {
            if let Some(text) = answer.get(field).and_then(Value::as_str) {
                let end = text.floor_char_boundary(text.len().min(MAX_SPAN_BYTES));
                span.record(name, &text[..end]);
            }
        }
        let choices = answer.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let reasons: Vec<&str> = choices
            .iter()
            .filter_map(|choice| choice["finish_reason"].as_str())
            .filter(|reason| reason.len() <= MAX_SPAN_BYTES)
            .take(MAX_SPAN_CHOICES)
            .collect();
        span.record("gen_ai.response.finish_reasons", reasons.join(","));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.meter.left();
            self.span.record("error.type", "cancelled");
        }
    }
}

/// The conventions' own word for a provider, where they have one.
fn well_known_name(provider: &Provider) -> &str {
    if !provider.settings.is_at_public_address() {
        return provider.name();
    }
    match provider.settings.kind {
        ProviderKind::Openai => "openai",
        ProviderKind::Openrouter => "openrouter",
        ProviderKind::Google => "gcp.gemini",
        ProviderKind::Anthropic => "anthropic",
    }
}
