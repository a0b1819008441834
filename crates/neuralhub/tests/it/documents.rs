//! The documents say what is so: each ```sh block of a page is run, in order,
//! against a hub of its own, and a ```json block that follows one is what it
//! printed, but for ids, times and numbers that differ each time.

use std::path::{Path, PathBuf};
use std::process::Command;

use nh_testkit::mcp::McpStub;
use serde_json::Value;

use crate::hub::{TestHub, command, read, text, with_sandboxes};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Block {
    language: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                is_open = true;
                blocks.push(Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    line: index + 1,
                });
            }
            None if is_open => {
                let block = blocks.last_mut().expect("an open block");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!is_open, "a block is not closed");
    blocks
}

/// Runs a page's blocks in one shell session's environment.
fn run_page(name: &str) {
    let page = read(&root().join(name));
    let hub = match name {
        "docs/compute.md" => {
            let folder = tempfile::tempdir().expect("a folder");
            let variables = with_sandboxes(folder.path());
            TestHub::start_with(folder, &variables)
        }
        "docs/mcp-servers.md" => TestHub::start_with(
            tempfile::tempdir().expect("a folder"),
            &[("NEURALHUB__HTTP__ALLOW_NETWORKS", "[\"127.0.0.0/8\"]")],
        ),
        _ => TestHub::start(),
    };
    // A server that one page calls.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let desk = runtime.block_on(McpStub::start());
    desk.result(nh_testkit::mcp::text("Ticket 7: the printer is out of paper"));
    let mut printed: Option<String> = None;
    let mut count = 0;
    for block in blocks(&page) {
        match block.language.as_str() {
            "sh" => {
                count += 1;
                printed = Some(run_block(&hub, &desk, name, &block));
            }
            "json" => {
                let Some(printed) = printed.take() else { continue };
                let said: Value = serde_json::from_str(&block.text)
                    .unwrap_or_else(|error| panic!("{name}:{}: not JSON: {error}", block.line));
                let is: Value = serde_json::from_str(&printed)
                    .unwrap_or_else(|error| panic!("{name}:{}: not JSON: {error}: {printed}", block.line));
                if let Err(difference) = same(&said, &is, "") {
                    panic!("{name}:{}: {difference}\nprinted was:\n{is:#}", block.line);
                }
            }
            _ => printed = None,
        }
    }
    assert!(count > 0, "{name} has no example");
}

fn run_block(hub: &TestHub, desk: &McpStub, name: &str, block: &Block) -> String {
    let binary_folder = Path::new(env!("CARGO_BIN_EXE_neuralhub")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block.text])
        .current_dir(hub.folder.path())
        .env_clear()
        .env("PATH", format!("{}:{path}", binary_folder.display()))
        .env("HUB", &hub.url)
        .env("KEY", hub.key())
        .env("DESK", desk.url())
        .env("NEURALHUB_URL", &hub.url)
        .env("NEURALHUB_API_KEY", hub.key())
        .output()
        .expect("bash runs");
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{name}:{}: failed: {stdout}{}", block.line, text(&output.stderr));
    stdout
}

/// Fields that differ each time.
const VOLATILE: &[&str] = &[
    "id",
    "runId",
    "run_id",
    "request_id",
    "key",
    "prefix",
    "created_at",
    "updated_at",
    "last_used_at",
    "expires_at",
    "createdAt",
    "startedAt",
    "finishedAt",
    "since",
    "at",
    "created",
    "next_cursor",
];

/// Whether what is printed has all that the document says: `"…"` stands for
/// any text, and a list may go on after what is shown of it.
fn same(said: &Value, is: &Value, at: &str) -> Result<(), String> {
    let differ = || Err(format!("`{at}` is {is}, but the document says {said}"));
    match (said, is) {
        (Value::Object(said), Value::Object(is)) => said.iter().try_for_each(|(name, value)| {
            let here = format!("{at}.{name}");
            match is.get(name) {
                None => Err(format!("`{here}` is not there")),
                Some(other) if VOLATILE.contains(&name.as_str()) => {
                    let same_type = std::mem::discriminant(value) == std::mem::discriminant(other);
                    if same_type {
                        Ok(())
                    } else {
                        Err(format!("`{here}` is {other}, of another type than {value}"))
                    }
                }
                Some(other) => same(value, other, &here),
            }
        }),
        (Value::Array(said), Value::Array(is)) if said.len() <= is.len() => said
            .iter()
            .zip(is)
            .enumerate()
            .try_for_each(|(index, (said, is))| same(said, is, &format!("{at}[{index}]"))),
        (Value::String(pattern), Value::String(text)) => {
            let parts: Vec<&str> = pattern.split('…').collect();
            let mut rest = text.as_str();
            for (index, part) in parts.iter().enumerate() {
                match rest.find(part) {
                    Some(found) if index > 0 || found == 0 => rest = &rest[found + part.len()..],
                    _ => return differ(),
                }
            }
            if rest.is_empty() || parts.last() == Some(&"") && parts.len() > 1 { Ok(()) } else { differ() }
        }
        (said, is) if said == is => Ok(()),
        _ => differ(),
    }
}

