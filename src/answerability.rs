//! Do the passages hold the answer? One decision for every generator, made before any text is written.
//!
//! A similarity threshold alone fails both ways: a question about 병가 is very similar to passages about 휴직. So five things
//! are weighed, all of the best hit: how much of what the question's words tell stands there; how far the hit says the words
//! in whatever words ([`crate::alignment`]; the built-in embedder is trained to tell an aligned passage from a threshold);
//! the one word it is furthest from saying; and the other way round, how far the question says the hit's headings and the one
//! sentence that says least besides.
//!
//! The weights are a logistic regression over fifteen sets of Korean questions, each set of equal weight: about welfare
//! programmes, encyclopaedia facts and statutes as large and as small folders, about encyclopaedia articles in the words of
//! exams, and everyday questions about statutes and office documents; with passages that are there, with passages removed,
//! and with near misses written by hand. At the threshold 9 % of answerable questions are refused (none to 25 % of a set,
//! most where people ask in everyday or translated words); F1 of refusals is .70 on average, .97 and .98 where whole articles
//! are removed, .48 to .58 for the four sets of near misses. With a set's kind left out of the fit, F1 at 10 % is .68 on
//! average; it was .64 without the headings and the sentence, and with the missing word looked for letter by letter.

use anyhow::Result;

use crate::alignment::Alignment;
use crate::embedding::static_embedding::StaticEmbedding;
use crate::index::{Reader, lexical};
use crate::question::{self, Question};
use crate::retrieval::{Retrieval, inverse_document_frequency};
use crate::sentence;

const COVERAGE_WEIGHT: f32 = 1.7;
const ALIGNMENT_WEIGHT: f32 = 4.1;
const MISSING_WEIGHT: f32 = -3.9;
const HEADING_WEIGHT: f32 = 0.8;
const SENTENCE_WEIGHT: f32 = 2.9;
const BIAS: f32 = -3.9;

/// A word that takes less of the question away is not missing.
const MIN_MISSING: f32 = 0.01;

/// What stands for a heading where there is none, in the regression too. Headings of best hits have .52 on average where
/// the question can be answered, between .1 and .97 by the kind of set.
const USUAL_HEADING: f32 = 0.6;

/// Log-odds from which a question counts as answerable. Below even: refusing what could be answered costs a user more
/// than a quote that he sees to be beside the point.
const MIN_LOG_ODDS: f32 = -0.8;

/// A cross-encoder has read question and passage together; where one is used, its even odds decide.
const MIN_RERANKED: f32 = 0.5;

/// How much an aspect, a verb or a single character tells next to a word that names a subject: verbs are said in many
/// ways, and a single character stands anywhere.
const SLIGHT_SUBSTANCE: f32 = 0.3;

/// Words that ask for an aspect of a subject. Documents seldom repeat them: the rule on 근무복장 does not say 규정.
const ASPECTS: &[&str] = &[
    "규정", "규칙", "기준", "내용", "방법", "절차", "안내", "정보", "사항", "종류", "이유", "조건",
    "관련", "설명", "요건", "의미", "정의", "경우", "필요", "가능", "회사", "직원", "사람", "최대",
    "최소", "정도", "rule", "rules", "policy",
];

/// The decision and its parts, for `--explain`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judgement {
    /// Whether to answer.
    pub answerable: bool,
    /// Weighted share of the question's words that the best hit and its headings cover, 0 to 1.
    pub coverage: f32,
    /// How far the best hit and its headings say the question word by word, by the built-in embedder whichever embedder
    /// the index has, so that one calibration serves all; 0 to 1.
    pub alignment: f32,
    /// How far the question says the words of the best hit's title and headings, by the same embedder; 0 to 1, and a usual
    /// value where there is none.
    pub heading: f32,
    /// The most that the question says of the words of one of the best hit's sentences, 0 to 1.
    pub sentence: f32,
    /// The word of the question that the best hit is furthest from saying.
    pub missing: Option<String>,
    /// How much of the question that takes away, 0 to 1.
    pub missing_weight: f32,
}

