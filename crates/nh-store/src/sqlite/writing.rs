//! The writing connection, and how its log gets back into the file.
//!
//! SQLite by itself writes a long log back (a checkpoint) in the commit that made
//! it long, and whoever waits for that commit waits ten times as long. Here a
//! thread of its own does that while commits go on; what they added meanwhile is
//! written back between two of them, so that the log can begin anew
//! (<https://sqlite.org/wal.html>, 2.3). Needs a SQLite that is safe for
//! checkpoints beside a writer that restarts the log: 3.51.3, which is bundled.

use std::cell::Cell;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::{BEGIN, open_existing, open_writer};

/// A log of so many pages (of 4 KiB) is written back. Longer ones kept commits
/// waiting longer at their end, and saved no time.
const LONG: i32 = 1024;

/// Where readers were in the way of its beginning anew, it is tried again when
/// so many pages were added.
const AGAIN: i32 = 128;

/// Of such a log (64 MiB) the operator is told.
const WORRYING: i32 = 16_384;

/// How often it is written back at once: the second time it is little, and less
/// is left to do between two commits. (Only a pass beside which nothing is added
/// syncs the file; more passes sync more often, and keep commits from the disk.)
const PASSES: usize = 2;

thread_local! {
    /// In the log after the last commit on this thread that added any.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) connection: Connection,
    path: PathBuf,
    writing_back: Option<JoinHandle<Option<Connection>>>,
    /// The thread's connection, for the next time: opening one takes as long as
    /// a few commits.
    apart: Option<Connection>,
    /// In the log.
    pages: i32,
    /// With so many it is written back.
    due: i32,
}

impl Writing {
    pub(crate) fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let connection = open_writer(path)?;
        // What a batch keeps aside is too little for a file of its own. (What a
        // migration sorts is not.)
        connection.execute_batch("pragma temp_store = memory")?;
        connection.wal_hook(Some(note_pages));
        Ok(Self { connection, path: path.to_owned(), writing_back: None, apart: None, pages: 0, due: LONG })
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
        match PAGES.get() {
            // Nothing was changed.
            0 => {}
            pages => self.grew(pages),
        }
        Ok(())
    }

    fn grew(&mut self, pages: i32) {
        let before = std::mem::replace(&mut self.pages, pages);
        if pages < before {
            self.due = LONG;
        }
        if before < WORRYING && pages >= WORRYING {
            tracing::warn!(
                pages,
                "the store's log is long: somebody has been reading for long, and it grows until they end"
            );
        }
        if self.writing_back.is_some() || pages < self.due {
            return;
        }
        self.due = pages + AGAIN;
        let (path, apart) = (self.path.clone(), self.apart.take());
        let thread =
            Builder::new().name("write-back".to_owned()).spawn(move || write_back_apart(&path, apart));
        match thread {
            Ok(thread) => self.writing_back = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "the store's log is written back between commits: no thread for it");
                write_back(&self.connection);
            }
        }
    }

    pub(crate) fn close(mut self) -> Result<(), rusqlite::Error> {
        if let Some(thread) = self.writing_back.take() {
            self.joined(thread);
        }
        drop(self.apart);
        self.connection.close().map_err(|(_, error)| error)
    }

    fn joined(&mut self, thread: JoinHandle<Option<Connection>>) {
        self.apart = thread.join().unwrap_or_else(|_| {
            tracing::error!("the thread that writes the store's log back has panicked");
            None
        });
        write_back(&self.connection);
    }
}

#[allow(clippy::unnecessary_wraps)] // the signature that SQLite's hook calls
fn note_pages(_: &Wal, pages: c_int) -> rusqlite::Result<()> {
    PAGES.set(pages);
    Ok(())
}

fn write_back_apart(path: &Path, connection: Option<Connection>) -> Option<Connection> {
    match connection.map_or_else(|| open_existing(path), Ok) {
        Ok(connection) => {
            (0..PASSES).for_each(|_| write_back(&connection));
            Some(connection)
        }
        Err(error) => {
            tracing::warn!(%error, "the store cannot be opened to write its log back");
            None
        }
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

    fn new_file(directory: &Path) -> (PathBuf, Writing) {
        let path = directory.join("hub.db");
        drop(Connection::open(&path).expect("a file"));
        let writing = Writing::open(&path).expect("open");
        writing.connection.execute_batch("create table t (data)").expect("a table");
        (path, writing)
    }

    /// How many pages the log has then.
    fn write(writing: &mut Writing) -> i32 {
        writing.begin().expect("begun");
        writing.connection.execute("insert into t values (zeroblob(250000))", []).expect("a row");
        writing.commit().expect("committed");
        writing.pages
    }

    fn rows(connection: &Connection) -> usize {
        let count = connection.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0));
        count.expect("a count") as usize
    }

    #[test]
    fn a_long_log_is_written_back_and_begins_anew_while_commits_go_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, mut writing) = new_file(directory.path());
        let mut pages = vec![0];
        while pages.len() < 10_000 && pages.is_sorted() {
            pages.push(write(&mut writing));
        }
        let highest = pages.iter().max().expect("commits");
        assert!(*highest >= LONG, "it was written back before it was long: {highest} pages");
        assert!(!pages.is_sorted(), "the log grew to {highest} pages");
        assert_eq!(rows(&writing.connection), pages.len() - 1);
        writing.close().expect("closed");
        assert!(!path.with_extension("db-wal").exists(), "the last to close leaves no log");
        assert_eq!(rows(&Connection::open(&path).expect("open")), pages.len() - 1);
    }

    #[test]
    fn what_another_connection_wrote_back_is_enough() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, mut writing) = new_file(directory.path());
        let before = write(&mut writing);
        let apart = write_back_apart(&path, None);
        assert!(apart.is_some());
        assert!(write(&mut writing) <= before);
        assert_eq!(rows(&writing.connection), 2);
    }

    #[test]
    fn a_log_that_a_reader_holds_begins_anew_soon_after() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, mut writing) = new_file(directory.path());
        write(&mut writing);
        let reader = Connection::open(&path).expect("open");
        reader.execute_batch("begin").expect("begun");
        assert_eq!(rows(&reader), 1);
        while write(&mut writing) < 3 * LONG {}
        assert_eq!(rows(&reader), 1);
        reader.execute_batch("commit").expect("read");
        let held = writing.pages;
        let mut pages = held;
        while pages >= held && pages < 100 * LONG {
            pages = write(&mut writing);
        }
        assert!(pages < held, "the log grew to {pages} pages");
    }
}
