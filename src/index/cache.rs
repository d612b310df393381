//! Which cache files belong to a state of the database, and how a new one takes its place.
//!
//! The database names its caches: kind, epoch and checksum of each. A file that it does not name is not used, whatever
//! it holds. The order of publishing is: write the file beside its place, make it durable, rename it, make the folder
//! durable, then name it in a transaction. Whoever opens the index before that transaction uses the old file or none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};

use super::database;
use super::hnsw::Graph;
use super::mapped::{Kind, Mapped, TEMPORARY_PREFIX};
use super::postings::Postings;
use super::vectors::VectorCache;

const EXTENSION: &str = "cache";

/// A cache that the database names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// The epoch it was published as.
    pub(super) epoch: i64,
    /// Checksum of its header.
    pub(super) checksum: u32,
}

/// Where the cache of a kind and epoch stands.
pub(super) fn path(folder: &Path, kind: Kind, epoch: i64) -> PathBuf {
    folder.join(format!("{}-{epoch}.{EXTENSION}", kind.name()))
}

/// The cache of this kind that the database names.
pub(super) fn named(db: &Connection, kind: Kind) -> Result<Option<Named>> {
    let select = "SELECT epoch, checksum FROM caches WHERE kind = ?";
    let named = db
        .query_row(select, [kind.name()], |row| {
            Ok(Named {
                epoch: row.get(0)?,
                checksum: row.get(1)?,
            })
        })
        .optional()?;
    Ok(named)
}

/// Names a cache from now on; part of the caller's transaction.
pub(super) fn name(db: &Connection, kind: Kind, named: Named) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO caches(kind, epoch, checksum) VALUES(?, ?, ?)",
        params![kind.name(), named.epoch, named.checksum],
    )?;
    Ok(())
}

/// Names no cache of this kind; part of the caller's transaction.
pub(super) fn forget(db: &Connection, kind: Kind) -> Result<()> {
    db.execute("DELETE FROM caches WHERE kind = ?", [kind.name()])?;
    Ok(())
}

/// Removes cache files that the database does not name, finished or not. Only the holder of the lock may.
///
/// A file that somebody has mapped stays readable to them; where the system does not let it be removed, the next run
/// tries again.
pub(super) fn remove_unnamed(db: &Connection, folder: &Path) -> Result<()> {
    let mut keep = Vec::new();
    for kind in [Kind::Vectors, Kind::Graph, Kind::Terms] {
        keep.extend(named(db, kind)?.map(|named| path(folder, kind, named.epoch)));
    }
    for entry in folder
        .read_dir()
        .with_context(|| folder.display().to_string())?
    {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let is_cache = path
            .extension()
            .is_some_and(|extension| extension == EXTENSION);
        let is_unfinished = path.file_name().is_some_and(|name| {
            name.as_encoded_bytes()
                .starts_with(TEMPORARY_PREFIX.as_bytes())
        });
        if (is_cache || is_unfinished) && !keep.contains(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// The caches of one state of the database, as far as they can be used.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) vectors: Option<VectorCache>,
    pub(super) graph: Option<Graph>,
    pub(super) terms: Option<Postings>,
    /// Why a cache that the database names is not here.
    pub(super) problems: Vec<String>,
}

impl Caches {
    /// Opens what the database names.
    pub(super) fn open(db: &Connection, folder: &Path) -> Result<Caches> {
        let dimension = database::embedder(db)?.dimension;
        let mut caches = Caches::default();
        let problems = &mut caches.problems;
        caches.vectors = open_one(db, folder, Kind::Vectors, problems, |path, checksum| {
            VectorCache::open(path, checksum, dimension)
        })?;
        caches.graph = open_one(db, folder, Kind::Graph, problems, Graph::open)?;
        caches.terms = open_one(db, folder, Kind::Terms, problems, Postings::open)?;
        caches.drop_graph_without_rows();
        Ok(caches)
    }

    /// Reads every block and keeps only what is whole.
    pub(super) fn verify(&mut self) {
        let problems = &mut self.problems;
        self.vectors = self
            .vectors
            .take()
            .filter(|vectors| is_whole(vectors.file(), Kind::Vectors, problems));
        self.graph = self
            .graph
            .take()
            .filter(|graph| is_whole(graph.file(), Kind::Graph, problems));
        self.terms = self
            .terms
            .take()
            .filter(|terms| is_whole(terms.file(), Kind::Terms, problems));
        self.drop_graph_without_rows();
    }

    /// A graph speaks of rows of the vector cache and is nothing without them.
    fn drop_graph_without_rows(&mut self) {
        let n_rows = self.vectors.as_ref().map_or(0, VectorCache::n_rows);
        self.graph = self.graph.take().filter(|graph| graph.n_rows() <= n_rows);
    }
}

fn open_one<T>(
    db: &Connection,
    folder: &Path,
    kind: Kind,
    problems: &mut Vec<String>,
    open: impl FnOnce(&Path, u32) -> Result<T>,
) -> Result<Option<T>> {
    let Some(Named { epoch, checksum }) = named(db, kind)? else {
        return Ok(None);
    };
    let opened = open(&path(folder, kind, epoch), checksum);
    Ok(opened
        .map_err(|cause| problems.push(format!("{cause:#}")))
        .ok())
}

fn is_whole(file: &Mapped, kind: Kind, problems: &mut Vec<String>) -> bool {
    let verified = file.verify_all();
    verified
        .map_err(|cause| problems.push(format!("cache of {}: {cause:#}", kind.name())))
        .is_ok()
}
