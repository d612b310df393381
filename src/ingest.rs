//! `ragq ingest`: documents → index.
//!
//! Lists the files, leaves alone what has not changed, reads and chunks the rest on all cores, embeds only texts the
//! index has no vector for, and commits one document a transaction. A stop at any moment leaves whole documents; the
//! next run goes on from there. Memory is bounded by a window of files, whatever the folder's size.
//!
//! Also gives an index another embedder, from the stored texts alone.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::chunk::{self, Chunk};
use crate::document::{self, Budget};
use crate::embedding::Embed;
use crate::folder::{self, FoundFile};
use crate::index::{FileRecord, FileState, NewChunk, Unembedded, Writer};

/// Version of reading, chunking and embedded text. Raise it when any of them changes what ends up in the index: files of
/// another version are read again.
pub const PIPELINE: u32 = 3;

/// Files larger than this are not read.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// One window: this many files, or this many bytes, are read while the previous window is embedded and stored.
const WINDOW_FILES: usize = 64;
const WINDOW_BYTES: u64 = 32 << 20;

/// A long run brings the caches up to date on its way, so that questions find quickly what is there already: when this many
/// chunks have come since the last time, and as many as had come by then, so that all of it costs less than once more
/// the last.
const CHUNKS_PER_PUBLISHING: usize = 50_000;

/// A file changed this shortly before it was read may change again within the clock's resolution; its time stamp is then
/// not trusted the next time and its content is compared instead.
const RACY_NS: i64 = 2_000_000_000;

/// What a run did. Lists hold sources, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Files that were not in the index.
    pub added: Vec<String>,
    /// Files whose content is another than before.
    pub changed: Vec<String>,
    /// Files whose content was in the index under another path: where from, where to.
    pub moved: Vec<(String, String)>,
    /// Files that were left alone.
    pub n_unchanged: usize,
    /// Files that are gone.
    pub removed: Vec<String>,
    /// Files of which nothing could be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// Files that were read, with what could not be read of them.
    pub warnings: Vec<(String, String)>,
    /// Files of a type that ragq does not read, and links.
    pub skipped: Vec<String>,
    /// Chunks that were embedded in this run.
    pub n_embedded: usize,
    /// Chunks that were stored in this run.
    pub n_chunks: usize,
    /// Texts of the index that were embedded because the embedder changed.
    pub n_reembedded: u64,
}

impl Summary {
    /// Files under the given paths whose text is in the index now.
    #[must_use]
    pub fn n_read(&self) -> usize {
        self.added.len() + self.changed.len() + self.moved.len() + self.n_unchanged
    }
}

/// What [`run`] tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// So many files will be looked at.
    Files(usize),
    /// One more file is done.
    Done(&'a str),
    /// The caches are brought up to date.
    Publishing,
}

/// Brings the index up to date with what lies under `paths`.
///
/// # Errors
/// When a path does not exist or the index cannot be written. A file that cannot be read is no error: it is in the
/// summary.
pub fn run(
    paths: &[PathBuf],
    writer: &mut Writer,
    embedder: &dyn Embed,
    report: &mut dyn FnMut(Progress<'_>),
) -> Result<Summary> {
    let mut summary = Summary::default();
    let plan = plan(paths, writer, &mut summary)?;
    report(Progress::Files(plan.to_read.len()));

    let mut gone = plan.gone;
    let mut windows = windows(&plan.to_read).into_iter();
    let mut next = windows.next().map(read_window);
    let mut n_published = 0;
    while let Some(files) = next.take() {
        std::thread::scope(|scope| {
            let ahead = windows
                .next()
                .map(|window| scope.spawn(|| read_window(window)));
            store(files, writer, embedder, &mut gone, &mut summary, report)?;
            if summary.n_chunks - n_published >= CHUNKS_PER_PUBLISHING.max(n_published) {
                report(Progress::Publishing);
                writer.publish()?;
                n_published = summary.n_chunks;
            }
            next = ahead
                .map(|thread| {
                    thread
                        .join()
                        .map_err(|_| anyhow!("a worker thread ended unexpectedly"))
                })
                .transpose()?;
            anyhow::Ok(())
        })?;
    }
    for file in gone.into_values() {
        writer.remove(&file.path)?;
        summary.removed.push(file.source);
    }
    summary.removed.sort();
    report(Progress::Publishing);
    writer.publish()?;
    Ok(summary)
}

/// Texts in the first batch of a change of embedder. Each next one is twice as long while it takes less than
/// [`BATCH_TIME`]: a stop loses at most one batch, and a long one keeps all cores busy.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 4096;
const BATCH_TIME: Duration = Duration::from_secs(4);

/// What [`change_embedder`] tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many texts will be embedded, after so many that an earlier run has embedded.
    Begins {
        /// Texts to embed.
        n_texts: u64,
        /// Texts done before.
        n_done: u64,
    },
    /// So many texts of this run are done.
    Done {
        /// Texts done in this run.
        n_texts: u64,
        /// How long the rest will take if it goes on as until now.
        left: Duration,
    },
    /// The new vectors take the place of the old ones.
    Switches,
}

