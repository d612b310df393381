//! The index survives what happens to real machines: processes killed at any instant, full disks, read-only folders,
//! two writers at once. Damage to single cache files and exits between the steps of publishing are unit tests of
//! `index`.
//!
//! `fixtures/indexes/v1` is an index of the first format, made by these tests with `RAGQ_TEST_MAKE_FIXTURE=1`; it is
//! kept as it is for ever, and every later program must read it or say why not.
//!
//! The processes that are killed are this test binary, started again with `RAGQ_TEST_ROLE`. By default there are a few
//! rounds, enough to notice a mistake; `RAGQ_TEST_ROUNDS=300` makes it a proof.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ragq::chunk::Chunk;
use ragq::document::Location;
use ragq::embedding::EmbedderId;
use ragq::index::{
    CacheState, FileRecord, FileState, IndexError, NewChunk, Reader, Writer, lexical,
};

const DIMENSION: usize = 16;
const CHUNKS_PER_FILE: usize = 40;
const FILES: u64 = 30;

fn embedder() -> EmbedderId {
    EmbedderId {
        name: "test".to_owned(),
        fingerprint: "test".to_owned(),
        dimension: DIMENSION,
    }
}

/// A generator of numbers that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A unit vector that depends on the text alone.
fn embed(text: &str) -> Vec<f32> {
    let seed = text.bytes().fold(7_u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = Random(seed);
    let vector: Vec<f32> = (0..DIMENSION)
        .map(|_| f32::from(u16::try_from(random.below(2001)).unwrap()) - 1000.0)
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

/// What version `version` of file `number` says, and nothing else does.
fn text_of(number: u64, version: u64, i: usize) -> String {
    format!("파일 {number}호 판본 {version}판 문장 {i}절")
}

fn put(writer: &mut Writer, folder: &Path, number: u64, version: u64) -> anyhow::Result<()> {
    let chunks: Vec<NewChunk> = (0..CHUNKS_PER_FILE)
        .map(|i| {
            let chunk = Chunk {
                text: text_of(number, version, i),
                path: vec![format!("제{number}장")],
                location: Location::default(),
            };
            let embedding = Some(embed(&chunk.embedded_text()));
            NewChunk { chunk, embedding }
        })
        .collect();
    writer.replace(&record(folder, number, version), &chunks)
}

fn record(folder: &Path, number: u64, version: u64) -> FileRecord {
    FileRecord {
        path: folder.join(format!("{number}.txt")),
        source: format!("{number}.txt"),
        content_hash: version.to_string(),
        n_bytes: 1,
        modified_ns: 0,
        pipeline: 1,
        state: FileState::Read {
            title: None,
            warnings: Vec::new(),
        },
    }
}

/// Every file is there whole, in one version, and both legs of the search find its sentences.
fn check_consistent(folder: &Path, index: &Path) -> Vec<(u64, u64)> {
    let reader = Reader::open(index).unwrap();
    let mut versions = Vec::new();
    let files = reader.files().unwrap();
    for file in &files {
        assert!(file.path.starts_with(folder), "{}", file.path.display());
        let number: u64 = file.source.trim_end_matches(".txt").parse().unwrap();
        let version: u64 = file.content_hash.parse().unwrap();
        versions.push((number, version));
    }
    assert_eq!(
        reader.status().unwrap().n_chunks,
        u64::try_from(files.len() * CHUNKS_PER_FILE).unwrap()
    );
    for &(number, version) in versions.iter().take(6) {
        let text = text_of(number, version, 3);
        let embedded = format!("제{number}장\n{text}");
        let nearest = reader.nearest(&embed(&embedded), 1).unwrap();
        let found = reader.chunks(&[nearest[0].id]).unwrap().remove(0);
        assert_eq!(found.chunk.text, text, "nearest");
        assert_eq!(reader.section_of(found.id).unwrap().len(), CHUNKS_PER_FILE);
        let found = reader.lexical(&lexical::terms(&text), 1).unwrap();
        let found = reader.chunks(&[found[0].id]).unwrap().remove(0);
        assert_eq!(found.chunk.text, text, "lexical");
    }
    versions.sort_unstable();
    versions
}

fn start(role: &str, folder: &Path, seed: u64) -> Child {
    role_command(role, folder, seed).spawn().unwrap()
}

fn role_command(role: &str, folder: &Path, seed: u64) -> Command {
    role_command_of(&std::env::current_exe().unwrap(), role, folder, seed)
}

fn role_command_of(program: &Path, role: &str, folder: &Path, seed: u64) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("RAGQ_TEST_ROLE", role)
        .env("RAGQ_TEST_FOLDER", folder)
        .env("RAGQ_TEST_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Not a test by itself: what the processes started by the tests do.
#[test]
fn child() {
    let Ok(role) = std::env::var("RAGQ_TEST_ROLE") else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os("RAGQ_TEST_FOLDER").unwrap());
    let mut random = Random(std::env::var("RAGQ_TEST_SEED").unwrap().parse().unwrap());
    let index = folder.join(".ragq");
    match role.as_str() {
        // Puts files in, publishes now and then, and says what is done.
        "write" => {
            let mut writer = Writer::open(&index, &embedder()).unwrap();
            for round in 0.. {
                let (number, version) = (random.below(FILES), random.below(1 << 30));
                if random.below(10) == 0 {
                    say(&format!("removing {number} 0"));
                    writer
                        .remove(&folder.join(format!("{number}.txt")))
                        .unwrap();
                    say(&format!("removed {number} 0"));
                } else {
                    say(&format!("putting {number} {version}"));
                    put(&mut writer, &folder, number, version).unwrap();
                    say(&format!("put {number} {version}"));
                }
                if round % 7 == 6 {
                    writer.publish().unwrap();
                }
            }
        }
        // Asks until it is killed; any inconsistency is a panic.
        "read" => loop {
            check_consistent(&folder, &index);
            say("read");
        },
        // In a folder where nothing can be written.
        "read-only" => {
            assert!(std::fs::File::create(index.join("probe")).is_err());
            assert_eq!(check_consistent(&folder, &index).len(), 30);
            let error = Writer::open(&index, &embedder()).unwrap_err();
            assert!(format!("{error:#}").contains("denied"), "{error:#}");
            say("refused");
        }
        other => panic!("no role {other}"),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n@{line}").unwrap();
    out.flush().unwrap();
}

/// What a process said until it ended, and whether it panicked.
fn lines(mut child: Child) -> (Vec<String>, String) {
    let out = BufReader::new(child.stdout.take().unwrap());
    let said = out
        .lines()
        .filter_map(|line| line.unwrap().strip_prefix('@').map(str::to_owned))
        .collect();
    let error = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    child.wait().unwrap();
    (said, error)
}

fn rounds(by_default: u64) -> u64 {
    std::env::var("RAGQ_TEST_ROUNDS").map_or(by_default, |rounds| rounds.parse().unwrap())
}

#[test]
fn a_writer_killed_at_any_instant_loses_nothing_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    let index = folder.join(".ragq");
    drop(Writer::open(&index, &embedder()).unwrap());
    let mut random = Random(20_261_122);
    let mut expected: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    let (mut n_acknowledged, mut n_reads) = (0, 0);
    for round in 0..rounds(6) {
        let mut reader = start("read", &folder, 0);
        let mut writer = start("write", &folder, round);
        std::thread::sleep(Duration::from_millis(100 + random.below(700)));
        writer.kill().unwrap();
        reader.kill().unwrap();
        let (read, error) = lines(reader);
        assert!(
            !error.contains("panicked"),
            "round {round}: a reader saw\n{error}"
        );
        n_reads += read.len();
        let (said, error) = lines(writer);
        assert!(
            !error.contains("panicked"),
            "round {round}: the writer met\n{error}"
        );
        let mut under_way = None;
        for line in &said {
            let words: Vec<&str> = line.split(' ').collect();
            let (number, version) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            match words[0] {
                "put" => {
                    expected.insert(number, version);
                    n_acknowledged += 1;
                    under_way = None;
                }
                "removed" => {
                    expected.remove(&number);
                    n_acknowledged += 1;
                    under_way = None;
                }
                what => under_way = Some((what == "putting", number, version)),
            }
        }
        let found: std::collections::BTreeMap<u64, u64> =
            check_consistent(&folder, &index).into_iter().collect();
        if found != expected {
            // The change that was under way may have become durable before it could be acknowledged.
            match under_way {
                Some((true, number, version)) => expected.insert(number, version),
                Some((false, number, _)) => expected.remove(&number),
                None => None,
            };
        }
        assert_eq!(
            found, expected,
            "round {round}, {under_way:?} was under way"
        );
    }
    println!("{n_acknowledged} acknowledged changes, {n_reads} consistent reads");
    assert!(n_acknowledged > 0, "nothing was ever acknowledged");
    let mut writer = Writer::open(&index, &embedder()).unwrap();
    writer.publish().unwrap();
    assert_eq!(Reader::open(&index).unwrap().check().unwrap(), [""; 0]);
}

#[test]
fn of_two_writers_the_second_is_told_who_the_first_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    let mut first = start("write", &folder, 1);
    let started = Instant::now();
    let error = loop {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the first never took the lock"
        );
        std::thread::sleep(Duration::from_millis(50));
        if !folder.join(".ragq/index.sqlite").exists() {
            continue;
        }
        match Writer::open(&folder.join(".ragq"), &embedder()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let pid = Some(first.id());
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(
        error.downcast_ref(),
        Some(&IndexError::Locked {
            folder: folder.join(".ragq"),
            pid
        }),
        "{error:#}"
    );
    // The lock ended with its holder.
    Writer::open(&folder.join(".ragq"), &embedder()).unwrap();
}

#[test]
fn replacing_removing_and_adding_again_equals_a_fresh_index() {
    let (lived, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lived_folder = lived.path().canonicalize().unwrap();
    let fresh_folder = fresh.path().canonicalize().unwrap();
    let mut writer = Writer::open(&lived_folder.join(".ragq"), &embedder()).unwrap();
    for version in 0..4 {
        for number in 0..FILES {
            put(&mut writer, &lived_folder, number, version).unwrap();
        }
        writer.publish().unwrap();
        for number in (0..FILES).step_by(3) {
            writer
                .remove(&lived_folder.join(format!("{number}.txt")))
                .unwrap();
        }
    }
    for number in (0..FILES).rev() {
        put(&mut writer, &lived_folder, number, 9).unwrap();
    }
    writer.publish().unwrap();
    let mut writer = Writer::open(&fresh_folder.join(".ragq"), &embedder()).unwrap();
    for number in 0..FILES {
        put(&mut writer, &fresh_folder, number, 9).unwrap();
    }
    writer.publish().unwrap();

    let answers = |folder: &Path| -> Vec<(String, String)> {
        let reader = Reader::open(&folder.join(".ragq")).unwrap();
        let mut answers = Vec::new();
        for number in 0..FILES {
            let question = text_of(number, 9, 5);
            let nearest = reader.nearest(&embed(&question), 5).unwrap();
            let lexical = reader.lexical(&lexical::terms(&question), 1).unwrap();
            for found in nearest.iter().chain(&lexical) {
                let chunk = reader.chunks(&[found.id]).unwrap().remove(0);
                answers.push((chunk.chunk.text, format!("{:.4}", found.similarity)));
            }
        }
        answers
    };
    assert_eq!(answers(&lived_folder), answers(&fresh_folder));
    let frequencies = |folder: &Path| {
        let reader = Reader::open(&folder.join(".ragq")).unwrap();
        reader
            .document_frequencies(&["판본".to_owned(), "9판".to_owned(), "파일".to_owned()])
            .unwrap()
    };
    assert_eq!(frequencies(&lived_folder), frequencies(&fresh_folder));
}

#[test]
fn an_index_of_the_first_format_is_read() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/indexes/v1");
    if std::env::var_os("RAGQ_TEST_MAKE_FIXTURE").is_some() {
        let folder = kept.parent().unwrap().canonicalize().unwrap();
        let mut writer = Writer::open(&kept, &embedder()).unwrap();
        for number in 0..13 {
            put(&mut writer, &folder, number, 1).unwrap();
        }
        writer.publish().unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    let index = folder.join("v1");
    std::fs::create_dir(&index).unwrap();
    for entry in kept.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, index.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(check_consistent(&folder, &index).len(), 13);
    let mut reader = Reader::open(&index).unwrap();
    let caches = reader.status().unwrap().caches;
    let used = CacheState::Used { n_newer: 0 };
    assert_eq!(
        caches,
        [
            ("vectors", used),
            ("graph", CacheState::None),
            ("terms", used)
        ]
    );
    assert_eq!(reader.check().unwrap(), [""; 0]);
    drop(reader);
    let mut writer = Writer::open(&index, &embedder()).unwrap();
    put(&mut writer, &folder, 3, 2).unwrap();
    writer.publish().unwrap();
    assert!(check_consistent(&folder, &index).contains(&(3, 2)));
}

/// An index of so many documents with its caches → the documents' folder and the index's.
fn published(root: &Path, n_files: u64) -> (PathBuf, PathBuf) {
    let folder = root.canonicalize().unwrap();
    let index = folder.join(".ragq");
    let mut writer = Writer::open(&index, &embedder()).unwrap();
    for number in 0..n_files {
        put(&mut writer, &folder, number, 1).unwrap();
    }
    writer.publish().unwrap();
    (folder, index)
}

#[test]
#[cfg(unix)]
fn an_index_in_a_read_only_folder_answers_and_refuses_changes() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let (folder, index) = published(root.path(), FILES);
    let set_mode = |folder_mode: u32, file_mode: u32| {
        for entry in index.read_dir().unwrap() {
            let permissions = std::fs::Permissions::from_mode(file_mode);
            std::fs::set_permissions(entry.unwrap().path(), permissions).unwrap();
        }
        std::fs::set_permissions(&index, std::fs::Permissions::from_mode(folder_mode)).unwrap();
    };
    set_mode(0o555, 0o444);
    let (said, error) = lines(start_unprivileged("read-only", &folder));
    set_mode(0o755, 0o644);
    assert_eq!(said, ["refused"], "{error}");
}

/// As [`start`], but never as root, who may write everywhere.
#[cfg(unix)]
fn start_unprivileged(role: &str, folder: &Path) -> Child {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let mut command = role_command(role, folder, 0);
    if folder.metadata().unwrap().uid() == 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        // The folder that this program stands in may be closed to others.
        let program = folder.join("durability");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        command = role_command_of(&program, role, folder, 0);
        command.uid(NOBODY).gid(NOBODY).current_dir(folder);
    }
    command.spawn().unwrap()
}

/// A small file system of its own would need privileges; a limit on file size gives the same error at the same calls.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_the_old_answers_stay() {
    let root = tempfile::tempdir().unwrap();
    let (folder, index) = published(root.path(), 5);
    // Limits at which the log, the database and a cache are the first that cannot be written.
    for n_kibibytes in [32, 128, 256, 700, 1500] {
        // `trap` keeps the signal that goes with the limit from ending the process, so that writing fails with an error.
        let limited = Command::new("bash")
            .arg("-c")
            .arg(format!(
                "trap '' XFSZ; ulimit -f {n_kibibytes}; exec \"$0\" --exact child --nocapture"
            ))
            .arg(std::env::current_exe().unwrap())
            .env("RAGQ_TEST_ROLE", "write")
            .env("RAGQ_TEST_FOLDER", &folder)
            .env("RAGQ_TEST_SEED", "3")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&limited.stderr).into_owned()
            + &String::from_utf8_lossy(&limited.stdout);
        assert!(!limited.status.success(), "{n_kibibytes} KiB: {said}");
        assert!(
            said.contains("panicked")
                && (said.contains("full") || said.contains("large") || said.contains("I/O")),
            "{n_kibibytes} KiB: {said}"
        );
        assert!(!check_consistent(&folder, &index).is_empty());
    }
    let mut writer = Writer::open(&index, &embedder()).unwrap();
    put(&mut writer, &folder, 7, 7).unwrap();
    writer.publish().unwrap();
    assert!(check_consistent(&folder, &index).contains(&(7, 7)));
}

