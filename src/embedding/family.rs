//! `config.json` → which family of encoder a checkpoint is, and the numbers all families share.
//!
//! Field names are those that the transformers library writes. A field that changes what is computed and is not
//! there is an error that names it; none is guessed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::fs;

/// Families of encoders that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// BERT: positions from 0, token types.
    Bert,
    /// RoBERTa, XLM-R, CamemBERT: BERT with positions counted from the padding id.
    Roberta,
    /// DistilBERT: BERT without token types, under other tensor names.
    DistilBert,
    /// ModernBERT: rotary positions, local attention, gated feed-forward.
    ModernBert,
}

impl Family {
    /// The family of a `model_type`.
    ///
    /// # Errors
    /// When it is none of those supported.
    pub(crate) fn of(model_type: &str) -> Result<Family> {
        match model_type {
            "bert" => Ok(Family::Bert),
            "roberta" | "xlm-roberta" | "camembert" => Ok(Family::Roberta),
            "distilbert" => Ok(Family::DistilBert),
            "modernbert" => Ok(Family::ModernBert),
            other => bail!(
                "model_type {other}: expected bert, roberta, xlm-roberta, camembert, distilbert or modernbert"
            ),
        }
    }

    /// Name of the word embedding table, without the prefix that some checkpoints put before every name.
    pub(crate) fn word_embeddings(self) -> &'static str {
        match self {
            Family::Bert | Family::Roberta | Family::DistilBert => {
                "embeddings.word_embeddings.weight"
            }
            Family::ModernBert => "embeddings.tok_embeddings.weight",
        }
    }
}

/// What `config.json` says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The family.
    pub(crate) family: Family,
    /// The whole file, for what only one family has.
    pub(crate) config: Value,
    /// Number of different tokens.
    pub(crate) n_tokens: usize,
    /// Length of a token's vector.
    pub(crate) hidden_size: usize,
    /// Number of layers.
    pub(crate) n_layers: usize,
    /// Attention heads; a divisor of `hidden_size`.
    pub(crate) n_heads: usize,
    /// Width of the feed-forward layer.
    pub(crate) intermediate_size: usize,
    /// Rows of the position table.
    pub(crate) n_positions: usize,
    /// Added to the variance before its root is taken.
    pub(crate) layer_norm_eps: f32,
    /// The token that fills a padded batch; RoBERTa counts positions from it.
    pub(crate) pad_token: Option<u32>,
}

impl Settings {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// When the file is missing or damaged, lacks a field, or describes an encoder that is not supported.
    pub(crate) fn read(folder: &Path) -> Result<Settings> {
        let path = folder.join("config.json");
        let config: Value = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?;
        Self::from_config(config).with_context(|| path.display().to_string())
    }

