//! Late interaction over the rows being trained: how far passages say the words of queries, and the gradient of it.
//!
//! The formula is that of `ragq::alignment`: each word of a query is as near to a passage as the nearest of its words,
//! and counts by the root of its vector's length. Words that stand in both teach nothing, so words of passages are left
//! out at random; the query's word must then find the next nearest, which is how 월급 learns of 봉급.

use std::collections::HashMap;

use anyhow::Result;
use candle_core::{Device, Tensor};
use ragq::embedding::subwords::{Feature, Subwords, for_each_word};
use ragq::index::lexical::strip_particle;
use rayon::prelude::*;

use crate::random::Random;

/// The words of several texts, each distinct one once.
pub(crate) struct WordLists {
    /// Features of each distinct word.
    pub(crate) features: Vec<Vec<Feature>>,
    /// For each text the numbers of its words.
    texts: Vec<Vec<usize>>,
}

impl WordLists {
    /// The words of texts, without their particles; of each text this share is left out.
    pub(crate) fn new(texts: &[&str], subwords: &Subwords, dropout: f32, seed: u64) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut features = Vec::new();
        let mut random = Random::new(seed);
        let texts = texts
            .iter()
            .map(|text| {
                let mut words = Vec::new();
                for_each_word(text, |_, word| {
                    let word = strip_particle(word);
                    if random.chance(dropout) {
                        return;
                    }
                    let number = *numbers.entry(word.to_string()).or_insert_with(|| {
                        features.push(subwords.features(word));
                        features.len() - 1
                    });
                    if !words.contains(&number) {
                        words.push(number);
                    }
                });
                words
            })
            .collect();
        Self { features, texts }
    }
}

/// Vectors of words.
pub(crate) struct Words {
    /// `[words, dimension]`, each of unit length.
    pub(crate) units: Vec<f32>,
    /// The lengths they had.
    pub(crate) lengths: Vec<f32>,
}

impl Words {
    pub(crate) fn new((units, lengths): (Vec<f32>, Vec<f32>)) -> Self {
        Self { units, lengths }
    }

    /// How much each of these words counts in a query, and the sum.
    fn weights(&self, words: &[usize]) -> (Vec<f32>, f32) {
        let weights: Vec<f32> = words.iter().map(|w| self.lengths[*w].sqrt()).collect();
        let total = weights.iter().sum::<f32>().max(1e-6);
        (weights, total)
    }
}

/// How far each passage says each query.
pub(crate) struct Alignments {
    /// `[queries, passages]`, 0 to 1.
    pub(crate) scores: Tensor,
    /// For each query, by passage and word of the query: the nearest word of the passage, and its cosine.
    nearest: Vec<Vec<(u32, f32)>>,
    asked: Tensor,
    said: Tensor,
}

/// Gradients by the unit vectors of the words, and by the lengths of those asked for.
pub(crate) struct Gradients {
    pub(crate) asked: Vec<f32>,
    pub(crate) said: Vec<f32>,
    pub(crate) asked_lengths: Vec<f32>,
}

impl Alignments {
    /// From the words of queries and of passages, and the vectors of these words.
    pub(crate) fn new(
        [asked, said]: [&WordLists; 2],
        [asked_words, said_words]: [&Words; 2],
        dimension: usize,
    ) -> Result<Self> {
        let matrix = |words: &Words| {
            let shape = (words.lengths.len(), dimension);
            Tensor::from_slice(&words.units, shape, &Device::Cpu)
        };
        let (asked_matrix, said_matrix) = (matrix(asked_words)?, matrix(said_words)?);
        let cosines = asked_matrix.matmul(&said_matrix.t()?)?;
        let cosines = cosines.flatten_all()?.to_vec1::<f32>()?;
        let n_said = said_words.lengths.len();
        let nearest_of = |word: usize, passage: &[usize]| {
            let row = &cosines[word * n_said..(word + 1) * n_said];
            passage.iter().fold((0, 0.0), |best, &other| {
                if row[other] > best.1 {
                    (other as u32, row[other])
                } else {
                    best
                }
            })
        };
        let (nearest, scores): (Vec<_>, Vec<_>) = asked
            .texts
            .par_iter()
            .map(|query| {
                let (weights, total) = asked_words.weights(query);
                let mut nearest = Vec::with_capacity(query.len() * said.texts.len());
                let mut scores = Vec::with_capacity(said.texts.len());
                for passage in &said.texts {
                    let found = query.iter().map(|&word| nearest_of(word, passage));
                    nearest.extend(found);
                    let found = &nearest[nearest.len() - query.len()..];
                    let score: f32 = found.iter().zip(&weights).map(|(n, w)| n.1 * w).sum();
                    scores.push(score / total);
                }
                (nearest, scores)
            })
            .unzip();
        let shape = (asked.texts.len(), said.texts.len());
        Ok(Self {
            scores: Tensor::from_vec(scores.concat(), shape, &Device::Cpu)?,
            nearest,
            asked: asked_matrix,
            said: said_matrix,
        })
    }

    /// From the gradient by the scores, `[queries, passages]`.
    pub(crate) fn gradients(
        &self,
        by_score: &Tensor,
        asked: &WordLists,
        asked_words: &Words,
    ) -> Result<Gradients> {
        let (n_asked, n_said) = (self.asked.dim(0)?, self.said.dim(0)?);
        let by_score = by_score.to_vec2::<f32>()?;
        let scores = self.scores.to_vec2::<f32>()?;
        let mut by_cosine = vec![0.0_f32; n_asked * n_said];
        let mut asked_lengths = vec![0.0_f32; n_asked];
        for (query, words) in asked.texts.iter().enumerate() {
            let (weights, total) = asked_words.weights(words);
            let nearest = self.nearest[query].chunks(words.len().max(1));
            for ((nearest, by_score), score) in nearest.zip(&by_score[query]).zip(&scores[query]) {
                for ((&(other, cosine), weight), word) in nearest.iter().zip(&weights).zip(words) {
                    if cosine > 0.0 {
                        by_cosine[word * n_said + other as usize] += by_score * weight / total;
                    }
                    // The weight is the root of the length, and the scores are divided by the sum of weights.
                    let by_weight = by_score * (cosine - score) / total;
                    asked_lengths[*word] += by_weight * 0.5 / weight.max(1e-3);
                }
            }
        }
        let by_cosine = Tensor::from_vec(by_cosine, (n_asked, n_said), &Device::Cpu)?;
        let flat = |gradient: Tensor| gradient.flatten_all()?.to_vec1::<f32>();
        Ok(Gradients {
            asked: flat(by_cosine.matmul(&self.said)?)?,
            said: flat(by_cosine.t()?.contiguous()?.matmul(&self.asked)?)?,
            asked_lengths,
        })
    }
}
