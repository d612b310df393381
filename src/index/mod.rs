//! Chunks and vectors on disk. SQLite is the truth; vectors, graph and postings beside it are caches.
//!
//! [`Writer`] holds the folder's lock and changes one document a transaction; [`Reader`] pins one state and never
//! waits. What was acknowledged is durable, and whatever happens to a cache, answers stay the same and only take
//! longer. A cache that is missing or damaged is made again by the next [`Writer::publish`]; a damaged database is
//! reported, never repaired by guessing.
//!
//! # The format on disk, version 1
//!
//! | file | holds |
//! |---|---|
//! | `index.sqlite` (`-wal`, `-shm`) | everything: the tables are described where they are made, in `database.rs` |
//! | `vectors-E.cache` | every distinct text's vector in 8 bits and in 1 bit, and the vectors' ids (`vectors.rs`, `codes.rs`) |
//! | `graph-E.cache` | an HNSW graph over the first rows of the vector cache (`hnsw.rs`, `hnsw_build.rs`); from 4,000,000 rows on |
//! | `terms-E.cache` | for each term the chunks that hold it (`postings.rs`) |
//! | `lock` | the process that may write: an advisory lock, and its number for people |
//! | `.new-*` | unfinished caches; whoever holds the lock removes them |
//!
//! Numbers are little-endian. A cache begins with a block of 4,096 bytes: magic `ragq\0idx`, kind and layout version
//! (`u32`), eight numbers of its own (`u64`), start and length of six sections (`u64`), end of the body (`u64`),
//! checksum of the table, checksum of all before it (`u32`). Sections begin at multiples of 4,096 bytes. After the body
//! comes the table: the CRC-32 of each block. The database's table `caches` names each cache by epoch `E` and the
//! checksum of its header, through which every byte of the file is accounted for; no other file is ever used.
//!
//! # Order of writing, and what is true after a crash
//!
//! A document: one transaction in the write-ahead log with `synchronous=FULL`. Before its commit is durable the index
//! is as it was; after it, as it will be.
//!
//! | publishing a cache | a crash after this step leaves |
//! |---|---|
//! | 1. write `.new-*` beside it | the old state and a file to be removed |
//! | 2. sync the file | the same |
//! | 3. rename it to its epoch's name | the old state and a file that the database does not name |
//! | 4. sync the folder | the same |
//! | 5. name it in a transaction | the new state, and old files to be removed |
//! | 6. remove old files | the new state |
//!
//! Another embedder: the table `next_vectors`, made when it is needed, gathers the new vectors a batch a transaction
//! (`succession.rs`). A crash leaves the old state and the batches that were durable. Then the cache of the new vectors
//! is published with the transaction of step 5, which also drops `vectors` and gives `next_vectors` its name.
//!
//! Readers that pinned the old state keep the files they have mapped; one that comes between 5 and 6 of two publishings
//! pins again. Every publishing has a new epoch, so no name is used twice for different bytes within one state.
//!
//! Assumed of the file system: `fsync` makes bytes durable, a rename within a folder is atomic, an advisory lock ends
//! with its process, and files can be mapped: any local file system. SQLite's write-ahead log does not work across
//! machines, so an index on a network share must have one machine that uses it.
//!
//! Deliberately not here: what texts mean to a question (`retrieval`), which files to read (`ingest`).

mod cache;
mod codes;
mod database;
mod filter;
mod hnsw;
mod hnsw_build;
pub mod lexical;
mod lock;
mod mapped;
mod postings;
mod reader;
mod status;
mod succession;
mod vectors;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::chunk::Chunk;
use crate::embedding::EmbedderId;

pub use filter::Filter;
pub use reader::Reader;
pub use status::{CacheState, Status};
pub use succession::{Succession, Unembedded, Unfinished};
pub use writer::Writer;

/// Version of the on-disk format.
const FORMAT: i64 = 1;

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

/// A place where tests stop a process to see what is left.
#[cfg(not(test))]
fn fault_point(_name: &str) {}

#[cfg(test)]
fn fault_point(name: &str) {
    if std::env::var("RAGQ_TEST_STOP_BEFORE").is_ok_and(|stop| stop == name) {
        std::process::abort();
    }
}

