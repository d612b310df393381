//! Quantised matrices rearranged for the processor, and their products with activations.
//!
//! In comes a Q4_K, Q6_K or Q8_0 matrix as it stands in a GGUF file; [`PackedMatrix`] keeps the same numbers, in about
//! the same space, in tiles of 16 rows, so that one instruction (AVX-512 VNNI `vpdpbusd`) multiplies four columns of
//! all 16, of 8 where AVX2 is all there is, or of 4 on ARM; all give the same numbers to the last bit. Activations are
//! rounded to 8 bits in blocks of 32 with a scale each. A row of activations gives the same result whether it comes alone
//! or among others, so that a draft that is checked in one pass is judged as single tokens would have been.
//!
//! The kernels for ARM were tested under emulation; nobody has timed them on a machine yet.
//!
//! Other machines, and other quantisations, are left to candle: [`PackedMatrix::new`] returns `None`.

#![expect(
    unsafe_code,
    reason = "vector instructions: loads, and calls of functions compiled for an extension that was found"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use anyhow::{Result, ensure};
use candle_core::quantized::GgmlDType;
use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;

use super::workers::for_each_chunk;
use crate::simd::widest;

/// Rows of a tile: the 32-bit lanes of a vector.
const TILE_ROWS: usize = 16;
/// Rows of activations that share one pass over a tile: their sums fit the registers.
const PASS_ROWS: usize = 8;
/// Products of a run of strips that are worth another thread's while: some microseconds.
const MIN_PRODUCTS: usize = 1 << 16;
/// Blocks of activations that are rounded at a time.
const CHUNK_BLOCKS: usize = 16;
/// How far ahead of its use a tile is asked for: 4 KB to 16 KB were equally fast.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 8_192;

/// A matrix `[n_rows, n_columns]` in tiles.
pub(crate) struct PackedMatrix {
    n_rows: usize,
    n_columns: usize,
    tiles: Tiles,
    instructions: Instructions,
}

/// Vector instructions that tiles are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Instructions {
    /// Those that this machine has, the fastest first.
    fn found() -> Vec<Instructions> {
        #[cfg(target_arch = "x86_64")]
        let known = [
            (
                Instructions::Avx512Vnni,
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni"),
            ),
            (
                Instructions::Avx2,
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c"),
            ),
        ];
        #[cfg(target_arch = "aarch64")]
        let known = [
            (
                Instructions::NeonDotprod,
                std::arch::is_aarch64_feature_detected!("dotprod"),
            ),
            (Instructions::Neon, true),
        ];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let known: [(Instructions, bool); 0] = [];
        let found = known.into_iter().filter(|(_, found)| *found);
        found.map(|(instructions, _)| instructions).collect()
    }
}

enum Tiles {
    Q4K(Vec<TileQ4K>),
    Q6K(Vec<TileQ6K>),
    Q8_0(Vec<TileQ8_0>),
}

/// 256 columns of 16 rows. A value is `d · scale · quant - dmin · min`, with a scale and a min for each 32 columns.
#[derive(Clone)]
struct TileQ4K {
    /// For 8 columns each: of every row 4 bytes, which hold columns 0 to 3 in the low and 4 to 7 in the high half.
    quants: [[u8; 64]; 32],
    scales: [[u8; TILE_ROWS]; 8],
    mins: [[u8; TILE_ROWS]; 8],
    d: [f16; TILE_ROWS],
    dmin: [f16; TILE_ROWS],
}

/// 256 columns of 16 rows. A value is `d · scale · (quant - 32)`, with a scale for each 16 columns.
#[derive(Clone)]
struct TileQ6K {
    /// The lower 4 bits, as in [`TileQ4K::quants`].
    low: [[u8; 64]; 32],
    /// The upper 2 bits, for 16 columns each: of every row 4 bytes, from the lowest bits up columns 0 to 3, 4 to 7, 8
    /// to 11 and 12 to 15.
    high: [[u8; 64]; 16],
    scales: [[i8; TILE_ROWS]; 16],
    d: [f16; TILE_ROWS],
}

/// 32 columns of 16 rows. A value is `d · (quant - 128)`.
#[derive(Clone)]
struct TileQ8_0 {
    /// For 4 columns each: of every row 4 bytes.
    quants: [[u8; 64]; 8],
    d: [f16; TILE_ROWS],
}

