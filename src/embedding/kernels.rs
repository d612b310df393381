//! The arithmetic of an encoder on plain slices: matrix product, layer normalisation, softmax, GELU.
//!
//! Matrices are row-major f32. The products are those of the `gemm` crate, which candle uses as well; calling it
//! directly spares the copies that reshaping and transposing cost, and lets a product add to what is there. The other
//! loops are written so that the compiler vectorises them for the widest instructions of the machine, found at run
//! time. Nothing here knows about models.

use anyhow::{Result, bail};
use gemm::Parallelism;

use crate::simd::widest;

/// A matrix somewhere in a slice: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'d> {
    /// The numbers; the matrix begins with the first.
    pub(crate) data: &'d [f32],
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) columns: usize,
    /// From one row to the next.
    pub(crate) row_stride: usize,
    /// From one column to the next.
    pub(crate) column_stride: usize,
}

impl<'d> Matrix<'d> {
    /// Rows of `columns` numbers that begin `row_stride` apart.
    pub(crate) fn strided(data: &'d [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Matrix {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Rows that follow each other.
    pub(crate) fn dense(data: &'d [f32], columns: usize) -> Self {
        Self::strided(data, data.len() / columns, columns, columns)
    }

    /// Rows and columns exchanged, without moving anything.
    pub(crate) fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Where a product goes: rows that begin `row_stride` apart in `data`.
pub(crate) struct Target<'d> {
    /// The numbers; the matrix begins with the first.
    pub(crate) data: &'d mut [f32],
    /// From one row to the next.
    pub(crate) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) adds: bool,
}

/// `target = scale * left * right`, or `target += scale * left * right`. Uses the threads of the current rayon pool.
///
/// # Panics
/// When the shapes do not fit each other or their slices: a fault of the caller that no input can cause.
#[expect(
    unsafe_code,
    reason = "the product of the gemm crate takes pointers; the bounds are checked above the call"
)]
pub(crate) fn matmul(target: Target<'_>, left: Matrix<'_>, right: Matrix<'_>, scale: f32) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner dimensions of a product");
    let fits =
        |len: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize| {
            rows == 0
                || columns == 0
                || (rows - 1) * row_stride + (columns - 1) * column_stride < len
        };
    assert!(fits(
        left.data.len(),
        m,
        k,
        left.row_stride,
        left.column_stride
    ));
    assert!(fits(
        right.data.len(),
        k,
        n,
        right.row_stride,
        right.column_stride
    ));
    assert!(fits(target.data.len(), m, n, target.row_stride, 1));
    assert!(n <= target.row_stride, "rows of the target overlap");
    let stride = |stride: usize| stride.cast_signed();
    let parallelism = match rayon::current_num_threads() {
        1 => Parallelism::None,
        _ => Parallelism::Rayon(0),
    };
    // SAFETY: the asserts above keep every element that gemm reads or writes within its slice, `target` is borrowed
    // mutably and so overlaps neither operand, and rows of the target do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.data.as_mut_ptr(),
            1,
            stride(target.row_stride),
            target.adds,
            left.data.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.data.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Numbers that are summed side by side, so that a sum needs no fixed order and can be vectorised.
const LANES: usize = 16;

/// Folds a slice over [`LANES`] running values and then over those.
#[inline(always)]
fn fold(
    values: &[f32],
    start: f32,
    each: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut running = [start; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (total, value) in running.iter_mut().zip(block) {
            *total = each(*total, *value);
        }
    }
    for (total, value) in running.iter_mut().zip(rest) {
        *total = each(*total, *value);
    }
    running.into_iter().fold(start, join)
}

/// Normalises each row to mean 0 and variance 1, then scales and shifts it.
pub(crate) fn layer_norm(rows: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    let n = width as f32;
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(width) {
                let mean = fold(row, 0.0, |sum, x| sum + x, |a, b| a + b) / n;
                let variance = fold(
                    row,
                    0.0,
                    #[inline(always)]
                    |sum, x| (x - mean).mul_add(x - mean, sum),
                    |a, b| a + b,
                ) / n;
                let factor = 1.0 / (variance + eps).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = ((*x - mean) * factor).mul_add(*weight, *bias);
                }
            }
        },
    );
}

/// Turns each row into probabilities.
pub(crate) fn softmax(rows: &mut [f32], width: usize) {
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(width) {
                let largest = fold(row, f32::NEG_INFINITY, f32::max, f32::max);
                for x in row.iter_mut() {
                    *x = exp(*x - largest);
                }
                let factor = 1.0 / fold(row, 0.0, |sum, x| sum + x, |a, b| a + b);
                for x in row.iter_mut() {
                    *x *= factor;
                }
            }
        },
    );
}

/// Adds `bias` to each row.
pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x += bias;
                }
            }
        },
    );
}

/// The function between the two products of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// GELU as defined, with the error function.
    Gelu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// The function of a name in `config.json`.
    ///
    /// # Errors
    /// When the name is not known.
    pub(crate) fn of(name: &str) -> Result<Activation> {
        match name {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => {
                bail!("activation {other}: expected gelu, gelu_new, gelu_pytorch_tanh or relu")
            }
        }
    }

    /// `x = f(x + bias)` for each row.
    pub(crate) fn apply(self, rows: &mut [f32], bias: &[f32]) {
        match self {
            Activation::Gelu => with_bias(rows, bias, gelu),
            Activation::GeluTanh => with_bias(rows, bias, gelu_tanh),
            Activation::Relu => with_bias(rows, bias, |x| x.max(0.0)),
        }
    }
}

