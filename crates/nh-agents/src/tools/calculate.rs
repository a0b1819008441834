use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::Sender;
use fend_core::{Context, Interrupt};
use futures_util::future::BoxFuture;
use nh_types::Scope;
use nh_types::tool::Effects;
use serde_json::json;
use tokio::sync::oneshot;

use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

const MAX_EXPRESSION_CHARS: usize = 400;
const MAX_RESULT_CHARS: usize = 2_000;
const MAX_MESSAGE_CHARS: usize = 300;
const EVALUATION_MS: u64 = 1_000;
const TIMEOUT_MS: u64 = 5_000;
/// fend recurses over the expression, without a bound of its own: at the
/// longest expression it was measured to need 16 MB in a debug build. Only
/// what is touched is ever allocated.
const STACK_BYTES: usize = 64 << 20;
const THREADS: usize = 4;

/// Exact arithmetic with units, by fend.
///
/// Of fend's language only expressions are let through. Functions of the
/// user's own could recurse without end, shifts and dice are not interrupted,
/// and none of them is arithmetic.
pub(super) struct Calculate {
    spec: ToolSpec,
    /// Made at the first call.
    threads: OnceLock<Sender<Job>>,
}

/// An expression, and where its result goes.
type Job = (String, oneshot::Sender<Result<String, ToolError>>);

impl Calculate {
    pub(super) fn new() -> Self {
        Self { spec: spec(), threads: OnceLock::new() }
    }
}

impl Tool for Calculate {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let given = call.arguments["expression"].as_str().unwrap_or_default();
            let expression = checked(given)?;
            let result = self.evaluate(expression.clone()).await?;
            let (exact, result) = match result.strip_prefix("approx. ") {
                Some(rounded) => (false, rounded),
                None => (true, result.as_str()),
            };
            let sign = if exact { '=' } else { '≈' };
            let text = format!("{expression} {sign} {result}");
            Ok(ToolOutput::free(text, json!({"expression": expression, "result": result, "exact": exact})))
        })
    }
}

impl Calculate {
    async fn evaluate(&self, expression: String) -> Result<String, ToolError> {
        let failed = |message: String| ToolError::new("calculation_failed", message);
        let jobs = match self.threads.get() {
            Some(jobs) => jobs,
            None => {
                let jobs =
                    threads().map_err(|error| failed(format!("no thread to calculate on: {error}")))?;
                self.threads.get_or_init(|| jobs)
            }
        };
        let (sender, receiver) = oneshot::channel();
        // If no thread took it, the receiver says so.
        let _ = jobs.send((expression, sender));
        receiver.await.map_err(|_| failed("the calculation broke off".to_owned()))?
    }
}

/// Threads that live until the sender is dropped.
fn threads() -> io::Result<Sender<Job>> {
    // As many as there are callers: each waits for its own.
    let (jobs, queued) = crossbeam_channel::unbounded::<Job>();
    for _ in 0..THREADS {
        let queued = queued.clone();
        let work = move || {
            while let Ok((expression, answer)) = queued.recv() {
                // Nobody may be waiting any more, and a panic is one job's own.
                if !answer.is_closed()
                    && let Ok(result) = catch_unwind(|| evaluate(&expression))
                {
                    let _ = answer.send(result);
                }
            }
        };
        thread::Builder::new().name("calculate".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
    }
    Ok(jobs)
}

struct Deadline(Instant);

impl Interrupt for Deadline {
    fn should_interrupt(&self) -> bool {
        Instant::now() >= self.0
    }
}

fn evaluate(expression: &str) -> Result<String, ToolError> {
    let deadline = Deadline(Instant::now() + Duration::from_millis(EVALUATION_MS));
    let result = fend_core::evaluate_with_interrupt(expression, &mut Context::new(), &deadline);
    match result {
        Ok(result) if result.get_main_result().is_empty() => Err(invalid(expression, "it gives no value")),
        Ok(result) if result.get_main_result().len() > MAX_RESULT_CHARS => {
            let digits = result.get_main_result().len();
            Err(ToolError::new(
                "result_too_long",
                format!(
                    "the result has {digits} characters, more than {MAX_RESULT_CHARS}; ask for a smaller number"
                ),
            ))
        }
        Ok(result) => Ok(result.get_main_result().to_owned()),
        Err(message) if message == "interrupted" => Err(ToolError::new(
            "timeout",
            format!(
                "`{expression}` takes longer than {EVALUATION_MS} ms to calculate; ask for smaller numbers"
            ),
        )),
        Err(message) => Err(invalid(expression, &message)),
    }
}

fn invalid(expression: &str, message: &str) -> ToolError {
    let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    ToolError::new("invalid_expression", format!("`{expression}` cannot be calculated: {message}"))
}

/// The expression without the decoration that people put around it, or what
/// must not be in one.
fn checked(given: &str) -> Result<String, ToolError> {
    let expression = given.trim().trim_end_matches(['=', '?', ' ']).replace(" x ", " * ");
    if expression.is_empty() {
        return Err(invalid(given.trim(), "it is empty"));
    }
    if expression.chars().count() > MAX_EXPRESSION_CHARS {
        return Err(ToolError::new(
            "invalid_expression",
            format!("an expression has at most {MAX_EXPRESSION_CHARS} characters"),
        ));
    }
    match expression.chars().find(|letter| !is_arithmetic(*letter)) {
        Some(other) => Err(invalid(&expression, &format!("`{}` cannot be used here", other.escape_debug()))),
        None if has_dice(&expression) => Err(invalid(&expression, "dice cannot be rolled here")),
        None => Ok(expression),
    }
}

fn is_arithmetic(letter: char) -> bool {
    const SIGNS: &str = " +-*/^().,%!°'\"$€£¥√−×✕÷∕";
    (letter.is_alphanumeric() && letter != 'λ') || SIGNS.contains(letter)
}

/// `d6` or `3d6`: a distribution in fend, which can take seconds.
fn has_dice(expression: &str) -> bool {
    expression
        .split(|letter: char| !letter.is_alphanumeric())
        .filter_map(|word| word.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix('d'))
        .any(|sides| sides.starts_with(|letter: char| letter.is_ascii_digit()))
}

fn spec() -> ToolSpec {
    ToolSpec {
        name: "calculate".to_owned(),
        description: "Calculates an arithmetic expression exactly: sums, differences, products, quotients, \
                      powers, roots, percentages, logarithms, trigonometry, and conversion of units. Use it for \
                      every calculation instead of doing it in your head. Examples: `17 * 23`, `15% of 240`, \
                      `sqrt(2) + 2^10`, `100 km/h to mph`, `20 °C to °F`."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "description": "The arithmetic expression to calculate, with numbers, operators such as \
                                    + - * / ^ %, parentheses, functions such as sqrt, ln, sin, and units. \
                                    No words around it.",
                    "minLength": 1,
                    "maxLength": MAX_EXPRESSION_CHARS,
                    "examples": ["17 * 23", "15% of 240", "100 km/h to mph"],
                },
            },
            "required": ["expression"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "expression": {"type": "string"},
                "result": {"type": "string", "description": "The value, with its unit if it has one."},
                "exact": {"type": "boolean", "description": "Whether `result` is not rounded."},
            },
            "required": ["expression", "result", "exact"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::RunWrite],
        effects: Effects::READS,
        timeout_ms: TIMEOUT_MS,
        repeatable: true,
        unavailable: None,
    }
}
