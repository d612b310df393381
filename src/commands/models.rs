//! `ragq models`: presets and model files.

use std::path::Path;

use anyhow::{Result, bail};
use ragq::embedding::{Embed, static_embedding};
use ragq::generation::Generate;

use super::Ending;
use crate::cli::ModelsCommand;
use crate::output::Output;
use crate::settings::Settings;

pub(super) fn run(
    _command: ModelsCommand,
    _settings: &Settings,
    _output: &Output,
) -> Result<Ending> {
    bail!("not built yet")
}

/// An embedder by name.
///
/// # Errors
/// When it is not here or cannot be loaded.
pub(super) fn load_embedder(name: &str, _settings: &Settings) -> Result<Box<dyn Embed>> {
    match name {
        "builtin" => Ok(Box::new(static_embedding::builtin()?)),
        _ => bail!("{name}: not built yet"),
    }
}

pub(super) fn load_generator(
    _name: &str,
    _adapter: Option<&Path>,
    _settings: &Settings,
) -> Result<Box<dyn Generate>> {
    bail!("not built yet")
}
