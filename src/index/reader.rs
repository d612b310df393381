//! Asking an index: one unchanging view.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row};

use super::database::{self, Paths};
use super::{ChunkId, FileRecord, IndexError, Scored, StoredChunk, writer};
use crate::chunk::Chunk;
use crate::document::Location;
use crate::embedding::EmbedderId;

const CHUNK_COLUMNS: &str =
    "chunks.id, files.source, ordinal, text, sections.path, page, page_is_approximate,
     sections.headings, sheet, row, line
     FROM chunks JOIN sections ON sections.id = section_id JOIN files ON files.id = file_id";

/// One unchanging view of an index.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    folder: PathBuf,
    paths: Paths,
    embedder: EmbedderId,
}

impl Reader {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// [`IndexError`] when there is none, or it is of a newer format; otherwise the system's reason.
    pub fn open(folder: &Path) -> Result<Reader> {
        let db = database::open_pinned(folder)?;
        let embedder = database::embedder(&db)?;
        Ok(Reader {
            db,
            folder: folder.to_owned(),
            paths: Paths::new(folder)?,
            embedder,
        })
    }

    /// The embedder that made the vectors.
    #[must_use]
    pub fn embedder(&self) -> &EmbedderId {
        &self.embedder
    }

    /// Makes sure that `embedder` made the vectors.
    ///
    /// # Errors
    /// [`IndexError::OtherEmbedder`], which names both.
    pub fn expect_embedder(&self, embedder: &EmbedderId) -> Result<()> {
        Ok(IndexError::check_embedder(
            &self.folder,
            &self.embedder,
            embedder,
        )?)
    }

