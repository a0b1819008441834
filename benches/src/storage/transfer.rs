//! A large file copied, uploaded and downloaded, by one thread each. By hand, and
//! blocking: a client library would take as much of the processor as the server.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};

use crate::load::request_head;

const CHUNK_BYTES: usize = 1 << 20;

/// Writes a file of so many bytes that do not compress, all of it in the page cache then.
pub fn make(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut state = 1_u64;
    for begin in (0..bytes).step_by(CHUNK_BYTES) {
        for word in chunk.chunks_exact_mut(8) {
            // xorshift64 (Marsaglia, 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&chunk[..CHUNK_BYTES.min((bytes - begin) as usize)])?;
    }
    file.sync_all()
}

/// What is done with a file once all of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing; the disk may be behind.
    Written,
    /// It is synced with its directory.
    Durable,
}

/// Seconds that a plain copy takes.
pub fn copy(from: &Path, to: &Path, end: End) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    pump(&mut source, &mut target)?;
    finish(&target, to, end)?;
    Ok(began.elapsed().as_secs_f64())
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut pumped = 0;
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(pumped);
        }
        to.write_all(&chunk[..read])?;
        pumped += read as u64;
    }
}

fn finish(file: &File, path: &Path, end: End) -> anyhow::Result<()> {
    if end == End::Durable {
        file.sync_all()?;
        File::open(path.parent().context("a file in a directory")?)?.sync_all()?;
    }
    Ok(())
}

/// A hub's object, and the key for it.
pub struct Object<'a> {
    pub address: SocketAddr,
    pub headers: &'a [(String, String)],
    pub path: &'a str,
}

impl Object<'_> {
    /// Seconds until the answer to an upload of this file.
    pub fn upload(&self, from: &Path) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut source = File::open(from)?;
        let mut stream = self.send(&Method::POST, source.metadata()?.len())?;
        pump(&mut source, &mut stream)?;
        let (status, _, _) = answered(&mut stream)?;
        ensure!(status == StatusCode::CREATED, "the upload was answered {status}");
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds until all of it is in a file.
    pub fn download(&self, to: &Path, end: End) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut target = File::create_new(to)?;
        self.read(&mut target)?;
        finish(&target, to, end)?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds until all of it came, and was forgotten.
    pub fn download_to_nowhere(&self) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.read(&mut io::sink())?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn read(&self, to: &mut impl Write) -> anyhow::Result<()> {
        let mut stream = self.send(&Method::GET, 0)?;
        let (status, length, begin) = answered(&mut stream)?;
        ensure!(status == StatusCode::OK, "the download was answered {status}");
        to.write_all(&begin)?;
        let rest = length - begin.len() as u64;
        let read = pump(&mut stream.take(rest), to)?;
        ensure!(read == rest, "{read} bytes came of {rest}");
        Ok(())
    }

    fn send(&self, method: &Method, length: u64) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        let head = request_head(method, self.path, self.address, self.headers, length);
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }
}

/// The status of an answer, the length of its body, and what came of it already.
fn answered(stream: &mut TcpStream) -> anyhow::Result<(StatusCode, u64, Vec<u8>)> {
    let mut got = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the hub hung up");
        got.extend_from_slice(&chunk[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(begin) = head.parse(&got)? else { continue };
        let status = StatusCode::from_u16(head.code.unwrap_or_default())?;
        let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length =
            std::str::from_utf8(length.context("the answer has no content-length")?.value)?.parse()?;
        return Ok((status, length, got.split_off(begin)));
    }
}

/// Whether two files hold the same.
pub fn are_equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}
