//! Each command: opens what it needs, runs the library, hands the result to [`output`](crate::output).

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ragq::ask::{self, Stages};
use ragq::document::{self, Budget};
use ragq::embedding::Embed;
use ragq::embedding::static_embedding::{self, StaticEmbedding};
use ragq::generation::{Extract, Generate, GenerationOptions};
use ragq::hint::Hinted;
use ragq::index::{Filter, IndexError, Reader, Writer};
use ragq::ingest::{self, Change, Progress, Summary};
use ragq::question::Question;
use ragq::reranking::Reranker;
use ragq::{evaluation, folder, fs, retrieval};

use crate::cli::{Command, FilterArgs};
use crate::output::{self, Output};
use crate::settings::Settings;

mod models;

/// Passages for an answer, and for a list of passages, unless the user says.
const ASK_TOP_K: usize = 5;
const SEARCH_TOP_K: usize = 10;

/// How often a bar turns that has nothing to count.
const TICK: Duration = Duration::from_millis(200);

/// What a change of embedder has taken when it tells how long it will take.
const ESTIMATE_AFTER: Duration = Duration::from_secs(1);

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All was done; a question was answered.
    Done,
    /// The documents do not hold the answer.
    NotInDocuments,
    /// Something could not be read; the rest was done.
    Incomplete,
}

/// Runs a command.
///
/// # Errors
/// What kept it from its work, for `main` to print.
pub(crate) fn run(command: Command, settings: &Settings, output: &Output) -> Result<Ending> {
    match command {
        Command::Ingest { paths } => run_ingest(&paths, settings, output),
        Command::Ask {
            question,
            docs,
            adapter,
            max_tokens,
            temperature,
            seed,
            explain,
            filter,
        } => {
            let options = GenerationOptions {
                max_tokens,
                temperature,
                seed,
                ..GenerationOptions::default()
            };
            let ask = Ask {
                adapter,
                options,
                explain,
                filter,
            };
            run_ask(question.as_deref(), &docs, &ask, settings, output)
        }
        Command::Search {
            query,
            explain,
            filter,
        } => run_search(query.as_deref(), explain, &filter, settings, output),
        Command::Text { file } => run_text(&file, output),
        Command::Status { check } => run_status(check, settings, output),
        Command::Models { command } => models::run(command, settings, output),
        Command::Eval { file, against } => run_eval(&file, against.as_deref(), settings, output),
    }
}

fn run_ingest(paths: &[PathBuf], settings: &Settings, output: &Output) -> Result<Ending> {
    let start = Instant::now();
    check_paths(paths)?;
    if paths.is_empty() {
        // Nothing to make an index of.
        Reader::open(&settings.index)?;
    }
    let embedder = index_embedder(settings)?;
    let embedder = embedder.as_ref();
    let may_change = settings.embedder_is_asked;
    let (mut writer, n_reembedded) = open_writer(embedder, may_change, settings, output)?;
    if paths.is_empty() {
        output.reembedded(n_reembedded, embedder.id(), elapsed_ms(start))?;
        return Ok(Ending::Done);
    }
    let mut summary = bring_up_to_date(paths, &mut writer, embedder, output)?;
    summary.n_reembedded = n_reembedded;
    if summary.n_read() == 0 && summary.unreadable.is_empty() && summary.removed.is_empty() {
        let named: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let hint =
            "ragq reads pdf, docx, hwp, hwpx, pptx, xlsx, xls, ods, csv, tsv, txt, md and html";
        return Err(Hinted::error(
            format!("{}: no documents here", named.join(", ")),
            hint,
        ));
    }
    output.ingested(&summary, elapsed_ms(start))?;
    Ok(if summary.unreadable.is_empty() {
        Ending::Done
    } else {
        Ending::Incomplete
    })
}

/// A path that does not exist must not leave an empty index behind.
fn check_paths(paths: &[PathBuf]) -> Result<()> {
    paths
        .iter()
        .try_for_each(|path| folder::find(path).map(|_| ()))
}

/// Opens the index for writing, with the vectors of `embedder`. An index of another embedder is given this one where that
/// was asked for; where nobody chose, it is the index's own in a newer version. Returns how many texts were embedded again.
fn open_writer(
    embedder: &dyn Embed,
    may_change: bool,
    settings: &Settings,
    output: &Output,
) -> Result<(Writer, u64)> {
    if !may_change && settings.embedder.is_some() {
        return Ok((Writer::open(&settings.index, embedder.id())?, 0));
    }
    let mut writer = Writer::open_for_any(&settings.index, embedder.id())?;
    let n_reembedded = settle_embedder(&mut writer, embedder, settings, output)?;
    Ok((writer, n_reembedded))
}

