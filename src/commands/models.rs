//! `ragq models`: presets, model files, and trying a model.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use candle_core::Device;
use indicatif::ProgressStyle;
use ragq::embedding::{self, Embed, EmbeddingOptions, static_embedding};
use ragq::fs;
use ragq::generation::{Generate, GenerationOptions, LocalModel};
use ragq::hub::catalog::{self, Role};
use ragq::hub::{FileState, Hub};
use ragq::reranking::Reranker;

use super::{Ending, for_each_line};
use crate::cli::{DeviceName, ModelsCommand};
use crate::output::Output;
use crate::settings::{Settings, user_config_path};

/// Runs a command of `ragq models`.
///
/// # Errors
/// What kept it from its work, for `main` to print.
pub(super) fn run(command: ModelsCommand, settings: &Settings, output: &Output) -> Result<Ending> {
    let hub = Hub::from_env(settings.offline)?;
    match command {
        ModelsCommand::List => output.models(&hub.list())?,
        ModelsCommand::Pull { model } => pull(&hub, &model, output)?,
        ModelsCommand::Path { model } => {
            for (reference, role) in parts(&model) {
                output.line(&hub.locate(&reference, role)?.path.display().to_string())?;
            }
        }
        ModelsCommand::Verify { model } => return verify(&hub, &model, output),
        ModelsCommand::Use { model } => make_default(&hub, &model, output)?,
        ModelsCommand::Export { model, dir } => export(&hub, &model, &dir, output)?,
        ModelsCommand::Run {
            model,
            prompt,
            raw,
            max_tokens,
            adapter,
            temperature,
            seed,
        } => {
            let options = GenerationOptions {
                max_tokens,
                temperature,
                seed,
                ..GenerationOptions::default()
            };
            let mut model = open_generator(&model, adapter.as_deref(), settings, output)?;
            try_generator(&mut model, &prompt, raw, &options, output)?;
        }
        ModelsCommand::Embed { model, query } => {
            let embedder = load_embedder(&model, settings)?;
            for_each_line(|line| {
                let vector = if query {
                    embedder.embed_query(line)?
                } else {
                    embedder
                        .embed_passages(&[line])?
                        .pop()
                        .context("no vector came back")?
                };
                output.embedding(&vector)
            })?;
        }
    }
    Ok(Ending::Done)
}

/// The embedder of a name: `builtin`, a preset, a repository or a folder.
///
/// # Errors
/// When it is not here or cannot be loaded.
pub(super) fn load_embedder(name: &str, settings: &Settings) -> Result<Box<dyn Embed>> {
    if name == "builtin" {
        return Ok(Box::new(static_embedding::builtin()?));
    }
    let located = Hub::from_env(settings.offline)?.locate(name, Role::Embedder)?;
    let options = EmbeddingOptions {
        device: device(settings.device)?,
        ..EmbeddingOptions::default()
    };
    embedding::load_folder(
        &located.path,
        &located.name,
        located.prefixes.as_ref(),
        &options,
    )
}

/// The reranker that the settings name, if any.
///
/// # Errors
/// When it is not here or cannot be loaded.
pub(super) fn load_reranker(settings: &Settings) -> Result<Option<Reranker>> {
    let Some(name) = &settings.reranker else {
        return Ok(None);
    };
    let located = Hub::from_env(settings.offline)?.locate(name, Role::Reranker)?;
    let device = device(settings.device)?;
    Ok(Some(Reranker::load(
        &located.path,
        &located.name,
        &device,
        None,
    )?))
}

/// The generator of a name: a preset, a repository with a file, a GGUF file or a folder.
///
/// # Errors
/// When it is not here or cannot be loaded.
pub(super) fn load_generator(
    name: &str,
    adapter: Option<&Path>,
    settings: &Settings,
    output: &Output,
) -> Result<Box<dyn Generate>> {
    Ok(Box::new(open_generator(name, adapter, settings, output)?))
}

fn open_generator(
    name: &str,
    adapter: Option<&Path>,
    settings: &Settings,
    output: &Output,
) -> Result<LocalModel> {
    let located = Hub::from_env(settings.offline)?.locate(name, Role::Generator)?;
    let device = device(settings.device)?;
    let mut model = LocalModel::open(&located.path, &located.name, adapter, &device)?;
    if matches!(device, Device::Cpu)
        && let Some(folder) = prefix_folder()
    {
        model.keep_prefixes(&folder, &located.path, adapter)?;
    }
    let bar = output.progress(0).with_message("tokens of the prompt read");
    model.watch_reading(move |n_read, n_tokens| {
        if n_read == n_tokens {
            bar.finish_and_clear();
            return;
        }
        if n_read == 0 {
            bar.set_length(n_tokens as u64);
            bar.reset();
        }
        bar.set_position(n_read as u64);
    });
    Ok(model)
}

