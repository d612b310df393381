//! How long the index takes, in one table: `cargo bench --bench index`.
//!
//! The chunks are made up: words of a few hundred topics, frequent and rare as words are, with vectors that are sums of
//! their words' vectors, as a static embedder makes them. `RAGQ_BENCH_CHUNKS` says how many (20,000 by default),
//! `RAGQ_BENCH_DIMENSION` of how many dimensions (256). `peers.py` beside this file measures hnswlib, usearch and
//! faiss on the same vectors, which `RAGQ_BENCH_VECTORS=FILE` writes for it.

#![expect(clippy::print_stdout, reason = "the table is the purpose")]
#![allow(missing_docs, reason = "a program")]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use ragq::chunk::Chunk;
use ragq::document::Location;
use ragq::embedding::EmbedderId;
use ragq::index::{FileRecord, FileState, NewChunk, Reader, Writer, lexical};

const CHUNKS_PER_FILE: usize = 50;
const WORDS_PER_CHUNK: u64 = 40;

fn setting(name: &str, otherwise: usize) -> Result<usize> {
    Ok(std::env::var(name).map_or(Ok(otherwise), |value| value.parse())?)
}

fn main() -> Result<()> {
    let (n_chunks, dimension) = (
        setting("RAGQ_BENCH_CHUNKS", 20_000)?,
        setting("RAGQ_BENCH_DIMENSION", 256)?,
    );
    let root = tempfile::tempdir()?;
    let folder = root.path().canonicalize()?.join(".ragq");
    let embedder = EmbedderId {
        name: "bench".to_owned(),
        fingerprint: "bench".to_owned(),
        dimension,
    };
    let mut writer = Writer::open(&folder, &embedder)?;
    let mut vectors = match std::env::var_os("RAGQ_BENCH_VECTORS") {
        Some(path) => Some(std::io::BufWriter::new(std::fs::File::create(path)?)),
        None => None,
    };

    println!("{n_chunks} chunks, {dimension} dimensions");
    let started = Instant::now();
    for first in (0..n_chunks).step_by(CHUNKS_PER_FILE) {
        let mut chunks = Vec::new();
        for i in first..n_chunks.min(first + CHUNKS_PER_FILE) {
            let (text, vector) = chunk(i, dimension);
            if let Some(vectors) = &mut vectors {
                for x in &vector {
                    vectors.write_all(&x.to_le_bytes())?;
                }
            }
            let chunk = Chunk {
                text,
                path: vec!["본문".to_owned()],
                location: Location::default(),
            };
            chunks.push(NewChunk {
                chunk,
                embedding: Some(vector),
            });
        }
        writer.replace(&record(root.path(), first), &chunks)?;
    }
    report("put in, one commit each 50 chunks", started);
    let started = Instant::now();
    writer.publish()?;
    report("publish", started);

    let started = Instant::now();
    let reader = Reader::open(&folder)?;
    report("open", started);
    let questions: Vec<(String, Vec<f32>)> =
        (0..100).map(|i| chunk(n_chunks + i, dimension)).collect();
    let ask = |what: &str, ask: &dyn Fn(&str, &[f32]) -> Result<()>| -> Result<()> {
        let started = Instant::now();
        for (text, vector) in &questions {
            ask(text, vector)?;
        }
        report(&format!("100 × {what}"), started);
        Ok(())
    };
    ask("nearest 10", &|_, vector| {
        reader.nearest(vector, 10).map(drop)
    })?;
    ask("lexical 10, about 20 terms", &|text, _| {
        let question: String = text.split_inclusive(' ').take(8).collect();
        reader.lexical(&lexical::terms(&question), 10).map(drop)
    })
}

fn report(what: &str, started: Instant) {
    println!(
        "{what:36} {:10.1} ms",
        started.elapsed().as_secs_f64() * 1000.0
    );
}

fn record(folder: &Path, number: usize) -> FileRecord {
    FileRecord {
        path: folder.join(number.to_string()),
        source: number.to_string(),
        content_hash: String::new(),
        n_bytes: 0,
        modified_ns: 0,
        pipeline: 1,
        state: FileState::Read {
            title: None,
            warnings: Vec::new(),
        },
    }
}

/// Numbers that look random and are the same each time.
fn hash(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A text and its unit vector: half of the words of one of 500 topics, half of the whole language, small ranks often.
fn chunk(number: usize, dimension: usize) -> (String, Vec<f32>) {
    let number = number as u64;
    let mut text = String::new();
    let mut vector = vec![0.0; dimension];
    for i in 0..WORDS_PER_CHUNK {
        let random = hash(number * WORDS_PER_CHUNK + i + 1);
        let rank = hash(random) % (1 << (4 + random % 12));
        let word = if i % 2 == 0 {
            rank
        } else {
            1_000_000 + number % 500 * 100_000 + rank % 200
        };
        for syllable in 0..2 + word % 3 {
            let code = 0xac00 + u32::try_from(hash(word * 4 + syllable) % 11_172).unwrap_or(0);
            text.extend(char::from_u32(code));
        }
        text.push(' ');
        for (place, x) in (0..).zip(&mut vector) {
            let part = hash(word.wrapping_mul(4096).wrapping_add(place)) >> 48;
            *x += f32::from(u16::try_from(part).unwrap_or(0)) / 32_768.0 - 1.0;
        }
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    (text, vector)
}
