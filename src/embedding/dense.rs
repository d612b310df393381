//! sentence-transformers' `Dense` module: a linear layer after the pooling.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::fingerprint::Fingerprint;
use super::weights::Weights;
use crate::fs;

/// `activation(W x + b)`.
pub(crate) struct Dense {
    /// `[out, in]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
    n_in: usize,
    activation: Activation,
}

#[derive(Clone, Copy)]
enum Activation {
    Identity,
    Tanh,
    Relu,
}

impl Dense {
    /// Loads the module in `folder` and adds its files to the fingerprint. `n_in` is the length of the vectors that
    /// the step before gives.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the activation is not supported.
    pub(crate) fn load(folder: &Path, n_in: usize, fingerprint: &mut Fingerprint) -> Result<Dense> {
        #[derive(Deserialize)]
        struct Config {
            in_features: usize,
            out_features: usize,
            bias: bool,
            activation_function: String,
        }
        let path = folder.join("config.json");
        let config: Config = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?;
        ensure!(
            config.in_features == n_in,
            "in_features {}: the step before gives {n_in}",
            config.in_features
        );
        let activation = match config.activation_function.rsplit('.').next() {
            Some("Identity") => Activation::Identity,
            Some("Tanh") => Activation::Tanh,
            Some("ReLU") => Activation::Relu,
            _ => bail!(
                "activation_function {}: expected Identity, Tanh or ReLU",
                config.activation_function
            ),
        };
        let weights = Weights::open(folder)?;
        fingerprint.files(&[path])?;
        fingerprint.files(weights.files())?;
        Ok(Dense {
            weight: weights.floats("linear.weight", &[config.out_features, n_in])?,
            bias: if config.bias {
                weights.floats("linear.bias", &[config.out_features])?
            } else {
                vec![0.0; config.out_features]
            },
            n_in,
            activation,
        })
    }

    /// Length of the vectors that come out.
    pub(crate) fn out_features(&self) -> usize {
        self.bias.len()
    }

    /// Applies the layer to one vector.
    pub(crate) fn forward(&self, vector: &[f32]) -> Vec<f32> {
        self.weight
            .chunks_exact(self.n_in)
            .zip(&self.bias)
            .map(|(row, bias)| {
                let sum = bias + row.iter().zip(vector).map(|(w, x)| w * x).sum::<f32>();
                match self.activation {
                    Activation::Identity => sum,
                    Activation::Tanh => sum.tanh(),
                    Activation::Relu => sum.max(0.0),
                }
            })
            .collect()
    }
}
