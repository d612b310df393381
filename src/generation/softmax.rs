//! Scores of attention → weights, in place: scaling, causal mask, sliding window and softmax in one pass over each row.
//!
//! A mask as a tensor, and exponentials one by one, took longer than the multiplications around them. On a CPU each
//! row's exponentials are computed by a polynomial that the compiler turns into the widest vector instructions the
//! machine has; elsewhere candle's own operations do the same.

use anyhow::Result;
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use super::workers::for_each_chunk;
use crate::simd::widest;

/// Scores that are worth another thread's while.
const MIN_SCORES: usize = 1 << 14;

/// Which keys a query sees, and by what its scores are multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attention {
    /// Position of the first query.
    pub(crate) position: usize,
    /// Queries of each head: rows of the scores go head by head, and within a head query by query.
    pub(crate) n_tokens: usize,
    /// Position of the first key.
    pub(crate) first_key: usize,
    /// How many of the latest positions a query sees, itself included.
    pub(crate) window: Option<usize>,
    /// 1/√width of a head.
    pub(crate) scale: f32,
}

impl Attention {
    /// Softmax over the keys each query sees; the weights of all others are 0. `scores` is `[.., keys]`, contiguous.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn softmax(&self, scores: Tensor) -> Result<Tensor> {
        if scores.device().is_cpu() {
            scores.inplace_op1(self)?;
            return Ok(scores);
        }
        self.softmax_of_candle(&scores)
    }

    /// The same by candle's operations, with the mask as a tensor.
    fn softmax_of_candle(&self, scores: &Tensor) -> Result<Tensor> {
        let n_keys = scores.dim(scores.rank() - 1)?;
        let mut mask = Vec::with_capacity(self.n_tokens * n_keys);
        for row in 0..self.n_tokens {
            let (first, end) = self.visible(row, n_keys);
            mask.extend((0..n_keys).map(|key| {
                if (first..end).contains(&key) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            }));
        }
        let mask = Tensor::from_vec(mask, (self.n_tokens, n_keys), scores.device())?;
        let by_token = (scores * f64::from(self.scale))?.reshape(((), self.n_tokens, n_keys))?;
        let masked = by_token.broadcast_add(&mask)?.reshape(scores.shape())?;
        Ok(candle_nn::ops::softmax_last_dim(&masked)?)
    }

    /// The keys that the query of a row sees, as columns: from, to (excluded).
    fn visible(&self, row: usize, n_keys: usize) -> (usize, usize) {
        let after_query = self.position + row % self.n_tokens + 1;
        let first = self
            .window
            .map_or(0, |window| after_query.saturating_sub(window));
        let end = after_query.saturating_sub(self.first_key).min(n_keys);
        (first.saturating_sub(self.first_key).min(end), end)
    }

    fn softmax_rows(&self, scores: &mut [f32], n_keys: usize) {
        let min_rows = MIN_SCORES.div_ceil(n_keys);
        for_each_chunk(scores, n_keys, min_rows, |row, scores| {
            self.softmax_row(row, scores);
        });
    }

    /// Softmax of one row of scores; `row` counts the queries of all heads.
    pub(crate) fn softmax_row(&self, row: usize, scores: &mut [f32]) {
        let (first, end) = self.visible(row, scores.len());
        let (before, rest) = scores.split_at_mut(first);
        let (seen, after) = rest.split_at_mut(end - first);
        before.fill(0.0);
        after.fill(0.0);
        widest(
            #[inline(always)]
            || softmax(seen, self.scale),
        );
    }
}

impl InplaceOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("attention scores: expected a contiguous tensor");
        };
        let n_keys = layout.dims().last().copied().unwrap_or(0);
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("attention scores: expected f32");
        };
        match values.get_mut(start..end) {
            Some(scores) if n_keys > 0 => self.softmax_rows(scores, n_keys),
            _ => candle_core::bail!("attention scores: no keys"),
        }
        Ok(())
    }
}

/// Softmax of `scale · row`, in place. Sums go over 16 lanes, so that the compiler need not keep one order of additions.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let highest = lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    // A scale below 0 does not occur: the highest score stays the highest.
    let highest = highest * scale;
    let mut sums = [0f32; 16];
    let (chunks, rest) = row.as_chunks_mut::<16>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *value = exp(value.mul_add(scale, -highest));
            *sum += *value;
        }
    }
    for value in &mut *rest {
        *value = exp(value.mul_add(scale, -highest));
    }
    let total = sums.iter().sum::<f32>() + rest.iter().sum::<f32>();
    let inverse = 1.0 / total;
    for value in row {
        *value *= inverse;
    }
}

/// eˣ for x ≤ 0, within 2e-7 of the value. Cephes' expf: 2ⁿ times a polynomial in what remains.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::excessive_precision,
    reason = "n is a whole number between -126 and 0; the constants are Cephes' own"
)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x > -87.0 { x } else { -87.0 };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = n.mul_add(-0.693_359_375, x);
    let rest = n.mul_add(2.121_944_4e-4, rest);
    let polynomial = 1.987_569_15e-4f32
        .mul_add(rest, 1.398_199_95e-3)
        .mul_add(rest, 8.333_451_9e-3)
        .mul_add(rest, 4.166_579_6e-2)
        .mul_add(rest, 1.666_666_55e-1)
        .mul_add(rest, 5.000_000_1e-1);
    let fraction = polynomial.mul_add(rest * rest, rest) + 1.0;
    f32::from_bits((((n as i32) + 127) as u32) << 23) * fraction
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for step in 0..43_500u16 {
            let x = -f32::from(step) * 2e-3;
            let expected = x.exp();
            assert!(
                (exp(x) - expected).abs() <= 2e-7 * expected.max(1e-30),
                "{x}"
            );
        }
    }

    #[test]
    fn every_variant_gives_what_candle_gives() {
        let check = |position, n_tokens, first_key, window, n_heads| {
            let n_keys = position + n_tokens - first_key;
            let attention = Attention {
                position,
                n_tokens,
                first_key,
                window,
                scale: 0.3,
            };
            let shape = (n_heads, n_tokens, n_keys);
            let scores = Tensor::randn(0f32, 9.0, shape, &Device::Cpu).unwrap();
            let expected = attention.softmax_of_candle(&scores).unwrap();
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let compare = |ours: &[f32]| {
                for (a, b) in ours.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-6, "{attention:?}: {a} instead of {b}");
                }
            };
            let plain = scores.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut slow = plain.clone();
            for (row, values) in slow.chunks_mut(n_keys).enumerate() {
                let (first, end) = attention.visible(row, n_keys);
                softmax(&mut values[first..end], attention.scale);
                values[..first].fill(0.0);
                values[end..].fill(0.0);
            }
            compare(&slow);
            let ours = attention.softmax(scores).unwrap();
            compare(&ours.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        };
        check(0, 1, 0, None, 3);
        check(0, 7, 0, None, 3);
        check(500, 1, 0, None, 8);
        check(500, 33, 0, None, 2);
        check(40, 9, 33, Some(8), 2);
        check(3, 20, 0, Some(8), 1);
    }
}
