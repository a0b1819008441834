//! The planner's answers, in words.

use std::sync::Arc;

use serde_json::Value;

use super::MODEL_ID;
use super::conversation::Done;
use super::plan::Outcome;
use super::toolbox::Tool;
use super::words::{self, is_question_word, without_politeness};

/// Of one tool's output; what is longer is cut, and the answer says so.
const MAX_OUTPUT_CHARS: usize = 6_000;
/// An output up to this long stands in the same line as its question.
const MAX_INLINE_CHARS: usize = 240;
const MAX_TOOLS_NAMED: usize = 12;

/// The answer to a goal, clause by clause, in the goal's own order.
pub(super) fn write(goal: &str, told: &[(&str, Outcome)], tools: &[Arc<Tool>]) -> String {
    if let Some(answer) = small_talk(goal, told, tools) {
        return answer;
    }
    let mut paragraphs: Vec<String> = Vec::new();
    let mut is_helpless = false;
    for (clause, outcome) in told {
        paragraphs.push(match outcome {
            Outcome::Output { tool, text } => of_output(clause, tool, text),
            Outcome::Cannot(reason) if reason.is_empty() => {
                is_helpless = true;
                match tools.is_empty() {
                    true => format!("I cannot answer “{}”: I was given no tools.", quoted(clause)),
                    false => format!("I cannot answer “{}”: none of my tools fits it.", quoted(clause)),
                }
            }
            Outcome::Cannot(reason) => format!("I cannot do “{}”: {reason}.", quoted(clause)),
        });
    }
    if is_helpless {
        paragraphs.push(about(tools));
    }
    let is_long = paragraphs.iter().any(|paragraph| paragraph.contains('\n'));
    paragraphs.join(if is_long { "\n\n" } else { "\n" })
}

/// The outputs of calls that somebody else planned.
pub(super) fn of_calls(done: &[Done]) -> String {
    let paragraphs: Vec<String> = done
        .iter()
        .map(|made| of_output("", &made.tool, made.output.as_deref().unwrap_or_default()))
        .collect();
    paragraphs.join("\n\n")
}

fn of_output(clause: &str, tool: &str, output: &str) -> String {
    let output = output.trim();
    let headline = if clause.is_empty() { format!("{tool}:") } else { headline(clause) };
    if let Some(error) = error_in(output) {
        return format!("{headline} {tool} failed: {}", cut(&error));
    }
    if output.is_empty() {
        return format!("{headline} {tool} gave no output.");
    }
    let note = if wants_understanding(clause) { NO_UNDERSTANDING } else { "" };
    let gap = if output.contains('\n') || output.chars().count() > MAX_INLINE_CHARS { "\n" } else { " " };
    format!("{headline}{gap}{}{note}", cut(output))
}

const NO_UNDERSTANDING: &str = "\n(I am not a language model: this is the text as the tool gave it.)";

/// Whether a clause asks for more than a tool's output: to understand it.
fn wants_understanding(clause: &str) -> bool {
    let lower = clause.to_lowercase();
    ["summar", "translat", "explain", "in one sentence", "in your own words", "analyse", "analyze", " count "]
        .iter()
        .any(|word| lower.contains(word))
}

/// `What is 17 * 23?` or `Calculate 15% of 240:`.
fn headline(clause: &str) -> String {
    let clause = quoted(clause);
    let asked = without_politeness(&clause);
    let asked = if asked.is_empty() { clause.as_str() } else { asked };
    let first = words::words(asked).first().map(|word| word.text.to_lowercase()).unwrap_or_default();
    let mut letters = asked.chars();
    let capital: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let end = if is_question_word(&first) { '?' } else { ':' };
    format!("{capital}{}{end}", letters.as_str())
}

fn quoted(clause: &str) -> String {
    let is_edge =
        |letter: char| letter.is_whitespace() || matches!(letter, '.' | '?' | '!' | ',' | ':' | ';');
    let one_line = clause.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = one_line.trim_matches(is_edge).chars().take(300).collect();
    shown
}

fn cut(output: &str) -> String {
    let total = output.chars().count();
    if total <= MAX_OUTPUT_CHARS {
        return output.to_owned();
    }
    let kept: String = output.chars().take(MAX_OUTPUT_CHARS).collect();
    format!("{kept}… (cut: {} more characters)", total - MAX_OUTPUT_CHARS)
}

/// What went wrong, when an output says so: `{"error": …}` or `error: …`.
pub(super) fn error_in(output: &str) -> Option<String> {
    if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(output)
        && let Some(error) = object.get("error").filter(|error| !error.is_null())
    {
        let message = error.as_str().or_else(|| error.get("message")?.as_str());
        return Some(message.map_or_else(|| error.to_string(), str::to_owned));
    }
    let rest = words::strip_phrase(output, "error")?;
    // `Error (code): message`, as the hub's agents tell a tool's error.
    let message = match rest.strip_prefix('(').and_then(|rest| rest.split_once("): ")) {
        Some((_, message)) => message,
        None if output[..output.len() - rest.len()].contains(':') => rest,
        None => return None,
    };
    Some(message.trim().to_owned())
}

fn small_talk(goal: &str, told: &[(&str, Outcome)], tools: &[Arc<Tool>]) -> Option<String> {
    const GREETINGS: &[&str] =
        &["hello", "hi", "hey", "hallo", "good morning", "good afternoon", "good evening", "greetings"];
    const ABOUT: &[&str] =
        &["who are you", "what are you", "what can you do", "what is your name", "help", "how do you work"];
    let nothing_done =
        told.iter().all(|(_, outcome)| matches!(outcome, Outcome::Cannot(reason) if reason.is_empty()));
    if !nothing_done {
        return None;
    }
    let lower = goal.trim().to_lowercase();
    let said = lower.trim_matches(|letter: char| !letter.is_alphanumeric());
    if said.is_empty() {
        return Some(format!("There is no goal to work on. {}", about(tools)));
    }
    let greets = GREETINGS.iter().any(|word| {
        said == *word
            || said
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with([' ', ',', '!']) && rest.len() < 24)
    });
    if greets {
        return Some(format!("Hello! {}", about(tools)));
    }
    ABOUT
        .iter()
        .any(|phrase| said == *phrase || (phrase.len() > 5 && said.ends_with(phrase)))
        .then(|| about(tools))
}

/// What this model is, and what it can do with the tools at hand.
fn about(tools: &[Arc<Tool>]) -> String {
    let own = format!(
        "I am {MODEL_ID}, the hub's built-in planner. I am not a language model: I pick tools by the words of a goal \
         and report what they return"
    );
    let names: Vec<&str> = tools.iter().take(MAX_TOOLS_NAMED).map(|tool| tool.name.as_str()).collect();
    let tools = match names.as_slice() {
        [] => ", and this request offers me none".to_owned(),
        names => format!(". Here I have {}", names.join(", ")),
    };
    format!(
        "{own}{tools}. For anything else, configure a model provider, for example with OPENROUTER_API_KEY."
    )
}
