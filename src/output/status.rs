//! `ragq status`: what is in the index, and whether it is whole.

use std::path::Path;

use anyhow::Result;
use ragq::embedding::EmbedderId;
use ragq::index::{CacheState, FileRecord, FileState, Status};
use serde_json::{Map, Value, json};

use super::{Output, Style};

impl Output {
    /// What an index holds; `found` is what a check found wrong, if one was made.
    pub(crate) fn status(
        &self,
        folder: &Path,
        status: &Status,
        files: &[FileRecord],
        found: Option<&[String]>,
    ) -> Result<()> {
        if self.json {
            return self.json_line(&status_json(folder, status, files, found));
        }
        let row = |name: &str, value: &str| self.line(&format!("{name:<10} {value}"));
        row("index", &folder.display().to_string())?;
        let unreadable = if status.n_unreadable > 0 {
            format!(", {} more unreadable", status.n_unreadable)
        } else {
            String::new()
        };
        row("documents", &format!("{}{unreadable}", status.n_documents))?;
        row(
            "passages",
            &format!(
                "{} with {} distinct texts",
                status.n_chunks, status.n_vectors
            ),
        )?;
        let embedder = &status.embedder;
        row(
            "embedder",
            &format!("{}, {} dimensions", embedder.name, embedder.dimension),
        )?;
        if let Some(unfinished) = &status.unfinished {
            let (name, n_done) = (&unfinished.embedder.name, unfinished.n_vectors);
            let rest = format!("`ragq ingest --embedder {name}` goes on");
            row(
                "unfinished",
                &format!("to {name}, {n_done} of {} texts; {rest}", status.n_vectors),
            )?;
        }
        let n_bytes: u64 = status.n_bytes.iter().map(|(_, n_bytes)| n_bytes).sum();
        row("size", &size(n_bytes))?;
        for (name, state) in &status.caches {
            row("cache", &format!("{name}: {}", cache_text(*state)))?;
        }
        let problems: Vec<(&str, &str)> = unreadable_files(files).collect();
        if !problems.is_empty() {
            self.line("")?;
            self.styled_line(&self.styled("unreadable", Style::Bold))?;
        }
        for (source, reason) in problems {
            self.line(&format!("  {source}: {reason}"))?;
        }
        for problem in status.problems.iter().chain(found.unwrap_or_default()) {
            self.line(&format!("problem    {problem}"))?;
        }
        if found.is_some_and(<[String]>::is_empty) {
            row("check", "all is well")?;
        }
        Ok(())
    }
}

fn unreadable_files(files: &[FileRecord]) -> impl Iterator<Item = (&str, &str)> {
    files.iter().filter_map(|file| match &file.state {
        FileState::Unreadable { reason } => Some((file.source.as_str(), reason.as_str())),
        FileState::Read { .. } => None,
    })
}

fn cache_text(state: CacheState) -> String {
    match state {
        CacheState::None => "none, and none needed".into(),
        CacheState::Used { n_newer: 0 } => "in use".into(),
        CacheState::Used { n_newer } => format!("in use, {n_newer} newer looked at one by one"),
        CacheState::Unusable => "unusable until the next ragq ingest".into(),
    }
}

fn size(n_bytes: u64) -> String {
    if n_bytes < 1 << 20 {
        format!("{} KiB", n_bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", n_bytes >> 20)
    }
}

fn status_json(
    folder: &Path,
    status: &Status,
    files: &[FileRecord],
    found: Option<&[String]>,
) -> Value {
    let unreadable = unreadable_files(files)
        .map(|(source, reason)| json!({ "source": source, "problem": reason }));
    let warnings = files.iter().flat_map(|file| match &file.state {
        FileState::Read { warnings, .. } => warnings
            .iter()
            .map(|warning| json!({ "source": file.source, "problem": warning }))
            .collect(),
        FileState::Unreadable { .. } => Vec::new(),
    });
    let index_problems = status.problems.iter().chain(found.unwrap_or_default());
    let index_problems =
        index_problems.map(|problem| json!({ "source": null, "problem": problem }));
    let caches: Map<String, Value> = status
        .caches
        .iter()
        .map(|(name, state)| {
            let state = match state {
                CacheState::None => json!({ "state": "none" }),
                CacheState::Used { n_newer } => json!({ "state": "used", "newer": n_newer }),
                CacheState::Unusable => json!({ "state": "unusable" }),
            };
            ((*name).to_string(), state)
        })
        .collect();
    let bytes: Map<String, Value> = status
        .n_bytes
        .iter()
        .map(|(name, n)| (name.clone(), json!(n)))
        .collect();
    json!({
        "index": folder,
        "documents": status.n_documents,
        "unreadable": status.n_unreadable,
        "chunks": status.n_chunks,
        "vectors": status.n_vectors,
        "bytes": bytes,
        "format": status.format,
        "epoch": status.epoch,
        "caches": caches,
        "embedder": embedder_json(&status.embedder),
        "unfinished": status.unfinished.as_ref().map(|unfinished| json!({
            "embedder": embedder_json(&unfinished.embedder),
            "vectors": unfinished.n_vectors,
        })),
        "problems": unreadable.chain(warnings).chain(index_problems).collect::<Vec<_>>(),
        "checked": found.is_some(),
    })
}

fn embedder_json(embedder: &EmbedderId) -> Value {
    json!({
        "name": embedder.name,
        "dimension": embedder.dimension,
        "fingerprint": embedder.fingerprint,
    })
}