/// Embeds every text of the index with `embedder`, from what is stored, and then switches to its vectors in one step;
/// until then the old ones answer. A stop at any moment is safe; the next run with the same embedder goes on. Returns
/// how many texts it embedded.
///
/// # Errors
/// When a text cannot be embedded or the index cannot be written.
pub fn change_embedder(
    writer: &mut Writer,
    embedder: &dyn Embed,
    report: &mut dyn FnMut(Change),
) -> Result<u64> {
    let mut succession = writer.succession(embedder.id())?;
    let (n_texts, n_done) = (succession.n_left, succession.n_done);
    report(Change::Begins { n_texts, n_done });
    let started = Instant::now();
    let (mut n_embedded, mut n_bytes) = (0, 0);
    let mut batch_size = FIRST_BATCH;
    loop {
        let batch_started = Instant::now();
        let batch = succession.texts(batch_size)?;
        if batch.is_empty() {
            break;
        }
        let texts: Vec<&str> = batch.iter().map(Unembedded::text).collect();
        succession.put(&batch, &embedder.embed_passages(&texts)?)?;
        n_embedded += batch.len() as u64;
        n_bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>();
        report(Change::Done {
            n_texts: n_embedded,
            left: time_left(started.elapsed(), n_bytes, succession.bytes_left),
        });
        if batch_started.elapsed() * 2 < BATCH_TIME {
            batch_size = (batch_size * 2).min(LARGEST_BATCH);
        }
    }
    report(Change::Switches);
    succession.finish()?;
    writer.publish()?;
    Ok(n_embedded)
}

/// What `n_total` bytes take beyond the `n_done` that have taken `elapsed`.
fn time_left(elapsed: Duration, n_done: u64, n_total: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let rest = n_total.saturating_sub(n_done) as f64 / n_done.max(1) as f64;
    elapsed.mul_f64(rest)
}

/// What has to be done, by comparing the folders with the index.
struct Plan {
    to_read: Vec<Candidate>,
    /// Files the index knows under the given paths that are not there any more, by content.
    gone: HashMap<PathBuf, FileRecord>,
}

/// A file to read, and what the index knows of the same path.
struct Candidate {
    file: FoundFile,
    known: Option<FileRecord>,
}

fn plan(paths: &[PathBuf], writer: &Writer, summary: &mut Summary) -> Result<Plan> {
    let mut to_read = Vec::new();
    let mut gone = HashMap::new();
    let mut seen = HashSet::new();
    for path in paths {
        let listing = folder::list(path)?;
        for file in writer.files_under(&listing.root)? {
            gone.insert(file.path.clone(), file);
        }
        summary.skipped.extend(listing.links);
        for (path, reason) in listing.unreadable {
            gone.retain(|known, _| !known.starts_with(&path));
            summary
                .unreadable
                .push((folder::source(&path, &listing.root), reason));
        }
        for file in listing.files {
            if seen.insert(file.path.clone()) {
                to_read.push(file);
            }
        }
    }
    let mut candidates = Vec::new();
    for file in to_read {
        let known = gone.remove(&file.path);
        match &known {
            Some(known) if is_unchanged(known, &file) => count_unchanged(known, summary),
            _ => candidates.push(Candidate { file, known }),
        }
    }
    Ok(Plan {
        to_read: candidates,
        gone,
    })
}