/// Why an index cannot be used, where the caller has something to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexError {
    /// The folder holds no index.
    Missing {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// The vectors were made by another embedder.
    OtherEmbedder {
        /// The index.
        folder: PathBuf,
        /// The embedder that made the vectors.
        built_with: Box<EmbedderId>,
        /// The embedder that was to be used.
        asked_with: Box<EmbedderId>,
    },
    /// Another process is changing the index.
    Locked {
        /// The index.
        folder: PathBuf,
        /// Which process, where the system lets us know.
        pid: Option<u32>,
    },
    /// A newer ragq made the index.
    NewerFormat {
        /// The index.
        folder: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
}

impl std::error::Error for IndexError {}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Missing { folder } => write!(f, "{}: no index here", folder.display()),
            IndexError::OtherEmbedder {
                folder,
                built_with,
                asked_with,
            } => {
                let folder = folder.display();
                if built_with.name == asked_with.name
                    && built_with.dimension == asked_with.dimension
                {
                    // The name alone would not tell them apart: the weights or settings behind it have changed.
                    write!(
                        f,
                        "{folder}: built with another version of {} ({}), asked with {}",
                        built_with.name,
                        short(&built_with.fingerprint),
                        short(&asked_with.fingerprint)
                    )
                } else {
                    write!(
                        f,
                        "{folder}: built with {} ({} dimensions), asked with {} ({})",
                        built_with.name,
                        built_with.dimension,
                        asked_with.name,
                        asked_with.dimension
                    )
                }
            }
            IndexError::Locked {
                folder,
                pid: Some(pid),
            } => {
                write!(f, "{}: being changed by process {pid}", folder.display())
            }
            IndexError::Locked { folder, pid: None } => {
                write!(f, "{}: being changed by another process", folder.display())
            }
            IndexError::NewerFormat {
                folder,
                found,
                known,
            } => write!(
                f,
                "{}: made by a newer ragq (format {found}, this one reads up to {known})",
                folder.display()
            ),
        }
    }
}

impl IndexError {
    fn check_embedder(
        folder: &Path,
        built_with: &EmbedderId,
        asked_with: &EmbedderId,
    ) -> Result<(), IndexError> {
        if built_with.fingerprint == asked_with.fingerprint
            && built_with.dimension == asked_with.dimension
        {
            return Ok(());
        }
        Err(IndexError::OtherEmbedder {
            folder: folder.to_owned(),
            built_with: Box::new(built_with.clone()),
            asked_with: Box::new(asked_with.clone()),
        })
    }
}

