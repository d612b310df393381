//! Changing an index: one document, one transaction.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::cache::{self, Caches, Named};
use super::database::{self, Paths};
use super::hnsw::{self, Graph};
use super::lock::Lock;
use super::mapped::{Kind, TEMPORARY_PREFIX};
use super::postings::{self, Counted, Postings};
use super::vectors::{self, VectorCache};
use super::{FileRecord, FileState, IndexError, NewChunk, fault_point, lexical};
use crate::embedding::EmbedderId;

/// When a cache pays for its making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// So many vectors are read from the database at each question rather than written to a cache.
    pub(super) scanned_in_database: usize,
    /// From so many rows on a graph is built. Choosing by codes costs 10 to 13 ms of one busy core for 1,083,790 rows of
    /// 384 numbers, and of 619,914 it found all of the ten nearest of everyday questions; a graph costs about as much at
    /// any number of rows, finds fewer, and takes twenty seconds of one core to build over 100,000. Where they cross is
    /// estimated from that, not measured.
    pub(super) graph_from: usize,
    /// One row in so many may be dead before the cache is written without them.
    pub(super) dead_rows_per_compaction: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            scanned_in_database: 512,
            graph_from: 4_000_000,
            dead_rows_per_compaction: 4,
        }
    }
}

impl Policy {
    /// How many vectors may be missing in a cache of so many rows: reading one from the database costs about as much
    /// as writing 500 rows of the cache costs a single time.
    fn most_new_rows(self, n_rows: usize) -> usize {
        self.scanned_in_database + n_rows / 512
    }

    /// How many chunks may differ from a cache of postings of so many; new ones are cut into terms at each question.
    fn most_changed_chunks(self, n_chunks: Option<usize>) -> usize {
        n_chunks.map_or(self.scanned_in_database, |n_chunks| {
            self.scanned_in_database / 8 + n_chunks / 2048
        })
    }

    /// Whether to build a graph. Each is built when the rows have grown by a quarter, so that all building together
    /// costs a few times the last.
    fn wants_graph(self, n_rows: usize, n_in_graph: usize) -> bool {
        n_rows >= self.graph_from
            && n_rows - n_in_graph.min(n_rows) > (self.graph_from / 2).max(n_in_graph / 4)
    }
}

/// The one process that may change an index.
#[derive(Debug)]
pub struct Writer {
    pub(super) db: Connection,
    folder: PathBuf,
    paths: Paths,
    dimension: usize,
    pub(super) policy: Policy,
    _lock: Lock,
}

impl Writer {
    /// Opens the index in `folder`, making it when there is none, and takes its lock.
    ///
    /// # Errors
    /// [`IndexError`] when another process holds the lock, or the index is of another embedder or of a newer format;
    /// otherwise the system's reason.
    pub fn open(folder: &Path, embedder: &EmbedderId) -> Result<Writer> {
        let writer = Writer::open_for_any(folder, embedder)?;
        IndexError::check_embedder(folder, &writer.embedder()?, embedder)?;
        Ok(writer)
    }

