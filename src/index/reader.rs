//! Asking an index: one unchanging view.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row};

use super::cache::Caches;
use super::database::{self, Paths};
use super::filter::{Allowed, Bits, Filter};
use super::postings::{self, Collection, Counted, Postings};
use super::vectors::{Best, Row as QuantisedRow, VectorCache};
use super::{ChunkId, FileRecord, FileState, IndexError, Scored, StoredChunk, writer};
use crate::chunk::Chunk;
use crate::document::Location;
use crate::embedding::EmbedderId;

/// Candidates by quantised similarity beyond the results asked for and a quarter of them, which is what a cache may hold
/// of removed texts; their exact similarity then decides.
const SPARE_CANDIDATES: usize = 16;

/// From so many rows on their codes choose those that are looked at: below, looking at all should cost less than reading
/// the chosen ones here and there (estimated from the costs of both at 100,000 rows and more).
const CODED_FROM: usize = 50_000;

/// Candidates the search in the graph keeps open (`ef`) for each one wanted.
const EF_PER_CANDIDATE: usize = 4;

/// With more chunks than this after the cache of postings, FTS5 is quicker than cutting each into terms.
const MOST_NEWER_CHUNKS: usize = 1000;

/// One unchanging view of an index.
#[derive(Debug)]
pub struct Reader {
    pub(super) db: Connection,
    pub(super) caches: Caches,
    pub(super) folder: PathBuf,
    paths: Paths,
    embedder: EmbedderId,
    /// Asks for chunks; a `WHERE` is to follow.
    select_chunks: String,
    /// What may be found, when not all may.
    allowed: Option<Allowed>,
    /// Every question asks more than once for the chunks after the cache of postings, and how many chunks there are.
    newer: OnceCell<Option<Vec<(i64, Counted)>>>,
    n_chunks: OnceCell<u64>,
}

impl Reader {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// [`IndexError`] when there is none, or it is of a newer format; otherwise the system's reason.
    pub fn open(folder: &Path) -> Result<Reader> {
        let mut db = database::open_pinned(folder)?;
        let mut caches = Caches::open(&db, folder)?;
        if !caches.problems.is_empty() {
            // Perhaps a writer published and removed the old files between the two lines above.
            db = database::open_pinned(folder)?;
            caches = Caches::open(&db, folder)?;
        }
        let embedder = database::embedder(&db)?;
        let select_chunks = select_chunks(database::has_page_labels(&db)?);
        Ok(Reader {
            db,
            caches,
            folder: folder.to_owned(),
            paths: Paths::new(folder)?,
            embedder,
            select_chunks,
            allowed: None,
            newer: OnceCell::new(),
            n_chunks: OnceCell::new(),
        })
    }

