//! What reading documents costs: `cargo bench --bench documents [-- FILE or FOLDER...]`.
//!
//! Without arguments the documents of `fixtures/` are read. Each reading is a process of its own (this program again)
//! that ends with the text on its standard output, as poppler's `pdftotext` does; where that is installed, PDFs are
//! read by both in turns. What counts is processor time, starting up included: a block of readings in a row is measured
//! (the system counts in hundredths of a second), and the best of several blocks is shown, because other programs only
//! ever slow one down. Linux only.

#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ragq::document::{Budget, parse};
use ragq::fs;
use walkdir::WalkDir;

/// Turns that each program gets on each file.
const N_BLOCKS: usize = 3;

/// CPU time of a block, in milliseconds: its resolution of 10 ms is then 3 %.
const MIN_BLOCK_MS: f64 = 300.0;

const MS_PER_TICK: f64 = 10.0;

fn main() -> Result<()> {
    if let Some(path) = std::env::var_os("RAGQ_BENCH_DOCUMENT") {
        return print_text(Path::new(&path));
    }
    // Cargo hands a benchmark options of its own.
    let given: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| !argument.to_string_lossy().starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let roots = match given.is_empty() {
        true => vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents")],
        false => given,
    };
    let has_poppler = Command::new("pdftotext").arg("-v").output().is_ok();
    println!(
        "{:>9} {:>9} {:>9} {:>11} {:>6}  file",
        "pages", "CPU ms", "pages/s", "poppler ms", "ratio"
    );
    let mut total = Total::default();
    for root in roots {
        for entry in WalkDir::new(&root).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                total.add(&measure(entry.path(), has_poppler)?);
            }
        }
    }
    total.print();
    Ok(())
}

/// What a child does: read one file, write its text.
fn print_text(path: &Path) -> Result<()> {
    let (document, _) = parse(&fs::read(path)?, &name(path), &Budget::standard())?;
    let mut text = String::new();
    for block in &document.blocks {
        text.push_str(&block.text);
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What one file cost.
#[derive(Default)]
struct Cost {
    n_pages: u32,
    ours_ms: f64,
    poppler_ms: Option<f64>,
}

fn measure(path: &Path, has_poppler: bool) -> Result<Cost> {
    let name = name(path);
    let bytes = fs::read(path)?;
    let document = match parse(&bytes, &name, &Budget::standard()) {
        Ok((document, _)) => document,
        Err(error) => {
            println!("{:>49}  {name}: {error:#}", "not read");
            return Ok(Cost::default());
        }
    };
    let pages = document.blocks.iter().map(|block| block.location.page);
    let mut ours = Command::new(std::env::current_exe()?);
    ours.env("RAGQ_BENCH_DOCUMENT", path).stdout(Stdio::null());
    let mut poppler = Command::new("pdftotext");
    poppler.arg(path).arg("-");
    poppler.stdout(Stdio::null()).stderr(Stdio::null());
    let is_shared = has_poppler && bytes.starts_with(b"%PDF") && poppler.status()?.success();

    let mut cost = Cost {
        n_pages: pages.max().flatten().unwrap_or(0),
        ours_ms: f64::INFINITY,
        poppler_ms: is_shared.then_some(f64::INFINITY),
    };
    for _ in 0..N_BLOCKS {
        cost.ours_ms = cost.ours_ms.min(block_ms(&mut ours)?);
        if let Some(best) = &mut cost.poppler_ms {
            *best = best.min(block_ms(&mut poppler)?);
        }
    }
    cost.print(&name);
    Ok(cost)
}

/// Milliseconds of CPU time that a run of a program takes, on the average of a block.
fn block_ms(program: &mut Command) -> Result<f64> {
    let before = children_ms()?;
    let mut n_runs = 0.0;
    loop {
        let status = program.status()?;
        ensure!(status.success(), "{program:?}: {status}");
        n_runs += 1.0;
        let spent = children_ms()? - before;
        if spent >= MIN_BLOCK_MS {
            return Ok(spent / n_runs);
        }
    }
}

/// CPU time of all children that have ended.
fn children_ms() -> Result<f64> {
    let stat = fs::read_to_string(Path::new("/proc/self/stat"))?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat: no name")?;
    let mut ticks = 0.0;
    for field in fields.split_whitespace().skip(13).take(2) {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks * MS_PER_TICK)
}

impl Cost {
    fn print(&self, name: &str) {
        let pages_per_second = f64::from(self.n_pages) / self.ours_ms * 1000.0;
        let (poppler, ratio) = match self.poppler_ms {
            Some(poppler) => (
                format!("{poppler:.2}"),
                format!("{:.2}", self.ours_ms / poppler),
            ),
            None => (String::new(), String::new()),
        };
        println!(
            "{:9} {:9.2} {pages_per_second:9.0} {poppler:>11} {ratio:>6}  {name}",
            self.n_pages, self.ours_ms
        );
    }
}

/// All files together, and the files that both programs read.
#[derive(Default)]
struct Total {
    all: Cost,
    shared: Cost,
}

impl Total {
    fn add(&mut self, cost: &Cost) {
        self.all.n_pages += cost.n_pages;
        self.all.ours_ms += cost.ours_ms;
        if let Some(poppler_ms) = cost.poppler_ms {
            self.shared.n_pages += cost.n_pages;
            self.shared.ours_ms += cost.ours_ms;
            *self.shared.poppler_ms.get_or_insert_default() += poppler_ms;
        }
    }

    fn print(&self) {
        self.all.print("all");
        if self.shared.poppler_ms.is_some() {
            self.shared.print("all that poppler read, too");
        }
    }
}