    /// Opens the index in `folder` whichever embedder made it, and takes its lock. Where there is none, one is made for
    /// `embedder`.
    ///
    /// # Errors
    /// As [`Writer::open`], except that no embedder is wrong.
    pub fn open_for_any(folder: &Path, embedder: &EmbedderId) -> Result<Writer> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let lock = Lock::take(folder)?;
        let db = database::open_writable(folder, embedder)?;
        let paths = Paths::new(folder)?;
        Ok(Writer {
            dimension: database::embedder(&db)?.dimension,
            db,
            folder: folder.to_owned(),
            paths,
            policy: Policy::default(),
            _lock: lock,
        })
    }

    /// From so many rows on [`Writer::publish`] builds a graph: for measuring it where it would not pay.
    pub fn build_graph_from(&mut self, n_rows: usize) {
        self.policy.graph_from = n_rows;
    }

    /// The embedder that made the vectors.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn embedder(&self) -> Result<EmbedderId> {
        database::embedder(&self.db)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on vectors are of another dimension.
    pub(super) fn set_dimension(&mut self, dimension: usize) {
        self.dimension = dimension;
    }

    /// The files the index knows at or under an absolute path.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files_under(&self, path: &Path) -> Result<Vec<FileRecord>> {
        let mut files = files(&self.db, &self.paths)?;
        files.retain(|file| file.path.starts_with(path));
        Ok(files)
    }

    /// Which of these texts ([`Chunk::embedded_text`](crate::chunk::Chunk::embedded_text)) have a vector already.
    ///
    /// A vector that is no longer used is kept until [`Writer::publish`], so what is reported here stays true while
    /// files are replaced, removed and moved.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_embeddings(&self, texts: &[String]) -> Result<Vec<bool>> {
        let mut find = self
            .db
            .prepare_cached("SELECT 1 FROM vectors WHERE text_hash = ?")?;
        texts
            .iter()
            .map(|text| Ok(find.exists([database::text_hash(text)])?))
            .collect()
    }

    /// Puts a file in, or replaces what the index had of the same path: durable, all or nothing.
    ///
    /// # Errors
    /// When a chunk has neither a stored vector nor a proper one of its own, or the database cannot be written.
    pub fn replace(&mut self, file: &FileRecord, chunks: &[NewChunk]) -> Result<()> {
        let stored_path = self.paths.store(&file.path)?;
        let transaction = self.db.transaction()?;
        delete_file(&transaction, &stored_path)?;
        let file_id = insert_file(&transaction, &stored_path, file)?;
        insert_chunks(&transaction, file_id, chunks, self.dimension)
            .with_context(|| file.source.clone())?;
        commit(transaction)
    }

    /// Gives a file's chunks to another path (same content moved there); keeps its vectors.
    ///
    /// # Errors
    /// When the index does not know `from`, or the database cannot be written.
    pub fn relocate(&mut self, from: &Path, to: &FileRecord) -> Result<()> {
        let (old_path, new_path) = (self.paths.store(from)?, self.paths.store(&to.path)?);
        let transaction = self.db.transaction()?;
        let Some(old_id) = file_id(&transaction, &old_path)? else {
            bail!("{}: not in the index", from.display());
        };
        if old_path != new_path {
            delete_file(&transaction, &new_path)?;
        }
        transaction.execute("DELETE FROM files WHERE id = ?", [old_id])?;
        let new_id = insert_file(&transaction, &new_path, to)?;
        transaction.execute(
            "UPDATE sections SET file_id = ? WHERE file_id = ?",
            [new_id, old_id],
        )?;
        commit(transaction)
    }

    /// Takes a file out.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let stored_path = self.paths.store(path)?;
        let transaction = self.db.transaction()?;
        delete_file(&transaction, &stored_path)?;
        commit(transaction)
    }

    /// Brings the caches up to date where that pays. Questions go on meanwhile.
    ///
    /// # Errors
    /// When the caches cannot be written; the index itself is whole.
    pub fn publish(&mut self) -> Result<()> {
        let epoch: i64 = database::meta(&self.db, "epoch")?;
        let mut caches = Caches::open(&self.db, &self.folder)?;
        caches.verify();
        if caches.problems.is_empty()
            && epoch == database::meta::<i64>(&self.db, "published_epoch")?
        {
            return Ok(());
        }
        self.remove_unused_vectors()?;
        self.publish_terms(caches.terms.as_ref())?;
        self.publish_vectors(caches)?;
        self.publish_graph()?;
        fault_point("remove old caches");
        cache::remove_unnamed(&self.db, &self.folder)?;
        self.db.execute(
            "UPDATE meta SET value = (SELECT value FROM meta WHERE key = 'epoch') WHERE key = 'published_epoch'",
            [],
        )?;
        // Moves the log into the database file, as far as readers let it; what is left goes with the next one.
        self.db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    pub(super) fn remove_unused_vectors(&mut self) -> Result<()> {
        let transaction = self.db.transaction()?;
        transaction.execute(
            "DELETE FROM vectors WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE vector_id = vectors.id)",
            [],
        )?;
        commit(transaction)
    }

    /// Writes the vector cache when enough has changed since the last one.
    fn publish_vectors(&mut self, mut caches: Caches) -> Result<()> {
        let last_id = caches.vectors.as_ref().map_or(0, VectorCache::last_id);
        let count = "SELECT count(*) FROM vectors WHERE id";
        let n_new = self.count(&format!("{count} > ?"), last_id)?;
        let n_living = self.count(&format!("{count} <= ?"), last_id)?;
        let n_rows = caches.vectors.as_ref().map_or(0, VectorCache::n_rows);
        let compact = n_rows - n_living.min(n_rows) > n_rows / self.policy.dead_rows_per_compaction;
        if !compact && n_new <= self.policy.most_new_rows(n_rows) {
            return Ok(());
        }
        if compact {
            caches.vectors = None;
        }
        let old = caches.vectors.as_ref();
        let after = old.map_or(0, VectorCache::last_id);
        // Without the old rows in their old places, the graph speaks of other vectors.
        let forget: &[Kind] = if old.is_some() { &[] } else { &[Kind::Graph] };
        self.put_in_place(Kind::Vectors, forget, |db, path, dimension| {
            let centre = database::centre(db, "vectors", dimension)?;
            vectors::write(path, &centre, old, |push| {
                each_vector(db, "vectors", after, dimension, push)
            })
        })
    }

    /// Merges what has changed into the cache of postings when enough has.
    fn publish_terms(&mut self, old: Option<&Postings>) -> Result<()> {
        let last_id = old.map_or(0, Postings::last_id);
        let count = "SELECT count(*) FROM chunks WHERE id";
        let n_changed = self.count(&format!("{count} > ?"), last_id)?
            + old.map_or(0, Postings::n_chunks)
            - self.count(&format!("{count} <= ?"), last_id)?;
        if n_changed <= self.policy.most_changed_chunks(old.map(Postings::n_chunks)) {
            return Ok(());
        }
        self.put_in_place(Kind::Terms, &[], |db, path, _| {
            let mut removed: HashSet<i64> = HashSet::new();
            if let Some(old) = old {
                for place in 0..old.n_chunks() {
                    removed.insert(old.chunk_id(place)?);
                }
                let mut select = db.prepare("SELECT id FROM chunks WHERE id <= ?")?;
                for id in select.query_map([last_id], |row| row.get(0))? {
                    removed.remove(&id?);
                }
            }
            let runs = write_runs(db, path, last_id)?;
            let sources: Vec<&Postings> = old.into_iter().chain(&runs).collect();
            postings::merge(path, &sources, &removed)
        })
    }

    /// Builds the graph when so many rows lie outside it that scanning them costs more than it is worth.
    fn publish_graph(&mut self) -> Result<()> {
        let caches = Caches::open(&self.db, &self.folder)?;
        let Some(vectors) = &caches.vectors else {
            return Ok(());
        };
        let n_in_graph = caches.graph.as_ref().map_or(0, Graph::n_rows);
        if !self.policy.wants_graph(vectors.n_rows(), n_in_graph) {
            return Ok(());
        }
        self.put_in_place(Kind::Graph, &[], |_, path, _| hnsw::build(path, vectors))
    }

    /// Lets `write` make a cache file and names it; names no longer those that it makes wrong.
    fn put_in_place(
        &mut self,
        kind: Kind,
        forget: &[Kind],
        write: impl FnOnce(&Connection, &Path, usize) -> Result<u32>,
    ) -> Result<()> {
        let epoch = database::meta::<i64>(&self.db, "epoch")? + 1;
        let path = cache::path(&self.folder, kind, epoch);
        let checksum = write(&self.db, &path, self.dimension)?;
        fault_point("name cache");
        let transaction = self.db.transaction()?;
        cache::name(&transaction, kind, Named { epoch, checksum })?;
        for kind in forget {
            cache::forget(&transaction, *kind)?;
        }
        commit(transaction)
    }

    fn count(&self, select: &str, parameter: i64) -> Result<usize> {
        let n: i64 = self.db.query_row(select, [parameter], |row| row.get(0))?;
        Ok(usize::try_from(n)?)
    }
}

