//! What the index costs, in one table: `cargo bench --bench index`.
//!
//! The chunks are made up: words of a few hundred topics, frequent and rare as words are, with vectors that are sums of
//! their words' vectors, as a static embedder makes them. The queries are vectors of the index moved by noise. A cold
//! question is a process of its own (this program again): open, both legs with 100 candidates each, the frequencies of
//! the terms, forty chunks, close; its CPU time is counted without what makes the query, its memory is all it ever had.
//! Recall is that of the ten nearest by `f32` over all vectors.
//!
//! | variable | |
//! |---|---|
//! | `RAGQ_BENCH_CHUNKS` | how many chunks (20,000) |
//! | `RAGQ_BENCH_DIMENSION` | of how many dimensions (256) |
//! | `RAGQ_BENCH_READ` | a file of vectors (`f32`, little-endian) to take instead of made-up ones |
//! | `RAGQ_BENCH_VECTORS` | a file to write the vectors to; `peers.py` measures hnswlib, usearch and faiss on them |
//! | `RAGQ_BENCH_GRAPH` | build a graph, however few the rows are |
//! | `RAGQ_BENCH_INDEX` | a folder that `ragq ingest` made with the built-in embedder, to be asked instead |
//! | `RAGQ_BENCH_QUESTIONS` | the questions it is asked, one a line |

#![expect(clippy::print_stdout, reason = "the table is the purpose")]
#![allow(missing_docs, reason = "a program")]

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ragq::chunk::Chunk;
use ragq::document::Location;
use ragq::embedding::{Embed, EmbedderId, static_embedding};
use ragq::index::{ChunkId, FileRecord, FileState, NewChunk, Reader, Scored, Writer, lexical};
use ragq::question::Question;

const CHUNKS_PER_FILE: usize = 200;
const WORDS_PER_CHUNK: u64 = 40;
const QUERIES: usize = 100;
const COLD_QUESTIONS: usize = 12;
/// Times each is asked.
const COLD_RUNS: usize = 8;
/// Results whose recall is measured, and [`CANDIDATES`].
const NEAREST: usize = 10;
/// Chunks of each leg that are read.
const SHOWN: usize = 20;
/// What each leg is asked for when a question is retrieved.
const CANDIDATES: usize = 100;

fn setting(name: &str, otherwise: usize) -> Result<usize> {
    Ok(std::env::var(name).map_or(Ok(otherwise), |value| value.parse())?)
}

fn main() -> Result<()> {
    if let Some(folder) = std::env::var_os("RAGQ_BENCH_COLD") {
        return ask_cold(Path::new(&folder));
    }
    if let Some(folder) = std::env::var_os("RAGQ_BENCH_INDEX") {
        return measure_index(Path::new(&folder));
    }
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
    if std::env::var_os("RAGQ_BENCH_GRAPH").is_some() {
        writer.build_graph_from(1);
    }

    println!("{n_chunks} chunks, {dimension} dimensions");
    let queries: Vec<Vec<f32>> = (0..QUERIES)
        .map(|i| query(i, n_chunks, dimension))
        .collect::<Result<_>>()?;
    let mut exact: Vec<Vec<f32>> = vec![Vec::new(); QUERIES];
    let started = Started::now()?;
    put_in(
        &mut writer,
        root.path(),
        n_chunks,
        dimension,
        &mut |vector| {
            for (query, best) in queries.iter().zip(&mut exact) {
                keep_best(best, dot(query, vector));
            }
        },
    )?;
    started.report("put in, and exact neighbours")?;
    let started = Started::now()?;
    writer.publish()?;
    started.report("publish")?;

    let reader = Reader::open(&folder)?;
    report_recall(&reader, &queries, &exact)?;
    let started = Started::now()?;
    for i in 0..QUERIES {
        reader.lexical(&question(i, n_chunks), NEAREST)?;
    }
    started.report(&format!("{QUERIES} × lexical {NEAREST}, about 20 terms"))?;
    drop(reader);
    report_cold(&folder, n_chunks)
}

/// The costs of asking an index of real documents.
fn measure_index(folder: &Path) -> Result<()> {
    let reader = Reader::open(folder)?;
    println!(
        "{} chunks, {} dimensions",
        reader.n_chunks()?,
        reader.embedder().dimension
    );
    let queries: Vec<Vec<f32>> = (0..QUERIES)
        .map(|number| Ok(asked(number, 0, 0)?.1))
        .collect::<Result<_>>()?;
    let mut exact: Vec<Vec<f32>> = vec![Vec::new(); QUERIES];
    let db = rusqlite::Connection::open(folder.join("index.sqlite"))?;
    let mut select = db.prepare("SELECT vector FROM vectors")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (numbers, _) = row.get_ref(0)?.as_blob()?.as_chunks::<4>();
        let vector: Vec<f32> = numbers.iter().map(|x| f32::from_le_bytes(*x)).collect();
        for (query, best) in queries.iter().zip(&mut exact) {
            keep_best(best, dot(query, &vector));
        }
    }
    report_recall(&reader, &queries, &exact)?;
    report_cold(folder, 0)
}

