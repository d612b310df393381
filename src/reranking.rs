//! A question and passages → how well each passage answers, read together by a cross-encoder.
//!
//! A cross-encoder sees both texts at once, so it judges better than two vectors can, and costs a run of the model
//! for each pair: it sorts a shortlist, it does not search. The checkpoint is a transformers folder
//! (`…ForSequenceClassification` with one label), as rerankers are published.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;

use crate::embedding::encoder::{Encode, Workers, encode_all};
use crate::embedding::family::{Family, Settings};
use crate::embedding::tokenizer::{TextTokenizer, Tokens, model_max_length};
use crate::embedding::transformer;
use crate::embedding::weights::Weights;

/// A cross-encoder.
pub struct Reranker {
    name: String,
    tokenizer: TextTokenizer,
    encoder: Box<dyn Encode>,
    head: Head,
    workers: Workers,
}

/// First token's vector → one number: two layers with tanh between them.
struct Head {
    /// `[hidden, hidden]`.
    dense: Vec<f32>,
    dense_bias: Vec<f32>,
    /// `[hidden]`.
    out: Vec<f32>,
    out_bias: f32,
}

impl Reranker {
    /// Loads the checkpoint in `folder`; `name` is what a user would type. `n_threads` as in
    /// [`crate::embedding::EmbeddingOptions`].
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is not a cross-encoder with one label.
    pub fn load(
        folder: &Path,
        name: &str,
        device: &Device,
        n_threads: Option<usize>,
    ) -> Result<Reranker> {
        let load = || -> Result<Reranker> {
            let settings = Settings::read(folder)?;
            let capacity = settings.max_tokens()?;
            let max_tokens =
                model_max_length(folder)?.map_or(capacity, |limit| limit.min(capacity));
            let weights = Weights::open(folder)?;
            Ok(Reranker {
                name: name.to_string(),
                tokenizer: TextTokenizer::open(folder, max_tokens, false)?,
                encoder: transformer(&settings, &weights, device)?,
                head: Head::load(&settings, &weights)?,
                workers: Workers::new(n_threads)?,
            })
        };
        load().with_context(|| folder.display().to_string())
    }

    /// The name a user would type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How well each passage answers the question, between 0 and 1, in the order given. Meant for a shortlist of some
    /// twenty.
    ///
    /// # Errors
    /// When the model cannot process a text.
    pub fn similarities(&self, question: &str, passages: &[&str]) -> Result<Vec<f32>> {
        let logits = self.logits(question, passages)?;
        Ok(logits
            .into_iter()
            .map(|logit| 1.0 / (1.0 + (-logit).exp()))
            .collect())
    }

    fn logits(&self, question: &str, passages: &[&str]) -> Result<Vec<f32>> {
        let pairs: Vec<Tokens> = self.workers.map(passages, |passage| {
            self.tokenizer.encode_pair(question, passage)
        })?;
        encode_all(self.encoder.as_ref(), &self.workers, &pairs, |hidden| {
            let logit = self.head.forward(&hidden[..self.encoder.hidden_size()]);
            ensure!(logit.is_finite(), "{}: the weights are damaged", self.name);
            Ok(logit)
        })
    }
}

impl Head {
    fn load(settings: &Settings, weights: &Weights) -> Result<Head> {
        let (dense, out) = match settings.family {
            Family::Roberta => ("classifier.dense".to_string(), "classifier.out_proj"),
            Family::Bert => {
                let prefix = weights.prefix(settings.family.word_embeddings())?;
                (format!("{prefix}pooler.dense"), "classifier")
            }
            Family::DistilBert | Family::ModernBert => {
                bail!("a reranker of the BERT or XLM-R family was expected")
            }
        };
        let width = settings.hidden_size;
        let weight = format!("{out}.weight");
        ensure!(
            weights.contains(&weight),
            "tensor {weight}: missing: this is not a reranker (a model for sequence classification)"
        );
        Ok(Head {
            dense: weights.floats(&format!("{dense}.weight"), &[width, width])?,
            dense_bias: weights.floats(&format!("{dense}.bias"), &[width])?,
            out: weights
                .floats(&weight, &[1, width])
                .context("expected a model with one label")?,
            out_bias: weights.floats(&format!("{out}.bias"), &[1])?[0],
        })
    }

    fn forward(&self, first: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let inner: Vec<f32> = self
            .dense
            .chunks_exact(first.len())
            .zip(&self.dense_bias)
            .map(|(row, bias)| (dot(row, first) + bias).tanh())
            .collect();
        dot(&self.out, &inner) + self.out_bias
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn a_pair_gets_the_reference_similarity_alone_and_in_a_batch() {
        #[derive(Deserialize)]
        struct Expected {
            cases: Vec<Case>,
        }
        #[derive(Deserialize)]
        struct Case {
            query: String,
            passage: String,
            ids: Vec<u32>,
            logit: f32,
            similarity: f32,
        }
        let folder = Path::new("fixtures/models/tiny-cross-encoder");
        let text = crate::fs::read_to_string(&folder.join("expected.json")).unwrap();
        let expected: Expected = serde_json::from_str(&text).unwrap();
        let reranker = Reranker::load(folder, "tiny", &Device::Cpu, None).unwrap();
        let query = expected.cases[0].query.as_str();
        let passages: Vec<&str> = expected
            .cases
            .iter()
            .map(|case| case.passage.as_str())
            .collect();
        let batch = reranker.logits(query, &passages).unwrap();
        for (case, in_batch) in expected.cases.iter().zip(batch) {
            let tokens = reranker
                .tokenizer
                .encode_pair(&case.query, &case.passage)
                .unwrap();
            assert_eq!(tokens.ids, case.ids, "{}", case.passage);
            let logit = reranker.logits(&case.query, &[&case.passage]).unwrap()[0];
            assert!(
                (logit - case.logit).abs() < 1e-5,
                "{logit}, expected {}",
                case.logit
            );
            let similarity = reranker
                .similarities(&case.query, &[&case.passage])
                .unwrap()[0];
            assert!((similarity - case.similarity).abs() < 1e-5, "{similarity}");
            if case.query == query {
                assert!(
                    (logit - in_batch).abs() < 1e-6,
                    "{logit} alone, {in_batch} in a batch"
                );
            }
        }
    }

    #[test]
    fn an_embedder_is_not_a_reranker() {
        let folder = Path::new("fixtures/models/tiny-xlm-roberta");
        let error = Reranker::load(folder, "tiny", &Device::Cpu, None)
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").contains("this is not a reranker"),
            "{error:#}"
        );
    }
}
