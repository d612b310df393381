//! BERT, RoBERTa, XLM-R and DistilBERT on the CPU: Devlin et al., 2018, in the layout of the transformers library.
//!
//! What makes it faster than candle's module, which computes the same: texts are packed without padding; query, key
//! and value are one product; biases and residuals are added by the products themselves; attention works on the heads
//! where they lie; softmax and GELU are vectorised. Long texts are attended to in blocks of queries, so that memory
//! grows with a text's length and not with its square.

use anyhow::{Context, Result, ensure};

use super::encoder::Encode;
use super::family::{Family, Settings};
use super::kernels::{Activation, Matrix, Target, add_bias, layer_norm, matmul, softmax};
use super::tokenizer::Tokens;
use super::weights::{Table, Weights};

/// An encoder of the BERT family with its weights in memory; the word table stays in the file.
pub(crate) struct Bert {
    words: Table,
    /// `[positions, hidden]`.
    positions: Vec<f32>,
    /// `[types, hidden]`; empty in DistilBERT.
    types: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    hidden_size: usize,
    intermediate_size: usize,
    n_heads: usize,
    activation: Activation,
    eps: f32,
    first_position: usize,
    /// RoBERTa does not count padding tokens, even where a text spells one.
    uncounted: Option<u32>,
}

struct Layer {
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

struct Linear {
    /// `[out, in]`, as in the file.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Where a family keeps the parts of a layer.
struct Names {
    layer: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

/// Queries that one block of attention holds.
const QUERY_BLOCK: usize = 128;

impl Bert {
    /// Reads the weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than `config.json` says.
    pub(crate) fn load(settings: &Settings, weights: &Weights) -> Result<Bert> {
        let reader = Reader {
            weights,
            prefix: weights.prefix(settings.family.word_embeddings())?,
        };
        let hidden = settings.hidden_size;
        let is_distilled = settings.family == Family::DistilBert;
        let (names, activation) = if is_distilled {
            (&DISTILBERT, "activation")
        } else {
            (&BERT, "hidden_act")
        };
        let types = if is_distilled {
            Vec::new()
        } else {
            let n_types = settings.count("type_vocab_size")?;
            reader.floats(
                "embeddings.token_type_embeddings.weight",
                &[n_types, hidden],
            )?
        };
        Ok(Bert {
            words: weights.table(
                &format!("{}{}", reader.prefix, settings.family.word_embeddings()),
                settings.n_tokens,
                hidden,
            )?,
            positions: reader.floats(
                "embeddings.position_embeddings.weight",
                &[settings.n_positions, hidden],
            )?,
            types,
            norm: reader.norm("embeddings.LayerNorm", hidden)?,
            layers: (0..settings.n_layers)
                .map(|index| reader.layer(names, index, hidden, settings.intermediate_size))
                .collect::<Result<_>>()?,
            hidden_size: hidden,
            intermediate_size: settings.intermediate_size,
            n_heads: settings.n_heads,
            activation: Activation::of(settings.text(activation)?).context("config.json")?,
            eps: settings.layer_norm_eps,
            first_position: settings.first_position()?,
            uncounted: settings
                .pad_token
                .filter(|_| settings.family == Family::Roberta),
        })
    }

    /// The sum of word, position and type vectors, normalised: `[tokens, hidden]`.
    fn embeddings(&self, batch: &[&Tokens]) -> Result<Vec<f32>> {
        let width = self.hidden_size;
        let n_tokens: usize = batch.iter().map(|tokens| tokens.len()).sum();
        let mut x = vec![0f32; n_tokens * width];
        let ids = batch.iter().flat_map(|tokens| tokens.ids.iter().copied());
        self.words.gather(ids, &mut x)?;
        let mut rows = x.chunks_exact_mut(width);
        for tokens in batch {
            let mut next = self.first_position;
            for ((id, kind), row) in tokens.ids.iter().zip(&tokens.type_ids).zip(&mut rows) {
                let position = match self.uncounted {
                    Some(pad) if *id == pad => pad as usize,
                    _ => {
                        next += 1;
                        next - 1
                    }
                };
                add_row(row, &self.positions, position).with_context(|| {
                    format!(
                        "a text of {} tokens: the model has positions for fewer",
                        tokens.len()
                    )
                })?;
                if !self.types.is_empty() {
                    // RoBERTa has one type for both texts of a pair.
                    let kind = if self.uncounted.is_some() {
                        0
                    } else {
                        *kind as usize
                    };
                    add_row(row, &self.types, kind).context("the model has no such token type")?;
                }
            }
        }
        layer_norm(&mut x, &self.norm.weight, &self.norm.bias, self.eps);
        Ok(x)
    }