/// Where the system keeps what programs can compute again: `$XDG_CACHE_HOME`, or the system's own place.
fn prefix_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let caches = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        if cfg!(windows) {
            return variable("LOCALAPPDATA").map(PathBuf::from);
        }
        let within = if cfg!(target_os = "macos") {
            "Library/Caches"
        } else {
            ".cache"
        };
        std::env::home_dir().map(|home| home.join(within))
    })?;
    Some(caches.join("ragq").join("prefixes"))
}

fn device(name: DeviceName) -> Result<Device> {
    match name {
        DeviceName::Cpu => Ok(Device::Cpu),
        DeviceName::Cuda => {
            Device::new_cuda(0).context("--device cuda: needs a build with `--features cuda`")
        }
        DeviceName::Metal => {
            Device::new_metal(0).context("--device metal: needs a build with `--features metal`")
        }
    }
}

/// What a name stands for: the models of a preset, else one model and what it is for.
fn parts(name: &str) -> Vec<(String, Role)> {
    if let Some(preset) = catalog::preset(name) {
        let models = preset
            .models
            .iter()
            .filter_map(|reference| catalog::model(reference));
        return models
            .map(|model| (model.reference.to_string(), model.role))
            .collect();
    }
    let role = match catalog::model(name) {
        Some(model) => model.role,
        None if name.contains(':') || name.ends_with(".gguf") => Role::Generator,
        None => Role::Embedder,
    };
    vec![(name.to_string(), role)]
}

fn pull(hub: &Hub, name: &str, output: &Output) -> Result<()> {
    for (reference, role) in parts(name) {
        let bar = output.progress(0);
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}",
        ) {
            bar.set_style(style);
        }
        let located = hub.pull(&reference, role, &mut |progress| {
            bar.set_length(progress.n_bytes);
            bar.set_position(progress.got_bytes);
            bar.set_message(progress.file.to_string());
        });
        bar.finish_and_clear();
        output.line(&located?.path.display().to_string())?;
    }
    Ok(())
}

fn verify(hub: &Hub, name: &str, output: &Output) -> Result<Ending> {
    let mut ending = Ending::Done;
    for (reference, role) in parts(name) {
        for file in hub.verify(&reference, role)? {
            if matches!(file.state, FileState::Damaged { .. }) {
                ending = Ending::Incomplete;
            }
            output.verified(&file)?;
        }
    }
    Ok(ending)
}

fn export(hub: &Hub, name: &str, folder: &Path, output: &Output) -> Result<()> {
    let parts = parts(name);
    for (reference, role) in &parts {
        // The models of a preset lie side by side.
        let target = if parts.len() > 1 {
            folder.join(role.name())
        } else {
            folder.to_path_buf()
        };
        for file in hub.export(reference, *role, &target)? {
            output.line(&file.display().to_string())?;
        }
    }
    Ok(())
}

/// Writes a preset's models, or one model, into the user's config, whose other settings stay.
fn make_default(hub: &Hub, name: &str, output: &Output) -> Result<()> {
    let path = user_config_path().context("no home folder to keep a config in")?;
    let mut config: toml::Table = if path.exists() {
        toml::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?
    } else {
        toml::Table::new()
    };
    let parts = match name {
        "builtin" => vec![(name.to_string(), Role::Embedder)],
        "extract" => vec![(name.to_string(), Role::Generator)],
        _ => parts(name),
    };
    for (reference, role) in parts {
        if !matches!(reference.as_str(), "builtin" | "extract")
            && let Err(error) = hub.locate(&reference, role)
        {
            output.note(&format!("warning: {error}"));
        }
        output.line(&format!("{} = \"{reference}\"", role.name()))?;
        config.insert(role.name().to_string(), toml::Value::String(reference));
    }
    fs::write_atomic(&path, toml::to_string(&config)?.as_bytes())?;
    output.note(&format!("written to {}", path.display()));
    Ok(())
}

/// Text to stdout as it comes, speeds to stderr.
fn try_generator(
    model: &mut LocalModel,
    prompt: &str,
    raw: bool,
    options: &GenerationOptions,
    output: &Output,
) -> Result<()> {
    let mut written = Ok(());
    let mut on_text = |text: &str| {
        if !output.json {
            written = output.piece(text);
        }
        written.is_ok()
    };
    let completion = if raw {
        model.complete(prompt, options, &mut on_text)?
    } else {
        model.chat("", prompt, options, &mut on_text)?
    };
    written?;
    if output.json {
        return output.completion_json(&completion);
    }
    if !completion.text.ends_with('\n') && std::io::stdout().is_terminal() {
        output.line("")?;
    }
    let speed = |n_tokens: usize, time: Duration| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
        let rate = n_tokens as f64 / time.as_secs_f64().max(1e-9);
        format!("{n_tokens} tokens, {rate:.1} tokens/s")
    };
    output.note(&format!(
        "prefill {}; decode {}",
        speed(completion.n_prompt_tokens, completion.prefill),
        speed(completion.n_generated_tokens, completion.decode),
    ));
    Ok(())
}