/// Gives the index the embedder that was asked for, if it has another. Returns how many texts were embedded for that.
fn settle_embedder(
    writer: &mut Writer,
    embedder: &dyn Embed,
    settings: &Settings,
    output: &Output,
) -> Result<u64> {
    let built_with = writer.embedder()?;
    let folder = settings.index.display();
    if built_with.fingerprint != embedder.id().fingerprint
        || built_with.dimension != embedder.id().dimension
    {
        return change_embedder(writer, embedder, &built_with.name, settings, output);
    }
    if let Some(unfinished) = writer.unfinished()? {
        let name = &unfinished.embedder.name;
        if settings.embedder_is_asked {
            writer.abandon_succession()?;
            output.note(&format!(
                "{folder}: stays with {}; {} vectors of {name} dropped",
                built_with.name, unfinished.n_vectors
            ));
        } else {
            output.note(&format!(
                "{folder}: on its way to {name}; `ragq ingest --embedder {name}` goes on with that"
            ));
        }
    }
    Ok(0)
}

/// Embeds the whole index again, saying what happens and how long it will take.
fn change_embedder(
    writer: &mut Writer,
    embedder: &dyn Embed,
    from: &str,
    settings: &Settings,
    output: &Output,
) -> Result<u64> {
    let folder = settings.index.display();
    let bar = output.progress(0);
    let (mut n_all, mut estimated) = (0, false);
    let result = ingest::change_embedder(writer, embedder, &mut |change| match change {
        Change::Begins { n_texts, n_done } => {
            n_all = n_texts;
            bar.set_length(n_texts);
            output.change_begins(&folder.to_string(), from, embedder.id(), n_texts, n_done);
        }
        Change::Done { n_texts, left } => {
            bar.set_position(n_texts);
            bar.set_message(format!("{} left", output::duration(left)));
            if !estimated && n_texts < n_all && bar.elapsed() > ESTIMATE_AFTER {
                estimated = true;
                let left = output::duration(left);
                bar.suspend(|| {
                    output.note(&format!("about {left} left, by the first {n_texts} texts"))
                });
            }
        }
        Change::Switches => bar.set_message("switching"),
    });
    bar.finish_and_clear();
    result
}

fn bring_up_to_date(
    paths: &[PathBuf],
    writer: &mut Writer,
    embedder: &dyn Embed,
    output: &Output,
) -> Result<Summary> {
    let bar = output.progress(0);
    let summary = ingest::run(paths, writer, embedder, &mut |progress| match progress {
        Progress::Files(n) => bar.set_length(n as u64),
        Progress::Done(source) => {
            bar.set_message(source.to_string());
            bar.inc(1);
        }
        Progress::Publishing => {
            bar.set_message("building caches");
            // Minutes may pass without news; the turning says that the work goes on.
            bar.enable_steady_tick(TICK);
        }
    });
    bar.finish_and_clear();
    summary
}

/// What `ragq ask` was told besides the question.
struct Ask {
    adapter: Option<PathBuf>,
    options: GenerationOptions,
    explain: bool,
    filter: FilterArgs,
}

fn run_ask(
    question: Option<&str>,
    docs: &[PathBuf],
    ask: &Ask,
    settings: &Settings,
    output: &Output,
) -> Result<Ending> {
    let input = Input::of(question, "ask")?;
    if !docs.is_empty() {
        ingest_before_asking(docs, settings, output)?;
    }
    let mut opened = Opened::open(settings, ask.adapter.as_deref(), output)?;
    restrict(&mut opened.reader, &ask.filter)?;
    let mut stages = opened.stages();
    match input {
        Input::One(question) => ask_one(question, &mut stages, ask, settings, output),
        Input::Lines => {
            for_each_line(|line| ask_line(line, &mut stages, ask, settings, output))?;
            Ok(Ending::Done)
        }
    }
}

/// Ingests, unless another process is at it: then what is there answers.
fn ingest_before_asking(docs: &[PathBuf], settings: &Settings, output: &Output) -> Result<()> {
    let start = Instant::now();
    check_paths(docs)?;
    let embedder = index_embedder(settings)?;
    let embedder = embedder.as_ref();
    let summary = open_writer(embedder, false, settings, output)
        .and_then(|(mut writer, _)| bring_up_to_date(docs, &mut writer, embedder, output));
    match summary {
        Ok(summary) => output.ingested_before_asking(&summary, elapsed_ms(start)),
        Err(error) => match error.downcast_ref::<IndexError>() {
            Some(IndexError::Locked { .. }) => {
                output.note(&format!("warning: {error:#}; answering from what is there"))
            }
            _ => return Err(error),
        },
    }
    Ok(())
}