/// Hands on the id and vector of each row of `table` after an id, in their order.
pub(super) fn each_vector(
    db: &Connection,
    table: &str,
    after: i64,
    dimension: usize,
    push: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
) -> Result<()> {
    let mut select = db.prepare(&format!(
        "SELECT id, vector FROM {table} WHERE id > ? ORDER BY id"
    ))?;
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        let vector = database::vector_from_bytes(row.get_ref(1)?.as_blob()?, dimension)?;
        push(row.get(0)?, &vector)?;
    }
    Ok(())
}

/// Postings of the chunks after `last_id`, in files that are no longer there when this returns where the system allows
/// to remove an open file, and else with the next sweep.
fn write_runs(db: &Connection, path: &Path, last_id: i64) -> Result<Vec<Postings>> {
    let folder = path.parent().context("a file without a folder")?;
    let mut select = db.prepare(
        "SELECT chunks.id, sections.path, text FROM chunks JOIN sections ON sections.id = section_id
         WHERE chunks.id > ? ORDER BY chunks.id",
    )?;
    let mut rows = select.query([last_id])?;
    let mut runs = Vec::new();
    loop {
        let mut texts: Vec<(i64, String, String)> = Vec::new();
        while texts.len() < postings::CHUNKS_PER_RUN
            && let Some(row) = rows.next()?
        {
            texts.push((row.get(0)?, row.get(1)?, row.get(2)?));
        }
        if texts.is_empty() {
            return Ok(runs);
        }
        let counted = texts
            .par_iter()
            .map(|(id, path, text)| Ok((*id, count_terms(path, text)?)));
        let counted = counted.collect::<Result<Vec<_>>>()?;
        let run = folder.join(format!("{TEMPORARY_PREFIX}run-{}", runs.len()));
        let checksum = postings::write_run(&run, &counted)?;
        runs.push(Postings::open(&run, checksum)?);
        // The sweep takes it where it cannot be removed while it is mapped.
        let _ = std::fs::remove_file(&run);
    }
}

