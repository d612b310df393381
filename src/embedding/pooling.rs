//! Token vectors of one text → one vector.
//!
//! The formulas are those of sentence-transformers' `Pooling` module. A text here carries no padding, so every token
//! counts, special tokens included. Nothing is normalised here.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::fs;

/// How the vectors of the tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The vector of the first token, `[CLS]` or `<s>`.
    Cls,
    /// The largest value of each dimension.
    Max,
    /// The average of all tokens.
    Mean,
    /// The vector of the last token.
    LastToken,
}

impl Pooling {
    /// Appends the pooled vector of `hidden`, `[tokens, width]` row-major with at least one token, to `out`.
    pub(crate) fn pool(self, hidden: &[f32], width: usize, out: &mut Vec<f32>) {
        let start = out.len();
        match self {
            Pooling::Cls => out.extend(hidden.iter().take(width)),
            Pooling::LastToken => {
                out.extend(&hidden[hidden.len().saturating_sub(width)..]);
            }
            Pooling::Max => {
                out.resize(start + width, f32::NEG_INFINITY);
                for row in hidden.chunks_exact(width) {
                    for (largest, value) in out[start..].iter_mut().zip(row) {
                        *largest = largest.max(*value);
                    }
                }
            }
            Pooling::Mean => {
                out.resize(start + width, 0.0);
                for row in hidden.chunks_exact(width) {
                    for (sum, value) in out[start..].iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a text has far fewer than 2^24 tokens"
                )]
                let n_tokens = (hidden.len() / width) as f32;
                for sum in &mut out[start..] {
                    *sum /= n_tokens;
                }
            }
        }
    }
}

/// Reads the `config.json` of a `Pooling` module: one or more modes, whose vectors are joined in this order.
///
/// # Errors
/// When the file is missing or damaged, switches no mode on, or one that is not supported.
pub(crate) fn read_config(path: &Path) -> Result<Vec<Pooling>> {
    let config: PoolingConfig = serde_json::from_str(&fs::read_to_string(path)?)
        .with_context(|| path.display().to_string())?;
    config.modes().with_context(|| path.display().to_string())
}

/// The fields as sentence-transformers writes them.
#[derive(Deserialize, Default)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the switches of the file"
)]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
    pooling_mode: Option<String>,
    include_prompt: Option<bool>,
}

impl PoolingConfig {
    fn modes(&self) -> Result<Vec<Pooling>> {
        if self.include_prompt == Some(false) {
            bail!(
                "include_prompt is false: leaving the prompt out of the pooling is not supported"
            );
        }
        let mut modes = Vec::new();
        let switches = [
            (self.pooling_mode_cls_token, Ok(Pooling::Cls)),
            (self.pooling_mode_max_tokens, Ok(Pooling::Max)),
            (self.pooling_mode_mean_tokens, Ok(Pooling::Mean)),
            (
                self.pooling_mode_mean_sqrt_len_tokens,
                Err("pooling_mode_mean_sqrt_len_tokens"),
            ),
            (
                self.pooling_mode_weightedmean_tokens,
                Err("pooling_mode_weightedmean_tokens"),
            ),
            (self.pooling_mode_lasttoken, Ok(Pooling::LastToken)),
        ];
        for (on, mode) in switches {
            match (on, mode) {
                (false, _) => {}
                (true, Ok(mode)) => modes.push(mode),
                (true, Err(name)) => bail!("{name}: expected cls, max, mean or lasttoken"),
            }
        }
        if let (true, Some(name)) = (modes.is_empty(), &self.pooling_mode) {
            modes.push(match name.as_str() {
                "cls" => Pooling::Cls,
                "max" => Pooling::Max,
                "mean" => Pooling::Mean,
                "lasttoken" => Pooling::LastToken,
                other => bail!("pooling mode {other}: expected cls, max, mean or lasttoken"),
            });
        }
        if modes.is_empty() {
            bail!("no pooling mode is switched on");
        }
        Ok(modes)
    }
}

/// Scales a vector to unit length; a zero vector stays as it is.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_follows_its_formula() {
        let hidden = [1.0, -2.0, 5.0, 0.0, 0.0, 8.0];
        let check = |mode: Pooling, expected: [f32; 2]| {
            let mut pooled = vec![9.0];
            mode.pool(&hidden, 2, &mut pooled);
            assert_eq!(pooled, [9.0, expected[0], expected[1]], "{mode:?}");
        };
        check(Pooling::Cls, [1.0, -2.0]);
        check(Pooling::Max, [5.0, 8.0]);
        check(Pooling::Mean, [2.0, 2.0]);
        check(Pooling::LastToken, [0.0, 8.0]);
    }

    #[test]
    fn the_file_says_which_modes_are_on() {
        let check = |text: &str, expected: Result<&[Pooling], &str>| {
            let config: PoolingConfig = serde_json::from_str(text).unwrap();
            match (config.modes(), expected) {
                (Ok(modes), Ok(expected)) => assert_eq!(modes, expected, "{text}"),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{text}: {error}");
                }
                (modes, _) => panic!("{text}: {modes:?}"),
            }
        };
        check(r#"{"pooling_mode_mean_tokens":true}"#, Ok(&[Pooling::Mean]));
        check(
            r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}"#,
            Ok(&[Pooling::Cls, Pooling::Mean]),
        );
        check(r#"{"pooling_mode":"lasttoken"}"#, Ok(&[Pooling::LastToken]));
        check("{}", Err("no pooling mode"));
        check(
            r#"{"pooling_mode_weightedmean_tokens":true}"#,
            Err("pooling_mode_weightedmean_tokens"),
        );
        check(
            r#"{"pooling_mode_mean_tokens":true,"include_prompt":false}"#,
            Err("include_prompt"),
        );
    }

    #[test]
    fn a_vector_gets_unit_length_and_zero_stays_zero() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
