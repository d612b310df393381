//! GGUF metadata or a Hugging Face `config.json` → [`ModelConfig`], the numbers a LLaMA-family network is built from.
//!
//! An architecture that is not in [`ARCHITECTURES`], or a setting that the network does not compute, is refused by
//! name: a model that runs with a setting ignored writes plausible nonsense. Defaults are those of llama.cpp for GGUF
//! and of transformers for `config.json`, because writers of both leave out what equals the default.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::gguf::{self, Gguf};

/// The architectures the network computes; the names are those of GGUF's `general.architecture`.
pub(crate) const ARCHITECTURES: [&str; 5] = ["llama", "mistral3", "qwen2", "qwen3", "exaone"];

/// The `model_type`s of `config.json` that are one of [`ARCHITECTURES`].
const MODEL_TYPES: [&str; 7] = [
    "llama",
    "mistral",
    "ministral3",
    "mistral3",
    "qwen2",
    "qwen3",
    "exaone",
];

/// Hyperparameters of a LLaMA-family network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    /// As the checkpoint names it.
    pub(crate) architecture: String,
    /// Transformer blocks.
    pub(crate) n_layers: usize,
    /// Width of the residual stream.
    pub(crate) hidden: usize,
    /// Query heads.
    pub(crate) n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub(crate) n_kv_heads: usize,
    /// Width of a head; not always `hidden / n_heads`.
    pub(crate) head_dim: usize,
    /// Added under the root of RMS norms.
    pub(crate) rms_norm_eps: f64,
    /// Positions the model was made for.
    pub(crate) context_length: usize,
    /// How positions enter.
    pub(crate) rope: RopeConfig,
    /// For each layer, how many of the latest positions a query sees, itself included; `None` is all.
    pub(crate) windows: Vec<Option<usize>>,
    /// Whether the output projection is the embedding table; `None` when the checkpoint leaves it to what it holds.
    pub(crate) tied_embeddings: Option<bool>,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeConfig {
    /// Which values of a head turn together.
    pub(crate) pairing: RopePairing,
    /// How many values of a head turn, from the first; the rest stay.
    pub(crate) dimension: usize,
    /// θ.
    pub(crate) base: f64,
    /// How the model was stretched beyond its first training.
    pub(crate) scaling: RopeScaling,
    /// Queries beyond this many positions are scaled by `1 + beta·ln(1 + ⌊position / length⌋)` (Ministral 3).
    pub(crate) temperature: Option<AttentionTemperature>,
}

/// Which values of a head form a pair that turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopePairing {
    /// 2i and 2i+1: GGUF files of the llama architecture, whose query and key rows were permuted for it.
    Interleaved,
    /// i and i + dimension/2 (NEOX): every Hugging Face checkpoint and the other GGUF architectures.
    HalfSplit,
}

/// How rotary frequencies are stretched to a longer context.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    /// Not at all, or by the factors of `rope_freqs.weight`, which stand with the weights.
    None,
    /// Every frequency divided by the factor.
    Linear { factor: f64 },
    /// LLaMA 3.1: long wavelengths stretched, short ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context_length: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071, sections 3.2 to 3.4).
    Yarn {
        factor: f64,
        original_context_length: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
}

/// See [`RopeConfig::temperature`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttentionTemperature {
    pub(crate) beta: f64,
    pub(crate) length: usize,
}

