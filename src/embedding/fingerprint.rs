//! Files and settings → a short digest that changes whenever vectors would.
//!
//! Weights run to gigabytes and are hashed at every start, so a file is cut into blocks that all cores hash at once.
//! The digest says nothing about where the files lie: a copied folder has the same one.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::encoder::Workers;
use crate::fs;

/// Collects what decides about vectors.
pub(crate) struct Fingerprint {
    digest: Sha256,
}

impl Default for Fingerprint {
    fn default() -> Self {
        let mut digest = Sha256::new();
        // Raised by hand when a change of this program changes vectors.
        digest.update(b"ragq embedding 1\n");
        Fingerprint { digest }
    }
}

/// Bytes that one core hashes at a time.
const BLOCK_BYTES: u64 = 16 << 20;

impl Fingerprint {
    /// Adds a setting.
    pub(crate) fn text(&mut self, text: &str) {
        self.digest.update(Sha256::digest(text));
    }

    /// Adds the content of files, in the order given.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn files(&mut self, paths: &[PathBuf]) -> Result<()> {
        for path in paths {
            self.digest.update(file_digest(path)?);
        }
        Ok(())
    }

    /// 32 hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        let digest = self.digest.finalize();
        digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn file_digest(path: &Path) -> Result<Vec<u8>> {
    let n_bytes = fs::open(path)?.metadata()?.len();
    let starts: Vec<u64> = (0..n_bytes.div_ceil(BLOCK_BYTES))
        .map(|i| i * BLOCK_BYTES)
        .collect();
    let blocks = Workers::new(None)?.map(&starts, |start| {
        block_digest(path, *start).with_context(|| path.display().to_string())
    })?;
    let mut digest = Sha256::new();
    digest.update(n_bytes.to_le_bytes());
    for block in blocks {
        digest.update(block);
    }
    Ok(digest.finalize().to_vec())
}

fn block_digest(path: &Path, start: u64) -> Result<Vec<u8>> {
    let mut file = fs::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut block = Vec::new();
    file.take(BLOCK_BYTES).read_to_end(&mut block)?;
    Ok(Sha256::digest(&block).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_settings_count_and_the_place_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, content: &[u8], setting: &str| {
            let path = folder.path().join(name);
            fs::write_atomic(&path, content).unwrap();
            let mut fingerprint = Fingerprint::default();
            fingerprint.text(setting);
            fingerprint.files(&[path]).unwrap();
            fingerprint.finish()
        };
        let large = vec![7; 40 << 20];
        let mut changed = large.clone();
        changed[39 << 20] = 8;
        let first = of("a", &large, "mean");
        assert_eq!(first.len(), 32);
        assert_eq!(first, of("b", &large, "mean"));
        assert_ne!(first, of("a", &changed, "mean"));
        assert_ne!(first, of("a", &large, "cls"));
        assert_ne!(of("a", b"", "mean"), of("a", b"\0", "mean"));
    }
}
