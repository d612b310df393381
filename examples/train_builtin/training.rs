//! In-batch contrastive training of the rows: a query should be nearer to its own passage than to the others of the
//! batch (InfoNCE: van den Oord, Li, Vinyals 2018), both as sums and word by word, with Adam (Kingma, Ba 2015) over the
//! rows that a batch touches.
//!
//! Products of matrices are candle's. Adding rows up and handing their gradients back is written out: candle would
//! make a gradient of the whole table for the few rows of a batch.

use anyhow::Result;
use candle_core::{Device, Tensor};
use ragq::embedding::static_embedding::bucket_row;
use ragq::embedding::subwords::{Feature, N_BUCKETS};
use rayon::prelude::*;

use crate::alignment::{Alignments, WordLists, Words};
use crate::random::Random;

/// A batch of pairs as features: of whole texts, and of their words.
pub(crate) struct Batch {
    pub(crate) queries: Vec<Vec<Feature>>,
    pub(crate) passages: Vec<Vec<Feature>>,
    pub(crate) asked: WordLists,
    pub(crate) said: WordLists,
    /// `[queries, passages]`: true where a passage is neither the query's own nor a fair negative.
    pub(crate) masked: Vec<bool>,
}

/// The two losses: of texts as sums of rows, and of texts word by word.
#[derive(Clone, Copy)]
pub(crate) struct Losses {
    /// What cosines of sums are multiplied by before the softmax.
    pub(crate) scale: f32,
    /// What alignments are multiplied by before the softmax.
    pub(crate) aligned_scale: f32,
    /// Weight of the loss of alignments; that of sums has 1.
    pub(crate) aligned_weight: f32,
    /// Weight, in the loss of alignments, of telling the own passage from a threshold, and the threshold from the others:
    /// what makes alignments of different queries comparable.
    pub(crate) threshold_weight: f32,
}

/// The table being trained.
pub(crate) struct Table {
    pub(crate) dimension: usize,
    pub(crate) rows: Vec<f32>,
    initial: Vec<f32>,
    /// Fixed vectors of the hash buckets.
    pub(crate) buckets: Vec<f32>,
    pub(crate) bucket_scale: f32,
    means: Vec<f32>,
    squares: Vec<f32>,
    n_steps: i32,
    /// Alignment that parts passages that answer from others.
    pub(crate) threshold: f32,
}

const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
/// Plain gradient descent on one number: larger steps make it swing.
const THRESHOLD_RATE: f32 = 0.002;

