//! Bringing a repository's files into the cache.
//!
//! Every file is written beside its place under a name of its own, compared with the size and checksum that the hub
//! publishes, and only then takes its place; a cut one is kept and goes on with the next try. Two programs that pull
//! the same file wait for each other. hf-hub's own download is not used: it compares no checksum, appends when a
//! server ignores the range asked for, and panics on some redirects.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{CONTENT_RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode};

use super::checksum::Checksum;
use super::error::HubError;
use super::reference::Repository;
use super::selection::select;
use super::{Hub, Progress, cache};
use crate::fs;

/// What `api/models/NAME/revision/main?blobs=true` answers.
#[derive(Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    git: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

/// A file to bring here.
struct Remote {
    name: String,
    n_bytes: u64,
    checksum: Checksum,
}

/// Time for a connection, and for each piece of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tries that go on after a cut as long as each brings something.
const MAX_CUTS: usize = 5;

/// Brings all files of a model here and returns its folder, or its GGUF file.
///
/// # Errors
/// See [`Hub::pull`].
pub(crate) fn pull(
    hub: &Hub,
    repository: &Repository,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf> {
    let client = Client::new(hub, repository);
    let listing = client.listing()?;
    let files = remote_files(&client, &listing)?;
    let place = cache::place(&hub.cache, repository);
    let snapshot = place.pointer_path(&listing.sha);
    let n_bytes = files.iter().map(|file| file.n_bytes).sum();
    let mut before = 0;
    for file in &files {
        let blob = place.blob_path(file.checksum.digits());
        let mut on_bytes = |got: u64| {
            progress(Progress {
                file: &file.name,
                got_bytes: before + got,
                n_bytes,
            });
        };
        client.fetch(file, &listing.sha, &blob, &mut on_bytes)?;
        on_bytes(file.n_bytes);
        link(&blob, &snapshot, &file.name)?;
        before += file.n_bytes;
    }
    let main = cache::root(&hub.cache, repository)
        .join("refs")
        .join("main");
    fs::write_atomic(&main, listing.sha.as_bytes())?;
    Ok(cache::find(&hub.cache, repository)?)
}

fn remote_files(client: &Client<'_>, listing: &Listing) -> Result<Vec<Remote>> {
    let strange = |cause: String| HubError::NotAHub {
        url: client.listing_url(),
        cause,
    };
    if listing.sha.is_empty() || !listing.sha.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(strange(format!("commit {:?}", listing.sha)).into());
    }
    let names: Vec<&str> = listing
        .siblings
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    select(client.repository, &names)?
        .into_iter()
        .map(|name| {
            // A name from the network becomes a path: it must stay below the model's folder.
            let is_plain = name.split('/').all(|part| {
                !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':'])
            });
            let sibling = listing
                .siblings
                .iter()
                .find(|file| file.name == name && is_plain);
            let sibling = sibling.ok_or_else(|| strange(format!("file name {name:?}")))?;
            let (n_bytes, digits) = match &sibling.lfs {
                Some(large) => (Some(large.size), Some(&large.sha256)),
                None => (sibling.size, sibling.git.as_ref()),
            };
            let checksum = digits.and_then(|digits| Checksum::parse(digits));
            let (Some(n_bytes), Some(checksum)) = (n_bytes, checksum) else {
                return Err(strange(format!("{name}: no size or checksum")).into());
            };
            Ok(Remote {
                name: name.to_string(),
                n_bytes,
                checksum,
            })
        })
        .collect()
}

/// Makes `snapshot/name` point to `blob`, relative, so that the cache can be moved.
fn link(blob: &Path, snapshot: &Path, name: &str) -> Result<()> {
    let pointer = snapshot.join(name);
    let parent = pointer.parent().unwrap_or(snapshot);
    let create = || -> std::io::Result<()> {
        std::fs::create_dir_all(parent)?;
        if std::fs::symlink_metadata(&pointer).is_ok() {
            std::fs::remove_file(&pointer)?;
        }
        let digits = blob.file_name().unwrap_or_default();
        // snapshots/COMMIT/a/b → ../../../blobs/DIGITS
        let n_up = name.split('/').count() + 1;
        let target: PathBuf = std::iter::repeat_n("..", n_up).collect();
        let target = target.join("blobs").join(digits);
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, &pointer)?;
        #[cfg(windows)]
        if std::os::windows::fs::symlink_file(target, &pointer).is_err() {
            std::fs::hard_link(blob, &pointer)?;
        }
        Ok(())
    };
    create().with_context(|| pointer.display().to_string())
}

/// One repository of one hub.
struct Client<'h> {
    hub: &'h Hub,
    repository: &'h Repository,
    agent: Agent,
}

