//! Attention of a few queries over many keys, as in writing a text token by token.
//!
//! A matrix product spends more on arranging its operands than on a handful of rows; here the keys and values of a head
//! are read once, in place, for all queries that share them. What a query gets does not depend on which others come with
//! it, so that a draft that is checked in one pass is judged as single tokens would have been.

use super::softmax::Attention;
use super::workers::for_each_chunk;
use crate::simd::widest;

/// Lanes that are summed side by side, so that the compiler may use vectors.
const LANES: usize = 16;
/// Products that are worth another thread's while.
const MIN_PRODUCTS: usize = 1 << 15;

/// Keys or values of all heads, and where the visible ones stand: head `h` begins at `h · stride + start`.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// f32, `head_dim` each.
    pub(crate) values: &'a [f32],
    /// From one head to the next.
    pub(crate) stride: usize,
    /// Of the first visible position.
    pub(crate) start: usize,
}

impl<'a> Heads<'a> {
    fn of(&self, head: usize, n_values: usize) -> &'a [f32] {
        let start = head * self.stride + self.start;
        self.values.get(start..start + n_values).unwrap_or(&[])
    }
}

/// What each query attends to, in the order of the queries: `n_stacked` of each head, `head_dim` values each.
pub(crate) fn attend(
    attention: &Attention,
    queries: &[f32],
    (keys, values): (Heads, Heads),
    (n_stacked, n_keys, head_dim): (usize, usize, usize),
) -> Vec<f32> {
    let mut attended = vec![0f32; queries.len()];
    let min_heads = MIN_PRODUCTS.div_ceil((2 * n_stacked * n_keys * head_dim).max(1));
    let per_head = n_stacked * head_dim;
    for_each_chunk(&mut attended, per_head, min_heads, |head, attended| {
        let keys = keys.of(head, n_keys * head_dim);
        let values = values.of(head, n_keys * head_dim);
        let queries = queries.get(head * per_head..).unwrap_or(&[]);
        let mut queries = queries.chunks_exact(head_dim);
        let mut scores = vec![0f32; 8.min(n_stacked) * n_keys];
        let mut rest = attended;
        let mut row = 0;
        macro_rules! take {
            ($n:literal) => {
                while rest.len() >= $n * head_dim {
                    let (taken, after) = rest.split_at_mut($n * head_dim);
                    let group: [&[f32]; $n] =
                        std::array::from_fn(|_| queries.next().unwrap_or(&[]));
                    let scores = scores.get_mut(..$n * n_keys).unwrap_or(&mut []);
                    widest(
                        #[inline(always)]
                        || score(&group, keys, scores),
                    );
                    for scores in scores.chunks_exact_mut(n_keys.max(1)) {
                        attention.softmax_row(row, scores);
                        row += 1;
                    }
                    widest(
                        #[inline(always)]
                        || add_up::<$n>(scores, values, taken),
                    );
                    rest = after;
                }
            };
        }
        take!(8);
        take!(4);
        take!(2);
        take!(1);
    });
    attended
}

/// Products of each query with each key, a row for each query.
#[inline(always)]
fn score<const N: usize>(queries: &[&[f32]; N], keys: &[f32], scores: &mut [f32]) {
    let head_dim = queries[0].len();
    let n_keys = scores.len() / N;
    let queries = queries.map(|query| query.as_chunks::<LANES>());
    for (index, key) in keys.chunks_exact(head_dim.max(1)).enumerate() {
        let (chunks, rest) = key.as_chunks::<LANES>();
        let mut sums = [[0f32; LANES]; N];
        for (c, key) in chunks.iter().enumerate() {
            for (sums, (query, _)) in sums.iter_mut().zip(&queries) {
                for ((sum, a), b) in sums.iter_mut().zip(&query[c]).zip(key) {
                    *sum = a.mul_add(*b, *sum);
                }
            }
        }
        for (n, (sums, (_, query))) in sums.iter().zip(&queries).enumerate() {
            let rest: f32 = query.iter().zip(rest).map(|(a, b)| a * b).sum();
            scores[n * n_keys + index] = total(sums) + rest;
        }
    }
}

