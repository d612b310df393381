//! The command line: parse arguments, run one command, print the error chain, choose the exit status.

mod cli;
mod commands;
mod output;
mod settings;

use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::Error;
use clap::Parser;
use ragq::hint::Hinted;
use ragq::hub::HubError;
use ragq::index::IndexError;

use cli::{Cli, ColorChoice};
use commands::Ending;
use output::Output;
use settings::Settings;

/// Status of a command that Ctrl-C ended, as shells report it.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    // Every change to an index is one durable transaction, so it is safe to end between any two instructions.
    let handled = ctrlc::set_handler(|| std::process::exit(INTERRUPTED));
    let cli = Cli::parse();
    let output = Output::new(&cli.common, ColorChoice::Auto);
    if let Err(error) = handled {
        output.detail(&format!("Ctrl-C is not handled: {error}"));
    }
    let result = Settings::gather(&cli).and_then(|settings| {
        let output = Output::new(&cli.common, settings.color);
        commands::run(cli.command, &settings, &output)
    });
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::NotInDocuments) => ExitCode::from(1),
        Ok(Ending::Incomplete) => ExitCode::from(2),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&format!("{error:#}"), hint(&error).as_deref());
            ExitCode::from(2)
        }
    }
}

/// Whoever read our output has seen enough.
fn is_closed_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}

/// What to type, if we know.
fn hint(error: &Error) -> Option<String> {
    if let Some(hinted) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Hinted>())
    {
        return Some(hinted.hint.clone());
    }
    if let Some(error) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<HubError>())
    {
        return error.hint();
    }
    match error
        .chain()
        .find_map(|cause| cause.downcast_ref::<IndexError>())?
    {
        IndexError::Missing { .. } => {
            Some("`ragq ingest ./docs` makes one; `--index DIR` names another".into())
        }
        IndexError::OtherEmbedder {
            built_with,
            asked_with,
            ..
        } => {
            let mut hint = format!(
                "`ragq ingest --embedder {}` embeds this index again with it",
                asked_with.name
            );
            if built_with.name != asked_with.name {
                hint += &format!("; `--embedder {}` asks it as it is", built_with.name);
            }
            Some(hint)
        }
        IndexError::Locked { .. } => {
            Some("wait until it has finished; questions are answered meanwhile".into())
        }
        IndexError::NewerFormat { .. } => Some("update ragq".into()),
    }
}
