//! Products of tiles by AVX-512 with VNNI: one vector holds four columns of all 16 rows.

use std::arch::x86_64::*;

use half::f16;

use super::{Block, TILE_ROWS, TileQ4K, TileQ6K, TileQ8_0, blocks_of, prefetch_after};

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_q4k<const M: usize>(
    strip: &[TileQ4K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = _mm512_set1_epi8(15);
    let mut totals = [_mm512_setzero_ps(); M];
    for (index, tile) in strip.iter().enumerate() {
        let blocks = blocks_of(rows, index);
        let (d, dmin) = (load_halves(&tile.d), load_halves(&tile.dmin));
        let (quants, _) = tile.quants.as_chunks::<4>();
        for sub in 0..8 {
            let mut sums = [_mm512_setzero_si512(); M];
            for (group, bytes) in quants[sub].iter().enumerate() {
                let both = load(bytes);
                let low = _mm512_and_si512(both, nibble);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
                for m in 0..M {
                    let quads = &blocks[m][sub].quads;
                    sums[m] = dot(sums[m], low, quads[group * 2]);
                    sums[m] = dot(sums[m], high, quads[group * 2 + 1]);
                }
            }
            let scale = _mm512_mul_ps(d, widen_unsigned(&tile.scales[sub]));
            let min = _mm512_mul_ps(dmin, widen_unsigned(&tile.mins[sub]));
            for m in 0..M {
                let block = &blocks[m][sub];
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(block.scale));
                totals[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m]), factor, totals[m]);
                totals[m] = _mm512_fnmadd_ps(min, _mm512_set1_ps(block.scaled_sum), totals[m]);
            }
        }
    }
    store(&totals)
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_q6k<const M: usize>(
    strip: &[TileQ6K],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let nibble = _mm512_set1_epi8(15);
    let upper = _mm512_set1_epi8(0x30);
    let mut totals = [_mm512_setzero_ps(); M];
    for (index, tile) in strip.iter().enumerate() {
        let blocks = blocks_of(rows, index);
        let d = load_halves(&tile.d);
        let (low, _) = tile.low.as_chunks::<2>();
        for sub in 0..16 {
            let high = load(&tile.high[sub]);
            let first = load(&low[sub][0]);
            let second = load(&low[sub][1]);
            let join = |low, high| {
                let low = _mm512_and_si512(low, nibble);
                _mm512_or_si512(low, _mm512_and_si512(high, upper))
            };
            let quads = [
                join(first, _mm512_slli_epi16::<4>(high)),
                join(_mm512_srli_epi16::<4>(first), _mm512_slli_epi16::<2>(high)),
                join(second, high),
                join(_mm512_srli_epi16::<4>(second), _mm512_srli_epi16::<2>(high)),
            ];
            let scale = _mm512_mul_ps(d, widen_signed(&tile.scales[sub]));
            for m in 0..M {
                let block = &blocks[m][sub / 2];
                // Quants are stored 32 too high.
                let mut sum = _mm512_set1_epi32(-32 * block.sums[sub % 2]);
                for (quad, values) in quads.iter().enumerate() {
                    sum = dot(sum, *values, block.quads[sub % 2 * 4 + quad]);
                }
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(block.scale));
                totals[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, totals[m]);
            }
        }
    }
    store(&totals)
}

/// Products of a strip with `M` rows of activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_q8_0<const M: usize>(
    strip: &[TileQ8_0],
    rows: &[&[Block]; M],
) -> [[f32; TILE_ROWS]; M] {
    let mut totals = [_mm512_setzero_ps(); M];
    for (index, tile) in strip.iter().enumerate() {
        let d = load_halves(&tile.d);
        let mut sums = [_mm512_setzero_si512(); M];
        for m in 0..M {
            // Quants are stored 128 too high.
            let [first, second] = rows[m][index].sums;
            sums[m] = _mm512_set1_epi32(-128 * (first + second));
        }
        for (quad, bytes) in tile.quants.iter().enumerate() {
            let values = load(bytes);
            for m in 0..M {
                sums[m] = dot(sums[m], values, rows[m][index].quads[quad]);
            }
        }
        for m in 0..M {
            let factor = _mm512_mul_ps(d, _mm512_set1_ps(rows[m][index].scale));
            totals[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m]), factor, totals[m]);
        }
    }
    store(&totals)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8; 64]) -> __m512i {
    prefetch_after(bytes);
    // SAFETY: 64 bytes are there, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_halves(halves: &[f16; TILE_ROWS]) -> __m512 {
    // SAFETY: 32 bytes are there, and the load asks for no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_unsigned(bytes: &[u8; TILE_ROWS]) -> __m512 {
    // SAFETY: 16 bytes are there, and the load asks for no alignment.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_signed(bytes: &[i8; TILE_ROWS]) -> __m512 {
    // SAFETY: 16 bytes are there, and the load asks for no alignment.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const M: usize>(totals: &[__m512; M]) -> [[f32; TILE_ROWS]; M] {
    let mut products = [[0f32; TILE_ROWS]; M];
    for (lanes, total) in products.iter_mut().zip(totals) {
        // SAFETY: there is room for 64 bytes, and the store asks for no alignment.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), *total) };
    }
    products
}

/// Adds to each lane the products of its four unsigned bytes with the four signed bytes of `quad`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot(sum: __m512i, bytes: __m512i, quad: i32) -> __m512i {
    _mm512_dpbusd_epi32(sum, bytes, _mm512_set1_epi32(quad))
}
