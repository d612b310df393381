//! Question and passages → [`Prompt`] within a token budget.

use crate::document::Location;

/// A numbered passage a generator may quote.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// The n of `[n]`, from 1.
    pub label: usize,
    /// File the passage stands in, relative to the ingested folder.
    pub source: String,
    /// Title and section path, outermost first.
    pub path: Vec<String>,
    /// Where the passage begins.
    pub location: Location,
    /// The passage, verbatim, widened within its section.
    pub text: String,
    /// Cosine of question and passage, -1 to 1.
    pub similarity: f32,
}

/// Everything a generator is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The rules.
    pub system: String,
    /// The passages and the question, as the model reads them.
    pub user: String,
    /// The question as it was asked.
    pub question: String,
    /// The passages that `user` holds, in label order.
    pub passages: Vec<Passage>,
}
