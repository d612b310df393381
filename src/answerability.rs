//! Do the passages hold the answer? One decision for every generator, made before any text is written.
//!
//! A similarity threshold alone fails both ways: a question about 병가 is very similar to passages about 휴직. So five things
//! are looked at. Four are weighed together: how much of the ideal BM25 the best chunk reaches, how much of the question's
//! words the best chunk covers, how far it is ahead of the next, and how near the best chunk is in meaning. The fifth
//! decides alone: a telling word of the question that the best passage does not have makes a near miss.
//!
//! The weights are a logistic regression over Korean questions about welfare programmes, encyclopaedia facts and statutes,
//! each as a large and as a small folder, and everyday questions about statutes and office documents: questions whose
//! passages are there, questions whose passages were removed, and questions about something else. At the thresholds some
//! 6 % of the first are refused wrongly (mean of the eight), and 88 % of the last rightly; of the second 0 % to 57 %,
//! depending on how much the remaining passages resemble the removed ones.

use anyhow::Result;

use crate::embedding::Embed;
use crate::embedding::static_embedding::StaticEmbedding;
use crate::index::{Reader, lexical};
use crate::prompt::Passage;
use crate::question::{self, Question};
use crate::retrieval::{Retrieval, inverse_document_frequency};

const SHARE_WEIGHT: f32 = 1.8;
const COVERAGE_WEIGHT: f32 = 1.4;
const MARGIN_WEIGHT: f32 = 2.8;
const MEANING_WEIGHT: f32 = 5.4;
const BIAS: f32 = -4.0;

/// Log-odds from which a question counts as answerable.
const MIN_LOG_ODDS: f32 = -1.0;

/// A word of the question that tells more than this share of it must stand in the best passage.
const MAX_MISSING: f32 = 0.5;

/// A cross-encoder has read question and passage together; where one is used, its even odds decide.
const MIN_RERANKED: f32 = 0.5;

/// Hits that are looked at for coverage.
const N_HITS: usize = 5;

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
    /// Share of the ideal BM25 that the best hit reaches, 0 to 1.
    pub ideal_share: f32,
    /// Weighted share of the question's words that the best hit and its headings cover, 0 to 1.
    pub coverage: f32,
    /// How far the best hit of the lexical leg is ahead of the second, 0 to 1.
    pub margin: f32,
    /// Greatest cosine of question and hit by the built-in embedder, -1 to 1.
    pub meaning: f32,
    /// The word of the question that the best passage lacks most.
    pub missing: Option<String>,
    /// How much of the question that word tells, 0 to 1.
    pub missing_weight: f32,
}

/// How near the best hits are to a question in meaning: the greatest cosine by the built-in embedder, whichever embedder
/// the index has, so that one calibration serves all.
///
/// # Errors
/// When the embedder fails.
pub fn meaning(
    builtin: &StaticEmbedding<'_>,
    question: &Question,
    retrieval: &Retrieval,
) -> Result<f32> {
    let texts: Vec<String> = retrieval
        .hits
        .iter()
        .take(N_HITS)
        .map(|hit| hit.chunk.chunk.embedded_text())
        .collect();
    let question = builtin.embed_query(&question.text)?;
    let vectors = builtin.embed_passages(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let cosine = |vector: Vec<f32>| question.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
    Ok(vectors.into_iter().map(cosine).fold(0.0, f32::max))
}

/// Judges what was found; `meaning` is [`meaning`]'s.
#[must_use]
pub fn judge(
    word_weights: &[(String, f32)],
    retrieval: &Retrieval,
    passages: &[Passage],
    meaning: f32,
) -> Judgement {
    let hits = retrieval.hits.iter().take(N_HITS);
    let coverages = hits.clone().map(|hit| {
        let chunk = &hit.chunk.chunk;
        coverage(
            word_weights,
            &Haystack::new(&format!("{}\n{}", chunk.path.join("\n"), chunk.text)),
        )
    });
    let best_lexical = hits.map(|hit| hit.lexical).fold(0.0, f32::max);
    let ideal = retrieval.ideal_lexical;
    let (missing, missing_weight) = missing_word(word_weights, passages);
    let mut judgement = Judgement {
        answerable: false,
        ideal_share: if ideal > 0.0 {
            best_lexical / ideal
        } else {
            0.0
        },
        coverage: coverages.fold(0.0, f32::max),
        margin: retrieval.lexical_margin,
        meaning,
        missing,
        missing_weight,
    };
    let log_odds = SHARE_WEIGHT * judgement.ideal_share
        + COVERAGE_WEIGHT * judgement.coverage
        + MARGIN_WEIGHT * judgement.margin
        + MEANING_WEIGHT * judgement.meaning
        + BIAS;
    judgement.answerable = !passages.is_empty()
        && match retrieval.reranked {
            Some(similarity) => similarity >= MIN_RERANKED,
            None => log_odds >= MIN_LOG_ODDS && missing_weight <= MAX_MISSING,
        };
    judgement
}

/// The word that the best-covering passage lacks most, and how much of the question that is.
fn missing_word(word_weights: &[(String, f32)], passages: &[Passage]) -> (Option<String>, f32) {
    let haystacks = passages.iter().map(|passage| {
        Haystack::new(&format!(
            "{}\n{}\n{}",
            passage.source,
            passage.path.join("\n"),
            passage.text()
        ))
    });
    let best =
        haystacks.max_by(|a, b| coverage(word_weights, a).total_cmp(&coverage(word_weights, b)));
    let Some(best) = best else { return (None, 0.0) };
    let lacking = word_weights
        .iter()
        .map(|(word, weight)| (word, weight * (1.0 - best.cover(word))));
    let most = lacking
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, weight)| *weight > 0.0);
    most.map_or((None, 0.0), |(word, weight)| (Some(word.clone()), weight))
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
        assert!(!judge(&weights, &Retrieval::default(), &[], 0.9).answerable);
    }
}
