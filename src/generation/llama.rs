//! Token ids → logits: the LLaMA network (Touvron et al. 2023, arXiv:2302.13971) and the relatives whose differences
//! are settings: grouped queries, biases, query and key norms, sliding windows, stretched or interleaved rope.
//!
//! [`Llama`] holds the weights, [`KvCache`] what it has read so far. A prompt is read in chunks, so that memory does not
//! grow with its square. Everything is computed in f32; quantised weights are multiplied as they stand in the file.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::attention::LayerCache;
use super::config::{ModelConfig, RopePairing};
use super::gating::gated;
use super::memory;
use super::rope::RopeTable;
use super::weights::{Embedding, Linear, Part, Weights};

/// Tokens that are read at once. Larger chunks were no faster on two cores and need more memory.
pub(crate) const CHUNK_TOKENS: usize = 256;

/// The network and its weights.
#[derive(Debug)]
pub(crate) struct Llama {
    config: ModelConfig,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: Linear,
    rope: RopeTable,
    device: Device,
}

/// What the network has read: keys and values of every layer, and the tokens they belong to.
#[derive(Debug, Default)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    tokens: Vec<u32>,
}

impl KvCache {
    /// The tokens that have been read.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Forgets all but the first `n_tokens`.
    pub(crate) fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
    }
}

/// Which positions' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logits {
    /// Of the last token only: `[1, n_vocab]`.
    Last,
    /// Of every token given: `[tokens, n_vocab]`.
    All,
}

impl Llama {
    /// Builds the network over its weights. Plain weights are read now, quantised ones when first used.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says, by name.
    pub(crate) fn new(config: ModelConfig, weights: &Weights, device: &Device) -> Result<Self> {
        let embedding = weights.embedding(config.hidden)?;
        let layers = (0..config.n_layers)
            .map(|layer| Layer::new(&config, weights, layer))
            .collect::<Result<Vec<Layer>>>()?;
        if let Some(adapter) = weights.adapter() {
            adapter.check_all_used()?;
        }
        Ok(Llama {
            norm: RmsNorm {
                weight: weights.output_norm(config.hidden)?,
                epsilon: to_f32(config.rms_norm_eps),
            },
            output: weights.output(&config, &embedding)?,
            rope: RopeTable::new(&config.rope, weights.rope_factors()?.as_deref(), device)?,
            embedding,
            layers,
            config,
            device: device.clone(),
        })
    }

    /// Positions the model holds.
    pub(crate) fn context_length(&self) -> usize {
        self.config.context_length
    }

