//! `ragq ask`: question → cited answer.
//!
//! Connects the stages: retrieve, widen to passages, judge whether they hold the answer, prompt, generate, resolve. It
//! prints nothing and opens nothing; the stages come ready-made.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::answer::Answer;
use crate::answerability::{self, Judgement};
use crate::embedding::Embed;
use crate::embedding::static_embedding::StaticEmbedding;
use crate::generation::{Generate, GenerationOptions};
use crate::index::Reader;
use crate::prompt::{self, Passage};
use crate::question::Question;
use crate::reranking::Reranker;
use crate::retrieval::{self, Retrieval};

/// The stages that a question passes through.
pub struct Stages<'a> {
    /// The index, in one state.
    pub reader: &'a Reader,
    /// The embedder that made its vectors.
    pub embedder: &'a dyn Embed,
    /// The built-in embedder, by which answerability is judged whatever embedder the index has.
    pub builtin: &'a StaticEmbedding<'static>,
    /// What re-orders the hits, if anything.
    pub reranker: Option<&'a Reranker>,
    /// What writes the answer.
    pub generator: &'a mut dyn Generate,
}

/// An answer with everything that led to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The question as it was read.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
    /// What was found.
    pub retrieval: Retrieval,
    /// The passages made of them, in label order.
    pub passages: Vec<Passage>,
    /// Passages that the generator had no room for.
    pub n_left_out: usize,
    /// Why it was answered or not.
    pub judgement: Judgement,
    /// Time until the passages were there.
    pub retrieve: Duration,
    /// Time for the rest.
    pub generate: Duration,
}

/// Answers one question from `top_k` hits. Generated text goes to `on_text` as it comes, before its citations are checked;
/// `on_text` returns whether to go on.
///
/// # Errors
/// When the question cannot be used, the index cannot be read, or a model fails.
pub fn ask(
    question: &str,
    stages: &mut Stages<'_>,
    top_k: usize,
    options: &GenerationOptions,
    on_text: &mut dyn FnMut(&str) -> bool,
) -> Result<Asked> {
    let start = Instant::now();
    let question = Question::parse(question)?;
    let retrieval = retrieval::retrieve_reranked(
        stages.reader,
        stages.embedder,
        stages.reranker,
        &question,
        top_k,
    )?;
    let passages = prompt::passages(stages.reader, &retrieval.hits)?;
    let word_weights = answerability::word_weights(stages.reader, &question)?;
    let judgement = answerability::judge(stages.builtin, &question, &word_weights, &retrieval)?;
    let retrieve = start.elapsed();

    let start = Instant::now();
    let language = question.language;
    let (answer, n_left_out) = if judgement.answerable {
        let generator = &mut *stages.generator;
        let budget = generator.passage_budget();
        let prompt = prompt::build(
            question.clone(),
            word_weights,
            passages.clone(),
            budget,
            &|text| generator.count_tokens(text),
        )?;
        let text = generator.generate(&prompt, options, on_text)?;
        (
            Answer::resolve(&text, &prompt.passages, language),
            prompt.n_left_out,
        )
    } else {
        (Answer::unknown(language), 0)
    };
    Ok(Asked {
        question,
        answer,
        retrieval,
        passages,
        n_left_out,
        judgement,
        retrieve,
        generate: start.elapsed(),
    })
}
