//! Text → unit vector.
//!
//! An embedder is the built-in static one or a checkpoint in sentence-transformers layout; both stand behind
//! [`Embed`]. Queries and passages have two methods, so that a model's prefixes cannot be mixed up.

pub mod static_embedding;
pub mod subwords;

use anyhow::Result;

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
}
