//! The writing connection, and how its log gets back into the file.
//!
//! SQLite by itself writes a long log back (a checkpoint) in the commit that made
//! it long, and whoever waits for that commit waits ten times as long. Here a
//! thread of its own does that while commits go on; only what they added
//! meanwhile is written back between two of them, so that the log can begin
//! anew (<https://sqlite.org/wal.html>, 2.3).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use std::ffi::c_int;

use super::{BEGIN, open_writer, prepared};

/// A log of so many pages (of 4 KiB) is written back. Longer ones kept commits
/// waiting longer at their end, and saved no time.
const LONG: i32 = 1024;

/// How often it is written back at once: the second time it is little, and less
/// is left to do between two commits.
const PASSES: usize = 2;

thread_local! {
    /// In the log after the last commit on this thread.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) connection: Connection,
    path: PathBuf,
    writing_back: Option<JoinHandle<()>>,
    /// Of the log, when it was last written back.
    pages_before: i32,
}

impl Writing {
    pub(crate) fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let connection = open_writer(path)?;
        connection.wal_hook(Some(note_pages));
        Ok(Self { connection, path: path.to_owned(), writing_back: None, pages_before: 0 })
    }

    pub(crate) fn begin(&mut self) -> Result<(), rusqlite::Error> {
        if let Some(thread) = self.writing_back.take_if(|thread| thread.is_finished()) {
            self.joined(thread);
        }
        self.connection.execute_batch(BEGIN)
    }

    pub(crate) fn commit(&mut self) -> Result<(), rusqlite::Error> {
        PAGES.set(0);
        self.connection.execute_batch("commit")?;
        let pages = PAGES.get();
        if pages < self.pages_before {
            self.pages_before = 0;
        }
        if self.writing_back.is_none() && pages - self.pages_before >= LONG {
            self.pages_before = pages;
            let path = self.path.clone();
            let thread = Builder::new().name("write-back".to_owned()).spawn(move || write_back_apart(&path));
            match thread {
                Ok(thread) => self.writing_back = Some(thread),
                Err(error) => {
                    tracing::warn!(%error, "the store's log is written back between commits: no thread for it");
                    write_back(&self.connection);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn close(mut self) -> Result<(), rusqlite::Error> {
        if let Some(thread) = self.writing_back.take() {
            self.joined(thread);
        }
        self.connection.close().map_err(|(_, error)| error)
    }

    fn joined(&self, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            tracing::error!("the thread that writes the store's log back has panicked");
        }
        write_back(&self.connection);
    }
}

#[allow(clippy::unnecessary_wraps)] // the signature that SQLite's hook calls
fn note_pages(_: &Wal, pages: c_int) -> rusqlite::Result<()> {
    PAGES.set(pages);
    Ok(())
}

fn write_back_apart(path: &Path) {
    match Connection::open(path).and_then(prepared) {
        Ok(connection) => (0..PASSES).for_each(|_| write_back(&connection)),
        Err(error) => tracing::warn!(%error, "the store cannot be opened to write its log back"),
    }
}

/// As much as readers and other processes allow now; the rest is for the next time.
fn write_back(connection: &Connection) {
    if let Err(error) = connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(())) {
        tracing::warn!(%error, "the store's log could not be written back; it grows until it can");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_written_back_and_begins_anew_while_commits_go_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hub.db");
        drop(Connection::open(&path).expect("a file"));
        let mut writing = Writing::open(&path).expect("open");
        writing.connection.execute_batch("create table t (data)").expect("a table");
        let mut pages = vec![0];
        while pages.len() < 10_000 && pages.iter().is_sorted() {
            writing.begin().expect("begun");
            writing.connection.execute("insert into t values (zeroblob(250000))", []).expect("a row");
            writing.commit().expect("committed");
            pages.push(PAGES.get());
        }
        let highest = pages.iter().max().expect("commits");
        assert!(*highest >= LONG, "it was written back before it was long: {highest} pages");
        assert!(!pages.is_sorted(), "the log grew to {highest} pages");
        let rows = |connection: &Connection| {
            connection.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0)).expect("a count")
        };
        assert_eq!(rows(&writing.connection), pages.len() as i64 - 1);
        writing.close().expect("closed");
        assert!(!path.with_extension("db-wal").exists(), "the last to close leaves no log");
        assert_eq!(rows(&Connection::open(&path).expect("open")), pages.len() as i64 - 1);
    }
}
