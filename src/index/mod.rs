//! Chunks and vectors on disk. SQLite is the truth; vector matrix and graph are caches.
//!
//! [`Writer`] holds the folder's lock and changes it one document a transaction; [`Reader`] pins one state and never
//! waits.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::chunk::Chunk;
use crate::embedding::EmbedderId;

/// What the index knows about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// Absolute path, NFC as the system gave it.
    pub path: PathBuf,
    /// The path relative to the ingested folder, NFC, `/` between folders: what answers cite.
    pub source: String,
    /// SHA-256 of the content, lower-case hexadecimal.
    pub content_hash: String,
    /// File size.
    pub n_bytes: u64,
    /// Time of the last change, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Version of reading and chunking that produced the chunks; another version means: read again.
    pub pipeline: u32,
    /// What came of reading it.
    pub state: FileState,
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Its chunks are in the index.
    Read {
        /// The document's title.
        title: Option<String>,
        /// What could not be read of it.
        warnings: Vec<String>,
    },
    /// Nothing of it is in the index.
    Unreadable {
        /// Why, in one sentence.
        reason: String,
    },
}

/// A chunk on its way into the index; `None` when the index has the vector of this text already.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChunk {
    /// The chunk.
    pub chunk: Chunk,
    /// Its unit vector, `[dimension]`.
    pub embedding: Option<Vec<f32>>,
}

/// A chunk's number, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub i64);

/// A chunk as the index holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its number.
    pub id: ChunkId,
    /// File it is from, as answers cite it.
    pub source: String,
    /// Position within its document, from 0.
    pub ordinal: u32,
    /// The chunk.
    pub chunk: Chunk,
}

/// A chunk found by one leg of the search; greater is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The chunk.
    pub id: ChunkId,
    /// Cosine similarity, or BM25 (positive), as the leg defines.
    pub similarity: f32,
}

/// The one process that may change an index.
#[derive(Debug)]
pub struct Writer {}

/// One unchanging view of an index.
#[derive(Debug)]
pub struct Reader {}

impl Writer {
    /// Opens the index in `folder`, making it when there is none, and takes its lock.
    ///
    /// # Errors
    /// When another process holds the lock (says which), the index is of another embedder or of a newer format.
    pub fn open(_folder: &Path, _embedder: &EmbedderId) -> Result<Writer> {
        anyhow::bail!("not built yet")
    }

    /// The files the index knows at or under an absolute path.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files_under(&self, _path: &Path) -> Result<Vec<FileRecord>> {
        anyhow::bail!("not built yet")
    }

    /// Which of these texts ([`Chunk::embedded_text`]) have a vector already.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_embeddings(&self, _texts: &[String]) -> Result<Vec<bool>> {
        anyhow::bail!("not built yet")
    }

    /// Puts a file in, or replaces what the index had of the same path: durable, all or nothing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn replace(&mut self, _file: &FileRecord, _chunks: &[NewChunk]) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Gives a file's chunks to another path (same content moved there); keeps its vectors.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn relocate(&mut self, _from: &Path, _to: &FileRecord) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Takes a file out.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove(&mut self, _path: &Path) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Brings the caches up to date where that pays. Questions go on meanwhile.
    ///
    /// # Errors
    /// When the caches cannot be written; the index itself is whole.
    pub fn publish(&mut self) -> Result<()> {
        anyhow::bail!("not built yet")
    }
}

impl Reader {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is of a newer format.
    pub fn open(_folder: &Path) -> Result<Reader> {
        anyhow::bail!("not built yet")
    }

    /// The embedder that made the vectors.
    #[must_use]
    pub fn embedder(&self) -> &EmbedderId {
        unimplemented!("skeleton")
    }

    /// The chunks nearest to a unit vector by cosine, best first.
    ///
    /// # Errors
    /// When the vector's length is wrong or the database cannot be read.
    pub fn nearest(&self, _query: &[f32], _top_k: usize) -> Result<Vec<Scored>> {
        anyhow::bail!("not built yet")
    }

    /// Cosine similarity of a unit vector with each of these chunks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn similarities(&self, _query: &[f32], _ids: &[ChunkId]) -> Result<Vec<f32>> {
        anyhow::bail!("not built yet")
    }

    /// The chunks that hold any of these terms, by BM25 (greater is better), best first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn lexical(&self, _terms: &[String], _top_k: usize) -> Result<Vec<Scored>> {
        anyhow::bail!("not built yet")
    }

    /// In how many chunks each term occurs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn document_frequencies(&self, _terms: &[String]) -> Result<Vec<u64>> {
        anyhow::bail!("not built yet")
    }

    /// Number of chunks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn n_chunks(&self) -> Result<u64> {
        anyhow::bail!("not built yet")
    }

    /// The chunks with these numbers, in the order given.
    ///
    /// # Errors
    /// When the database cannot be read or a number is unknown.
    pub fn chunks(&self, _ids: &[ChunkId]) -> Result<Vec<StoredChunk>> {
        anyhow::bail!("not built yet")
    }

    /// All chunks of the section that holds `id`, in document order.
    ///
    /// # Errors
    /// When the database cannot be read or the number is unknown.
    pub fn section_of(&self, _id: ChunkId) -> Result<Vec<StoredChunk>> {
        anyhow::bail!("not built yet")
    }

    /// What the index knows of its files.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files(&self) -> Result<Vec<FileRecord>> {
        anyhow::bail!("not built yet")
    }
}