/// 32 activations of a row, rounded to 8 bits: a value is `scale · quant`.
#[derive(Clone, Copy)]
struct Block {
    /// Four quants each, the first in the lowest byte.
    quads: [i32; 8],
    scale: f32,
    /// `scale` times the sum of the quants.
    scaled_sum: f32,
    /// Sums of the quants of each half.
    sums: [i32; 2],
}

/// Rows of activations, rounded.
pub(crate) struct Activations {
    blocks: Vec<Block>,
    blocks_per_row: usize,
}

impl Activations {
    /// Rounds rows of `n_columns` values, a multiple of 32.
    pub(crate) fn new(values: &[f32], n_columns: usize) -> Self {
        let blocks_per_row = n_columns / 32;
        let mut blocks = vec![
            Block {
                quads: [0; 8],
                scale: 0.0,
                scaled_sum: 0.0,
                sums: [0; 2],
            };
            values.len() / 32
        ];
        let (values, _) = values.as_chunks::<32>();
        for_each_chunk(&mut blocks, CHUNK_BLOCKS, 16, |chunk, blocks| {
            let values = values.iter().skip(chunk * CHUNK_BLOCKS);
            widest(
                #[inline(always)]
                || {
                    for (block, values) in blocks.iter_mut().zip(values) {
                        *block = Block::new(values);
                    }
                },
            );
        });
        Activations {
            blocks,
            blocks_per_row,
        }
    }
}

impl Block {
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "quants are between -127 and 127, sums of 32 of them below 2^24"
    )]
    fn new(values: &[f32; 32]) -> Self {
        let largest = values.iter().fold(0f32, |largest, value| {
            if value.abs() > largest {
                value.abs()
            } else {
                largest
            }
        });
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut quants = [0i8; 32];
        for (quant, value) in quants.iter_mut().zip(values) {
            // Adding and taking away 1.5 · 2^23 rounds to a whole number, without a call for each value.
            *quant = ((value * inverse + 12_582_912.0) - 12_582_912.0) as i8;
        }
        let (quads, _) = quants.as_chunks::<4>();
        let mut block = Block {
            quads: [0; 8],
            scale,
            scaled_sum: 0.0,
            sums: [0; 2],
        };
        for (quad, quants) in block.quads.iter_mut().zip(quads) {
            *quad = i32::from_le_bytes(quants.map(i8::cast_unsigned));
        }
        let (halves, _) = quants.as_chunks::<16>();
        for (sum, half) in block.sums.iter_mut().zip(halves) {
            *sum = half.iter().map(|&quant| i32::from(quant)).sum();
        }
        block.scaled_sum = scale * block.sums.iter().sum::<i32>() as f32;
        block
    }
}

impl PackedMatrix {
    /// Packs a matrix from its bytes in a GGUF file, or returns `None` where candle does better: on machines without
    /// the instructions, and for other quantisations.
    pub(crate) fn new(dtype: GgmlDType, bytes: &[u8], shape: (usize, usize)) -> Option<Self> {
        let instructions = Instructions::found().first().copied()?;
        PackedMatrix::with_instructions(instructions, dtype, bytes, shape)
    }

