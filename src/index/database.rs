//! The SQLite database: documents, chunks, vectors and terms, and nothing else is true.
//!
//! This file holds the schema and the ways to open it. Every change of a document is one transaction, durable when the
//! call returns (write-ahead log, `synchronous=FULL`). It knows no cache and no lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use super::{FORMAT, IndexError};
use crate::embedding::EmbedderId;

/// Name of the database within the index folder.
pub(super) const FILE_NAME: &str = "index.sqlite";

const SCHEMA: &str = "
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE files(
  id           INTEGER PRIMARY KEY,
  path         ANY  NOT NULL UNIQUE,  -- relative to the folder that holds the index, or absolute
  source       TEXT NOT NULL,
  content_hash TEXT NOT NULL,
  n_bytes      INTEGER NOT NULL,
  modified_ns  INTEGER NOT NULL,
  pipeline     INTEGER NOT NULL,
  title        TEXT,
  warnings     TEXT,                  -- JSON array; NULL when the file is unreadable
  reason       TEXT                   -- why the file is unreadable
) STRICT;

CREATE TABLE sections(
  id       INTEGER PRIMARY KEY,
  file_id  INTEGER NOT NULL,
  path     TEXT NOT NULL,             -- JSON array: title and headings
  headings TEXT NOT NULL              -- JSON array: headings
) STRICT;
CREATE INDEX sections_of_file ON sections(file_id);

CREATE TABLE chunks(
  id                  INTEGER PRIMARY KEY AUTOINCREMENT,
  section_id          INTEGER NOT NULL,
  vector_id           INTEGER NOT NULL,
  ordinal             INTEGER NOT NULL,
  page                INTEGER,
  page_is_approximate INTEGER NOT NULL,
  page_label          TEXT,           -- not in the first indexes of this format: see `has_page_labels`
  sheet               TEXT,
  row                 INTEGER,
  line                INTEGER,
  text                TEXT NOT NULL
) STRICT;
CREATE INDEX chunks_of_section ON chunks(section_id);
CREATE INDEX chunks_of_vector ON chunks(vector_id);

CREATE TABLE vectors(
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  text_hash BLOB NOT NULL UNIQUE,     -- first 16 bytes of the embedded text's SHA-256
  vector    BLOB NOT NULL             -- little-endian f32, unit length
) STRICT;

CREATE TABLE caches(                  -- the cache files that belong to this state
  kind     TEXT PRIMARY KEY,
  epoch    INTEGER NOT NULL,
  checksum INTEGER NOT NULL           -- CRC-32 of the file's header
) STRICT, WITHOUT ROWID;

CREATE VIRTUAL TABLE terms USING fts5(
  heading, body, content='', contentless_delete=1, tokenize=\"ascii tokenchars '.%'\"
);
";

/// Opens the database for writing, making it when there is none.
pub(super) fn open_writable(folder: &Path, embedder: &EmbedderId) -> Result<Connection> {
    let path = folder.join(FILE_NAME);
    let db = set_up(&path, embedder).with_context(|| path.display().to_string())?;
    check_format(&db, folder)?;
    Ok(db)
}

fn set_up(path: &Path, embedder: &EmbedderId) -> Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    // A reader that meets a half-written header of the log holds the write lock for a moment. A transaction that has read
    // before it writes would not wait for it but fail: `database is locked`, once in some 300 killed runs.
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -65_536)?;
    let is_new = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
        row.get::<_, i64>(0)
    })? == 0;
    if is_new {
        let transaction = db.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        {
            let mut insert = transaction.prepare("INSERT INTO meta(key, value) VALUES(?, ?)")?;
            insert.execute(params!["format", FORMAT])?;
            insert.execute(params!["epoch", 0])?;
            insert.execute(params!["published_epoch", 0])?;
            insert.execute(params!["embedder", embedder.name])?;
            insert.execute(params!["embedder_fingerprint", embedder.fingerprint])?;
            insert.execute(params!["dimension", i64::try_from(embedder.dimension)?])?;
        }
        transaction.commit()?;
    } else if !has_page_labels(&db)? {
        db.execute_batch("ALTER TABLE chunks ADD COLUMN page_label TEXT")?;
    }
    Ok(db)
}

/// Whether chunks have a column for their page's label. An index made before there was one gets it when it is next
/// opened for writing; programs of that time read and change the index as ever.
pub(super) fn has_page_labels(db: &Connection) -> Result<bool> {
    let columns = "SELECT count(*) FROM pragma_table_info('chunks') WHERE name = 'page_label'";
    Ok(db.query_row(columns, [], |row| row.get(0))?)
}

/// Opens the database for reading and pins its state: what others write from now on is not seen.
pub(super) fn open_pinned(folder: &Path) -> Result<Connection> {
    let path = folder.join(FILE_NAME);
    if !path.is_file() {
        return Err(IndexError::Missing {
            folder: folder.to_owned(),
        }
        .into());
    }
    let pin = |db: Connection| -> rusqlite::Result<Connection> {
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute_batch("BEGIN")?;
        db.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        Ok(db)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match Connection::open_with_flags(&path, flags).and_then(pin) {
        Ok(db) => db,
        // A write-ahead log needs a folder that can be written; where there is none, nobody else can write either.
        Err(_) if !has_log(folder) => {
            let uri = immutable_uri(&path);
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                .and_then(pin)
                .with_context(|| path.display().to_string())?
        }
        Err(cause) => return Err(cause).with_context(|| path.display().to_string()),
    };
    check_format(&db, folder)?;
    Ok(db)
}

/// Whether changes wait in the write-ahead log.
fn has_log(folder: &Path) -> bool {
    let log = folder.join(format!("{FILE_NAME}-wal"));
    log.metadata().is_ok_and(|log| log.len() > 0)
}

/// `file:` address of a database that does not change while it is open.
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                uri.push(char::from(*byte))
            }
            b'\\' => uri.push('/'),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

