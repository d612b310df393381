//! What a user types for a model → what is meant.

use std::path::PathBuf;

use super::catalog::{self, Role};
use super::error::HubError;

/// A model, as named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A folder or file on this machine.
    Path(PathBuf),
    /// A repository of a hub.
    Repository(Repository),
}

/// A repository and, where it holds several models, which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `org/name`.
    pub name: String,
    /// A file name, or a part of one such as `Q4_K_M`.
    pub file: Option<String>,
}

impl Repository {
    /// As a user types it.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.file {
            None => self.name.clone(),
            Some(file) => format!("{}:{file}", self.name),
        }
    }
}

/// Reads `./folder`, `file.gguf`, `org/name`, `org/name:file.gguf`, `org/name:Q4_K_M`, a preset or a model's short
/// name. What exists on this machine comes first.
///
/// # Errors
/// When it is none of these, or the preset has no model for `role`.
pub fn parse(text: &str, role: Role) -> Result<Reference, HubError> {
    let path = PathBuf::from(text);
    if !text.is_empty() && path.exists() {
        return Ok(Reference::Path(path));
    }
    if let Some(preset) = catalog::preset(text) {
        let model = preset.model(role).ok_or_else(|| HubError::NotInPreset {
            preset: text.to_string(),
            role: role.name(),
        })?;
        return repository(model.reference).ok_or_else(|| unknown(text));
    }
    if let Some(model) = catalog::model(text) {
        return repository(model.reference).ok_or_else(|| unknown(text));
    }
    repository(text).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> HubError {
    HubError::UnknownName {
        name: text.to_string(),
    }
}

fn repository(text: &str) -> Option<Reference> {
    let (name, file) = match text.split_once(':') {
        Some((name, file)) => (name, Some(file)),
        None => (text, None),
    };
    let (owner, model) = name.split_once('/')?;
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let is_file = |file: &str| !file.is_empty() && file.split('/').all(is_name);
    if !is_name(owner) || !is_name(model) || !file.is_none_or(is_file) {
        return None;
    }
    Some(Reference::Repository(Repository {
        name: name.to_string(),
        file: file.map(ToString::to_string),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_name_a_model_is_understood() {
        let check = |text: &str, role: Role, expected: Result<(&str, Option<&str>), &str>| match (
            parse(text, role),
            expected,
        ) {
            (Ok(Reference::Repository(repository)), Ok((name, file))) => {
                assert_eq!(
                    (repository.name.as_str(), repository.file.as_deref()),
                    (name, file),
                    "{text}"
                );
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (parsed, expected) => panic!("{text}: {parsed:?}, expected {expected:?}"),
        };
        check("org/name", Role::Embedder, Ok(("org/name", None)));
        check(
            "org/name:a.gguf",
            Role::Generator,
            Ok(("org/name", Some("a.gguf"))),
        );
        check("KURE-v1", Role::Embedder, Ok(("nlpai-lab/KURE-v1", None)));
        check(
            "lite",
            Role::Embedder,
            Ok(("dragonkue/multilingual-e5-small-ko-v2", None)),
        );
        check(
            "lite",
            Role::Generator,
            Ok(("mykor/Midm-2.0-Mini-Instruct-gguf", Some("Q4_K_M"))),
        );
        check(
            "lite",
            Role::Reranker,
            Err("lite: this preset has no reranker"),
        );
        check("nonsense", Role::Embedder, Err("nonsense: no such folder"));
        check("./models/mine", Role::Embedder, Err("no such folder"));
        check("org/name/more", Role::Embedder, Err("no such folder"));
        check("org/name:../../x", Role::Embedder, Err("no such folder"));
        check("", Role::Embedder, Err("no such folder"));
    }

    #[test]
    fn what_exists_here_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        let parsed = parse(text, Role::Embedder).unwrap();
        assert_eq!(parsed, Reference::Path(folder.path().to_path_buf()));
    }
}