    /// The same for instructions that were found.
    fn with_instructions(
        instructions: Instructions,
        dtype: GgmlDType,
        bytes: &[u8],
        (n_rows, n_columns): (usize, usize),
    ) -> Option<Self> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other quantisation is candle's"
        )]
        let tiles = match dtype {
            GgmlDType::Q4K => Tiles::Q4K(pack::<TileQ4K, 144>(bytes, n_columns / 256)),
            GgmlDType::Q6K => Tiles::Q6K(pack::<TileQ6K, 210>(bytes, n_columns / 256)),
            GgmlDType::Q8_0 => Tiles::Q8_0(pack::<TileQ8_0, 34>(bytes, n_columns / 32)),
            _ => return None,
        };
        Some(PackedMatrix {
            n_rows,
            n_columns,
            tiles,
            instructions,
        })
    }

    /// `x·Wᵀ` of several matrices: `[tokens, n_rows]` each, f32. One step for all of them: the matrices of a small model
    /// are multiplied in less time than threads need to meet.
    ///
    /// # Errors
    /// When the activations are not as wide as the matrices.
    pub(crate) fn multiply_together(
        matrices: &[&PackedMatrix],
        x: &Activations,
    ) -> Result<Vec<Tensor>> {
        let n_columns = x.blocks_per_row * 32;
        for matrix in matrices {
            ensure!(
                n_columns == matrix.n_columns,
                "activations: expected {} values, got {n_columns}",
                matrix.n_columns
            );
        }
        let rows: Vec<&[Block]> = x.blocks.chunks_exact(x.blocks_per_row).collect();
        let n_strips = |matrix: &&PackedMatrix| matrix.n_rows.div_ceil(TILE_ROWS);
        let n_all_strips: usize = matrices.iter().map(n_strips).sum();
        // By strip first, so that each is written by one thread; then by row.
        let mut by_strip = vec![[0f32; TILE_ROWS]; n_all_strips * rows.len()];
        let min_strips = MIN_PRODUCTS.div_ceil((TILE_ROWS * n_columns * rows.len()).max(1));
        for_each_chunk(&mut by_strip, rows.len(), min_strips, |strip, results| {
            let mut first = 0;
            for matrix in matrices {
                let end = first + n_strips(matrix);
                if strip < end {
                    return matrix.multiply_strip(strip - first, &rows, results);
                }
                first = end;
            }
        });
        let mut rest = by_strip.as_slice();
        let products = matrices.iter().map(|matrix| {
            let (own, after) = rest.split_at(n_strips(matrix) * rows.len());
            rest = after;
            let by_row = transpose(own, rows.len(), matrix.n_rows);
            let shape = (rows.len(), matrix.n_rows);
            Ok(Tensor::from_vec(by_row, shape, &Device::Cpu)?)
        });
        products.collect()
    }

    fn multiply_strip(&self, index: usize, rows: &[&[Block]], results: &mut [[f32; TILE_ROWS]]) {
        let passes = rows.chunks(PASS_ROWS).zip(results.chunks_mut(PASS_ROWS));
        let (by, n_columns) = (self.instructions, self.n_columns);
        for (rows, results) in passes {
            match &self.tiles {
                Tiles::Q4K(tiles) => {
                    multiply_pass(by, strip(tiles, index, n_columns / 256), rows, results)
                }
                Tiles::Q6K(tiles) => {
                    multiply_pass(by, strip(tiles, index, n_columns / 256), rows, results)
                }
                Tiles::Q8_0(tiles) => {
                    multiply_pass(by, strip(tiles, index, n_columns / 32), rows, results)
                }
            }
        }
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix[{}, {}]", self.n_rows, self.n_columns)
    }
}

/// Results by strip and row of activations → by row of activations.
fn transpose(by_strip: &[[f32; TILE_ROWS]], n_tokens: usize, n_rows: usize) -> Vec<f32> {
    if n_tokens == 1 {
        let values = by_strip.as_flattened();
        return values.get(..n_rows).unwrap_or(values).to_vec();
    }
    let mut by_row = vec![0f32; n_tokens * n_rows];
    for_each_chunk(&mut by_row, n_rows, 8, |token, values| {
        let results = by_strip.iter().skip(token).step_by(n_tokens);
        for (values, result) in values.chunks_mut(TILE_ROWS).zip(results) {
            for (value, result) in values.iter_mut().zip(result) {
                *value = *result;
            }
        }
    });
    by_row
}

/// The tiles of 16 rows, along all columns.
fn strip<T>(tiles: &[T], index: usize, tiles_per_strip: usize) -> &[T] {
    let start = index * tiles_per_strip;
    tiles.get(start..start + tiles_per_strip).unwrap_or(&[])
}

/// Asks for the bytes that come some tiles later. Tiles stream from memory, faster than the processor foresees: with
/// this, a single row of activations took 0.6 to 0.75 of the time on a Xeon of 2023.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_after(bytes: &[u8; 64]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let later = bytes.as_ptr().wrapping_add(PREFETCH_BYTES);
    // SAFETY: a prefetch of an address where nothing is does nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(later.cast()) };
}