    /// The chunks nearest to a unit vector by cosine, best first.
    ///
    /// # Errors
    /// When the vector's length is wrong or the database cannot be read.
    pub fn nearest(&self, query: &[f32], top_k: usize) -> Result<Vec<Scored>> {
        writer::check_unit_vector(query, self.embedder.dimension)?;
        let mut scored = Vec::new();
        let mut select = self.db.prepare_cached("SELECT id, vector FROM vectors")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob()?;
            let similarity = database::similarity_to_bytes(query, bytes)
                .context("a vector of another dimension")?;
            scored.push((row.get::<_, i64>(0)?, similarity));
        }
        scored.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut found = Vec::with_capacity(top_k);
        let mut chunks_of = self
            .db
            .prepare_cached("SELECT id FROM chunks WHERE vector_id = ? ORDER BY id")?;
        for (vector_id, similarity) in scored {
            if found.len() >= top_k {
                break;
            }
            for id in chunks_of.query_map([vector_id], |row| row.get(0))? {
                found.push(Scored {
                    id: ChunkId(id?),
                    similarity,
                });
            }
        }
        found.truncate(top_k);
        Ok(found)
    }

    /// Cosine similarity of a unit vector with each of these chunks.
    ///
    /// # Errors
    /// When the vector's length is wrong, a number is unknown, or the database cannot be read.
    pub fn similarities(&self, query: &[f32], ids: &[ChunkId]) -> Result<Vec<f32>> {
        writer::check_unit_vector(query, self.embedder.dimension)?;
        let mut select = self.db.prepare_cached(
            "SELECT vector FROM vectors JOIN chunks ON vectors.id = vector_id WHERE chunks.id = ?",
        )?;
        let mut similarities = Vec::with_capacity(ids.len());
        for id in ids {
            let mut rows = select.query([id.0])?;
            let Some(row) = rows.next()? else {
                bail!("chunk {}: not in the index", id.0);
            };
            let bytes = row.get_ref(0)?.as_blob()?;
            similarities.push(
                database::similarity_to_bytes(query, bytes)
                    .context("a vector of another dimension")?,
            );
        }
        Ok(similarities)
    }

    /// The chunks that hold any of these terms, by BM25 (greater is better), best first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn lexical(&self, terms: &[String], top_k: usize) -> Result<Vec<Scored>> {
        let query = match_any(terms);
        if query.is_empty() {
            return Ok(Vec::new());
        }
        let mut select = self.db.prepare_cached(
            "SELECT rowid, rank FROM terms WHERE terms MATCH ? ORDER BY rank LIMIT ?",
        )?;
        let rows = select.query_map((query, i64::try_from(top_k)?), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.map(|row| {
            let (id, rank): (i64, f64) = row?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding a number of moderate size"
            )]
            let similarity = -rank as f32;
            Ok(Scored {
                id: ChunkId(id),
                similarity,
            })
        })
        .collect()
    }

    /// In how many chunks each term occurs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn document_frequencies(&self, terms: &[String]) -> Result<Vec<u64>> {
        let mut count = self
            .db
            .prepare_cached("SELECT count(*) FROM terms WHERE terms MATCH ?")?;
        terms
            .iter()
            .map(|term| {
                let query = match_any(std::slice::from_ref(term));
                if query.is_empty() {
                    return Ok(0);
                }
                Ok(u64::try_from(
                    count.query_row([query], |row| row.get::<_, i64>(0))?,
                )?)
            })
            .collect()
    }

    /// Number of chunks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn n_chunks(&self) -> Result<u64> {
        let n: i64 = self
            .db
            .query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))?;
        Ok(u64::try_from(n)?)
    }

    /// The chunks with these numbers, in the order given.
    ///
    /// # Errors
    /// When the database cannot be read or a number is unknown.
    pub fn chunks(&self, ids: &[ChunkId]) -> Result<Vec<StoredChunk>> {
        let mut select = self
            .db
            .prepare_cached(&format!("SELECT {CHUNK_COLUMNS} WHERE chunks.id = ?"))?;
        ids.iter()
            .map(|id| {
                select
                    .query_row([id.0], |row| Ok(stored_chunk(row)))
                    .optional()?
                    .with_context(|| format!("chunk {}: not in the index", id.0))?
            })
            .collect()
    }

    /// All chunks of the section that holds `id`, in document order.
    ///
    /// # Errors
    /// When the database cannot be read or the number is unknown.
    pub fn section_of(&self, id: ChunkId) -> Result<Vec<StoredChunk>> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT {CHUNK_COLUMNS} WHERE section_id = (SELECT section_id FROM chunks WHERE id = ?) ORDER BY ordinal"
        ))?;
        let chunks: Vec<StoredChunk> = select
            .query_map([id.0], |row| Ok(stored_chunk(row)))?
            .map(|chunk| chunk?)
            .collect::<Result<_>>()?;
        if chunks.is_empty() {
            bail!("chunk {}: not in the index", id.0);
        }
        Ok(chunks)
    }

    /// What the index knows of its files.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files(&self) -> Result<Vec<FileRecord>> {
        writer::files(&self.db, &self.paths)
    }
}

fn stored_chunk(row: &Row<'_>) -> Result<StoredChunk> {
    Ok(StoredChunk {
        id: ChunkId(row.get(0)?),
        source: row.get(1)?,
        ordinal: row.get(2)?,
        chunk: Chunk {
            text: row.get(3)?,
            path: serde_json::from_str(row.get_ref(4)?.as_str()?)?,
            location: Location {
                page: row.get(5)?,
                page_is_approximate: row.get(6)?,
                section: serde_json::from_str(row.get_ref(7)?.as_str()?)?,
                sheet: row.get(8)?,
                row: row.get(9)?,
                line: row.get(10)?,
            },
        },
    })
}

/// An FTS5 query for any of the terms; empty when none is left.
fn match_any(terms: &[String]) -> String {
    let mut quoted: Vec<String> = terms
        .iter()
        .map(|term| format!("\"{}\"", term.replace(['"', '\0'], "")))
        .filter(|term| term.len() > 2)
        .collect();
    quoted.sort_unstable();
    quoted.dedup();
    quoted.join(" OR ")
}
