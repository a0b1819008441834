//! What goes to stdout: tables on a terminal, JSON for scripts.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Failure;

/// Prints a line; a closed pipe ends the command quietly.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    fragment(text.as_ref())?;
    fragment("\n")
}

/// Prints a piece of a line at once.
pub fn fragment(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints what a file would hold.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Other(anyhow::Error::new(error).context("stdout cannot be written")),
    })
}

pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?)
}

/// Says something to the person, beside the answer.
#[allow(clippy::print_stderr)] // the one place
pub fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// A table with a heading; with `none` instead when it would be empty.
pub fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    none: &str,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading);
    table.set_content_arrangement(if io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    let mut is_empty = true;
    for row in rows {
        is_empty = false;
        table.add_row(row.map(|cell| printable(&cell)));
    }
    if is_empty {
        note(none);
        return Ok(());
    }
    // The preset keeps a column's distance on the left too.
    table.lines().try_for_each(|row| line(row.strip_prefix(' ').unwrap_or(&row).trim_end()))
}

/// Text without what could move the terminal's cursor or colours: names and
/// outputs come from other people and from models.
pub fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
}

/// JSON that was typed.
pub fn parsed(what: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{what} must be JSON: {error}")))
}

/// The first `length` characters on one line.
pub fn short(text: &str, length: usize) -> String {
    let flat = printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    match flat.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

/// A number of bytes, such as `4.20 MB`.
pub fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// Asks on a terminal, and takes only a clear yes for one. Nobody is asked where
/// there is none.
pub fn is_confirmed(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    note(format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A spinner on a terminal, for what takes over a second; nothing elsewhere.
pub struct Waiting {
    bar: ProgressBar,
}

impl Waiting {
    pub fn start(text: impl Into<String>) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar }
    }

    pub fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Prints a line on stderr above the spinner.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bar.suspend(|| note(text));
    }
}

/// What a [`Progress`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Memories,
    /// Of work whose steps take unlike times.
    Percent,
}

/// How far something is, on a terminal; nothing elsewhere.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of `total`, where that is known.
    pub fn start(unit: Unit, total: Option<u64>) -> Self {
        let (position, of) = match unit {
            Unit::Bytes => {
                ("{decimal_bytes}", "{decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}")
            }
            Unit::Memories => ("{human_pos}", "{human_pos} of {human_len}"),
            Unit::Percent => ("{pos} %", "{pos} %"),
        };
        let template = match total {
            // How long steps are that come is not known from those before.
            Some(_) if unit == Unit::Percent => format!("[{{bar:30}}] {of} ({{elapsed}})  {{msg}}"),
            Some(_) => format!("[{{bar:30}}] {of}, {{eta}} left  {{msg}}"),
            None => format!("{{spinner}} {position} ({{elapsed}})  {{msg}}"),
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Self { bar }
    }

    /// Where stdout is the terminal too, what is printed there would be torn.
    pub fn hide(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    pub fn more(&self, count: u64) {
        self.bar.inc(count);
    }

    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Prints a line on stderr above it.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bar.suspend(|| note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
