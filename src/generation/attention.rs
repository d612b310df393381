//! Causal attention over a key-value cache, with grouped queries and an optional sliding window.
//!
//! [`LayerCache`] keeps keys and values as `[kv heads, capacity, head_dim]`, allocated once per request, so that one
//! head's keys are one contiguous matrix and nothing is copied when a token is added. Queries of the heads that share
//! keys are stacked into one matrix, so that no key is repeated either.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Storage, Tensor};

use super::few_queries::{self, Heads};
use super::softmax::Attention;

/// Scores that are computed before they are used and forgotten: 16 MB.
const SCORES_AT_ONCE: usize = 1 << 22;

/// Tokens up to which queries are few: one, and the longest draft that is checked with it.
const FEW_TOKENS: usize = 9;

/// Keys and values of one layer, f32.
#[derive(Debug)]
pub(crate) struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

impl LayerCache {
    /// Room for `capacity` positions.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn new(
        n_kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        device: &Device,
    ) -> Result<Self> {
        let shape = (n_kv_heads, capacity, head_dim);
        Ok(LayerCache {
            keys: Tensor::zeros(shape, DType::F32, device)?,
            values: Tensor::zeros(shape, DType::F32, device)?,
        })
    }

    /// The same positions in a cache of another capacity; those beyond `n_positions` are left behind.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn resized(&self, capacity: usize, n_positions: usize) -> Result<Self> {
        let (n_kv_heads, _, head_dim) = self.keys.dims3()?;
        let larger = LayerCache::new(n_kv_heads, capacity, head_dim, self.keys.device())?;
        if n_positions > 0 {
            let keys = self.keys.narrow(1, 0, n_positions)?.contiguous()?;
            let values = self.values.narrow(1, 0, n_positions)?.contiguous()?;
            larger.store(&keys, &values, 0)?;
        }
        Ok(larger)
    }

    /// Keys, then values, of the first `n_positions`: `[kv heads, positions, head_dim]` each.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn first(&self, n_positions: usize) -> Result<[Vec<f32>; 2]> {
        let first = |tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(tensor.narrow(1, 0, n_positions)?.flatten_all()?.to_vec1()?)
        };
        Ok([first(&self.keys)?, first(&self.values)?])
    }

    /// Writes keys and values `[kv heads, tokens, head_dim]` (contiguous) of the tokens from `position` on.
    ///
    /// # Errors
    /// When they do not fit.
    pub(crate) fn store(&self, keys: &Tensor, values: &Tensor, position: usize) -> Result<()> {
        self.keys.slice_set(keys, 1, position)?;
        self.values.slice_set(values, 1, position)?;
        Ok(())
    }

    /// Queries `[heads, tokens, head_dim]` (contiguous) of the tokens from `position` on → what each attends to,
    /// `[heads, tokens, head_dim]`. A query sees the latest `window` positions up to its own, or all of them.
    ///
    /// # Errors
    /// When the shapes do not fit or the device has no room.
    pub(crate) fn attend(
        &self,
        queries: &Tensor,
        position: usize,
        window: Option<usize>,
    ) -> Result<Tensor> {
        let (n_heads, n_tokens, head_dim) = queries.dims3()?;
        let n_kv_heads = self.keys.dim(0)?;
        let end = position + n_tokens;
        let start = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let n_stacked = n_heads / n_kv_heads * n_tokens;
        let attention = Attention {
            position,
            n_tokens,
            first_key: start,
            window,
            scale: inverse_root(head_dim),
        };
        if n_tokens <= FEW_TOKENS && queries.device().is_cpu() {
            return self.attend_to_few(queries, &attention, (start, end));
        }
        let keys = self.keys.narrow(1, start, end - start)?;
        let values = self.values.narrow(1, start, end - start)?;
        let queries = queries.reshape((n_kv_heads, n_stacked, head_dim))?;
        // Few heads at once where there are many scores, so that memory does not grow with the heads.
        let heads_at_once = SCORES_AT_ONCE / (n_stacked * (end - start));
        let heads_at_once = heads_at_once.clamp(1, n_kv_heads);
        let mut attended = Vec::new();
        for head in (0..n_kv_heads).step_by(heads_at_once) {
            let n_at_once = heads_at_once.min(n_kv_heads - head);
            let some = |tensor: &Tensor| tensor.narrow(0, head, n_at_once);
            let scores = some(&queries)?.matmul(&some(&keys)?.t()?)?;
            attended.push(attention.softmax(scores)?.matmul(&some(&values)?)?);
        }
        let attended = Tensor::cat(&attended, 0)?;
        Ok(attended.reshape((n_heads, n_tokens, head_dim))?)
    }

    /// The same for few queries, on a CPU, over the keys from position `start` to `end` (excluded).
    fn attend_to_few(
        &self,
        queries: &Tensor,
        attention: &Attention,
        (start, end): (usize, usize),
    ) -> Result<Tensor> {
        let (n_kv_heads, capacity, head_dim) = self.keys.dims3()?;
        let n_stacked = queries.elem_count() / (n_kv_heads * head_dim);
        let attended = on_cpu(queries, |queries| {
            on_cpu(&self.keys, |keys| {
                on_cpu(&self.values, |values| {
                    let heads = |values| Heads {
                        values,
                        stride: capacity * head_dim,
                        start: start * head_dim,
                    };
                    let of_cache = (heads(keys), heads(values));
                    let sizes = (n_stacked, end - start, head_dim);
                    few_queries::attend(attention, queries, of_cache, sizes)
                })
            })
        })???;
        Ok(Tensor::from_vec(attended, queries.shape(), &Device::Cpu)?)
    }
}

/// Calls `with` with the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// When the tensor is none.
pub(crate) fn on_cpu<T>(tensor: &Tensor, with: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("expected a tensor on the CPU");
    };
    let values = layout
        .contiguous_offsets()
        .and_then(|(start, end)| storage.as_slice::<f32>().ok()?.get(start..end))
        .context("expected a contiguous tensor of f32")?;
    Ok(with(values))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a head is at most a few hundred wide"
)]
fn inverse_root(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
