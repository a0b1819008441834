use std::error::Error;

/// Of what a server says, at most so much is repeated.
const MAX_SAID_CHARS: usize = 300;

/// Why a bucket did not do what was asked of it. For the operator: it may name
/// the host and what is in the bucket, never the credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    #[error(
        "the bucket refuses the credentials ({0}); check [blobs] access_key_id and secret_access_key, and what \
         they are allowed: to put, get and delete objects"
    )]
    Denied(String),
    #[error("there is no such bucket; make it, or check [blobs] url and endpoint")]
    NoBucket,
    #[error("what should be in the bucket is not there")]
    Missing,
    /// No answer came, or not all of it.
    #[error("the bucket cannot be reached: {0}")]
    Unreachable(String),
    #[error("the bucket's server answers {0}")]
    Answer(String),
}

impl BucketError {
    pub(super) fn of(error: &object_store::Error) -> Self {
        let deepest = deepest(error);
        if let Some(error) = deepest.downcast_ref::<nh_http::HttpError>() {
            return Self::Unreachable(error.to_string());
        }
        let text = deepest.to_string();
        let code = element(&text, "Code");
        let said = said(&text);
        match error {
            object_store::Error::NotFound { .. } if code == Some("NoSuchBucket") => Self::NoBucket,
            object_store::Error::NotFound { .. } => Self::Missing,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied(said)
            }
            _ => Self::Answer(said),
        }
    }
}

fn deepest<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest
}

/// The status with S3's code and message, of a text that has the whole answer.
fn said(text: &str) -> String {
    let status = text.split_once("status code: ").and_then(|(_, after)| after.split(':').next());
    let parts = [status, element(text, "Code"), element(text, "Message")];
    let said: Vec<&str> = parts.into_iter().flatten().collect();
    let said = if said.is_empty() { text.to_owned() } else { said.join(": ") };
    said.chars().take(MAX_SAID_CHARS).collect()
}

/// What is in the first XML element of this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    Some(after.split_once('<')?.0)
}
