//! Objects are listed by name, also as folders.

use nh_store::blobs::{self as rows, Begin, BlobRecord};
use nh_types::WorkspaceId;

use crate::blobs::{BlobError, Blobs, Inner};

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub blobs: Vec<BlobRecord>,
    /// Each with a slash at its end.
    pub folders: Vec<String>,
    /// The last name that is in it, where there are more.
    pub next: Option<String>,
}

impl Blobs {
    /// What begins with `prefix` and comes after `after`, by name. Where it is
    /// folded, what is in a folder below is told by the folder's name, once.
    pub async fn list(
        &self,
        workspace_id: &WorkspaceId,
        prefix: &str,
        after: Option<String>,
        limit: u32,
        is_folded: bool,
    ) -> Result<Listing, BlobError> {
        let Inner { store, clock, .. } = &*self.inner;
        let mut begin = match after {
            None => Begin::Start,
            Some(after) if is_folded && after.ends_with('/') && after.len() > prefix.len() => {
                Begin::At(after_folder(&after))
            }
            Some(after) => Begin::After(after),
        };
        let mut found = Listing::default();
        let mut is_wide = false;
        loop {
            let room = limit as usize - found.blobs.len() - found.folders.len();
            let (rows, at) = (room as u32 + 1, clock.now());
            let read = match is_wide {
                true => rows::list_folded(store, workspace_id, prefix, &begin, rows, at).await?,
                false => rows::list(store, workspace_id, prefix, &begin, rows, at).await?,
            };
            let is_last = read.len() < rows as usize;
            let mut skipping: Option<String> = None;
            for blob in read {
                let name = blob.pathname.as_str().to_owned();
                if skipping.as_ref().is_some_and(|folder| name.starts_with(folder.as_str())) {
                    continue;
                }
                if found.blobs.len() + found.folders.len() == limit as usize {
                    found.next = found.last();
                    return Ok(found);
                }
                let folder = is_folded.then(|| folder_below(prefix, &name)).flatten();
                skipping = folder.clone();
                begin = Begin::After(name);
                match folder {
                    Some(folder) => found.folders.push(folder),
                    None => found.blobs.push(blob),
                }
            }
            if is_last {
                return Ok(found);
            }
            if let Some(folder) = skipping {
                // It goes on past the page: folders are large here.
                is_wide = true;
                begin = Begin::At(after_folder(&folder));
            }
        }
    }
}

impl Listing {
    fn last(&self) -> Option<String> {
        let blob = self.blobs.last().map(|blob| blob.pathname.as_str());
        blob.max(self.folders.last().map(String::as_str)).map(str::to_owned)
    }
}

/// The folder right below the prefix that the name is in.
fn folder_below(prefix: &str, name: &str) -> Option<String> {
    let end = name.get(prefix.len()..)?.find('/')?;
    Some(name[..prefix.len() + end + 1].to_owned())
}

/// Comes after all that is in a folder: `0` is the character after `/`.
fn after_folder(folder: &str) -> String {
    format!("{}0", folder.trim_end_matches('/'))
}
