//! File operations whose errors name the path, and the one way a file is replaced: whole or not at all.
//!
//! Everything else in the crate goes through here; `clippy.toml` forbids the `std::fs` functions of the same names.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the wrapper the lint points to"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Reads a whole file.
///
/// # Errors
/// The path and the system's reason, when the file cannot be opened or read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a whole file that must be UTF-8.
///
/// # Errors
/// The path and the reason, when the file cannot be read or is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Opens a file for reading.
///
/// # Errors
/// The path and the system's reason.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

/// Replaces `path` with `bytes`: after a crash the file is the old one or the new one, never a part.
///
/// The bytes go to a temporary file in the same folder, are made durable, and are renamed over `path`; then the
/// folder itself is made durable.
///
/// # Errors
/// The path and the system's reason; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let replace = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)
    };
    replace().with_context(|| path.display().to_string())
}

/// Makes the names in a folder durable, where the system can (Windows has no such call and needs none).
///
/// # Errors
/// The system's reason.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_path() {
        let error = read(Path::new("no/such/file")).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("no/such/file: "),
            "{error:#}"
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