    /// From now on finds only chunks of documents that pass the filter; returns how many documents those are. What is
    /// counted of all chunks together, such as how rare a term is, stays as it is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn restrict(&mut self, filter: &Filter) -> Result<usize> {
        let mut files = writer::numbered_files(&self.db, &self.paths)?;
        files.retain(|(_, file)| matches!(file.state, FileState::Read { .. }));
        let n_all = files.len();
        files.retain(|(_, file)| filter.matches(file));
        if files.len() == n_all {
            self.allowed = None;
            return Ok(n_all);
        }
        let mut chunks_of = self.db.prepare(
            "SELECT chunks.id, vector_id FROM sections JOIN chunks ON section_id = sections.id WHERE file_id = ?",
        )?;
        let mut allowed = Allowed::default();
        for (id, _) in &files {
            let mut rows = chunks_of.query([id])?;
            while let Some(row) = rows.next()? {
                let (chunk, vector): (i64, i64) = (row.get(0)?, row.get(1)?);
                allowed.chunks.insert(usize::try_from(chunk)?);
                allowed.vectors.insert(usize::try_from(vector)?);
            }
        }
        drop(chunks_of);
        self.allowed = Some(allowed);
        Ok(files.len())
    }

    fn may_find(&self, chunk_id: i64) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_none_or(|allowed| allowed.chunks.contains_id(chunk_id))
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
        if let Some(cache) = &self.caches.vectors {
            // A damaged cache is no reason not to answer; `check` tells of it.
            if let Ok(found) = self.nearest_by_cache(cache, query, top_k) {
                return Ok(found);
            }
        }
        self.nearest_by_database(query, top_k)
    }

    pub(super) fn nearest_by_database(&self, query: &[f32], top_k: usize) -> Result<Vec<Scored>> {
        self.with_enough_candidates(query, top_k, |n_candidates| {
            let candidates = self.scan_database(query, 0, n_candidates)?;
            let is_all = candidates.len() < n_candidates;
            Ok((candidates, is_all))
        })
    }

    fn nearest_by_cache(
        &self,
        cache: &VectorCache,
        query: &[f32],
        top_k: usize,
    ) -> Result<Vec<Scored>> {
        let allowed = self.allowed.as_ref();
        let allowed = allowed
            .map(|allowed| cache.rows_of(&allowed.vectors))
            .transpose()?;
        self.with_enough_candidates(query, top_k, |n_candidates| {
            let mut candidates = self.scan_database(query, cache.last_id(), n_candidates)?;
            let rows = self.rows_by_cache(cache, query, n_candidates, allowed.as_ref())?;
            let is_all = candidates.len() < n_candidates && rows.len() < n_candidates;
            for row in rows {
                candidates.push(cache.id(row)?);
            }
            Ok((candidates, is_all))
        })
    }

    /// The rows of the cache most similar to the query, fewer than `n` only when there are no more.
    fn rows_by_cache(
        &self,
        cache: &VectorCache,
        query: &[f32],
        n: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<usize>> {
        let row = QuantisedRow::new(query);
        let scan = |first: usize| -> Result<Vec<(usize, f32)>> {
            if cache.n_rows() - first.min(cache.n_rows()) >= CODED_FROM
                && let Some(rows) = cache.scan_by_codes(query, first, n, allowed)?
            {
                return Ok(rows);
            }
            cache.scan(&row, first, n, allowed)
        };
        // A walk over the graph pays where most of what it passes may be found.
        let n_rows = allowed.map_or(cache.n_rows(), Bits::len);
        let mut rows = match &self.caches.graph {
            Some(graph) if n < n_rows / 8 && n_rows > cache.n_rows() / 8 => {
                let ef = EF_PER_CANDIDATE * n;
                let mut rows = graph.search(cache, &row, ef, allowed)?;
                rows.truncate(ef);
                rows.extend(scan(graph.n_rows())?);
                rows
            }
            _ => scan(0)?,
        };
        rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        rows.truncate(n);
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// Asks for the vectors nearest to the query, and for more where those of removed texts take the places of others.
    /// `candidates` gives the best so many and whether these are all there are.
    fn with_enough_candidates(
        &self,
        query: &[f32],
        top_k: usize,
        candidates: impl Fn(usize) -> Result<(Vec<i64>, bool)>,
    ) -> Result<Vec<Scored>> {
        let mut n_candidates = top_k + top_k / 4 + SPARE_CANDIDATES;
        loop {
            let (candidates, is_all) = candidates(n_candidates)?;
            let found = self.chunks_of_vectors(query, &candidates, top_k)?;
            if found.len() >= top_k || is_all {
                return Ok(found);
            }
            n_candidates *= 4;
        }
    }

    /// The vectors after `after_id` nearest to the query, at most `n`.
    fn scan_database(&self, query: &[f32], after_id: i64, n: usize) -> Result<Vec<i64>> {
        let mut best = Best::new(n);
        let mut ids = Vec::new();
        let mut select = self
            .db
            .prepare_cached("SELECT id, vector FROM vectors WHERE id > ? ORDER BY id")?;
        let mut rows = select.query([after_id])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let allowed = self.allowed.as_ref();
            if allowed.is_none_or(|allowed| allowed.vectors.contains_id(id)) {
                let similarity = self.similarity(query, row.get_ref(1)?.as_blob()?)?;
                best.offer(ids.len(), similarity);
                ids.push(id);
            }
        }
        Ok(best
            .into_sorted()
            .into_iter()
            .filter_map(|(i, _)| ids.get(i).copied())
            .collect())
    }

    /// The chunks that have these vectors, by exact similarity, at most `top_k`.
    fn chunks_of_vectors(
        &self,
        query: &[f32],
        vector_ids: &[i64],
        top_k: usize,
    ) -> Result<Vec<Scored>> {
        let mut select = self.db.prepare_cached(
            "SELECT chunks.id, vector FROM vectors JOIN chunks ON vector_id = vectors.id WHERE vectors.id = ?
             ORDER BY chunks.id",
        )?;
        let mut found = Vec::with_capacity(vector_ids.len());
        for id in vector_ids {
            let mut rows = select.query([id])?;
            let mut similarity = None;
            let most = found.len() + top_k;
            while found.len() < most
                && let Some(row) = rows.next()?
            {
                let chunk_id = row.get(0)?;
                if !self.may_find(chunk_id) {
                    continue;
                }
                let similarity = match similarity {
                    Some(similarity) => similarity,
                    None => *similarity.insert(self.similarity(query, row.get_ref(1)?.as_blob()?)?),
                };
                found.push(Scored {
                    id: ChunkId(chunk_id),
                    similarity,
                });
            }
        }
        found.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id)));
        found.truncate(top_k);
        Ok(found)
    }

    fn similarity(&self, query: &[f32], stored: &[u8]) -> Result<f32> {
        database::similarity_to_bytes(query, stored)
            .with_context(|| format!("{}: a vector of another dimension", self.folder.display()))
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
            similarities.push(self.similarity(query, bytes)?);
        }
        Ok(similarities)
    }

    /// The chunks that hold any of these terms, by BM25 (greater is better), best first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn lexical(&self, terms: &[String], top_k: usize) -> Result<Vec<Scored>> {
        let terms = distinct(terms);
        if let Some(cache) = &self.caches.terms {
            // A damaged cache is no reason not to answer; `check` tells of it.
            if let Ok(Some(found)) = self.lexical_by_cache(cache, &terms, top_k) {
                return Ok(found);
            }
        }
        self.lexical_by_database(&terms, top_k)
    }

    /// `None` when too many chunks are newer than the cache.
    fn lexical_by_cache(
        &self,
        cache: &Postings,
        terms: &[&str],
        top_k: usize,
    ) -> Result<Option<Vec<Scored>>> {
        let Some(newer) = self.newer_chunks(cache)? else {
            return Ok(None);
        };
        let collection = collection(cache, newer);
        let mut weighted = Vec::with_capacity(terms.len());
        for term in terms {
            let hash = postings::term_hash(term);
            weighted.push((hash, collection.weight(frequency(cache, newer, hash)?)));
        }
        let saturation = collection.saturation();
        let mut found = self.living(cache, &weighted, collection, top_k)?;
        for (id, counted) in newer.iter().filter(|(id, _)| self.may_find(*id)) {
            let scores = weighted.iter().filter_map(|(hash, weight)| {
                let n_occurrences = *counted.occurrences.get(hash)?;
                Some(weight * saturation.of(n_occurrences, counted.n_terms))
            });
            if let Some(score) = scores.reduce(|a, b| a + b) {
                found.push((*id, score));
            }
        }
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(top_k);
        Ok(Some(found.into_iter().map(scored).collect()))
    }

    /// The best chunks of the cache that are still in the index.
    fn living(
        &self,
        cache: &Postings,
        weighted: &[(u64, f64)],
        collection: Collection,
        top_k: usize,
    ) -> Result<Vec<(i64, f64)>> {
        let mut lives = self
            .db
            .prepare_cached("SELECT 1 FROM chunks WHERE id = ?")?;
        let allowed = self.allowed.as_ref();
        let allowed = allowed
            .map(|allowed| cache.places_of(&allowed.chunks))
            .transpose()?;
        let mut n_candidates = top_k + top_k / 8 + 8;
        loop {
            let candidates = cache.search(weighted, collection, n_candidates, allowed.as_ref())?;
            let is_all = candidates.len() < n_candidates;
            let mut living = Vec::with_capacity(candidates.len());
            for candidate in candidates {
                if lives.exists([candidate.0])? {
                    living.push(candidate);
                }
            }
            if living.len() >= top_k || is_all {
                return Ok(living);
            }
            n_candidates *= 4;
        }
    }

    /// The terms of the chunks that came after the cache; `None` when there are too many to look at each.
    fn newer_chunks(&self, cache: &Postings) -> Result<Option<&[(i64, Counted)]>> {
        let newer = match self.newer.get() {
            Some(newer) => newer,
            None => {
                let newer = self.read_newer_chunks(cache)?;
                self.newer.get_or_init(|| newer)
            }
        };
        Ok(newer.as_deref())
    }

    fn read_newer_chunks(&self, cache: &Postings) -> Result<Option<Vec<(i64, Counted)>>> {
        let mut select = self.db.prepare_cached(
            "SELECT chunks.id, sections.path, text FROM chunks JOIN sections ON sections.id = section_id
             WHERE chunks.id > ?",
        )?;
        let mut rows = select.query([cache.last_id()])?;
        let mut newer = Vec::new();
        while let Some(row) = rows.next()? {
            if newer.len() >= MOST_NEWER_CHUNKS {
                return Ok(None);
            }
            let counted =
                writer::count_terms(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?)?;
            newer.push((row.get(0)?, counted));
        }
        Ok(Some(newer))
    }

    pub(super) fn lexical_by_database(&self, terms: &[&str], top_k: usize) -> Result<Vec<Scored>> {
        let query = match_any(terms);
        if query.is_empty() {
            return Ok(Vec::new());
        }
        let mut select = self.db.prepare_cached(
            "SELECT rowid, -rank FROM terms WHERE terms MATCH ? ORDER BY rank, rowid LIMIT ?",
        )?;
        let limit = match &self.allowed {
            None => i64::try_from(top_k)?,
            Some(_) => -1,
        };
        let mut rows = select.query((query, limit))?;
        let mut found = Vec::new();
        while found.len() < top_k
            && let Some(row) = rows.next()?
        {
            let id = row.get(0)?;
            if self.may_find(id) {
                found.push(scored((id, row.get(1)?)));
            }
        }
        Ok(found)
    }

    /// In how many chunks each term occurs. Chunks that were removed since the last [`Writer::publish`] may still
    /// count.
    ///
    /// [`Writer::publish`]: super::Writer::publish
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn document_frequencies(&self, terms: &[String]) -> Result<Vec<u64>> {
        if let Some(cache) = &self.caches.terms
            && let Some(newer) = self.newer_chunks(cache)?
        {
            let by_cache: Result<Vec<u64>> = terms
                .iter()
                .map(|term| frequency(cache, newer, postings::term_hash(term)))
                .collect();
            if by_cache.is_ok() {
                return by_cache;
            }
        }
        let mut count = self
            .db
            .prepare_cached("SELECT count(*) FROM terms WHERE terms MATCH ?")?;
        terms
            .iter()
            .map(|term| {
                let query = match_any(&[term]);
                if query.is_empty() {
                    return Ok(0);
                }
                Ok(u64::try_from(
                    count.query_row([query], |row| row.get::<_, i64>(0))?,
                )?)
            })
            .collect()
    }

    /// Number of chunks, for weighing terms: as [`Reader::document_frequencies`], it may count removed ones. [`Status`] has
    /// the exact number, for which the database walks over a whole table.
    ///
    /// [`Status`]: super::Status
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn n_chunks(&self) -> Result<u64> {
        if let Some(n_chunks) = self.n_chunks.get() {
            return Ok(*n_chunks);
        }
        let newer = match &self.caches.terms {
            Some(cache) => self.newer_chunks(cache)?.map(|newer| (cache, newer)),
            None => None,
        };
        let n_chunks = match newer {
            Some((cache, newer)) => collection(cache, newer).n_chunks,
            None => {
                let select = "SELECT count(*) FROM chunks";
                u64::try_from(self.db.query_row(select, [], |row| row.get::<_, i64>(0))?)?
            }
        };
        Ok(*self.n_chunks.get_or_init(|| n_chunks))
    }

    /// The chunks with these numbers, in the order given.
    ///
    /// # Errors
    /// When the database cannot be read or a number is unknown.
    pub fn chunks(&self, ids: &[ChunkId]) -> Result<Vec<StoredChunk>> {
        let mut select = self
            .db
            .prepare_cached(&format!("{} WHERE chunks.id = ?", self.select_chunks))?;
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
            "{} WHERE section_id = (SELECT section_id FROM chunks WHERE id = ?) ORDER BY ordinal",
            self.select_chunks
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

/// What [`stored_chunk`] takes, without a `WHERE`.
fn select_chunks(has_page_labels: bool) -> String {
    let page_label = if has_page_labels {
        "page_label"
    } else {
        "NULL"
    };
    format!(
        "SELECT chunks.id, files.source, ordinal, text, sections.path, page, page_is_approximate, {page_label},
         sections.headings, sheet, row, line
         FROM chunks JOIN sections ON sections.id = section_id JOIN files ON files.id = file_id"
    )
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
                page_label: row.get(7)?,
                section: serde_json::from_str(row.get_ref(8)?.as_str()?)?,
                sheet: row.get(9)?,
                row: row.get(10)?,
                line: row.get(11)?,
            },
        },
    })
}

