//! Bringing models here: a server on this machine plays the hub, with everything that goes wrong on real networks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ragq::hub::catalog::Role;
use ragq::hub::{FileState, Hub, HubError, Located, Progress};
use sha2::{Digest, Sha256};

/// What the server does wrong.
#[derive(Clone, Default)]
struct Faults {
    /// Answers everything with this status.
    status: Option<u16>,
    /// Ends the connection after so many bytes of a file.
    cut_after: Option<usize>,
    /// Sends whole files whatever range is asked for.
    ignores_ranges: bool,
    /// Flips a byte of this file.
    damages: Option<&'static str>,
    /// Sends to another place: `Some("")` to where the files are, else to this address.
    redirects: Option<&'static str>,
    /// Answers the listing with this text.
    listing: Option<&'static str>,
}

/// A hub on this machine with one repository, `org/model`.
struct Server {
    endpoint: String,
    faults: Arc<Mutex<Faults>>,
    requests: Arc<Mutex<Vec<String>>>,
}

type Files = BTreeMap<String, Vec<u8>>;

/// The tiny embedder of the fixtures, as a repository.
fn repository() -> Files {
    let folder = Path::new("fixtures/models/tiny-xlm-roberta");
    let mut files = Files::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = entry
                .path()
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_string();
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    files.insert("onnx/model.onnx".to_string(), b"not wanted".to_vec());
    files
}

impl Server {
    fn start(files: Files) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let faults = Arc::new(Mutex::new(Faults::default()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared_faults, shared_requests) = (Arc::clone(&faults), Arc::clone(&requests));
        let files = Arc::new(files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let faults = shared_faults.lock().unwrap().clone();
                let (files, requests) = (Arc::clone(&files), Arc::clone(&shared_requests));
                std::thread::spawn(move || answer(stream, &files, &faults, &requests));
            }
        });
        Server {
            endpoint,
            faults,
            requests,
        }
    }

    fn with(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    fn hub(&self, cache: &Path) -> Hub {
        Hub {
            cache: cache.to_path_buf(),
            endpoint: self.endpoint.clone(),
            token: Some("secret".to_string()),
            offline: false,
        }
    }

    /// Request lines since the last call, each with its range and whether it carried the token.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Reads one request and answers it.
fn answer(stream: TcpStream, files: &Files, faults: &Faults, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut range, mut token) = (String::new(), None, false);
    reader.read_line(&mut first).unwrap_or(0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        let line = line.trim().to_lowercase();
        token |= line == "authorization: bearer secret";
        if let Some(start) = line.strip_prefix("range: bytes=") {
            range = start.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    requests
        .lock()
        .unwrap()
        .push(format!("{path} from {range:?} token {token}"));
    let mut out = reader.into_inner();
    let mut send = |status: &str, headers: &str, body: &[u8], n_sent: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        );
        let _ = out.write_all(head.as_bytes());
        let _ = out.write_all(&body[..n_sent.min(body.len())]);
    };
    if let Some(status) = faults.status {
        return send(&format!("{status} no"), "Retry-After: 7\r\n", b"", 0);
    }
    if path.starts_with("/api/") {
        let listing = faults
            .listing
            .map_or_else(|| listing(files), ToString::to_string);
        return send("200 OK", "", listing.as_bytes(), usize::MAX);
    }
    let redirected = path.starts_with("/cdn/");
    if let Some(target) = faults.redirects.filter(|_| !redirected) {
        let target = if target.is_empty() {
            format!("/cdn{path}")
        } else {
            target.to_string()
        };
        return send("302 Found", &format!("Location: {target}\r\n"), b"", 0);
    }
    let name = path.split("/resolve/0123abcd/").nth(1).unwrap_or_default();
    let Some(content) = files.get(name) else {
        return send("404 no", "", b"", 0);
    };
    let mut content = content.clone();
    if faults.damages == Some(name) {
        content[7] ^= 1;
    }
    let n_sent = faults.cut_after.unwrap_or(usize::MAX);
    match range.filter(|_| !faults.ignores_ranges) {
        Some(start) => {
            let headers = format!(
                "Content-Range: bytes {start}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            );
            send("206 Partial Content", &headers, &content[start..], n_sent);
        }
        None => send("200 OK", "", &content, n_sent),
    }
}

/// What a hub answers: large files with their SHA-256, small ones with git's checksum.
fn listing(files: &Files) -> String {
    let siblings: Vec<serde_json::Value> = files
        .iter()
        .map(|(name, content)| {
            let git = {
                let mut digest = sha1::Sha1::new();
                digest.update(format!("blob {}\0", content.len()));
                digest.update(content);
                hex(&digest.finalize())
            };
            let mut sibling = serde_json::json!({"rfilename": name, "size": content.len(), "blobId": git});
            if content.len() > 5000 {
                let sha256 = hex(&Sha256::digest(content));
                sibling["lfs"] = serde_json::json!({"sha256": sha256, "size": content.len(), "pointerSize": 133});
            }
            sibling
        })
        .collect();
    serde_json::json!({"id": "org/model", "sha": "0123abcd", "siblings": siblings}).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pull(hub: &Hub) -> anyhow::Result<Located> {
    hub.pull("org/model", Role::Embedder, &mut |_| {})
}

/// Pulls and expects this failure, with these words in its message and its hint.
fn fails(hub: &Hub, words: &str, hint: &str) {
    let error = pull(hub).unwrap_err();
    let error = error
        .downcast_ref::<HubError>()
        .unwrap_or_else(|| panic!("{error:#}"));
    assert!(
        error.to_string().contains(words),
        "expected {words}: {error}"
    );
    let found = error.hint().unwrap_or_default();
    assert!(found.contains(hint), "expected {hint}: {found}");
}

#[test]
fn a_pulled_model_lies_in_the_shared_cache_and_is_found_without_the_network() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let missing = hub.locate("org/model", Role::Embedder).unwrap_err();
    assert_eq!(missing.hint().unwrap(), "ragq models pull org/model");

    let (mut steps, mut seen) = (Vec::new(), BTreeSet::new());
    let mut on_progress = |progress: Progress<'_>| {
        steps.push((progress.got_bytes, progress.n_bytes));
        seen.insert(progress.file.to_string());
    };
    let pulled = hub
        .pull("org/model", Role::Embedder, &mut on_progress)
        .unwrap();
    let (got, n_bytes) = *steps.last().unwrap();
    assert_eq!(got, n_bytes);
    assert!(
        steps.is_sorted() && seen.contains("model.safetensors"),
        "{seen:?}"
    );
    assert!(!pulled.path.join("onnx").exists());
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.ends_with("token true"))
    );

    let offline = Hub {
        endpoint: "http://127.0.0.1:1".to_string(),
        offline: true,
        ..hub.clone()
    };
    assert_eq!(offline.locate("org/model", Role::Embedder).unwrap(), pulled);
    let link = std::fs::read_link(pulled.path.join("1_Pooling/config.json")).unwrap();
    assert!(link.starts_with("../../../blobs"), "{}", link.display());

    pull(&hub).unwrap();
    let requests = server.requests();
    assert_eq!(
        requests.len(),
        1,
        "a second pull only asks what there is: {requests:?}"
    );

    let embedder =
        ragq::embedding::load_folder(&pulled.path, &pulled.name, None, &Default::default())
            .unwrap();
    assert_eq!(embedder.embed_query("휴직").unwrap().len(), 32);
}

