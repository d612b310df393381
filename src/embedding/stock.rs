//! The encoders of candle-transformers as they are, behind [`Encode`].
//!
//! They run on any device candle knows, which is why `--device` uses them, and they are what this project's own CPU
//! encoders are compared with in tests. A batch is padded here, masked, and packed again.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, modernbert, xlm_roberta};
use serde_json::{Value, json};

use super::encoder::Encode;
use super::family::{Family, Settings};
use super::tokenizer::Tokens;
use super::weights::Weights;

/// A candle-transformers encoder and where it runs.
pub(crate) struct Stock {
    model: Model,
    hidden_size: usize,
    pad_token: u32,
    device: Device,
}

enum Model {
    Bert(bert::BertModel),
    Roberta(xlm_roberta::XLMRobertaModel),
    ModernBert(modernbert::ModernBert),
}

impl Stock {
    /// Loads all weights onto `device` as f32.
    ///
    /// # Errors
    /// When a tensor is missing or the family has no module in candle-transformers that computes what the reference
    /// does.
    pub(crate) fn load(settings: &Settings, weights: &Weights, device: &Device) -> Result<Stock> {
        let prefix = weights.prefix(settings.family.word_embeddings())?;
        let tensors: HashMap<String, Tensor> = weights
            .tensors(device)?
            .into_iter()
            .filter_map(|(name, tensor)| {
                let plain = name.strip_prefix(&prefix)?;
                Some((plain.to_string(), tensor))
            })
            .collect();
        let weights = VarBuilder::from_tensors(tensors, DType::F32, device);
        let config = candle_config(settings);
        let model = match settings.family {
            Family::Bert => {
                let config = serde_json::from_value(config).context("config.json")?;
                Model::Bert(bert::BertModel::load(weights, &config)?)
            }
            Family::Roberta => {
                let config = serde_json::from_value(config).context("config.json")?;
                Model::Roberta(xlm_roberta::XLMRobertaModel::new(&config, weights)?)
            }
            Family::ModernBert => {
                let config = serde_json::from_value(config).context("config.json")?;
                let weights = weights
                    .rename_f(|name: &str| name.strip_prefix("model.").unwrap_or(name).to_string());
                Model::ModernBert(modernbert::ModernBert::load(weights, &config)?)
            }
            Family::DistilBert => anyhow::bail!(
                "distilbert: candle-transformers computes another GELU than the reference: it runs on the CPU only"
            ),
        };
        Ok(Stock {
            model,
            hidden_size: settings.hidden_size,
            pad_token: settings.pad_token.unwrap_or(0),
            device: device.clone(),
        })
    }
}

/// `config.json` with the fields that candle's modules ask for, though they are only for training or have one value.
fn candle_config(settings: &Settings) -> Value {
    let mut config = settings.config.clone();
    if let Some(fields) = config.as_object_mut() {
        let needed = [
            ("hidden_dropout_prob", json!(0.0)),
            ("attention_probs_dropout_prob", json!(0.0)),
            ("initializer_range", json!(0.02)),
            ("position_embedding_type", json!("absolute")),
            ("layer_norm_eps", json!(settings.layer_norm_eps)),
            ("pad_token_id", json!(settings.pad_token.unwrap_or(0))),
        ];
        for (name, value) in needed {
            fields.entry(name).or_insert(value);
        }
    }
    config
}

impl Encode for Stock {
    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn forward(&self, batch: &[&Tokens]) -> Result<Vec<f32>> {
        let longest = batch.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let padded = |row: &dyn Fn(&Tokens) -> Vec<u32>, pad: u32| -> Result<Tensor> {
            let mut values = Vec::with_capacity(batch.len() * longest);
            for (index, tokens) in batch.iter().enumerate() {
                values.extend(row(tokens));
                values.resize((index + 1) * longest, pad);
            }
            Ok(Tensor::from_vec(
                values,
                (batch.len(), longest),
                &self.device,
            )?)
        };
        let ids = padded(&|tokens| tokens.ids.clone(), self.pad_token)?;
        let type_ids = padded(&|tokens| tokens.type_ids.clone(), 0)?;
        let mask = padded(&|tokens| vec![1; tokens.len()], 0)?;
        let hidden = match &self.model {
            Model::Bert(model) => model.forward(&ids, &type_ids, Some(&mask))?,
            Model::Roberta(model) => {
                model.forward(&ids, &mask, &type_ids.zeros_like()?, None, None, None)?
            }
            Model::ModernBert(model) => model.forward(&ids, &mask)?,
        };
        let hidden = hidden.to_device(&Device::Cpu)?;
        let mut packed = Vec::new();
        for (index, tokens) in batch.iter().enumerate() {
            let row = hidden.get(index)?.narrow(0, 0, tokens.len())?;
            packed.extend(row.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(packed)
    }
}
