//! The weights' file: a header of JSON that says which tensor lies where, then
//! the tensors' bytes (<https://github.com/huggingface/safetensors#format>).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::files::LoadError;

/// More than any header of such a file has, in bytes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

pub(crate) struct Tensors {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the tensors' bytes begin in the file.
    begin: u64,
}

impl Tensors {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let io = |source| LoadError::io(path, source);
        let mut file = File::open(path).map_err(io)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(LoadError::unreadable(path, format!("its header claims {length} bytes")));
        }
        let mut header = Vec::new();
        (&mut file).take(length).read_to_end(&mut header).map_err(io)?;
        let metadata = serde_json::from_slice(&header).map_err(|error| LoadError::unreadable(path, error))?;
        Ok(Self { path: path.to_owned(), file, metadata, begin: 8 + length })
    }

    /// All numbers of a tensor, which must have that shape: row after row.
    pub(crate) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.read_first(name, shape, shape.iter().product())
    }

    /// The first `count` numbers of a tensor, which must have that shape.
    pub(crate) fn read_first(
        &mut self,
        name: &str,
        shape: &[usize],
        count: usize,
    ) -> Result<Vec<f32>, LoadError> {
        let unreadable = |reason: String| LoadError::unreadable(&self.path, reason);
        let info = self.metadata.info(name).ok_or_else(|| unreadable(format!("it has no tensor {name}")))?;
        if info.dtype != Dtype::F32 || info.shape != shape {
            let (dtype, found) = (info.dtype, &info.shape);
            return Err(unreadable(format!("its tensor {name} is {dtype:?} {found:?}, not F32 {shape:?}")));
        }
        let offset = self.begin + info.data_offsets.0 as u64;
        let mut values = Vec::with_capacity(count);
        let mut buffer = vec![0; 1 << 16];
        let mut copy = || {
            self.file.seek(SeekFrom::Start(offset))?;
            while values.len() < count {
                let bytes = buffer.len().min(4 * (count - values.len()));
                self.file.read_exact(&mut buffer[..bytes])?;
                values.extend(buffer[..bytes].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Ok(())
        };
        copy().map_err(|source| LoadError::io(&self.path, source))?;
        Ok(values)
    }
}