fn report_recall(reader: &Reader, queries: &[Vec<f32>], exact: &[Vec<f32>]) -> Result<()> {
    for n in [NEAREST, CANDIDATES] {
        let started = Started::now()?;
        let mut n_found = 0;
        for (query, exact) in queries.iter().zip(exact) {
            let worst = exact.get(n - 1).context("too few vectors")?;
            let found = reader.nearest(query, n)?;
            let is_one = |one: &&Scored| one.similarity >= worst - 1e-6;
            n_found += found.iter().filter(is_one).count();
        }
        started.report(&format!("{} × nearest {n}", queries.len()))?;
        println!(
            "  recall {:.4}",
            n_found as f64 / (queries.len() * n) as f64
        );
    }
    Ok(())
}

/// What a cold question asks for: terms and vector.
fn asked(number: usize, n_chunks: usize, dimension: usize) -> Result<(Vec<String>, Vec<f32>)> {
    let Some(questions) = std::env::var_os("RAGQ_BENCH_QUESTIONS") else {
        return Ok((
            question(number, n_chunks),
            query(number, n_chunks, dimension)?,
        ));
    };
    let questions = std::fs::read_to_string(questions)?;
    let question = questions.lines().nth(number).context("too few questions")?;
    let question = Question::parse(question)?;
    let query = static_embedding::builtin()?.embed_query(&question.text)?;
    Ok((lexical::terms(&question.search_text()), query))
}

