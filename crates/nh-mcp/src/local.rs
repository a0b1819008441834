//! A program of this machine (specification, "Transports", "stdio").

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nh_types::settings::redacted_values;
use rmcp::service::RoleClient;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

/// Of one message of the server.
const MAX_LINE_BYTES: usize = 4_000_000;
const MAX_NAME: usize = 32;
const MAX_LOG_LINE_BYTES: u64 = 1000;
const LAST_LINES: usize = 3;
/// After its input was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// `[[mcp_servers]]`: a program of this machine that speaks the Model Context Protocol on its
/// standard input and output. It runs as the hub does, outside of any sandbox, from when its
/// tools are first needed; remote servers are registered over the API.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalServer {
    /// What its tools' names begin with: 1 to 32 of a-z, 0-9 and `-`, a letter first.
    pub name: String,
    /// The program, by its name or its path.
    pub command: String,
    /// What it is started with. Secrets are better in `env`: others can see these.
    pub args: Vec<String>,
    /// Variables of its environment, which is otherwise empty.
    #[serde(serialize_with = "redacted_values")]
    #[schema(value_type = BTreeMap<String, String>, default = json!({}))]
    pub env: BTreeMap<String, SecretString>,
    /// Variables that it has from the hub's own environment. Absent: `PATH` and `HOME`.
    pub pass_env: Option<Vec<String>>,
    /// After so long a call is ended. Absent: 60.
    #[schema(minimum = 1, maximum = 240)]
    pub timeout_seconds: Option<u32>,
    /// The names of the workspaces that have its tools, all of them by one process. Absent: the
    /// workspace `default` alone.
    pub workspaces: Option<Vec<String>>,
}

/// That a server may be called so.
pub fn check_name(name: &str) -> Result<(), String> {
    let mut letters = name.bytes();
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-');
    let shown: String = name.chars().take(80).collect();
    match is_name {
        true => Ok(()),
        false => Err(format!("is `{shown}`; it must be 1 to {MAX_NAME} of a-z, 0-9 and `-`, a letter first")),
    }
}

/// What a program wrote last to its standard error.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }

    fn hear(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

pub(crate) struct Process {
    child: Child,
    /// Its own, and that of what it starts.
    group: Option<Pid>,
}

impl Process {
    /// It ends when `end` is cancelled, which is what happens when it ends by itself too.
    pub(crate) fn start(
        server: &LocalServer,
        end: CancellationToken,
        said_last: LastWords,
        tasks: &TaskTracker,
    ) -> Result<AsyncRwTransport<RoleClient, ChildStdout, ChildStdin>, String> {
        let program = find(&server.command, std::env::var_os("PATH").as_deref())
            .ok_or_else(|| format!("there is no program `{}` on this machine's PATH", server.command))?;
        let mut command = Command::new(&program);
        command.args(&server.args).env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let default = ["PATH".to_owned(), "HOME".to_owned()];
        for name in server.pass_env.as_deref().unwrap_or(&default) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(server.env.iter().map(|(name, value)| (name, value.expose_secret())));
        let mut child =
            command.spawn().map_err(|error| format!("`{}` cannot be started: {error}", server.command))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(format!("`{}` has no input or output", server.command));
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        tasks.spawn(listen(stderr, server.name.clone(), said_last));
        tasks.spawn(Self { child, group }.watch(server.name.clone(), end));
        Ok(AsyncRwTransport::new(stdout, stdin).with_max_line_length(MAX_LINE_BYTES))
    }

    async fn watch(mut self, name: String, end: CancellationToken) {
        tokio::select! {
            ended = self.child.wait() => {
                let status = ended.map(|status| status.to_string()).unwrap_or_default();
                tracing::info!(server = name, status, "a local MCP server ended");
                end.cancel();
            }
            () = end.cancelled() => {
                // Its input is closed now.
                if timeout(GRACE, self.child.wait()).await.is_err() {
                    self.signal(Signal::TERM);
                    let _ = timeout(GRACE, self.child.wait()).await;
                }
            }
        }
        // With all that it left behind.
        self.signal(Signal::KILL);
        let _ = timeout(GRACE, self.child.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }
}

async fn listen(stderr: ChildStderr, name: String, said_last: LastWords) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LOG_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            tracing::debug!(server = name, line, "a local MCP server says");
            said_last.hear(line);
        }
    }
}

/// The hub's own `PATH` says where, as the program's may be empty.
fn find(command: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    if command.contains('/') {
        return Path::new(command).is_file().then(|| command.into());
    }
    std::env::split_paths(path?).map(|folder| folder.join(command)).find(|program| program.is_file())
}
