//! Where each setting comes from: flag > environment > the index's `config.toml` > the user's `config.toml` > built in.
//!
//! Flags and environment arrive together from [`cli`](crate::cli). An index's config may have come with a folder from
//! somebody else, so it may not point outside that folder.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::{Cli, ColorChoice, DeviceName};

/// Everything a command needs to know besides its own arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The index folder, which may not exist yet.
    pub(crate) index: PathBuf,
    /// Passages to retrieve, if anyone said.
    pub(crate) top_k: Option<usize>,
    /// Embedder, if anyone said; else the index's own, else `builtin`.
    pub(crate) embedder: Option<String>,
    /// Whether a flag or the environment said so. A default in a config does not change an index that has another.
    pub(crate) embedder_is_asked: bool,
    /// Generator; `extract` unless anyone said.
    pub(crate) generator: String,
    /// Reranker, if any.
    pub(crate) reranker: Option<String>,
    /// Where models run.
    pub(crate) device: DeviceName,
    /// Whether the network is forbidden.
    pub(crate) offline: bool,
    /// When to colour.
    pub(crate) color: ColorChoice,
}

/// One `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    top_k: Option<u16>,
    embedder: Option<String>,
    generator: Option<String>,
    reranker: Option<String>,
    device: Option<String>,
    offline: Option<bool>,
    color: Option<String>,
}

impl Settings {
    /// Gathers the settings.
    ///
    /// # Errors
    /// When a config file cannot be read, has an unknown key, or points outside its folder.
    pub(crate) fn gather(cli: &Cli) -> Result<Settings> {
        let flags = &cli.common;
        let index = match flags
            .index
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
        {
            Some(index) => index,
            None => nearest_index(&std::env::current_dir().context("current folder")?),
        };
        let here = Config::read_index(&index)?;
        let user = user_config_path()
            .map(|path| Config::read(&path))
            .transpose()?
            .unwrap_or_default();
        let said = |flag: &Option<String>, here: Option<String>, user: Option<String>| {
            flag.clone()
                .filter(|value| !value.is_empty())
                .or(here)
                .or(user)
        };
        let top_k = flags.top_k.or(here.top_k).or(user.top_k);
        Ok(Settings {
            index,
            top_k: top_k.map(usize::from),
            embedder_is_asked: flags.embedder.as_ref().is_some_and(|name| !name.is_empty()),
            embedder: said(&flags.embedder, here.embedder, user.embedder),
            generator: said(&flags.generator, here.generator, user.generator)
                .unwrap_or_else(|| "extract".into()),
            reranker: said(&flags.reranker, here.reranker, user.reranker)
                .filter(|name| name != "none"),
            device: choice(flags.device, here.device, user.device, "device")?
                .unwrap_or(DeviceName::Cpu),
            offline: flags.offline
                || truthy("RAGQ_OFFLINE")
                || truthy("HF_HUB_OFFLINE")
                || here.offline.or(user.offline).unwrap_or(false),
            color: choice(flags.color, here.color, user.color, "color")?
                .unwrap_or(ColorChoice::Auto),
        })
    }
}

impl Config {
    /// Reads a config file; one that does not exist says nothing.
    fn read(path: &Path) -> Result<Config> {
        if !path.exists() {
            return Ok(Config::default());
        }
        let text = ragq::fs::read_to_string(path)?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    fn read_index(index: &Path) -> Result<Config> {
        let path = index.join("config.toml");
        let config = Config::read(&path)?;
        for (key, model) in [
            ("embedder", &config.embedder),
            ("generator", &config.generator),
            ("reranker", &config.reranker),
        ] {
            if let Some(model) = model
                && points_outside(Path::new(model))
            {
                bail!(
                    "{}: {key} = \"{model}\": an index may not name a path outside its folder",
                    path.display()
                );
            }
        }
        Ok(config)
    }
}

fn points_outside(path: &Path) -> bool {
    path.components().any(|part| {
        matches!(
            part,
            Component::ParentDir | Component::RootDir | Component::Prefix(_)
        )
    }) || path.starts_with("~")
}

/// The value of an enumerated setting: the flag, else the first config that names it.
fn choice<T: clap::ValueEnum>(
    flag: Option<T>,
    here: Option<String>,
    user: Option<String>,
    key: &str,
) -> Result<Option<T>> {
    match (flag, here.or(user)) {
        (Some(flag), _) => Ok(Some(flag)),
        (None, None) => Ok(None),
        (None, Some(name)) => match T::from_str(&name, true) {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("config.toml: {key} = \"{name}\": not a value of this setting"),
        },
    }
}

/// `.ragq` in `folder` or the nearest folder above it, else where it would be made.
fn nearest_index(folder: &Path) -> PathBuf {
    let found = folder
        .ancestors()
        .map(|above| above.join(".ragq"))
        .find(|index| index.is_dir());
    match found {
        Some(index) if index.parent() == Some(folder) => PathBuf::from(".ragq"),
        Some(index) => index,
        None => PathBuf::from(".ragq"),
    }
}

/// The user's `config.toml`, where the system keeps such files.
pub(crate) fn user_config_path() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let folder = if cfg!(windows) {
        set("APPDATA")
    } else if cfg!(target_os = "macos") {
        set("XDG_CONFIG_HOME")
            .or_else(|| home().map(|home| home.join("Library/Application Support")))
    } else {
        set("XDG_CONFIG_HOME").or_else(|| home().map(|home| home.join(".config")))
    };
    folder.map(|folder| folder.join("ragq").join("config.toml"))
}

fn truthy(variable: &str) -> bool {
    std::env::var(variable)
        .is_ok_and(|value| !matches!(value.to_lowercase().as_str(), "" | "0" | "false" | "no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_index_upwards_is_found() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(nearest_index(&deep), Path::new(".ragq"));
        std::fs::create_dir(root.path().join(".ragq")).unwrap();
        assert_eq!(nearest_index(&deep), root.path().join(".ragq"));
        assert_eq!(nearest_index(root.path()), Path::new(".ragq"));
    }

    #[test]
    fn an_index_may_not_name_a_path_outside_its_folder() {
        for (model, outside) in [
            ("builtin", false),
            ("org/name", false),
            ("models/e5", false),
            ("../x", true),
            ("/etc/x", true),
            ("~/x", true),
        ] {
            assert_eq!(points_outside(Path::new(model)), outside, "{model}");
        }
    }
}
