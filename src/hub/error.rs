//! What can be wrong about getting a model, each with the way out.

use std::fmt;

/// Why a model is not here or could not be brought here. [`fmt::Display`] says what is wrong, [`HubError::hint`]
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubError {
    /// Neither a path, nor a preset, nor a repository's name.
    UnknownName {
        /// What the user typed.
        name: String,
    },
    /// A preset has no model for what is asked.
    NotInPreset {
        /// The preset.
        preset: String,
        /// `embedder`, `reranker` or `generator`.
        role: &'static str,
    },
    /// The model is not on this machine.
    NotHere {
        /// The model.
        name: String,
        /// The file that is missing, where some are here.
        missing: Option<String>,
    },
    /// The network is switched off.
    Offline {
        /// The model.
        name: String,
    },
    /// 401 or 403.
    Refused {
        /// The repository.
        name: String,
        /// The status.
        status: u16,
        /// Page where access is asked for.
        page: String,
    },
    /// 404.
    NotFound {
        /// The repository, or a file of it.
        name: String,
    },
    /// 429.
    TooManyRequests {
        /// The hub.
        endpoint: String,
        /// Seconds that the hub asks to wait.
        wait_seconds: Option<u64>,
    },
    /// Another status.
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// No connection.
    Unreachable {
        /// The hub.
        endpoint: String,
        /// The system's words.
        cause: String,
    },
    /// A redirect that leads nowhere.
    Redirect {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The answer is not a hub's.
    NotAHub {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        cause: String,
    },
    /// The connection ended within a file.
    Cut {
        /// The file.
        file: String,
        /// Bytes that are here.
        got_bytes: u64,
        /// Bytes that the file has.
        n_bytes: u64,
    },
    /// A file's content is not what the hub says.
    WrongChecksum {
        /// The file.
        file: String,
        /// The hub's checksum.
        expected: String,
        /// The content's.
        found: String,
    },
    /// A repository of GGUF files, and none is chosen.
    ChooseFile {
        /// The repository.
        name: String,
        /// What was asked for, if anything.
        wanted: Option<String>,
        /// The files there are.
        files: Vec<String>,
    },
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HubError::UnknownName { name } => write!(
                f,
                "{name}: no such folder or file, and not the name of a model: expected a path, a preset or org/name"
            ),
            HubError::NotInPreset { preset, role } => {
                write!(f, "{preset}: this preset has no {role}")
            }
            HubError::NotHere { name, missing } => match missing {
                None => write!(f, "{name}: not on this machine"),
                Some(missing) => {
                    write!(f, "{name}: not whole on this machine: {missing} is missing")
                }
            },
            HubError::Offline { name } => {
                write!(
                    f,
                    "{name}: not pulled: the network is switched off (--offline or HF_HUB_OFFLINE)"
                )
            }
            HubError::Refused { name, status, .. } => write!(
                f,
                "{name}: the hub refuses it ({status}): no such model, or one that needs a login"
            ),
            HubError::NotFound { name } => write!(f, "{name}: the hub does not have it (404)"),
            HubError::TooManyRequests {
                endpoint,
                wait_seconds,
            } => match wait_seconds {
                None => write!(f, "{endpoint}: too many requests (429)"),
                Some(seconds) => write!(
                    f,
                    "{endpoint}: too many requests (429): asks to wait {seconds} s"
                ),
            },
            HubError::Status { url, status } => {
                write!(f, "{url}: the hub answers with status {status}")
            }
            HubError::Unreachable { endpoint, cause } => {
                write!(f, "{endpoint}: cannot be reached: {cause}")
            }
            HubError::Redirect { url, cause } => write!(f, "{url}: redirected to nowhere: {cause}"),
            HubError::NotAHub { url, cause } => {
                write!(f, "{url}: the answer is not a model hub's: {cause}")
            }
            HubError::Cut {
                file,
                got_bytes,
                n_bytes,
            } => {
                write!(
                    f,
                    "{file}: the connection ended after {got_bytes} of {n_bytes} bytes"
                )
            }
            HubError::WrongChecksum {
                file,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{file}: wrong checksum: expected {expected}, got {found}"
                )
            }
            HubError::ChooseFile {
                name,
                wanted,
                files,
            } => {
                let files = files.join(", ");
                match wanted {
                    None => write!(f, "{name}: holds several models: {files}"),
                    Some(wanted) => write!(f, "{name}: {wanted}: expected one of {files}"),
                }
            }
        }
    }
}

impl std::error::Error for HubError {}

impl HubError {
    /// What the user can do, as a command or an instruction.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            HubError::UnknownName { .. } | HubError::NotInPreset { .. } => {
                Some("ragq models list".to_string())
            }
            HubError::NotHere { name, .. } => Some(format!("ragq models pull {name}")),
            HubError::Offline { name } => Some(format!(
                "on a machine with a network: ragq models pull {name} && ragq models export {name} DIR; copy DIR here and name it instead"
            )),
            HubError::Refused { page, status, .. } => Some(match status {
                401 => format!("check the spelling at {page}; for a private model set HF_TOKEN"),
                _ => format!("ask for access at {page}, then set HF_TOKEN"),
            }),
            HubError::NotFound { .. } => Some("check the spelling: org/name".to_string()),
            HubError::TooManyRequests { .. } => {
                Some("wait, then type the same command; HF_TOKEN raises the limit".to_string())
            }
            HubError::Unreachable { .. } => Some(
                "check the network; HF_ENDPOINT names another hub, HTTPS_PROXY a proxy".to_string(),
            ),
            HubError::NotAHub { .. } => {
                Some("a proxy may answer in its place; HF_ENDPOINT names the hub".to_string())
            }
            HubError::Cut { .. } => {
                Some("type the same command: it goes on where it stopped".to_string())
            }
            HubError::WrongChecksum { .. } => {
                Some("type the same command: the file is fetched anew".to_string())
            }
            HubError::ChooseFile { name, files, .. } => files
                .first()
                .map(|file| format!("ragq models pull {name}:{file}")),
            HubError::Status { .. } | HubError::Redirect { .. } => None,
        }
    }
}