    fn from_config(config: Value) -> Result<Settings> {
        let model_type = config
            .get("model_type")
            .and_then(Value::as_str)
            .context("field model_type: missing")?;
        let family = Family::of(model_type)?;
        let names = match family {
            Family::DistilBert => ["dim", "n_layers", "n_heads", "hidden_dim"],
            Family::Bert | Family::Roberta | Family::ModernBert => [
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
            ],
        };
        let [hidden_size, n_layers, n_heads, intermediate_size] = names;
        let settings = Settings {
            family,
            n_tokens: count(&config, "vocab_size")?,
            hidden_size: count(&config, hidden_size)?,
            n_layers: count(&config, n_layers)?,
            n_heads: count(&config, n_heads)?,
            intermediate_size: count(&config, intermediate_size)?,
            n_positions: count(&config, "max_position_embeddings")?,
            layer_norm_eps: layer_norm_eps(&config, family)?,
            pad_token: config
                .get("pad_token_id")
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok()),
            config,
        };
        ensure!(
            settings.hidden_size.is_multiple_of(settings.n_heads),
            "{hidden_size} {} is not a multiple of {n_heads} {}",
            settings.hidden_size,
            settings.n_heads
        );
        match settings
            .config
            .get("position_embedding_type")
            .map(Value::as_str)
        {
            None | Some(None | Some("absolute")) => {}
            Some(Some(other)) => bail!("position_embedding_type {other}: expected absolute"),
        }
        Ok(settings)
    }

    /// Most tokens of one text, special tokens included.
    ///
    /// # Errors
    /// When the position table is too short to hold any.
    pub(crate) fn max_tokens(&self) -> Result<usize> {
        let first = self.first_position()?;
        self.n_positions
            .checked_sub(first)
            .filter(|max_tokens| *max_tokens > 0)
            .with_context(|| {
                format!(
                    "max_position_embeddings {}: positions begin at {first}",
                    self.n_positions
                )
            })
    }

    /// Row of the position table that belongs to a text's first token.
    ///
    /// # Errors
    /// When a RoBERTa has no `pad_token_id`, from which it counts.
    pub(crate) fn first_position(&self) -> Result<usize> {
        match self.family {
            Family::Roberta => {
                let pad = self.pad_token.context("field pad_token_id: missing")?;
                Ok(pad as usize + 1)
            }
            Family::Bert | Family::DistilBert | Family::ModernBert => Ok(0),
        }
    }

    /// A field that holds a text.
    ///
    /// # Errors
    /// When it is missing.
    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        self.config
            .get(name)
            .and_then(Value::as_str)
            .with_context(|| format!("config.json: field {name}: missing"))
    }

    /// A field that holds a positive whole number.
    ///
    /// # Errors
    /// When it is missing or is something else.
    pub(crate) fn count(&self, name: &str) -> Result<usize> {
        count(&self.config, name).context("config.json")
    }
}

fn count(config: &Value, name: &str) -> Result<usize> {
    let value = config
        .get(name)
        .with_context(|| format!("field {name}: missing"))?;
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        // Larger numbers are no model's, and their products would overflow.
        .filter(|number| (1..=1 << 24).contains(number))
        .with_context(|| format!("field {name}: expected a positive whole number, got {value}"))
}

/// DistilBERT's is a constant of its reference implementation.
fn layer_norm_eps(config: &Value, family: Family) -> Result<f32> {
    let name = match family {
        Family::DistilBert => return Ok(1e-12),
        Family::Bert | Family::Roberta => "layer_norm_eps",
        Family::ModernBert => "norm_eps",
    };
    let eps = config
        .get(name)
        .and_then(Value::as_f64)
        .with_context(|| format!("field {name}: missing"))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "1e-12 and 1e-5 are the values in use; f32 holds both to seven digits"
    )]
    Ok(eps as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XLM_ROBERTA: &str = r#"{"model_type":"xlm-roberta","vocab_size":250002,"hidden_size":384,
        "num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":1536,"max_position_embeddings":514,
        "layer_norm_eps":1e-5,"pad_token_id":1}"#;

    #[test]
    fn a_missing_or_wrong_field_is_named() {
        let check = |change: &dyn Fn(&mut Value), words: &str| {
            let mut config: Value = serde_json::from_str(XLM_ROBERTA).unwrap();
            change(&mut config);
            let error = Settings::from_config(config)
                .and_then(|settings| settings.max_tokens())
                .unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        let remove = |name: &'static str| {
            move |config: &mut Value| drop(config.as_object_mut().unwrap().remove(name))
        };
        check(&remove("model_type"), "model_type: missing");
        check(&remove("hidden_size"), "hidden_size: missing");
        check(&remove("pad_token_id"), "pad_token_id: missing");
        check(
            &|config| config["hidden_size"] = 10.into(),
            "not a multiple",
        );
        check(&|config| config["vocab_size"] = (-1).into(), "got -1");
        check(
            &|config| config["model_type"] = "mpnet".into(),
            "model_type mpnet",
        );
        check(
            &|config| config["position_embedding_type"] = "relative_key".into(),
            "relative_key: expected absolute",
        );
        check(
            &|config| config["max_position_embeddings"] = 2.into(),
            "begin at 2",
        );
    }

    #[test]
    fn roberta_loses_the_positions_below_its_padding() {
        let settings = Settings::from_config(serde_json::from_str(XLM_ROBERTA).unwrap()).unwrap();
        assert_eq!(settings.max_tokens().unwrap(), 512);
    }
}
