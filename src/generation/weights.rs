//! A checkpoint's files → the tensors of the network, by role.
//!
//! [`Weights`] hides the three ways in which the families name their tensors (GGUF, Hugging Face, EXAONE's own) and the
//! two ways in which files hold them, and attaches a LoRA adapter's matrices to the projections they change. Shapes are
//! checked here, so that a damaged checkpoint is an error that names the tensor rather than a failed multiplication.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use super::attention::on_cpu;
use super::config::ModelConfig;
use super::gguf::Gguf;
use super::lora::{Adapter, LowRank};
use super::mapping::{MappedTensor, Mapping};
use super::packed::{Activations, PackedMatrix};

/// What a tensor does within a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryNorm,
    KeyNorm,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
}

/// How a family names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Gguf,
    /// With what stands before `layers.0`: `model.`, or more where the model also has eyes.
    HuggingFace(&'static str),
    Exaone,
}

/// The tensors of a checkpoint, and the adapter that changes them.
#[derive(Debug)]
pub(crate) struct Weights {
    tensors: Tensors,
    naming: Naming,
    adapter: Option<Adapter>,
    device: Device,
}

#[derive(Debug)]
enum Tensors {
    Gguf(Arc<Gguf>),
    Safetensors(HashMap<String, MappedTensor>),
}

impl Weights {
    /// The tensors of a GGUF file.
    pub(crate) fn from_gguf(gguf: Arc<Gguf>, device: &Device) -> Self {
        Weights {
            tensors: Tensors::Gguf(gguf),
            naming: Naming::Gguf,
            adapter: None,
            device: device.clone(),
        }
    }

    /// The tensors of a folder with `model.safetensors`, or with the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// When a file is missing, damaged, or holds values that are not F32, F16 or BF16.
    pub(crate) fn from_folder(folder: &Path, device: &Device) -> Result<Self> {
        let mut tensors = HashMap::new();
        for name in safetensors_files(folder)? {
            let path = folder.join(&name);
            read_safetensors(&path, &mut tensors).with_context(|| path.display().to_string())?;
        }
        let naming = [
            ("transformer.wte.weight", Naming::Exaone),
            ("model.embed_tokens.weight", Naming::HuggingFace("model.")),
            (
                "language_model.model.embed_tokens.weight",
                Naming::HuggingFace("language_model.model."),
            ),
            (
                "model.language_model.embed_tokens.weight",
                Naming::HuggingFace("model.language_model."),
            ),
        ];
        let naming = naming
            .into_iter()
            .find(|(name, _)| tensors.contains_key(*name))
            .map(|(_, naming)| naming)
            .with_context(|| format!("{}: model.embed_tokens.weight: missing", folder.display()))?;
        Ok(Weights {
            tensors: Tensors::Safetensors(tensors),
            naming,
            adapter: None,
            device: device.clone(),
        })
    }

    /// Attaches an adapter: the projections that it names will be changed by it.
    pub(crate) fn with_adapter(mut self, adapter: Adapter) -> Self {
        self.adapter = Some(adapter);
        self
    }