macro_rules! pages {
    ($($test:ident $page:literal;)+) => {
        $(#[test] fn $test() { run_page($page); })+
        const RUN: &[&str] = &[$($page),+];
    };
}

pages! {
    the_readme_is_right "README.md";
    the_page_on_runs_is_right "docs/runs.md";
    the_page_on_agents_is_right "docs/agents.md";
    the_page_on_workflows_is_right "docs/workflows.md";
    the_page_on_schedules_is_right "docs/schedules.md";
    the_page_on_webhooks_is_right "docs/webhooks.md";
    the_page_on_budgets_is_right "docs/budgets.md";
    the_page_on_memory_is_right "docs/memory.md";
    the_page_on_storage_is_right "docs/storage.md";
    the_page_on_compute_is_right "docs/compute.md";
    the_page_on_tools_is_right "docs/tools.md";
    the_page_on_mcp_is_right "docs/mcp.md";
    the_page_on_mcp_servers_is_right "docs/mcp-servers.md";
    the_page_on_models_is_right "docs/models.md";
    the_page_on_keys_is_right "docs/keys.md";
    the_page_on_sessions_is_right "docs/sessions.md";
    the_page_on_errors_is_right "docs/errors.md";
    the_page_on_the_command_line_is_right "docs/cli.md";
    the_page_on_operating_is_right "docs/operating.md";
}

#[test]
fn every_page_with_an_example_is_run() {
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(root().join("docs")).expect("readable") {
        let path = entry.expect("an entry").path();
        let name = format!("docs/{}", path.file_name().expect("a name").to_string_lossy());
        let has_example =
            name.ends_with(".md") && blocks(&read(&path)).iter().any(|block| block.language == "sh");
        if has_example && !RUN.contains(&name.as_str()) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "add to `pages!`: {missing:?}");
}

#[test]
fn the_table_of_errors_is_the_code_s() {
    let page = read(&root().join("docs/errors.md"));
    let table: String = nh_types::ErrorCode::EVERY
        .iter()
        .map(|code| {
            let retry = if code.is_retryable() { "yes" } else { "no" };
            format!("| {} | `{}` | {retry} | {} |\n", code.status(), code.as_str(), code.meaning())
        })
        .collect();
    assert!(page.contains(&table), "docs/errors.md is out of date; its table should be:\n{table}");
}

#[test]
fn the_table_of_metrics_is_the_code_s() {
    let page = read(&root().join("docs/operating.md"));
    let row = |metric: &nh_server::Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (metric.kind.as_str(), labels.join(", "));
        format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.about)
    };
    let table: String = nh_server::METRICS.iter().map(row).collect();
    assert!(page.contains(&table), "docs/operating.md is out of date; its table should be:\n{table}");
    let rows = page.lines().filter(|line| line.starts_with("| `neuralhub_")).count();
    assert_eq!(rows, nh_server::METRICS.len(), "docs/operating.md lists a metric that is none");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .map(|name| root().join(name))
            .to_vec();
    let docs = std::fs::read_dir(root().join("docs")).expect("readable");
    pages.extend(docs.map(|entry| entry.expect("an entry").path()));
    let mut broken = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let content = read(page);
        let links = content.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            if !page.parent().expect("a folder").join(file).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_help_names_every_command_and_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = text(&command(folder.path()).arg("--help").output().expect("runs").stdout);
    let page = read(&root().join("docs/cli.md"));
    for line in help.lines().skip_while(|line| !line.starts_with("Exit codes")) {
        assert!(page.contains(line.trim()), "docs/cli.md lacks: {line}");
    }
}