impl ModelConfig {
    /// From GGUF metadata.
    ///
    /// # Errors
    /// When the architecture is not known, a key is missing or holds nonsense, or a setting is not supported.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let architecture = gguf
            .string("general.architecture")?
            .context("general.architecture: missing")?;
        ensure!(
            ARCHITECTURES.contains(&architecture),
            "architecture {architecture}: not supported, expected one of {}",
            ARCHITECTURES.join(", ")
        );
        let key = |name: &str| format!("{architecture}.{name}");
        let required = |name: &str| {
            let key = key(name);
            gguf.integer(&key)?
                .with_context(|| format!("{key}: missing"))
        };
        ensure!(
            gguf.integer(&key("expert_count"))?.unwrap_or(0) == 0,
            "{}: mixtures of experts are not supported",
            key("expert_count")
        );
        let hidden = required("embedding_length")?;
        let n_heads = head_count(gguf, &key("attention.head_count"))?
            .with_context(|| format!("{}: missing", key("attention.head_count")))?;
        let n_kv_heads = head_count(gguf, &key("attention.head_count_kv"))?.unwrap_or(n_heads);
        let head_dim = match gguf.integer(&key("attention.key_length"))? {
            Some(length) => length,
            None => hidden.checked_div(n_heads).unwrap_or(0),
        };
        let value_length = gguf.integer(&key("attention.value_length"))?;
        ensure!(
            value_length.is_none_or(|length| length == head_dim),
            "{}: {} differs from the key length {head_dim}, which is not supported",
            key("attention.value_length"),
            value_length.unwrap_or(0)
        );
        let n_layers = required("block_count")?;
        let context_length = required("context_length")?;
        let window = gguf
            .integer(&key("attention.sliding_window"))?
            .filter(|&window| window > 0);
        ModelConfig {
            architecture: architecture.to_owned(),
            n_layers,
            hidden,
            n_heads,
            n_kv_heads,
            head_dim,
            rms_norm_eps: gguf
                .float(&key("attention.layer_norm_rms_epsilon"))?
                .with_context(|| format!("{}: missing", key("attention.layer_norm_rms_epsilon")))?,
            context_length,
            rope: gguf_rope(gguf, architecture, head_dim, context_length)?,
            windows: vec![window; bounded_layers(n_layers)?],
            tied_embeddings: None,
        }
        .checked()
    }

    /// From a parsed `config.json`.
    ///
    /// # Errors
    /// When the model type is not known, a key is missing or holds nonsense, or a setting is not supported.
    pub(crate) fn from_json(config: &Value) -> Result<Self> {
        let outer = Json(config);
        let model_type = outer.string("model_type")?.context("model_type: missing")?;
        ensure!(
            MODEL_TYPES.contains(&model_type),
            "model_type {model_type}: not supported, expected one of {}",
            MODEL_TYPES.join(", ")
        );
        if let Some(method) = outer.object("quantization_config") {
            let method = method.string("quant_method")?.unwrap_or("of unknown kind");
            bail!(
                "quantization_config: {method} weights are not supported, expected plain safetensors or GGUF"
            );
        }
        // A model with eyes keeps its language model's numbers one level down.
        let json = outer.object("text_config").unwrap_or(outer);
        let activation = json
            .string("hidden_act")?
            .or(json.string("activation_function")?)
            .unwrap_or("silu");
        ensure!(
            activation == "silu",
            "hidden_act {activation}: not supported, expected silu"
        );
        let hidden = json.required("hidden_size")?;
        let n_heads = json.required("num_attention_heads")?;
        let head_dim = match json.integer("head_dim")? {
            Some(head_dim) => head_dim,
            None => hidden.checked_div(n_heads).unwrap_or(0),
        };
        let n_layers = match json.integer("num_hidden_layers")? {
            Some(n_layers) => n_layers,
            None => json
                .required("num_layers")
                .context("num_hidden_layers: missing")?,
        };
        let context_length = json.required("max_position_embeddings")?;
        let epsilon = json.float("rms_norm_eps")?;
        let epsilon = epsilon.or(json.float("layer_norm_epsilon")?);
        ModelConfig {
            architecture: model_type.to_owned(),
            n_layers,
            hidden,
            n_heads,
            n_kv_heads: json.integer("num_key_value_heads")?.unwrap_or(n_heads),
            head_dim,
            rms_norm_eps: epsilon.unwrap_or(1e-6),
            context_length,
            rope: json_rope(json, head_dim, context_length)?,
            windows: json_windows(json, model_type, bounded_layers(n_layers)?)?,
            tied_embeddings: outer
                .bool("tie_word_embeddings")?
                .or(json.bool("tie_word_embeddings")?),
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        ensure!(
            self.n_layers > 0 && self.hidden > 0 && self.n_heads > 0 && self.context_length > 0,
            "a model of {} layers, width {}, {} heads and {} positions",
            self.n_layers,
            self.hidden,
            self.n_heads,
            self.context_length
        );
        ensure!(
            self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads),
            "{} heads cannot share {} key-value heads",
            self.n_heads,
            self.n_kv_heads
        );
        let dimension = self.rope.dimension;
        ensure!(
            self.head_dim > 0
                && dimension > 0
                && dimension.is_multiple_of(2)
                && dimension <= self.head_dim,
            "rope turns {dimension} of {} values of a head, expected an even number of them",
            self.head_dim
        );
        ensure!(
            self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0 && self.rope.base > 0.0,
            "norm epsilon {} and rope base {}, expected finite positive numbers",
            self.rms_norm_eps,
            self.rope.base
        );
        Ok(self)
    }
}

