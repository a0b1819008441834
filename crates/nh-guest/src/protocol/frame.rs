use super::{Answer, Request};

/// Of a frame: the payload's length and the stream's number, both as four bytes,
/// the lowest first, and the kind as one.
pub const HEADER_BYTES: usize = 9;

/// The most bytes of a frame's payload.
pub const MAX_PAYLOAD: usize = 2 * 1024 * 1024;

/// What one end says to the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Request(Request),
    Answer(Answer),
    Data(Vec<u8>),
    End,
    Credit(u32),
    Out(Vec<u8>),
    Error(Vec<u8>),
    /// JSON of an [`Artifact`](super::Artifact).
    Artifact(Vec<u8>),
    Cancel,
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes; at most {MAX_PAYLOAD} are taken")]
    TooLong(usize),
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a frame of kind {kind} with {length} bytes")]
    WrongLength { kind: u8, length: usize },
    #[error("a message that cannot be read: {0}")]
    Message(#[from] serde_json::Error),
}

const REQUEST: u8 = 0;
const ANSWER: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;
const CREDIT: u8 = 4;
const OUT: u8 = 5;
const ERROR: u8 = 6;
const ARTIFACT: u8 = 7;
const CANCEL: u8 = 8;

/// Appends a frame of a stream to `to`.
pub fn encode(stream: u32, frame: &Frame, to: &mut Vec<u8>) -> Result<(), FrameError> {
    let message;
    let credit;
    let (kind, payload): (u8, &[u8]) = match frame {
        Frame::Request(request) => {
            message = serde_json::to_vec(request)?;
            (REQUEST, &message)
        }
        Frame::Answer(answer) => {
            message = serde_json::to_vec(answer)?;
            (ANSWER, &message)
        }
        Frame::Data(bytes) => (DATA, bytes),
        Frame::End => (END, &[]),
        Frame::Credit(bytes) => {
            credit = bytes.to_le_bytes();
            (CREDIT, &credit)
        }
        Frame::Out(bytes) => (OUT, bytes),
        Frame::Error(bytes) => (ERROR, bytes),
        Frame::Artifact(json) => (ARTIFACT, json),
        Frame::Cancel => (CANCEL, &[]),
    };
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_PAYLOAD);
    let length = length.ok_or(FrameError::TooLong(payload.len()))?;
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&stream.to_le_bytes());
    to.push(kind);
    to.extend_from_slice(payload);
    Ok(())
}

/// The first frame of `bytes`, its stream, and how many bytes it takes; None: more
/// have to come.
pub fn decode(bytes: &[u8]) -> Result<Option<(u32, Frame, usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let stream = u32::from_le_bytes([s0, s1, s2, s3]);
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    if kind > CANCEL {
        return Err(FrameError::UnknownKind(kind));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let wrong_length = || FrameError::WrongLength { kind, length };
    let frame = match kind {
        REQUEST => Frame::Request(serde_json::from_slice(payload)?),
        ANSWER => Frame::Answer(serde_json::from_slice(payload)?),
        DATA => Frame::Data(payload.to_vec()),
        OUT => Frame::Out(payload.to_vec()),
        ERROR => Frame::Error(payload.to_vec()),
        ARTIFACT => Frame::Artifact(payload.to_vec()),
        CREDIT => Frame::Credit(u32::from_le_bytes(payload.try_into().map_err(|_| wrong_length())?)),
        END | CANCEL if length > 0 => return Err(wrong_length()),
        END => Frame::End,
        _ => Frame::Cancel,
    };
    Ok(Some((stream, frame, HEADER_BYTES + length)))
}
