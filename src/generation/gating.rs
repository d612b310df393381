//! The gate of the feed-forward network: silu(gate) · up (Shazeer 2020, arXiv:2002.05202), in one pass and in place.
//!
//! On a CPU; elsewhere candle's own operations do the same.

use anyhow::Result;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};

use super::softmax::exp;
use super::workers::for_each_chunk;
use crate::simd::widest;

/// Values that go to a thread at a time.
const CHUNK_VALUES: usize = 1 << 12;
/// Chunks that are worth another thread's while.
const MIN_CHUNKS: usize = 4;

/// silu(gate) · up, element by element. Both are f32 and contiguous; what `gate` held is gone.
///
/// # Errors
/// When the shapes differ or the device fails.
pub(crate) fn gated(gate: Tensor, up: &Tensor) -> Result<Tensor> {
    if !gate.device().is_cpu() {
        return Ok((gate.silu()? * up)?);
    }
    gate.inplace_op2(up, &Gate)?;
    Ok(gate)
}

struct Gate;

impl InplaceOp2 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        gate: &mut CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(gate), CpuStorage::F32(up)) = (gate, up) else {
            candle_core::bail!("gate: expected f32");
        };
        let within = |layout: &Layout| layout.contiguous_offsets().map(|(start, end)| start..end);
        let gate = within(gate_layout).and_then(|range| gate.get_mut(range));
        let up = within(up_layout).and_then(|range| up.get(range));
        let (Some(gate), Some(up)) = (gate, up) else {
            candle_core::bail!("gate: expected contiguous tensors");
        };
        if gate.len() != up.len() {
            candle_core::bail!("gate: {} values for {} of up", gate.len(), up.len());
        }
        for_each_chunk(gate, CHUNK_VALUES, MIN_CHUNKS, |chunk, gate| {
            let up = up.get(chunk * CHUNK_VALUES..).unwrap_or(&[]);
            widest(
                #[inline(always)]
                || {
                    for (gate, up) in gate.iter_mut().zip(up) {
                        *gate = silu(*gate) * up;
                    }
                },
            );
        });
        Ok(())
    }
}

/// x / (1 + e⁻ˣ), with an exponential of what is at most 0.
#[inline(always)]
fn silu(x: f32) -> f32 {
    let small = exp(-x.abs());
    let above = if x > 0.0 { x } else { x * small };
    above / (1.0 + small)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gates_are_those_of_candle() {
        for n_values in [1, 64, 5 * CHUNK_VALUES + 3] {
            let random = || Tensor::randn(0f32, 9.0, (1, n_values), &Device::Cpu).unwrap();
            let (gate, up) = (random(), random());
            let expected = (gate.silu().unwrap() * &up).unwrap();
            let ours = gated(gate, &up).unwrap();
            let (ours, expected) = (ours.to_vec2::<f32>(), expected.to_vec2::<f32>());
            for (a, b) in ours.unwrap()[0].iter().zip(&expected.unwrap()[0]) {
                assert!(
                    (a - b).abs() <= 1e-6 * b.abs().max(1.0),
                    "{a} instead of {b}"
                );
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_stay_finite() {
        for (x, expected) in [
            (0.0, 0.0),
            (200.0, 200.0),
            (-200.0, 0.0),
            (f32::MAX, f32::MAX),
        ] {
            assert!((silu(x) - expected).abs() < 1e-6, "{x}: {}", silu(x));
        }
    }
}
