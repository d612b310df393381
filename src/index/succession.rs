//! Another embedder for an index: the vectors of its texts grow beside the old ones and take their place in one step.
//!
//! The table `next_vectors` has the columns of `vectors`, and a text has the same id in both, so that chunks need not
//! change. The keys `next_*` of `meta` say whose vectors they are. Until the step the old vectors answer, documents may
//! come and go as always, and whoever begins again with the same embedder goes on where the last one stopped. The step
//! is one transaction: it drops `vectors`, gives `next_vectors` its name, and names the cache that was made before.
//!
//! Programs that know nothing of this read and change the index as ever; they leave the new vectors alone. It embeds
//! nothing itself: it gives texts and takes vectors.

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension, params};

use super::cache::{self, Named};
use super::database::{self, FILE_NAME};
use super::fault_point;
use super::mapped::Kind;
use super::vectors;
use super::writer::{self, Writer, check_unit_vector, commit};
use crate::chunk::Chunk;
use crate::document::Location;
use crate::embedding::EmbedderId;

const TABLE: &str = "
CREATE TABLE next_vectors(
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  text_hash BLOB NOT NULL UNIQUE,
  vector    BLOB NOT NULL
) STRICT;
";

/// After the old vectors are gone, the file is written anew when more than one page in so many is free.
const FREE_PAGES: i64 = 3;

/// Vectors of another embedder that an index is on its way to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The embedder.
    pub embedder: EmbedderId,
    /// Texts that have its vector already.
    pub n_vectors: u64,
}

/// A text of the index that the new embedder has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unembedded {
    id: i64,
    text: String,
}

impl Unembedded {
    /// What is to be embedded.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The way of an index to another embedder.
#[derive(Debug)]
pub struct Succession<'w> {
    writer: &'w mut Writer,
    embedder: EmbedderId,
    /// Every text up to this id has been given to the caller.
    given: i64,
    /// Texts that have their vector from a run before this one.
    pub n_done: u64,
    /// Texts that are still to be embedded.
    pub n_left: u64,
    /// Their bytes, nearly.
    pub bytes_left: u64,
}

impl Writer {
    /// Begins to give the index another embedder, or goes on with it. Vectors on the way to a third one are dropped.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn succession(&mut self, embedder: &EmbedderId) -> Result<Succession<'_>> {
        let is_begun = self
            .unfinished()?
            .is_some_and(|unfinished| unfinished.embedder == *embedder);
        if !is_begun {
            self.abandon_succession()?;
            let transaction = self.db.transaction()?;
            transaction.execute_batch(TABLE)?;
            set_meta(&transaction, "next_embedder", &embedder.name)?;
            set_meta(
                &transaction,
                "next_embedder_fingerprint",
                &embedder.fingerprint,
            )?;
            let dimension = i64::try_from(embedder.dimension)?;
            set_meta(&transaction, "next_dimension", dimension)?;
            transaction.commit()?;
        }
        // Of a text that no chunk has, only the vector is left, and that is the old one.
        self.remove_unused_vectors()?;
        self.db.execute(
            "DELETE FROM next_vectors WHERE id NOT IN (SELECT id FROM vectors)",
            [],
        )?;
        let counts = format!(
            "SELECT (SELECT count(*) FROM next_vectors), count(*),
                coalesce(sum(octet_length(path) + octet_length(text)), 0) {UNEMBEDDED}"
        );
        let [n_done, n_left, bytes_left] = self.db.query_row(&counts, [], |row| {
            Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?])
        })?;
        Ok(Succession {
            n_done: u64::try_from(n_done)?,
            n_left: u64::try_from(n_left)?,
            bytes_left: u64::try_from(bytes_left)?,
            embedder: embedder.clone(),
            given: 0,
            writer: self,
        })
    }

    /// The embedder that the index is on its way to, if any.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unfinished(&self) -> Result<Option<Unfinished>> {
        unfinished(&self.db)
    }

    /// Stays with the old embedder and drops what the other has embedded.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn abandon_succession(&mut self) -> Result<()> {
        let transaction = self.db.transaction()?;
        transaction.execute_batch("DROP TABLE IF EXISTS next_vectors")?;
        forget_meta(&transaction)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Texts without a vector of the new embedder, each with one of the chunks that have it.
const UNEMBEDDED: &str = "FROM vectors
     JOIN chunks ON chunks.id = (SELECT min(id) FROM chunks WHERE vector_id = vectors.id)
     JOIN sections ON sections.id = section_id
     WHERE NOT EXISTS (SELECT 1 FROM next_vectors WHERE id = vectors.id)";