fn is_unchanged(known: &FileRecord, file: &FoundFile) -> bool {
    known.pipeline == PIPELINE
        && known.n_bytes == file.n_bytes
        && known.modified_ns == file.modified_ns
        && known.modified_ns != 0
}

fn count_unchanged(known: &FileRecord, summary: &mut Summary) {
    match &known.state {
        FileState::Read { .. } => summary.n_unchanged += 1,
        FileState::Unreadable { reason } => summary
            .unreadable
            .push((known.source.clone(), reason.clone())),
    }
}

/// Consecutive files that are read together.
fn windows(files: &[Candidate]) -> Vec<&[Candidate]> {
    let mut windows = Vec::new();
    let mut start = 0;
    let mut n_bytes = 0;
    for (at, candidate) in files.iter().enumerate() {
        if at > start
            && (at - start == WINDOW_FILES || n_bytes + candidate.file.n_bytes > WINDOW_BYTES)
        {
            windows.push(&files[start..at]);
            start = at;
            n_bytes = 0;
        }
        n_bytes += candidate.file.n_bytes;
    }
    if start < files.len() {
        windows.push(&files[start..]);
    }
    windows
}

/// A file after reading.
struct ReadFile {
    file: FoundFile,
    known: Option<FileRecord>,
    outcome: Outcome,
}

enum Outcome {
    /// Not a type that ragq reads.
    Skipped,
    /// Content and pipeline are those the index has.
    Same { content_hash: String },
    /// The file system did not give the bytes, or they are too many; what the index has of the file stays.
    Withheld { reason: String },
    /// There is no text in the bytes.
    Unreadable {
        content_hash: String,
        reason: String,
    },
    /// Text.
    Read {
        content_hash: String,
        title: Option<String>,
        warnings: Vec<String>,
        chunks: Vec<Chunk>,
    },
}

fn read_window(window: &[Candidate]) -> Vec<ReadFile> {
    window
        .par_iter()
        .map(|Candidate { file, known }| {
            let outcome =
                read_file(file, known.as_ref()).unwrap_or_else(|error| Outcome::Withheld {
                    reason: error.root_cause().to_string(),
                });
            ReadFile {
                file: file.clone(),
                known: known.clone(),
                outcome,
            }
        })
        .collect()
}

/// Reads one file.
///
/// # Errors
/// When the file system does not give its bytes.
fn read_file(file: &FoundFile, known: Option<&FileRecord>) -> Result<Outcome> {
    let name = file.source.rsplit('/').next().unwrap_or_default();
    if !may_be_document(&file.path, name)? {
        return Ok(Outcome::Skipped);
    }
    if file.n_bytes > MAX_FILE_BYTES {
        let reason = format!(
            "{} MiB, at most {} are read",
            file.n_bytes >> 20,
            MAX_FILE_BYTES >> 20
        );
        return Ok(Outcome::Withheld { reason });
    }
    let bytes = crate::fs::read(&file.path)?;
    let content_hash = hexadecimal(&Sha256::digest(&bytes));
    if known.is_some_and(|known| known.pipeline == PIPELINE && known.content_hash == content_hash) {
        return Ok(Outcome::Same { content_hash });
    }
    if !document::is_candidate(&bytes, name) {
        return Ok(Outcome::Skipped);
    }
    Ok(match document::parse(&bytes, name, &Budget::standard()) {
        Ok((document, warnings)) => {
            let chunks = chunk::split(&document);
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            if chunks.is_empty() {
                let reason = warnings
                    .first()
                    .cloned()
                    .unwrap_or_else(|| "no text in it".into());
                Outcome::Unreadable {
                    content_hash,
                    reason,
                }
            } else {
                Outcome::Read {
                    content_hash,
                    title: document.title,
                    warnings,
                    chunks,
                }
            }
        }
        Err(error) => Outcome::Unreadable {
            content_hash,
            reason: format!("{error:#}"),
        },
    })
}

