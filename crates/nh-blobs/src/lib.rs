//! Objects of workspaces: bytes under names, on local files or in a bucket that
//! speaks S3.
//!
//! An object is there when its row is, and its row comes after its bytes are
//! durable. Bytes are never changed: what is put under a name again has others,
//! so whoever reads the old ones goes on to the end of a piece. What a crash or a
//! deletion leaves is listed (`nh_store::blobs::waste`) and swept.
//!
//! This crate must never know routes, agents or runs. Start reading at [`Blobs`].

mod blobs;
mod coming;
mod content_type;
mod filling;
mod listing;
mod opened;
mod places;
mod readers;
mod resolve;
mod settings;
mod upkeep;
mod uploads;

pub use blobs::{Author, BlobError, Blobs, BlobsSetup, Copying, New, over_quota};
pub use content_type::{content_type_of, extension_of};
pub use listing::Listing;
pub use opened::Opened;
pub use places::bucket::{Bucket, BucketError};
pub use settings::BlobSettings;
pub use upkeep::keep;
pub use uploads::{Completion, MAX_PART_NUMBER, MAX_UPLOADS, NamedPart};
