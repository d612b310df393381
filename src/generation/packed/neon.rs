//! Products of tiles by NEON: one vector holds four columns of 4 rows, so that a tile is four quarters.
//!
//! Every aarch64 processor has NEON; those that have `sdot` too (`DOTPROD`, most since 2018) multiply and add four bytes
//! in one instruction instead of four. The sums are whole numbers, and the floating-point operations and their order are
//! those of the kernels for x86, so that the results are the same. Tested by emulation, not yet timed on a machine.
//!
//! `sdot` and `fcvtl` are written as assembly: their intrinsics are younger than the oldest compiler that is supported.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::{Block, TILE_ROWS, TileQ4K, TileQ6K, TileQ8_0, blocks_of};

/// Rows of a quarter of a tile.
const QUARTER_ROWS: usize = TILE_ROWS / 4;

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "neon")]
pub(super) fn multiply_q4k<const M: usize, const DOTPROD: bool>(
    strip: &[TileQ4K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = vdupq_n_u8(15);
    let mut products = [[0f32; TILE_ROWS]; M];
    for (index, tile) in strip.iter().enumerate() {
        let blocks = blocks_of(rows, index);
        let (quants, _) = tile.quants.as_chunks::<4>();
        for quarter in 0..4 {
            let mut totals = load_totals(&products, quarter);
            let d = load_halves(&tile.d, quarter);
            let dmin = load_halves(&tile.dmin, quarter);
            for sub in 0..8 {
                let mut sums = [vdupq_n_s32(0); M];
                for (group, bytes) in quants[sub].iter().enumerate() {
                    let both = load(bytes, quarter);
                    let low = vreinterpretq_s8_u8(vandq_u8(both, nibble));
                    let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(both));
                    for m in 0..M {
                        let quads = &blocks[m][sub].quads;
                        sums[m] = dot::<DOTPROD>(sums[m], low, quads[group * 2]);
                        sums[m] = dot::<DOTPROD>(sums[m], high, quads[group * 2 + 1]);
                    }
                }
                let scale = vmulq_f32(d, widen(&tile.scales[sub], quarter));
                let min = vmulq_f32(dmin, widen(&tile.mins[sub], quarter));
                for m in 0..M {
                    let block = &blocks[m][sub];
                    let factor = vmulq_f32(scale, vdupq_n_f32(block.scale));
                    totals[m] = vfmaq_f32(totals[m], vcvtq_f32_s32(sums[m]), factor);
                    totals[m] = vfmsq_f32(totals[m], min, vdupq_n_f32(block.scaled_sum));
                }
            }
            store_totals(&totals, quarter, &mut products);
        }
    }
    products
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "neon")]
pub(super) fn multiply_q6k<const M: usize, const DOTPROD: bool>(
    strip: &[TileQ6K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = vdupq_n_u8(15);
    let upper = vdupq_n_u8(0x30);
    let mut products = [[0f32; TILE_ROWS]; M];
    for (index, tile) in strip.iter().enumerate() {
        let blocks = blocks_of(rows, index);
        let (low, _) = tile.low.as_chunks::<2>();
        for quarter in 0..4 {
            let mut totals = load_totals(&products, quarter);
            let d = load_halves(&tile.d, quarter);
            for sub in 0..16 {
                let high = load(&tile.high[sub], quarter);
                let first = load(&low[sub][0], quarter);
                let second = load(&low[sub][1], quarter);
                let join = |low, high| vreinterpretq_s8_u8(vorrq_u8(low, vandq_u8(high, upper)));
                let quads = [
                    join(vandq_u8(first, nibble), vshlq_n_u8::<4>(high)),
                    join(vshrq_n_u8::<4>(first), vshlq_n_u8::<2>(high)),
                    join(vandq_u8(second, nibble), high),
                    join(vshrq_n_u8::<4>(second), vshrq_n_u8::<2>(high)),
                ];
                let scale = vmulq_f32(d, widen(&tile.scales[sub], quarter));
                for m in 0..M {
                    let block = &blocks[m][sub / 2];
                    // Quants are stored 32 too high.
                    let mut sum = vdupq_n_s32(-32 * block.sums[sub % 2]);
                    for (quad, values) in quads.iter().enumerate() {
                        sum = dot::<DOTPROD>(sum, *values, block.quads[sub % 2 * 4 + quad]);
                    }
                    let factor = vmulq_f32(scale, vdupq_n_f32(block.scale));
                    totals[m] = vfmaq_f32(totals[m], vcvtq_f32_s32(sum), factor);
                }
            }
            store_totals(&totals, quarter, &mut products);
        }
    }
    products
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "neon")]
pub(super) fn multiply_q8_0<const M: usize, const DOTPROD: bool>(
    strip: &[TileQ8_0],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let sign_bit = vdupq_n_u8(128);
    let mut products = [[0f32; TILE_ROWS]; M];
    for (index, tile) in strip.iter().enumerate() {
        for quarter in 0..4 {
            let mut totals = load_totals(&products, quarter);
            let d = load_halves(&tile.d, quarter);
            let mut sums = [vdupq_n_s32(0); M];
            for (quad, bytes) in tile.quants.iter().enumerate() {
                // Quants are stored 128 too high.
                let values = vreinterpretq_s8_u8(veorq_u8(load(bytes, quarter), sign_bit));
                for m in 0..M {
                    sums[m] = dot::<DOTPROD>(sums[m], values, rows[m][index].quads[quad]);
                }
            }
            for m in 0..M {
                let factor = vmulq_f32(d, vdupq_n_f32(rows[m][index].scale));
                totals[m] = vfmaq_f32(totals[m], vcvtq_f32_s32(sums[m]), factor);
            }
            store_totals(&totals, quarter, &mut products);
        }
    }
    products
}