    /// Hands the adapter back, to see whether all of it found its place.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Bytes of memory that the tensors take once the network is built: plain values as f32, quantised ones about as in
    /// the file. The embedding table stays in the file, unless it is the projection to logits, too.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let all: Vec<(&String, &MappedTensor)> = match &self.tensors {
            Tensors::Gguf(gguf) => gguf.tensors().collect(),
            Tensors::Safetensors(tensors) => tensors.iter().collect(),
        };
        let is_output = |name: &str| name == "output.weight" || name.ends_with("lm_head.weight");
        let is_embedding = |name: &str| name == self.embedding_name();
        let is_tied = !all.iter().any(|(name, _)| is_output(name));
        // A model that also has eyes holds tensors that are not read here.
        let prefix = match self.naming {
            Naming::Gguf | Naming::Exaone => "",
            Naming::HuggingFace(prefix) => prefix,
        };
        let used = all.iter().filter(|(name, _)| {
            (name.starts_with(prefix) || is_output(name)) && (is_tied || !is_embedding(name))
        });
        used.map(|(_, tensor)| tensor.memory_bytes()).sum()
    }

    /// The embedding table.
    ///
    /// # Errors
    /// When it is missing or not `hidden` wide.
    pub(crate) fn embedding(&self, hidden: usize) -> Result<Embedding> {
        let name = self.embedding_name();
        let tensor = self
            .tensor(&name)
            .with_context(|| format!("{name}: missing"))?;
        let &[n_vocab, width] = tensor.shape() else {
            bail!(
                "{name}: expected [tokens, {hidden}], got {:?}",
                tensor.shape()
            );
        };
        ensure!(
            width == hidden,
            "{name}: expected [tokens, {hidden}], got [{n_vocab}, {width}]"
        );
        let blocks = if tensor.is_quantized() {
            Some(tensor.quantized(&Device::Cpu).context(name)?)
        } else {
            None
        };
        Ok(Embedding {
            table: tensor.clone(),
            blocks,
            n_vocab,
            hidden,
            device: self.device.clone(),
        })
    }

    /// The projection to logits; the embedding table itself where the checkpoint ties them.
    ///
    /// # Errors
    /// When it is missing and not tied, or its shape is wrong.
    pub(crate) fn output(&self, config: &ModelConfig, embedding: &Embedding) -> Result<Linear> {
        let name = match self.naming {
            Naming::Gguf => "output",
            Naming::HuggingFace("model.") | Naming::Exaone => "lm_head",
            Naming::HuggingFace(_) if self.tensor("lm_head.weight").is_some() => "lm_head",
            Naming::HuggingFace(_) => "language_model.lm_head",
        };
        let own = self.tensor(&format!("{name}.weight"));
        let tied = config.tied_embeddings.unwrap_or(own.is_none());
        let shape = (embedding.n_vocab, config.hidden);
        if tied {
            return embedding.as_linear();
        }
        ensure!(
            own.is_some(),
            "{name}.weight: missing, and tie_word_embeddings is false"
        );
        self.named_linear(name, shape)
    }

    /// The norm after the last block, `[hidden]`.
    ///
    /// # Errors
    /// When it is missing or its shape is wrong.
    pub(crate) fn output_norm(&self, hidden: usize) -> Result<Tensor> {
        let name = match self.naming {
            Naming::Gguf => "output_norm.weight".to_owned(),
            Naming::HuggingFace(prefix) => format!("{prefix}norm.weight"),
            Naming::Exaone => "transformer.ln_f.weight".to_owned(),
        };
        self.vector(&name, hidden)?
            .with_context(|| format!("{name}: missing"))
    }

    /// The factors that divide rotary frequencies in GGUF files of LLaMA 3.1 and its like.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn rope_factors(&self) -> Result<Option<Vec<f32>>> {
        self.tensor("rope_freqs.weight")
            .filter(|_| self.naming == Naming::Gguf)
            .map(MappedTensor::values)
            .transpose()
    }

    /// The weights of a norm, f32, if the block has it.
    ///
    /// # Errors
    /// When it does not have `width` values.
    pub(crate) fn norm(&self, layer: usize, part: Part, width: usize) -> Result<Option<Tensor>> {
        self.vector(&format!("{}.weight", self.name(layer, part)), width)
    }

    /// How many values a projection gives: the width of the feed-forward network is what its gate says.
    ///
    /// # Errors
    /// When it is missing or not a matrix.
    pub(crate) fn rows(&self, layer: usize, part: Part) -> Result<usize> {
        let name = format!("{}.weight", self.name(layer, part));
        let tensor = self
            .tensor(&name)
            .with_context(|| format!("{name}: missing"))?;
        let &[n_rows, _] = tensor.shape() else {
            bail!("{name}: expected a matrix, got {:?}", tensor.shape());
        };
        Ok(n_rows)
    }

    /// A projection from `n_in` to `n_out` values, with its bias if it has one, and the adapter's change to it.
    ///
    /// # Errors
    /// When it is missing or its shape is wrong.
    pub(crate) fn linear(
        &self,
        layer: usize,
        part: Part,
        (n_out, n_in): (usize, usize),
        head_dim_if_interleaved: Option<usize>,
    ) -> Result<Linear> {
        let mut linear = self.named_linear(&self.name(layer, part), (n_out, n_in))?;
        if let Some(adapter) = &self.adapter {
            linear.low_rank = adapter.low_rank(
                layer,
                part,
                (n_out, n_in),
                head_dim_if_interleaved,
                &self.device,
            )?;
        }
        Ok(linear)
    }

    fn named_linear(&self, name: &str, (n_out, n_in): (usize, usize)) -> Result<Linear> {
        let bias = self.vector(&format!("{name}.bias"), n_out)?;
        let name = format!("{name}.weight");
        let tensor = self
            .tensor(&name)
            .with_context(|| format!("{name}: missing"))?;
        ensure!(
            tensor.shape() == [n_out, n_in],
            "{name}: expected [{n_out}, {n_in}], got {:?}",
            tensor.shape()
        );
        Ok(Linear {
            matrix: Matrix::new(tensor, (n_out, n_in), &self.device).context(name)?,
            bias,
            low_rank: None,
        })
    }

    fn vector(&self, name: &str, width: usize) -> Result<Option<Tensor>> {
        let Some(tensor) = self.tensor(name) else {
            return Ok(None);
        };
        ensure!(
            tensor.shape() == [width],
            "{name}: expected [{width}], got {:?}",
            tensor.shape()
        );
        Ok(Some(Tensor::from_vec(
            tensor.values()?,
            width,
            &self.device,
        )?))
    }

    fn tensor(&self, name: &str) -> Option<&MappedTensor> {
        match &self.tensors {
            Tensors::Gguf(gguf) => gguf.tensor(name),
            Tensors::Safetensors(tensors) => tensors.get(name),
        }
    }

    fn embedding_name(&self) -> String {
        match self.naming {
            Naming::Gguf => "token_embd.weight".to_owned(),
            Naming::HuggingFace(prefix) => format!("{prefix}embed_tokens.weight"),
            Naming::Exaone => "transformer.wte.weight".to_owned(),
        }
    }

    fn name(&self, layer: usize, part: Part) -> String {
        match self.naming {
            Naming::Gguf => format!("blk.{layer}.{}", gguf_name(part)),
            Naming::HuggingFace(prefix) => {
                format!("{prefix}layers.{layer}.{}", hugging_face_name(part))
            }
            Naming::Exaone => format!("transformer.h.{layer}.{}", exaone_name(part)),
        }
    }
}

