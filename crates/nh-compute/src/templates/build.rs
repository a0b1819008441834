use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::fs;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{Recipe, TemplateError, Templates};

/// What systems in sandboxes do without.
const LEFT_OUT: [&str; 5] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
];

/// The certificates of this host, for PyPI: it may be behind a proxy with its own.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What of the hub's environment a build has: where programs are, and how the registries
/// are reached. Anything else may name files that the new system does not have.
const KEPT: [&str; 9] = [
    "PATH",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
];

/// Lines of what a failed build said that are told.
const LAST_LINES: usize = 8;

impl Templates {
    /// Builds a template from Debian's and PyPI's packages, unless it is built; what is
    /// under way is told to `said` line by line. It is there whole or not at all.
    pub async fn build(&self, name: &str, mut said: impl FnMut(&str)) -> Result<PathBuf, TemplateError> {
        if let Some(root) = self.root(name)? {
            return Ok(root);
        }
        let built = self.built(name)?;
        let building = built.with_extension("building");
        let at = |error| TemplateError::Files { path: building.clone(), error };
        // Whoever builds it too waits, and then finds it built.
        let _lock = lock(built.with_extension("lock")).await.map_err(at)?;
        if let Some(root) = self.root(name)? {
            return Ok(root);
        }
        remove(&building).await.map_err(at)?;
        fs::create_dir_all(&building).await.map_err(at)?;
        let result = bootstrap(name, self.recipe(name)?, &building.join("root"), &mut said).await;
        if let Err(error) = result {
            remove(&building).await.map_err(at)?;
            return Err(error);
        }
        fs::rename(&building, &built).await.map_err(at)?;
        Ok(built.join("root"))
    }
}

async fn bootstrap(
    name: &str,
    recipe: &Recipe,
    root: &Path,
    said: &mut impl FnMut(&str),
) -> Result<(), TemplateError> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--include={}", recipe.debian.join(",")));
    if !recipe.pypi.is_empty() {
        let packages = recipe.pypi.join(" ");
        command.arg(format!("--customize-hook=copy-in {CERTIFICATES} /tmp"));
        command.arg(format!(
            "--customize-hook=chroot \"$1\" python3 -m pip install --no-cache-dir --break-system-packages \
             --root-user-action=ignore --no-compile --cert /tmp/ca-certificates.crt {packages}"
        ));
        command.arg("--customize-hook=rm \"$1\"/tmp/ca-certificates.crt");
    }
    command.arg(&recipe.suite).arg(root);
    command.env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(TemplateError::NoProgram)?;
    let failed = |reason: String| TemplateError::Failed { name: name.to_owned(), reason };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("it has no output".to_owned()));
    };
    let (mut out, mut error) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let mut last: Vec<String> = Vec::new();
    let mut hear = |line: String| {
        said(&line);
        last.push(line);
        let too_many = last.len().saturating_sub(LAST_LINES);
        last.drain(..too_many);
    };
    let (mut out_ended, mut error_ended) = (false, false);
    while !(out_ended && error_ended) {
        tokio::select! {
            line = out.next_line(), if !out_ended => match line {
                Ok(Some(line)) => hear(line),
                _ => out_ended = true,
            },
            line = error.next_line(), if !error_ended => match line {
                Ok(Some(line)) => hear(line),
                _ => error_ended = true,
            },
        }
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("mmdebstrap ended with {status}; it said:\n{}", last.join("\n")))),
    }
}

/// Held until it is dropped.
async fn lock(path: PathBuf) -> io::Result<File> {
    let lock = move || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(lock).await.map_err(io::Error::other)?
}

async fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