impl Table {
    /// Rows as long as their entry is rare, between a word's vector, where one is known, and a random direction: before
    /// any training they tell texts apart by their words and know which words are near.
    pub(crate) fn new(
        dimension: usize,
        lengths: &[f32],
        meanings: &[Option<Vec<f32>>],
        share: f32,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed);
        let per_axis = 1.0 / (dimension as f32).sqrt();
        let mut rows = Vec::with_capacity(lengths.len() * dimension);
        for (length, meaning) in lengths.iter().zip(meanings) {
            let mut row: Vec<f32> = (0..dimension).map(|_| random.normal() * per_axis).collect();
            if let Some(meaning) = meaning {
                for (x, known) in row.iter_mut().zip(meaning) {
                    *x = (1.0 - share).sqrt() * *x + share.sqrt() * known;
                }
            }
            rows.extend(row.iter().map(|x| x * length));
        }
        // Numbers of −128..=127, all as likely, have this root of their mean square.
        let bucket_scale = per_axis / (65535.0f32 / 12.0).sqrt();
        let buckets = (0..N_BUCKETS)
            .flat_map(|bucket| bucket_row(bucket, dimension))
            .map(|x| x * bucket_scale)
            .collect();
        Self {
            dimension,
            means: vec![0.0; rows.len()],
            squares: vec![0.0; rows.len()],
            initial: rows.clone(),
            rows,
            buckets,
            bucket_scale,
            n_steps: 0,
            threshold: 0.5,
        }
    }

    /// The rows, moved this share of the way back to where they started: between the two, texts unlike those trained
    /// on are told apart better than by either (Wortsman et al. 2022, WiSE-FT).
    pub(crate) fn rows_between(&self, share: f32) -> Vec<f32> {
        let both = self.rows.iter().zip(&self.initial);
        both.map(|(trained, initial)| trained + share * (initial - trained))
            .collect()
    }

    fn n_rows(&self) -> usize {
        self.rows.len() / self.dimension
    }

    fn row(&self, id: u32) -> &[f32] {
        let (table, at) = match (id as usize).checked_sub(self.n_rows()) {
            Some(bucket) => (&self.buckets, bucket),
            None => (&self.rows, id as usize),
        };
        &table[at * self.dimension..(at + 1) * self.dimension]
    }

    /// Unit vectors `[texts, dimension]` and the lengths they had.
    pub(crate) fn embed(&self, texts: &[Vec<Feature>]) -> (Vec<f32>, Vec<f32>) {
        let mut vectors = vec![0.0; texts.len() * self.dimension];
        let lengths = vectors
            .par_chunks_mut(self.dimension)
            .zip(texts)
            .map(|(vector, features)| {
                for feature in features {
                    for (sum, x) in vector.iter_mut().zip(self.row(feature.id)) {
                        *sum += feature.weight * x;
                    }
                }
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
                vector.iter_mut().for_each(|x| *x /= length);
                length
            })
            .collect();
        (vectors, lengths)
    }

    /// One step; returns the mean loss of the sums and that of the alignments.
    pub(crate) fn step(
        &mut self,
        batch: &Batch,
        losses: Losses,
        learning_rate: f32,
    ) -> Result<[f32; 2]> {
        let (summed_loss, by_text) = self.summed(batch, losses.scale)?;
        let (aligned_loss, mut by_word, by_threshold) = self.aligned(batch, losses)?;
        self.threshold -= THRESHOLD_RATE * by_threshold;
        by_word.iter_mut().for_each(|x| *x *= losses.aligned_weight);
        let texts = batch.queries.iter().chain(&batch.passages);
        let words = batch.asked.features.iter().chain(&batch.said.features);
        let sums: Vec<(&[Feature], &[f32])> = texts
            .chain(words)
            .map(Vec::as_slice)
            .zip(
                by_text
                    .chunks(self.dimension)
                    .chain(by_word.chunks(self.dimension)),
            )
            .collect();
        self.update(&sums, learning_rate);
        Ok([summed_loss, aligned_loss])
    }

    /// The mean loss of texts as sums, and its gradients by the sums `[queries + passages, dimension]`.
    fn summed(&self, batch: &Batch, scale: f32) -> Result<(f32, Vec<f32>)> {
        let (n_queries, n_passages) = (batch.queries.len(), batch.passages.len());
        let (queries, query_lengths) = self.embed(&batch.queries);
        let (passages, passage_lengths) = self.embed(&batch.passages);
        let matrix =
            |data: &[f32], n: usize| Tensor::from_slice(data, (n, self.dimension), &Device::Cpu);
        let q = matrix(&queries, n_queries)?;
        let p = matrix(&passages, n_passages)?;
        let cosines = q.matmul(&p.t()?)?;
        let (found, loss) = softmax_gradient(&cosines, &batch.masked, scale)?;
        let masked = transposed(&batch.masked, n_queries);
        let (asked, loss_back) = softmax_gradient(&cosines.t()?, &masked, scale)?;
        let by_cosine = ((found + asked.t()?)? * 0.5)?;
        let by_query = by_cosine.matmul(&p)?.flatten_all()?.to_vec1::<f32>()?;
        let by_passage = by_cosine
            .t()?
            .contiguous()?
            .matmul(&q)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let mut gradients = through_length(by_query, &queries, &query_lengths, self.dimension);
        gradients.extend(through_length(
            by_passage,
            &passages,
            &passage_lengths,
            self.dimension,
        ));
        Ok((0.5 * (loss + loss_back), gradients))
    }

    /// The mean loss of texts word by word, its gradients by the words' vectors `[asked + said words, dimension]`, and the
    /// gradient by the threshold.
    fn aligned(&self, batch: &Batch, losses: Losses) -> Result<(f32, Vec<f32>, f32)> {
        let scale = losses.aligned_scale;
        let dimension = self.dimension;
        let words = |lists: &WordLists| Words::new(self.embed(&lists.features));
        let (asked, said) = (words(&batch.asked), words(&batch.said));
        let alignments = Alignments::new([&batch.asked, &batch.said], [&asked, &said], dimension)?;
        let (by_score, loss) = softmax_gradient(&alignments.scores, &batch.masked, scale)?;
        let (apart, by_threshold) =
            threshold_gradient(&alignments.scores, &batch.masked, scale, self.threshold)?;
        let by_score = (by_score + (apart * f64::from(losses.threshold_weight))?)?;
        let by = alignments.gradients(&by_score, &batch.asked, &asked)?;
        let mut gradients = through_length(by.asked, &asked.units, &asked.lengths, dimension);
        let units = asked.units.chunks(dimension);
        for ((gradient, unit), by_length) in gradients
            .chunks_mut(dimension)
            .zip(units)
            .zip(&by.asked_lengths)
        {
            for (g, u) in gradient.iter_mut().zip(unit) {
                *g += by_length * u;
            }
        }
        gradients.extend(through_length(
            by.said,
            &said.units,
            &said.lengths,
            dimension,
        ));
        Ok((loss, gradients, by_threshold))
    }

    /// Hands the gradients of sums of rows back to the rows.
    fn update(&mut self, sums: &[(&[Feature], &[f32])], learning_rate: f32) {
        self.n_steps += 1;
        let dimension = self.dimension;
        let n_rows = self.n_rows() as u32;
        let mut uses: Vec<(u32, u32, f32)> = Vec::new();
        for (sum, (features, _)) in sums.iter().enumerate() {
            let learnt = features.iter().filter(|f| f.id < n_rows);
            uses.extend(learnt.map(|f| (f.id, sum as u32, f.weight)));
        }
        uses.par_sort_unstable_by_key(|(row, sum, _)| (*row, *sum));
        let groups: Vec<&[(u32, u32, f32)]> = uses.chunk_by(|a, b| a.0 == b.0).collect();
        let rate = learning_rate * (1.0 - SQUARE_DECAY.powi(self.n_steps)).sqrt()
            / (1.0 - MEAN_DECAY.powi(self.n_steps));
        let mut touched = touched_rows(
            &groups,
            [&mut self.rows, &mut self.means, &mut self.squares],
            dimension,
        );
        touched
            .par_iter_mut()
            .for_each(|(group, [row, mean, square])| {
                let mut gradient = vec![0.0; dimension];
                for (_, sum, weight) in *group {
                    for (total, x) in gradient.iter_mut().zip(sums[*sum as usize].1) {
                        *total += weight * x;
                    }
                }
                for (((x, m), v), g) in row
                    .iter_mut()
                    .zip(mean.iter_mut())
                    .zip(square.iter_mut())
                    .zip(&gradient)
                {
                    *m = MEAN_DECAY * *m + (1.0 - MEAN_DECAY) * g;
                    *v = SQUARE_DECAY * *v + (1.0 - SQUARE_DECAY) * g * g;
                    *x -= rate * *m / (v.sqrt() + 1e-8);
                }
            });
    }
}

