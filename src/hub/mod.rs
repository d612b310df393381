//! A model's name → files on this machine.
//!
//! Models lie in folders of the user's choice or in the Hugging Face cache, which ragq shares with every other
//! program that uses it (`HF_HOME`). [`Hub::locate`] only looks; nothing but [`Hub::pull`] uses the network. Nothing
//! is printed: progress goes to a callback, and each failure is a [`HubError`] with its own way out.
//!
//! In the cache a file's content lies in `blobs/` under its checksum, and `snapshots/COMMIT/` links to it under its
//! name; `refs/main` names the commit. `refs/main` is written last, so a half-pulled model is never found.

mod cache;
pub mod catalog;
mod checksum;
mod download;
mod error;
pub mod reference;
mod selection;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::embedding::Prefixes;
use crate::fs;
use catalog::{MODELS, Model, Role};
pub use error::HubError;
use reference::{Reference, Repository};

/// Where models come from and where they are kept.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The folder that holds `models--org--name` folders.
    pub cache: PathBuf,
    /// `https://huggingface.co`, or another hub of its kind.
    pub endpoint: String,
    /// Sent to the endpoint, and to no host that it redirects to.
    pub token: Option<String>,
    /// Whether the network is switched off.
    pub offline: bool,
}

/// A model's files on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What an index remembers: the repository, the file of it, or the path as typed.
    pub name: String,
    /// A folder, or one file of it.
    pub path: PathBuf,
    /// Prefixes published for this model, where ragq knows it.
    pub prefixes: Option<Prefixes>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes here, over all files of the model.
    pub got_bytes: u64,
    /// Bytes of the whole model.
    pub n_bytes: u64,
}

/// A model that ragq knows by name, and whether it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The model.
    pub model: &'static Model,
    /// Its files, if they are on this machine.
    pub path: Option<PathBuf>,
}

/// What became of checking a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Name within the model.
    pub file: String,
    /// The result.
    pub state: FileState,
}

/// Whether a file is what it was when it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Its checksum is right.
    Intact,
    /// Its checksum is wrong.
    Damaged {
        /// As published.
        expected: String,
        /// Of the content.
        found: String,
    },
    /// It is listed and not here.
    Missing,
    /// Nothing says what its checksum should be.
    Unknown,
}

impl Hub {
    /// The hub that the environment describes: `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (else the token that a login
    /// left), `HF_HUB_OFFLINE`; `offline` switches the network off whatever the environment says.
    ///
    /// # Errors
    /// When neither `HF_HOME` nor a home folder is known.
    pub fn from_env(offline: bool) -> Result<Hub> {
        let cache = cache::from_env()?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint =
            variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        let switched_off = variable("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
        });
        Ok(Hub {
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            offline: offline || switched_off,
        })
    }

    /// Finds a model on this machine, without the network.
    ///
    /// # Errors
    /// A [`HubError`] when the name means nothing or the model is not here, whole.
    pub fn locate(&self, reference: &str, role: Role) -> Result<Located, HubError> {
        match reference::parse(reference, role)? {
            Reference::Path(path) => Ok(Located {
                name: reference.to_string(),
                path,
                prefixes: None,
            }),
            Reference::Repository(repository) => {
                let path = cache::find(&self.cache, &repository).map_err(|error| {
                    match (self.offline, error) {
                        (
                            true,
                            HubError::NotHere {
                                name,
                                missing: None,
                            },
                        ) => HubError::Offline { name },
                        (_, error) => error,
                    }
                })?;
                Ok(located(&repository, path))
            }
        }
    }

    /// The models that ragq knows by name, each with its place if it is here.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        MODELS
            .iter()
            .map(|model| Listed {
                model,
                path: self
                    .locate(model.reference, model.role)
                    .ok()
                    .map(|located| located.path),
            })
            .collect()
    }

    /// Brings a model here, or up to date. Files that are here already are not fetched again; one that was cut goes
    /// on where it stopped. `progress` is called often; it may draw, and must be quick.
    ///
    /// # Errors
    /// A [`HubError`] for what the hub or the network does; an error that names the path for what the disk does.
    pub fn pull(
        &self,
        reference: &str,
        role: Role,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Located> {
        match reference::parse(reference, role)? {
            Reference::Path(_) => Ok(self.locate(reference, role)?),
            Reference::Repository(repository) => {
                if self.offline {
                    return Err(HubError::Offline {
                        name: repository.reference(),
                    }
                    .into());
                }
                let path = download::pull(self, &repository, progress)?;
                Ok(located(&repository, path))
            }
        }
    }

    /// Compares each file of a model with its published checksum: in the cache the name of its content, in another
    /// folder the list that [`Hub::export`] left there.
    ///
    /// # Errors
    /// When the model is not here or a file cannot be read.
    pub fn verify(&self, reference: &str, role: Role) -> Result<Vec<Verified>> {
        let located = self.locate(reference, role)?;
        checksum::verify(&located.path)
    }

    /// Copies a model into the folder `target`, as plain files, with their checksums and with the published prefixes
    /// where its own files name none: all that a machine without a network needs. Returns the files written.
    ///
    /// # Errors
    /// When the model is not here, or a file cannot be read or written.
    pub fn export(&self, reference: &str, role: Role, target: &Path) -> Result<Vec<PathBuf>> {
        let located = self.locate(reference, role)?;
        cache::export(&located, target)
            .with_context(|| format!("{}: cannot be exported", located.name))
    }
}

fn located(repository: &Repository, path: PathBuf) -> Located {
    let prefixes = catalog::model(&repository.name)
        .and_then(|model| model.prefixes)
        .map(|(query, passage)| Prefixes {
            query: query.to_string(),
            passage: passage.to_string(),
        });
    Located {
        name: repository.reference(),
        path,
        prefixes,
    }
}

/// Files below `folder` by their path within it, sorted, symbolic links followed.
fn files_below(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder)
        .follow_links(true)
        .sort_by_file_name()
    {
        let entry = entry?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder)?;
            let name: Vec<String> = name
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect();
            files.push((name.join("/"), entry.path().to_path_buf()));
        }
    }
    Ok(files)
}

/// Copies a file through a temporary one, so that a half copy never carries the name.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut source = fs::open(from)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::copy(&mut source, &mut file)?;
        file.as_file().sync_all()?;
        file.persist(to)?;
        Ok(())
    };
    write().with_context(|| to.display().to_string())
}
