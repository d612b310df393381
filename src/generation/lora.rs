//! A PEFT LoRA adapter (Hu et al. 2021, arXiv:2106.09685): a folder with `adapter_config.json` and
//! `adapter_model.safetensors` → the low-rank change to each projection it names.
//!
//! The change is added beside the base weights (`y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`), never merged into them, so that quantised
//! weights stay as they are. What is not a plain LoRA (DoRA, trained embeddings or biases) is refused by name, because
//! leaving a part of an adapter out gives a model that nobody trained.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::mapping::MappedTensor;
use super::weights::{Part, exaone_name, hugging_face_name, read_safetensors};

/// The keys of `adapter_config.json` that change the computation.
#[derive(Debug, Deserialize)]
struct AdapterConfig {
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: HashMap<String, Value>,
    #[serde(default)]
    alpha_pattern: HashMap<String, Value>,
}

/// An adapter, opened.
#[derive(Debug)]
pub(crate) struct Adapter {
    tensors: HashMap<String, MappedTensor>,
    /// Tensors that no projection has asked for yet.
    unused: RefCell<BTreeSet<String>>,
    rank: usize,
    scale: f64,
}

impl Adapter {
    /// Reads an adapter's folder.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the adapter is more than a plain LoRA.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("adapter_config.json");
        let text = crate::fs::read_to_string(&path)?;
        let config: AdapterConfig =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        config.check().with_context(|| path.display().to_string())?;
        let mut tensors = HashMap::new();
        let path = folder.join("adapter_model.safetensors");
        read_safetensors(&path, &mut tensors).with_context(|| path.display().to_string())?;
        for name in tensors.keys() {
            let plain = name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight");
            ensure!(
                plain,
                "{}: {name}: not a lora_A or lora_B matrix",
                path.display()
            );
        }
        Ok(Adapter {
            unused: RefCell::new(tensors.keys().cloned().collect()),
            tensors,
            rank: config.r,
            scale: config.scale(),
        })
    }

    /// The change to a projection, if the adapter names it. `head_dim_if_interleaved` is given for query and key
    /// projections of a base whose rows are in GGUF's interleaved order, into which B's rows are then brought.
    ///
    /// # Errors
    /// When only one of the two matrices is there, or a shape is wrong.
    pub(crate) fn low_rank(
        &self,
        layer: usize,
        part: Part,
        (n_out, n_in): (usize, usize),
        head_dim_if_interleaved: Option<usize>,
        device: &Device,
    ) -> Result<Option<LowRank>> {
        let a = self.find(layer, part, "lora_A.weight");
        let b = self.find(layer, part, "lora_B.weight");
        let ((a_name, a), (b_name, b)) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => return Ok(None),
            (Some((name, _)), None) | (None, Some((name, _))) => {
                bail!("adapter: {name}: its other half is missing")
            }
        };
        let rank = self.rank;
        ensure!(
            a.shape() == [rank, n_in],
            "adapter: {a_name}: expected [{rank}, {n_in}], got {:?}",
            a.shape()
        );
        ensure!(
            b.shape() == [n_out, rank],
            "adapter: {b_name}: expected [{n_out}, {rank}], got {:?}",
            b.shape()
        );
        let down = Tensor::from_vec(a.values()?, (rank, n_in), device)?;
        let mut up = Tensor::from_vec(b.values()?, (n_out, rank), device)?;
        if let Some(head_dim) = head_dim_if_interleaved {
            up = interleave_rows(&up, head_dim)?;
        }
        self.unused
            .borrow_mut()
            .retain(|name| name != a_name && name != b_name);
        Ok(Some(LowRank {
            down,
            up: (up * self.scale)?,
        }))
    }

    /// Checks that every matrix of the adapter found its projection.
    ///
    /// # Errors
    /// When one did not, by name.
    pub(crate) fn check_all_used(&self) -> Result<()> {
        if let Some(name) = self.unused.borrow().first() {
            bail!("adapter: {name}: the model has no such projection");
        }
        Ok(())
    }

    fn find(&self, layer: usize, part: Part, matrix: &str) -> Option<(&str, &MappedTensor)> {
        let endings = [
            format!(".layers.{layer}.{}.{matrix}", hugging_face_name(part)),
            format!(".h.{layer}.{}.{matrix}", exaone_name(part)),
        ];
        self.tensors
            .iter()
            .find(|(name, _)| endings.iter().any(|ending| name.ends_with(ending)))
            .map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl AdapterConfig {
    fn check(&self) -> Result<()> {
        if let Some(kind) = &self.peft_type {
            ensure!(
                kind == "LORA",
                "peft_type {kind}: not supported, expected LORA"
            );
        }
        ensure!(!self.use_dora, "use_dora: DoRA adapters are not supported");
        ensure!(
            !self.fan_in_fan_out,
            "fan_in_fan_out: transposed weights are not supported"
        );
        ensure!(
            self.bias.as_deref().is_none_or(|bias| bias == "none"),
            "bias {:?}: trained biases are not supported",
            self.bias.as_deref().unwrap_or_default()
        );
        if let Some(modules) = &self.modules_to_save {
            ensure!(
                modules.is_empty(),
                "modules_to_save: {} are trained in full, which is not supported",
                modules.join(", ")
            );
        }
        ensure!(
            self.rank_pattern.is_empty() && self.alpha_pattern.is_empty(),
            "rank_pattern and alpha_pattern: different ranks per module are not supported"
        );
        ensure!(self.r > 0, "r: expected a rank above 0");
        Ok(())
    }

    fn scale(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
        let rank = self.r as f64;
        if self.use_rslora {
            self.lora_alpha / rank.sqrt()
        } else {
            self.lora_alpha / rank
        }
    }
}

/// The rows of each head from half-split order (i, i + half) into interleaved order (2i, 2i + 1), as llama.cpp's
/// converter permutes query and key weights.
fn interleave_rows(matrix: &Tensor, head_dim: usize) -> Result<Tensor> {
    let (n_rows, n_columns) = matrix.dims2()?;
    ensure!(
        n_rows.is_multiple_of(head_dim),
        "{n_rows} rows are not heads of {head_dim}"
    );
    Ok(matrix
        .reshape((n_rows / head_dim, 2, head_dim / 2, n_columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((n_rows, n_columns))?)
}

/// `s·B·A` of one projection.
#[derive(Debug)]
pub(crate) struct LowRank {
    /// A: `[rank, n_in]`.
    down: Tensor,
    /// s·B: `[n_out, rank]`.
    up: Tensor,
}

impl LowRank {
    /// `[tokens, n_in]` → `[tokens, n_out]`, f32.
    ///
    /// # Errors
    /// When the shapes do not fit or the device has no room.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.down.t()?)?.matmul(&self.up.t()?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::generation::config::ModelConfig;
    use crate::generation::gguf::Gguf;
    use crate::generation::llama::{KvCache, Llama, Logits};
    use crate::generation::weights::Weights;

    const BASE: &str = "fixtures/models/tiny-llama";
    const RANK: usize = 4;
    const ALPHA: f64 = 8.0;

    fn base_tensors() -> HashMap<String, Tensor> {
        let path = Path::new(BASE).join("model.safetensors");
        candle_core::safetensors::load(path, &Device::Cpu).unwrap()
    }

    /// Writes an adapter that changes two projections of every layer, and returns its matrices by the name of the
    /// weight they change.
    fn write_adapter(folder: &Path, config: &Value) -> HashMap<String, (Tensor, Tensor)> {
        let mut matrices = HashMap::new();
        let mut saved = HashMap::new();
        for (name, weight) in base_tensors() {
            let Some(module) = name.strip_suffix(".weight") else {
                continue;
            };
            if !module.ends_with("q_proj") && !module.ends_with("down_proj") {
                continue;
            }
            let (n_out, n_in) = weight.dims2().unwrap();
            let a = Tensor::randn(0f32, 0.2, (RANK, n_in), &Device::Cpu).unwrap();
            let b = Tensor::randn(0f32, 0.2, (n_out, RANK), &Device::Cpu).unwrap();
            let prefix = format!("base_model.model.{module}");
            saved.insert(format!("{prefix}.lora_A.weight"), a.clone());
            saved.insert(format!("{prefix}.lora_B.weight"), b.clone());
            matrices.insert(name, (a, b));
        }
        let path = folder.join("adapter_model.safetensors");
        candle_core::safetensors::save(&saved, path).unwrap();
        let path = folder.join("adapter_config.json");
        std::fs::write(path, config.to_string()).unwrap();
        matrices
    }

    fn logits(config: ModelConfig, weights: &Weights) -> Result<Vec<f32>> {
        let tokens: Vec<u32> = (60..90).collect();
        let mut network = Llama::new(config, weights, &Device::Cpu)?;
        let mut cache = KvCache::default();
        network.reserve(&mut cache, tokens.len())?;
        let logits = network.forward(&mut cache, &tokens, Logits::All)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    fn open_base(is_gguf: bool) -> (ModelConfig, Weights) {
        let (folder, device) = (Path::new(BASE), &Device::Cpu);
        if is_gguf {
            let gguf = Arc::new(Gguf::open(&folder.join("model-f32.gguf")).unwrap());
            let config = ModelConfig::from_gguf(&gguf).unwrap();
            return (config, Weights::from_gguf(gguf, device));
        }
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = ModelConfig::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        (config, Weights::from_folder(folder, device).unwrap())
    }

    fn adapter_config() -> Value {
        serde_json::json!({
            "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "modules_to_save": null,
            "target_modules": ["q_proj", "down_proj"], "lora_dropout": 0.05, "use_dora": false,
        })
    }

    #[test]
    fn an_adapter_beside_the_weights_does_what_one_merged_into_them_does() {
        for use_rslora in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut config = adapter_config();
            config["use_rslora"] = use_rslora.into();
            let matrices = write_adapter(folder.path(), &config);
            let rank = if use_rslora { 2.0 } else { 4.0 };
            let merged = base_tensors().into_iter().map(|(name, weight)| {
                let weight = match matrices.get(&name) {
                    Some((a, b)) => (weight + b.matmul(a).unwrap() * (ALPHA / rank)).unwrap(),
                    None => weight,
                };
                (name, weight)
            });
            let merged: HashMap<String, Tensor> = merged.collect();
            let path = folder.path().join("model.safetensors");
            candle_core::safetensors::save(&merged, path).unwrap();
            let weights = Weights::from_folder(folder.path(), &Device::Cpu).unwrap();
            let expected = logits(open_base(false).0, &weights).unwrap();
            for is_gguf in [false, true] {
                let (config, weights) = open_base(is_gguf);
                let plain = logits(config.clone(), &weights).unwrap();
                let adapter = Adapter::open(folder.path()).unwrap();
                let adapted = logits(config, &weights.with_adapter(adapter)).unwrap();
                let largest = |ours: &[f32]| {
                    let differences = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                    differences.fold(0f32, f32::max)
                };
                assert!(largest(&adapted) < 1e-3, "{}", largest(&adapted));
                assert!(largest(&plain) > 1.0, "the adapter changes nothing");
            }
        }
    }

    #[test]
    fn what_is_not_a_plain_lora_is_refused_by_name() {
        let check = |key: &str, value: Value, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let mut config = adapter_config();
            config[key] = value;
            write_adapter(folder.path(), &config);
            let error = format!("{:#}", Adapter::open(folder.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("use_dora", true.into(), "DoRA adapters are not supported");
        let modules = serde_json::json!(["lm_head", "embed_tokens"]);
        check(
            "modules_to_save",
            modules,
            "modules_to_save: lm_head, embed_tokens are trained in full",
        );
        check("bias", "all".into(), "bias \"all\"");
        check("peft_type", "LOHA".into(), "peft_type LOHA");
        let pattern = serde_json::json!({"q_proj": 8});
        check("rank_pattern", pattern, "different ranks per module");
    }

    #[test]
    fn a_matrix_that_finds_no_place_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), &adapter_config());
        let path = folder.path().join("adapter_model.safetensors");
        let mut saved = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let stray = saved.values().next().unwrap().clone();
        let name = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight";
        saved.insert(name.to_owned(), stray);
        candle_core::safetensors::save(&saved, &path).unwrap();
        let (config, weights) = open_base(false);
        let adapter = Adapter::open(folder.path()).unwrap();
        let error = logits(config, &weights.with_adapter(adapter)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("adapter: {name}: the model has no such projection")
        );
    }
}
