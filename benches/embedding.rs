//! Speed and exactness of a checkpoint, next to a reference.
//!
//! ```text
//! RAGQ_BENCH_MODEL=folder RAGQ_BENCH_TEXTS=texts.txt [RAGQ_BENCH_EXPECTED=vectors.jsonl] \
//!     [RAGQ_BENCH_THREADS=2] [RAGQ_BENCH_ROUNDS=5] cargo bench --bench embedding
//! ```
//!
//! `texts.txt` has one text per line; `vectors.jsonl` one array of numbers per line. Prints the seconds of
//! the best round (other programs only ever slow one down), the processor's too where the system tells them, and the
//! largest difference from the expected vectors. `embedding_peers.py` beside this file runs it in turns with
//! onnxruntime and PyTorch and says who is how much faster.

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ragq::embedding::{Embed, EmbeddingOptions, load_folder};
use ragq::fs;

fn main() -> Result<()> {
    let Some(folder) = variable("RAGQ_BENCH_MODEL") else {
        println!("RAGQ_BENCH_MODEL is not set: nothing to measure");
        return Ok(());
    };
    let texts = variable("RAGQ_BENCH_TEXTS").context("RAGQ_BENCH_TEXTS is not set")?;
    let texts = fs::read_to_string(&texts)?;
    let texts: Vec<&str> = texts.lines().collect();
    let options = EmbeddingOptions {
        n_threads: number("RAGQ_BENCH_THREADS"),
        ..EmbeddingOptions::default()
    };
    let start = Instant::now();
    let embedder = load_folder(&folder, "bench", None, &options)?;
    println!("loaded in {:.3} s", start.elapsed().as_secs_f64());
    let vectors = measure(embedder.as_ref(), &texts)?;
    alone_as_in_batch(embedder.as_ref(), &texts, &vectors)?;
    if let Some(expected) = variable("RAGQ_BENCH_EXPECTED") {
        compare(&vectors, &fs::read_to_string(&expected)?)?;
    }
    Ok(())
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn measure(embedder: &dyn Embed, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let rounds = number("RAGQ_BENCH_ROUNDS").unwrap_or(1).max(1);
    let mut vectors = Vec::new();
    let (mut best, mut best_cpu) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        vectors = embedder.embed_passages(texts)?;
        best = best.min(start.elapsed().as_secs_f64());
        best_cpu = best_cpu.min(cpu_seconds() - cpu);
    }
    println!(
        "{} texts in {best:.3} s, {best_cpu:.2} CPU seconds",
        texts.len()
    );
    Ok(vectors)
}

/// What this process has used of all processors; 0 where the system has no `/proc`.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string(Path::new("/proc/self/stat")).unwrap_or_default();
    // After the name in brackets: user and system time are the 12th and 13th, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn alone_as_in_batch(embedder: &dyn Embed, texts: &[&str], batch: &[Vec<f32>]) -> Result<()> {
    let mut largest = 0f32;
    for (text, row) in texts.iter().zip(batch).take(5) {
        let alone = embedder.embed_passages(&[text])?;
        largest = largest.max(difference(&alone[0], row));
    }
    println!("a text alone and in a batch differ by at most {largest:.1e}");
    Ok(())
}

fn compare(vectors: &[Vec<f32>], expected: &str) -> Result<()> {
    let mut largest = 0f32;
    let mut n_compared = 0;
    for (vector, line) in vectors.iter().zip(expected.lines()) {
        let reference: Vec<f32> = serde_json::from_str(line)?;
        ensure!(
            reference.len() == vector.len(),
            "expected vectors of another length"
        );
        largest = largest.max(difference(vector, &reference));
        n_compared += 1;
    }
    println!("{n_compared} vectors differ from the reference by at most {largest:.2e}");
    Ok(())
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max)
}
