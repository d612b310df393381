//! Products of tiles by AVX2: one vector holds four columns of 8 rows, so that a tile is two halves.
//!
//! `vpmaddubsw` adds products of two bytes in 16 bits. How many of its sums fit 16 bits is said where they are added.
//! The floating-point operations and their order are those of [`super::avx512`], so that the results are the same.

use std::arch::x86_64::*;

use half::f16;

use super::{Block, TILE_ROWS, TileQ4K, TileQ6K, TileQ8_0, blocks_of, prefetch_after};

/// Rows of half a tile.
const HALF_ROWS: usize = TILE_ROWS / 2;

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_q4k<const M: usize>(
    strip: &[TileQ4K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = _mm256_set1_epi8(15);
    let mut products = [[0f32; TILE_ROWS]; M];
    for half in 0..2 {
        let mut totals = [_mm256_setzero_ps(); M];
        for (index, tile) in strip.iter().enumerate() {
            let blocks = blocks_of(rows, index);
            let (d, dmin) = (load_halves(&tile.d, half), load_halves(&tile.dmin, half));
            let (quants, _) = tile.quants.as_chunks::<4>();
            for sub in 0..8 {
                // Eight times two products of at most 15 · 127 are below 2^15.
                let mut sums = [_mm256_setzero_si256(); M];
                for (group, bytes) in quants[sub].iter().enumerate() {
                    let both = load(bytes, half);
                    let low = _mm256_and_si256(both, nibble);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
                    for m in 0..M {
                        let quads = &blocks[m][sub].quads;
                        let first = pairs(low, quads[group * 2]);
                        let second = pairs(high, quads[group * 2 + 1]);
                        sums[m] = _mm256_add_epi16(sums[m], _mm256_add_epi16(first, second));
                    }
                }
                let scale = _mm256_mul_ps(d, widen_unsigned(&tile.scales[sub], half));
                let min = _mm256_mul_ps(dmin, widen_unsigned(&tile.mins[sub], half));
                for m in 0..M {
                    let block = &blocks[m][sub];
                    let factor = _mm256_mul_ps(scale, _mm256_set1_ps(block.scale));
                    let sum = _mm256_cvtepi32_ps(join_pairs(sums[m]));
                    totals[m] = _mm256_fmadd_ps(sum, factor, totals[m]);
                    totals[m] = _mm256_fnmadd_ps(min, _mm256_set1_ps(block.scaled_sum), totals[m]);
                }
            }
        }
        store(&totals, half, &mut products);
    }
    products
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_q6k<const M: usize>(
    strip: &[TileQ6K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = _mm256_set1_epi8(15);
    let upper = _mm256_set1_epi8(0x30);
    let mut products = [[0f32; TILE_ROWS]; M];
    for half in 0..2 {
        let mut totals = [_mm256_setzero_ps(); M];
        for (index, tile) in strip.iter().enumerate() {
            let blocks = blocks_of(rows, index);
            let d = load_halves(&tile.d, half);
            let (low, _) = tile.low.as_chunks::<2>();
            for sub in 0..16 {
                let high = load(&tile.high[sub], half);
                let first = load(&low[sub][0], half);
                let second = load(&low[sub][1], half);
                let join = |low, high| {
                    let low = _mm256_and_si256(low, nibble);
                    _mm256_or_si256(low, _mm256_and_si256(high, upper))
                };
                let quads = [
                    join(first, _mm256_slli_epi16::<4>(high)),
                    join(_mm256_srli_epi16::<4>(first), _mm256_slli_epi16::<2>(high)),
                    join(second, high),
                    join(_mm256_srli_epi16::<4>(second), _mm256_srli_epi16::<2>(high)),
                ];
                let scale = _mm256_mul_ps(d, widen_signed(&tile.scales[sub], half));
                for m in 0..M {
                    let block = &blocks[m][sub / 2];
                    // Quants are stored 32 too high.
                    let mut sum = _mm256_set1_epi32(-32 * block.sums[sub % 2]);
                    for pair in 0..2 {
                        let quad = sub % 2 * 4 + pair * 2;
                        // Twice two products of at most 63 · 127 are below 2^15.
                        let first = pairs(quads[pair * 2], block.quads[quad]);
                        let second = pairs(quads[pair * 2 + 1], block.quads[quad + 1]);
                        let both = join_pairs(_mm256_add_epi16(first, second));
                        sum = _mm256_add_epi32(sum, both);
                    }
                    let factor = _mm256_mul_ps(scale, _mm256_set1_ps(block.scale));
                    totals[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), factor, totals[m]);
                }
            }
        }
        store(&totals, half, &mut products);
    }
    products
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply_q8_0<const M: usize>(
    strip: &[TileQ8_0],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let sign_bit = _mm256_set1_epi8(i8::MIN);
    let mut products = [[0f32; TILE_ROWS]; M];
    for half in 0..2 {
        let mut totals = [_mm256_setzero_ps(); M];
        for (index, tile) in strip.iter().enumerate() {
            let d = load_halves(&tile.d, half);
            let mut sums = [_mm256_setzero_si256(); M];
            for (quad, bytes) in tile.quants.iter().enumerate() {
                // Quants are stored 128 too high, too much for 16 bits: their signs go to the activations, and two
                // products of at most 128 · 127 are below 2^15.
                let values = _mm256_xor_si256(load(bytes, half), sign_bit);
                let magnitudes = _mm256_abs_epi8(values);
                for m in 0..M {
                    let quad = _mm256_set1_epi32(rows[m][index].quads[quad]);
                    let signed = _mm256_sign_epi8(quad, values);
                    let both = join_pairs(_mm256_maddubs_epi16(magnitudes, signed));
                    sums[m] = _mm256_add_epi32(sums[m], both);
                }
            }
            for m in 0..M {
                let factor = _mm256_mul_ps(d, _mm256_set1_ps(rows[m][index].scale));
                totals[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[m]), factor, totals[m]);
            }
        }
        store(&totals, half, &mut products);
    }
    products
}

/// Of each four unsigned bytes with the four signed bytes of `quad`: two sums of two products, 16 bits each.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(bytes: __m256i, quad: i32) -> __m256i {
    _mm256_maddubs_epi16(bytes, _mm256_set1_epi32(quad))
}

/// Adds neighbours of 16 bits to sums of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn join_pairs(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 64], half: usize) -> __m256i {
    prefetch_after(bytes);
    let (halves, _) = bytes.as_chunks::<32>();
    // SAFETY: 32 bytes are there, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_halves(values: &[f16; TILE_ROWS], half: usize) -> __m256 {
    let (halves, _) = values.as_chunks::<HALF_ROWS>();
    // SAFETY: 16 bytes are there, and the load asks for no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves[half].as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_unsigned(bytes: &[u8; TILE_ROWS], half: usize) -> __m256 {
    let (halves, _) = bytes.as_chunks::<HALF_ROWS>();
    // SAFETY: 8 bytes are there, and the load asks for no alignment.
    let bytes = unsafe { _mm_loadl_epi64(halves[half].as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_signed(bytes: &[i8; TILE_ROWS], half: usize) -> __m256 {
    let (halves, _) = bytes.as_chunks::<HALF_ROWS>();
    // SAFETY: 8 bytes are there, and the load asks for no alignment.
    let bytes = unsafe { _mm_loadl_epi64(halves[half].as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<const M: usize>(totals: &[__m256; M], half: usize, products: &mut [[f32; TILE_ROWS]; M]) {
    for (lanes, total) in products.iter_mut().zip(totals) {
        let (halves, _) = lanes.as_chunks_mut::<HALF_ROWS>();
        // SAFETY: there is room for 32 bytes, and the store asks for no alignment.
        unsafe { _mm256_storeu_ps(halves[half].as_mut_ptr(), *total) };
    }
}