/// Sums by halves, which vectors can do.
#[inline(always)]
fn total(sums: &[f32; LANES]) -> f32 {
    let by_8: [f32; 8] = std::array::from_fn(|i| sums[i] + sums[i + 8]);
    let by_4: [f32; 4] = std::array::from_fn(|i| by_8[i] + by_8[i + 4]);
    (by_4[0] + by_4[2]) + (by_4[1] + by_4[3])
}

/// The values of all keys, weighted by each query's row of `weights`.
#[inline(always)]
fn add_up<const N: usize>(weights: &[f32], values: &[f32], attended: &mut [f32]) {
    let head_dim = attended.len() / N;
    let n_keys = weights.len() / N;
    let rows: [&[f32]; N] = std::array::from_fn(|n| &weights[n * n_keys..][..n_keys]);
    let mut column = 0;
    while column + LANES <= head_dim {
        let mut sums = [[0f32; LANES]; N];
        for (key, value) in values.chunks_exact(head_dim).take(n_keys).enumerate() {
            let Some(value) = value[column..].first_chunk::<LANES>() else {
                continue;
            };
            for (sums, weights) in sums.iter_mut().zip(&rows) {
                let weight = weights[key];
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = weight.mul_add(*value, *sum);
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            attended[n * head_dim + column..][..LANES].copy_from_slice(sums);
        }
        column += LANES;
    }
    for column in column..head_dim {
        for (n, weights) in rows.iter().enumerate() {
            let of_keys = values.chunks_exact(head_dim).map(|value| value[column]);
            attended[n * head_dim + column] = of_keys.zip(*weights).map(|(v, w)| v * w).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Random keys and values of `capacity` positions, next to candle's products.
    fn check(n_kv_heads: usize, n_repeated: usize, n_tokens: usize, head_dim: usize) {
        let (capacity, position, first_key) = (90, 70, 5);
        let (n_keys, n_stacked) = (position + n_tokens - first_key, n_repeated * n_tokens);
        let random = |rows: usize| {
            let shape = (n_kv_heads, rows, head_dim);
            Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
        };
        let plain = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (queries, keys, values) = (random(n_stacked), random(capacity), random(capacity));
        let attention = Attention {
            position,
            n_tokens,
            first_key,
            window: None,
            scale: 0.2,
        };
        let attend = |queries: &[f32], attention: &Attention, n_stacked, n_keys| {
            let (keys, values) = (plain(&keys), plain(&values));
            let heads = |values| Heads {
                values,
                stride: capacity * head_dim,
                start: first_key * head_dim,
            };
            let both = (heads(&keys), heads(&values));
            super::attend(attention, queries, both, (n_stacked, n_keys, head_dim))
        };
        let ours = attend(&plain(&queries), &attention, n_stacked, n_keys);
        let seen = |tensor: &Tensor| tensor.narrow(1, first_key, n_keys).unwrap();
        let scores = queries.matmul(&seen(&keys).t().unwrap()).unwrap();
        let weights = attention.softmax(scores).unwrap();
        let expected = plain(&weights.matmul(&seen(&values)).unwrap());
        assert_eq!(ours.len(), expected.len());
        for (a, b) in ours.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{a} instead of {b}");
        }
        if n_tokens > 1 {
            let last: Vec<f32> = plain(&queries)
                .chunks(head_dim)
                .skip(n_tokens - 1)
                .step_by(n_tokens)
                .flatten()
                .copied()
                .collect();
            let alone = Attention {
                position: position + n_tokens - 1,
                n_tokens: 1,
                ..attention
            };
            let alone = attend(&last, &alone, n_repeated, n_keys);
            for (row, alone) in alone.chunks(head_dim).enumerate() {
                let among = (row + 1) * n_tokens - 1;
                assert_eq!(
                    alone,
                    &ours[among * head_dim..][..head_dim],
                    "alone or among others"
                );
            }
        }
    }

    #[test]
    fn few_queries_get_what_matrix_products_give_them() {
        check(1, 1, 1, 16);
        check(2, 8, 1, 64);
        check(3, 4, 5, 32);
        check(2, 3, 9, 40);
        check(1, 7, 2, 12);
    }
}