impl<'h> Client<'h> {
    fn new(hub: &'h Hub, repository: &'h Repository) -> Client<'h> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("ragq/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Client {
            hub,
            repository,
            agent,
        }
    }

    fn listing_url(&self) -> String {
        format!(
            "{}/api/models/{}/revision/main?blobs=true",
            self.hub.endpoint, self.repository.name
        )
    }

    fn listing(&self) -> Result<Listing> {
        let url = self.listing_url();
        let mut response = self.get(&url, None)?;
        self.check(&response, &url, &self.repository.name)?;
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| self.failure(&url, &error))?;
        Ok(
            serde_json::from_str(&text).map_err(|error| HubError::NotAHub {
                url,
                cause: error.to_string(),
            })?,
        )
    }

    fn get(&self, url: &str, from_byte: Option<u64>) -> Result<Response<ureq::Body>, HubError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from_byte) = from_byte {
            request = request
                .header("Range", format!("bytes={from_byte}-"))
                // A packed body has other offsets than the file.
                .header("Accept-Encoding", "identity");
        }
        request.call().map_err(|error| self.failure(url, &error))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is not exhaustive; what is not about redirects is about the connection"
    )]
    fn failure(&self, url: &str, error: &ureq::Error) -> HubError {
        match error {
            ureq::Error::TooManyRedirects
            | ureq::Error::RedirectFailed
            | ureq::Error::BadUri(_) => HubError::Redirect {
                url: url.to_string(),
                cause: error.to_string(),
            },
            _ => HubError::Unreachable {
                endpoint: self.hub.endpoint.clone(),
                cause: error.to_string(),
            },
        }
    }

    /// Turns a status that is not a success into its error; `name` is what was asked for.
    fn check(
        &self,
        response: &Response<ureq::Body>,
        url: &str,
        name: &str,
    ) -> Result<(), HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => HubError::Refused {
                name: self.repository.name.clone(),
                status: status.as_u16(),
                page: format!("{}/{}", self.hub.endpoint, self.repository.name),
            },
            StatusCode::NOT_FOUND => HubError::NotFound {
                name: name.to_string(),
            },
            StatusCode::TOO_MANY_REQUESTS => HubError::TooManyRequests {
                endpoint: self.hub.endpoint.clone(),
                wait_seconds: response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok()),
            },
            _ => HubError::Status {
                url: url.to_string(),
                status: status.as_u16(),
            },
        })
    }

    /// Brings one file to `blob`, unless it is there.
    fn fetch(
        &self,
        file: &Remote,
        commit: &str,
        blob: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let part = blob.with_extension("part");
        let folder = blob.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        // Held until this function ends: another pull of the same content waits here, then finds it.
        let lock = open_for_writing(&blob.with_extension("lock"))?;
        lock.lock()
            .with_context(|| format!("{}: cannot be locked", blob.display()))?;
        let is_here = std::fs::metadata(blob).is_ok_and(|found| found.len() == file.n_bytes);
        if !is_here {
            let mut to = open_for_writing(&part)?;
            self.fetch_all(file, commit, &mut to, on_bytes)?;
            to.sync_all().with_context(|| part.display().to_string())?;
            let found = file.checksum.of_file(&part)?;
            if found != file.checksum.digits() {
                std::fs::remove_file(&part).with_context(|| part.display().to_string())?;
                return Err(HubError::WrongChecksum {
                    file: file.name.clone(),
                    expected: file.checksum.digits().to_string(),
                    found,
                }
                .into());
            }
            std::fs::rename(&part, blob).with_context(|| blob.display().to_string())?;
            fs::sync_folder(folder).with_context(|| folder.display().to_string())?;
        }
        // Its removal is tidiness only, so a failure does not matter.
        let _ = std::fs::remove_file(blob.with_extension("lock"));
        Ok(())
    }

    /// Fills `to` up to the file's length, going on after a cut.
    fn fetch_all(
        &self,
        file: &Remote,
        commit: &str,
        to: &mut File,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let url = format!(
            "{}/{}/resolve/{commit}/{}",
            self.hub.endpoint, self.repository.name, file.name
        );
        let mut got_bytes = to.metadata()?.len();
        if got_bytes > file.n_bytes {
            to.set_len(0)?;
            got_bytes = 0;
        }
        let mut n_cuts = 0;
        while got_bytes < file.n_bytes {
            let start = got_bytes;
            got_bytes = self.fetch_from(file, &url, to, start, on_bytes)?;
            if got_bytes < file.n_bytes {
                n_cuts += 1;
                if got_bytes <= start || n_cuts > MAX_CUTS {
                    return Err(HubError::Cut {
                        file: file.name.clone(),
                        got_bytes,
                        n_bytes: file.n_bytes,
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// One request: writes what comes from `start` on, and returns how many bytes the file now has.
    fn fetch_from(
        &self,
        file: &Remote,
        url: &str,
        to: &mut File,
        start: u64,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let mut response = self.get(url, Some(start))?;
        self.check(
            &response,
            url,
            &format!("{}/{}", self.repository.name, file.name),
        )?;
        let expected = format!("bytes {start}-");
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|range| range.starts_with(&expected));
        // A server that ignores the range sends the file from its beginning.
        let mut got_bytes = if goes_on { start } else { 0 };
        to.set_len(got_bytes)?;
        to.seek(SeekFrom::Start(got_bytes))?;
        let mut body = response.body_mut().as_reader();
        let mut block = vec![0u8; 1 << 16];
        loop {
            // A failed read is a cut like a missing rest: the caller goes on from here.
            let n_bytes = body.read(&mut block).unwrap_or(0);
            if n_bytes == 0 {
                return Ok(got_bytes);
            }
            to.write_all(&block[..n_bytes])
                .with_context(|| format!("{}: cannot be written", file.name))?;
            got_bytes += n_bytes as u64;
            if got_bytes > file.n_bytes {
                return Err(HubError::NotAHub {
                    url: url.to_string(),
                    cause: format!("more than the {} bytes announced", file.n_bytes),
                }
                .into());
            }
            on_bytes(got_bytes);
        }
    }
}

fn open_for_writing(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| path.display().to_string())
}
