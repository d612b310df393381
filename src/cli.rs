//! Arguments and help text; no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Answers questions about a folder of office documents, on this machine, and says where each answer stands.
#[derive(Debug, Parser)]
#[command(
    name = "ragq",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  Read a folder, answer, cite:
    ragq ask --docs ./docs \"휴직 기간에 대하여 알려줘\"
  Bring the index up to date, then ask it:
    ragq ingest ./docs
    ragq ask \"육아 휴직 기간 알려줘!\"
  One question a line in, one JSON object a line out:
    ragq ask --json - < questions.txt

Exit status: 0 answered, 1 not in the documents, 2 error, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Index folder [default: the nearest .ragq upwards, else ./.ragq]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "RAGQ_INDEX",
        hide_env_values = true
    )]
    pub(crate) index: Option<PathBuf>,

    /// One JSON object a line on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Passages to retrieve [default: 5; search: 10]
    #[arg(short = 'k', long, global = true, value_name = "N", env = "RAGQ_TOP_K", hide_env_values = true,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top_k: Option<u16>,

    /// Embedder: builtin, a preset, org/name or a folder
    #[arg(
        long,
        global = true,
        value_name = "MODEL",
        env = "RAGQ_EMBEDDER",
        hide_env_values = true
    )]
    pub(crate) embedder: Option<String>,

    /// Generator: extract, a preset, org/name:file.gguf, a GGUF file or a folder
    #[arg(
        long,
        global = true,
        value_name = "MODEL",
        env = "RAGQ_GENERATOR",
        hide_env_values = true
    )]
    pub(crate) generator: Option<String>,

    /// Reranker: none, a preset, org/name or a folder
    #[arg(
        long,
        global = true,
        value_name = "MODEL",
        env = "RAGQ_RERANKER",
        hide_env_values = true
    )]
    pub(crate) reranker: Option<String>,

    /// Where models run
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        env = "RAGQ_DEVICE",
        hide_env_values = true
    )]
    pub(crate) device: Option<DeviceName>,

    /// Never use the network
    #[arg(long, global = true)]
    pub(crate) offline: bool,

    /// When to colour
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorChoice>,

    /// Say less: no progress, no hints
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more: what was read, retrieved and left out
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    Cpu,
    Cuda,
    Metal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the index up to date with files and folders
    ///
    /// New, changed, moved, unchanged, removed and unreadable files are counted and named. Only what lies under the
    /// given paths is compared; the rest of the index stays. Safe to repeat, to interrupt, and to run while others ask.
    ///
    /// With --embedder, an index of another embedder is embedded again from what is stored; the old vectors answer until
    /// all is done, and an interrupted run goes on where it stopped. No PATH is needed then.
    Ingest {
        /// Files and folders
        #[arg(required_unless_present = "embedder", value_name = "PATH")]
        paths: Vec<PathBuf>,
    },

    /// Answer a question with cited sources
    ///
    /// Without QUESTION and with a pipe, or with `-`: one question a line, the models loaded once, one answer a line.
    #[command(after_help = "Example:\n  ragq ask --docs ./docs \"휴직 기간에 대하여 알려줘\"")]
    Ask {
        /// The question; `-` reads one a line from stdin
        question: Option<String>,
        /// Bring the index up to date with this file or folder first
        #[arg(long, value_name = "PATH")]
        docs: Vec<PathBuf>,
        /// PEFT LoRA adapter for the generator
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
        /// Most tokens a model may write
        #[arg(long, value_name = "N", default_value_t = 512)]
        max_tokens: usize,
        /// 0 always takes the most likely token
        #[arg(long, value_name = "T", default_value_t = 0.0)]
        temperature: f64,
        /// Same seed, same text
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Show how the passages were found and why it was answered or not (stderr)
        #[arg(long)]
        explain: bool,
        #[command(flatten)]
        filter: FilterArgs,
    },

    /// Rank the passages for a query, without an answer
    Search {
        /// The query; `-` reads one a line from stdin
        query: Option<String>,
        /// Show each leg's score and rank
        #[arg(long)]
        explain: bool,
        #[command(flatten)]
        filter: FilterArgs,
    },

    /// Show what ragq reads from a file
    ///
    /// Plain text (tables as `a | b`), or with --json the elements with their locations and the warnings: the way to
    /// see why an answer is missing.
    Text {
        /// The file
        file: PathBuf,
    },

    /// Show what is in the index
    Status {
        /// Verify database, checksums and graph, and say how to mend
        #[arg(long)]
        check: bool,
    },

    /// Manage and try model files; the only command that uses the network
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },

    /// Measure answers on questions of your own
    ///
    /// FILE holds one JSON object a line: {"question":…,"answers":["…"],"source":"file name or null","answerable":true}
    Eval {
        /// Questions with known answers
        file: PathBuf,
        /// Compare with the --json result of an earlier run
        #[arg(long, value_name = "RESULT")]
        against: Option<PathBuf>,
    },
}

/// Which documents are asked; several of a kind mean any of them.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only this document, or the documents below this folder; `*` stands for a part of a name, `**` for folders
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Only documents with this extension
    #[arg(long = "ext", value_name = "EXT", value_delimiter = ',')]
    pub(crate) extensions: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Show the presets: size, licence, languages, what is here
    List,
    /// Download a model or all models of a preset
    Pull {
        /// Preset, org/name or org/name:file.gguf
        model: String,
    },
    /// Print the local path of a model
    Path {
        /// Preset, org/name or org/name:file.gguf
        model: String,
    },
    /// Check a model's files against their checksums
    Verify {
        /// Preset, org/name or org/name:file.gguf
        model: String,
    },
    /// Make a preset or a model the default in your config
    Use {
        /// Preset or model
        model: String,
    },
    /// Copy a model into a plain folder, for a machine without network
    Export {
        /// Preset, org/name or org/name:file.gguf
        model: String,
        /// The folder
        dir: PathBuf,
    },
    /// Generate plainly, to try a model
    ///
    /// Text to stdout; prefill and decode tokens/s to stderr.
    Run {
        /// GGUF file, folder, preset, org/name or org/name:file.gguf
        model: String,
        /// What the model reads
        prompt: String,
        /// Do not wrap the prompt in the model's chat template
        #[arg(long)]
        raw: bool,
        /// Most tokens to generate
        #[arg(long, value_name = "N", default_value_t = 256)]
        max_tokens: usize,
        /// PEFT LoRA adapter
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
        /// 0 always takes the most likely token
        #[arg(long, value_name = "T", default_value_t = 0.0)]
        temperature: f64,
        /// Same seed, same text
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
    /// Embed one text a line from stdin: {"embedding":[…]} a line
    Embed {
        /// builtin, a folder, a preset or org/name
        model: String,
        /// Embed as questions (with the model's query prefix)
        #[arg(long)]
        query: bool,
    },
}