/// What BM25 must know of the cache and what came after it, together.
fn collection(cache: &Postings, newer: &[(i64, Counted)]) -> Collection {
    let mut collection = cache.collection();
    for (_, counted) in newer {
        collection.n_chunks += 1;
        collection.n_terms += u64::from(counted.n_terms);
    }
    collection
}

/// In how many chunks of the cache and of what came after it a term occurs.
fn frequency(cache: &Postings, newer: &[(i64, Counted)], hash: u64) -> Result<u64> {
    let mut n = cache.document_frequency(hash)?;
    for (_, counted) in newer {
        n += u64::from(counted.occurrences.contains_key(&hash));
    }
    Ok(n)
}

fn scored((id, score): (i64, f64)) -> Scored {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding a number of moderate size"
    )]
    let similarity = score as f32;
    Scored {
        id: ChunkId(id),
        similarity,
    }
}

/// Each term once.
fn distinct(terms: &[String]) -> Vec<&str> {
    let mut distinct: Vec<&str> = terms.iter().map(String::as_str).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// An FTS5 query for any of the terms; empty when none is left.
fn match_any(terms: &[&str]) -> String {
    let quoted: Vec<String> = terms
        .iter()
        .map(|term| format!("\"{}\"", term.replace(['"', '\0'], "")))
        .filter(|term| term.len() > 2)
        .collect();
    quoted.join(" OR ")
}
