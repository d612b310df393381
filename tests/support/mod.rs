//! The bench the stories are played on: a folder of its own, the binary, and a report of everything when one fails.

#![allow(dead_code, reason = "each story uses a part of the bench")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A temporary folder in which ragq is run, away from the user's settings, models and network.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The command, for the report.
    pub(crate) command: String,
    /// Exit status, or `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    listing: String,
}

impl Bench {
    /// An empty folder.
    pub(crate) fn new() -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder whose `docs` holds the four fixture documents.
    pub(crate) fn with_documents() -> Bench {
        let bench = Bench::new();
        for name in document_names() {
            bench.add_fixture(&name);
        }
        bench
    }

    /// Copies one fixture document into `docs`.
    pub(crate) fn add_fixture(&self, name: &str) {
        let docs = self.path("docs");
        std::fs::create_dir_all(&docs).unwrap();
        std::fs::copy(fixture(&format!("documents/{name}")), docs.join(name)).unwrap();
    }

    /// Writes a file below the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A path below the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary with these arguments, not yet run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ragq"));
        command.args(args).current_dir(self.folder.path());
        for (name, _) in std::env::vars()
            .filter(|(name, _)| name.starts_with("RAGQ_") || name.starts_with("HF_"))
        {
            command.env_remove(name);
        }
        let home = self.path("home");
        command
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("HF_HOME", home.join("huggingface"));
        command
    }

    /// Runs the binary with nothing on stdin.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(self.command(args), b"")
    }

    /// Runs the binary with this on stdin.
    pub(crate) fn pipe(&self, args: &[&str], input: &str) -> Run {
        self.run_with(self.command(args), input.as_bytes())
    }

    /// Runs a prepared command.
    pub(crate) fn run_with(&self, mut command: Command, input: &[u8]) -> Run {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command may end without reading all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Run {
            command: format!("{command:?}"),
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            listing: listing(self.folder.path()),
        }
    }
}

impl Run {
    /// The run, if it ended with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Run {
        assert_eq!(self.status, Some(status), "exit status{}", self.report());
        self
    }

    /// Checks that stdout holds a text.
    #[track_caller]
    pub(crate) fn prints(&self, text: &str) -> &Run {
        assert!(
            self.stdout.contains(text),
            "stdout lacks {text:?}{}",
            self.report()
        );
        self
    }

    /// Checks that stderr holds a text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Run {
        assert!(
            self.stderr.contains(text),
            "stderr lacks {text:?}{}",
            self.report()
        );
        self
    }

    /// The JSON object on each line of stdout.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error}{}", self.report()))
            })
            .collect()
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "lines{}", self.report());
        lines.remove(0)
    }

    /// Everything about the run.
    pub(crate) fn report(&self) -> String {
        let Run {
            command,
            status,
            stdout,
            stderr,
            listing,
        } = self;
        format!(
            "\ncommand: {command}\nstatus: {status:?}\nfolder:\n{listing}stdout:\n{stdout}\nstderr:\n{stderr}"
        )
    }
}

/// A file of the repository's `fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// Names of the fixture documents.
pub(crate) fn document_names() -> Vec<String> {
    let entries = std::fs::read_dir(fixture("documents"))
        .unwrap()
        .map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<String> = files
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn listing(folder: &Path) -> String {
    let mut listing = String::new();
    for entry in walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .flatten()
    {
        let relative = entry.path().strip_prefix(folder).unwrap();
        let _ = writeln!(listing, "  {}", relative.display());
    }
    listing
}