/// A published index with changes in the log that are not yet in the database file, as after a crash.
fn crashed_index(folder: &Path) -> PathBuf {
    let index = folder.join(".ragq");
    let mut writer = Writer::open(&index, &embedder()).unwrap();
    for number in 0..20 {
        put(&mut writer, folder, number, 1).unwrap();
    }
    writer.publish().unwrap();
    let copy = folder.join("crashed");
    std::fs::create_dir(&copy).unwrap();
    for number in 20..FILES {
        put(&mut writer, folder, number, 1).unwrap();
    }
    for entry in index.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Replaces a file without syncing it, since there are many to replace.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn bytes_of(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::open(path).unwrap(), &mut bytes).unwrap();
    bytes
}

/// What a person does with an index: asks it, asks what is in it, has it checked. Says whether anything was found wrong.
fn use_all(index: &Path) -> anyhow::Result<bool> {
    let mut reader = Reader::open(index)?;
    let problems = reader.check()?;
    for number in 0..FILES {
        let text = text_of(number, 1, 3);
        let mut found = reader.nearest(&embed(&text), 3)?;
        found.extend(reader.lexical(&lexical::terms(&text), 3)?);
        for found in found {
            reader.chunks(&[found.id])?;
            reader.section_of(found.id)?;
        }
    }
    reader.files()?;
    Ok(problems.is_empty())
}