/// Looks at the head only, so that a folder of films is not read for nothing. Containers need their whole.
fn may_be_document(path: &Path, name: &str) -> Result<bool> {
    let mut head = Vec::new();
    crate::fs::open(path)?
        .take(1 << 16)
        .read_to_end(&mut head)
        .with_context(|| path.display().to_string())?;
    let is_container = head.starts_with(b"PK") || head.starts_with(b"\xd0\xcf\x11\xe0");
    Ok(is_container || document::is_candidate(&head, name))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Embeds and commits a window.
fn store(
    files: Vec<ReadFile>,
    writer: &mut Writer,
    embedder: &dyn Embed,
    gone: &mut HashMap<PathBuf, FileRecord>,
    summary: &mut Summary,
    report: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let mut embeddings = embed_new(&files, writer, embedder, summary)?;
    for ReadFile {
        file,
        known,
        outcome,
    } in files
    {
        let record = |content_hash: String, state: FileState| FileRecord {
            path: file.path.clone(),
            source: known
                .as_ref()
                .map_or_else(|| file.source.clone(), |known| known.source.clone()),
            content_hash,
            n_bytes: file.n_bytes,
            modified_ns: settled(file.modified_ns),
            pipeline: PIPELINE,
            state,
        };
        match outcome {
            Outcome::Skipped => {
                if known.is_some() {
                    writer.remove(&file.path)?;
                }
                summary.skipped.push(file.source.clone());
            }
            Outcome::Same { content_hash } => {
                if let Some(known) = &known {
                    writer.relocate(&file.path, &record(content_hash, known.state.clone()))?;
                    count_unchanged(known, summary);
                }
            }
            Outcome::Withheld { reason } => summary.unreadable.push((file.source.clone(), reason)),
            Outcome::Unreadable {
                content_hash,
                reason,
            } => {
                let record = record(
                    content_hash,
                    FileState::Unreadable {
                        reason: reason.clone(),
                    },
                );
                writer.replace(&record, &[])?;
                summary.unreadable.push((record.source, reason));
            }
            Outcome::Read {
                content_hash,
                title,
                warnings,
                chunks,
            } => {
                let list = if known.is_some() {
                    &mut summary.changed
                } else {
                    &mut summary.added
                };
                let record = record(
                    content_hash,
                    FileState::Read {
                        title,
                        warnings: warnings.clone(),
                    },
                );
                summary.warnings.extend(
                    warnings
                        .into_iter()
                        .map(|warning| (record.source.clone(), warning)),
                );
                let from = gone.values().find(|gone| {
                    gone.content_hash == record.content_hash && gone.pipeline == PIPELINE
                });
                if let (None, Some(from)) = (&known, from.map(|from| from.path.clone())) {
                    writer.relocate(&from, &record)?;
                    if let Some(from) = gone.remove(&from) {
                        summary.moved.push((from.source, record.source));
                    }
                } else {
                    let chunks = chunks.into_iter().map(|chunk| {
                        let embedding = embeddings.remove(&chunk.embedded_text());
                        NewChunk { chunk, embedding }
                    });
                    let chunks: Vec<NewChunk> = chunks.collect();
                    summary.n_chunks += chunks.len();
                    writer.replace(&record, &chunks)?;
                    list.push(record.source);
                }
            }
        }
        report(Progress::Done(&file.source));
    }
    Ok(())
}

/// Vectors of the window's texts that the index does not have, by text.
fn embed_new(
    files: &[ReadFile],
    writer: &Writer,
    embedder: &dyn Embed,
    summary: &mut Summary,
) -> Result<HashMap<String, Vec<f32>>> {
    let mut texts: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for file in files {
        if let Outcome::Read { chunks, .. } = &file.outcome {
            for text in chunks.iter().map(Chunk::embedded_text) {
                if seen.insert(text.clone()) {
                    texts.push(text);
                }
            }
        }
    }
    let known = writer.has_embeddings(&texts)?;
    let mut known = known.into_iter();
    texts.retain(|_| !known.next().unwrap_or(false));
    let vectors = embedder.embed_passages(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    summary.n_embedded += texts.len();
    Ok(texts.into_iter().zip(vectors).collect())
}

/// A time stamp that may be trusted the next time, or 0.
fn settled(modified_ns: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok());
    if now.is_some_and(|now| now - modified_ns > RACY_NS) {
        modified_ns
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was_done() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(seconds(2), 100, 400), seconds(6));
        assert_eq!(time_left(seconds(2), 400, 400), seconds(0));
        assert_eq!(time_left(seconds(2), 500, 400), seconds(0));
        assert_eq!(time_left(seconds(0), 0, 400), seconds(0));
    }
}