fn gguf_name(part: Part) -> &'static str {
    match part {
        Part::AttentionNorm => "attn_norm",
        Part::Query => "attn_q",
        Part::Key => "attn_k",
        Part::Value => "attn_v",
        Part::QueryNorm => "attn_q_norm",
        Part::KeyNorm => "attn_k_norm",
        Part::AttentionOutput => "attn_output",
        Part::FeedForwardNorm => "ffn_norm",
        Part::Gate => "ffn_gate",
        Part::Up => "ffn_up",
        Part::Down => "ffn_down",
    }
}

/// The name within a block that transformers, and so PEFT, uses.
pub(crate) fn hugging_face_name(part: Part) -> &'static str {
    match part {
        Part::AttentionNorm => "input_layernorm",
        Part::Query => "self_attn.q_proj",
        Part::Key => "self_attn.k_proj",
        Part::Value => "self_attn.v_proj",
        Part::QueryNorm => "self_attn.q_norm",
        Part::KeyNorm => "self_attn.k_norm",
        Part::AttentionOutput => "self_attn.o_proj",
        Part::FeedForwardNorm => "post_attention_layernorm",
        Part::Gate => "mlp.gate_proj",
        Part::Up => "mlp.up_proj",
        Part::Down => "mlp.down_proj",
    }
}

/// The name within a block of EXAONE 3's own modelling code.
pub(crate) fn exaone_name(part: Part) -> &'static str {
    match part {
        Part::AttentionNorm => "ln_1",
        Part::Query => "attn.attention.q_proj",
        Part::Key => "attn.attention.k_proj",
        Part::Value => "attn.attention.v_proj",
        Part::QueryNorm => "attn.attention.q_norm",
        Part::KeyNorm => "attn.attention.k_norm",
        Part::AttentionOutput => "attn.attention.out_proj",
        Part::FeedForwardNorm => "ln_2",
        Part::Gate => "mlp.c_fc_0",
        Part::Up => "mlp.c_fc_1",
        Part::Down => "mlp.c_proj",
    }
}

fn safetensors_files(folder: &Path) -> Result<BTreeSet<String>> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(BTreeSet::from(["model.safetensors".to_owned()]));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let text = crate::fs::read_to_string(&index)?;
    let index: Index = serde_json::from_str(&text).with_context(|| index.display().to_string())?;
    Ok(index.weight_map.into_values().collect())
}

/// Adds the tensors of a safetensors file.
///
/// # Errors
/// When the file is missing or damaged. Tensors of other types than F32, F16 and BF16 are left out: a network that
/// needs one will miss it by name.
pub(crate) fn read_safetensors(
    path: &Path,
    tensors: &mut HashMap<String, MappedTensor>,
) -> Result<()> {
    let mapping = Arc::new(Mapping::open(path)?);
    let (n_header_bytes, metadata) =
        SafeTensors::read_metadata(mapping.bytes()).context("not a safetensors file")?;
    for (name, info) in metadata.tensors() {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the crate adds types that no model here uses"
        )]
        let dtype = match info.dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            _ => continue,
        };
        let offset = 8 + n_header_bytes + info.data_offsets.0;
        if info.shape.contains(&0) || info.shape.is_empty() {
            continue;
        }
        let tensor = MappedTensor::new(&mapping, offset, dtype, info.shape.clone())
            .with_context(|| format!("tensor {name}"))?;
        tensors.insert(name, tensor);
    }
    Ok(())
}