/// Enough of a fingerprint for a person to compare.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Location;

    const DIMENSION: usize = 8;

    pub(super) fn embedder() -> EmbedderId {
        EmbedderId {
            name: "builtin".to_owned(),
            fingerprint: "f00d".to_owned(),
            dimension: DIMENSION,
        }
    }

    /// A unit vector that depends on the text alone.
    pub(super) fn embed(text: &str) -> Vec<f32> {
        let hash = database::text_hash(text);
        let vector: Vec<f32> = hash
            .iter()
            .take(DIMENSION)
            .map(|&b| f32::from(b) - 127.5)
            .collect();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / length).collect()
    }

    fn chunk(section: &str, text: &str) -> Chunk {
        Chunk {
            text: text.to_owned(),
            path: vec!["규칙".to_owned(), section.to_owned()],
            location: Location {
                page: Some(1),
                page_label: Some("iv".to_owned()),
                section: vec![section.to_owned()],
                ..Location::default()
            },
        }
    }

    pub(super) fn new_chunks(texts: &[(&str, &str)]) -> Vec<NewChunk> {
        texts
            .iter()
            .map(|(section, text)| {
                let chunk = chunk(section, text);
                let embedding = Some(embed(&chunk.embedded_text()));
                NewChunk { chunk, embedding }
            })
            .collect()
    }

    pub(super) fn file(path: &Path) -> FileRecord {
        FileRecord {
            path: path.to_owned(),
            source: path.file_name().unwrap().to_string_lossy().into_owned(),
            content_hash: "00".to_owned(),
            n_bytes: 10,
            modified_ns: 1,
            pipeline: 1,
            state: FileState::Read {
                title: Some("규칙".to_owned()),
                warnings: vec!["page 3: no text".to_owned()],
            },
        }
    }

    pub(super) struct Bench {
        _root: tempfile::TempDir,
        pub(super) documents: PathBuf,
        pub(super) folder: PathBuf,
    }

    pub(super) fn bench() -> Bench {
        let root = tempfile::tempdir().unwrap();
        let documents = root.path().canonicalize().unwrap();
        let folder = documents.join(".ragq");
        Bench {
            _root: root,
            documents,
            folder,
        }
    }

    const LEAVE: [(&str, &str); 3] = [
        ("제1조(육아휴직)", "육아휴직은 최대 2년으로 한다."),
        ("제1조(육아휴직)", "한 번 나누어 쓸 수 있다."),
        (
            "제2조(복직)",
            "복직은 휴직 기간이 끝나기 30일 전에 신청한다.",
        ),
    ];

    #[test]
    fn what_goes_in_comes_out() {
        let bench = bench();
        let path = bench.documents.join("규칙.txt");
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        let chunks = new_chunks(&LEAVE);
        writer.replace(&file(&path), &chunks).unwrap();
        assert_eq!(writer.files_under(&bench.documents).unwrap(), [file(&path)]);
        assert_eq!(writer.files_under(&bench.documents.join("규")).unwrap(), []);

        let reader = Reader::open(&bench.folder).unwrap();
        assert_eq!(reader.embedder(), &embedder());
        assert_eq!(reader.files().unwrap(), [file(&path)]);
        assert_eq!(reader.n_chunks().unwrap(), 3);

        let query = embed(&chunks[2].chunk.embedded_text());
        let nearest = reader.nearest(&query, 2).unwrap();
        assert_eq!(nearest.len(), 2);
        assert!((nearest[0].similarity - 1.0).abs() < 1e-5);
        let found = &reader.chunks(&[nearest[0].id]).unwrap()[0];
        assert_eq!((&found.chunk, found.ordinal), (&chunks[2].chunk, 2));
        assert_eq!(
            reader.similarities(&query, &[nearest[1].id]).unwrap(),
            [nearest[1].similarity]
        );

        let found = reader.lexical(&lexical::terms("육아휴직"), 5).unwrap();
        let section = reader.section_of(found[0].id).unwrap();
        assert_eq!(section.len(), 2);
        assert_eq!(section[1].chunk, chunks[1].chunk);
        let terms = ["육아", "복직", "없는"].map(str::to_owned);
        assert_eq!(reader.document_frequencies(&terms).unwrap(), [2, 1, 0]);
    }

    #[test]
    fn an_index_from_before_page_labels_is_read_and_gets_them() {
        let bench = bench();
        let path = bench.documents.join("규칙.txt");
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        writer.replace(&file(&path), &new_chunks(&LEAVE)).unwrap();
        drop(writer);
        let db = rusqlite::Connection::open(bench.folder.join(database::FILE_NAME)).unwrap();
        db.execute_batch("ALTER TABLE chunks DROP COLUMN page_label")
            .unwrap();
        drop(db);
        let found = || {
            let reader = Reader::open(&bench.folder).unwrap();
            let id = reader.lexical(&lexical::terms("복직"), 1).unwrap()[0].id;
            let location = reader.chunks(&[id]).unwrap().remove(0).chunk.location;
            (location.page, location.page_label)
        };
        assert_eq!(found(), (Some(1), None));
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        assert_eq!(found(), (Some(1), None));
        writer.replace(&file(&path), &new_chunks(&LEAVE)).unwrap();
        assert_eq!(found(), (Some(1), Some("iv".to_owned())));
    }

    #[test]
    fn a_reader_keeps_its_view_and_a_writer_goes_on() {
        let bench = bench();
        let path = bench.documents.join("규칙.txt");
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        writer.replace(&file(&path), &new_chunks(&LEAVE)).unwrap();
        let before = Reader::open(&bench.folder).unwrap();
        writer
            .replace(&file(&path), &new_chunks(&LEAVE[..1]))
            .unwrap();
        assert_eq!(before.n_chunks().unwrap(), 3);
        assert_eq!(Reader::open(&bench.folder).unwrap().n_chunks().unwrap(), 1);
        writer.remove(&path).unwrap();
        let after = Reader::open(&bench.folder).unwrap();
        assert_eq!(after.n_chunks().unwrap(), 0);
        assert_eq!(after.nearest(&embed("x"), 5).unwrap(), []);
        assert_eq!(after.lexical(&lexical::terms("육아휴직"), 5).unwrap(), []);
        assert_eq!(before.lexical(&lexical::terms("복직"), 5).unwrap().len(), 1);
    }

    #[test]
    fn a_known_text_needs_no_vector_even_after_its_file_is_gone() {
        let bench = bench();
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        let chunks = new_chunks(&LEAVE[..1]);
        let texts = [chunks[0].chunk.embedded_text(), "another".to_owned()];
        writer
            .replace(&file(&bench.documents.join("a.txt")), &chunks)
            .unwrap();
        assert_eq!(writer.has_embeddings(&texts).unwrap(), [true, false]);
        writer.remove(&bench.documents.join("a.txt")).unwrap();
        let without_vector = [NewChunk {
            embedding: None,
            ..chunks[0].clone()
        }];
        let b = file(&bench.documents.join("b.txt"));
        writer.replace(&b, &without_vector).unwrap();
        writer.publish().unwrap();
        writer.remove(&b.path).unwrap();
        writer.publish().unwrap();
        assert_eq!(writer.has_embeddings(&texts).unwrap(), [false, false]);
        let error = writer.replace(&b, &without_vector).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "b.txt: chunk 0: no vector given and none stored"
        );
        assert_eq!(writer.files_under(&bench.documents).unwrap(), []);
    }

    #[test]
    fn a_moved_file_keeps_its_chunks() {
        let bench = bench();
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        let (from, to) = (
            bench.documents.join("a.txt"),
            bench.documents.join("sub/b.txt"),
        );
        writer.replace(&file(&from), &new_chunks(&LEAVE)).unwrap();
        writer.relocate(&from, &file(&to)).unwrap();
        let reader = Reader::open(&bench.folder).unwrap();
        assert_eq!(reader.files().unwrap(), [file(&to)]);
        let found = reader.lexical(&lexical::terms("복직"), 1).unwrap();
        assert_eq!(reader.chunks(&[found[0].id]).unwrap()[0].source, "b.txt");
        assert!(writer.relocate(&from, &file(&to)).is_err());
    }

    #[test]
    fn an_index_moves_with_its_documents() {
        let root = bench();
        let (old, new) = (root.documents.join("old"), root.documents.join("new"));
        let outside = root.documents.join("elsewhere.txt");
        std::fs::create_dir(&old).unwrap();
        let mut writer = Writer::open(&old.join(".ragq"), &embedder()).unwrap();
        writer.replace(&file(&old.join("a/b.txt")), &[]).unwrap();
        writer.replace(&file(&outside), &[]).unwrap();
        drop(writer);
        std::fs::rename(&old, &new).unwrap();
        let reader = Reader::open(&new.join(".ragq")).unwrap();
        let paths: Vec<PathBuf> = reader
            .files()
            .unwrap()
            .into_iter()
            .map(|file| file.path)
            .collect();
        assert_eq!(paths, [new.join("a/b.txt"), outside]);
    }

    #[test]
    fn vectors_that_would_spoil_similarities_are_refused() {
        let bench = bench();
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        let mut check = |vector: Vec<f32>, expected: &str| {
            let chunk = NewChunk {
                chunk: chunk("제1조", "내용"),
                embedding: Some(vector),
            };
            let error = writer
                .replace(&file(&bench.documents.join("a.txt")), &[chunk])
                .unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("a.txt: chunk 0: vector: {expected}")
            );
        };
        check(vec![0.0; DIMENSION], "expected length 1, got 0");
        check(vec![f32::NAN; DIMENSION], "expected length 1, got NaN");
        check(vec![f32::INFINITY; DIMENSION], "expected length 1, got inf");
        check(vec![1.0; 3], "expected 8 dimensions, got 3");
        assert_eq!(Reader::open(&bench.folder).unwrap().n_chunks().unwrap(), 0);
    }

    #[test]
    fn callers_can_tell_why_an_index_cannot_be_used() {
        let bench = bench();
        let missing = Reader::open(&bench.folder).unwrap_err();
        let folder = bench.folder.display();
        assert_eq!(format!("{missing:#}"), format!("{folder}: no index here"));
        let folder_path = bench.folder.clone();
        assert_eq!(
            missing.downcast_ref(),
            Some(&IndexError::Missing {
                folder: folder_path
            })
        );

        let writer = Writer::open(&bench.folder, &embedder()).unwrap();
        let locked = Writer::open(&bench.folder, &embedder()).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            format!("{locked:#}"),
            format!("{folder}: being changed by process {pid}")
        );
        drop(writer);

        let other = EmbedderId {
            name: "org/model".to_owned(),
            fingerprint: "bee".to_owned(),
            dimension: 4,
        };
        let error = Writer::open(&bench.folder, &other).unwrap_err();
        let expected =
            format!("{folder}: built with builtin (8 dimensions), asked with org/model (4)");
        assert_eq!(format!("{error:#}"), expected);
        let error = Reader::open(&bench.folder)
            .unwrap()
            .expect_embedder(&other)
            .unwrap_err();
        assert_eq!(format!("{error:#}"), expected);

        let db = rusqlite::Connection::open(bench.folder.join(database::FILE_NAME)).unwrap();
        db.execute("UPDATE meta SET value = 7 WHERE key = 'format'", [])
            .unwrap();
        let error = Reader::open(&bench.folder).unwrap_err();
        let expected = format!("{folder}: made by a newer ragq (format 7, this one reads up to 1)");
        assert_eq!(format!("{error:#}"), expected);
    }

    #[test]
    fn terms_of_any_shape_are_harmless() {
        let bench = bench();
        let mut writer = Writer::open(&bench.folder, &embedder()).unwrap();
        writer
            .replace(&file(&bench.documents.join("a.txt")), &new_chunks(&LEAVE))
            .unwrap();
        let reader = Reader::open(&bench.folder).unwrap();
        for terms in [
            vec![],
            vec!["\""],
            vec!["a\" OR \"b"],
            vec!["*", "(", "", "\0"],
            vec!["NEAR", "OR"],
        ] {
            let terms: Vec<String> = terms.into_iter().map(str::to_owned).collect();
            assert_eq!(reader.lexical(&terms, 5).unwrap(), [], "{terms:?}");
        }
        let many: Vec<String> = (0..20_000)
            .map(|i| format!("낱말{i}"))
            .chain(["육아".to_owned()])
            .collect();
        assert_eq!(reader.lexical(&many, 5).unwrap().len(), 2);
    }

    /// Caches from the first hundred vectors on, a graph from five hundred.
    const SMALL: writer::Policy = writer::Policy {
        scanned_in_database: 100,
        graph_from: 500,
        dead_rows_per_compaction: 4,
    };

    pub(super) fn open_small(folder: &Path) -> Writer {
        let mut writer = Writer::open(folder, &embedder()).unwrap();
        writer.policy = SMALL;
        writer
    }

    /// Files of fifty chunks, numbered.
    pub(super) fn put_files(
        writer: &mut Writer,
        documents: &Path,
        numbers: std::ops::Range<usize>,
    ) {
        for number in numbers {
            let texts: Vec<String> = (0..50)
                .map(|i| format!("파일 {number}의 내용 {i}"))
                .collect();
            let texts: Vec<(&str, &str)> =
                texts.iter().map(|text| ("제1조", text.as_str())).collect();
            writer
                .replace(
                    &file(&documents.join(format!("{number}.txt"))),
                    &new_chunks(&texts),
                )
                .unwrap();
        }
    }

    /// What `nearest` must answer, from every chunk's exact similarity.
    fn nearest_by_sorting(reader: &Reader, query: &[f32], top_k: usize) -> Vec<Scored> {
        let mut select = reader.db.prepare("SELECT id FROM chunks").unwrap();
        let ids: Vec<ChunkId> = select
            .query_map([], |row| Ok(ChunkId(row.get(0)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let similarities = reader.similarities(query, &ids).unwrap();
        let mut all: Vec<Scored> = ids
            .into_iter()
            .zip(similarities)
            .map(|(id, similarity)| Scored { id, similarity })
            .collect();
        all.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id)));
        all.truncate(top_k);
        all
    }

    fn check_nearest(folder: &Path, expect_cache: bool, expect_graph: bool) {
        let reader = Reader::open(folder).unwrap();
        assert_eq!(reader.caches.problems, [""; 0]);
        assert_eq!(
            (
                reader.caches.vectors.is_some(),
                reader.caches.graph.is_some()
            ),
            (expect_cache, expect_graph)
        );
        for seed in 0..20 {
            let query = embed(&seed.to_string());
            for top_k in [1, 10] {
                assert_eq!(
                    reader.nearest(&query, top_k).unwrap(),
                    nearest_by_sorting(&reader, &query, top_k)
                );
            }
        }
        for pattern in ["3.txt", "1?.txt", "same.txt", "*.txt", "none"] {
            check_restricted(folder, pattern);
        }
    }

    /// A restricted reader finds what is left of all chunks in their order when the others are taken out.
    fn check_restricted(folder: &Path, pattern: &str) {
        let filter = Filter::new(&[pattern.to_owned()], &[], Path::new("/nowhere"));
        let all = Reader::open(folder).unwrap();
        let mut reader = Reader::open(folder).unwrap();
        let passing = |scored: Vec<Scored>| -> Vec<Scored> {
            let ids: Vec<ChunkId> = scored.iter().map(|scored| scored.id).collect();
            let chunks = all.chunks(&ids).unwrap();
            let passes = |source: &str| {
                let record = FileRecord {
                    source: source.to_owned(),
                    ..file(Path::new("/elsewhere"))
                };
                filter.matches(&record)
            };
            let pairs = scored.into_iter().zip(chunks);
            let passing = pairs.filter(|(_, chunk)| passes(&chunk.source));
            passing.map(|(scored, _)| scored).take(10).collect()
        };
        reader.restrict(&filter).unwrap();
        for seed in 0..3 {
            let query = embed(&seed.to_string());
            let expected = passing(nearest_by_sorting(&all, &query, usize::MAX));
            assert_eq!(reader.nearest(&query, 10).unwrap(), expected, "{pattern}");
        }
        let terms = lexical::terms("파일 3의 내용 7");
        let similarities = |found: Vec<Scored>| -> Vec<String> {
            let shown = |found: &Scored| format!("{:.3}", found.similarity);
            found.iter().map(shown).collect()
        };
        let expected = passing(all.lexical(&terms, 10_000).unwrap());
        let found = reader.lexical(&terms, 10).unwrap();
        let found_again = passing(found.clone());
        assert_eq!(found, found_again, "{pattern}: found what it must not find");
        assert_eq!(similarities(found), similarities(expected), "{pattern}");
    }

    #[test]
    fn the_nearest_are_the_nearest_through_all_the_life_of_the_caches() {
        let bench = bench();
        let folder = &bench.folder;
        let mut writer = open_small(folder);
        check_nearest(folder, false, false);
        put_files(&mut writer, &bench.documents, 0..2);
        writer.publish().unwrap();
        check_nearest(folder, false, false);
        put_files(&mut writer, &bench.documents, 2..8);
        writer.publish().unwrap();
        check_nearest(folder, true, false);
        put_files(&mut writer, &bench.documents, 8..9);
        check_nearest(folder, true, false);
        put_files(&mut writer, &bench.documents, 9..20);
        writer.publish().unwrap();
        check_nearest(folder, true, true);
        put_files(&mut writer, &bench.documents, 20..23);
        writer.publish().unwrap();
        check_nearest(folder, true, true);
        put_files(&mut writer, &bench.documents, 23..24);
        for number in 0..3 {
            writer
                .remove(&bench.documents.join(format!("{number}.txt")))
                .unwrap();
        }
        check_nearest(folder, true, true);
        for number in 3..10 {
            writer
                .remove(&bench.documents.join(format!("{number}.txt")))
                .unwrap();
        }
        writer.publish().unwrap();
        check_nearest(folder, true, true);
        for number in 10..24 {
            writer
                .remove(&bench.documents.join(format!("{number}.txt")))
                .unwrap();
        }
        writer.publish().unwrap();
        let reader = Reader::open(folder).unwrap();
        assert_eq!(reader.nearest(&embed("x"), 3).unwrap(), []);
    }

    #[test]
    fn a_thousand_equal_chunks_do_not_hide_the_others() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..12);
        let same = vec![("제1조", "같은 내용"); 1000];
        writer
            .replace(&file(&bench.documents.join("same.txt")), &new_chunks(&same))
            .unwrap();
        writer.publish().unwrap();
        check_nearest(&bench.folder, true, true);
    }

    pub(super) fn cache_files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "cache")
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn damaged_caches_never_change_an_answer_and_are_made_again() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..12);
        let queries: Vec<Vec<f32>> = (0..3).map(|i| embed(&i.to_string())).collect();
        let answers = || -> Vec<Vec<Scored>> {
            let reader = Reader::open(&bench.folder).unwrap();
            queries
                .iter()
                .map(|query| reader.nearest(query, 5).unwrap())
                .collect()
        };
        let expected = answers();
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 5] = [
            ("removed", |path| std::fs::remove_file(path).unwrap()),
            ("empty", |path| crate::fs::write_atomic(path, b"").unwrap()),
            ("cut short", |path| {
                let bytes = crate::fs::read(path).unwrap();
                crate::fs::write_atomic(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("zeros", |path| {
                let bytes = crate::fs::read(path).unwrap();
                crate::fs::write_atomic(path, &vec![0; bytes.len()]).unwrap();
            }),
            ("a bit flipped in every block but the header", |path| {
                let mut bytes = crate::fs::read(path).unwrap();
                (4096..bytes.len())
                    .step_by(1000)
                    .for_each(|at| bytes[at] ^= 4);
                crate::fs::write_atomic(path, &bytes).unwrap();
            }),
        ];
        for (name, damage) in damages {
            for i in 0..3 {
                writer.publish().unwrap();
                let files = cache_files(&bench.folder);
                assert_eq!(files.len(), 3, "{files:?}");
                damage(&files[i]);
                assert_eq!(answers(), expected, "{} {name}", files[i].display());
            }
        }
        writer.publish().unwrap();
        check_nearest(&bench.folder, true, true);
    }

    /// Run by the test below in a process of its own.
    #[test]
    fn child_publishes() {
        if let Some(documents) = std::env::var_os("RAGQ_TEST_DOCUMENTS") {
            let documents = PathBuf::from(documents);
            let mut writer = open_small(&documents.join(".ragq"));
            writer.publish().unwrap();
        }
    }

    #[test]
    fn a_process_that_ends_before_any_step_of_publishing_leaves_a_whole_index() {
        let steps = [
            "sync cache",
            "rename cache",
            "sync folder",
            "name cache",
            "remove old caches",
        ];
        for step in steps {
            let bench = bench();
            let mut writer = open_small(&bench.folder);
            put_files(&mut writer, &bench.documents, 0..4);
            writer.publish().unwrap();
            put_files(&mut writer, &bench.documents, 4..12);
            drop(writer);
            let publish = |stop: &str| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "index::tests::child_publishes"])
                    .env("RAGQ_TEST_DOCUMENTS", &bench.documents)
                    .env("RAGQ_TEST_STOP_BEFORE", stop)
                    .output()
                    .unwrap()
            };
            assert!(
                !publish(step).status.success(),
                "nothing stopped before: {step}"
            );
            let has_new = step == "remove old caches";
            check_nearest(&bench.folder, true, has_new);
            assert!(publish("").status.success());
            check_nearest(&bench.folder, true, true);
            assert_eq!(cache_files(&bench.folder).len(), 3, "{step}");
            let names = bench
                .folder
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            assert_eq!(
                names
                    .filter(|name| name.as_encoded_bytes().starts_with(b".new"))
                    .count(),
                0
            );
        }
    }

    /// The ranking of the cache of postings against that of FTS5.
    fn check_lexical(folder: &Path) {
        let reader = Reader::open(folder).unwrap();
        assert!(reader.caches.terms.is_some());
        for question in [
            "파일 3의 내용 7",
            "규칙 제1조",
            "새 파일",
            "내용",
            "없는 말뿐",
        ] {
            let terms = lexical::terms(question);
            let by_database = reader.lexical_by_database(
                &terms.iter().map(String::as_str).collect::<Vec<_>>(),
                10_000,
            );
            let mut by_database = by_database.unwrap();
            let mut found = reader.lexical(&terms, 10_000).unwrap();
            let best = reader.lexical(&terms, 10).unwrap();
            for (best, expected) in best.iter().zip(&by_database) {
                assert!(
                    (best.similarity - expected.similarity).abs() < 1e-4,
                    "{question}: {best:?} {expected:?}"
                );
            }
            assert_eq!(best.len(), by_database.len().min(10), "{question}");
            found.sort_by_key(|scored| scored.id);
            by_database.sort_by_key(|scored| scored.id);
            assert_eq!(found.len(), by_database.len(), "{question}");
            for (found, expected) in found.iter().zip(&by_database) {
                assert_eq!(found.id, expected.id, "{question}");
                assert!(
                    (found.similarity - expected.similarity).abs() < 1e-4,
                    "{question}: {found:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn the_cached_ranking_is_that_of_fts5_through_all_the_life_of_the_cache() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..4);
        writer.publish().unwrap();
        check_lexical(&bench.folder);
        // Too few to be merged.
        let new = file(&bench.documents.join("new.txt"));
        writer
            .replace(
                &new,
                &new_chunks(&[("제2조", "새 파일의 내용"), ("제3조", "내용 내용")]),
            )
            .unwrap();
        check_lexical(&bench.folder);
        writer.publish().unwrap();
        check_lexical(&bench.folder);
        put_files(&mut writer, &bench.documents, 4..30);
        check_lexical(&bench.folder);
        writer.publish().unwrap();
        check_lexical(&bench.folder);
        for number in 2..9 {
            writer
                .remove(&bench.documents.join(format!("{number}.txt")))
                .unwrap();
        }
        let reader = Reader::open(&bench.folder).unwrap();
        let found = reader
            .lexical(&lexical::terms("파일 3의 내용 7"), 40)
            .unwrap();
        assert_eq!(found.len(), 40);
        reader
            .chunks(&found.iter().map(|found| found.id).collect::<Vec<_>>())
            .unwrap();
        writer.publish().unwrap();
        check_lexical(&bench.folder);
    }

    #[test]
    fn status_and_check_tell_what_is_there_and_what_is_wrong() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..12);
        let unreadable = FileRecord {
            state: FileState::Unreadable {
                reason: "encrypted".to_owned(),
            },
            ..file(&bench.documents.join("locked.pdf"))
        };
        writer.replace(&unreadable, &[]).unwrap();
        writer.publish().unwrap();
        put_files(&mut writer, &bench.documents, 12..13);

        let mut reader = Reader::open(&bench.folder).unwrap();
        let status = reader.status().unwrap();
        assert_eq!((status.n_documents, status.n_unreadable), (13, 1));
        assert_eq!((status.n_chunks, status.n_vectors), (650, 650));
        assert_eq!((status.embedder, status.format), (embedder(), 1));
        let used = CacheState::Used { n_newer: 50 };
        assert_eq!(
            status.caches,
            [("vectors", used), ("graph", used), ("terms", used)]
        );
        assert!(
            status
                .n_bytes
                .iter()
                .any(|(name, n_bytes)| name == "index.sqlite" && *n_bytes > 10_000)
        );
        assert_eq!(status.problems, [""; 0]);
        assert_eq!(reader.check().unwrap(), [""; 0]);

        // A bit in the last row of vectors, where no question would come by.
        let vectors = cache_files(&bench.folder)
            .into_iter()
            .find(|path| path.to_string_lossy().contains("vectors"));
        let vectors = vectors.unwrap();
        let mut bytes = crate::fs::read(&vectors).unwrap();
        bytes[8000] ^= 1;
        crate::fs::write_atomic(&vectors, &bytes).unwrap();
        let mut reader = Reader::open(&bench.folder).unwrap();
        assert_eq!(
            reader.check().unwrap(),
            ["cache of vectors: block 1 is damaged; `ragq ingest` makes it again"]
        );
        writer.publish().unwrap();
        assert_eq!(
            Reader::open(&bench.folder).unwrap().check().unwrap(),
            [""; 0]
        );
        std::fs::remove_file(&cache_files(&bench.folder)[0]).unwrap();
        let status = Reader::open(&bench.folder).unwrap().status().unwrap();
        assert_eq!(status.caches[1], ("graph", CacheState::Unusable));
        assert_eq!(status.problems.len(), 1);

        writer
            .db
            .execute("UPDATE vectors SET vector = zeroblob(32) WHERE id = 5", [])
            .unwrap();
        writer.publish().unwrap();
        assert_eq!(
            Reader::open(&bench.folder).unwrap().check().unwrap(),
            [
                "index.sqlite: vector 5: vector: expected length 1, got 0; remove the index folder and run `ragq ingest`"
            ]
        );
    }
}
