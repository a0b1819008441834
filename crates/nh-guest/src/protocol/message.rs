use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Opens a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first of a channel, and the first after a snapshot went on. → `Ready`
    Prepare(Prepare),
    /// → `Ended`
    Execute(Execute),
    /// → `Ended`
    Run(Run),
    /// The guest sends `Data` and `End`. → `Done`
    ReadFile { path: String },
    /// The hub sends `Data` and `End`. A file is there whole or not at all; the
    /// folders that it is in are made. → `Done`
    WriteFile { path: String },
    /// A file, or a folder with all that is in it. → `Done`
    Remove { path: String },
    /// What is in a folder, by name. → `Entries`
    List { path: String },
    /// A connection to a server inside: both send `Data` and `End`. → `Done`
    Connect { port: u16 },
    /// → `Done`
    Ping,
}

/// What a guest has to know before anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The user and group that commands run as; absent: the guest's own.
    pub user: Option<(u32, u32)>,
    /// Where commands begin, and what paths of files begin at.
    pub home: String,
    pub env: BTreeMap<String, String>,
    /// Processes that there may be at once.
    pub max_processes: u32,
    /// Bytes that all processes together may have in memory.
    pub max_memory: u64,
    /// Of a guest in a machine of its own.
    pub renewal: Option<Renewal>,
}

/// What a machine cannot know by itself that may be one of many copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    pub unix_ms: u64,
    /// For its kernel's random numbers.
    pub seed: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Python,
    Nodejs,
    Bash,
}

/// A command, in a process of its own. The hub sends its standard input as `Data` and
/// `End` where it has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// The program and its arguments, which no shell reads.
    pub command: Vec<String>,
    pub has_stdin: bool,
    pub timeout_ms: u64,
    pub max_output: u64,
}

/// Code for the interpreter of its language, which is kept from one to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub language: Language,
    pub code: String,
    pub stdin: String,
    pub timeout_ms: u64,
    pub max_output: u64,
}

/// Ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ready { version: u32 },
    Ended(Ended),
    Done,
    Entries(Vec<Entry>),
    Failed(Failure),
}

/// How a command or some code ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As shells tell it: 128 and the signal's number where one ended the process.
    pub exit_code: i32,
    /// What killed it, where it did not end by itself.
    pub killed: Option<Killed>,
    /// Some of its output is left out, as it was more than `max_output`.
    pub truncated: bool,
    /// The interpreter ended, now or since the code before, and with it what was kept.
    pub state_reset: bool,
    pub duration_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Killed {
    Timeout,
    Memory,
    Processes,
    Cancelled,
}

/// A value that an interpreter shows, in one or more forms, as a notebook has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The value of the last expression; else something shown meanwhile.
    pub is_result: bool,
    /// By media type: text as it is, anything else in base64.
    pub data: BTreeMap<String, String>,
}

/// What is in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub is_folder: bool,
    /// Bytes; 0 of a folder.
    pub size: u64,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// What was asked for is not possible as it is.
    Invalid,
    NotFound,
    /// No room: of disk, memory or processes.
    Exhausted,
    Other,
}
