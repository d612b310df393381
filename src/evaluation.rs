//! Questions with known answers → how often ragq finds, answers, cites and refuses rightly.
//!
//! Pure functions over what was found and answered; the command runs the questions. Names and definitions are those of
//! information retrieval: hit@k is the share of answerable questions whose document is among the first k documents, MRR the
//! mean of 1/rank (0 beyond the tenth). A refusal is `answered: false`; its precision and recall are over all questions.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::ask::Asked;
use crate::normalisation::normalised;
use crate::retrieval::Hit;

/// Documents looked at for hit@k and MRR.
pub const DEPTH: usize = 10;

/// One question of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Case {
    /// The question.
    pub question: String,
    /// Texts of which a right answer holds at least one; white space, punctuation and case do not count.
    #[serde(default)]
    pub answers: Vec<String>,
    /// File that holds the answer: its path relative to the ingested folder, or its name.
    #[serde(default)]
    pub source: Option<String>,
    /// Whether the documents hold the answer.
    #[serde(default = "yes")]
    pub answerable: bool,
}

fn yes() -> bool {
    true
}

/// What came of one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Rank of the right document, from 1, within [`DEPTH`].
    pub rank: Option<usize>,
    /// Whether it was answered.
    pub answered: bool,
    /// Whether the answer holds one of the known answers; `None` when none is known.
    pub holds_answer: Option<bool>,
    /// Whether a citation names the right document; `None` when it is not known or nothing was answered.
    pub cites_source: Option<bool>,
    /// Citations, and how many of them are verified.
    pub n_citations: usize,
    /// Citations whose quote carries the statement.
    pub n_verified: usize,
    /// Time for the answer.
    pub elapsed_ms: f64,
}

/// Shares over a question set; `None` where no question allows it to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Questions.
    pub questions: usize,
    /// Those that the documents answer.
    pub answerable: usize,
    /// Share of answerable questions with the right document first.
    pub hit_at_1: Option<f64>,
    /// … among the first five.
    pub hit_at_5: Option<f64>,
    /// … among the first ten.
    pub hit_at_10: Option<f64>,
    /// Mean reciprocal rank of the right document.
    pub mrr: Option<f64>,
    /// Share of answerable questions whose answer holds a known answer.
    pub answer_containment: Option<f64>,
    /// Share of refusals that are right.
    pub refusal_precision: Option<f64>,
    /// Share of unanswerable questions that were refused.
    pub refusal_recall: Option<f64>,
    /// Harmonic mean of the two.
    pub refusal_f1: Option<f64>,
    /// Share of answers that cite the right document.
    pub citation_correctness: Option<f64>,
    /// Share of citations that are verified.
    pub citations_verified: Option<f64>,
    /// Mean time for an answer.
    pub ms_per_question: Option<f64>,
}

/// Reads a question file, one JSON object a line; empty lines are passed over.
///
/// # Errors
/// The line that is not a question.
pub fn parse_cases(text: &str) -> Result<Vec<Case>> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("line {}", at + 1)))
        .collect()
}

/// Compares what was found and answered with what is known.
#[must_use]
pub fn assess(case: &Case, hits: &[Hit], asked: &Asked) -> Outcome {
    let answer = &asked.answer;
    let is_right = |source: &str| {
        case.source
            .as_deref()
            .is_some_and(|wanted| same_file(source, wanted))
    };
    let mut documents: Vec<&str> = Vec::new();
    for hit in hits {
        if !documents.contains(&hit.chunk.source.as_str()) {
            documents.push(&hit.chunk.source);
        }
    }
    let rank = documents
        .iter()
        .take(DEPTH)
        .position(|source| is_right(source))
        .map(|at| at + 1);
    let text = squash(&answer.text);
    let holds = answer.answered
        && case
            .answers
            .iter()
            .map(|known| squash(known))
            .any(|known| text.contains(&known));
    let cites = answer
        .citations
        .iter()
        .any(|citation| is_right(&citation.source));
    Outcome {
        rank,
        answered: answer.answered,
        holds_answer: (!case.answers.is_empty()).then_some(holds),
        cites_source: (case.source.is_some() && answer.answered).then_some(cites),
        n_citations: answer.citations.len(),
        n_verified: answer
            .citations
            .iter()
            .filter(|citation| citation.verified)
            .count(),
        elapsed_ms: (asked.retrieve + asked.generate).as_secs_f64() * 1e3,
    }
}

