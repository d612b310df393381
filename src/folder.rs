//! Paths a user named → the files under them, in a fixed order.
//!
//! Hidden files, `.ragq` and the litter of office programs are passed over in silence; links are not followed, so that
//! nothing outside the folder is read and nothing is read twice. A sub-folder that cannot be opened is reported, and its
//! files are then unknown rather than gone.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use unicode_normalization::UnicodeNormalization;
use walkdir::{DirEntry, WalkDir};

use crate::hint::Hinted;

/// A file that may hold a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Absolute path, as the system gives it.
    pub path: PathBuf,
    /// Path relative to the folder the user named, NFC, `/` between folders.
    pub source: String,
    /// File size.
    pub n_bytes: u64,
    /// Time of the last change, nanoseconds since 1970; 0 when the system does not say.
    pub modified_ns: i64,
}

/// What lies under one path that the user named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The absolute path.
    pub root: PathBuf,
    /// Files, sorted by path.
    pub files: Vec<FoundFile>,
    /// Links that were not followed, as sources.
    pub links: Vec<String>,
    /// Folders and files that could not be looked at: absolute path and reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// The absolute path of a file or folder.
///
/// # Errors
/// When nothing is there.
pub fn find(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|cause| {
        let hint = "name an existing file or folder; to drop removed documents, ingest the folder that held them";
        Hinted::error(format!("{}: {cause}", path.display()), hint)
    })
}

/// Lists the files at or under `path`.
///
/// # Errors
/// When nothing is at `path`.
pub fn list(path: &Path) -> Result<Listing> {
    let root = find(path)?;
    let base = if root.is_dir() {
        root.clone()
    } else {
        root.parent().unwrap_or(&root).to_path_buf()
    };
    let mut listing = Listing {
        root: root.clone(),
        ..Listing::default()
    };
    let entries = WalkDir::new(&root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !is_litter(entry));
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_symlink() => {
                listing.links.push(source(entry.path(), &base))
            }
            Ok(entry) if entry.file_type().is_file() => match found(&entry, &base) {
                Ok(file) => listing.files.push(file),
                Err(error) => listing
                    .unreadable
                    .push((entry.into_path(), error.root_cause().to_string())),
            },
            Ok(_) => {}
            Err(error) => {
                let reason = error
                    .io_error()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                let path = error.path().map_or_else(|| root.clone(), Path::to_path_buf);
                listing.unreadable.push((path, reason));
            }
        }
    }
    Ok(listing)
}

/// The path by which answers cite a file: relative to `base`, NFC, `/` between folders.
#[must_use]
pub fn source(path: &Path, base: &Path) -> String {
    let relative = path.strip_prefix(base).unwrap_or(path);
    let parts: Vec<String> = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy().nfc().collect())
        .collect();
    parts.join("/")
}

fn found(entry: &DirEntry, base: &Path) -> Result<FoundFile> {
    let metadata = entry.metadata().context("metadata")?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(FoundFile {
        path: entry.path().to_path_buf(),
        source: source(entry.path(), base),
        n_bytes: metadata.len(),
        modified_ns: modified
            .and_then(|since| i64::try_from(since.as_nanos()).ok())
            .unwrap_or(0),
    })
}

/// Hidden names and what office programs and systems leave beside documents. What the user named is never litter.
fn is_litter(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() > 0
        && (name.starts_with('.')
            || name.starts_with("~$")
            || name.eq_ignore_ascii_case("thumbs.db")
            || name.eq_ignore_ascii_case("desktop.ini"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(listing: &Listing) -> Vec<&str> {
        listing
            .files
            .iter()
            .map(|file| file.source.as_str())
            .collect()
    }

    #[test]
    fn hidden_files_and_litter_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "b.txt",
            "a.txt",
            ".hidden.txt",
            "~$a.docx",
            "Thumbs.db",
            ".ragq/x.txt",
            "sub/c.txt",
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        }
        assert_eq!(
            sources(&list(root.path()).unwrap()),
            ["a.txt", "b.txt", "sub/c.txt"]
        );
    }

    #[test]
    fn a_decomposed_name_becomes_a_composed_source() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(
            root.path().join("휴직.txt".nfd().collect::<String>()),
            "text",
        )
        .unwrap();
        assert_eq!(sources(&list(root.path()).unwrap()), ["휴직.txt"]);
    }

    #[test]
    fn a_single_file_is_cited_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("규정.txt");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(sources(&list(&path).unwrap()), ["규정.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_named_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        let listing = list(root.path()).unwrap();
        assert_eq!(listing.links, ["out"]);
        assert!(listing.files.is_empty());
    }
}
