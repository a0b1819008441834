mod answer;
mod place;
mod spec;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use nh_blobs::{Author as BlobAuthor, BlobError, Blobs, New as NewBlob};
use nh_compute::{Compute, ComputeError, OfRun, What, Work};
use nh_store::blobs::{Condition, PutDone};
use nh_store::{Idempotency, Once};
use nh_types::blob::{Access, Pathname};
use nh_types::sandbox::CodeLanguage;
use nh_types::{SandboxId, Scope};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::answer::{Files, figures, told, value};
pub(super) use self::place::Place;
use self::spec::{DEFAULT_SECONDS, MAX_SECONDS, spec};
use super::storage_write::{named, nothing, refused, shown};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

/// Code in the sandbox of the run, which is there from its first use to the run's end.
pub(super) struct RunCode {
    spec: ToolSpec,
    language: CodeLanguage,
    place: Place,
    blobs: Blobs,
}

/// Bytes on their way between a sandbox and the storage.
enum Copying {
    Sandbox(ComputeError),
    Storage(BlobError),
}

impl From<ComputeError> for Copying {
    fn from(error: ComputeError) -> Self {
        Self::Sandbox(error)
    }
}

impl From<BlobError> for Copying {
    fn from(error: BlobError) -> Self {
        Self::Storage(error)
    }
}

impl From<Copying> for ToolError {
    fn from(error: Copying) -> Self {
        match error {
            Copying::Sandbox(error) => failed(error),
            Copying::Storage(error) => refused(error),
        }
    }
}

impl RunCode {
    pub(super) fn python(compute: Compute, blobs: Blobs) -> Self {
        let about = "Runs Python in a sandbox of its own, without network, and shows what it printed and the value of \
                     the last expression. Variables, imports and files stay for the next call. Use it to compute, to \
                     analyse data and to draw figures; numpy, pandas and matplotlib may be there.";
        Self {
            spec: spec("run_python", about, "import statistics\nstatistics.mean([1, 2, 6])"),
            language: CodeLanguage::Python,
            place: Place::of(CodeLanguage::Python, compute),
            blobs,
        }
    }

    pub(super) fn node(compute: Compute, blobs: Blobs) -> Self {
        let about = "Runs JavaScript on Node.js in a sandbox of its own, without network, and shows what it printed and \
                     the value of the last expression. Variables and files stay for the next call.";
        Self {
            spec: spec("run_node", about, "[1, 2, 6].reduce((sum, number) => sum + number, 0)"),
            language: CodeLanguage::Nodejs,
            place: Place::of(CodeLanguage::Nodejs, compute),
            blobs,
        }
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let given = call.arguments;
        // What cannot be copied is told before anything runs.
        let files = paths(given, "files");
        let save = paths(given, "save");
        if !files.is_empty() {
            require(&call, Scope::StorageRead, "files")?;
        }
        if !save.is_empty() {
            require(&call, Scope::StorageWrite, "save")?;
        }
        let OfRun { id, is_another } = self.place.sandbox(&call).await?;
        for file in files {
            self.copy_in(&call, &id, file).await?;
        }
        let code = given["code"].as_str().unwrap_or_default().to_owned();
        let seconds = given["timeout_seconds"].as_u64().unwrap_or(DEFAULT_SECONDS).clamp(1, MAX_SECONDS);
        let work = Work {
            what: What::Code(self.language, code),
            stdin: None,
            timeout_seconds: Some(seconds as u32),
        };
        let executing = self.place.compute.execute(call.workspace_id, &id, work).await.map_err(failed)?;
        let mut execution = executing.whole().await.map_err(failed)?;
        execution.state_reset |= is_another;
        // Whatever becomes of files, what the code said is told.
        let mut files = Files::default();
        for file in save {
            files.add(file.as_str().unwrap_or_default(), self.copy_out(&call, &id, file).await);
        }
        for (number, (extension, bytes)) in figures(&execution.artifacts).enumerate() {
            let name = format!("figure {}", number + 1);
            files.add(
                &name,
                match call.scopes.allows(Scope::StorageWrite) {
                    true => self.store_figure(&call, number + 1, extension, bytes).await,
                    false => {
                        Err(ToolError::new("missing_scope", "keeping it needs the scope `storage:write`"))
                    }
                },
            );
        }
        Ok(ToolOutput::free(told(&execution, &files), value(&execution, &files)))
    }

