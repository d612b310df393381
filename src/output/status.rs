//! `ragq status`: what is in the index.

use std::path::Path;

use anyhow::Result;
use ragq::index::Reader;

use super::Output;

impl Output {
    pub(crate) fn status(&self, _folder: &Path, _reader: &Reader) -> Result<()> {
        Ok(())
    }
}
