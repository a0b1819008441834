//! Many memories at once, a JSON text a line.

use futures_util::future::{join_all, try_join_all};
use nh_store::Once;
use nh_store::memories::{Add, Added, NewMemory};
use nh_types::memory::{CreateMemory, ImportFault, ImportMemory, ImportedMemories};

use crate::memories::{Author, MAX_TRIES, Memories, MemoryError, changing};

/// Lines that are embedded and stored at the same time.
const LINES_AT_ONCE: usize = 64;
/// Faults that are told.
const MAX_FAULTS: usize = 100;

/// An import under way. What was counted is durable; importing the same lines
/// again finds them there.
pub struct Importing<'a> {
    memories: &'a Memories,
    author: Author<'a>,
    waiting: Vec<NewMemory>,
    line: u64,
    result: ImportedMemories,
}

impl Memories {
    pub fn import<'a>(&'a self, author: Author<'a>) -> Importing<'a> {
        let (waiting, result) = (Vec::new(), ImportedMemories::default());
        Importing { memories: self, author, waiting, line: 0, result }
    }
}

impl Importing<'_> {
    /// Takes the next line. One with something wrong in it is passed over and
    /// told of at the end; an error ends the import, and what was stored stays.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), MemoryError> {
        self.line += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        match self.read(line) {
            Ok(memory) => self.waiting.push(memory),
            Err(message) => self.pass_over(message),
        }
        if self.waiting.len() >= LINES_AT_ONCE {
            self.store().await?;
        }
        Ok(())
    }

    /// A line that is longer than any that could be right.
    pub fn too_long(&mut self, most_bytes: usize) {
        self.line += 1;
        self.pass_over(format!("the line is longer than {most_bytes} bytes"));
    }

    /// Stores what is left.
    pub async fn finish(mut self) -> Result<ImportedMemories, MemoryError> {
        self.store().await?;
        Ok(self.result)
    }

    fn read(&self, line: &[u8]) -> Result<NewMemory, String> {
        let read: ImportMemory = serde_json::from_slice(line).map_err(|error| no_memory(&error))?;
        let ImportMemory { content, metadata, namespace, expires_at } = read;
        let new = CreateMemory { content, metadata, namespace, expires_at };
        self.memories.new_memory(self.author, new).map_err(|error| error.message)
    }

    fn pass_over(&mut self, message: String) {
        self.result.failed += 1;
        if self.result.errors.len() < MAX_FAULTS {
            self.result.errors.push(ImportFault { line: self.line, message });
        }
    }

    async fn store(&mut self) -> Result<(), MemoryError> {
        let waiting = std::mem::take(&mut self.waiting);
        for _ in 0..MAX_TRIES {
            let model = self.memories.model(self.author.workspace_id).await?;
            let adds = self.embedded(&waiting, &model).await?;
            let written = join_all(adds.into_iter().map(|add| self.memories.write_new(add, None))).await;
            // What is written is found the next time.
            if written.iter().any(|written| matches!(written, Ok(None))) {
                continue;
            }
            for written in written {
                match written? {
                    Some(Once::First(Added::New { .. })) => self.result.created += 1,
                    _ => self.result.existing += 1,
                }
            }
            return Ok(());
        }
        Err(changing().into())
    }

    /// A content that is there already is not embedded again.
    async fn embedded(&self, waiting: &[NewMemory], model: &str) -> Result<Vec<Add>, MemoryError> {
        let known = try_join_all(waiting.iter().map(|memory| self.memories.is_known(memory))).await?;
        let new: Vec<&str> = waiting
            .iter()
            .zip(&known)
            .filter(|(_, is_known)| !**is_known)
            .map(|(memory, _)| memory.content.as_str())
            .collect();
        let embedder = &self.memories.inner.embedder;
        let mut vectors = embedder.contents(self.author.remote, model, &new).await?.into_iter();
        let add = |(memory, is_known): (&NewMemory, bool)| Add {
            memory: memory.clone(),
            vectors: if is_known { None } else { vectors.next() },
        };
        Ok(waiting.iter().zip(known).map(add).collect())
    }
}

/// Without serde's count of lines, which is of this one alone.
fn no_memory(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let told = told.rsplit_once(" at line ").map_or(&*told, |(told, _)| told);
    format!("the line is no memory: {told} (column {})", error.column())
}