impl Succession<'_> {
    /// The next texts, at most `n`, in the order in which they came into the index; none when all were given.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn texts(&mut self, n: usize) -> Result<Vec<Unembedded>> {
        let mut select = self.writer.db.prepare_cached(&format!(
            "SELECT vectors.id, path, text {UNEMBEDDED} AND vectors.id > ? ORDER BY vectors.id LIMIT ?"
        ))?;
        let mut rows = select.query(params![self.given, i64::try_from(n)?])?;
        let mut texts = Vec::new();
        while let Some(row) = rows.next()? {
            let chunk = Chunk {
                path: serde_json::from_str(row.get_ref(1)?.as_str()?)?,
                text: row.get(2)?,
                location: Location::default(),
            };
            texts.push(Unembedded {
                id: row.get(0)?,
                text: chunk.embedded_text(),
            });
        }
        self.given = texts.last().map_or(self.given, |last| last.id);
        Ok(texts)
    }

    /// Stores the vectors of texts, in their order: durable, all or none.
    ///
    /// # Errors
    /// When a vector is not proper, or the database cannot be written.
    pub fn put(&mut self, texts: &[Unembedded], vectors: &[Vec<f32>]) -> Result<()> {
        ensure!(
            texts.len() == vectors.len(),
            "{} vectors for {} texts",
            vectors.len(),
            texts.len()
        );
        let transaction = self.writer.db.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO next_vectors(id, text_hash, vector) VALUES(?, ?, ?)",
            )?;
            for (text, vector) in texts.iter().zip(vectors) {
                check_unit_vector(vector, self.embedder.dimension)?;
                let hash = database::text_hash(&text.text);
                insert.execute(params![text.id, hash, database::vector_to_bytes(vector)])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Puts the new vectors in the place of the old ones, which are then gone.
    ///
    /// # Errors
    /// When a text has no vector yet, or the database or the cache cannot be written; the old vectors then answer.
    pub fn finish(self) -> Result<()> {
        let Succession {
            writer, embedder, ..
        } = self;
        let named = write_cache(writer, &embedder)?;
        fault_point("switch embedder");
        let transaction = writer.db.transaction()?;
        let n_missing: i64 = transaction.query_row(
            "SELECT count(*) FROM chunks WHERE vector_id NOT IN (SELECT id FROM next_vectors)",
            [],
            |row| row.get(0),
        )?;
        ensure!(
            n_missing == 0,
            "{FILE_NAME}: {n_missing} chunks have no vector of {}",
            embedder.name
        );
        transaction.execute_batch(
            "DROP TABLE vectors;
             ALTER TABLE next_vectors RENAME TO vectors;",
        )?;
        forget_meta(&transaction)?;
        set_meta(&transaction, "embedder", &embedder.name)?;
        set_meta(&transaction, "embedder_fingerprint", &embedder.fingerprint)?;
        let dimension = i64::try_from(embedder.dimension)?;
        set_meta(&transaction, "dimension", dimension)?;
        cache::forget(&transaction, Kind::Graph)?;
        match named {
            Some(named) => cache::name(&transaction, Kind::Vectors, named)?,
            None => cache::forget(&transaction, Kind::Vectors)?,
        }
        commit(transaction)?;
        writer.set_dimension(embedder.dimension);
        give_back_space(&writer.db)
    }
}

/// Writes the cache of the new vectors beside the old one, where an index of this size has one.
fn write_cache(writer: &Writer, embedder: &EmbedderId) -> Result<Option<Named>> {
    let n: i64 = writer
        .db
        .query_row("SELECT count(*) FROM next_vectors", [], |row| row.get(0))?;
    if usize::try_from(n)? <= writer.policy.scanned_in_database {
        return Ok(None);
    }
    let epoch = database::meta::<i64>(&writer.db, "epoch")? + 1;
    let path = cache::path(writer.folder(), Kind::Vectors, epoch);
    let centre = database::centre(&writer.db, "next_vectors", embedder.dimension)?;
    let checksum = vectors::write(&path, &centre, None, |push| {
        writer::each_vector(&writer.db, "next_vectors", 0, embedder.dimension, push)
    })?;
    Ok(Some(Named { epoch, checksum }))
}