#[test]
fn a_log_cut_anywhere_leaves_the_documents_that_were_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    let index = crashed_index(&folder);
    let log = index.join("index.sqlite-wal");
    let whole = bytes_of(&log);
    assert!(whole.len() > 100_000, "{} bytes", whole.len());
    let database = bytes_of(&index.join("index.sqlite"));
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..24 {
        overwrite(&index.join("index.sqlite"), &database);
        // A crash of the machine takes the shared memory with it; SQLite makes it again from the log.
        std::fs::remove_file(index.join("index.sqlite-shm")).ok();
        overwrite(&log, &whole[..whole.len() * step / 24]);
        let n_files = check_consistent(&folder, &index).len();
        assert!((20..30).contains(&n_files), "{n_files} files");
        seen.insert(n_files);
    }
    assert!(seen.len() > 4, "the cuts never hit a document: {seen:?}");
}

#[test]
fn a_damaged_database_is_said_or_harmless_but_never_a_panic() {
    let root = tempfile::tempdir().unwrap();
    let (folder, index) = published(root.path(), FILES);
    let database = index.join("index.sqlite");
    let files: Vec<PathBuf> = index
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let files: Vec<(PathBuf, Vec<u8>)> = files
        .into_iter()
        .map(|path| (path.clone(), bytes_of(&path)))
        .collect();
    let restore = || {
        std::fs::remove_dir_all(&index).unwrap();
        std::fs::create_dir(&index).unwrap();
        files
            .iter()
            .for_each(|(path, bytes)| overwrite(path, bytes));
    };
    let whole = bytes_of(&database);
    assert!(use_all(&index).unwrap());
    for step in 0..10 {
        overwrite(&database, &whole[..whole.len() * step / 10]);
        let outcome = use_all(&index);
        assert!(
            !matches!(outcome, Ok(true)),
            "cut to {step} tenths: nothing was found wrong"
        );
        let refused = Writer::open(&index, &embedder()).and_then(|mut writer| {
            put(&mut writer, &folder, 0, 1)?;
            writer.publish()
        });
        if let Err(cause) = refused {
            assert!(format!("{cause:#}").contains("index.sqlite"), "{cause:#}");
        }
        restore();
    }
    let mut random = Random(7);
    let n_bits = rounds(20);
    let (mut n_refused, mut n_found) = (0, 0);
    for _ in 0..n_bits {
        let mut damaged = whole.clone();
        let at = usize::try_from(random.below(u64::try_from(whole.len()).unwrap())).unwrap();
        damaged[at] ^= 1 << random.below(8);
        overwrite(&database, &damaged);
        match use_all(&index) {
            Err(_) => n_refused += 1,
            Ok(false) => n_found += 1,
            // A bit in a free page, in a number that orders nothing, or deep in a vector.
            Ok(true) => {}
        }
    }
    println!("{n_bits} flipped bits: {n_refused} refused, {n_found} found by the check");
    restore();
    assert!(use_all(&index).unwrap());
}