    /// Self-attention of each text on its own: `qkv`, `[tokens, 3 * hidden]` → `context`, `[tokens, hidden]`.
    fn attend(&self, batch: &[&Tokens], qkv: &[f32], scores: &mut [f32], context: &mut [f32]) {
        let width = self.hidden_size;
        let head = width / self.n_heads;
        #[expect(clippy::cast_precision_loss, reason = "heads are narrow")]
        let scale = 1.0 / (head as f32).sqrt();
        let mut first = 0;
        for tokens in batch {
            let n = tokens.len();
            for index in 0..self.n_heads {
                let at = |token: usize, part: usize| {
                    &qkv[token * 3 * width + part * width + index * head..]
                };
                let keys = Matrix::strided(at(first, 1), n, head, 3 * width);
                let values = Matrix::strided(at(first, 2), n, head, 3 * width);
                for start in (0..n).step_by(QUERY_BLOCK) {
                    let rows = QUERY_BLOCK.min(n - start);
                    let queries = Matrix::strided(at(first + start, 0), rows, head, 3 * width);
                    let block = &mut scores[..rows * n];
                    let target = Target {
                        data: block,
                        row_stride: n,
                        adds: false,
                    };
                    matmul(target, queries, keys.transposed(), scale);
                    softmax(block, n);
                    let target = Target {
                        data: &mut context[(first + start) * width + index * head..],
                        row_stride: width,
                        adds: false,
                    };
                    matmul(target, Matrix::dense(block, n), values, 1.0);
                }
            }
            first += n;
        }
    }
}

impl Encode for Bert {
    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn forward(&self, batch: &[&Tokens]) -> Result<Vec<f32>> {
        let width = self.hidden_size;
        let mut x = self.embeddings(batch)?;
        let n_tokens = x.len() / width;
        let longest = batch.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let mut qkv = vec![0f32; n_tokens * 3 * width];
        let mut context = vec![0f32; n_tokens * width];
        let mut inner = vec![0f32; n_tokens * self.intermediate_size];
        let mut scores = vec![0f32; longest * QUERY_BLOCK.min(longest)];
        for layer in &self.layers {
            layer.qkv.product(&x, &mut qkv, false);
            add_bias(&mut qkv, &layer.qkv.bias);
            self.attend(batch, &qkv, &mut scores, &mut context);
            add_bias(&mut x, &layer.out.bias);
            layer.out.product(&context, &mut x, true);
            let norm = &layer.attention_norm;
            layer_norm(&mut x, &norm.weight, &norm.bias, self.eps);

            layer.up.product(&x, &mut inner, false);
            self.activation.apply(&mut inner, &layer.up.bias);
            add_bias(&mut x, &layer.down.bias);
            layer.down.product(&inner, &mut x, true);
            let norm = &layer.output_norm;
            layer_norm(&mut x, &norm.weight, &norm.bias, self.eps);
        }
        ensure!(x.len() == n_tokens * width, "the encoder lost tokens");
        Ok(x)
    }
}

impl Linear {
    /// `out = x Wᵀ`, or `out += x Wᵀ`; the bias is the caller's.
    fn product(&self, x: &[f32], out: &mut [f32], adds: bool) {
        let n_out = self.bias.len();
        let n_in = self.weight.len() / n_out;
        let target = Target {
            data: out,
            row_stride: n_out,
            adds,
        };
        matmul(
            target,
            Matrix::dense(x, n_in),
            Matrix::dense(&self.weight, n_in).transposed(),
            1.0,
        );
    }
}

fn add_row(row: &mut [f32], table: &[f32], index: usize) -> Result<()> {
    let start = index * row.len();
    let values = table
        .get(start..start + row.len())
        .context("row beyond the table")?;
    for (x, value) in row.iter_mut().zip(values) {
        *x += value;
    }
    Ok(())
}

/// Tensors under a prefix.
struct Reader<'w> {
    weights: &'w Weights,
    prefix: String,
}

impl Reader<'_> {
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.weights
            .floats(&format!("{}{name}", self.prefix), shape)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        Ok(Norm {
            weight: self.floats(&format!("{name}.weight"), &[width])?,
            bias: self.floats(&format!("{name}.bias"), &[width])?,
        })
    }

