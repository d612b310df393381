//! `ragq ingest`: what came of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use ragq::embedding::EmbedderId;
use ragq::ingest::Summary;
use serde_json::json;

use super::Output;

/// Most names listed of one kind, unless more was asked for.
const MAX_NAMES: usize = 10;

impl Output {
    /// The result of a run on stdout.
    pub(crate) fn ingested(&self, summary: &Summary, elapsed_ms: u64) -> Result<()> {
        if self.json {
            return self.json_line(&summary_json(summary, elapsed_ms));
        }
        self.line(&self.described(summary, elapsed_ms))
    }

    /// What a change of embedder is about to do, on stderr.
    pub(crate) fn change_begins(
        &self,
        folder: &str,
        from: &str,
        to: &EmbedderId,
        n_texts: u64,
        n_done: u64,
    ) {
        let mut text = format!(
            "{folder}: from {from} to {} ({} dimensions): embedding {n_texts} texts",
            to.name, to.dimension
        );
        if n_done > 0 {
            let _ = write!(text, " after {n_done} that are done");
        }
        self.note(&format!(
            "{text}; {from} answers meanwhile, and an interrupted run goes on"
        ));
    }

    /// The result of a change of embedder alone: for a person a note, so that `-q` is silent.
    pub(crate) fn reembedded(
        &self,
        n_texts: u64,
        embedder: &EmbedderId,
        elapsed_ms: u64,
    ) -> Result<()> {
        if self.json {
            return self.json_line(&json!({
                "embedder": embedder.name,
                "reembedded": n_texts,
                "elapsed_ms": elapsed_ms,
            }));
        }
        let took = duration(Duration::from_millis(elapsed_ms));
        self.note(&match n_texts {
            0 => format!("the vectors are those of {}", embedder.name),
            n => format!("{n} texts embedded with {} ({took})", embedder.name),
        });
        Ok(())
    }

    /// The result of a run that came before a question, on stderr.
    pub(crate) fn ingested_before_asking(&self, summary: &Summary, elapsed_ms: u64) {
        if summary.n_read() == summary.n_unchanged
            && summary.removed.is_empty()
            && summary.unreadable.is_empty()
        {
            self.detail(&self.described(summary, elapsed_ms));
        } else {
            self.note(&self.described(summary, elapsed_ms));
        }
    }

    fn described(&self, summary: &Summary, elapsed_ms: u64) -> String {
        let mut text = String::new();
        let mut list = |what: &str, names: &[String]| {
            let shown = if self.verbose {
                names.len()
            } else {
                MAX_NAMES.min(names.len())
            };
            for name in &names[..shown] {
                let _ = writeln!(text, "  {what:<11} {name}");
            }
            if shown < names.len() {
                let _ = writeln!(
                    text,
                    "  {what:<11} … and {} more (-v names them)",
                    names.len() - shown
                );
            }
        };
        list("new", &summary.added);
        list("changed", &summary.changed);
        list("moved", &paired(&summary.moved, "→"));
        list("removed", &summary.removed);
        list("partly read", &paired(&summary.warnings, ":"));
        list("skipped", &skipped(&summary.skipped, self.verbose));
        list("unreadable", &paired(&summary.unreadable, ":"));
        let n_files = summary.n_read() + summary.unreadable.len();
        let _ = write!(
            text,
            "{} of {n_files} documents in the index",
            summary.n_read()
        );
        let counts = [
            (summary.added.len(), "new"),
            (summary.changed.len(), "changed"),
            (summary.moved.len(), "moved"),
            (summary.n_unchanged, "unchanged"),
            (summary.removed.len(), "removed"),
            (summary.unreadable.len(), "unreadable"),
            (summary.skipped.len(), "skipped"),
        ];
        let counts = counts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"));
        let _ = write!(text, ": {}", counts.collect::<Vec<_>>().join(", "));
        let _ = match summary.n_embedded {
            0 => write!(text, "; nothing to embed"),
            1 => write!(text, "; 1 passage embedded"),
            n => write!(text, "; {n} passages embedded"),
        };
        if summary.n_reembedded > 0 {
            let _ = write!(text, ", {} again", summary.n_reembedded);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds for a person")]
        let seconds = elapsed_ms as f64 / 1000.0;
        let _ = write!(text, " ({seconds:.1} s)");
        text
    }
}

/// A time for a person: `3.2 s`, `12 min 3 s`, `2 h 5 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn paired(pairs: &[(String, String)], between: &str) -> Vec<String> {
    let space = if between == ":" { "" } else { " " };
    pairs
        .iter()
        .map(|(first, second)| format!("{first}{space}{between} {second}"))
        .collect()
}

/// Skipped files by name if they are few or more was asked for, else by type.
fn skipped(sources: &[String], verbose: bool) -> Vec<String> {
    if verbose || sources.len() <= MAX_NAMES {
        return sources
            .iter()
            .map(|source| format!("{source}: not a type that ragq reads"))
            .collect();
    }
    let mut by_type: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources {
        let name = source.rsplit('/').next().unwrap_or(source);
        let extension = name
            .rsplit_once('.')
            .map_or("no extension", |(_, extension)| extension);
        *by_type.entry(extension.to_lowercase()).or_default() += 1;
    }
    by_type
        .into_iter()
        .map(|(extension, n)| format!("{n} × .{extension}: not a type that ragq reads"))
        .collect()
}

fn summary_json(summary: &Summary, elapsed_ms: u64) -> serde_json::Value {
    let reasons = |pairs: &[(String, String)], key: &str| -> Vec<serde_json::Value> {
        pairs
            .iter()
            .map(|(source, reason)| json!({ "source": source, key: reason }))
            .collect()
    };
    let moved: Vec<_> = summary
        .moved
        .iter()
        .map(|(from, to)| json!({ "from": from, "to": to }))
        .collect();
    json!({
        "documents": summary.n_read(),
        "new": summary.added,
        "changed": summary.changed,
        "moved": moved,
        "unchanged": summary.n_unchanged,
        "removed": summary.removed,
        "unreadable": reasons(&summary.unreadable, "reason"),
        "warnings": reasons(&summary.warnings, "warning"),
        "skipped": summary.skipped,
        "chunks": summary.n_chunks,
        "embedded": summary.n_embedded,
        "reembedded": summary.n_reembedded,
        "elapsed_ms": elapsed_ms,
    })
}
