//! Speed of a generator: reading prompts of several lengths, and writing after each.
//!
//! ```text
//! RAGQ_BENCH_MODEL=model.gguf [RAGQ_BENCH_THREADS=2] [RAGQ_BENCH_ROUNDS=1] [RAGQ_BENCH_PROMPTS=512,2048] \
//!     cargo bench --bench generation
//! ```
//!
//! Prints tokens per second and tokens per second of CPU time (Linux), a line for each measurement, and last the most
//! memory that was resident.
//! `benches/generation_peers.py` runs this in turns with llama.cpp. Random weights will do: speed does not depend on
//! them. The prompts are new in every round, so that nothing is known from the one before, and nothing is drafted from
//! them.
//!
//! With `RAGQ_BENCH_QUOTING=prompt.txt` it measures instead what drafts from the prompt gain: the answer to that prompt
//! without and with them, which must be the same text. `benches/quoting_model.py` makes a model that quotes, and its
//! prompt.

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use candle_core::Device;
use ragq::fs;
use ragq::generation::{Completion, Finish, Generate, GenerationOptions, LocalModel};

/// Tokens written after each prompt.
const N_WRITTEN: usize = 49;
/// Tokens of an answer that quotes: four runs of 24 words.
const N_QUOTED: usize = 96;

fn main() -> Result<()> {
    let Some(path) = std::env::var_os("RAGQ_BENCH_MODEL") else {
        println!("RAGQ_BENCH_MODEL is not set: nothing to measure");
        return Ok(());
    };
    if let Some(n_threads) = number("RAGQ_BENCH_THREADS") {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build_global()?;
    }
    let prompts = std::env::var("RAGQ_BENCH_PROMPTS").unwrap_or_else(|_| "512,2048".to_string());
    let start = std::time::Instant::now();
    let mut model = LocalModel::open(Path::new(&path), "bench", None, &Device::Cpu)?;
    println!("load {:.2} s", start.elapsed().as_secs_f64());
    let n_rounds = number("RAGQ_BENCH_ROUNDS").unwrap_or(1);
    if let Some(prompt) = std::env::var_os("RAGQ_BENCH_QUOTING") {
        return measure_drafts(&mut model, Path::new(&prompt), n_rounds);
    }
    for round in 0..n_rounds {
        for n_tokens in prompts.split(',') {
            let n_tokens: usize = n_tokens.trim().parse()?;
            let prompt = prompt(&model, n_tokens, round)?;
            let measured = measure(&mut model, &prompt)?;
            let (completion, [prefill_cpu, decode_cpu]) = measured;
            let n_read = completion.n_prompt_tokens - completion.n_reused_tokens;
            report("prefill", n_tokens, n_read, completion.prefill, prefill_cpu);
            let n_steps = completion.n_generated_tokens - 1;
            report("decode", n_tokens, n_steps, completion.decode, decode_cpu);
        }
    }
    if let Some(n_kb) = resident_kb() {
        println!("resident {} MB", n_kb / 1024);
    }
    Ok(())
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Reads a prompt and writes after it; with the CPU time of each.
fn measure(model: &mut LocalModel, prompt: &str) -> Result<(Completion, [Duration; 2])> {
    write(model, prompt, N_WRITTEN, false)
}

fn measure_drafts(model: &mut LocalModel, prompt: &Path, n_rounds: usize) -> Result<()> {
    let prompt = fs::read_to_string(prompt)?;
    for _ in 0..n_rounds {
        let (plain, [_, plain_cpu]) = write(model, &prompt, N_QUOTED, false)?;
        let (drafted, [_, drafted_cpu]) = write(model, &prompt, N_QUOTED, true)?;
        ensure!(plain.text == drafted.text, "drafts changed the text");
        let n_steps = plain.n_generated_tokens - 1;
        report("plain", N_QUOTED, n_steps, plain.decode, plain_cpu);
        report("drafted", N_QUOTED, n_steps, drafted.decode, drafted_cpu);
    }
    Ok(())
}

fn write(
    model: &mut LocalModel,
    prompt: &str,
    max_tokens: usize,
    drafts: bool,
) -> Result<(Completion, [Duration; 2])> {
    let options = GenerationOptions {
        max_tokens,
        // A penalty too small to matter, which nevertheless rules out drafts: they are checked by plain logits.
        repeat_penalty: if drafts { 1.0 } else { 1.0 + f32::EPSILON },
        ..GenerationOptions::default()
    };
    let start = cpu_time();
    let mut first_text = None;
    let completion = model.complete(prompt, &options, &mut |piece| {
        if !piece.is_empty() {
            first_text.get_or_insert_with(cpu_time);
        }
        true
    })?;
    let end = cpu_time();
    let first_text = first_text.unwrap_or(end);
    let cpu = [first_text - start, end - first_text];
    ensure!(
        completion.finish == Finish::MaxTokens,
        "the text ended after {} tokens: {:?}",
        completion.n_generated_tokens,
        completion.finish
    );
    Ok((completion, cpu))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
fn report(what: &str, n_prompt: usize, n_tokens: usize, time: Duration, cpu: Duration) {
    let rate = |time: Duration| n_tokens as f64 / time.as_secs_f64();
    println!(
        "{what} {n_prompt} {:.2} tokens/s {:.2} tokens/CPU s",
        rate(time),
        rate(cpu)
    );
}

/// CPU time of this process so far, to a hundredth of a second; zero where the system does not tell.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string(Path::new("/proc/self/stat")).unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    // proc_pid_stat(5): utime and stime, in hundredths of a second, are the 14th and 15th fields.
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Numbers in no order, about `n_tokens` tokens of them and never more.
fn prompt(model: &LocalModel, n_tokens: usize, round: usize) -> Result<String> {
    let words = |n_words: usize| -> String {
        let number = |i: usize| (i + 1 + 7919 * round).wrapping_mul(2_654_435_761) % 10_000;
        (0..n_words).map(|i| format!(" {}", number(i))).collect()
    };
    let (mut fits, mut too_many) = (1, n_tokens);
    while too_many - fits > 1 {
        let middle = usize::midpoint(fits, too_many);
        // One more for the token that begins a text.
        if model.count_tokens(&words(middle))? < n_tokens {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    Ok(words(fits))
}

/// The most memory that was resident, in kB.
fn resident_kb() -> Option<usize> {
    let status = fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
