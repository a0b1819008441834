//! Memory search and its parts, in process: each beside what it cannot do
//! without. The embeddings of the scan are made up; no model is asked.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Parser;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use nh_bench::baseline;
use nh_bench::load::quantile_ms;
use nh_bench::memory::{Codes, Vectors, content};
use nh_bench::report::{Figures, machine};
use nh_memory::{Author, Memories, MemoriesSetup, MemorySettings, Query, Remote, Weights};
use nh_minilm::MiniLm;
use nh_store::Store;
use nh_store::memories::{self, Add, NewMemory, Selection};
use nh_store::workspaces::{self, Workspace};
use nh_types::agent::AgentDefinition;
use nh_types::memory::CreateMemory;
use nh_types::{ApiError, Clock, MemoryId, SystemClock, SystemIds, WorkspaceId};

const MODEL: &str = "made-up/384";
const HITS: usize = 10;

#[derive(Parser)]
struct Options {
    /// Memories in the large workspace, and in the hundred small ones together.
    #[arg(long, default_value_t = 100_000)]
    memories: usize,
    #[arg(long, default_value_t = 1000)]
    searches: usize,
    /// The directory of the local model's files.
    #[arg(long, default_value = ".models/all-MiniLM-L6-v2")]
    weights: PathBuf,
}

/// Gives the embedding that a text names by its number.
struct Numbered<'v>(&'v Vectors);

impl Remote for Numbered<'_> {
    fn embed<'a>(&'a self, _: &'a str, texts: Vec<String>) -> BoxFuture<'a, Result<Vec<Vec<f32>>, ApiError>> {
        let number = |text: &String| text.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let vectors = texts.iter().map(|text| self.0.row(number(text) % self.0.len()).to_vec()).collect();
        Box::pin(std::future::ready(Ok(vectors)))
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    embedding(&options)?;
    let directory = tempfile::tempdir_in("target")?;
    let store = Store::open_sqlite(&directory.path().join("memory.db")).await?;
    let vectors = Vectors::new(options.memories, 1);
    let large = workspace(&store, "large").await?;
    fill(&store, &large, &vectors, 0..options.memories).await?;
    let before = resident_mb()?;
    let memories = open(&store);
    let questions = Vectors::like(&vectors, options.searches, 2);
    let began = Instant::now();
    search(&memories, &large, &questions, 0).await?;
    println!("{:<58} {:>8.0} ms", "rebuild, with the first search", began.elapsed().as_secs_f64() * 1000.0);
    let per_row = (resident_mb()? - before) * 1024.0 * 1024.0 / options.memories as f64;
    println!("{:<58} {per_row:>8.0} bytes", "resident, a memory");
    searches((&store, &memories), &large, &vectors, &questions).await?;
    adds(&memories, &large, &questions, directory.path()).await?;

    let mut small = Vec::new();
    for number in 0..100 {
        let workspace_id = workspace(&store, &format!("small-{number}")).await?;
        let rows = options.memories / 100;
        fill(&store, &workspace_id, &vectors, number * rows..(number + 1) * rows).await?;
        small.push(workspace_id);
    }
    small_searches(&memories, &small, &questions).await?;
    store.close().await;
    Ok(())
}

#[allow(clippy::print_stdout)]
fn embedding(options: &Options) -> anyhow::Result<()> {
    let before = resident_mb()?;
    let began = Instant::now();
    let model = MiniLm::load(&options.weights)?;
    println!("{:<58} {:>8.0} ms", "the local model, loaded", began.elapsed().as_secs_f64() * 1000.0);
    let short = "What does Mara prefer to drink in the morning?";
    for (name, texts) in [("a short question embedded", vec![short]), ("8 of them together", vec![short; 8])]
    {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            let embedded = model.embed(&texts).map_err(|error| anyhow!("{error}"))?;
            times.push(began.elapsed());
            ensure!(embedded[0].tokens == 12, "{} tokens", embedded[0].tokens);
        }
        tell(name, &mut times);
    }
    println!("{:<58} {:>8.0} MB", "resident, the local model", resident_mb()? - before);
    Ok(())
}

fn open(store: &Store) -> Memories {
    Memories::new(MemoriesSetup {
        store: store.clone(),
        weights: Weights::new(PathBuf::new(), None),
        default_model: MODEL.to_owned(),
        settings: &MemorySettings::default(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
    })
}

async fn workspace(store: &Store, name: &str) -> anyhow::Result<WorkspaceId> {
    let id = WorkspaceId::generate(&SystemIds);
    let workspace = Workspace { id: id.clone(), name: name.to_owned(), created_at: SystemClock.now() };
    let default_agent = AgentDefinition::default_agent();
    store.write(workspaces::Create { workspace, default_agent }).await?;
    Ok(id)
}

async fn fill(
    store: &Store,
    workspace_id: &WorkspaceId,
    vectors: &Vectors,
    rows: std::ops::Range<usize>,
) -> anyhow::Result<()> {
    let add = |row: usize| {
        let content = content(row);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(row as u64).to_le_bytes());
        let memory = NewMemory {
            workspace_id: workspace_id.clone(),
            id: MemoryId::generate(&SystemIds),
            namespace: "default".to_owned(),
            content,
            hash,
            metadata: serde_json::Map::from_iter([("row".to_owned(), row.into())]),
            expires_at: None,
            created_by: "key:1".to_owned(),
            run_id: None,
            step: None,
            at: SystemClock.now(),
        };
        let embedded = memories::Vectors {
            model: MODEL.to_owned(),
            dimensions: Vectors::WIDTH as u32,
            values: vectors.row(row).to_vec(),
        };
        store.write(Add { memory, vectors: Some(embedded) })
    };
    let mut added = futures_util::stream::iter(rows).map(add).buffer_unordered(512);
    while let Some(added) = added.next().await {
        added?;
    }
    Ok(())
}

