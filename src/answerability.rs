//! Do the passages hold the answer? One decision for every generator, made before any text is written.
//!
//! A question is taken as answerable when the passages that were found cover the words that carry its meaning. A similarity
//! threshold alone fails both ways (an unanswerable question about 병가 is very similar to passages about 휴직); what tells
//! near misses apart is a rare word of the question that no passage has.

use crate::index::{Reader, lexical};
use crate::prompt::Passage;
use crate::question::Question;

use anyhow::Result;

/// Coverage from which a question counts as answerable.
const MIN_COVERAGE: f32 = 0.6;

/// The decision and its parts, for `--explain`.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Whether to answer.
    pub answerable: bool,
    /// Weighted share of the question's words that the best passage covers, 0 to 1.
    pub coverage: f32,
    /// Words of the question that the best passage does not have.
    pub missing: Vec<String>,
}

/// Judges the passages.
#[must_use]
pub fn judge(word_weights: &[(String, f32)], passages: &[Passage]) -> Judgement {
    let covered = |passage: &Passage| {
        let text = Haystack::new(&format!(
            "{}\n{}\n{}",
            passage.source,
            passage.path.join("\n"),
            passage.text()
        ));
        word_weights
            .iter()
            .map(|(word, weight)| weight * text.cover(word))
            .sum::<f32>()
    };
    let best = passages
        .iter()
        .map(|passage| (covered(passage), passage))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((coverage, passage)) = best else {
        return Judgement {
            answerable: false,
            coverage: 0.0,
            missing: Vec::new(),
        };
    };
    let text = Haystack::new(&format!(
        "{}\n{}\n{}",
        passage.source,
        passage.path.join("\n"),
        passage.text()
    ));
    let missing = word_weights
        .iter()
        .filter(|(word, _)| text.cover(word) < 0.5)
        .map(|(word, _)| word.clone());
    Judgement {
        answerable: coverage >= MIN_COVERAGE,
        coverage,
        missing: missing.collect(),
    }
}

/// How much each word of a question tells, by how rare it is in the index; the weights sum to 1.
///
/// # Errors
/// When the index cannot be read.
pub fn word_weights(reader: &Reader, question: &Question) -> Result<Vec<(String, f32)>> {
    let n_chunks = reader.n_chunks()? as f32;
    let mut weights = Vec::new();
    for word in &question.words {
        let terms = lexical::terms(word);
        let frequency = reader
            .document_frequencies(&terms)?
            .into_iter()
            .min()
            .unwrap_or(0) as f32;
        let idf = (1.0 + (n_chunks - frequency + 0.5).max(0.0) / (frequency + 0.5)).ln();
        let substance = if word.chars().count() == 1 { 0.3 } else { 1.0 };
        weights.push((word.clone(), idf * substance));
    }
    let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
    if total > 0.0 {
        weights.iter_mut().for_each(|(_, weight)| *weight /= total);
    }
    Ok(weights)
}

/// A text in which words are looked for, whatever its spacing.
#[derive(Debug, Clone)]
pub struct Haystack {
    squashed: String,
}

impl Haystack {
    /// Prepares a text.
    #[must_use]
    pub fn new(text: &str) -> Haystack {
        let squashed = text
            .chars()
            .filter(|character| character.is_alphanumeric())
            .flat_map(char::to_lowercase);
        Haystack {
            squashed: squashed.collect(),
        }
    }

    /// How far the text has a word: 1 when it stands there, else the share of its character pairs that do, less a tenth.
    #[must_use]
    pub fn cover(&self, word: &str) -> f32 {
        if self.squashed.contains(word) {
            return 1.0;
        }
        let characters: Vec<char> = word.chars().collect();
        let n_pairs = characters.len().saturating_sub(1);
        if n_pairs == 0 {
            return 0.0;
        }
        let found = characters
            .windows(2)
            .filter(|pair| self.squashed.contains(&pair.iter().collect::<String>()));
        0.9 * found.count() as f32 / n_pairs as f32
    }
}