/// The terms of a chunk as the database has it: its path as JSON, and its text.
pub(super) fn count_terms(path: &str, text: &str) -> Result<Counted> {
    let path: Vec<String> = serde_json::from_str(path)?;
    Ok(Counted::new(&path.join("\n"), text))
}

/// Everything the index knows of its files, by source.
pub(super) fn files(db: &Connection, paths: &Paths) -> Result<Vec<FileRecord>> {
    let files = numbered_files(db, paths)?;
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// The same with the files' numbers.
pub(super) fn numbered_files(db: &Connection, paths: &Paths) -> Result<Vec<(i64, FileRecord)>> {
    let mut select = db.prepare_cached(
        "SELECT path, source, content_hash, n_bytes, modified_ns, pipeline, title, warnings, reason, id
         FROM files ORDER BY source, id",
    )?;
    let mut rows = select.query([])?;
    let mut files = Vec::new();
    while let Some(row) = rows.next()? {
        let warnings: Option<String> = row.get(7)?;
        let file = FileRecord {
            path: paths.load(&row.get(0)?)?,
            source: row.get(1)?,
            content_hash: row.get(2)?,
            n_bytes: u64::try_from(row.get::<_, i64>(3)?)?,
            modified_ns: row.get(4)?,
            pipeline: row.get(5)?,
            state: match warnings {
                Some(warnings) => FileState::Read {
                    title: row.get(6)?,
                    warnings: serde_json::from_str(&warnings)?,
                },
                None => FileState::Unreadable {
                    reason: row.get(8)?,
                },
            },
        };
        files.push((row.get(9)?, file));
    }
    Ok(files)
}

/// Every change of the content gives the index a new epoch, by which caches know whether they are current.
pub(super) fn commit(transaction: Transaction<'_>) -> Result<()> {
    transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'", [])?;
    transaction.commit()?;
    Ok(())
}

fn file_id(db: &Connection, stored_path: &Value) -> Result<Option<i64>> {
    let mut select = db.prepare_cached("SELECT id FROM files WHERE path = ?")?;
    Ok(select
        .query_row([stored_path], |row| row.get(0))
        .optional()?)
}

fn delete_file(db: &Connection, stored_path: &Value) -> Result<()> {
    let Some(id) = file_id(db, stored_path)? else {
        return Ok(());
    };
    let of_file = "IN (SELECT id FROM sections WHERE file_id = ?)";
    db.prepare_cached(&format!(
        "DELETE FROM terms WHERE rowid IN (SELECT id FROM chunks WHERE section_id {of_file})"
    ))?
    .execute([id])?;
    db.prepare_cached(&format!("DELETE FROM chunks WHERE section_id {of_file}"))?
        .execute([id])?;
    db.prepare_cached("DELETE FROM sections WHERE file_id = ?")?
        .execute([id])?;
    db.prepare_cached("DELETE FROM files WHERE id = ?")?
        .execute([id])?;
    Ok(())
}

fn insert_file(db: &Connection, stored_path: &Value, file: &FileRecord) -> Result<i64> {
    let (title, warnings, reason) = match &file.state {
        FileState::Read { title, warnings } => {
            (title.as_ref(), Some(serde_json::to_string(warnings)?), None)
        }
        FileState::Unreadable { reason } => (None, None, Some(reason)),
    };
    db.prepare_cached(
        "INSERT INTO files(path, source, content_hash, n_bytes, modified_ns, pipeline, title, warnings, reason)
         VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        stored_path,
        file.source,
        file.content_hash,
        i64::try_from(file.n_bytes)?,
        file.modified_ns,
        file.pipeline,
        title,
        warnings,
        reason
    ])?;
    Ok(db.last_insert_rowid())
}