/// Refuses a layer count that could only come from a damaged file, before anything is allocated for it.
fn bounded_layers(n_layers: usize) -> Result<usize> {
    ensure!(
        n_layers <= 1024,
        "{n_layers} layers, expected at most 1,024"
    );
    Ok(n_layers)
}

/// A head count may be one number or one per layer; only equal ones are supported.
fn head_count(gguf: &Gguf, key: &str) -> Result<Option<usize>> {
    if let Some(gguf::Value::Array(counts)) = gguf.value(key) {
        let Some(gguf::Value::Integer(first)) = counts.first() else {
            bail!("{key}: expected numbers");
        };
        ensure!(
            counts
                .iter()
                .all(|count| *count == gguf::Value::Integer(*first)),
            "{key}: layers with different numbers of heads are not supported"
        );
        return Ok(Some(usize::try_from(*first)?));
    }
    gguf.integer(key)
}

fn gguf_rope(
    gguf: &Gguf,
    architecture: &str,
    head_dim: usize,
    context_length: usize,
) -> Result<RopeConfig> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let original = gguf.integer(&key("scaling.original_context_length"))?;
    let scaling = gguf.string(&key("scaling.type"))?;
    let factor = match gguf.float(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => gguf.float(&key("scale_linear"))?,
    };
    let factor = factor.filter(|&factor| factor > 0.0).unwrap_or(1.0);
    let scaling = match scaling {
        Some("none") => RopeScaling::None,
        // llama.cpp reads an absent type as linear, with factor 1 when that is absent too.
        None | Some("linear") => RopeScaling::Linear { factor },
        Some("yarn") => {
            let all_dimensions = gguf.float(&key("scaling.yarn_log_multiplier"))?;
            let own = gguf.float(&key("scaling.attn_factor"))?.unwrap_or(1.0);
            #[expect(clippy::cast_precision_loss, reason = "context lengths are small")]
            RopeScaling::Yarn {
                factor,
                original_context_length: original.unwrap_or(context_length) as f64,
                beta_fast: gguf.float(&key("scaling.yarn_beta_fast"))?.unwrap_or(32.0),
                beta_slow: gguf.float(&key("scaling.yarn_beta_slow"))?.unwrap_or(1.0),
                attention_factor: own * yarn_magnitude(factor, 1.0)
                    / yarn_magnitude(factor, all_dimensions.unwrap_or(0.0)),
            }
        }
        Some(other) => bail!(
            "{}: {other} is not supported, expected none, linear or yarn",
            key("scaling.type")
        ),
    };
    let beta = gguf.float(&format!("{architecture}.attention.temperature_scale"))?;
    Ok(RopeConfig {
        // llama.cpp, `llama_model_rope_type`: NORM for llama and mistral3, NEOX for qwen2, qwen3 and exaone.
        pairing: match architecture {
            "llama" | "mistral3" => RopePairing::Interleaved,
            _ => RopePairing::HalfSplit,
        },
        dimension: gguf.integer(&key("dimension_count"))?.unwrap_or(head_dim),
        base: gguf.float(&key("freq_base"))?.unwrap_or(10_000.0),
        scaling,
        temperature: beta
            .filter(|&beta| beta != 0.0)
            .map(|beta| AttentionTemperature {
                beta,
                length: original.unwrap_or(context_length),
            }),
    })
}

