//! One file to the hub: at once when it is small, else in parts, of which those
//! that came before are not sent again.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use nh_types::blob::{
    Access, BlobView, CompleteUpload, CreateUpload, NamePart, PartView, UploadList, UploadView,
};
use nh_types::{Clock, ErrorCode, Ids, SystemClock, SystemIds, Timestamp};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::AT_ONCE;
use super::objects::{is_refused, refused, short};
use super::parts::{Part, Parts, has_bytes};
use super::patience::patiently;
use super::tree::LocalFile;
use crate::client::{Body, Client, segment, with_query};
use crate::exit::Failure;
use crate::output::{self, Progress};

/// What objects are to be.
pub(super) struct Wanted {
    pub(super) overwrite: bool,
    pub(super) access: Access,
    /// None: the hub guesses.
    pub(super) content_type: Option<String>,
    pub(super) expires_at: Option<Timestamp>,
}

pub(super) struct Sender {
    client: Client,
    wanted: Wanted,
    pub(super) progress: Progress,
    /// For parts that are in memory, of all files.
    room: Semaphore,
}

type Held<'a> = (Part, SemaphorePermit<'a>);

impl Sender {
    pub(super) fn new(client: Client, wanted: Wanted, progress: Progress) -> Self {
        Self { client, wanted, progress, room: Semaphore::new(AT_ONCE) }
    }

    /// Whether an object is what the file would become.
    pub(super) async fn is_there(&self, file: &LocalFile, object: &BlobView) -> Result<bool, Failure> {
        let Wanted { access, content_type, expires_at, .. } = &self.wanted;
        if object.access != *access
            || object.expires_at != *expires_at
            || content_type.as_ref().is_some_and(|wanted| *wanted != object.content_type)
        {
            return Ok(false);
        }
        let is_same = has_bytes(&file.path, object.size, &object.sha256).await;
        let is_same = is_same.with_context(|| unreadable(&file.path))?;
        if is_same {
            self.progress.more(object.size);
        }
        Ok(is_same)
    }

    pub(super) async fn put(&self, file: &LocalFile) -> Result<BlobView, Failure> {
        let opened = Parts::open(&file.path, file.size).await;
        let mut parts = opened.with_context(|| unreadable(&file.path))?;
        let first = self.read(&mut parts, &file.path).await?;
        let put = if first.0.is_last {
            self.whole(file, first).await
        } else {
            self.in_parts(file, &mut parts, first).await
        };
        let object = put.map_err(|failure| match is_refused(&failure, ErrorCode::BlobExists) {
            true => exists(&file.name),
            false => failure,
        })?;
        if object.sha256 != parts.sha256() {
            let name = &file.name;
            return Err(
                anyhow!("`{name}` came to the hub as other bytes than were sent; put it again").into()
            );
        }
        Ok(object)
    }

