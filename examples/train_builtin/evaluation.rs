//! Measures vectors on a question set: alone, and added to a lexical leg.
//!
//! The lexical leg is BM25 over pairs of characters and over words without their particles; both legs' scores over
//! all passages are brought to mean 0 and variance 1 before they are added.

use std::collections::HashMap;

use anyhow::Result;
use ragq::embedding::Embed;
use rayon::prelude::*;

use crate::corpus::{Question, QuestionSet};

/// Share of questions whose passage came first, or among the first five, and the mean of 1/rank within ten.
#[derive(Default, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) first: f64,
    pub(crate) in_five: f64,
    pub(crate) reciprocal: f64,
}

/// Characters of a unit that is embedded on its own; a passage is as near as its nearest unit.
const UNIT_CHARS: usize = 300;

/// One line for each way to rank: `dense`, `bm25`, sums by weight of the dense leg, and `aligned` as a search ranks.
pub(crate) fn measure(
    set: &QuestionSet,
    embedder: &dyn Embed,
    keep: impl Fn(&Question) -> bool,
) -> Result<Vec<(String, Quality)>> {
    let questions: Vec<&Question> = set
        .questions
        .iter()
        .filter(|q| q.answerable && !q.relevant.is_empty() && keep(q))
        .collect();
    let texts: Vec<String> = set
        .passages
        .iter()
        .map(|p| format!("{}\n\n{}", p.title, p.text))
        .collect();
    let whole = embedder.embed_passages(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (owners, units): (Vec<usize>, Vec<String>) = set
        .passages
        .iter()
        .enumerate()
        .flat_map(|(at, p)| {
            units(&p.title, &p.text)
                .into_iter()
                .map(move |unit| (at, unit))
        })
        .unzip();
    let unit_vectors =
        embedder.embed_passages(&units.iter().map(String::as_str).collect::<Vec<_>>())?;
    let lexical = Lexical::new(&texts);
    let place: HashMap<&str, usize> = set
        .passages
        .iter()
        .enumerate()
        .map(|(at, p)| (p.id.as_str(), at))
        .collect();
    let names = [
        "dense whole",
        "dense units",
        "bm25",
        "sum .3 units",
        "sum .5 units",
        "sum .5 whole",
        "aligned",
    ];
    let mut unit_texts: Vec<Vec<(&str, &[f32])>> = vec![Vec::new(); texts.len()];
    for ((owner, unit), vector) in owners.iter().zip(&units).zip(&unit_vectors) {
        unit_texts[*owner].push((unit, vector));
    }
    let ranks: Vec<Vec<usize>> = questions
        .par_iter()
        .map(|question| {
            let query = embedder.embed_query(&question.question)?;
            let dot = |v: &Vec<f32>| v.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
            let dense: Vec<f32> = whole.iter().map(dot).collect();
            let mut nearest = vec![f32::MIN; texts.len()];
            for (owner, unit) in owners.iter().zip(&unit_vectors) {
                nearest[*owner] = nearest[*owner].max(dot(unit));
            }
            let bm25 = lexical.scores(&question.question);
            let wanted: Vec<usize> = question
                .relevant
                .iter()
                .filter_map(|id| place.get(id.as_str()).copied())
                .collect();
            Ok([
                dense.clone(),
                nearest.clone(),
                bm25.clone(),
                sum(&nearest, &bm25, 0.3),
                sum(&nearest, &bm25, 0.5),
                sum(&dense, &bm25, 0.5),
                aligned(
                    embedder,
                    set,
                    &question.question,
                    &nearest,
                    &bm25,
                    &unit_texts,
                )?,
            ]
            .iter()
            .map(|scores| rank(scores, &wanted))
            .collect())
        })
        .collect::<Result<_>>()?;
    Ok(names
        .iter()
        .enumerate()
        .map(|(way, name)| ((*name).to_string(), quality(ranks.iter().map(|r| r[way]))))
        .collect())
}

/// As `ragq::retrieval` ranks: the best hundred of each leg, fused; the best forty of these compared word by word, their
/// titles too.
fn aligned(
    embedder: &dyn Embed,
    set: &QuestionSet,
    question: &str,
    dense: &[f32],
    bm25: &[f32],
    units: &[Vec<(&str, &[f32])>],
) -> Result<Vec<f32>> {
    let mut candidates: Vec<usize> = best(dense, 100);
    candidates.extend(best(bm25, 100));
    candidates.sort_unstable();
    candidates.dedup();
    let of = |scores: &[f32]| -> Vec<f32> { candidates.iter().map(|at| scores[*at]).collect() };
    let fused = sum(&of(dense), &of(bm25), 0.45);
    let query = embedder.embed_query(question)?;
    let kept = best(&fused, 40);
    let mut scores = vec![f32::MIN; dense.len()];
    let Some(mut alignment) = embedder.alignment(question)? else {
        return Ok(scores);
    };
    let (mut aligned, mut titled) = (Vec::new(), Vec::new());
    for at in &kept {
        let dot = |v: &[f32]| v.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let nearest = units[candidates[*at]]
            .iter()
            .max_by(|a, b| dot(a.1).total_cmp(&dot(b.1)));
        aligned.push(alignment.of(nearest.map_or("", |unit| unit.0))?);
        titled.push(alignment.reverse(&set.passages[candidates[*at]].title)?);
    }
    let titled: Vec<f32> = titled.into_iter().map(Option::unwrap_or_default).collect();
    let titled = standardised(&titled);
    for ((at, text), title) in kept.iter().zip(standardised(&aligned)).zip(titled) {
        scores[candidates[*at]] = fused[*at] + text + 0.6 * title;
    }
    Ok(scores)
}

/// Places of the greatest scores.
fn best(scores: &[f32], n: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    places.truncate(n);
    places
}

fn quality(ranks: impl Iterator<Item = usize>) -> Quality {
    let mut total = Quality::default();
    let mut n = 0.0;
    for rank in ranks {
        n += 1.0;
        total.first += f64::from(rank == 0);
        total.in_five += f64::from(rank < 5);
        total.reciprocal += if rank < 10 {
            1.0 / (rank + 1) as f64
        } else {
            0.0
        };
    }
    Quality {
        first: total.first / n,
        in_five: total.in_five / n,
        reciprocal: total.reciprocal / n,
    }
}

/// Number of passages before the best of the wanted ones.
fn rank(scores: &[f32], wanted: &[usize]) -> usize {
    let best = wanted.iter().map(|at| scores[*at]).fold(f32::MIN, f32::max);
    scores.iter().filter(|score| **score > best).count()
}

fn sum(dense: &[f32], lexical: &[f32], dense_weight: f32) -> Vec<f32> {
    let (dense, lexical) = (standardised(dense), standardised(lexical));
    dense
        .iter()
        .zip(&lexical)
        .map(|(d, l)| dense_weight * d + (1.0 - dense_weight) * l)
        .collect()
}

fn standardised(scores: &[f32]) -> Vec<f32> {
    let n = scores.len() as f32;
    let mean = scores.iter().sum::<f32>() / n;
    let variance = scores.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
    scores
        .iter()
        .map(|x| (x - mean) / variance.sqrt().max(1e-9))
        .collect()
}

/// A text cut at white space into units, each below its title.
fn units(title: &str, text: &str) -> Vec<String> {
    let mut units = Vec::new();
    let mut unit = String::new();
    let mut n_chars = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        unit.push_str(word);
        n_chars += word.chars().count();
        if n_chars >= UNIT_CHARS {
            units.push(format!("{title}\n{unit}"));
            unit.clear();
            n_chars = 0;
        }
    }
    if !unit.trim().is_empty() || units.is_empty() {
        units.push(format!("{title}\n{unit}"));
    }
    units
}

