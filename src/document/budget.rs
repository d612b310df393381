//! What one file may cost. Readers ask in their loops, because a thread that has run away cannot be stopped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Limits for reading one file.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Most bytes a file, or one decompressed part of it, may have.
    pub max_part_bytes: usize,
    /// Most bytes all decompressed parts of a file may have together.
    pub max_unpacked_bytes: usize,
    /// Most pages, sheets or slides that are read.
    pub max_pages: usize,
    /// Deepest nesting of elements or forms that is followed.
    pub max_depth: usize,
    deadline: Instant,
}

impl Budget {
    /// The limits ragq reads users' files with: 64 MiB a part, 512 MiB unpacked, 20,000 pages, 15 seconds from now.
    #[must_use]
    pub fn standard() -> Budget {
        Budget {
            max_part_bytes: 64 << 20,
            max_unpacked_bytes: 512 << 20,
            max_pages: 20_000,
            max_depth: 1024,
            deadline: Instant::now() + Duration::from_secs(15),
        }
    }

    /// Whether time is left.
    ///
    /// # Errors
    /// When the file's time is used up.
    pub fn check_time(&self) -> Result<()> {
        ensure!(
            Instant::now() < self.deadline,
            "gave up: reading took longer than 15 seconds"
        );
        Ok(())
    }
}
