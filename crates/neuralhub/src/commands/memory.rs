//! `neuralhub memory`.

use std::io::Read;

use anyhow::Context;
use clap::{Args, Subcommand};
use nh_types::memory::{CreatedMemory, DeletedMemories, MemoryHit, MemoryList, MemoryView};
use nh_types::{RunId, Timestamp};
use serde_json::{Value, json};

use super::{memory_lines, memory_model};
use crate::cli::ClientArgs;
use crate::client::{Client, segment, with_query};
use crate::exit::Failure;
use crate::output::{self, Waiting};

/// Of a content, in a table.
const SHORT_CHARS: usize = 100;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Memory {
    #[command(subcommand)]
    command: Option<MemoryCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum MemoryCommand {
    /// List memories, newest first
    List(List),
    /// Remember something
    Add(Add),
    /// Find what was remembered, by its meaning
    Search(Search),
    /// Show a memory
    Get(One),
    /// Forget memories: by their ids, or all of a namespace, a filter or a run
    Delete(Delete),
    /// Remember what a file has on each line; repeating it adds nothing twice
    Import(memory_lines::Import),
    /// Write memories, one a line: what `import` takes
    Export(memory_lines::Export),
    /// Show what memories are embedded by, or have all embedded by another model
    Model(memory_model::Model),
}

/// Which memories are meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Those of this namespace; `*`: of all [default: `default`, with --run all]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Those whose metadata match, such as {"topic": "travel"}
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Those that this run wrote
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Add {
    /// What to remember; `-` is stdin
    content: String,
    /// Where [default: `default`]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// What to filter by later, as a JSON object
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// When to forget it, such as 2030-01-31T12:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    expires_at: Option<Timestamp>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Search {
    /// What to look for, in words or as a question
    question: String,
    /// At most so many, 1 to 100
    #[arg(long, default_value_t = 10)]
    limit: u32,
    /// Only in this namespace; `*`: in all [default: `default`]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only those whose metadata match, such as {"topic": "travel"}
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Only those that are so near, -1 to 1
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    min_similarity: Option<f64>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct One {
    /// The memory's id, mem_…
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Delete {
    /// The memories' ids, mem_…
    #[arg(value_name = "ID", conflicts_with_all = ["namespace", "filter", "run"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    client: ClientArgs,
}

impl Memory {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => self.list.perform().await,
            Some(MemoryCommand::List(list)) => list.perform().await,
            Some(MemoryCommand::Add(add)) => add.perform().await,
            Some(MemoryCommand::Search(search)) => search.perform().await,
            Some(MemoryCommand::Get(one)) => one.show().await,
            Some(MemoryCommand::Delete(delete)) => delete.perform().await,
            Some(MemoryCommand::Import(import)) => import.perform().await,
            Some(MemoryCommand::Export(export)) => export.perform().await,
            Some(MemoryCommand::Model(model)) => model.perform().await,
        }
    }
}

fn checked_filter(given: Option<&String>) -> Result<Option<String>, Failure> {
    given.map(|text| Ok(output::parsed("--filter", text)?.to_string())).transpose()
}

impl Which {
    fn is_given(&self) -> bool {
        self.namespace.is_some() || self.filter.is_some() || self.run.is_some()
    }

    pub(super) fn path(&self, path: &str, limit: Option<u32>) -> Result<String, Failure> {
        let parameters = [
            ("namespace", self.namespace.clone()),
            ("filter", checked_filter(self.filter.as_ref())?),
            ("run_id", self.run.map(|run_id| run_id.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        Ok(with_query(path, &parameters))
    }
}

fn path(id: &str) -> String {
    format!("/v1/memory/{}", segment(id))
}

fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

impl List {
    async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let path = self.which.path("/v1/memory", Some(self.limit))?;
        if self.client.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let list: MemoryList = client.get(&path).await?;
        let rows = list.memories.into_iter().map(|memory| {
            let MemoryView { id, content, namespace, created_at, expires_at, .. } = memory;
            let content = output::short(&content, SHORT_CHARS);
            [id.to_string(), namespace, created_at.to_string(), shown(expires_at), content]
        });
        output::table(["MEMORY", "NAMESPACE", "CREATED", "EXPIRES", "CONTENT"], rows, "No memories.")
    }
}

impl Add {
    async fn perform(self) -> Result<(), Failure> {
        let content = if self.content == "-" { stdin()? } else { self.content };
        let mut body = json!({"content": content});
        if let Some(metadata) = &self.metadata {
            body["metadata"] = output::parsed("--metadata", metadata)?;
        }
        if let Some(namespace) = self.namespace {
            body["namespace"] = namespace.into();
        }
        if let Some(expires_at) = self.expires_at {
            body["expires_at"] = expires_at.to_string().into();
        }
        let client = Client::new(&self.client)?;
        let waiting = Waiting::start("remembering");
        let (added, is_new) = client.create::<Value>("/v1/memory", &body).await?;
        drop(waiting);
        if self.client.output.json {
            return output::json(&added);
        }
        let added: CreatedMemory = serde_json::from_value(added).map_err(anyhow::Error::new)?;
        if !is_new {
            output::note(format!("that was remembered already, at {}", added.created_at));
        }
        output::line(added.id.as_str())
    }
}

/// Without the line break that ends most files.
fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("stdin cannot be read")?;
    let content = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(content.map(str::to_owned).unwrap_or(text))
}

impl Search {
    async fn perform(self) -> Result<(), Failure> {
        let parameters = [
            ("q", Some(self.question)),
            ("limit", Some(self.limit.to_string())),
            ("namespace", self.namespace),
            ("filter", checked_filter(self.filter.as_ref())?),
            ("min_similarity", self.min_similarity.map(|least| least.to_string())),
        ];
        let client = Client::new(&self.client)?;
        let waiting = Waiting::start("searching");
        let found = client.get::<Value>(&with_query("/v1/memory/search", &parameters)).await?;
        drop(waiting);
        if self.client.output.json {
            return output::json(&found);
        }
        let hits: Vec<MemoryHit> = serde_json::from_value(found).map_err(anyhow::Error::new)?;
        let rows = hits.into_iter().map(|hit| {
            let MemoryHit { id, content, similarity, namespace, .. } = hit;
            [id.to_string(), format!("{similarity:.2}"), namespace, output::short(&content, SHORT_CHARS)]
        });
        output::table(["MEMORY", "SIMILARITY", "NAMESPACE", "CONTENT"], rows, "Nothing is remembered there.")
    }
}

impl One {
    async fn show(self) -> Result<(), Failure> {
        let memory = Client::new(&self.client)?.get::<Value>(&path(&self.id)).await?;
        if self.client.output.json {
            return output::json(&memory);
        }
        let memory: MemoryView = serde_json::from_value(memory).map_err(anyhow::Error::new)?;
        let run = memory.source.run_id.map_or_else(|| "-".to_owned(), |run_id| run_id.to_string());
        let fields = [
            ("id", memory.id.to_string()),
            ("namespace", memory.namespace),
            ("metadata", Value::Object(memory.metadata).to_string()),
            ("created", memory.created_at.to_string()),
            ("updated", memory.updated_at.to_string()),
            ("expires", shown(memory.expires_at)),
            ("by", memory.source.created_by),
            ("run", run),
            ("content", memory.content),
        ];
        fields
            .into_iter()
            .try_for_each(|(name, value)| output::line(format!("{name:14}{}", output::printable(&value))))
    }
}

impl Delete {
    async fn perform(self) -> Result<(), Failure> {
        if self.ids.is_empty() && !self.which.is_given() {
            let help =
                "say which memories: their ids, or --namespace, --filter or --run; `--namespace '*'` is all";
            return Err(Failure::Usage(help.to_owned()));
        }
        let client = Client::new(&self.client)?;
        for id in &self.ids {
            client.delete(&path(id)).await?;
            output::note(format!("{id} is deleted"));
        }
        if !self.ids.is_empty() {
            return Ok(());
        }
        let waiting = Waiting::start("deleting");
        let deleted: DeletedMemories = client.delete_which(&self.which.path("/v1/memory", None)?).await?;
        drop(waiting);
        if self.client.output.json {
            return output::json(&deleted);
        }
        output::note(format!("{} memories are deleted", deleted.deleted));
        Ok(())
    }
}
