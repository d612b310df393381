//! What every transformer encoder here does: token ids → one vector per token.
//!
//! A batch is packed: the tokens of its texts stand one after another, without padding, so that no arithmetic is
//! spent on tokens that are not there. [`Workers`] gives each core a thread of its own and whole batches to work on,
//! which beats splitting every small matrix product over all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::tokenizer::Tokens;

/// A transformer that turns tokens into vectors.
pub(crate) trait Encode: Send + Sync {
    /// Length of a token's vector.
    fn hidden_size(&self) -> usize;

    /// Texts → the vectors of their tokens, packed: `[sum of tokens, hidden size]` row-major, in the order given.
    ///
    /// # Errors
    /// When a token id is unknown to the model or a text exceeds its positions.
    fn forward(&self, batch: &[&Tokens]) -> Result<Vec<f32>>;
}

/// Tokens of one batch: enough that packing the weights for the matrix product is paid off, few enough that a
/// layer's activations stay in a core's cache.
const BATCH_TOKENS: usize = 512;

/// Runs `texts` through `encoder` and hands the vectors of each, `[tokens, hidden size]`, to `finish`. Results come
/// back in the order of `texts`.
///
/// # Errors
/// The first error of the encoder or of `finish`.
pub(crate) fn encode_all<T: Send>(
    encoder: &dyn Encode,
    workers: &Workers,
    texts: &[Tokens],
    finish: impl Fn(&[f32]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let batches = batches(texts);
    let finished = workers.map(&batches, |batch| {
        let members: Vec<&Tokens> = batch.iter().map(|index| &texts[*index]).collect();
        let hidden = encoder.forward(&members)?;
        let mut rest = hidden.as_slice();
        let mut results = Vec::with_capacity(batch.len());
        for (index, tokens) in batch.iter().zip(members) {
            let (own, others) = rest.split_at(tokens.len() * encoder.hidden_size());
            results.push((*index, finish(own)?));
            rest = others;
        }
        Ok(results)
    })?;
    let mut ordered: Vec<(usize, T)> = finished.into_iter().flatten().collect();
    ordered.sort_unstable_by_key(|(index, _)| *index);
    Ok(ordered.into_iter().map(|(_, result)| result).collect())
}

/// Indices of texts, longest first, in batches of at most [`BATCH_TOKENS`] tokens; a longer text stands alone. The
/// long ones come first so that no core is left with a long text at the end.
fn batches(texts: &[Tokens]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(texts[*index].len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        let n_tokens = texts[index].len();
        match batches.last_mut() {
            Some(batch) if n_tokens <= room => {
                batch.push(index);
                room -= n_tokens;
            }
            _ => {
                batches.push(vec![index]);
                room = BATCH_TOKENS.saturating_sub(n_tokens);
            }
        }
    }
    batches
}

/// One thread per core, each with a rayon pool of its own, so that the matrix products of a batch stay on one core
/// whatever `RAYON_NUM_THREADS` says.
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// `n_threads` threads, or one per core of this machine.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn new(n_threads: Option<usize>) -> Result<Workers> {
        let n_threads = n_threads
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1)
            .max(1);
        let pools = (0..n_threads)
            .map(|_| {
                ThreadPoolBuilder::new()
                    .num_threads(1)
                    .build()
                    .context("cannot start a thread")
            })
            .collect::<Result<_>>()?;
        Ok(Workers { pools })
    }

    /// Applies `f` to each item and keeps the order. A single item runs on the calling thread, where its matrix
    /// products may use all cores.
    ///
    /// # Errors
    /// The first error of `f`; items not yet begun are then left out.
    pub(crate) fn map<I: Sync, O: Send>(
        &self,
        items: &[I],
        f: impl Fn(&I) -> Result<O> + Sync,
    ) -> Result<Vec<O>> {
        if items.len() <= 1 || self.pools.len() == 1 {
            return match self.pools.as_slice() {
                [only] => only.install(|| items.iter().map(&f).collect()),
                _ => items.iter().map(f).collect(),
            };
        }
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let done = Mutex::new(Vec::with_capacity(items.len()));
        let pull = || {
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { break };
                let result = f(item);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                done.push((index, result));
            }
        };
        std::thread::scope(|scope| {
            for pool in self.pools.iter().take(items.len()) {
                scope.spawn(|| pool.install(pull));
            }
        });
        let mut done = done
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n_tokens: usize) -> Tokens {
        Tokens {
            ids: vec![0; n_tokens],
            type_ids: vec![0; n_tokens],
        }
    }

    #[test]
    fn batches_hold_every_text_once_and_keep_to_their_tokens() {
        let texts: Vec<Tokens> = [3, 700, 1, 256, 256, 300, 9].map(text).into();
        let batches = batches(&texts);
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        for batch in &batches {
            let n_tokens: usize = batch.iter().map(|index| texts[*index].len()).sum();
            assert!(n_tokens <= BATCH_TOKENS || batch.len() == 1, "{batch:?}");
        }
    }

    #[test]
    fn results_keep_their_order_and_the_first_error_stops() {
        let check = |n_threads: usize, n_items: usize| {
            let workers = Workers::new(Some(n_threads)).unwrap();
            let items: Vec<usize> = (0..n_items).collect();
            let doubled = workers.map(&items, |item| Ok(item * 2)).unwrap();
            assert_eq!(doubled, items.iter().map(|x| x * 2).collect::<Vec<_>>());
            let error = workers
                .map(&items, |item| {
                    anyhow::ensure!(*item + 1 < n_items, "item {item}");
                    Ok(())
                })
                .unwrap_err();
            assert_eq!(error.to_string(), format!("item {}", n_items - 1));
        };
        check(1, 1);
        check(1, 5);
        check(3, 1);
        check(3, 100);
    }
}
