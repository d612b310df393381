//! Whether files are what they were when they were published.
//!
//! A hub gives large files their SHA-256 and small ones git's own checksum (the SHA-1 of `blob LENGTH\0` and the
//! content). The cache names content by them; an exported folder lists SHA-256 in `SHA256SUMS`, as `sha256sum -c`
//! reads it.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{FileState, Verified, files_below};
use crate::fs;

/// Name of the list in an exported folder.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// A checksum as a hub publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// 64 hexadecimal digits.
    Sha256(String),
    /// 40 hexadecimal digits: git's.
    Git(String),
}

impl Checksum {
    /// Tells them apart by their length; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Checksum> {
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Checksum::Sha256(text.to_lowercase())),
            40 => Some(Checksum::Git(text.to_lowercase())),
            _ => None,
        }
    }

    /// The digits, which are also the name of the content in the cache.
    pub(crate) fn digits(&self) -> &str {
        match self {
            Checksum::Sha256(digits) | Checksum::Git(digits) => digits,
        }
    }

    /// The same kind of checksum of a file's content.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn of_file(&self, path: &Path) -> Result<String> {
        match self {
            Checksum::Sha256(_) => sha256(path),
            Checksum::Git(_) => {
                let n_bytes = fs::open(path)?.metadata()?.len();
                let mut digest = Sha1::new();
                digest.update(format!("blob {n_bytes}\0"));
                digest_file(path, digest)
            }
        }
    }
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    digest_file(path, Sha256::new())
}

fn digest_file<D: Digest>(path: &Path, mut digest: D) -> Result<String> {
    let mut file = BufReader::new(fs::open(path)?);
    let mut block = vec![0u8; 1 << 20];
    loop {
        let n_bytes = file
            .read(&mut block)
            .with_context(|| path.display().to_string())?;
        if n_bytes == 0 {
            break;
        }
        digest.update(&block[..n_bytes]);
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Checks a model's files: those below a folder, or one file.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn verify(path: &Path) -> Result<Vec<Verified>> {
    if path.is_file() {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(vec![Verified {
            state: state(path, published(path))?,
            file: name,
        }]);
    }
    let mut listed = read_sums(path)?;
    let mut verified = Vec::new();
    for (name, file) in files_below(path)? {
        if name == SUMS {
            continue;
        }
        let checksum = listed.remove(&name).or_else(|| published(&file));
        verified.push(Verified {
            state: state(&file, checksum)?,
            file: name,
        });
    }
    verified.extend(listed.into_keys().map(|file| Verified {
        file,
        state: FileState::Missing,
    }));
    Ok(verified)
}

fn state(path: &Path, checksum: Option<Checksum>) -> Result<FileState> {
    let Some(checksum) = checksum else {
        return Ok(FileState::Unknown);
    };
    let found = checksum.of_file(path)?;
    Ok(if found == checksum.digits() {
        FileState::Intact
    } else {
        FileState::Damaged {
            expected: checksum.digits().to_string(),
            found,
        }
    })
}

/// The checksum that is the name of the content that a link of the cache points to.
fn published(path: &Path) -> Option<Checksum> {
    let target = std::fs::read_link(path).ok()?;
    Checksum::parse(target.file_name()?.to_str()?)
}

/// `SHA256SUMS`, where a folder has one.
fn read_sums(folder: &Path) -> Result<BTreeMap<String, Checksum>> {
    let path = folder.join(SUMS);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    fs::read_to_string(&path)?
        .lines()
        .map(|line| {
            let (digits, name) = line
                .split_once("  ")
                .with_context(|| format!("{}: not a list of checksums: {line}", path.display()))?;
            let checksum = Checksum::parse(digits)
                .with_context(|| format!("{}: not a checksum: {digits}", path.display()))?;
            Ok((name.to_string(), checksum))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_checksum_are_those_of_their_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        fs::write_atomic(&path, b"hello\n").unwrap();
        let check = |expected: &str| {
            let checksum = Checksum::parse(expected).unwrap();
            assert_eq!(checksum.of_file(&path).unwrap(), expected);
        };
        // `sha256sum hello` and `git hash-object hello`.
        check("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        check("ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(Checksum::parse("main"), None);
        assert_eq!(Checksum::parse(&"g".repeat(40)), None);
    }
}
