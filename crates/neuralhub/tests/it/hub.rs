//! A hub of the real binary, in a directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::http::Client;

const BINARY: &str = env!("CARGO_BIN_EXE_neuralhub");

/// For a hub in this folder that has sandboxes of the template `python`, which is built
/// unless it is.
pub(crate) fn with_sandboxes(folder: &Path) -> [(&'static str, &'static str); 3] {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.templates");
    std::fs::create_dir_all(&kept).expect("a folder");
    let link = folder.join("templates");
    if !link.exists() {
        std::os::unix::fs::symlink(kept.canonicalize().expect("a path"), link).expect("a link");
    }
    let variables = [
        ("NEURALHUB__COMPUTE__DRIVER", "auto"),
        ("NEURALHUB__COMPUTE__TEMPLATES_DIR", "./templates"),
        ("NEURALHUB__COMPUTE__POOL_SIZE", "0"),
    ];
    let built = command(folder).args(["templates", "build", "python"]).envs(variables).output();
    let built = built.expect("it runs");
    assert!(built.status.success(), "{}", text(&built.stderr));
    variables
}

/// The binary with nothing of this machine's environment but PATH.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running hub; killed at the end of the test if it still runs.
pub(crate) struct TestHub {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    child: Child,
}

impl TestHub {
    pub(crate) fn start() -> Self {
        Self::start_with(tempfile::tempdir().expect("a folder"), &[])
    }

    /// In a folder that may hold a configuration or an earlier hub's data.
    pub(crate) fn start_with(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = command(folder.path())
            .args(["serve", "--bind", "127.0.0.1:0"])
            .env("NEURALHUB__MEMORY__WEIGHTS_DIR", nh_testkit::weights())
            // A test without them fails at once, instead of fetching 91 MB.
            .env("NEURALHUB__MEMORY__FETCH_WEIGHTS", "false")
            // What isolates sandboxes is tried where there are to be some.
            .env("NEURALHUB__COMPUTE__DRIVER", "off")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the hub starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let url =
            url.unwrap_or_else(|| panic!("not up, said `{line}`: {}", read(&folder.path().join("log"))));
        Self { folder, url, child }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    pub(crate) fn key(&self) -> String {
        read(&self.data().join("first-key")).trim().to_owned()
    }

    /// A client command against this hub, with its first key.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        let mut command = command(self.folder.path());
        command.args(arguments).env("NEURALHUB_URL", &self.url).output().expect("the client runs")
    }

    /// What a client command that must succeed prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.client(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Requests of its first key.
    pub(crate) fn http(&self) -> Client {
        let address = self.url.trim_start_matches("http://").parse().expect("an address");
        Client { address, key: self.key() }
    }

    /// SIGKILL; the folder for another start.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("it was alive");
        self.child.wait().expect("it ends");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// SIGTERM; the exit code, and the folder for another start.
    pub(crate) fn stop(mut self) -> (Option<i32>, TempDir) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let code = self.child.wait().expect("it ends").code();
        (code, std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder")))
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn read(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BufReader::new(file).read_to_string(&mut text).expect("UTF-8");
    text
}