type Touched<'t, 'g> = (&'g [(u32, u32, f32)], [&'t mut [f32]; 3]);

/// The rows of three tables that groups of growing row numbers name.
fn touched_rows<'t, 'g>(
    groups: &[&'g [(u32, u32, f32)]],
    tables: [&'t mut [f32]; 3],
    dimension: usize,
) -> Vec<Touched<'t, 'g>> {
    let mut rest = tables;
    let mut next_row = 0;
    let mut touched = Vec::with_capacity(groups.len());
    for group in groups {
        let row = group[0].0 as usize;
        let skip = (row - next_row) * dimension;
        let mut row_of_each = Vec::with_capacity(3);
        rest = rest.map(|table| {
            let (_, table) = table.split_at_mut(skip);
            let (here, after) = table.split_at_mut(dimension);
            row_of_each.push(here);
            after
        });
        next_row = row + 1;
        if let Ok(three) = row_of_each.try_into() {
            touched.push((*group, three));
        }
    }
    touched
}

/// Cosines `[rows, columns]` of which each row's own is on the diagonal → their gradients under the mean cross entropy
/// of the rows, and that mean.
fn softmax_gradient(cosines: &Tensor, masked: &[bool], scale: f32) -> Result<(Tensor, f32)> {
    let (n_rows, n_columns) = cosines.dims2()?;
    let mut gradient = cosines.flatten_all()?.to_vec1::<f32>()?;
    let losses: Vec<f32> = gradient
        .par_chunks_mut(n_columns)
        .zip(masked.par_chunks(n_columns))
        .enumerate()
        .map(|(own, (row, masked))| {
            let target = scale * row[own];
            let mut sum = 0.0;
            for (x, masked) in row.iter_mut().zip(masked) {
                *x = if *masked {
                    0.0
                } else {
                    (scale * (*x - 1.0)).exp()
                };
                sum += *x;
            }
            let factor = scale / (sum * n_rows as f32);
            row.iter_mut().for_each(|x| *x *= factor);
            row[own] -= scale / n_rows as f32;
            sum.ln() + scale - target
        })
        .collect();
    let loss = losses.iter().sum::<f32>() / n_rows as f32;
    Ok((
        Tensor::from_vec(gradient, (n_rows, n_columns), &Device::Cpu)?,
        loss,
    ))
}

/// Scores `[rows, columns]` of which each row's own is on the diagonal → their gradients under the mean cross entropy of
/// telling the own score from a threshold, and the threshold from all other scores; and the gradient by the threshold.
fn threshold_gradient(
    scores: &Tensor,
    masked: &[bool],
    scale: f32,
    threshold: f32,
) -> Result<(Tensor, f32)> {
    let (n_rows, n_columns) = scores.dims2()?;
    let mut gradient = scores.flatten_all()?.to_vec1::<f32>()?;
    let per_row = scale / n_rows as f32;
    let by_threshold = gradient
        .par_chunks_mut(n_columns)
        .zip(masked.par_chunks(n_columns))
        .enumerate()
        .map(|(own, (row, masked))| {
            let missed = 1.0 / (1.0 + (scale * (row[own] - threshold)).exp());
            let mut sum = (scale * (threshold - 1.0)).exp();
            let kept = sum;
            for (at, (x, masked)) in row.iter_mut().zip(masked).enumerate() {
                *x = if *masked || at == own {
                    0.0
                } else {
                    (scale * (*x - 1.0)).exp()
                };
                sum += *x;
            }
            row.iter_mut().for_each(|x| *x *= per_row / sum);
            row[own] = -per_row * missed;
            per_row * (missed + kept / sum - 1.0)
        })
        .collect::<Vec<f32>>()
        .iter()
        .sum();
    let gradient = Tensor::from_vec(gradient, (n_rows, n_columns), &Device::Cpu)?;
    Ok((gradient, by_threshold))
}

fn transposed(cells: &[bool], n_rows: usize) -> Vec<bool> {
    let n_columns = cells.len() / n_rows;
    (0..cells.len())
        .map(|at| cells[at % n_rows * n_columns + at / n_rows])
        .collect()
}

/// The gradient of a unit vector → the gradient of the sum it was made from.
fn through_length(
    mut gradient: Vec<f32>,
    units: &[f32],
    lengths: &[f32],
    dimension: usize,
) -> Vec<f32> {
    gradient
        .par_chunks_mut(dimension)
        .zip(units.par_chunks(dimension))
        .zip(lengths)
        .for_each(|((gradient, unit), length)| {
            let along: f32 = gradient.iter().zip(unit).map(|(g, u)| g * u).sum();
            for (g, u) in gradient.iter_mut().zip(unit) {
                *g = (*g - along * u) / length;
            }
        });
    gradient
}
