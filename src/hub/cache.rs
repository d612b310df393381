//! The Hugging Face cache on this machine: finding a model in it and copying one out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hf_hub::{Cache, CacheRepo, Repo};
use serde_json::{Value, json};

use super::checksum::{self, SUMS};
use super::error::HubError;
use super::reference::Repository;
use super::selection::{choose_gguf, is_gguf};
use super::{Located, copy, files_below};
use crate::fs;

/// The cache that the environment names.
///
/// # Errors
/// When neither `HF_HOME` nor a home folder is known.
pub(crate) fn from_env() -> Result<Cache> {
    // The crate below panics without a home folder.
    if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() {
        anyhow::bail!("no home folder: set HF_HOME to the folder where models are kept");
    }
    Ok(Cache::from_env())
}

/// A repository's place in the cache.
pub(crate) fn place(cache: &Path, repository: &Repository) -> CacheRepo {
    Cache::new(cache.to_path_buf()).repo(Repo::model(repository.name.clone()))
}

/// The folder of `blobs/`, `refs/` and `snapshots/`.
pub(crate) fn root(cache: &Path, repository: &Repository) -> PathBuf {
    cache.join(Repo::model(repository.name.clone()).folder_name())
}

/// The folder of a pulled model, or its one GGUF file.
///
/// # Errors
/// When the model is not there, or not whole.
pub(crate) fn find(cache: &Path, repository: &Repository) -> Result<PathBuf, HubError> {
    let not_here = |missing: Option<&str>| HubError::NotHere {
        name: repository.reference(),
        missing: missing.map(ToString::to_string),
    };
    let commit = fs::read_to_string(&root(cache, repository).join("refs").join("main"))
        .map_err(|_| not_here(None))?;
    let snapshot = place(cache, repository).pointer_path(commit.trim());
    let names: Vec<String> = files_below(&snapshot)
        .map_err(|_| not_here(None))?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let gguf: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_gguf(name))
        .collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    if repository.file.is_some() {
        let file = choose_gguf(repository, &gguf).map_err(|error| match gguf.as_slice() {
            [] => not_here(None),
            // A repository with other files pulled: this one is not here.
            _ if !matches_any(repository, &gguf) => not_here(None),
            _ => error,
        })?;
        return Ok(snapshot.join(file));
    }
    if !has("config.json") && !gguf.is_empty() {
        return Ok(snapshot.join(choose_gguf(repository, &gguf)?));
    }
    if !has("config.json") {
        return Err(not_here(Some("config.json")));
    }
    let weights = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
    ];
    if !weights.into_iter().any(has) {
        return Err(not_here(Some("model.safetensors")));
    }
    Ok(snapshot)
}

fn matches_any(repository: &Repository, gguf: &[&str]) -> bool {
    let wanted = repository
        .file
        .as_deref()
        .unwrap_or_default()
        .to_lowercase();
    gguf.iter()
        .any(|name| name.to_lowercase().contains(&wanted))
}

/// Copies a located model into `target`; see [`super::Hub::export`].
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn export(located: &Located, target: &Path) -> Result<Vec<PathBuf>> {
    let files = if located.path.is_file() {
        let folder = located.path.parent().unwrap_or(Path::new("."));
        let chosen = located
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Beside a GGUF file lie its tokenizer and licence, and other GGUF files, which are other models.
        files_below(folder)?
            .into_iter()
            .filter(|(name, _)| *name == chosen || !is_gguf(name))
            .collect()
    } else {
        files_below(&located.path)?
    };
    let mut written = Vec::new();
    for (name, source) in files {
        if name == SUMS {
            continue;
        }
        let to = target.join(&name);
        copy(&source, &to)?;
        written.push((name, to));
    }
    if let Some(path) = write_prompts(located, target)? {
        written.retain(|(_, other)| *other != path);
        written.push((PROMPTS.to_string(), path));
    }
    let mut sums = String::new();
    for (name, path) in &written {
        sums.push_str(&format!("{}  {name}\n", checksum::sha256(path)?));
    }
    let list = target.join(SUMS);
    fs::write_atomic(&list, sums.as_bytes())?;
    Ok(written
        .into_iter()
        .map(|(_, path)| path)
        .chain([list])
        .collect())
}

const PROMPTS: &str = "config_sentence_transformers.json";

/// Writes the published prefixes into the copy's own file where that names none: in a folder the model no longer has
/// the name by which they are known.
fn write_prompts(located: &Located, target: &Path) -> Result<Option<PathBuf>> {
    let Some(prefixes) = &located.prefixes else {
        return Ok(None);
    };
    let path = target.join(PROMPTS);
    let mut config: Value = if path.is_file() {
        serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?
    } else {
        json!({})
    };
    let named = config.get("prompts").and_then(Value::as_object);
    if named.is_some_and(|prompts| prompts.values().any(|prompt| prompt.as_str() != Some(""))) {
        return Ok(None);
    }
    if let Some(fields) = config.as_object_mut() {
        let prompts = json!({"query": prefixes.query, "passage": prefixes.passage});
        fields.insert("prompts".to_string(), prompts);
    }
    fs::write_atomic(&path, serde_json::to_string_pretty(&config)?.as_bytes())?;
    Ok(Some(path))
}
