//! The lock that lets one process at a time change an index, and says which.
//!
//! An advisory lock of the operating system on the file `lock`: it ends with the process, however that ends, so there
//! is never a stale one to remove. Readers do not take it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::IndexError;

const FILE_NAME: &str = "lock";

/// Held as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the index in `folder` without waiting.
    ///
    /// # Errors
    /// [`IndexError::Locked`] when another process holds it.
    pub(super) fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Some systems forbid even reading a locked file; then the holder stays unnamed.
                let pid = match file.read_to_string(&mut holder) {
                    Ok(_) => holder.trim().parse().ok(),
                    Err(_) => None,
                };
                let folder = folder.to_owned();
                return Err(IndexError::Locked { folder, pid }.into());
            }
            Err(TryLockError::Error(cause)) => {
                return Err(cause).with_context(|| format!("{}: cannot be locked", path.display()));
            }
        }
        let write_pid = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).with_context(|| path.display().to_string())?;
        Ok(Lock { _file: file })
    }
}