    /// Makes room for `capacity` positions, keeping what was read.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn reserve(&mut self, cache: &mut KvCache, capacity: usize) -> Result<()> {
        if cache.capacity >= capacity {
            return Ok(());
        }
        if self.device.is_cpu() {
            memory::ensure_room(
                &format!("keys and values of {capacity} tokens"),
                kv_bytes(&self.config, capacity),
                "a shorter prompt (`--top-k` takes fewer passages) or a smaller model",
            )?;
        }
        self.rope.extend_to(capacity)?;
        let (heads, width) = (self.config.n_kv_heads, self.config.head_dim);
        if cache.layers.is_empty() {
            cache.layers = (0..self.config.n_layers)
                .map(|_| LayerCache::new(heads, capacity, width, &self.device))
                .collect::<Result<_>>()?;
        } else {
            for layer in &mut cache.layers {
                *layer = layer.resized(capacity, cache.tokens.len())?;
            }
        }
        cache.capacity = capacity;
        Ok(())
    }

    /// How many numbers [`Llama::known`] gives for `n_tokens`.
    pub(crate) fn n_known_values(&self, n_tokens: usize) -> usize {
        2 * self.config.n_layers * self.config.n_kv_heads * self.config.head_dim * n_tokens
    }

    /// What the cache holds of its first `n_tokens`, as [`Llama::recall`] takes it.
    ///
    /// # Errors
    /// When there are not as many, or the device fails.
    pub(crate) fn known(&self, cache: &KvCache, n_tokens: usize) -> Result<Vec<f32>> {
        ensure!(n_tokens <= cache.tokens.len(), "not read yet");
        let mut values = Vec::with_capacity(self.n_known_values(n_tokens));
        for layer in &cache.layers {
            values.extend(layer.first(n_tokens)?.into_iter().flatten());
        }
        Ok(values)
    }

    /// Makes the cache one that has read just `tokens`, from what [`Llama::known`] gave for them.
    ///
    /// # Errors
    /// When the numbers are not as many as they were, or the cache has no room.
    pub(crate) fn recall(&self, cache: &mut KvCache, tokens: &[u32], values: &[f32]) -> Result<()> {
        let shape = (self.config.n_kv_heads, tokens.len(), self.config.head_dim);
        let n_values = shape.0 * shape.1 * shape.2;
        ensure!(
            values.len() == self.n_known_values(tokens.len()) && tokens.len() <= cache.capacity,
            "keys and values of other tokens"
        );
        cache.tokens.clear();
        for (layer, values) in cache.layers.iter().zip(values.chunks_exact(2 * n_values)) {
            let (keys, values) = values.split_at(n_values);
            let tensor = |values| Tensor::from_slice(values, shape, &self.device);
            layer.store(&tensor(keys)?, &tensor(values)?, 0)?;
        }
        cache.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Reads tokens that follow those in the cache, at most [`CHUNK_TOKENS`] for bounded memory, and returns logits.
    /// The cache must have been given room by [`Llama::reserve`].
    ///
    /// # Errors
    /// When no token is given, the cache has no room, or a token is not in the vocabulary.
    pub(crate) fn forward(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<Tensor> {
        let position = cache.tokens.len();
        ensure!(!tokens.is_empty(), "no tokens to read");
        ensure!(
            position + tokens.len() <= cache.capacity,
            "key-value cache: room for {} positions, asked for {}",
            cache.capacity,
            position + tokens.len()
        );
        let query_scale = self.rope.query_scale(position, tokens.len())?;
        let mut x = self.embedding.look_up(tokens)?;
        for (layer, layer_cache) in self.layers.iter().zip(&cache.layers) {
            x = layer.forward(&x, position, &self.rope, query_scale.as_ref(), layer_cache)?;
        }
        cache.tokens.extend_from_slice(tokens);
        if wanted == Logits::Last {
            x = x.narrow(0, tokens.len() - 1, 1)?;
        }
        self.output.forward(&self.norm.forward(&x)?)
    }
}

/// Refuses a model for which this machine has no room: its weights, and what it reads of `n_positions` tokens. A GPU's
/// memory is left to its driver.
///
/// # Errors
/// When there is less; the message says both numbers.
pub(crate) fn ensure_room(
    config: &ModelConfig,
    weights: &Weights,
    n_positions: usize,
    device: &Device,
) -> Result<()> {
    if !device.is_cpu() {
        return Ok(());
    }
    memory::ensure_room(
        &format!("the weights and a context of {n_positions} tokens"),
        weights
            .memory_bytes()
            .saturating_add(kv_bytes(config, n_positions)),
        "a smaller model, or one quantised to fewer bits; closing other programs makes room, too",
    )
}

/// Bytes of keys and values of all layers.
fn kv_bytes(config: &ModelConfig, n_positions: usize) -> u64 {
    let factors = [
        config.n_layers,
        config.n_kv_heads,
        config.head_dim,
        n_positions,
    ];
    let n_values = factors.iter().fold(2, |product: u64, &factor| {
        product.saturating_mul(factor.try_into().unwrap_or(u64::MAX))
    });
    n_values.saturating_mul(4)
}

/// One transformer block.
#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    attention_output: Linear,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    head_dim: usize,
    window: Option<usize>,
}