/// Makes the file smaller when much of it is free. The space of an index whose file cannot be written anew, on a full
/// disk say, is used by the documents that come.
fn give_back_space(db: &Connection) -> Result<()> {
    let pages = |pragma: &str| -> Result<i64> { Ok(db.query_row(pragma, [], |row| row.get(0))?) };
    if pages("PRAGMA freelist_count")? * FREE_PAGES > pages("PRAGMA page_count")? {
        let _ = db.execute_batch("VACUUM");
    }
    Ok(())
}

/// The embedder that an index is on its way to, if any.
pub(super) fn unfinished(db: &Connection) -> Result<Option<Unfinished>> {
    let name: Option<String> = db
        .query_row(
            "SELECT value FROM meta WHERE key = 'next_embedder'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let Some(name) = name else {
        return Ok(None);
    };
    let n: i64 = db.query_row("SELECT count(*) FROM next_vectors", [], |row| row.get(0))?;
    Ok(Some(Unfinished {
        embedder: EmbedderId {
            name,
            fingerprint: database::meta(db, "next_embedder_fingerprint")?,
            dimension: usize::try_from(database::meta::<i64>(db, "next_dimension")?)?,
        },
        n_vectors: u64::try_from(n).context("a count")?,
    }))
}

fn set_meta(db: &Connection, key: &str, value: impl rusqlite::ToSql) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)",
        params![key, value],
    )?;
    Ok(())
}

