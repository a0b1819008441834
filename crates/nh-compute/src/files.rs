//! Files in and out of a sandbox. Paths are below its home folder.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use nh_guest::protocol::{Answer, Entry, Request};
use nh_types::sandbox::{SandboxFile, StopReason};
use nh_types::{ApiError, ErrorCode, SandboxId, WorkspaceId};
use tokio::time::timeout;

use crate::compute::Compute;
use crate::error::{ComputeError, invalid};
use crate::guest::Event;
use crate::live::End;

const MAX_PATH_BYTES: usize = 4096;
/// For a sandbox to take a piece of a file.
const PATIENCE: Duration = Duration::from_secs(60);

impl Compute {
    /// Puts a file there, whole or not at all, with the folders that it is in. What comes
    /// of `chunks` is an error to whoever asked.
    pub async fn write_file<E: From<ComputeError>>(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        path: &str,
        chunks: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(), E> {
        check(path)?;
        let live = self.live(workspace_id, id).await?;
        let _turn = live.file().await?;
        let stream = live.guest.open(Request::WriteFile { path: path.to_owned() });
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return Err(self.told(&live, error).await.into()),
        };
        let sender = stream.sender().clone();
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            match timeout(PATIENCE, sender.send(&chunk?)).await {
                Ok(Ok(true)) => {}
                // It has answered already, or is gone: the answer says why.
                Ok(Ok(false) | Err(_)) => break,
                Err(_) => {
                    let message = "the sandbox takes no more of the file; it may be too busy, so try again";
                    return Err(ComputeError::from(ApiError::new(ErrorCode::Conflict, message)).into());
                }
            }
        }
        let done = match sender.end() {
            Ok(()) => stream.answer().await,
            Err(error) => Err(error),
        };
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(self.told(&live, error).await.into()),
        }
    }

    /// The bytes of a file as they come. Its first piece has come when this answers, so
    /// what cannot be read is an error here.
    pub async fn read_file(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, ComputeError>> + Send + use<>, ComputeError> {
        check(path)?;
        let live = self.live(workspace_id, id).await?;
        let turn = live.file().await?;
        let mut reading = match live.guest.open(Request::ReadFile { path: path.to_owned() }) {
            Ok(reading) => reading,
            Err(error) => return Err(self.told(&live, error).await),
        };
        let first = match reading.next().await {
            Ok(first) => first,
            Err(error) => return Err(self.told(&live, error).await),
        };
        let compute = self.clone();
        let rest = (reading, Some(first), turn, live);
        Ok(stream::try_unfold(rest, move |(mut reading, first, turn, live)| {
            let compute = compute.clone();
            async move {
                let event = match first {
                    Some(first) => Ok(first),
                    None => reading.next().await,
                };
                match event {
                    Ok(Event::Data(bytes)) => Ok(Some((bytes, (reading, None, turn, live)))),
                    Ok(Event::End) => match reading.answer().await {
                        Ok(_) => Ok(None),
                        Err(error) => Err(compute.told(&live, error).await),
                    },
                    Ok(Event::Answer(_)) => Ok(None),
                    Ok(Event::Out(_) | Event::Error(_) | Event::Artifact(_)) => {
                        live.ask(End::Stopped(StopReason::BrokeProtocol));
                        Err(compute.ending(&live).await)
                    }
                    Err(error) => Err(compute.told(&live, error).await),
                }
            }
        }))
    }

    /// A file, or a folder with all that is in it.
    pub async fn remove_file(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        path: &str,
    ) -> Result<(), ComputeError> {
        check(path)?;
        self.ask(workspace_id, id, Request::Remove { path: path.to_owned() }).await.map(drop)
    }

    /// What is in a folder, by name; that of the empty path is the home folder.
    pub async fn list_files(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        path: &str,
    ) -> Result<Vec<SandboxFile>, ComputeError> {
        match self.ask(workspace_id, id, Request::List { path: path.to_owned() }).await? {
            Answer::Entries(entries) => {
                let shown = |Entry { name, is_folder, size }| SandboxFile { name, is_folder, size };
                Ok(entries.into_iter().map(shown).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn ask(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        request: Request,
    ) -> Result<Answer, ComputeError> {
        let live = self.live(workspace_id, id).await?;
        let _turn = live.file().await?;
        let answer = match live.guest.open(request) {
            Ok(stream) => stream.answer().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.told(&live, error).await),
        }
    }
}

fn check(path: &str) -> Result<(), ComputeError> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES || path.contains('\0') {
        let message = format!(
            "a file's path in a sandbox has 1 to {MAX_PATH_BYTES} bytes and no NUL; it is below the home folder"
        );
        return Err(invalid("path", message));
    }
    Ok(())
}
