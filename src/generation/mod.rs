//! [`Prompt`] → text.
//!
//! `extract` quotes the sentences that answer; a LLaMA-family model in candle writes. Both stand behind [`Generate`].

mod attention;
mod chat_template;
mod config;
mod extract;
mod few_queries;
mod gating;
mod gguf;
mod llama;
mod local_model;
mod lora;
mod mapping;
mod memory;
mod packed;
mod prefix;
mod rope;
mod sampling;
mod softmax;
mod tokenizer;
mod weights;
mod workers;

pub use extract::Extract;
pub use local_model::{Completion, Finish, LocalModel};

use anyhow::Result;

use crate::prompt::Prompt;

/// How text is drawn from a model. The default is greedy and deterministic.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Most tokens that are generated.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens with this total probability; 1 keeps all.
    pub top_p: f64,
    /// Most likely tokens kept; 0 keeps all.
    pub top_k: usize,
    /// Tokens less likely than this share of the most likely one are dropped; 0 drops none.
    pub min_p: f64,
    /// Above 1 makes tokens of the recent text less likely.
    pub repeat_penalty: f32,
    /// Same seed, same text.
    pub seed: u64,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        GenerationOptions {
            max_tokens: 512,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Writes an answer to a prompt.
pub trait Generate {
    /// The name a user would type: `extract`, `org/name:file.gguf`, a path.
    fn name(&self) -> &str;

    /// Most tokens the passages may take (context length less rules, question and answer), or `None` when the
    /// generator reads no tokens.
    fn passage_budget(&self) -> Option<usize>;

    /// Tokens of a text.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn count_tokens(&self, text: &str) -> Result<usize>;

    /// Writes the answer; each finished piece of text also goes to `on_text`, never half a character. `on_text`
    /// returns whether to go on.
    ///
    /// # Errors
    /// When the prompt exceeds the context or the model fails.
    fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerationOptions,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String>;
}
