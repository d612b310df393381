//! `ragq models`: tables, checks, vectors, generated text.

use anyhow::Result;
use ragq::generation::{Completion, Finish};
use ragq::hub::catalog::PRESETS;
use ragq::hub::{FileState, Listed, Verified};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Output, Style};

/// The line of `models embed`.
#[derive(Serialize)]
struct EmbeddingLine<'a> {
    embedding: &'a [f32],
}

impl Output {
    /// The models ragq knows by name, and the presets made of them.
    pub(crate) fn models(&self, listed: &[Listed]) -> Result<()> {
        if self.json {
            let models: Vec<Value> = listed.iter().map(model_json).collect();
            let presets: Vec<Value> = PRESETS
                .iter()
                .map(|preset| json!({ "name": preset.name, "purpose": preset.purpose, "models": preset.models }))
                .collect();
            return self.json_line(&json!({ "presets": presets, "models": models }));
        }
        self.styled_line(&self.styled("built in", Style::Bold))?;
        self.line("  builtin    embedder, Korean and English")?;
        self.line("  extract    generator that quotes")?;
        for preset in PRESETS {
            self.line("")?;
            let name = self.styled(preset.name, Style::Bold);
            self.styled_line(&format!("{name}: {}", self.plain(preset.purpose)))?;
            for listed in listed
                .iter()
                .filter(|listed| preset.models.contains(&listed.model.reference))
            {
                self.model(listed)?;
            }
        }
        let others = listed.iter().filter(|listed| {
            !PRESETS
                .iter()
                .any(|preset| preset.models.contains(&listed.model.reference))
        });
        for (at, listed) in others.enumerate() {
            if at == 0 {
                self.line("")?;
                self.styled_line(&self.styled("others", Style::Bold))?;
            }
            self.model(listed)?;
        }
        Ok(())
    }

    fn model(&self, listed: &Listed) -> Result<()> {
        let model = listed.model;
        let here = if listed.path.is_some() {
            "here"
        } else {
            "not here"
        };
        self.line(&format!("  {:<9}  {}", model.role.name(), model.reference))?;
        self.line(&format!(
            "             {} MB · {} · {} · {here}",
            model.n_megabytes, model.licence, model.languages
        ))
    }

    /// What became of checking one file.
    pub(crate) fn verified(&self, file: &Verified) -> Result<()> {
        let (state, text) = match &file.state {
            FileState::Intact => ("intact", "intact".to_string()),
            FileState::Damaged { expected, found } => (
                "damaged",
                format!("damaged: expected {expected}, found {found}"),
            ),
            FileState::Missing => ("missing", "missing".to_string()),
            FileState::Unknown => ("unknown", "no checksum to compare with".to_string()),
        };
        if self.json {
            return self.json_line(&json!({ "file": file.file, "state": state }));
        }
        self.line(&format!("{}: {text}", file.file))
    }

    /// A vector on one line.
    pub(crate) fn embedding(&self, vector: &[f32]) -> Result<()> {
        self.json_line(&EmbeddingLine { embedding: vector })
    }

    /// Generated text with its counts and times.
    pub(crate) fn completion_json(&self, completion: &Completion) -> Result<()> {
        let finish = match completion.finish {
            Finish::EndOfTurn => "end_of_turn",
            Finish::MaxTokens => "max_tokens",
            Finish::ContextFull => "context_full",
            Finish::Stopped => "stopped",
        };
        self.json_line(&json!({
            "text": completion.text,
            "finish": finish,
            "prompt_tokens": completion.n_prompt_tokens,
            "generated_tokens": completion.n_generated_tokens,
            "elapsed_ms": {
                "prefill": super::milliseconds(completion.prefill),
                "decode": super::milliseconds(completion.decode),
            },
        }))
    }
}

fn model_json(listed: &Listed) -> Value {
    let model = listed.model;
    json!({
        "role": model.role.name(),
        "reference": model.reference,
        "megabytes": model.n_megabytes,
        "licence": model.licence,
        "languages": model.languages,
        "path": listed.path,
    })
}