impl Layer {
    fn new(config: &ModelConfig, weights: &Weights, layer: usize) -> Result<Self> {
        let (hidden, head_dim) = (config.hidden, config.head_dim);
        let interleaved = (config.rope.pairing == RopePairing::Interleaved).then_some(head_dim);
        let width = |n_heads: usize| {
            n_heads
                .checked_mul(head_dim)
                .context("heads too many or too wide")
        };
        let (queries, keys) = (width(config.n_heads)?, width(config.n_kv_heads)?);
        let norm = |part: Part, width: usize| -> Result<Option<RmsNorm>> {
            Ok(weights.norm(layer, part, width)?.map(|weight| RmsNorm {
                weight,
                epsilon: to_f32(config.rms_norm_eps),
            }))
        };
        let required = |part: Part| {
            norm(part, hidden)?.with_context(|| format!("layer {layer}: {part:?}: missing"))
        };
        let feed_forward = weights.rows(layer, Part::Gate)?;
        Ok(Layer {
            attention_norm: required(Part::AttentionNorm)?,
            query: weights.linear(layer, Part::Query, (queries, hidden), interleaved)?,
            key: weights.linear(layer, Part::Key, (keys, hidden), interleaved)?,
            value: weights.linear(layer, Part::Value, (keys, hidden), None)?,
            query_norm: norm(Part::QueryNorm, head_dim)?,
            key_norm: norm(Part::KeyNorm, head_dim)?,
            attention_output: weights.linear(
                layer,
                Part::AttentionOutput,
                (hidden, queries),
                None,
            )?,
            feed_forward_norm: required(Part::FeedForwardNorm)?,
            gate: weights.linear(layer, Part::Gate, (feed_forward, hidden), None)?,
            up: weights.linear(layer, Part::Up, (feed_forward, hidden), None)?,
            down: weights.linear(layer, Part::Down, (hidden, feed_forward), None)?,
            head_dim,
            window: config.windows.get(layer).copied().flatten(),
        })
    }

    /// `[tokens, hidden]` → `[tokens, hidden]`.
    fn forward(
        &self,
        x: &Tensor,
        position: usize,
        rope: &RopeTable,
        query_scale: Option<&Tensor>,
        cache: &LayerCache,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let projections = [&self.query, &self.key, &self.value];
        let [queries, keys, values] = Linear::forward_together(projections, &normed)?;
        let queries = self.heads(&queries, self.query_norm.as_ref())?;
        let keys = self.heads(&keys, self.key_norm.as_ref())?;
        let values = self.heads(&values, None)?;
        let mut queries = rope.turn(queries, position)?;
        if let Some(scale) = query_scale {
            queries = queries.broadcast_mul(scale)?;
        }
        cache.store(&rope.turn(keys, position)?, &values, position)?;
        let attended = cache.attend(&queries, position, self.window)?;
        let attended = attended.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
        let x = (x + self.attention_output.forward(&attended)?)?;

        let normed = self.feed_forward_norm.forward(&x)?;
        let [gate, up] = Linear::forward_together([&self.gate, &self.up], &normed)?;
        Ok((x + self.down.forward(&gated(gate, &up)?)?)?)
    }

    /// `[tokens, heads · head_dim]` → `[heads, tokens, head_dim]`, contiguous, each head normed if it has a norm.
    fn heads(&self, projected: &Tensor, norm: Option<&RmsNorm>) -> Result<Tensor> {
        let (n_tokens, width) = projected.dims2()?;
        let n_heads = width / self.head_dim;
        let mut heads = projected.reshape((n_tokens, n_heads, self.head_dim))?;
        if let Some(norm) = norm {
            heads = norm.forward(&heads)?;
        }
        Ok(heads.transpose(0, 1)?.contiguous()?)
    }
}

