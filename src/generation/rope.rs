//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864) with the ways models stretch it.
//!
//! [`RopeTable`] holds cosines and sines for the positions used so far and turns the heads of queries and keys.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};

use super::attention::on_cpu;
use super::config::{AttentionTemperature, RopeConfig, RopePairing, RopeScaling};
use super::workers::for_each_chunk;

/// Values that are worth another thread's while.
const MIN_VALUES: usize = 1 << 14;

/// Cosines and sines, f32, for positions from 0.
#[derive(Debug)]
pub(crate) struct RopeTable {
    pairing: RopePairing,
    dimension: usize,
    /// Angle per position of each pair.
    frequencies: Vec<f64>,
    /// Multiplies cosines and sines.
    magnitude: f64,
    temperature: Option<AttentionTemperature>,
    device: Device,
    /// `[positions, dimension / 2]` each.
    cosines: Tensor,
    sines: Tensor,
}

impl RopeTable {
    /// Frequencies from the model's settings. `factors` is `rope_freqs.weight`, which divides each frequency.
    ///
    /// # Errors
    /// When there are not as many factors as pairs.
    pub(crate) fn new(
        config: &RopeConfig,
        factors: Option<&[f32]>,
        device: &Device,
    ) -> Result<Self> {
        let (mut frequencies, magnitude) = scaled_frequencies(config);
        if let Some(factors) = factors {
            ensure!(
                factors.len() == frequencies.len(),
                "rope_freqs.weight: expected {} factors, got {}",
                frequencies.len(),
                factors.len()
            );
            for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                *frequency /= f64::from(*factor);
            }
        }
        let empty = Tensor::zeros((0, frequencies.len()), DType::F32, device)?;
        Ok(RopeTable {
            pairing: config.pairing,
            dimension: config.dimension,
            frequencies,
            magnitude,
            temperature: config.temperature,
            device: device.clone(),
            cosines: empty.clone(),
            sines: empty,
        })
    }

    /// Makes sure that the positions below `n_positions` are in the table.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn extend_to(&mut self, n_positions: usize) -> Result<()> {
        if self.cosines.dim(0)? >= n_positions {
            return Ok(());
        }
        let n_positions = n_positions.next_multiple_of(1024);
        let table = |value: fn(f64) -> f64| {
            let mut values = Vec::with_capacity(n_positions * self.frequencies.len());
            for position in 0..n_positions {
                for frequency in &self.frequencies {
                    // The angle in f32, as llama.cpp and PyTorch have it: at position 30,000 the difference to f64
                    // is 1e-3, and models were trained with it.
                    let angle = to_f32(as_f64(position)) * to_f32(*frequency);
                    values.push(to_f32(value(f64::from(angle)) * self.magnitude));
                }
            }
            Tensor::from_vec(values, (n_positions, self.frequencies.len()), &self.device)
        };
        self.cosines = table(f64::cos)?;
        self.sines = table(f64::sin)?;
        Ok(())
    }

    /// Turns heads `[heads, tokens, head_dim]` (contiguous, f32), the first token of which stands at `position`. What
    /// `heads` held is gone.
    ///
    /// # Errors
    /// When the table was not extended so far.
    pub(crate) fn turn(&self, heads: Tensor, position: usize) -> Result<Tensor> {
        let (_, n_tokens, head_dim) = heads.dims3()?;
        ensure!(
            self.dimension <= head_dim,
            "rope: {} values of a head to turn, it has {head_dim}",
            self.dimension
        );
        if !heads.device().is_cpu() {
            return self.turn_by_candle(&heads, position);
        }
        let cosines = self.cosines.narrow(0, position, n_tokens)?;
        let sines = self.sines.narrow(0, position, n_tokens)?;
        on_cpu(&cosines, |cosines| {
            on_cpu(&sines, |sines| {
                heads.inplace_op1(&Turn {
                    pairing: self.pairing,
                    head_dim,
                    n_pairs: self.frequencies.len(),
                    cosines,
                    sines,
                })
            })
        })???;
        Ok(heads)
    }

    /// The same by candle's operations.
    fn turn_by_candle(&self, heads: &Tensor, position: usize) -> Result<Tensor> {
        let (_, n_tokens, head_dim) = heads.dims3()?;
        let cosines = self.cosines.narrow(0, position, n_tokens)?;
        let sines = self.sines.narrow(0, position, n_tokens)?;
        let turned = heads.narrow(2, 0, self.dimension)?.contiguous()?;
        let turned = turned.unsqueeze(0)?;
        let turned = match self.pairing {
            RopePairing::Interleaved => candle_nn::rotary_emb::rope_i(&turned, &cosines, &sines)?,
            RopePairing::HalfSplit => candle_nn::rotary_emb::rope(&turned, &cosines, &sines)?,
        };
        let turned = turned.squeeze(0)?;
        if self.dimension == head_dim {
            return Ok(turned);
        }
        let rest = heads.narrow(2, self.dimension, head_dim - self.dimension)?;
        Ok(Tensor::cat(&[&turned, &rest], 2)?)
    }

    /// What each query's scores are multiplied with, `[tokens, 1]`, or `None` where that is 1 for all.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn query_scale(&self, position: usize, n_tokens: usize) -> Result<Option<Tensor>> {
        let Some(temperature) = self.temperature else {
            return Ok(None);
        };
        if position + n_tokens <= temperature.length {
            return Ok(None);
        }
        let scales: Vec<f32> = (position..position + n_tokens)
            .map(|position| {
                let rounds = position / temperature.length.max(1);
                to_f32(1.0 + temperature.beta * as_f64(rounds).ln_1p())
            })
            .collect();
        Ok(Some(Tensor::from_vec(scales, (n_tokens, 1), &self.device)?))
    }
}