/// YaRN's `mscale`: 0.1·m·ln(factor) + 1.
fn yarn_magnitude(factor: f64, multiplier: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * multiplier * factor.ln() + 1.0
    }
}

fn json_rope(json: Json<'_>, head_dim: usize, context_length: usize) -> Result<RopeConfig> {
    // transformers 5 keeps everything in `rope_parameters`; before, θ stood outside `rope_scaling`.
    let rope = json
        .object("rope_parameters")
        .or(json.object("rope_scaling"))
        .unwrap_or(Json(&Value::Null));
    let kind = rope.string("rope_type")?.or(rope.string("type")?);
    let number = |key: &str| {
        rope.float(key)?
            .with_context(|| format!("rope_scaling: {key}: missing"))
    };
    #[expect(clippy::cast_precision_loss, reason = "context lengths are small")]
    let longest = context_length as f64;
    let original = rope.float("original_max_position_embeddings")?;
    let scaling = match kind {
        // "dynamic" stretches only beyond max_position_embeddings, where this model is not taken.
        None | Some("default" | "dynamic") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: number("factor")?,
        },
        Some("llama3") => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context_length: number("original_max_position_embeddings")?,
        },
        Some("yarn") => {
            let original = original.unwrap_or(longest);
            let factor = rope.float("factor")?.unwrap_or(longest / original);
            let attention_factor = match (
                rope.float("attention_factor")?,
                rope.float("mscale")?,
                rope.float("mscale_all_dim")?,
            ) {
                (Some(factor), _, _) => factor,
                (None, Some(own), Some(all)) if own != 0.0 && all != 0.0 => {
                    yarn_magnitude(factor, own) / yarn_magnitude(factor, all)
                }
                (None, _, _) => yarn_magnitude(factor, 1.0),
            };
            RopeScaling::Yarn {
                factor,
                original_context_length: original,
                beta_fast: rope.float("beta_fast")?.unwrap_or(32.0),
                beta_slow: rope.float("beta_slow")?.unwrap_or(1.0),
                attention_factor,
            }
        }
        Some(other) => bail!(
            "rope_scaling: {other} is not supported, expected default, linear, dynamic, llama3 or yarn"
        ),
    };
    let theta = rope.float("rope_theta")?.or(json.float("rope_theta")?);
    let share = json
        .float("partial_rotary_factor")?
        .or(rope.float("partial_rotary_factor")?);
    let temperature = rope
        .float("llama_4_scaling_beta")?
        .filter(|&beta| beta != 0.0);
    Ok(RopeConfig {
        pairing: RopePairing::HalfSplit,
        dimension: share.map_or(head_dim, |share| scaled_down(head_dim, share)),
        base: theta.unwrap_or(10_000.0),
        scaling,
        temperature: match temperature {
            Some(beta) => Some(AttentionTemperature {
                beta,
                length: rope
                    .integer("original_max_position_embeddings")?
                    .unwrap_or(context_length),
            }),
            None => None,
        },
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a head's width; the result is checked against the width"
)]
fn scaled_down(width: usize, share: f64) -> usize {
    (width as f64 * share) as usize
}