fn ask_one(
    question: &str,
    stages: &mut Stages<'_>,
    ask: &Ask,
    settings: &Settings,
    output: &Output,
) -> Result<Ending> {
    let mut streamed = false;
    let top_k = settings.top_k.unwrap_or(ASK_TOP_K);
    let asked = ask::ask(question, stages, top_k, &ask.options, &mut |text| {
        streamed = output.streams();
        !streamed || output.piece(text).is_ok()
    })?;
    if output.json {
        output.answer_json(
            question,
            &asked,
            stages.generator.name(),
            &stages.embedder.id().name,
        )?;
    } else {
        output.answer(&asked, streamed && asked.answer.answered)?;
    }
    if ask.explain {
        output.explain(&asked);
    }
    if asked.n_left_out > 0 {
        output.detail(&format!(
            "{} passages did not fit the model's context",
            asked.n_left_out
        ));
    }
    if asked.answer.answered && settings.generator == "extract" {
        output.tip(
            "\nquoted word for word; `--generator MODEL` writes an answer (`ragq models list`)",
        );
    }
    Ok(if asked.answer.answered {
        Ending::Done
    } else {
        Ending::NotInDocuments
    })
}

fn ask_line(
    line: &str,
    stages: &mut Stages<'_>,
    ask: &Ask,
    settings: &Settings,
    output: &Output,
) -> Result<()> {
    let top_k = settings.top_k.unwrap_or(ASK_TOP_K);
    match ask::ask(line, stages, top_k, &ask.options, &mut |_| true) {
        Ok(asked) => {
            if ask.explain {
                output.explain(&asked);
            }
            if output.json {
                output.answer_json(
                    line,
                    &asked,
                    stages.generator.name(),
                    &stages.embedder.id().name,
                )
            } else {
                output.answer_line(&asked)
            }
        }
        Err(error) => report_line("question", line, &error, output),
    }
}

fn run_search(
    query: Option<&str>,
    explain: bool,
    filter: &FilterArgs,
    settings: &Settings,
    output: &Output,
) -> Result<Ending> {
    let input = Input::of(query, "search")?;
    let mut reader = Reader::open(&settings.index)?;
    restrict(&mut reader, filter)?;
    let embedder = reader_embedder(&reader, settings)?;
    let reranker = models::load_reranker(settings)?;
    let top_k = settings.top_k.unwrap_or(SEARCH_TOP_K);
    let search = |query: &str| {
        let question = Question::parse(query)?;
        let (embedder, reranker) = (embedder.as_ref(), reranker.as_ref());
        let retrieval =
            retrieval::retrieve_reranked(&reader, embedder, reranker, &question, top_k)?;
        anyhow::Ok(retrieval.hits)
    };
    match input {
        Input::One(query) => {
            let hits = search(query)?;
            if output.json {
                output.hits_json(query, &hits)?;
            } else {
                output.hits(&hits, explain)?;
            }
            Ok(if hits.is_empty() {
                Ending::NotInDocuments
            } else {
                Ending::Done
            })
        }
        Input::Lines => {
            for_each_line(|line| match search(line) {
                Ok(hits) if output.json => output.hits_json(line, &hits),
                Ok(hits) => output.hits_line(&hits),
                Err(error) => report_line("query", line, &error, output),
            })?;
            Ok(Ending::Done)
        }
    }
}

/// Lets the reader find only what the user asked about; a filter that nothing passes is a mistake worth saying.
fn restrict(reader: &mut Reader, args: &FilterArgs) -> Result<()> {
    let base = std::env::current_dir().context("current folder")?;
    let filter = Filter::new(&args.paths, &args.extensions, &base);
    if filter.is_empty() || reader.restrict(&filter)? > 0 {
        return Ok(());
    }
    let paths = args.paths.iter().map(|path| format!("--path {path}"));
    let extensions = args.extensions.iter().map(|one| format!("--ext {one}"));
    let named: Vec<String> = paths.chain(extensions).collect();
    Err(Hinted::error(
        format!("{}: no document in the index matches", named.join(" ")),
        "a path is one that answers cite, a folder of it, or a name in it; `*` stands for a part of a name",
    ))
}

fn run_text(file: &Path, output: &Output) -> Result<Ending> {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let bytes = fs::read(file)?;
    let (document, warnings) = document::parse(&bytes, &name, &Budget::standard())
        .with_context(|| file.display().to_string())?;
    output.document(&document, &warnings)?;
    Ok(Ending::Done)
}

fn run_status(check: bool, settings: &Settings, output: &Output) -> Result<Ending> {
    let mut reader = Reader::open(&settings.index)?;
    let found = check.then(|| reader.check()).transpose()?;
    let status = reader.status()?;
    output.status(&settings.index, &status, &reader.files()?, found.as_deref())?;
    let is_whole = status.problems.is_empty() && found.is_none_or(|found| found.is_empty());
    Ok(if is_whole {
        Ending::Done
    } else {
        Ending::Incomplete
    })
}

