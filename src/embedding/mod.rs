//! Text → unit vector.
//!
//! An embedder is the built-in static one or a checkpoint in sentence-transformers layout; both stand behind
//! [`Embed`]. Queries and passages have two methods, so that a model's prefixes cannot be mixed up.

mod bert;
mod dense;
pub(crate) mod encoder;
pub(crate) mod family;
mod fingerprint;
mod kernels;
pub mod pooling;
pub mod sentence_transformer;
pub mod static_embedding;
mod stock;
pub mod subwords;
pub(crate) mod tokenizer;
pub(crate) mod weights;

use std::path::Path;

use anyhow::Result;
use candle_core::Device;

use crate::alignment::Alignment;

use encoder::Encode;
use family::{Family, Settings};
use pooling::Pooling;
use sentence_transformer::SentenceTransformer;
use weights::Weights;

/// What an index remembers of the embedder that made its vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderId {
    /// The name a user would type: `builtin`, `org/name`, a folder.
    pub name: String,
    /// Changes whenever the same text would get another vector: a digest over weights, tokenizer and settings.
    pub fingerprint: String,
    /// Length of each vector.
    pub dimension: usize,
}

/// Turns texts into vectors of unit length.
pub trait Embed: Send + Sync {
    /// Which embedder this is.
    fn id(&self) -> &EmbedderId;

    /// One question → `[dimension]`, unit length.
    ///
    /// # Errors
    /// When the model cannot process the text.
    fn embed_query(&self, text: &str) -> Result<Vec<f32>>;

    /// Passages → one `[dimension]` vector each, unit length, in the order given. A passage gets the same vector
    /// alone as in a batch.
    ///
    /// # Errors
    /// When the model cannot process a text.
    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;

    /// What compares a question with texts word by word; `None` where the embedder has no vectors of words.
    ///
    /// # Errors
    /// When a word cannot be embedded.
    fn alignment(&self, question: &str) -> Result<Option<Alignment<'_>>> {
        let _ = question;
        Ok(None)
    }
}

/// Words that stand before a text, so that a model knows what it is. Empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefixes {
    /// Before a question.
    pub query: String,
    /// Before a passage.
    pub passage: String,
}

/// Prefixes that a user chose; `None` leaves the choice to the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GivenPrefixes {
    /// Before a question.
    pub query: Option<String>,
    /// Before a passage.
    pub passage: Option<String>,
}

/// What a user may say about a checkpoint. The default leaves everything to the checkpoint's files.
#[derive(Debug, Clone)]
pub struct EmbeddingOptions {
    /// Instead of the checkpoint's prompts.
    pub prefixes: GivenPrefixes,
    /// Instead of the checkpoint's pooling; needed where it has no `modules.json`.
    pub pooling: Option<Pooling>,
    /// Most tokens of a text; never more than the model has positions for.
    pub max_tokens: Option<usize>,
    /// Threads; one per core if `None`.
    pub n_threads: Option<usize>,
    /// Where the model runs.
    pub device: Device,
}

impl Default for EmbeddingOptions {
    fn default() -> Self {
        EmbeddingOptions {
            prefixes: GivenPrefixes::default(),
            pooling: None,
            max_tokens: None,
            n_threads: None,
            device: Device::Cpu,
        }
    }
}

/// Loads the checkpoint in `folder`, a folder in sentence-transformers layout; see [`SentenceTransformer::load`].
///
/// # Errors
/// As [`SentenceTransformer::load`].
pub fn load_folder(
    folder: &Path,
    name: &str,
    known: Option<&Prefixes>,
    options: &EmbeddingOptions,
) -> Result<Box<dyn Embed>> {
    let embedder = SentenceTransformer::load(folder, name, known, options)?;
    Ok(Box::new(embedder))
}

/// The encoder of a checkpoint: on the CPU our own where there is one, on other devices candle's.
///
/// # Errors
/// When the weights do not fit `config.json`.
pub(crate) fn transformer(
    settings: &Settings,
    weights: &Weights,
    device: &Device,
) -> Result<Box<dyn Encode>> {
    match settings.family {
        Family::Bert | Family::Roberta | Family::DistilBert if device.is_cpu() => {
            Ok(Box::new(bert::Bert::load(settings, weights)?))
        }
        Family::Bert | Family::Roberta | Family::DistilBert | Family::ModernBert => {
            Ok(Box::new(stock::Stock::load(settings, weights, device)?))
        }
    }
}