fn json_windows(json: Json<'_>, model_type: &str, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = json.integer("sliding_window")?.filter(|&window| window > 0);
    if let Some(layer_types) = json.0.get("layer_types").and_then(Value::as_array) {
        ensure!(
            layer_types.len() == n_layers,
            "layer_types: expected {n_layers} layers, got {}",
            layer_types.len()
        );
        return layer_types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(None),
                Some("sliding_attention") => window
                    .map(Some)
                    .context("layer_types: sliding_attention without sliding_window"),
                _ => Err(anyhow!("layer_types: {kind} is not supported")),
            })
            .collect();
    }
    // Qwen names a window even where it is not used, and uses it only from a certain layer on.
    if model_type.starts_with("qwen") {
        if json.bool("use_sliding_window")? != Some(true) {
            return Ok(vec![None; n_layers]);
        }
        let n_full = json.integer("max_window_layers")?.unwrap_or(0);
        return Ok((0..n_layers)
            .map(|layer| window.filter(|_| layer >= n_full))
            .collect());
    }
    Ok(vec![window; n_layers])
}

/// A JSON object whose look-ups name the key when they fail; `null` counts as absent.
#[derive(Clone, Copy)]
struct Json<'a>(&'a Value);

impl<'a> Json<'a> {
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn object(self, key: &str) -> Option<Json<'a>> {
        self.get(key).filter(|value| value.is_object()).map(Json)
    }

    fn typed<T>(
        self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        convert(value)
            .map(Some)
            .ok_or_else(|| anyhow!("{key}: expected {expected}, got {value}"))
    }

    fn integer(self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    fn required(self, key: &str) -> Result<usize> {
        self.integer(key)?
            .with_context(|| format!("{key}: missing"))
    }

    fn float(self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn bool(self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn string(self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The smallest `config.json` that is read, with these keys changed or added.
    fn config(changes: Value) -> Value {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 128,
        });
        let object = config.as_object_mut().unwrap();
        object.extend(changes.as_object().unwrap().clone());
        config
    }

    #[test]
    fn what_a_config_leaves_out_has_the_default_of_transformers() {
        let config = ModelConfig::from_json(&config(json!({"head_dim": null}))).unwrap();
        assert_eq!(config.head_dim, 16);
        assert_eq!(config.n_kv_heads, 4);
        assert_eq!(config.rope.base, 10_000.0);
        assert_eq!(config.rope.dimension, 16);
        assert_eq!(config.windows, [None, None]);
    }

    #[test]
    fn what_the_network_does_not_compute_is_refused_by_name() {
        let check = |changes: Value, expected: &str| {
            let error = ModelConfig::from_json(&config(changes)).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        };
        check(
            json!({"model_type": "gemma3"}),
            "model_type gemma3: not supported, expected one of llama, mistral,",
        );
        check(json!({"hidden_act": "gelu"}), "hidden_act gelu");
        check(
            json!({"rope_scaling": {"rope_type": "longrope"}}),
            "longrope is not supported",
        );
        check(
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "gptq weights are not supported",
        );
        check(json!({"num_key_value_heads": 3}), "4 heads cannot share 3");
        check(json!({"num_attention_heads": 0}), "0 heads");
        check(
            json!({"hidden_size": "wide"}),
            "hidden_size: expected a non-negative integer, got \"wide\"",
        );
    }

    #[test]
    fn windows_follow_the_family() {
        let check = |changes: Value, expected: [Option<usize>; 2]| {
            let config = ModelConfig::from_json(&config(changes)).unwrap();
            assert_eq!(config.windows, expected);
        };
        check(
            json!({"model_type": "mistral", "sliding_window": 8}),
            [Some(8), Some(8)],
        );
        check(
            json!({"model_type": "mistral", "sliding_window": null}),
            [None, None],
        );
        check(
            json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": false}),
            [None, None],
        );
        check(
            json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1}),
            [None, Some(8)],
        );
        check(
            json!({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}),
            [Some(8), None],
        );
    }

    #[test]
    fn rope_is_read_from_the_old_and_the_new_place() {
        let old = ModelConfig::from_json(&config(json!({
            "rope_theta": 5e5,
            "rope_scaling": {"type": "linear", "factor": 2.0},
        })));
        let new = ModelConfig::from_json(&config(json!({
            "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0},
        })));
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!(old.rope, new.rope);
        assert_eq!(new.rope.base, 5e5);
        assert_eq!(new.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    }
}