    /// The next part, once there is room for it.
    async fn read<'a>(&'a self, parts: &mut Parts, path: &Path) -> Result<Held<'a>, Failure> {
        let permit = self.room.acquire().await.map_err(anyhow::Error::new)?;
        let part = parts.next().await.with_context(|| unreadable(path))?;
        Ok((part, permit))
    }

    async fn whole(&self, file: &LocalFile, (part, _permit): Held<'_>) -> Result<BlobView, Failure> {
        let Wanted { overwrite, access, content_type, expires_at } = &self.wanted;
        check_size(file, part.bytes.len() as u64)?;
        let parameters = [
            ("pathname", Some(file.name.clone())),
            ("overwrite", overwrite.then(|| "true".to_owned())),
            ("access", Some(access.as_str().to_owned())),
            ("expires_at", expires_at.map(|at| at.to_string())),
        ];
        let path = with_query("/v1/storage/upload", &parameters);
        // The hub guesses a type for what has this one.
        let content_type = content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
        let key = fresh_key();
        let object = patiently(&self.progress, || {
            let body = Body { content_type: content_type.clone().into(), bytes: part.bytes.clone() };
            self.client.upload_once(&path, body, &key)
        });
        let object = object.await?;
        self.progress.more(part.bytes.len() as u64);
        Ok(object)
    }

    async fn in_parts(
        &self,
        file: &LocalFile,
        parts: &mut Parts,
        first: Held<'_>,
    ) -> Result<BlobView, Failure> {
        let upload = self.begun(&file.name).await?;
        let upload_path = format!("/v1/storage/uploads/{}", segment(upload.id.as_str()));
        let there: HashMap<u32, &PartView> =
            upload.parts.iter().map(|part| (part.part_number, part)).collect();
        let rest = stream::try_unfold((&mut *parts, false), |(parts, is_over)| async move {
            if is_over {
                return Ok(None);
            }
            let held = self.read(parts, &file.path).await?;
            let is_over = held.0.is_last;
            Ok(Some((held, (parts, is_over))))
        });
        let sent = stream::iter([Ok(first)])
            .chain(rest)
            .try_filter(|(part, _)| std::future::ready(!part.bytes.is_empty()))
            .map_ok(|held| self.part(&upload_path, there.get(&held.0.number).copied(), held))
            .try_buffer_unordered(AT_ONCE);
        let sent: Vec<(NamePart, u64)> = sent.try_collect().await?;
        check_size(file, parts.read_bytes)?;
        let kept_bytes: u64 = sent.iter().map(|(_, kept_bytes)| kept_bytes).sum();
        if kept_bytes > 0 {
            let (kept, name) = (output::size(kept_bytes), output::printable(&file.name));
            self.progress.note(format!("{kept} of {name} came before, and were kept"));
        }
        let mut named: Vec<NamePart> = sent.into_iter().map(|(part, _)| part).collect();
        named.sort_by_key(|part| part.part_number);
        let body = json(&CompleteUpload { parts: Some(named) })?;
        let path = format!("{upload_path}/complete");
        patiently(&self.progress, || self.client.post(&path, &body)).await
    }

    /// Sends a part that did not come before; with how many bytes did.
    async fn part(
        &self,
        upload_path: &str,
        there: Option<&PartView>,
        (part, _permit): Held<'_>,
    ) -> Result<(NamePart, u64), Failure> {
        let size = part.bytes.len() as u64;
        let is_there = there.is_some_and(|there| there.size == size && there.etag == part.etag);
        if !is_there {
            let path = format!("{upload_path}/parts/{}", part.number);
            let sent: PartView = patiently(&self.progress, || {
                let body =
                    Body { content_type: "application/octet-stream".into(), bytes: part.bytes.clone() };
                self.client.upload(Method::PUT, &path, body)
            })
            .await?;
            if sent.etag != part.etag {
                let number = part.number;
                return Err(
                    anyhow!("part {number} came to the hub as other bytes; put the file again").into()
                );
            }
        }
        self.progress.more(size);
        let kept_bytes = if is_there { size } else { 0 };
        Ok((NamePart { part_number: part.number, etag: part.etag }, kept_bytes))
    }

    /// The last upload of this name that would become the same, or a new one.
    async fn begun(&self, name: &str) -> Result<UploadView, Failure> {
        let parameters = [("prefix", Some(name.to_owned())), ("limit", Some("1000".to_owned()))];
        let list = with_query("/v1/storage/uploads", &parameters);
        let found: UploadList = patiently(&self.progress, || self.client.get(&list)).await?;
        let ours = found.uploads.into_iter().filter(|upload| {
            (short(&upload.pathname) == name || upload.pathname == name) && self.fits(upload)
        });
        if let Some(last) = ours.max_by_key(|upload| upload.created_at) {
            let path = format!("/v1/storage/uploads/{}", segment(last.id.as_str()));
            return patiently(&self.progress, || self.client.get(&path)).await;
        }
        let Wanted { overwrite, access, content_type, expires_at } = &self.wanted;
        let new = json(&CreateUpload {
            pathname: name.to_owned(),
            content_type: content_type.clone(),
            access: *access,
            overwrite: *overwrite,
            expires_at: *expires_at,
        })?;
        let key = fresh_key();
        let begin = || self.client.upload_once("/v1/storage/uploads", (&new).into(), &key);
        patiently(&self.progress, begin).await
    }

    fn fits(&self, upload: &UploadView) -> bool {
        let Wanted { overwrite, access, content_type, expires_at } = &self.wanted;
        let begun = &upload.wanted;
        begun.overwrite == *overwrite
            && begun.access == *access
            && begun.content_type == *content_type
            && begun.expires_at == *expires_at
    }
}

pub(super) fn exists(name: &str) -> Failure {
    let message = format!("there is an object `{name}` already; --overwrite replaces it");
    refused(ErrorCode::BlobExists, message)
}

fn check_size(file: &LocalFile, read_bytes: u64) -> Result<(), Failure> {
    match file.size {
        Some(size) if size != read_bytes => {
            let path = file.path.display();
            Err(anyhow!("{path} changed while it was read, from {size} to {read_bytes} bytes; put it again")
                .into())
        }
        _ => Ok(()),
    }
}

fn fresh_key() -> String {
    SystemIds.uuid_v7(SystemClock.now()).to_string()
}

fn json(value: &impl serde::Serialize) -> Result<Value, Failure> {
    Ok(serde_json::to_value(value).map_err(anyhow::Error::new)?)
}

fn unreadable(path: &Path) -> String {
    match path == Path::new("-") {
        true => "stdin cannot be read".to_owned(),
        false => format!("{} cannot be read", path.display()),
    }
}

/// Of a path that was typed.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", unreadable(path)))
}
