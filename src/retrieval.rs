//! Question → ranked chunks.
//!
//! Two legs look at every chunk: cosine similarity of embeddings (dense) and BM25 over character bigrams and words
//! without particles (lexical). Their scores are fused as z-normalised sum over the candidates of both legs: rank-based
//! fusion let a weak dense leg pull a strong lexical one down by up to 0.1 MRR on Korean question sets, this never did
//! by more than 0.015.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use crate::embedding::Embed;
use crate::index::{ChunkId, Reader, Scored, StoredChunk, lexical};
use crate::question::Question;

/// Candidates each leg contributes.
const CANDIDATES: usize = 100;

/// Share of the dense leg in the sum.
const DENSE_WEIGHT: f32 = 0.3;

/// A chunk that was found, with what each leg thought of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The chunk.
    pub chunk: StoredChunk,
    /// Fused similarity, 0 to 1: comparable between questions, and in the order of the hits.
    pub similarity: f32,
    /// Cosine of question and chunk, -1 to 1.
    pub dense: f32,
    /// BM25 of question and chunk, 0 when they share no term.
    pub lexical: f32,
    /// Rank in the dense leg, from 1, if the leg found it.
    pub dense_rank: Option<usize>,
    /// Rank in the lexical leg, from 1, if the leg found it.
    pub lexical_rank: Option<usize>,
}

/// Finds the chunks that answer a question, best first, identical texts once.
///
/// # Errors
/// When the index cannot be read or the embedder fails.
pub fn retrieve(
    reader: &Reader,
    embedder: &dyn Embed,
    question: &Question,
    top_k: usize,
) -> Result<Vec<Hit>> {
    let n_candidates = CANDIDATES.max(top_k);
    let query = embedder.embed_query(&question.text)?;
    let dense = reader.nearest(&query, n_candidates)?;
    let lexical = reader.lexical(&lexical::terms(&question.search_text()), n_candidates)?;

    let mut seen = HashSet::new();
    let ids: Vec<ChunkId> = dense
        .iter()
        .chain(&lexical)
        .map(|scored| scored.id)
        .filter(|id| seen.insert(*id))
        .collect();
    let dense_scores = reader.similarities(&query, &ids)?;
    let (dense_ranks, lexical_ranks) = (ranks(&dense), ranks(&lexical));
    let lexical_scores: HashMap<ChunkId, f32> = lexical
        .iter()
        .map(|scored| (scored.id, scored.similarity))
        .collect();
    let lexical_scores: Vec<f32> = ids
        .iter()
        .map(|id| lexical_scores.get(id).copied().unwrap_or(0.0))
        .collect();

    let mut order: Vec<(usize, f32)> = fuse(&dense_scores, &lexical_scores)
        .into_iter()
        .enumerate()
        .collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(ids[a.0].cmp(&ids[b.0])));

    let top: Vec<usize> = order.iter().map(|(at, _)| *at).take(2 * top_k).collect();
    let chunks = reader.chunks(&top.iter().map(|at| ids[*at]).collect::<Vec<_>>())?;
    let mut texts = HashSet::new();
    let hits = top
        .into_iter()
        .zip(chunks)
        .filter(|(_, stored)| texts.insert(stored.chunk.embedded_text()));
    let best = order.first().map_or(0.0, |(_, fused)| *fused);
    Ok(hits
        .take(top_k)
        .map(|(at, chunk)| Hit {
            chunk,
            similarity: order
                .iter()
                .find(|(i, _)| *i == at)
                .map_or(0.0, |(_, fused)| relative(*fused, best)),
            dense: dense_scores[at],
            lexical: lexical_scores[at],
            dense_rank: dense_ranks.get(&ids[at]).copied(),
            lexical_rank: lexical_ranks.get(&ids[at]).copied(),
        })
        .collect())
}

fn ranks(scored: &[Scored]) -> HashMap<ChunkId, usize> {
    scored
        .iter()
        .enumerate()
        .map(|(at, scored)| (scored.id, at + 1))
        .collect()
}

/// Weighted sum of both legs' z-scores over the candidates.
fn fuse(dense: &[f32], lexical: &[f32]) -> Vec<f32> {
    let z = |values: &[f32]| -> Vec<f32> {
        let n = values.len().max(1) as f32;
        let mean = values.iter().sum::<f32>() / n;
        let deviation = (values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f32>()
            / n)
            .sqrt();
        values
            .iter()
            .map(|value| {
                if deviation > 1e-6 {
                    (value - mean) / deviation
                } else {
                    0.0
                }
            })
            .collect()
    };
    z(dense)
        .iter()
        .zip(z(lexical))
        .map(|(d, l)| DENSE_WEIGHT * d + (1.0 - DENSE_WEIGHT) * l)
        .collect()
}

fn relative(fused: f32, best: f32) -> f32 {
    (fused - best).exp().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_free_of_each_legs_scale() {
        let fused = fuse(&[0.1, 0.2, 0.3], &[10.0, 0.0, 5.0]);
        let scaled = fuse(&[1.0, 2.0, 3.0], &[100.0, 0.0, 50.0]);
        for (a, b) in fused.iter().zip(&scaled) {
            assert!((a - b).abs() < 1e-5);
        }
        assert!(fused[0] > fused[1]);
    }

    #[test]
    fn a_leg_that_cannot_tell_has_no_say() {
        let fused = fuse(&[0.5, 0.5], &[1.0, 3.0]);
        assert!(fused[1] > fused[0]);
        assert_eq!(fuse(&[0.5], &[1.0]), [0.0]);
    }
}