/// Sums up a question set.
#[must_use]
pub fn report(results: &[(Case, Outcome)]) -> Report {
    let answerable = || results.iter().filter(|(case, _)| case.answerable);
    let ranked = || answerable().filter(|(case, _)| case.source.is_some());
    let hit_at = |k: usize| {
        mean(ranked().map(|(_, outcome)| share(outcome.rank.is_some_and(|rank| rank <= k))))
    };
    let refused = || results.iter().filter(|(_, outcome)| !outcome.answered);
    let refusal_precision = mean(refused().map(|(case, _)| share(!case.answerable)));
    let unanswerable = results.iter().filter(|(case, _)| !case.answerable);
    let refusal_recall = mean(unanswerable.map(|(_, outcome)| share(!outcome.answered)));
    let refusal_f1 = match (refusal_precision, refusal_recall) {
        (Some(precision), Some(recall)) if precision + recall > 0.0 => {
            Some(2.0 * precision * recall / (precision + recall))
        }
        (Some(_), Some(_)) => Some(0.0),
        _ => None,
    };
    let verified = results
        .iter()
        .flat_map(|(_, outcome)| (0..outcome.n_citations).map(|n| share(n < outcome.n_verified)));
    Report {
        questions: results.len(),
        answerable: answerable().count(),
        hit_at_1: hit_at(1),
        hit_at_5: hit_at(5),
        hit_at_10: hit_at(DEPTH),
        mrr: mean(ranked().map(|(_, outcome)| outcome.rank.map_or(0.0, reciprocal))),
        answer_containment: mean(
            answerable().filter_map(|(_, outcome)| outcome.holds_answer.map(share)),
        ),
        refusal_precision,
        refusal_recall,
        refusal_f1,
        citation_correctness: mean(
            answerable().filter_map(|(_, outcome)| outcome.cites_source.map(share)),
        ),
        citations_verified: mean(verified),
        ms_per_question: mean(results.iter().map(|(_, outcome)| outcome.elapsed_ms)),
    }
}

fn share(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a rank is at most ten")]
fn reciprocal(rank: usize) -> f64 {
    1.0 / rank as f64
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0.0);
    for value in values {
        sum += value;
        n += 1.0;
    }
    (n > 0.0).then(|| sum / n)
}

fn same_file(source: &str, wanted: &str) -> bool {
    let wanted: String = wanted.nfc().collect();
    source == wanted || source.rsplit('/').next() == Some(&wanted)
}

fn squash(text: &str) -> String {
    normalised(text)
        .chars()
        .filter(|character| character.is_alphanumeric())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(answerable: bool, answered: bool, rank: Option<usize>) -> (Case, Outcome) {
        let case = Case {
            question: "?".into(),
            answers: vec!["2년".into()],
            source: Some("a.pdf".into()),
            answerable,
        };
        let outcome = Outcome {
            rank,
            answered,
            holds_answer: Some(answered),
            cites_source: answered.then_some(rank == Some(1)),
            n_citations: usize::from(answered),
            n_verified: usize::from(answered),
            elapsed_ms: 2.0,
        };
        (case, outcome)
    }

    #[test]
    fn shares_are_as_defined() {
        let report = report(&[
            result(true, true, Some(1)),
            result(true, true, Some(4)),
            result(true, false, None),
            result(false, false, None),
            result(false, true, None),
        ]);
        assert_eq!(report.hit_at_1, Some(1.0 / 3.0));
        assert_eq!(report.hit_at_5, Some(2.0 / 3.0));
        assert_eq!(report.mrr, Some((1.0 + 0.25) / 3.0));
        assert_eq!(report.refusal_precision, Some(0.5));
        assert_eq!(report.refusal_recall, Some(0.5));
        assert_eq!(report.refusal_f1, Some(0.5));
        assert_eq!(report.answer_containment, Some(2.0 / 3.0));
        assert_eq!(report.citation_correctness, Some(0.5));
        assert_eq!(report.citations_verified, Some(1.0));
    }

    #[test]
    fn what_cannot_be_measured_is_not_zero() {
        let report = report(&[]);
        assert_eq!(
            (report.hit_at_1, report.refusal_f1, report.ms_per_question),
            (None, None, None)
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = parse_cases("{\"question\":\"a\"}\n\nnot json\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 3: "), "{error:#}");
    }

    #[test]
    fn a_file_is_known_by_path_or_name() {
        assert!(same_file("규정/휴직.pdf", "휴직.pdf"));
        assert!(same_file("규정/휴직.pdf", "규정/휴직.pdf"));
        assert!(!same_file("규정/휴직.pdf", "직.pdf"));
    }
}