/// Root-mean-square norm over the last dimension.
#[derive(Debug)]
struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(
            &x.contiguous()?,
            &self.weight,
            self.epsilon,
        )?)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the network computes in f32"
)]
fn to_f32(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::generation::gguf::Gguf;

    /// The tiny generators among the fixtures: folder and what the reference implementation computed.
    pub(crate) fn fixtures() -> Vec<(PathBuf, Value)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("fixtures/models").unwrap() {
            let folder = entry.unwrap().path();
            if folder.join("model-f32.gguf").exists() {
                let text = crate::fs::read_to_string(&folder.join("expected.json")).unwrap();
                found.push((folder, serde_json::from_str(&text).unwrap()));
            }
        }
        assert!(!found.is_empty());
        found
    }

    /// A list of token ids within the reference's values.
    pub(crate) fn ids(value: &Value) -> Vec<u32> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    }

    #[test]
    fn logits_equal_those_of_pytorch() {
        for (folder, expected) in fixtures() {
            check_folder(&folder, &ids(&expected["prompt_ids"]));
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_not_a_panic() {
        let mut network = open("fixtures/models/tiny-llama".as_ref()).unwrap();
        let mut cache = KvCache::default();
        network.reserve(&mut cache, 4).unwrap();
        let mut read = |tokens: &[u32]| {
            let error = network.forward(&mut cache, tokens, Logits::Last);
            format!("{:#}", error.unwrap_err())
        };
        assert_eq!(
            read(&[1; 5]),
            "key-value cache: room for 4 positions, asked for 5"
        );
        assert_eq!(read(&[]), "no tokens to read");
        assert!(
            read(&[60_000]).contains("row 60000 of"),
            "{}",
            read(&[60_000])
        );
    }

    #[test]
    fn a_cache_beyond_the_machine_is_refused_before_it_is_allocated() {
        let mut network = open("fixtures/models/tiny-llama".as_ref()).unwrap();
        let mut cache = KvCache::default();
        let reserved = network.reserve(&mut cache, usize::MAX);
        if cfg!(target_os = "linux") {
            let message = reserved.unwrap_err().to_string();
            let tokens = usize::MAX;
            assert!(
                message.starts_with(&format!(
                    "keys and values of {tokens} tokens need 18446744073.8 GB of memory, "
                )),
                "{message}"
            );
        }
        network.reserve(&mut cache, 8).unwrap();
    }

    #[test]
    fn the_memory_a_model_needs_is_that_of_its_tensors() {
        let gguf = Gguf::open("fixtures/models/tiny-llama/model-f32.gguf".as_ref()).unwrap();
        let config = ModelConfig::from_gguf(&gguf).unwrap();
        let head = config.n_layers * config.n_kv_heads * config.head_dim;
        assert_eq!(kv_bytes(&config, 100), 100 * 2 * 4 * head as u64);
        let weights = |path: &str| {
            let gguf = Gguf::open(path.as_ref()).unwrap();
            Weights::from_gguf(Arc::new(gguf), &Device::Cpu).memory_bytes()
        };
        let n_file_bytes = std::fs::metadata("fixtures/models/tiny-llama/model-f32.gguf")
            .unwrap()
            .len();
        let n_bytes = weights("fixtures/models/tiny-llama/model-f32.gguf");
        assert!(
            n_bytes < n_file_bytes && n_bytes > n_file_bytes / 4,
            "{n_bytes} of {n_file_bytes}"
        );
    }

    #[test]
    fn a_cache_that_was_cut_and_grown_goes_on_as_a_fresh_one() {
        let mut network = open("fixtures/models/tiny-llama".as_ref()).unwrap();
        let tokens: Vec<u32> = (40..80).collect();
        let fresh = logits(&mut network, &tokens, tokens.len());
        let mut cache = KvCache::default();
        network.reserve(&mut cache, 25).unwrap();
        network
            .forward(&mut cache, &tokens[..20], Logits::Last)
            .unwrap();
        network
            .forward(&mut cache, &[7, 7, 7], Logits::Last)
            .unwrap();
        cache.truncate(20);
        network.reserve(&mut cache, 60).unwrap();
        let rest = network
            .forward(&mut cache, &tokens[20..], Logits::All)
            .unwrap();
        let fresh = Tensor::new(fresh[20..].to_vec(), &Device::Cpu).unwrap();
        let (largest, _) = difference(&rest.to_vec2().unwrap(), &fresh);
        assert!(largest < 1e-4, "{largest}");
        assert_eq!(cache.tokens(), tokens);
    }

    fn open(path: &Path) -> Result<Llama> {
        let device = &Device::Cpu;
        if path.is_dir() {
            let text = crate::fs::read_to_string(&path.join("config.json"))?;
            let config = ModelConfig::from_json(&serde_json::from_str(&text)?)?;
            Llama::new(config, &Weights::from_folder(path, device)?, device)
        } else {
            let gguf = Arc::new(Gguf::open(path)?);
            let config = ModelConfig::from_gguf(&gguf)?;
            Llama::new(config, &Weights::from_gguf(gguf, device), device)
        }
    }

    /// The logits of all tokens, which are read in pieces of `n_at_once`.
    fn logits(network: &mut Llama, tokens: &[u32], n_at_once: usize) -> Vec<Vec<f32>> {
        let mut cache = KvCache::default();
        network.reserve(&mut cache, tokens.len()).unwrap();
        let mut rows = Vec::new();
        for chunk in tokens.chunks(n_at_once) {
            let logits = network.forward(&mut cache, chunk, Logits::All).unwrap();
            rows.extend(logits.to_vec2::<f32>().unwrap());
        }
        rows
    }

    /// How far the logits are from the reference: the largest difference of an element, and the length of the
    /// difference next to the length of the reference.
    fn difference(ours: &[Vec<f32>], reference: &Tensor) -> (f32, f32) {
        let reference = reference.to_vec2::<f32>().unwrap();
        assert_eq!(ours.len(), reference.len());
        let (mut largest, mut squares, mut reference_squares) = (0f32, 0.0, 0.0);
        for (ours, reference) in ours.iter().zip(&reference) {
            assert_eq!(ours.len(), reference.len());
            for (a, b) in ours.iter().zip(reference) {
                assert!(a.is_finite());
                largest = largest.max((a - b).abs());
                squares += (a - b).powi(2);
                reference_squares += b.powi(2);
            }
        }
        (largest, (squares / reference_squares).sqrt())
    }

    /// Compares the checkpoint of a folder, and its GGUF twins, with what PyTorch computed from the same weights.
    pub(crate) fn check_folder(folder: &Path, tokens: &[u32]) {
        let path = folder.join("expected.safetensors");
        let values: HashMap<String, Tensor> =
            candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let check = |path: &Path, name: &str, is_quantised: bool| {
            let mut network = open(path).unwrap();
            let reference = &values[name];
            for n_at_once in [tokens.len(), 5, 1] {
                let ours = logits(&mut network, tokens, n_at_once);
                let (largest, relative) = difference(&ours, reference);
                let message = format!(
                    "{} by {n_at_once} tokens: {name} differ by {largest:e}, {relative:e} of their length",
                    path.display()
                );
                println!("{message}");
                if is_quantised {
                    // Activations are rounded to 8 bits where weights are quantised, in llama.cpp as here; PyTorch's
                    // reference does not. In this narrow network with large gains that is 3.5 %: llama.cpp
                    // (llama-cpp-python 0.3.36) is off by 3.2 % on the same file, by 3.5 % with a cache in f32.
                    assert!(relative <= 4e-2, "{message}");
                } else {
                    assert!(largest <= 1e-4, "{message}");
                }
            }
        };
        check(folder, "logits", false);
        let full = if values.contains_key("logits.full_attention") {
            "logits.full_attention"
        } else {
            "logits"
        };
        check(&folder.join("model-f32.gguf"), full, false);
        let quantised = folder.join("model-q8_0.gguf");
        if quantised.exists() {
            check(&quantised, "logits.q8_0", true);
        }
    }
}