/// Judges what was found for a question; `word_weights` are [`word_weights`]'.
///
/// # Errors
/// When the embedder fails.
pub fn judge(
    builtin: &StaticEmbedding<'_>,
    question: &Question,
    word_weights: &[(String, f32)],
    retrieval: &Retrieval,
) -> Result<Judgement> {
    let mut judgement = Judgement::default();
    let Some(best) = retrieval.hits.first() else {
        return Ok(judgement);
    };
    let chunk = &best.chunk.chunk;
    let text = chunk.embedded_text();
    let mut alignment = Alignment::new(builtin, &question.search_text())?;
    judgement.alignment = alignment.of(&text)?;
    let heading = alignment.reverse(&chunk.path.join(" "))?;
    judgement.heading = heading.unwrap_or(USUAL_HEADING);
    for sentence in sentence::split(&chunk.text) {
        let said = alignment.reverse(sentence)?.unwrap_or_default();
        judgement.sentence = judgement.sentence.max(said);
    }
    let least_said = alignment.least_said(&text)?;
    if let Some((word, lacking)) = least_said.filter(|(_, lacking)| *lacking >= MIN_MISSING) {
        (judgement.missing, judgement.missing_weight) = (Some(word.to_string()), lacking);
    }
    let text = Haystack::new(&format!("{}\n{text}", best.chunk.source));
    judgement.coverage = coverage(word_weights, &text);
    let log_odds = COVERAGE_WEIGHT * judgement.coverage
        + ALIGNMENT_WEIGHT * judgement.alignment
        + MISSING_WEIGHT * judgement.missing_weight
        + HEADING_WEIGHT * judgement.heading
        + SENTENCE_WEIGHT * judgement.sentence
        + BIAS;
    judgement.answerable = match retrieval.reranked {
        Some(similarity) => similarity >= MIN_RERANKED,
        None => log_odds >= MIN_LOG_ODDS,
    };
    Ok(judgement)
}

/// Weighted share of the words that a text covers, 0 to 1.
#[must_use]
pub fn coverage(word_weights: &[(String, f32)], text: &Haystack) -> f32 {
    word_weights
        .iter()
        .map(|(word, weight)| weight * text.cover(word))
        .sum()
}

/// How much each word of a question tells, by how rare it is in the index; the weights sum to 1.
///
/// # Errors
/// When the index cannot be read.
pub fn word_weights(reader: &Reader, question: &Question) -> Result<Vec<(String, f32)>> {
    let n_chunks = reader.n_chunks()?;
    let mut weights = Vec::new();
    for word in &question.words {
        let frequencies = reader.document_frequencies(&lexical::terms(word))?;
        let rarest = frequencies.into_iter().min().unwrap_or(0);
        let idf = inverse_document_frequency(n_chunks, rarest);
        let is_slight = word.chars().count() == 1
            || ASPECTS.contains(&word.as_str())
            || question::is_predicate(word);
        weights.push((
            word.clone(),
            if is_slight {
                SLIGHT_SUBSTANCE * idf
            } else {
                idf
            },
        ));
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
        let is_part = |character: &char| character.is_alphanumeric() && *character != 'ㆍ';
        let squashed = text
            .chars()
            .filter(is_part)
            .flat_map(char::to_lowercase)
            .collect();
        Haystack { squashed }
    }

    /// How far the text has a word: 1 when it stands there. A compound may stand there in pieces of at least two
    /// characters (`육아휴직기간`: 육아휴직의 기간); what no piece covers counts more than its share, because the missing
    /// half of a compound is often its subject.
    #[must_use]
    pub fn cover(&self, word: &str) -> f32 {
        if self.squashed.contains(word) {
            return 1.0;
        }
        let characters: Vec<char> = word.chars().collect();
        let (mut n_covered, mut from) = (0, 0);
        while from < characters.len() {
            let has = |to: &usize| {
                self.squashed
                    .contains(&characters[from..*to].iter().collect::<String>())
            };
            match (from + 2..=characters.len()).rev().find(has) {
                Some(to) => {
                    n_covered += to - from;
                    from = to;
                }
                None => from += 1,
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "characters of a word")]
        let share = n_covered as f32 / characters.len().max(1) as f32;
        0.9 * share.powf(1.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::static_embedding::builtin;

    #[test]
    fn a_word_is_found_whatever_the_spacing() {
        let text = Haystack::new("육아 휴직 기간은 2년");
        let check = |word: &str, expected: f32| {
            assert!((text.cover(word) - expected).abs() < 1e-6, "{word}")
        };
        check("육아휴직", 1.0);
        check("육아기간", 0.9);
        check("근무휴직", 0.9 * 0.5_f32.powf(1.5));
        check("병가", 0.0);
        check("2", 1.0);
        check("년차", 0.0);
    }

    #[test]
    fn coverage_is_the_weight_of_the_words_that_stand_there() {
        let weights = [("휴직".to_string(), 0.7), ("병가".to_string(), 0.3)];
        assert!((coverage(&weights, &Haystack::new("휴직 기간")) - 0.7).abs() < 1e-6);
    }

    #[test]
    fn nothing_found_is_not_answerable() {
        let weights = [("휴직".to_string(), 1.0)];
        let question = Question::parse("휴직").unwrap();
        let judgement = judge(
            &builtin().unwrap(),
            &question,
            &weights,
            &Retrieval::default(),
        );
        assert!(!judgement.unwrap().answerable);
    }
}