/// Puts the chunks in and shows each vector to `each`.
fn put_in(
    writer: &mut Writer,
    folder: &Path,
    n_chunks: usize,
    dimension: usize,
    each: &mut dyn FnMut(&[f32]),
) -> Result<()> {
    let mut vectors = match std::env::var_os("RAGQ_BENCH_VECTORS") {
        Some(path) => Some(BufWriter::new(std::fs::File::create(path)?)),
        None => None,
    };
    let mut given = Given::open()?;
    for first in (0..n_chunks).step_by(CHUNKS_PER_FILE) {
        let mut chunks = Vec::new();
        for i in first..n_chunks.min(first + CHUNKS_PER_FILE) {
            let (text, mut vector) = chunk(i, dimension);
            if let Some(given) = &mut given {
                given.read(&mut vector)?;
            }
            if let Some(vectors) = &mut vectors {
                for x in &vector {
                    vectors.write_all(&x.to_le_bytes())?;
                }
            }
            each(&vector);
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
        writer.replace(&record(folder, first), &chunks)?;
    }
    Ok(())
}

/// Vectors from a file.
struct Given(BufReader<std::fs::File>);

impl Given {
    fn open() -> Result<Option<Given>> {
        let path = std::env::var_os("RAGQ_BENCH_READ").map(PathBuf::from);
        path.map(|path| Ok(Given(BufReader::new(std::fs::File::open(path)?))))
            .transpose()
    }

    fn read(&mut self, vector: &mut [f32]) -> Result<()> {
        for x in vector {
            let mut bytes = [0; 4];
            self.0.read_exact(&mut bytes)?;
            *x = f32::from_le_bytes(bytes);
        }
        Ok(())
    }
}

/// One of the vectors, moved a little.
fn query(i: usize, n_chunks: usize, dimension: usize) -> Result<Vec<f32>> {
    let place = n_chunks * i / QUERIES;
    let mut vector = chunk(place, dimension).1;
    if let Some(mut given) = Given::open()? {
        let start = i64::try_from(place * dimension * 4)?;
        given.0.seek_relative(start)?;
        given.read(&mut vector)?;
    }
    let mut seed = hash(i as u64 + 1);
    for x in &mut vector {
        // A sum of four is nearly normal; the deviation is 0.03.
        for _ in 0..4 {
            seed = hash(seed);
            *x += (f32::from(u16::try_from(seed >> 48)?) / 65_536.0 - 0.5) * 0.052;
        }
    }
    let length = dot(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    Ok(vector)
}

/// Terms of a question of eight words.
fn question(i: usize, n_chunks: usize) -> Vec<String> {
    let (text, _) = chunk(n_chunks + i, 1);
    let question: String = text.split_inclusive(' ').take(8).collect();
    lexical::terms(&question)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Sixteen sums at once, which the compiler keeps in wide registers.
    let mut sums = [0.0_f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

fn keep_best(best: &mut Vec<f32>, similarity: f32) {
    if best.len() < CANDIDATES || best.last().is_some_and(|worst| similarity > *worst) {
        let place = best.partition_point(|other| *other >= similarity);
        best.insert(place, similarity);
        best.truncate(CANDIDATES);
    }
}

/// One question in a process that has only just begun; prints what it cost.
fn ask_cold(folder: &Path) -> Result<()> {
    let (number, n_chunks) = (
        setting("RAGQ_BENCH_QUERY", 0)?,
        setting("RAGQ_BENCH_CHUNKS", 0)?,
    );
    let dimension = Reader::open(folder)?.embedder().dimension;
    let (terms, query) = asked(number, n_chunks, dimension)?;
    let started = cpu_ms()?;
    let reader = Reader::open(folder)?;
    let opened = cpu_ms()?;
    let dense = reader.nearest(&query, CANDIDATES)?;
    let after_dense = cpu_ms()?;
    let lexical = reader.lexical(&terms, CANDIDATES)?;
    reader.document_frequencies(&terms)?;
    reader.n_chunks()?;
    let ids =
        |scored: &[Scored]| -> Vec<ChunkId> { scored.iter().map(|scored| scored.id).collect() };
    let (dense, mut lexical) = (ids(&dense), ids(&lexical));
    lexical.retain(|id| !dense.contains(id));
    reader.similarities(&query, &lexical)?;
    let best = dense.iter().take(SHOWN).chain(lexical.iter().take(SHOWN));
    reader.chunks(&best.copied().collect::<Vec<_>>())?;
    let after_chunks = cpu_ms()?;
    drop(reader);
    let ended = cpu_ms()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.context("no peak")?.trim().trim_end_matches(" kB");
    println!(
        "{} {} {} {peak}",
        ended - started,
        after_dense - opened,
        after_chunks - after_dense
    );
    Ok(())
}

/// Medians over some cold questions of the least that each cost.
fn report_cold(folder: &Path, n_chunks: usize) -> Result<()> {
    let mut runs: Vec<Vec<f64>> = Vec::new();
    for number in 0..COLD_QUESTIONS {
        let mut least = vec![f64::INFINITY; 4];
        for _ in 0..COLD_RUNS {
            let output = Command::new(std::env::current_exe()?)
                .env("RAGQ_BENCH_COLD", folder)
                .env("RAGQ_BENCH_CHUNKS", n_chunks.to_string())
                .env("RAGQ_BENCH_QUERY", number.to_string())
                .output()?;
            ensure!(output.status.success(), "a cold question failed");
            let said = String::from_utf8(output.stdout)?;
            for (least, number) in least.iter_mut().zip(said.split_whitespace()) {
                *least = least.min(number.parse()?);
            }
        }
        runs.push(least);
    }
    let median = |at: usize| -> Option<f64> {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(at).copied()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    for (at, what, unit, scale) in [
        (0, "cold question, CPU", "ms", 1.0),
        (1, "  of which vectors", "ms", 1.0),
        (2, "  of which terms and chunks", "ms", 1.0),
        (3, "cold question, most memory", "MB", 1.0 / 1024.0),
    ] {
        let value = median(at).context("no run")? * scale;
        println!("{what:44} {value:10.1} {unit}");
    }
    Ok(())
}

/// CPU time of this process's threads so far.
fn cpu_ms() -> Result<f64> {
    let mut sum = 0.0;
    // The system brings a thread's time up to date only now and then, and when it lets others go first.
    std::thread::yield_now();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds: f64 = times.split(' ').next().context("no time")?.parse()?;
        sum += nanoseconds / 1e6;
    }
    Ok(sum)
}

/// When something began.
struct Started {
    wall: Instant,
    cpu_ms: f64,
}

impl Started {
    fn now() -> Result<Started> {
        Ok(Started {
            wall: Instant::now(),
            cpu_ms: cpu_ms()?,
        })
    }

    fn report(&self, what: &str) -> Result<()> {
        let (wall, cpu) = (
            self.wall.elapsed().as_secs_f64() * 1000.0,
            cpu_ms()? - self.cpu_ms,
        );
        println!("{what:44} {wall:10.1} ms, {cpu:10.1} ms of CPU");
        Ok(())
    }
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