fn forget_meta(db: &Connection) -> Result<()> {
    let keys = "'next_embedder', 'next_embedder_fingerprint', 'next_dimension'";
    db.execute(&format!("DELETE FROM meta WHERE key IN ({keys})"), [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{bench, cache_files, embed, embedder, file, open_small, put_files};
    use super::super::{CacheState, Reader};
    use super::*;

    fn other(name: &str) -> EmbedderId {
        EmbedderId {
            name: name.to_owned(),
            fingerprint: name.to_owned(),
            dimension: 3,
        }
    }

    /// A unit vector that depends on the text alone.
    fn embed_other(text: &str) -> Vec<f32> {
        let [a, b, ..] = database::text_hash(text).map(f32::from);
        let (a, b) = (a / 40.0, b / 81.0);
        vec![a.cos() * b.cos(), a.sin() * b.cos(), b.sin()]
    }

    /// Embeds at most `n` texts, in batches of 30. Returns how many.
    fn put_some(succession: &mut Succession<'_>, n: usize) -> usize {
        let mut n_put = 0;
        while n_put < n {
            let texts = succession.texts(30).unwrap();
            if texts.is_empty() {
                break;
            }
            let vectors: Vec<Vec<f32>> =
                texts.iter().map(|text| embed_other(text.text())).collect();
            succession.put(&texts, &vectors).unwrap();
            n_put += texts.len();
        }
        n_put
    }

    /// Every text is found by the vector that `embed` gives it, and by nothing else is the index wrong.
    fn check_answers(folder: &Path, embedder: &EmbedderId, embed: fn(&str) -> Vec<f32>) {
        let mut reader = Reader::open(folder).unwrap();
        assert_eq!(reader.embedder(), embedder);
        for number in [2, 3, 7] {
            let text = format!("규칙 > 제1조\n파일 {number}의 내용 11");
            let nearest = reader.nearest(&embed(&text), 1).unwrap()[0];
            let found = &reader.chunks(&[nearest.id]).unwrap()[0].chunk;
            assert_eq!(found.embedded_text(), text);
        }
        assert_eq!(reader.check().unwrap(), [""; 0]);
    }

    #[test]
    fn the_old_vectors_answer_until_the_new_ones_are_all_there() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..8);
        writer.publish().unwrap();
        let before = Reader::open(&bench.folder).unwrap();

        let mut succession = writer.succession(&other("third")).unwrap();
        assert_eq!(put_some(&mut succession, 90), 90);
        let mut succession = writer.succession(&other("other")).unwrap();
        assert_eq!((succession.n_done, succession.n_left), (0, 400));
        assert_eq!(put_some(&mut succession, 240), 240);
        let unfinished = writer.unfinished().unwrap().unwrap();
        assert_eq!(
            (&*unfinished.embedder.name, unfinished.n_vectors),
            ("other", 240)
        );
        check_answers(&bench.folder, &embedder(), embed);

        // Meanwhile documents come and go; those of a kind have their vectors already.
        put_files(&mut writer, &bench.documents, 8..10);
        writer.remove(&bench.documents.join("0.txt")).unwrap();
        writer.publish().unwrap();
        check_answers(&bench.folder, &embedder(), embed);
        let mut succession = writer.succession(&other("other")).unwrap();
        assert_eq!((succession.n_done, succession.n_left), (190, 260));
        assert!(succession.bytes_left > 260 * 20);
        assert_eq!(put_some(&mut succession, 200), 210);
        let error = writer
            .succession(&other("other"))
            .unwrap()
            .finish()
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("50 chunks have no vector of other"),
            "{error:#}"
        );
        check_answers(&bench.folder, &embedder(), embed);
        let mut succession = writer.succession(&other("other")).unwrap();
        assert_eq!(put_some(&mut succession, 1000), 50);
        succession.finish().unwrap();
        check_answers(&bench.folder, &other("other"), embed_other);
        let status = Reader::open(&bench.folder).unwrap().status().unwrap();
        assert_eq!((status.n_vectors, status.unfinished), (450, None));
        assert_eq!(status.caches[0].1, CacheState::Used { n_newer: 0 });
        assert_eq!(status.caches[1].1, CacheState::None);
        writer.publish().unwrap();
        assert_eq!(cache_files(&bench.folder).len(), 2);
        check_answers(&bench.folder, &other("other"), embed_other);
        assert_eq!(before.n_chunks().unwrap(), 400);
        assert_eq!(before.nearest(&embed("x"), 3).unwrap().len(), 3);

        // What comes now has vectors of the new embedder, and no id is given twice.
        let error = writer.replace(
            &file(&bench.documents.join("new.txt")),
            &super::super::tests::new_chunks(&[("제9조", "옛 벡터")]),
        );
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("expected 3 dimensions, got 8"), "{error}");
    }

    #[test]
    fn a_vector_that_is_not_proper_or_not_wanted_is_refused() {
        let bench = bench();
        let mut writer = open_small(&bench.folder);
        put_files(&mut writer, &bench.documents, 0..1);
        let mut succession = writer.succession(&other("other")).unwrap();
        let texts = succession.texts(2).unwrap();
        for vectors in [
            vec![vec![1.0, 0.0, 0.0]],
            vec![vec![1.0, 0.0, 0.0], vec![1.0, 0.0]],
            vec![vec![1.0, 0.0, 0.0], vec![0.1, 0.0, 0.0]],
        ] {
            assert!(succession.put(&texts, &vectors).is_err(), "{vectors:?}");
        }
        assert_eq!(writer.unfinished().unwrap().unwrap().n_vectors, 0);
        writer.abandon_succession().unwrap();
        assert_eq!(writer.unfinished().unwrap(), None);
        check_empty_change(&bench.documents.join("empty"));
    }

    /// An index without a text changes at once.
    fn check_empty_change(folder: &Path) {
        let mut writer = open_small(folder);
        let mut succession = writer.succession(&other("other")).unwrap();
        assert_eq!(succession.texts(5).unwrap(), []);
        succession.finish().unwrap();
        writer.publish().unwrap();
        assert_eq!(Reader::open(folder).unwrap().embedder(), &other("other"));
    }

    /// Run by the test below in a process of its own.
    #[test]
    fn child_switches() {
        if let Some(folder) = std::env::var_os("RAGQ_TEST_SWITCH") {
            let mut writer = open_small(Path::new(&folder));
            let mut succession = writer.succession(&other("other")).unwrap();
            put_some(&mut succession, 1000);
            succession.finish().unwrap();
            writer.publish().unwrap();
        }
    }

    #[test]
    fn a_process_that_ends_before_any_step_of_the_switch_leaves_a_whole_index() {
        let steps = [
            ("sync cache", false),
            ("rename cache", false),
            ("sync folder", false),
            ("switch embedder", false),
            ("remove old caches", true),
        ];
        for (step, is_switched) in steps {
            let bench = bench();
            let mut writer = open_small(&bench.folder);
            put_files(&mut writer, &bench.documents, 0..8);
            writer.publish().unwrap();
            drop(writer);
            let switch = |stop: &str| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "index::succession::tests::child_switches"])
                    .env("RAGQ_TEST_SWITCH", &bench.folder)
                    .env("RAGQ_TEST_STOP_BEFORE", stop)
                    .output()
                    .unwrap()
            };
            assert!(
                !switch(step).status.success(),
                "nothing stopped before: {step}"
            );
            if is_switched {
                check_answers(&bench.folder, &other("other"), embed_other);
            } else {
                check_answers(&bench.folder, &embedder(), embed);
                let output = switch("");
                assert!(output.status.success(), "{step}: {output:?}");
            }
            check_answers(&bench.folder, &other("other"), embed_other);
        }
    }
}