/// Adds to each lane the products of its four signed bytes with the four signed bytes of `quad`, none of which is -128.
#[inline]
#[target_feature(enable = "neon")]
fn dot<const DOTPROD: bool>(sum: int32x4_t, bytes: int8x16_t, quad: i32) -> int32x4_t {
    let quad = vreinterpretq_s8_s32(vdupq_n_s32(quad));
    if DOTPROD {
        let mut sum = sum;
        // SAFETY: reads and writes the named registers only; kernels with `DOTPROD` are called only where the
        // instruction was found.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {bytes:v}.16b, {quad:v}.16b",
                sum = inout(vreg) sum,
                bytes = in(vreg) bytes,
                quad = in(vreg) quad,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    } else {
        // Two products of at most 128 · 127 are below 2^15.
        let low = vmull_s8(vget_low_s8(bytes), vget_low_s8(quad));
        let high = vmull_high_s8(bytes, quad);
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 64], quarter: usize) -> uint8x16_t {
    let (quarters, _) = bytes.as_chunks::<16>();
    // SAFETY: 16 bytes are there, and the load asks for no alignment.
    unsafe { vld1q_u8(quarters[quarter].as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_halves(values: &[f16; TILE_ROWS], quarter: usize) -> float32x4_t {
    let (quarters, _) = values.as_chunks::<QUARTER_ROWS>();
    let halves = quarters[quarter].map(f16::to_bits);
    let wide;
    // SAFETY: 8 bytes are there, and the load asks for no alignment; the instruction, which every processor with NEON
    // has, reads and writes the named registers only.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) vld1_u16(halves.as_ptr()),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

#[inline]
#[target_feature(enable = "neon")]
fn widen<T: Copy + Into<f32>>(bytes: &[T; TILE_ROWS], quarter: usize) -> float32x4_t {
    let (quarters, _) = bytes.as_chunks::<QUARTER_ROWS>();
    let values: [f32; QUARTER_ROWS] = quarters[quarter].map(Into::into);
    // SAFETY: 16 bytes are there, and the load asks for no alignment.
    unsafe { vld1q_f32(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_totals<const M: usize>(
    products: &[[f32; TILE_ROWS]; M],
    quarter: usize,
) -> [float32x4_t; M] {
    let mut totals = [vdupq_n_f32(0.0); M];
    for (total, lanes) in totals.iter_mut().zip(products) {
        let (quarters, _) = lanes.as_chunks::<QUARTER_ROWS>();
        // SAFETY: 16 bytes are there, and the load asks for no alignment.
        *total = unsafe { vld1q_f32(quarters[quarter].as_ptr()) };
    }
    totals
}

#[inline]
#[target_feature(enable = "neon")]
fn store_totals<const M: usize>(
    totals: &[float32x4_t; M],
    quarter: usize,
    products: &mut [[f32; TILE_ROWS]; M],
) {
    for (lanes, total) in products.iter_mut().zip(totals) {
        let (quarters, _) = lanes.as_chunks_mut::<QUARTER_ROWS>();
        // SAFETY: there is room for 16 bytes, and the store asks for no alignment.
        unsafe { vst1q_f32(quarters[quarter].as_mut_ptr(), *total) };
    }
}
