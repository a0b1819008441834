//! Bodies that a server packed although nobody asked for it (RFC 9110, section 8.4.1.3).

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

/// Unpacks gzip as it comes.
pub(crate) struct Unpacker(MultiGzDecoder<Unpacked>);

/// What there is of it, and how much more there may be.
struct Unpacked {
    bytes: Vec<u8>,
    left: u64,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// None where the body is as it is; otherwise the headers are those of what is in it.
    pub(crate) fn of(headers: &mut HeaderMap, max_bytes: u64) -> Option<Self> {
        let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
        if !encoding.eq_ignore_ascii_case("gzip") && !encoding.eq_ignore_ascii_case("x-gzip") {
            return None;
        }
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
        Some(Self(MultiGzDecoder::new(Unpacked { bytes: Vec::new(), left: max_bytes })))
    }

    /// May be nothing yet.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.0.write_all(piece)?;
        // So that what has come is not kept back.
        self.0.flush()?;
        Ok(std::mem::take(&mut self.0.get_mut().bytes).into())
    }

    /// What was kept back; an error when the body ends too soon.
    pub(crate) fn end(&mut self) -> io::Result<Bytes> {
        self.0.try_finish()?;
        Ok(std::mem::take(&mut self.0.get_mut().bytes).into())
    }
}

impl Write for Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len() as u64;
        if count > self.left {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
        }
        self.left -= count;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