/// A tile that can be filled from the blocks of a GGUF file and multiplied.
trait Tile: Clone + Send + Sync {
    /// A tile of zeros.
    fn empty() -> Self;

    /// Writes the block of one row, as it stands in the file.
    fn set_row(&mut self, row: usize, block: &[u8]);

    /// Products of a strip of tiles with `M` rows of activations.
    ///
    /// # Safety
    /// The machine must have the instructions: [`Instructions::found`].
    unsafe fn multiply<const M: usize>(
        instructions: Instructions,
        strip: &[Self],
        rows: &[&[Block]; M],
    ) -> [[f32; TILE_ROWS]; M];
}

/// Rearranges blocks of `N` bytes, `blocks_per_row` to a row, into tiles; rows that are missing to a full tile are 0.
fn pack<T: Tile, const N: usize>(bytes: &[u8], blocks_per_row: usize) -> Vec<T> {
    let strips: Vec<&[u8]> = bytes.chunks(TILE_ROWS * blocks_per_row * N).collect();
    let mut tiles = Vec::with_capacity(strips.len() * blocks_per_row);
    ask_for_large_pages(&tiles);
    (0..strips.len() * blocks_per_row)
        .into_par_iter()
        .map(|index| {
            let mut tile = T::empty();
            let rows = strips[index / blocks_per_row].chunks_exact(blocks_per_row * N);
            for (row, blocks) in rows.enumerate() {
                let start = index % blocks_per_row * N;
                tile.set_row(row, &blocks[start..start + N]);
            }
            tile
        })
        .collect_into_vec(&mut tiles);
    tiles
}

