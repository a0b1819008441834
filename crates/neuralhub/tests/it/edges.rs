//! What may depend on what: the crate edges of `ARCHITECTURE.md`, who may name
//! which library, and the licences and bans of `deny.toml`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate with all that it may know of the others.
const EDGES: &[(&str, &[&str])] = &[
    ("nh-types", &[]),
    ("nh-store", &["nh-types"]),
    ("nh-http", &["nh-types"]),
    ("nh-telemetry", &["nh-types", "nh-http"]),
    ("nh-schema", &[]),
    ("nh-mcp", &["nh-types", "nh-http"]),
    ("nh-models", &["nh-types", "nh-store", "nh-http", "nh-schema"]),
    ("nh-minilm", &[]),
    ("nh-guest", &[]),
    ("nh-compute", &["nh-types", "nh-store", "nh-guest"]),
    ("nh-memory", &["nh-types", "nh-store", "nh-http", "nh-minilm"]),
    ("nh-blobs", &["nh-types", "nh-store", "nh-http"]),
    ("nh-engine", &["nh-types", "nh-store"]),
    (
        "nh-agents",
        &[
            "nh-types",
            "nh-store",
            "nh-http",
            "nh-schema",
            "nh-mcp",
            "nh-models",
            "nh-memory",
            "nh-blobs",
            "nh-compute",
            "nh-engine",
        ],
    ),
    (
        "nh-server",
        &[
            "nh-types",
            "nh-store",
            "nh-http",
            "nh-models",
            "nh-memory",
            "nh-blobs",
            "nh-compute",
            "nh-engine",
            "nh-agents",
        ],
    ),
    (
        "neuralhub",
        &[
            "nh-types",
            "nh-store",
            "nh-http",
            "nh-telemetry",
            "nh-mcp",
            "nh-models",
            "nh-memory",
            "nh-blobs",
            "nh-compute",
            "nh-engine",
            "nh-agents",
            "nh-server",
        ],
    ),
    ("nh-testkit", &["nh-types", "nh-store"]),
    ("nh-bench", &["nh-types", "nh-store", "nh-memory", "nh-minilm"]),
];

/// Libraries that only some crates may name.
const OWNED: &[(&str, &[&str])] = &[
    ("rusqlite", &["nh-store", "nh-bench"]),
    ("sqlx", &["nh-store", "nh-bench"]),
    ("axum", &["nh-server", "nh-testkit"]),
    ("hyper-rustls", &["nh-http"]),
    ("rustls", &["nh-http", "nh-store"]),
    ("object_store", &["nh-blobs"]),
    ("prost", &["nh-telemetry"]),
    ("clap", &["neuralhub", "nh-bench"]),
    ("anyhow", &["neuralhub", "nh-bench"]),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn metadata() -> Value {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn members(metadata: &Value) -> Vec<&Value> {
    let ids = metadata["workspace_members"].as_array().expect("members");
    packages(metadata).filter(|package| ids.contains(&package["id"])).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a name")
}

fn is_dev(dependency: &Value) -> bool {
    dependency["kind"] == "dev"
}

#[test]
fn crates_know_only_what_the_architecture_allows() {
    let metadata = metadata();
    let members = members(&metadata);
    let names: BTreeSet<&str> = members.iter().map(|package| name(package)).collect();
    let mut wrong = Vec::new();
    for package in &members {
        let allowed = EDGES.iter().find(|(crate_name, _)| *crate_name == name(package));
        let Some((_, allowed)) = allowed else {
            wrong.push(format!("{} is new: add it to EDGES and to ARCHITECTURE.md", name(package)));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = name(dependency);
            let is_test_kit = to == "nh-testkit" && is_dev(dependency);
            if names.contains(to) && !allowed.contains(&to) && !is_test_kit {
                wrong.push(format!("{} must not know {to}", name(package)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn libraries_are_named_only_where_they_belong() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let owners = OWNED.iter().find(|(library, _)| *library == name(dependency));
            let is_free = owners.is_none_or(|(_, owners)| owners.contains(&name(package)));
            if !is_free && !is_dev(dependency) {
                wrong.push(format!("{} must not name {}", name(package), name(dependency)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_inherits_the_lints() {
    for package in members(&metadata()) {
        let path = package["manifest_path"].as_str().expect("a path");
        let manifest: toml::Table =
            std::fs::read_to_string(path).expect("readable").parse().expect("a manifest is TOML");
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{path} lacks [lints] workspace = true"
        );
    }
}

#[test]
fn licences_and_sources_are_what_deny_toml_allows() {
    let deny: toml::Table =
        std::fs::read_to_string(root().join("deny.toml")).expect("readable").parse().expect("TOML");
    let allowed: BTreeSet<&str> = texts(&deny["licenses"]["allow"]).collect();
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    let metadata = metadata();
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in
        packages(&metadata).filter(|package| used.contains(package["id"].as_str().unwrap_or_default()))
    {
        let licence = package["license"].as_str().unwrap_or("(none)");
        if !Licence::of(licence).fits(&allowed) {
            wrong.push(format!("{}: its licence `{licence}` is not allowed", name(package)));
        }
        if banned.contains(name(package)) {
            wrong.push(format!("{} is banned", name(package)));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            wrong.push(format!("{} does not come from a registry", name(package)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn texts(list: &toml::Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(toml::Value::as_str)
}

/// An SPDX expression, read word by word.
struct Licence {
    words: Vec<String>,
    at: usize,
}

impl Licence {
    /// The slash is how old manifests wrote OR.
    fn of(text: &str) -> Self {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        Self { words: spaced.split_whitespace().map(str::to_owned).collect(), at: 0 }
    }

    fn fits(mut self, allowed: &BTreeSet<&str>) -> bool {
        self.any(allowed) && self.at == self.words.len()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self, allowed: &BTreeSet<&str>) -> bool {
        let mut is_allowed = self.all(allowed);
        while self.take("OR") {
            is_allowed |= self.all(allowed);
        }
        is_allowed
    }

    fn all(&mut self, allowed: &BTreeSet<&str>) -> bool {
        let mut is_allowed = self.one(allowed);
        while self.take("AND") {
            is_allowed &= self.one(allowed);
        }
        is_allowed
    }

    fn one(&mut self, allowed: &BTreeSet<&str>) -> bool {
        if self.take("(") {
            let is_allowed = self.any(allowed);
            return self.take(")") && is_allowed;
        }
        let is_allowed = self.words.get(self.at).is_some_and(|word| allowed.contains(word.as_str()));
        self.at += 1;
        if self.take("WITH") {
            self.at += 1; // an exception only ever allows more
        }
        is_allowed
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC"]);
    for (text, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 AND ISC", true),
        ("Apache-2.0 AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
        ("(MIT", false),
    ] {
        assert_eq!(Licence::of(text).fits(&allowed), expected, "{text}");
    }
}