    /// Layers with the same input side by side, as one.
    fn linear(&self, names: &[String], n_in: usize, n_out: usize) -> Result<Linear> {
        let mut weight = Vec::with_capacity(names.len() * n_out * n_in);
        let mut bias = Vec::with_capacity(names.len() * n_out);
        for name in names {
            weight.extend(self.floats(&format!("{name}.weight"), &[n_out, n_in])?);
            bias.extend(self.floats(&format!("{name}.bias"), &[n_out])?);
        }
        Ok(Linear { weight, bias })
    }

    fn layer(&self, names: &Names, index: usize, hidden: usize, inner: usize) -> Result<Layer> {
        let name = |part: &str| format!("{}.{index}.{part}", names.layer);
        let qkv = [name(names.query), name(names.key), name(names.value)];
        Ok(Layer {
            qkv: self.linear(&qkv, hidden, hidden)?,
            out: self.linear(&[name(names.out)], hidden, hidden)?,
            attention_norm: self.norm(&name(names.attention_norm), hidden)?,
            up: self.linear(&[name(names.up)], hidden, inner)?,
            down: self.linear(&[name(names.down)], inner, hidden)?,
            output_norm: self.norm(&name(names.output_norm), hidden)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;

    use super::super::stock::Stock;
    use super::*;

    fn text(ids: &[u32]) -> Tokens {
        Tokens {
            ids: ids.to_vec(),
            type_ids: vec![0; ids.len()],
        }
    }

    #[test]
    fn agrees_with_candles_own_module_token_by_token() {
        let check = |folder: &str| {
            let folder = Path::new("fixtures/models").join(folder);
            let settings = Settings::read(&folder).unwrap();
            let weights = Weights::open(&folder).unwrap();
            let own = Bert::load(&settings, &weights).unwrap();
            let stock = Stock::load(&settings, &weights, &Device::Cpu).unwrap();
            // The second text spells the padding token.
            let texts = [
                text(&[2, 9, 8, 7, 300, 3]),
                text(&[4, 1, 5]),
                text(&[6; 40]),
            ];
            let batch: Vec<&Tokens> = texts.iter().collect();
            let packed = own.forward(&batch).unwrap();
            let expected: Vec<f32> = batch
                .iter()
                .flat_map(|text| stock.forward(&[text]).unwrap())
                .collect();
            assert_eq!(packed.len(), expected.len());
            for (value, expected) in packed.iter().zip(&expected) {
                assert!(
                    (value - expected).abs() < 1e-5,
                    "{folder:?}: {value}, expected {expected}"
                );
            }
        };
        check("tiny-bert");
        check("tiny-xlm-roberta");
    }

    #[test]
    fn tokens_and_positions_beyond_the_model_are_errors() {
        let folder = Path::new("fixtures/models/tiny-bert");
        let settings = Settings::read(folder).unwrap();
        let bert = Bert::load(&settings, &Weights::open(folder).unwrap()).unwrap();
        let check = |ids: &[u32], words: &str| {
            let error = bert.forward(&[&text(ids)]).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        check(&[999_999], "token 999999: the model knows");
        check(&vec![1; 10_000], "positions for fewer");
    }
}