/// Asks the system for pages of 2 MB where it grants them on request: tiles stream faster from them.
#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(room: &Vec<T>) {
    const LARGE_PAGE: usize = 2 << 20;
    let start = room.as_ptr().addr();
    let end = start + room.capacity() * size_of::<T>();
    let (first, last) = (
        start.next_multiple_of(LARGE_PAGE),
        end / LARGE_PAGE * LARGE_PAGE,
    );
    if first < last {
        let address = room.as_ptr().wrapping_byte_add(first - start);
        // SAFETY: the pages are the vector's own. Advice that the system does not take changes nothing.
        unsafe { libc::madvise(address.cast_mut().cast(), last - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_room: &Vec<T>) {}

fn half_at(block: &[u8], offset: usize) -> f16 {
    let bytes = block.get(offset..offset + 2);
    f16::from_le_bytes(bytes.and_then(|two| two.try_into().ok()).unwrap_or([0; 2]))
}

/// Products of a strip with at most [`PASS_ROWS`] rows.
fn multiply_pass<T: Tile>(
    instructions: Instructions,
    strip: &[T],
    mut rows: &[&[Block]],
    results: &mut [[f32; TILE_ROWS]],
) {
    let mut results = results.iter_mut();
    macro_rules! take {
        ($m:literal) => {
            while let Some((taken, rest)) = rows.split_first_chunk::<$m>() {
                // SAFETY: a packed matrix exists only where the instructions were found.
                let products = unsafe { T::multiply::<$m>(instructions, strip, taken) };
                for (product, result) in products.into_iter().zip(&mut results) {
                    *result = product;
                }
                rows = rest;
            }
        };
    }
    take!(8);
    take!(4);
    take!(2);
    take!(1);
}

/// [`Tile::multiply`] by the kernel of this name.
macro_rules! multiply_by_found {
    ($kernel:ident) => {
        unsafe fn multiply<const M: usize>(
            instructions: Instructions,
            strip: &[Self],
            rows: &[&[Block]; M],
        ) -> [[f32; TILE_ROWS]; M] {
            // SAFETY: the caller's promise.
            unsafe {
                match instructions {
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx512Vnni => avx512::$kernel(strip, rows),
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx2 => avx2::$kernel(strip, rows),
                    #[cfg(target_arch = "aarch64")]
                    Instructions::NeonDotprod => neon::$kernel::<M, true>(strip, rows),
                    #[cfg(target_arch = "aarch64")]
                    Instructions::Neon => neon::$kernel::<M, false>(strip, rows),
                }
            }
        }
    };
}

impl Tile for TileQ4K {
    fn empty() -> Self {
        TileQ4K {
            quants: [[0; 64]; 32],
            scales: [[0; TILE_ROWS]; 8],
            mins: [[0; TILE_ROWS]; 8],
            d: [f16::ZERO; TILE_ROWS],
            dmin: [f16::ZERO; TILE_ROWS],
        }
    }

    /// ggml-common.h, `block_q4_K`: d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes of quants.
    fn set_row(&mut self, row: usize, block: &[u8]) {
        let Some((head, quants)) = block.split_first_chunk::<16>() else {
            return;
        };
        self.d[row] = half_at(head, 0);
        self.dmin[row] = half_at(head, 2);
        let packed = &head[4..16];
        for sub in 0..4 {
            self.scales[sub][row] = packed[sub] & 63;
            self.mins[sub][row] = packed[sub + 4] & 63;
            self.scales[sub + 4][row] = (packed[sub + 8] & 15) | ((packed[sub] >> 6) << 4);
            self.mins[sub + 4][row] = (packed[sub + 8] >> 4) | ((packed[sub + 4] >> 6) << 4);
        }
        // 32 bytes hold 64 columns: the first 32 in the low halves, the next 32 in the high ones.
        let value = |column: usize| {
            let byte = quants[column / 64 * 32 + column % 32];
            if column % 64 < 32 {
                byte & 15
            } else {
                byte >> 4
            }
        };
        for (group, bytes) in self.quants.iter_mut().enumerate() {
            for j in 0..4 {
                bytes[row * 4 + j] = value(group * 8 + j) | (value(group * 8 + 4 + j) << 4);
            }
        }
    }

    multiply_by_found!(multiply_q4k);
}

impl Tile for TileQ6K {
    fn empty() -> Self {
        TileQ6K {
            low: [[0; 64]; 32],
            high: [[0; 64]; 16],
            scales: [[0; TILE_ROWS]; 16],
            d: [f16::ZERO; TILE_ROWS],
        }
    }

    /// ggml-common.h, `block_q6_K`: 128 bytes of lower halves, 64 of upper bits, 16 scales, d.
    fn set_row(&mut self, row: usize, block: &[u8]) {
        let (low, rest) = block.split_at(128);
        let (high, rest) = rest.split_at(64);
        self.d[row] = half_at(rest, 16);
        for (scales, scale) in self.scales.iter_mut().zip(rest) {
            scales[row] = scale.cast_signed();
        }
        // Each half of the block: 64 bytes hold the lower bits of columns 0 to 63 low and 64 to 127 high; 32 bytes hold
        // the upper bits of columns j, j + 32, j + 64 and j + 96.
        let value = |column: usize| {
            let (half, column) = (column / 128, column % 128);
            let byte = low[half * 64 + column % 64];
            let lower = if column < 64 { byte & 15 } else { byte >> 4 };
            let upper = high[half * 32 + column % 32] >> (column / 32 * 2) & 3;
            (lower, upper)
        };
        for (group, bytes) in self.low.iter_mut().enumerate() {
            for j in 0..4 {
                bytes[row * 4 + j] = value(group * 8 + j).0 | (value(group * 8 + 4 + j).0 << 4);
            }
        }
        for (group, bytes) in self.high.iter_mut().enumerate() {
            for j in 0..4 {
                let upper = |quad: usize| value(group * 16 + quad * 4 + j).1 << (quad * 2);
                bytes[row * 4 + j] = upper(0) | upper(1) | upper(2) | upper(3);
            }
        }
    }

    multiply_by_found!(multiply_q6k);
}

impl Tile for TileQ8_0 {
    fn empty() -> Self {
        TileQ8_0 {
            quants: [[128; 64]; 8],
            d: [f16::ZERO; TILE_ROWS],
        }
    }

    /// ggml-common.h, `block_q8_0`: d, 32 quants.
    fn set_row(&mut self, row: usize, block: &[u8]) {
        self.d[row] = half_at(block, 0);
        let quants = block.get(2..).unwrap_or(&[]);
        let (quads, _) = quants.as_chunks::<4>();
        for (bytes, quad) in self.quants.iter_mut().zip(quads) {
            for (j, quant) in quad.iter().enumerate() {
                bytes[row * 4 + j] = quant.wrapping_add(128);
            }
        }
    }

    multiply_by_found!(multiply_q8_0);
}

/// The 8 blocks (256 values) of each row that meet a tile.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn blocks_of<'a, const M: usize>(rows: &[&'a [Block]; M], tile: usize) -> [&'a [Block; 8]; M] {
    rows.map(|row| {
        let (groups, _) = row.as_chunks::<8>();
        &groups[tile]
    })
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;

    use super::*;

    fn multiply(packed: &PackedMatrix, x: &Activations) -> Vec<f32> {
        let products = PackedMatrix::multiply_together(&[packed], x).unwrap();
        products[0].flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Products of random matrices, next to those of the dequantised weights with the rounded activations in f64.
    fn check(dtype: GgmlDType, n_rows: usize, n_columns: usize, n_tokens: usize) {
        let device = &Device::Cpu;
        let weights = Tensor::randn(0f32, 1.0, (n_rows, n_columns), device).unwrap();
        let quantized = QTensor::quantize(&weights, dtype).unwrap();
        let bytes = quantized.data().unwrap();
        let found = Instructions::found().into_iter();
        let mut packed = found.map(|instructions| {
            let shape = (n_rows, n_columns);
            PackedMatrix::with_instructions(instructions, dtype, &bytes, shape).unwrap()
        });
        let Some(fastest) = packed.next() else {
            return;
        };
        let x = Tensor::randn(0f32, 1.0, (n_tokens, n_columns), device).unwrap();
        let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let activations = Activations::new(&x, n_columns);
        let ours = multiply(&fastest, &activations);
        let weights = quantized
            .dequantize(device)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let rounded: Vec<f64> = activations
            .blocks
            .iter()
            .flat_map(|block| {
                let quants = block.quads.iter().flat_map(|quad| quad.to_le_bytes());
                quants.map(|quant| f64::from(quant.cast_signed()) * f64::from(block.scale))
            })
            .collect();
        for (x, rounded) in x.iter().zip(&rounded) {
            assert!(
                (f64::from(*x) - rounded).abs() < 0.02,
                "{x} rounded to {rounded}"
            );
        }
        assert_eq!(ours.len(), n_tokens * n_rows);
        for (index, value) in ours.iter().enumerate() {
            let x = &rounded[index / n_rows * n_columns..][..n_columns];
            let products = weights[index % n_rows].iter().zip(x);
            let expected: f64 = products.map(|(w, x)| f64::from(*w) * x).sum();
            let difference = (f64::from(*value) - expected).abs();
            assert!(
                difference < 1e-3,
                "{dtype:?} [{n_rows}, {n_columns}] by {n_tokens}: {value} instead of {expected}"
            );
        }
        let last = &x[(n_tokens - 1) * n_columns..];
        for other in packed {
            assert_eq!(
                multiply(&other, &activations),
                ours,
                "{:?}",
                other.instructions
            );
        }
        let alone = multiply(&fastest, &Activations::new(last, n_columns));
        assert_eq!(
            alone,
            ours[(n_tokens - 1) * n_rows..],
            "alone or among others"
        );
    }

    #[test]
    fn products_are_those_of_the_dequantised_weights() {
        for n_tokens in [1, 2, 3, 7, 8, 19] {
            check(GgmlDType::Q4K, 48, 512, n_tokens);
            check(GgmlDType::Q6K, 48, 512, n_tokens);
            check(GgmlDType::Q8_0, 48, 96, n_tokens);
        }
        // Rows that do not fill a tile.
        check(GgmlDType::Q4K, 21, 256, 9);
        check(GgmlDType::Q6K, 5, 256, 9);
        check(GgmlDType::Q8_0, 33, 32, 9);
    }

    #[test]
    fn activations_that_are_zero_or_huge_stay_so() {
        let zero = Block::new(&[0.0; 32]);
        assert_eq!((zero.scale, zero.quads), (0.0, [0; 8]));
        let mut values = [0f32; 32];
        values[3] = -1e30;
        let block = Block::new(&values);
        assert_eq!(block.quads[0].to_le_bytes()[3].cast_signed(), -127);
        assert_eq!(block.sums, [-127, 0]);
    }
}
