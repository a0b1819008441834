//! `/v1/resources`: sandboxes that run code nobody trusts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::{RunId, SandboxId};
use crate::run::{UnknownWord, unknown_word};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum $name { $($(#[$of])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const EVERY: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let every = || Self::EVERY.iter().copied();
                let found = every().find(|word| word.as_str() == text);
                found.ok_or_else(|| unknown_word(text, every().map(Self::as_str)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where a sandbox is in its life.
    SandboxState {
        Starting = "starting",
        Running = "running",
        /// Nothing of it is left but how it ended.
        Stopped = "stopped",
    }
}

words! {
    /// Why a sandbox ended that nobody deleted.
    StopReason {
        /// Its life was over.
        Expired = "expired",
        /// The run that it was for ended.
        RunEnded = "run_ended",
        /// It had more in memory than it may, its files included.
        Memory = "memory",
        /// It had more processes than it may.
        Processes = "processes",
        /// The budget of its key or workspace was spent.
        BudgetSpent = "budget_spent",
        /// It ended by itself, or what isolates it did.
        Ended = "ended",
        /// It said to the hub what no sandbox says.
        BrokeProtocol = "broke_protocol",
        /// The hub was stopped while it ran.
        HubStopped = "hub_stopped",
        /// The hub that ran it is no more.
        HubLost = "hub_lost",
    }
}

words! {
    /// What isolates a sandbox from its host.
    Isolation {
        /// A virtual machine, with the processor's help (KVM).
        Microvm = "microvm",
        /// A virtual machine that is emulated (TCG).
        MicrovmEmulated = "microvm_emulated",
        /// gVisor: a kernel in user space.
        Gvisor = "gvisor",
        /// A process of the host, kept apart by its kernel alone.
        Process = "process",
    }
}

words! {
    /// Of which a sandbox keeps an interpreter.
    CodeLanguage {
        Python = "python",
        Nodejs = "nodejs",
        Bash = "bash",
    }
}

/// A sandbox as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SandboxView {
    pub id: SandboxId,
    /// Where a server inside on port 8080 can be reached, with a token that ends with the
    /// sandbox's life. Absent: it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub template: String,
    pub isolation: Isolation,
    pub state: SandboxState,
    /// Why it ended, once it has.
    pub stop_reason: Option<StopReason>,
    /// `none`: what is inside reaches no network.
    pub network: String,
    pub memory_mb: u32,
    pub cpus: f64,
    /// The run that it belongs to, and ends with.
    pub run_id: Option<RunId>,
    /// Absent: it has ended, or another node has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<SandboxUsage>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}

/// What a sandbox takes now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxUsage {
    /// Processor time since it began, in seconds, with what isolates it. Null: the host
    /// does not count it.
    pub cpu_seconds: Option<f64>,
    /// Bytes, with files in memory and with what isolates it. Null: as above.
    pub memory_bytes: Option<u64>,
    /// Commands and pieces of code that were begun.
    pub executions: u64,
}

/// `POST /v1/resources`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"template": "python-data", "env": {"MY_VAR": "value"}}))]
pub struct CreateSandbox {
    /// What it begins with: `GET /v1/templates` lists them.
    pub template: String,
    /// For all that runs in it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it lives; absent: 900.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400)]
    pub timeout_seconds: Option<u32>,
    /// Absent: what the hub is configured to give.
    #[serde(default)]
    #[schema(minimum = 64)]
    pub memory_mb: Option<u32>,
    /// Absent: what the hub is configured to give.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// `none`, and nothing else yet.
    #[serde(default)]
    pub network: Option<String>,
}

/// `PATCH /v1/resources/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"timeout_seconds": 3600}))]
pub struct ChangeSandbox {
    /// How long it lives from now on.
    #[schema(minimum = 1, maximum = 86400)]
    pub timeout_seconds: u32,
}

/// `POST /v1/resources/{id}/exec`: `code` in a `language`, or a `command`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"language": "python", "code": "x = 20\nx + 22"}))]
pub struct ExecuteInSandbox {
    #[serde(default)]
    pub language: Option<CodeLanguage>,
    /// For the interpreter that the sandbox keeps of the language: variables and imports
    /// are there for the code after it.
    #[serde(default)]
    pub code: Option<String>,
    /// A program and its arguments, which no shell reads.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// What it reads on its standard input.
    #[serde(default)]
    pub stdin: Option<String>,
    /// After so long it is killed; absent: 60.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400)]
    pub timeout_seconds: Option<u32>,
    /// Whether the answer is an event stream.
    #[serde(default)]
    pub stream: bool,
}

/// How something ended that ran in a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Execution {
    /// As shells tell it: 128 and the signal's number where one ended it.
    pub exit_code: i32,
    pub stdout: String,
    pub stderr: String,
    pub duration_ms: u64,
    /// Some of its output is left out, as it was too much.
    pub truncated: bool,
    /// The value of the last expression, figures, tables.
    pub artifacts: Vec<Artifact>,
    /// The limit that ended it: `timeout`, `memory` or `processes`; or `cancelled`.
    pub killed: Option<String>,
    /// The interpreter ended, now or since the code before, and what it kept is lost.
    pub state_reset: bool,
}

/// A value as a notebook shows it, in one or more forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// The value of the last expression; else something shown meanwhile.
    pub is_result: bool,
    /// By media type: text as it is, anything else in base64.
    pub data: BTreeMap<String, String>,
}

/// `GET /v1/resources/{id}/files/{path}` of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxFiles {
    pub entries: Vec<SandboxFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxFile {
    pub name: String,
    pub is_folder: bool,
    /// Bytes; 0 of a folder.
    pub size: u64,
}

/// `GET /v1/templates`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    pub templates: Vec<TemplateView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TemplateView {
    pub name: String,
    pub description: String,
    /// The language whose interpreter is started before anybody asks.
    pub language: Option<CodeLanguage>,
    /// Packages of Debian and of PyPI, beside those of every system.
    pub packages: Vec<String>,
    /// Whether sandboxes can begin with it: `neuralhub templates build` builds it.
    pub available: bool,
    /// Started sandboxes that wait to be asked for.
    pub warm: u32,
}