fn with_bias(rows: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x = f(*x + bias);
                }
            }
        },
    );
}

/// Gaussian error linear unit (Hendrycks and Gimpel, 2016): `x * Φ(x)`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The approximation of the same paper, section 2.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (0.044_715 * x * x).mul_add(x, x);
    // (1 + tanh u) / 2 = 1 / (1 + e^-2u)
    x / (1.0 + exp(-2.0 * inner))
}

/// e^x to two units in the last place between -87 and 88; beyond, the value at that end. Coefficients: Cephes `expf`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_2e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_6e-1)
        .mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The error function to about 1e-7. Coefficients: N. Juffa's minimax `erff`, public domain.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let high = (-1.728_534_7e-5_f32).mul_add(t, 3.831_972e-4);
    let low = (-3.883_964_4e-3_f32).mul_add(t, 2.425_462_2e-2);
    let tail = high
        .mul_add(s, low)
        .mul_add(t, -1.067_778_8e-1)
        .mul_add(t, -6.348_468_7e-1)
        .mul_add(t, -1.287_175_1e-1)
        .mul_add(t, -t);
    let far = (1.0 - exp(tail)).copysign(x);
    let near = (-5.967_617e-4_f32)
        .mul_add(s, 4.991_194_2e-3)
        .mul_add(s, -2.676_813_5e-2)
        .mul_add(s, 1.128_199_3e-1)
        .mul_add(s, -3.761_253_4e-1)
        .mul_add(s, 1.283_791_7e-1)
        .mul_add(x, x);
    if t > 0.927_734_4 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points between `-limit` and `limit`.
    fn points(limit: f32) -> Vec<f32> {
        (-20_000..=20_000_i16)
            .map(|i| f32::from(i) / 20_000.0 * limit)
            .collect()
    }

    #[test]
    fn exp_and_erf_follow_their_f64_values() {
        for x in points(80.0) {
            let expected = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(relative < 3e-7, "exp({x}): {relative:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
        for x in points(6.0) {
            let expected = candle_core::cpu::erf::erf_f64(f64::from(x));
            let difference = (f64::from(erf(x)) - expected).abs();
            assert!(difference < 1.5e-7, "erf({x}): {difference:e}");
        }
    }

    #[test]
    fn activations_follow_their_definitions() {
        let check = |activation: Activation, exact: &dyn Fn(f64) -> f64| {
            let mut values = points(12.0);
            let bias = vec![0.25; values.len()];
            let expected: Vec<f64> = values.iter().map(|x| exact(f64::from(x + 0.25))).collect();
            activation.apply(&mut values, &bias);
            for (value, expected) in values.iter().zip(expected) {
                let difference = (f64::from(*value) - expected).abs();
                assert!(
                    difference < 2e-6,
                    "{activation:?}: {value}, expected {expected}"
                );
            }
        };
        let root = std::f64::consts::SQRT_2;
        check(Activation::Gelu, &|x| {
            0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / root))
        });
        let factor = (2.0 / std::f64::consts::PI).sqrt();
        check(Activation::GeluTanh, &|x| {
            0.5 * x * (1.0 + (factor * (x + 0.044_715 * x.powi(3))).tanh())
        });
        check(Activation::Relu, &|x| x.max(0.0));
        assert!(Activation::of("swish").is_err());
    }

    #[test]
    fn rows_are_normalised_whatever_their_width() {
        let check = |width: usize| {
            let row: Vec<f32> = (0..width)
                .map(|i| f32::from(u8::try_from(i % 7).unwrap()))
                .collect();
            let mut rows = [row.clone(), row].concat();
            layer_norm(&mut rows, &vec![2.0; width], &vec![1.0; width], 1e-12);
            let mean = rows[..width].iter().sum::<f32>() / width as f32;
            let spread =
                rows[width..].iter().map(|x| (x - 1.0).powi(2)).sum::<f32>() / width as f32;
            assert!(
                (mean - 1.0).abs() < 1e-5 && (spread - 4.0).abs() < 1e-4,
                "{width}: {mean} {spread}"
            );

            let mut rows: Vec<f32> = (0..2 * width).map(|i| (i % 5) as f32 * 30.0).collect();
            softmax(&mut rows, width);
            for row in rows.chunks(width) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        };
        for width in [2, 7, 16, 33, 384] {
            check(width);
        }
    }

    #[test]
    fn a_product_is_scaled_strided_transposed_and_added() {
        // [1 2; 3 4] * [5 6; 7 8]^T = [17 23; 39 53]
        let left = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let right = [5.0, 6.0, 7.0, 8.0];
        let mut out = [100.0; 5];
        let target = Target {
            data: &mut out,
            row_stride: 3,
            adds: true,
        };
        let right = Matrix::dense(&right, 2).transposed();
        matmul(target, Matrix::strided(&left, 2, 2, 3), right, 10.0);
        assert_eq!(out, [270.0, 330.0, 100.0, 490.0, 630.0]);
    }
}