fn run_eval(
    file: &Path,
    against: Option<&Path>,
    settings: &Settings,
    output: &Output,
) -> Result<Ending> {
    let cases = evaluation::parse_cases(&fs::read_to_string(file)?)
        .with_context(|| file.display().to_string())?;
    let against: Option<evaluation::Report> = against
        .map(|path| {
            serde_json::from_str(&fs::read_to_string(path)?)
                .with_context(|| path.display().to_string())
        })
        .transpose()?;
    let mut opened = Opened::open(settings, None, output)?;
    let mut stages = opened.stages();
    let bar = output.progress(cases.len());
    let mut results = Vec::new();
    for case in cases {
        let question = Question::parse(&case.question).with_context(|| case.question.clone())?;
        let found = retrieval::retrieve_reranked(
            stages.reader,
            stages.embedder,
            stages.reranker,
            &question,
            evaluation::DEPTH,
        )?;
        let top_k = settings.top_k.unwrap_or(ASK_TOP_K);
        let asked = ask::ask(
            &case.question,
            &mut stages,
            top_k,
            &GenerationOptions::default(),
            &mut |_| true,
        )?;
        let outcome = evaluation::assess(&case, &found.hits, &asked);
        results.push((case, outcome));
        bar.inc(1);
    }
    bar.finish_and_clear();
    output.report(&evaluation::report(&results), against.as_ref())?;
    Ok(Ending::Done)
}

/// What questions pass through, opened once for all of them.
struct Opened {
    reader: Reader,
    embedder: Box<dyn Embed>,
    builtin: StaticEmbedding<'static>,
    reranker: Option<Reranker>,
    generator: Box<dyn Generate>,
}

impl Opened {
    fn open(settings: &Settings, adapter: Option<&Path>, output: &Output) -> Result<Opened> {
        let reader = Reader::open(&settings.index)?;
        Ok(Opened {
            embedder: reader_embedder(&reader, settings)?,
            builtin: static_embedding::builtin()?,
            reranker: models::load_reranker(settings)?,
            generator: generator(settings, adapter, output)?,
            reader,
        })
    }

    fn stages(&mut self) -> Stages<'_> {
        Stages {
            reader: &self.reader,
            embedder: self.embedder.as_ref(),
            builtin: &self.builtin,
            reranker: self.reranker.as_ref(),
            generator: self.generator.as_mut(),
        }
    }
}

/// Where the questions come from.
enum Input<'a> {
    One(&'a str),
    Lines,
}

impl<'a> Input<'a> {
    fn of(question: Option<&'a str>, command: &str) -> Result<Input<'a>> {
        match question {
            Some("-") => Ok(Input::Lines),
            Some(question) => Ok(Input::One(question)),
            None if std::io::stdin().is_terminal() => Err(Hinted::error(
                "no question",
                format!(
                    "`ragq {command} \"휴직 기간에 대하여 알려줘\"`, or pipe one question a line"
                ),
            )),
            None => Ok(Input::Lines),
        }
    }
}

/// Hands each line of stdin on as soon as it comes.
fn for_each_line(mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if stdin.read_until(b'\n', &mut line).context("stdin")? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        each(
            text.trim_start_matches('\u{feff}')
                .trim_end_matches(['\n', '\r']),
        )?;
    }
}

/// What went wrong with one line; the batch goes on.
fn report_line(key: &str, line: &str, error: &anyhow::Error, output: &Output) -> Result<()> {
    let message = format!("{error:#}");
    if output.json {
        return output.error_json(key, line, &message);
    }
    output.error(&message, None);
    output.line("")
}

/// The embedder for changing an index: as told, else the one it was made with, else the built-in one.
fn index_embedder(settings: &Settings) -> Result<Box<dyn Embed>> {
    let known = match Reader::open(&settings.index) {
        Ok(reader) => Some(reader.embedder().name.clone()),
        Err(error) => match error.downcast_ref::<IndexError>() {
            Some(IndexError::Missing { .. }) => None,
            _ => return Err(error),
        },
    };
    let name = settings.embedder.clone().or(known);
    models::load_embedder(name.as_deref().unwrap_or("builtin"), settings)
}

/// The embedder for asking: as told, which must then be the one the index was made with.
fn reader_embedder(reader: &Reader, settings: &Settings) -> Result<Box<dyn Embed>> {
    let name = settings
        .embedder
        .as_deref()
        .unwrap_or(&reader.embedder().name);
    let embedder = models::load_embedder(name, settings)?;
    reader.expect_embedder(embedder.id())?;
    Ok(embedder)
}

fn generator(
    settings: &Settings,
    adapter: Option<&Path>,
    output: &Output,
) -> Result<Box<dyn Generate>> {
    if settings.generator == "extract" {
        return Ok(Box::new(Extract::new()?));
    }
    models::load_generator(&settings.generator, adapter, settings, output)
}

fn elapsed_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
