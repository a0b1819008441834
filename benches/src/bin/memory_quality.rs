//! How good memory search is, on the set in `memory/quality`: what ships (the
//! order of the answers) beside the cosine alone (the same answers by their
//! `similarity`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use http::{Method, StatusCode};
use nh_bench::hub::Hub;
use serde_json::{Value, json};

#[derive(Parser)]
struct Options {
    /// The hub; how it was built changes no figure.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value = "benches/memory/quality")]
    set: PathBuf,
    /// The directory of the local model's files.
    #[arg(long, default_value = ".models/all-MiniLM-L6-v2")]
    weights: PathBuf,
    /// Questions of this half: `tune`, `report`, or `all`.
    #[arg(long, default_value = "report")]
    half: String,
    /// Tell each question whose fact is not the first.
    #[arg(long)]
    misses: bool,
}

/// Where the wanted fact came, from 1.
#[derive(Default)]
struct Places(Vec<Option<usize>>);

impl Places {
    fn recall(&self, at: usize) -> f64 {
        let found = self.0.iter().filter(|place| place.is_some_and(|place| place <= at)).count();
        found as f64 / self.0.len() as f64
    }

    fn reciprocal_rank(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|place| place.map_or(0.0, |place| 1.0 / place as f64)).sum();
        sum / self.0.len() as f64
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let directory = tempfile::tempdir_in("target")?;
    let weights = options.weights.canonicalize().context("the weights; scripts/setup test fetches them")?;
    let config = format!("[memory]\nweights_dir = {:?}\n", weights.display().to_string());
    let hub = Hub::start(&options.binary, directory.path(), &config)?;
    let facts = lines(&options.set.join("facts.jsonl"))?;
    for fact in &facts {
        let body = json!({"content": fact["text"], "metadata": {"fact": fact["id"]}});
        let (status, answer) = hub.call(Method::POST, "/v1/memory", &body).await?;
        ensure!(status == StatusCode::CREATED, "a fact was not stored: {answer}");
    }
    let mut groups: BTreeMap<String, [Places; 2]> = BTreeMap::new();
    for question in lines(&options.set.join("questions.jsonl"))? {
        if options.half != "all" && question["half"] != *options.half {
            continue;
        }
        let (shipped, cosine) = places(&hub, &question, options.misses).await?;
        for group in [question["kind"].as_str().unwrap_or_default(), class(&question)] {
            let [ships, alone] = groups.entry(group.to_owned()).or_default();
            ships.0.push(shipped);
            alone.0.push(cosine);
        }
    }
    println!("{} facts, half: {}", facts.len(), options.half);
    println!("{:<22} {:>9}   {:^26}   {:^26}", "", "questions", "what ships", "cosine alone");
    println!("{:<32}   {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}", "", "r@1", "r@5", "MRR", "r@1", "r@5", "MRR");
    for (group, [ships, alone]) in &groups {
        print!("{group:<22} {:>9}  ", ships.0.len());
        for places in [ships, alone] {
            print!(
                " {:>8.3} {:>8.3} {:>8.3}  ",
                places.recall(1),
                places.recall(5),
                places.reciprocal_rank()
            );
        }
        println!();
    }
    Ok(())
}

/// As the targets are stated.
fn class(question: &Value) -> &'static str {
    match question["kind"].as_str().unwrap_or_default() {
        "error_code" | "file_name" => "= identifiers",
        "negation" | "near_duplicate" => "= look-alikes",
        _ => "= paraphrases",
    }
}

#[allow(clippy::print_stdout)]
async fn places(hub: &Hub, question: &Value, tells: bool) -> anyhow::Result<(Option<usize>, Option<usize>)> {
    let ask = question["ask"].as_str().context("a question without words")?;
    let words = http_query(ask);
    let (status, mut hits) =
        hub.call(Method::GET, &format!("/v1/memory/search?limit=100&q={words}"), &Value::Null).await?;
    ensure!(status == StatusCode::OK, "a search failed: {hits}");
    let place = |hits: &Value| {
        let mut hits = hits.as_array().into_iter().flatten();
        hits.position(|hit| hit["metadata"]["fact"] == question["want"]).map(|place| place + 1)
    };
    let shipped = place(&hits);
    if tells && shipped != Some(1) {
        println!("{shipped:?}: {ask}\n    got {}\n    want {}", hits[0]["content"], question["want"]);
    }
    if let Some(hits) = hits.as_array_mut() {
        let similarity = |hit: &Value| hit["similarity"].as_f64().unwrap_or_default();
        hits.sort_by(|one, other| similarity(other).total_cmp(&similarity(one)));
    }
    Ok((shipped, place(&hits)))
}

fn http_query(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes()
        .map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