fn check_format(db: &Connection, folder: &Path) -> Result<()> {
    let found: i64 = meta(db, "format")?;
    if found > FORMAT {
        return Err(IndexError::NewerFormat {
            folder: folder.to_owned(),
            found,
            known: FORMAT,
        }
        .into());
    }
    Ok(())
}

/// One value of the `meta` table.
pub(super) fn meta<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> Result<T> {
    db.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| {
        row.get(0)
    })
    .optional()?
    .with_context(|| format!("{FILE_NAME}: no value for {key}"))
}

/// The embedder whose vectors the database holds.
pub(super) fn embedder(db: &Connection) -> Result<EmbedderId> {
    Ok(EmbedderId {
        name: meta(db, "embedder")?,
        fingerprint: meta(db, "embedder_fingerprint")?,
        dimension: usize::try_from(meta::<i64>(db, "dimension")?)?,
    })
}

/// What a vector is known by: the text it was made from.
pub(super) fn text_hash(embedded_text: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(embedded_text.as_bytes()).into();
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}

/// A vector as the database holds it.
pub(super) fn vector_to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The vector in a stored blob of this dimension.
pub(super) fn vector_from_bytes(bytes: &[u8], dimension: usize) -> Result<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || numbers.len() != dimension {
        bail!(
            "{FILE_NAME}: a vector of {} bytes, expected {dimension} dimensions",
            bytes.len()
        );
    }
    Ok(numbers.iter().map(|x| f32::from_le_bytes(*x)).collect())
}

/// About the mean of a table's vectors, from a sample spread over them.
pub(super) fn centre(db: &Connection, table: &str, dimension: usize) -> Result<Vec<f32>> {
    let (first, last): (i64, i64) = db.query_row(
        &format!("SELECT ifnull(min(id), 0), ifnull(max(id), 0) FROM {table}"),
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut centre = vec![0.0; dimension];
    let mut n = 0_u16;
    let mut select = db.prepare(&format!(
        "SELECT vector FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
    ))?;
    let step = (last - first) / i64::from(CENTRE_SAMPLE) + 1;
    for id in (0..i64::from(CENTRE_SAMPLE)).map(|i| first + i * step) {
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else { break };
        let vector = vector_from_bytes(row.get_ref(0)?.as_blob()?, dimension)?;
        centre.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        n += 1;
    }
    centre
        .iter_mut()
        .for_each(|sum| *sum /= f32::from(n.max(1)));
    Ok(centre)
}

/// Vectors that the mean is taken of.
const CENTRE_SAMPLE: u16 = 1024;

/// The cosine similarity of a unit vector with a stored one; `None` when the blob is not of this dimension.
pub(super) fn similarity_to_bytes(query: &[f32], bytes: &[u8]) -> Option<f32> {
    let (rows, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || rows.len() != query.len() {
        return None;
    }
    Some(
        query
            .iter()
            .zip(rows)
            .map(|(x, y)| x * f32::from_le_bytes(*y))
            .sum(),
    )
}

/// How a path is written down: relative to the folder that holds the index, so that both can be moved together, or
/// absolute when the file lies elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    base: PathBuf,
}

impl Paths {
    /// `folder` is the index folder; it must exist.
    pub(super) fn new(folder: &Path) -> Result<Paths> {
        let folder = folder
            .canonicalize()
            .with_context(|| folder.display().to_string())?;
        let base = folder
            .parent()
            .map_or_else(|| folder.clone(), Path::to_owned);
        Ok(Paths { base })
    }

    pub(super) fn store(&self, path: &Path) -> Result<rusqlite::types::Value> {
        use rusqlite::types::Value;
        if !path.is_absolute() {
            bail!("{}: not an absolute path", path.display());
        }
        let (path, is_relative) = match path.strip_prefix(&self.base) {
            Ok(relative) => (relative, true),
            Err(_) => (path, false),
        };
        match path.to_str() {
            Some(text) if is_relative && cfg!(windows) => Ok(Value::Text(text.replace('\\', "/"))),
            Some(text) => Ok(Value::Text(text.to_owned())),
            None => not_unicode(path),
        }
    }

    pub(super) fn load(&self, stored: &rusqlite::types::Value) -> Result<PathBuf> {
        use rusqlite::types::Value;
        match stored {
            Value::Text(text) => Ok(self.base.join(text)),
            Value::Blob(bytes) => Ok(self.base.join(from_bytes(bytes)?)),
            Value::Null | Value::Integer(_) | Value::Real(_) => {
                bail!("{FILE_NAME}: a file without a path")
            }
        }
    }
}

#[cfg(unix)]
fn not_unicode(path: &Path) -> Result<rusqlite::types::Value> {
    use std::os::unix::ffi::OsStrExt;
    Ok(rusqlite::types::Value::Blob(
        path.as_os_str().as_bytes().to_vec(),
    ))
}

#[cfg(unix)]
fn from_bytes(bytes: &[u8]) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn not_unicode(path: &Path) -> Result<rusqlite::types::Value> {
    bail!("{}: the name is not Unicode", path.display())
}

#[cfg(not(unix))]
fn from_bytes(_: &[u8]) -> Result<PathBuf> {
    bail!("{FILE_NAME}: a path from another system")
}