/// BM25 (Robertson, Walker 1994; k1 1.2, b 0.75).
struct Lexical {
    postings: HashMap<String, Vec<(usize, f32)>>,
    lengths: Vec<f32>,
    mean_length: f32,
}

impl Lexical {
    fn new(texts: &[String]) -> Self {
        let mut postings: HashMap<String, Vec<(usize, f32)>> = HashMap::new();
        let mut lengths = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let mut counts: HashMap<String, f32> = HashMap::new();
            let terms = terms(text);
            lengths.push(terms.len() as f32);
            for term in terms {
                *counts.entry(term).or_default() += 1.0;
            }
            for (term, count) in counts {
                postings.entry(term).or_default().push((at, count));
            }
        }
        let mean_length = lengths.iter().sum::<f32>() / lengths.len().max(1) as f32;
        Self {
            postings,
            lengths,
            mean_length,
        }
    }

    fn scores(&self, query: &str) -> Vec<f32> {
        let n = self.lengths.len() as f32;
        let mut scores = vec![0.0; self.lengths.len()];
        for postings in terms(query)
            .iter()
            .filter_map(|term| self.postings.get(term))
        {
            let of = postings.len() as f32;
            let rarity = (1.0 + (n - of + 0.5) / (of + 0.5)).ln();
            for (at, count) in postings {
                let length = self.lengths[*at] / self.mean_length;
                scores[*at] += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length));
            }
        }
        scores
    }
}

const PARTICLES: &[&str] = &[
    "에서는",
    "에게는",
    "으로는",
    "까지는",
    "부터는",
    "이라는",
    "에서",
    "에게",
    "으로",
    "까지",
    "부터",
    "에는",
    "이란",
    "이나",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "로",
    "과",
    "와",
    "도",
    "만",
    "란",
    "나",
];

fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    ragq::embedding::subwords::for_each_word(text, |_, word| {
        let chars: Vec<char> = word.chars().collect();
        if chars.len() == 1 {
            terms.push(word.to_string());
        }
        terms.extend(chars.windows(2).map(|pair| pair.iter().collect::<String>()));
        let bare = PARTICLES
            .iter()
            .find_map(|p| word.strip_suffix(p))
            .filter(|b| b.chars().count() >= 2);
        terms.push(format!("={}", bare.unwrap_or(word)));
    });
    terms
}