/// The turning of heads in place: of each the pairs that the table has, by the cosines and sines of its token.
struct Turn<'a> {
    pairing: RopePairing,
    head_dim: usize,
    n_pairs: usize,
    /// `[tokens, pairs]`, as the sines are.
    cosines: &'a [f32],
    sines: &'a [f32],
}

impl InplaceOp1 for Turn<'_> {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, heads: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(heads) = heads else {
            candle_core::bail!("rope: expected f32");
        };
        let range = layout.contiguous_offsets();
        let Some(heads) = range.and_then(|(start, end)| heads.get_mut(start..end)) else {
            candle_core::bail!("rope: expected a contiguous tensor");
        };
        let min_tokens = MIN_VALUES.div_ceil(self.head_dim.max(1));
        for_each_chunk(heads, self.head_dim, min_tokens, |row, head| {
            let n_tokens = self.cosines.len() / self.n_pairs.max(1);
            let of_token = row % n_tokens.max(1) * self.n_pairs;
            let angles = self.cosines.iter().zip(self.sines).skip(of_token);
            let angles = angles.take(self.n_pairs);
            match self.pairing {
                RopePairing::Interleaved => {
                    let (pairs, _) = head.as_chunks_mut::<2>();
                    for ([a, b], (cosine, sine)) in pairs.iter_mut().zip(angles) {
                        (*a, *b) = turned(*a, *b, *cosine, *sine);
                    }
                }
                RopePairing::HalfSplit => {
                    let (first, second) = head.split_at_mut(self.n_pairs);
                    for ((a, b), (cosine, sine)) in first.iter_mut().zip(second).zip(angles) {
                        (*a, *b) = turned(*a, *b, *cosine, *sine);
                    }
                }
            }
        });
        Ok(())
    }
}

#[inline(always)]
fn turned(a: f32, b: f32, cosine: f32, sine: f32) -> (f32, f32) {
    (a * cosine - b * sine, a * sine + b * cosine)
}

/// Angle per position of each pair, and the magnitude of the turned values.
fn scaled_frequencies(config: &RopeConfig) -> (Vec<f64>, f64) {
    let n_pairs = config.dimension / 2;
    let plain = (0..n_pairs)
        .map(|pair| {
            config
                .base
                .powf(-as_f64(2 * pair) / as_f64(config.dimension))
        })
        .collect::<Vec<f64>>();
    match config.scaling {
        RopeScaling::None => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.into_iter().map(|f| f / factor).collect(), 1.0),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        } => {
            // transformers, `_compute_llama3_parameters`.
            let stretch = |frequency: f64| {
                let wavelength = 2.0 * PI / frequency;
                let turns = original_context_length / wavelength;
                if turns < low_freq_factor {
                    frequency / factor
                } else if turns > high_freq_factor {
                    frequency
                } else {
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            };
            (plain.into_iter().map(stretch).collect(), 1.0)
        }
        RopeScaling::Yarn {
            factor,
            original_context_length,
            beta_fast,
            beta_slow,
            attention_factor,
        } => {
            // The pair that makes `turns` turns within the original context; transformers, `_compute_yarn_parameters`.
            let pair_of = |turns: f64| {
                as_f64(config.dimension) * (original_context_length / (turns * 2.0 * PI)).ln()
                    / (2.0 * config.base.ln())
            };
            let low = pair_of(beta_fast).floor().max(0.0);
            let high = pair_of(beta_slow)
                .ceil()
                .min(as_f64(config.dimension) - 1.0);
            let high = if low == high { high + 0.001 } else { high };
            let stretch = |(pair, frequency): (usize, f64)| {
                let ramp = ((as_f64(pair) - low) / (high - low)).clamp(0.0, 1.0);
                frequency / factor * ramp + frequency * (1.0 - ramp)
            };
            let frequencies = plain.into_iter().enumerate().map(stretch).collect();
            (frequencies, attention_factor)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "positions stay far below 2^52")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the network computes in f32"
)]
fn to_f32(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_turned_as_candle_turns_them() {
        for pairing in [RopePairing::Interleaved, RopePairing::HalfSplit] {
            for dimension in [16, 12] {
                let config = RopeConfig {
                    base: 10_000.0,
                    dimension,
                    pairing,
                    scaling: RopeScaling::None,
                    temperature: None,
                };
                let mut table = RopeTable::new(&config, None, &Device::Cpu).unwrap();
                table.extend_to(40).unwrap();
                let heads = Tensor::randn(0f32, 1.0, (3, 7, 16), &Device::Cpu).unwrap();
                let expected = table.turn_by_candle(&heads, 30).unwrap();
                let ours = table.turn(heads, 30).unwrap();
                let difference = (ours - expected).unwrap().abs().unwrap();
                let largest = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(largest < 1e-6, "{pairing:?} {dimension}: {largest}");
            }
        }
    }
}