fn insert_chunks(
    db: &Connection,
    file_id: i64,
    chunks: &[NewChunk],
    dimension: usize,
) -> Result<()> {
    let mut insert_section =
        db.prepare_cached("INSERT INTO sections(file_id, path, headings) VALUES(?, ?, ?)")?;
    let mut insert_chunk = db.prepare_cached(
        "INSERT INTO chunks(section_id, vector_id, ordinal, page, page_is_approximate, page_label, sheet, row, line, text)
         VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut insert_terms =
        db.prepare_cached("INSERT INTO terms(rowid, heading, body) VALUES(?, ?, ?)")?;
    let mut section: Option<(i64, &NewChunk)> = None;
    for (ordinal, new) in chunks.iter().enumerate() {
        let chunk = &new.chunk;
        let vector_id =
            vector_id(db, new, dimension).with_context(|| format!("chunk {ordinal}"))?;
        let section_id = match section {
            Some((id, first)) if is_same_section(first, new) => id,
            _ => {
                insert_section.execute(params![
                    file_id,
                    serde_json::to_string(&chunk.path)?,
                    serde_json::to_string(&chunk.location.section)?
                ])?;
                db.last_insert_rowid()
            }
        };
        section = Some((section_id, new));
        insert_chunk.execute(params![
            section_id,
            vector_id,
            u32::try_from(ordinal)?,
            chunk.location.page,
            chunk.location.page_is_approximate,
            chunk.location.page_label,
            chunk.location.sheet,
            chunk.location.row,
            chunk.location.line,
            chunk.text
        ])?;
        let chunk_id = db.last_insert_rowid();
        let heading = lexical::terms(&chunk.path.join("\n")).join(" ");
        insert_terms.execute(params![
            chunk_id,
            heading,
            lexical::terms(&chunk.text).join(" ")
        ])?;
    }
    Ok(())
}

fn is_same_section(a: &NewChunk, b: &NewChunk) -> bool {
    a.chunk.path == b.chunk.path
        && a.chunk.location.section == b.chunk.location.section
        && a.chunk.location.sheet == b.chunk.location.sheet
}

/// The stored vector of a chunk's text, stored now when there is none.
fn vector_id(db: &Connection, new: &NewChunk, dimension: usize) -> Result<i64> {
    let hash = database::text_hash(&new.chunk.embedded_text());
    let mut find = db.prepare_cached("SELECT id FROM vectors WHERE text_hash = ?")?;
    if let Some(id) = find.query_row([hash], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let Some(vector) = &new.embedding else {
        bail!("no vector given and none stored");
    };
    check_unit_vector(vector, dimension)?;
    db.prepare_cached("INSERT INTO vectors(text_hash, vector) VALUES(?, ?)")?
        .execute(params![hash, database::vector_to_bytes(vector)])?;
    Ok(db.last_insert_rowid())
}

/// Refuses what would make similarities meaningless.
///
/// # Errors
/// When the vector is of another dimension, holds a number that is not finite, or is not of unit length.
pub(super) fn check_unit_vector(vector: &[f32], dimension: usize) -> Result<()> {
    if vector.len() != dimension {
        bail!(
            "vector: expected {dimension} dimensions, got {}",
            vector.len()
        );
    }
    let squared_length: f32 = vector.iter().map(|x| x * x).sum();
    // Also false for NaN. Half precision models are off by some thousandths.
    if !(0.98..=1.02).contains(&squared_length) {
        bail!("vector: expected length 1, got {}", squared_length.sqrt());
    }
    Ok(())
}