#[test]
fn each_failure_says_what_is_wrong_and_what_to_do() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let check = |faults: Faults, words: &str, hint: &str| {
        let empty = tempfile::tempdir().unwrap();
        let hub = server.hub(empty.path());
        server.with(faults);
        fails(&hub, words, hint);
        assert!(
            hub.locate("org/model", Role::Embedder).is_err(),
            "a failed pull is found"
        );
    };
    let status = |status: u16| Faults {
        status: Some(status),
        ..Faults::default()
    };
    check(
        status(401),
        "org/model: the hub refuses it (401)",
        "HF_TOKEN",
    );
    check(
        status(403),
        "org/model: the hub refuses it (403)",
        "ask for access",
    );
    check(
        status(404),
        "org/model: the hub does not have it",
        "spelling",
    );
    check(
        status(429),
        "too many requests (429): asks to wait 7 s",
        "wait",
    );
    check(status(500), "answers with status 500", "");
    let damaged = Faults {
        damages: Some("model.safetensors"),
        ..Faults::default()
    };
    check(
        damaged,
        "model.safetensors: wrong checksum: expected",
        "anew",
    );
    let damaged = Faults {
        damages: Some("config.json"),
        ..Faults::default()
    };
    check(damaged, "config.json: wrong checksum: expected", "anew");
    let lost = Faults {
        redirects: Some("http://[nowhere"),
        ..Faults::default()
    };
    check(lost, "redirected to nowhere", "");
    let page = Faults {
        listing: Some("<html>Please log in to the company network</html>"),
        ..Faults::default()
    };
    check(page, "the answer is not a model hub's", "proxy");
    let climbing = Faults {
        listing: Some(
            r#"{"sha":"0123abcd","siblings":[{"rfilename":"1_x/../../../evil.json","size":1,"blobId":"x"}]}"#,
        ),
        ..Faults::default()
    };
    server.with(climbing);
    assert!(pull(&hub).is_err());
    assert!(!cache.path().join("evil.json").exists());

    server.with(Faults::default());
    let unreachable = Hub {
        endpoint: "http://127.0.0.1:1".to_string(),
        ..hub.clone()
    };
    fails(
        &unreachable,
        "http://127.0.0.1:1: cannot be reached",
        "HF_ENDPOINT",
    );
    let offline = Hub {
        offline: true,
        ..hub.clone()
    };
    fails(
        &offline,
        "the network is switched off",
        "ragq models export",
    );
    pull(&hub).expect("after all that a pull works");
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    server.with(Faults {
        cut_after: Some(10_000),
        ..Faults::default()
    });
    fails(
        &hub,
        "model.safetensors: the connection ended after 60000 of",
        "goes on where it stopped",
    );
    server.requests();
    server.with(Faults::default());
    let pulled = pull(&hub).unwrap();
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("model.safetensors from Some(60000)")),
        "{requests:?}"
    );
    let expected = std::fs::read("fixtures/models/tiny-xlm-roberta/model.safetensors").unwrap();
    assert!(std::fs::read(pulled.path.join("model.safetensors")).unwrap() == expected);
}