/// The table of token vectors, left in the file: rows are converted as they are looked up.
#[derive(Debug)]
pub(crate) struct Embedding {
    table: MappedTensor,
    /// The table as candle reads it, where it is quantised.
    blocks: Option<QTensor>,
    /// Rows of the table.
    n_vocab: usize,
    hidden: usize,
    device: Device,
}

impl Embedding {
    /// Token ids → `[tokens, hidden]`, f32.
    ///
    /// # Errors
    /// When an id is beyond the table.
    pub(crate) fn look_up(&self, tokens: &[u32]) -> Result<Tensor> {
        if let Some(blocks) = &self.blocks {
            let ids = Tensor::new(tokens, &Device::Cpu)?;
            return Ok(blocks.embedding(&ids)?.to_device(&self.device)?);
        }
        let mut values = Vec::with_capacity(tokens.len() * self.hidden);
        for &token in tokens {
            let row = usize::try_from(token)?;
            values.extend(self.table.row(row).context("embedding table")?);
        }
        let shape = (tokens.len(), self.hidden);
        Ok(Tensor::from_vec(values, shape, &self.device)?)
    }

    /// The table as the projection to logits.
    fn as_linear(&self) -> Result<Linear> {
        Ok(Linear {
            matrix: Matrix::new(&self.table, (self.n_vocab, self.hidden), &self.device)?,
            bias: None,
            low_rank: None,
        })
    }
}

/// `x·Wᵀ + b`, plus a LoRA adapter's change.
#[derive(Debug)]
pub(crate) struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
    low_rank: Option<LowRank>,
}

/// A weight matrix in the form in which it is multiplied fastest.
#[derive(Debug)]
enum Matrix {
    /// Quantised, rearranged for this machine's processor.
    Packed(PackedMatrix),
    /// Quantised, as candle multiplies it.
    Quantized(QTensor),
    /// f32.
    Plain(Tensor),
}

impl Matrix {
    fn new(tensor: &MappedTensor, shape: (usize, usize), device: &Device) -> Result<Self> {
        if !tensor.is_quantized() {
            return Ok(Matrix::Plain(Tensor::from_vec(
                tensor.values()?,
                shape,
                device,
            )?));
        }
        if device.is_cpu()
            && let Some(packed) = PackedMatrix::new(tensor.dtype(), tensor.bytes(), shape)
        {
            tensor.release();
            return Ok(Matrix::Packed(packed));
        }
        Ok(Matrix::Quantized(tensor.quantized(device)?))
    }
}

impl Linear {
    /// `[tokens, n_in]` → `[tokens, n_out]`, f32.
    ///
    /// # Errors
    /// When the shapes do not fit or the device has no room.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = Linear::forward_together([self], x)?;
        Ok(y)
    }

    /// Several projections of the same input, which is rounded once and multiplied in one step where they are packed.
    ///
    /// # Errors
    /// When the shapes do not fit or the device has no room.
    pub(crate) fn forward_together<const N: usize>(
        linears: [&Linear; N],
        x: &Tensor,
    ) -> Result<[Tensor; N]> {
        let packed = linears.iter().filter_map(|linear| match &linear.matrix {
            Matrix::Packed(matrix) => Some(matrix),
            Matrix::Quantized(_) | Matrix::Plain(_) => None,
        });
        let packed: Vec<&PackedMatrix> = packed.collect();
        let products = if packed.is_empty() {
            Vec::new()
        } else {
            PackedMatrix::multiply_together(&packed, &round(x)?)?
        };
        let mut products = products.into_iter();
        let outputs = linears
            .iter()
            .map(|linear| {
                let y = match &linear.matrix {
                    Matrix::Packed(_) => products.next().context("a projection gave no output")?,
                    Matrix::Quantized(weight) => x.apply_op1_no_bwd(weight)?,
                    Matrix::Plain(weight) => x.matmul(&weight.t()?)?,
                };
                linear.finish(x, y)
            })
            .collect::<Result<Vec<Tensor>>>()?;
        outputs
            .try_into()
            .map_err(|_| anyhow!("a projection gave no output"))
    }

    /// Adds bias and adapter to `x·Wᵀ`.
    fn finish(&self, x: &Tensor, mut y: Tensor) -> Result<Tensor> {
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        if let Some(low_rank) = &self.low_rank {
            y = (y + low_rank.forward(x)?)?;
        }
        Ok(y)
    }
}

/// Rounds `[tokens, width]` to 8 bits.
fn round(x: &Tensor) -> Result<Activations> {
    let (_, width) = x.dims2()?;
    on_cpu(&x.contiguous()?, |values| Activations::new(values, width))
}