async fn search(
    memories: &Memories,
    workspace_id: &WorkspaceId,
    questions: &Vectors,
    number: usize,
) -> anyhow::Result<Vec<usize>> {
    let remote = Numbered(questions);
    let author = Author { workspace_id, created_by: "key:1", run: None, remote: &remote };
    let query = Query {
        text: format!("question {number}"),
        limit: HITS,
        min_similarity: None,
        namespace: Some("default".to_owned()),
        filter: None,
    };
    let hits = memories.search(author, query).await?;
    let row = |hit: &nh_types::memory::MemoryHit| hit.metadata["row"].as_u64().map(|row| row as usize);
    hits.iter().map(row).collect::<Option<_>>().context("a hit without its row")
}

/// The search, in turns with a bare scan of the same codes.
#[allow(clippy::print_stdout)]
async fn searches(
    (store, memories): (&Store, &Memories),
    workspace_id: &WorkspaceId,
    vectors: &Vectors,
    questions: &Vectors,
) -> anyhow::Result<()> {
    let codes = Codes::of(vectors);
    let (mut whole, mut bare, mut revision, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let described = memories::describe(store, workspace_id, &Selection::default(), "", 20_000).await?;
    let (mut found, mut wanted) = (0, 0);
    for number in 0..questions.len() {
        let began = Instant::now();
        let hits = search(memories, workspace_id, questions, number).await?;
        whole.push(began.elapsed());
        let began = Instant::now();
        let best = codes.best(questions.row(number), 4 * HITS);
        bare.push(began.elapsed());
        ensure!(!best.is_empty(), "the bare scan found nothing");
        let began = Instant::now();
        memories::space(store, workspace_id).await?;
        revision.push(began.elapsed());
        let ids: Vec<MemoryId> = (0..4 * HITS)
            .map(|place| described[(number * 7919 + place * 499) % described.len()].id.clone())
            .collect();
        let began = Instant::now();
        memories::find_many(store, workspace_id, MODEL, &ids).await?;
        back.push(began.elapsed());
        if number % 5 == 0 {
            let exact: HashSet<usize> = vectors.best(questions.row(number), HITS).into_iter().collect();
            wanted += exact.len();
            // The order is not the cosine's alone; what is found is compared.
            found += hits.iter().filter(|row| exact.contains(row)).count();
        }
    }
    let whole = tell("search, without embedding the question", &mut whole);
    tell("of it: the workspace's revision read", &mut revision);
    tell("forty memories read back, as for a search with a filter", &mut back);
    let bare = tell("a bare int8 scan of the same rows", &mut bare);
    println!(
        "{:<58} {:>8.2} × p50, {:.2} × p99",
        "search beside the scan",
        whole.0 / bare.0,
        whole.1 / bare.1
    );
    println!("{:<58} {:>8.4}", "recall@10 against exact f32", f64::from(found as u32) / wanted as f64);
    Ok(())
}

async fn small_searches(
    memories: &Memories,
    workspaces: &[WorkspaceId],
    questions: &Vectors,
) -> anyhow::Result<()> {
    for workspace_id in workspaces {
        search(memories, workspace_id, questions, 0).await?;
    }
    let mut times = Vec::new();
    for number in 0..questions.len() {
        let began = Instant::now();
        search(memories, &workspaces[number % workspaces.len()], questions, number).await?;
        times.push(began.elapsed());
    }
    tell("search of 1 of 100 workspaces", &mut times);
    Ok(())
}

/// One add after the other, each durable, beside bare durable commits.
#[allow(clippy::print_stdout)]
async fn adds(
    memories: &Memories,
    workspace_id: &WorkspaceId,
    questions: &Vectors,
    directory: &std::path::Path,
) -> anyhow::Result<()> {
    let remote = Numbered(questions);
    let author = Author { workspace_id, created_by: "key:1", run: None, remote: &remote };
    let add = |number: usize| {
        let content = format!("another memory, which was added one by one, number {number}");
        let new = CreateMemory { content, metadata: None, namespace: None, expires_at: None };
        memories.add(author, new, None)
    };
    let mut figures = Figures::default();
    for round in 0..5 {
        let mut times = Vec::new();
        for number in 0..300 {
            let began = Instant::now();
            add(round * 1000 + number).await?;
            times.push(began.elapsed());
        }
        times.sort();
        figures.add("a durable add, without embedding (ms, p50)", quantile_ms(&times, 0.5));
        let mut bare = baseline::commits(directory, 1.0).await?;
        bare.sort();
        figures.add("a bare durable commit of one row (ms, p50)", quantile_ms(&bare, 0.5));
        let began = Instant::now();
        let many = (0..2000).map(|number| add(10_000 + round * 10_000 + number));
        let mut many = futures_util::stream::iter(many).buffer_unordered(64);
        while let Some(added) = many.next().await {
            added?;
        }
        figures.add("adds a second, 64 at a time", 2000.0 / began.elapsed().as_secs_f64());
    }
    figures.print();
    Ok(())
}

/// The p50 and the p99, in ms.
#[allow(clippy::print_stdout)]
fn tell(name: &str, times: &mut [Duration]) -> (f64, f64) {
    times.sort();
    let (p50, p99) = (quantile_ms(times, 0.5), quantile_ms(times, 0.99));
    println!("{name:<58} {p50:>8.2} ms p50, {p99:.2} ms p99");
    (p50, p99)
}

/// Of this process.
fn resident_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