#[test]
fn a_server_that_ignores_ranges_does_not_spoil_the_file() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    server.with(Faults {
        cut_after: Some(20_000),
        ..Faults::default()
    });
    fails(&hub, "the connection ended", "");
    server.with(Faults {
        ignores_ranges: true,
        ..Faults::default()
    });
    let pulled = pull(&hub).unwrap();
    let expected = std::fs::read("fixtures/models/tiny-xlm-roberta/model.safetensors").unwrap();
    assert!(std::fs::read(pulled.path.join("model.safetensors")).unwrap() == expected);
}

#[test]
fn a_redirect_is_followed() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    server.with(Faults {
        redirects: Some(""),
        ..Faults::default()
    });
    pull(&server.hub(cache.path())).unwrap();
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.starts_with("/cdn/"))
    );
}

#[test]
fn the_token_goes_to_no_other_host() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let other = Server::start(repository());
    // Another name for this machine is another host to a client.
    let elsewhere = other.endpoint.replace("127.0.0.1", "localhost");
    server.with(Faults {
        redirects: Some(Box::leak(
            format!("{elsewhere}/cdn/org/model/resolve/0123abcd/config.json").into_boxed_str(),
        )),
        ..Faults::default()
    });
    let _ = pull(&server.hub(cache.path()));
    let requests = other.requests();
    assert!(
        !requests.is_empty()
            && requests
                .iter()
                .all(|request| request.ends_with("token false")),
        "{requests:?}"
    );
}

#[test]
fn damage_is_found_and_an_export_works_without_a_cache() {
    let (server, cache) = (Server::start(repository()), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let pulled = pull(&hub).unwrap();
    let states = |reference: &str| -> BTreeMap<String, FileState> {
        let verified = hub.verify(reference, Role::Embedder).unwrap();
        verified
            .into_iter()
            .map(|file| (file.file, file.state))
            .collect()
    };
    let intact = states("org/model");
    assert!(
        intact.len() >= 7 && intact.values().all(|state| *state == FileState::Intact),
        "{intact:?}"
    );

    let target = tempfile::tempdir().unwrap();
    let folder = target.path().join("model");
    let written = hub.export("org/model", Role::Embedder, &folder).unwrap();
    assert_eq!(
        written.len(),
        intact.len() + 1,
        "every file and the list of checksums: {written:?}"
    );
    assert!(
        folder
            .join("model.safetensors")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    let exported = folder.to_str().unwrap();
    assert!(
        states(exported)
            .values()
            .all(|state| *state == FileState::Intact)
    );
    ragq::embedding::load_folder(&folder, exported, None, &Default::default()).unwrap();

    for path in [
        pulled.path.join("model.safetensors"),
        folder.join("model.safetensors"),
    ] {
        let real = std::fs::canonicalize(path).unwrap();
        let mut content = Vec::new();
        std::fs::File::open(&real)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        content[1000] ^= 1;
        std::fs::write(&real, content).unwrap();
    }
    std::fs::remove_file(folder.join("config.json")).unwrap();
    for reference in ["org/model", exported] {
        let state = &states(reference)["model.safetensors"];
        assert!(
            matches!(state, FileState::Damaged { .. }),
            "{reference}: {state:?}"
        );
    }
    assert_eq!(states(exported)["config.json"], FileState::Missing);
}

#[test]
fn an_export_carries_the_published_prefixes() {
    let files = repository();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub {
        cache: cache.path().to_path_buf(),
        endpoint: String::new(),
        token: None,
        offline: true,
    };
    let root = cache.path().join("models--intfloat--multilingual-e5-small");
    for (name, content) in files {
        let path = root.join("snapshots/abc").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::write(root.join("refs/main"), "abc").unwrap();
    let located = hub.locate("multilingual-e5-small", Role::Embedder).unwrap();
    assert_eq!(located.prefixes.as_ref().unwrap().query, "query: ");

    let target = tempfile::tempdir().unwrap();
    hub.export("multilingual-e5-small", Role::Embedder, target.path())
        .unwrap();
    let options = Default::default();
    let from_cache =
        ragq::embedding::load_folder(&located.path, "m", located.prefixes.as_ref(), &options)
            .unwrap();
    let exported = ragq::embedding::load_folder(target.path(), "m", None, &options).unwrap();
    assert_eq!(exported.id(), from_cache.id());
    assert_eq!(
        exported.embed_query("휴직").unwrap(),
        from_cache.embed_query("휴직").unwrap()
    );
}
