//! Text → token ids, by a checkpoint's `tokenizer.json`.
//!
//! The file's own truncation and padding are switched off and replaced: checkpoints ship values left over from
//! training (all-MiniLM-L6-v2 pads every text to 128 tokens), and a batch here carries no padding at all. Special
//! tokens come from the file's post-processor.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use tokenizers::{Encoding, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::fs;

/// The tokens of one text, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// One id per token.
    pub(crate) ids: Vec<u32>,
    /// 0, or 1 for the second text of a pair.
    pub(crate) type_ids: Vec<u32>,
}

impl Tokens {
    /// How many tokens.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// A checkpoint's tokenizer with its truncation set.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    lower_case: bool,
}

/// Most tokens a text could have when nothing says a smaller number; Python writes 1e30 for "no limit".
const NO_LIMIT: f64 = 1e9;

impl TextTokenizer {
    /// Reads `tokenizer.json`; texts are cut after `max_tokens`, special tokens included.
    ///
    /// # Errors
    /// When the file is missing or damaged, or `max_tokens` leaves no room for text.
    pub(crate) fn open(folder: &Path, max_tokens: usize, lower_case: bool) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = fs::read(&path)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let n_special = tokenizer
            .encode("", true)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?
            .len();
        ensure!(
            max_tokens > n_special + 2,
            "at most {max_tokens} tokens a text: {n_special} of them are special, no room is left"
        );
        tokenizer
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length: max_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Ok(TextTokenizer {
            tokenizer,
            lower_case,
        })
    }

    /// One text, trimmed at both ends as sentence-transformers does.
    ///
    /// # Errors
    /// When the tokenizer fails, or nothing is left of the text.
    pub(crate) fn encode(&self, text: &str) -> Result<Tokens> {
        let trimmed = self.prepared(text);
        let encoding = self
            .tokenizer
            .encode(trimmed, true)
            .map_err(|error| anyhow!("tokenizer: {error}"))?;
        tokens(&encoding)
    }

    /// Two texts as a cross-encoder reads them; the longer one is cut first.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub(crate) fn encode_pair(&self, first: &str, second: &str) -> Result<Tokens> {
        let pair = (self.prepared(first), self.prepared(second));
        let encoding = self
            .tokenizer
            .encode(pair, true)
            .map_err(|error| anyhow!("tokenizer: {error}"))?;
        tokens(&encoding)
    }

    fn prepared(&self, text: &str) -> String {
        let trimmed = text.trim();
        if self.lower_case {
            trimmed.to_lowercase()
        } else {
            trimmed.to_string()
        }
    }
}

fn tokens(encoding: &Encoding) -> Result<Tokens> {
    ensure!(!encoding.is_empty(), "the text has no tokens");
    Ok(Tokens {
        ids: encoding.get_ids().to_vec(),
        type_ids: encoding.get_type_ids().to_vec(),
    })
}

/// `model_max_length` of `tokenizer_config.json`, where there is such a file and it sets a limit.
///
/// # Errors
/// When the file is there and damaged.
pub(crate) fn model_max_length(folder: &Path) -> Result<Option<usize>> {
    #[derive(Deserialize)]
    struct TokenizerConfig {
        model_max_length: Option<f64>,
    }
    let path = folder.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let config: TokenizerConfig = serde_json::from_str(&fs::read_to_string(&path)?)
        .with_context(|| path.display().to_string())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between 1 and 1e9"
    )]
    Ok(config
        .model_max_length
        .filter(|length| (1.0..NO_LIMIT).contains(length))
        .map(|length| length as usize))
}