    /// From the storage, under the same name.
    async fn copy_in(&self, call: &ToolCall<'_>, id: &SandboxId, file: &Value) -> Result<(), ToolError> {
        let pathname = named(call.workspace_id, file)?;
        let opened = self.blobs.open(call.workspace_id, &pathname).await.map_err(refused)?;
        let opened = opened.ok_or_else(|| nothing(pathname.as_str()))?;
        let size = opened.blob.size;
        let bytes = opened.read(0..size).await.map_err(refused)?;
        let bytes = bytes.map_err(|error| Copying::Storage(BlobError::Files(error)));
        self.place.compute.write_file::<Copying>(call.workspace_id, id, pathname.as_str(), bytes).await?;
        Ok(())
    }

    /// To the storage, under the same name.
    async fn copy_out(&self, call: &ToolCall<'_>, id: &SandboxId, file: &Value) -> Result<Value, ToolError> {
        let pathname = named(call.workspace_id, file)?;
        let is_replacing = call.arguments["overwrite"].as_bool().unwrap_or(false);
        let condition = if is_replacing { Condition::Any } else { Condition::Absent };
        let bytes =
            self.place.compute.read_file(call.workspace_id, id, pathname.as_str()).await.map_err(failed)?;
        let bytes = bytes.map_err(Copying::Sandbox).boxed();
        self.put(call, pathname, condition, None, bytes).await
    }

    async fn store_figure(
        &self,
        call: &ToolCall<'_>,
        number: usize,
        extension: &str,
        bytes: Vec<u8>,
    ) -> Result<Value, ToolError> {
        // A step's id is no part of a name; its hash is, and the same when it is done again.
        let step: String =
            Sha256::digest(call.step_id).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("runs/{}/figure-{step}-{number}.{extension}", call.run_id);
        let pathname = named(call.workspace_id, &name.into())?;
        let size = bytes.len() as u64;
        let bytes = futures_util::stream::iter([Ok(bytes.into())]).boxed();
        self.put(call, pathname, Condition::Any, Some(size), bytes).await
    }

    async fn put(
        &self,
        call: &ToolCall<'_>,
        pathname: Pathname,
        condition: Condition,
        size: Option<u64>,
        bytes: futures_util::stream::BoxStream<'_, Result<bytes::Bytes, Copying>>,
    ) -> Result<Value, ToolError> {
        let new = NewBlob {
            pathname: pathname.clone(),
            content_type: None,
            access: Access::Private,
            cache_seconds: None,
            expires_at: None,
            condition,
            size,
        };
        let author = BlobAuthor {
            workspace_id: call.workspace_id.clone(),
            created_by: call.created_by.to_owned(),
            run: Some((call.run_id, call.step_id.to_owned())),
        };
        // A step that is done again after a crash has the answer of the first time.
        let once = |sha256: &[u8; 32]| Idempotency {
            owner: format!("{}/run:{}", call.workspace_id, call.run_id),
            key: format!("{}:{pathname}", call.idempotency_key),
            body_hash: *sha256,
            at: call.clock.now(),
        };
        match self.blobs.put(author, new, bytes, Some(once)).await? {
            Once::First(PutDone::Stored(blob)) | Once::Replay(PutDone::Stored(blob)) => {
                Ok(shown(call.workspace_id, &blob))
            }
            Once::First(PutDone::OverQuota { used, quota })
            | Once::Replay(PutDone::OverQuota { used, quota }) => {
                let message = format!("`{pathname}` does not fit: {used} of {quota} bytes are taken");
                Err(ToolError::new("quota_exceeded", message))
            }
            Once::First(PutDone::Exists | PutDone::Changed)
            | Once::Replay(PutDone::Exists | PutDone::Changed) => {
                let message = format!(
                    "there is a file `{pathname}` in the storage already; set overwrite to replace it"
                );
                Err(ToolError::new("blob_exists", message))
            }
            Once::Mismatch => {
                let message = format!("the step came before and stored other bytes as `{pathname}`");
                Err(ToolError::new("conflict", message))
            }
        }
    }
}

fn paths<'a>(arguments: &'a Value, name: &str) -> &'a [Value] {
    arguments[name].as_array().map_or(&[], Vec::as_slice)
}

fn require(call: &ToolCall<'_>, scope: Scope, argument: &str) -> Result<(), ToolError> {
    match call.scopes.allows(scope) {
        true => Ok(()),
        false => Err(ToolError::new("missing_scope", format!("`{argument}` needs the scope `{scope}`"))),
    }
}

pub(super) fn failed(error: ComputeError) -> ToolError {
    match error {
        ComputeError::Refused(error) => ToolError::new(error.code.as_str(), error.message),
        error => {
            tracing::warn!(%error, "a tool could not use its sandbox");
            ToolError::new("component_unavailable", "the sandbox cannot be used at present; try again later")
        }
    }
}

impl Tool for RunCode {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn unavailable(&self) -> Option<String> {
        self.place.unavailable()
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.run(call))
    }
}
