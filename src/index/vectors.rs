//! The vector cache: all vectors quantised to 8 bits, mapped into memory, scanned or handed to the graph.
//!
//! A row is the vector's numbers as `i8` in units of the row's own scale, then that scale (`f32`). The quantised
//! similarity only chooses candidates; the caller computes theirs again from the vectors in the database. Where the rows
//! are very many, one bit of each number (`codes.rs`) chooses the rows that are looked at. Rows are in ascending order of
//! vector id, and a new cache keeps the rows of the one before it, dead ones too, so that a graph over them stays right;
//! only a new graph starts from living rows alone.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::codes::{self, CodedQuery, Encoder, ROWS_PER_GROUP};
use super::filter::Bits;
use super::mapped::{Blocks, Builder, Kind, Mapped, Parameters};

const ROWS: usize = 0;
const IDS: usize = 1;
/// Codes of the rows and the centre they were made with (`f32`); caches of the first months have neither.
const CODES: usize = 2;
const CENTRE: usize = 3;
/// Bytes that follow a row's numbers: its scale.
pub(super) const SCALE_BYTES: usize = 4;
/// Bits of codes that must be compared for each row wanted, since fewer numbers tell less: 24 rows of 384 numbers, 36 of
/// 256. Of 619,914 statute passages, 384 numbers each, and 100 everyday questions, 1,024 rows chosen for a question held
/// .999 of the best 10 and .990 of the best 100; 4,096 held all of the best 10 and .999 of the best 100.
const CODE_BITS_PER_ROW: usize = 9216;
/// Rows that are chosen however few are wanted.
const FEWEST_CHOSEN: usize = 4096;
/// Of the rows chosen, the best so many are looked at, then the next, until hardly one more is among the best: then those
/// that follow hold hardly any. For the questions above that was after 1,080 rows to find 28 and after 1,551 to find 141,
/// with all of the best 10 and .997 of the best 100.
const ROWS_PER_BATCH: usize = 512;
/// One new row in so many of the best is hardly one.
const ROWS_PER_NEW: usize = 128;
/// Rows that are checked and scanned together; at most about a quarter of a megabyte, so that they are still in the cache
/// of the processor after the check. Whole groups of codes.
const ROWS_PER_PIECE: usize = 1024;
/// Rows that are passed over together when none of them is better than the worst of the best.
const ROWS_PER_LOOK: usize = 32;

/// The mapped file.
#[derive(Debug)]
pub(super) struct VectorCache {
    file: Mapped,
    has_codes: bool,
    dimension: usize,
    n_rows: usize,
    last_id: i64,
}

/// A vector in the form of a row: `dimension` numbers and the scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(Vec<u8>);

impl Row {
    /// Quantises a vector; the largest number becomes ±127.
    pub(super) fn new(vector: &[f32]) -> Row {
        let largest = vector.iter().fold(0_f32, |largest, x| largest.max(x.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within ±127 by the choice of scale"
        )]
        let numbers = vector
            .iter()
            .map(|x| ((x / scale).round() as i8).cast_unsigned());
        Row(numbers.chain(scale.to_le_bytes()).collect())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl VectorCache {
    /// Maps the cache of vectors of this dimension whose header has this checksum.
    pub(super) fn open(path: &Path, checksum: u32, dimension: usize) -> Result<VectorCache> {
        let file = Mapped::open(path, Kind::Vectors, checksum)?;
        let [stored_dimension, n_rows, last_id, ..] = *file.parameters();
        let n_rows = usize::try_from(n_rows)?;
        ensure!(
            stored_dimension == u64::try_from(dimension)?
                && file.section_bytes(ROWS) == n_rows * (dimension + SCALE_BYTES)
                && file.section_bytes(IDS) == n_rows * 8,
            "{}: damaged",
            path.display()
        );
        let codes_bytes = n_rows.div_ceil(ROWS_PER_GROUP) * codes::group_bytes(dimension);
        let has_codes = n_rows > 0
            && file.section_bytes(CODES) == codes_bytes
            && file.section_bytes(CENTRE) == dimension * 4;
        Ok(VectorCache {
            file,
            has_codes,
            dimension,
            n_rows,
            last_id: i64::try_from(last_id)?,
        })
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Vectors with greater ids are not in the cache.
    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    pub(super) fn file(&self) -> &Mapped {
        &self.file
    }

    /// The vector a row was made from.
    pub(super) fn id(&self, row: usize) -> Result<i64> {
        Ok(i64::try_from(self.file.u64_at(IDS, row)?)?)
    }

    /// Bytes of a row, as [`Row`] has them.
    pub(super) fn row(&self, row: usize) -> Result<&[u8]> {
        let n_bytes = self.dimension + SCALE_BYTES;
        self.file.bytes(ROWS, row * n_bytes..(row + 1) * n_bytes)
    }

    /// All rows, one after the other, each checked now.
    pub(super) fn all_rows(&self) -> Result<&[u8]> {
        self.file.bytes(ROWS, 0..self.n_rows * self.row_bytes())
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.dimension + SCALE_BYTES
    }

    /// The rows of these vectors.
    pub(super) fn rows_of(&self, ids: &Bits) -> Result<Bits> {
        let (of_rows, _) = self.file.bytes(IDS, 0..self.n_rows * 8)?.as_chunks::<8>();
        let mut rows = Bits::default();
        for (row, id) in of_rows.iter().enumerate() {
            if ids.contains_id(i64::from_le_bytes(*id)) {
                rows.insert(row);
            }
        }
        Ok(rows)
    }

    /// The `n` rows from `first` on that are most similar to the query, of those allowed, best first, with their
    /// quantised similarity.
    pub(super) fn scan(
        &self,
        query: &Row,
        first: usize,
        n: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<(usize, f32)>> {
        let similarity = Similarity::new();
        let n_bytes = self.dimension + SCALE_BYTES;
        let mut best = Best::new(n);
        if let Some(allowed) = allowed {
            let mut at = first;
            while let Some(row) = allowed.next(at) {
                best.offer(row, similarity.of(query.as_bytes(), self.row(row)?));
                at = row + 1;
            }
            return Ok(best.into_sorted());
        }
        for start in (first..self.n_rows).step_by(ROWS_PER_PIECE) {
            let end = self.n_rows.min(start + ROWS_PER_PIECE);
            let rows = self.file.bytes(ROWS, start * n_bytes..end * n_bytes)?;
            for (i, row) in rows.chunks_exact(n_bytes).enumerate() {
                best.offer(start + i, similarity.of(query.as_bytes(), row));
            }
        }
        Ok(best.into_sorted())
    }

    /// As [`VectorCache::scan`], but nearly: of the rows that the codes choose, an eighth of all at most. `None` when that
    /// would be too few, or there are no codes.
    pub(super) fn scan_by_codes(
        &self,
        query: &[f32],
        first: usize,
        n: usize,
        allowed: Option<&Bits>,
    ) -> Result<Option<Vec<(usize, f32)>>> {
        let n_chosen = n
            .saturating_mul(CODE_BITS_PER_ROW / self.dimension.max(1))
            .max(n * 4)
            .max(FEWEST_CHOSEN);
        let n_rows = allowed.map_or(self.n_rows, Bits::len);
        if !self.has_codes || n_chosen > n_rows / 8 {
            return Ok(None);
        }
        let similarity = Similarity::new();
        let row_query = Row::new(query);
        let n_bytes = self.row_bytes();
        let mut found = Vec::new();
        let mut blocks = Blocks::default();
        for batch in self
            .choose_by_codes(query, first, n_chosen, allowed)?
            .chunks_mut(ROWS_PER_BATCH)
        {
            batch.sort_unstable();
            for &row in &*batch {
                let range = row * n_bytes..(row + 1) * n_bytes;
                let bytes = self.file.read(ROWS, range, &mut blocks)?;
                found.push((row, similarity.of(row_query.as_bytes(), bytes)));
            }
            found.sort_unstable_by(better_first);
            found.truncate(n);
            let is_new = |one: &&(usize, f32)| batch.binary_search(&one.0).is_ok();
            if found.len() == n && found.iter().filter(is_new).count() <= n / ROWS_PER_NEW {
                break;
            }
        }
        Ok(Some(found))
    }

    /// About the `n` most similar rows from `first` on, best first.
    fn choose_by_codes(
        &self,
        query: &[f32],
        first: usize,
        n: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<usize>> {
        let (centre, _) = self
            .file
            .bytes(CENTRE, 0..self.dimension * 4)?
            .as_chunks::<4>();
        let centre: Vec<f32> = centre.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let query = CodedQuery::new(query, &centre);
        let n_bytes = codes::group_bytes(self.dimension);
        let mut best = Best::new(n);
        let mut similarities = Vec::with_capacity(ROWS_PER_PIECE);
        self.file.map_now(CODES);
        let first_piece = first / ROWS_PER_PIECE * ROWS_PER_PIECE;
        for start in (first_piece..self.n_rows).step_by(ROWS_PER_PIECE) {
            let end = self.n_rows.min(start + ROWS_PER_PIECE);
            let groups = start / ROWS_PER_GROUP..end.div_ceil(ROWS_PER_GROUP);
            let groups = groups.start * n_bytes..groups.end * n_bytes;
            query.similarities(self.file.next_bytes(CODES, groups)?, &mut similarities);
            for (rows, similarities) in (start..end)
                .step_by(ROWS_PER_LOOK)
                .zip(similarities.chunks(ROWS_PER_LOOK))
            {
                // Without an end in between, so that many are compared at once.
                let worst = best.worst().unwrap_or(i32::MIN);
                if !similarities.iter().fold(false, |any, &s| any | (s > worst)) {
                    continue;
                }
                // And without a branch for each, which nobody can foretell.
                let (mut better, mut n_better) = ([0; ROWS_PER_LOOK], 0);
                for (i, &similarity) in similarities.iter().enumerate() {
                    if let Some(place) = better.get_mut(n_better) {
                        *place = i;
                    }
                    n_better += usize::from(similarity > worst);
                }
                for &i in better.iter().take(n_better) {
                    let row = rows + i;
                    if row >= first
                        && row < end
                        && allowed.is_none_or(|allowed| allowed.contains(row))
                        && let Some(similarity) = similarities.get(i)
                    {
                        best.offer(row, *similarity);
                    }
                }
            }
        }
        Ok(best.into_sorted().into_iter().map(|best| best.0).collect())
    }
}

/// Writes a cache with the rows of `old` and then the given vectors, in ascending order of id; `centre` is about the mean
/// of them all. Returns the checksum of its header.
pub(super) fn write(
    path: &Path,
    centre: &[f32],
    old: Option<&VectorCache>,
    new: impl FnOnce(&mut dyn FnMut(i64, &[f32]) -> Result<()>) -> Result<()>,
) -> Result<u32> {
    let Some(folder) = path.parent() else {
        bail!("{}: no folder", path.display())
    };
    let dimension = centre.len();
    let mut builder = Builder::new(folder)?;
    let mut encoder = Encoder::new(centre);
    builder.begin_section()?;
    let mut ids = Vec::new();
    if let Some(old) = old {
        for row in 0..old.n_rows {
            encoder.push(old.row(row)?);
            builder.write(old.row(row)?)?;
            ids.push(old.id(row)?);
        }
    }
    new(&mut |id, vector| {
        ensure!(
            vector.len() == dimension,
            "vector {id}: {} dimensions, expected {dimension}",
            vector.len()
        );
        ensure!(
            ids.last().is_none_or(|&last| last < id),
            "vector {id}: out of order"
        );
        ids.push(id);
        let row = Row::new(vector);
        encoder.push(row.as_bytes());
        builder.write(row.as_bytes())
    })?;
    builder.begin_section()?;
    for id in &ids {
        builder.write(&id.to_le_bytes())?;
    }
    builder.begin_section()?;
    builder.write(&encoder.finish())?;
    builder.begin_section()?;
    for x in centre {
        builder.write(&x.to_le_bytes())?;
    }
    let mut parameters = Parameters::default();
    parameters[0] = u64::try_from(dimension)?;
    parameters[1] = u64::try_from(ids.len())?;
    parameters[2] = u64::try_from(ids.last().copied().unwrap_or(0))?;
    builder.finish(path, Kind::Vectors, &parameters)
}

/// The best `n` of many; of equals the first.
pub(super) struct Best<S> {
    n: usize,
    /// A heap would do; sorting a buffer of twice the length now and then is simpler and as fast.
    buffer: Vec<(usize, S)>,
    worst: Option<S>,
}

impl<S: Copy + PartialOrd> Best<S> {
    pub(super) fn new(n: usize) -> Best<S> {
        Best {
            n,
            buffer: Vec::new(),
            worst: None,
        }
    }

    /// What an item must exceed to be among the best, as far as is known.
    pub(super) fn worst(&self) -> Option<S> {
        self.worst
    }

    /// Items are offered in ascending order.
    #[inline]
    pub(super) fn offer(&mut self, item: usize, similarity: S) {
        if self.worst.is_none_or(|worst| similarity > worst) {
            self.buffer.push((item, similarity));
            if self.buffer.len() >= 2 * self.n + 64 {
                self.prune();
            }
        }
    }

    fn prune(&mut self) {
        if let Some(last) = self.n.checked_sub(1)
            && last < self.buffer.len()
        {
            let (_, worst, _) = self.buffer.select_nth_unstable_by(last, better_first);
            self.worst = Some(worst.1);
        }
        self.buffer.truncate(self.n);
    }

    pub(super) fn into_sorted(mut self) -> Vec<(usize, S)> {
        self.prune();
        self.buffer.sort_unstable_by(better_first);
        self.buffer
    }
}

fn better_first<S: PartialOrd>(a: &(usize, S), b: &(usize, S)) -> std::cmp::Ordering {
    // Nothing that is not a number gets here: rows, scales and weights are finite.
    let order = b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal);
    order.then(a.0.cmp(&b.0))
}

/// Cosine similarity of two rows, with the widest instructions this processor has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Similarity {
    dot: fn(&[u8], &[u8]) -> i32,
}

impl Similarity {
    pub(super) fn new() -> Similarity {
        Similarity { dot: fastest_dot() }
    }

    /// Of two rows of the same length.
    #[inline]
    pub(super) fn of(self, a: &[u8], b: &[u8]) -> f32 {
        let (Some((a, a_scale)), Some((b, b_scale))) = (
            a.split_last_chunk::<SCALE_BYTES>(),
            b.split_last_chunk::<SCALE_BYTES>(),
        ) else {
            return 0.0;
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "24 bits are more than the numbers deserve"
        )]
        let dot = (self.dot)(a, b) as f32;
        dot * f32::from_le_bytes(*a_scale) * f32::from_le_bytes(*b_scale)
    }
}

/// Sum of products of signed bytes. The sum of 65,536 of them still fits; saying that it may wrap lets the compiler use
/// vector instructions in builds that check for overflow, too.
#[inline(always)]
fn dot(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (a, b)| {
        sum.wrapping_add(i32::from(a.cast_signed()).wrapping_mul(i32::from(b.cast_signed())))
    })
}

/// NEON is part of every 64-bit ARM processor, so there [`dot`] is compiled for it already.
#[cfg(not(target_arch = "x86_64"))]
fn fastest_dot() -> fn(&[u8], &[u8]) -> i32 {
    |a, b| dot(a, b)
}

#[cfg(target_arch = "x86_64")]
fn fastest_dot() -> fn(&[u8], &[u8]) -> i32 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn dot_avx512(a: &[u8], b: &[u8]) -> i32 {
        dot(a, b)
    }

    #[target_feature(enable = "avx2")]
    fn dot_avx2(a: &[u8], b: &[u8]) -> i32 {
        dot(a, b)
    }

    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
    {
        #[expect(
            unsafe_code,
            reason = "a function compiled for instructions that not all processors have"
        )]
        // SAFETY: the processor has just been found to have them.
        return |a, b| unsafe { dot_avx512(a, b) };
    }
    if is_x86_feature_detected!("avx2") {
        #[expect(
            unsafe_code,
            reason = "a function compiled for instructions that not all processors have"
        )]
        // SAFETY: the processor has just been found to have them.
        return |a, b| unsafe { dot_avx2(a, b) };
    }
    |a, b| dot(a, b)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Unit vectors around a few centres, as those of texts are; the same for the same seed.
    pub(in super::super) fn unit_vectors(n: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut state = seed;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(state >> 48).unwrap()) / 32768.0 - 1.0
        };
        let centres: Vec<Vec<f32>> = (0..16)
            .map(|_| (0..dimension).map(|_| random()).collect())
            .collect();
        (0..n)
            .map(|i| {
                let vector: Vec<f32> = centres[i % 16].iter().map(|x| x + random()).collect();
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                vector.iter().map(|x| x / length).collect()
            })
            .collect()
    }

    pub(in super::super) fn exact(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn quantised_similarity_is_near_the_exact_one_on_every_instruction_set() {
        for dimension in [1, 7, 64, 256, 384, 1024] {
            let vectors = unit_vectors(40, dimension, 1);
            for (a, b) in vectors.iter().zip(&vectors[20..]) {
                let (row_a, row_b) = (Row::new(a), Row::new(b));
                let fast = Similarity::new().of(row_a.as_bytes(), row_b.as_bytes());
                let portable = Similarity { dot }.of(row_a.as_bytes(), row_b.as_bytes());
                assert_eq!(fast.to_bits(), portable.to_bits(), "{dimension} dimensions");
                assert!((fast - exact(a, b)).abs() < 0.01, "{dimension} dimensions");
            }
        }
    }

    #[test]
    fn a_scan_finds_the_rows_a_sort_finds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors");
        let vectors = unit_vectors(3000, 32, 2);
        let write_some = |path: &Path, old: Option<&VectorCache>, range: std::ops::Range<usize>| {
            write(path, &[0.0; 32], old, |push| {
                range
                    .into_iter()
                    .try_for_each(|i| push(i64::try_from(i).unwrap() * 2 + 1, &vectors[i]))
            })
            .unwrap()
        };
        let first = write_some(&path, None, 0..1000);
        let first = VectorCache::open(&path, first, 32).unwrap();
        let second = folder.path().join("more vectors");
        let checksum = write_some(&second, Some(&first), 1000..3000);
        let cache = VectorCache::open(&second, checksum, 32).unwrap();
        assert_eq!(
            (cache.n_rows(), cache.last_id(), cache.id(2999).unwrap()),
            (3000, 5999, 5999)
        );

        let query = Row::new(&vectors[5]);
        let similarity = Similarity::new();
        let mut all: Vec<(usize, f32)> = (700..3000)
            .map(|row| {
                (
                    row,
                    similarity.of(query.as_bytes(), cache.row(row).unwrap()),
                )
            })
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for n in [0, 1, 10, 100, 2300, 5000] {
            assert_eq!(
                cache.scan(&query, 700, n, None).unwrap(),
                all[..n.min(2300)],
                "{n} best"
            );
        }
        let mut allowed = Bits::default();
        (0..3000).step_by(7).for_each(|row| allowed.insert(row));
        let mut expected = all.clone();
        expected.retain(|(row, _)| row % 7 == 0);
        assert_eq!(
            cache.scan(&query, 700, 50, Some(&allowed)).unwrap(),
            expected[..50]
        );
        assert!(VectorCache::open(&second, checksum, 16).is_err());
    }

    #[test]
    fn codes_choose_nearly_all_that_a_scan_finds_whatever_the_mean() {
        let folder = tempfile::tempdir().unwrap();
        for offset in [0.0, 0.2] {
            let shifted = |vectors: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
                let shift = |vector: Vec<f32>| {
                    let vector: Vec<f32> = vector.iter().map(|x| x + offset).collect();
                    let length = exact(&vector, &vector).sqrt();
                    vector.iter().map(|x| x / length).collect()
                };
                vectors.into_iter().map(shift).collect()
            };
            let vectors = shifted(unit_vectors(50_000, 64, 2));
            let mut centre = vec![0.0; 64];
            for vector in &vectors {
                centre
                    .iter_mut()
                    .zip(vector)
                    .for_each(|(c, x)| *c += x / 50_000.0);
            }
            let path = folder.path().join("vectors");
            let checksum = write(&path, &centre, None, |push| {
                vectors
                    .iter()
                    .zip(1..)
                    .try_for_each(|(vector, id)| push(id, vector))
            });
            let cache = VectorCache::open(&path, checksum.unwrap(), 64).unwrap();
            let mut allowed = Bits::default();
            (0..50_000)
                .filter(|row| row % 4 != 1)
                .for_each(|row| allowed.insert(row));
            let (mut n_found, mut n_expected) = (0, 0);
            for query in shifted(unit_vectors(20, 64, 2)) {
                for (first, allowed) in [(0, None), (1500, None), (0, Some(&allowed))] {
                    let expected = cache.scan(&Row::new(&query), first, 20, allowed).unwrap();
                    let found = cache
                        .scan_by_codes(&query, first, 20, allowed)
                        .unwrap()
                        .unwrap();
                    assert!(found.iter().all(|(row, _)| *row >= first));
                    assert!(
                        found
                            .iter()
                            .all(|(row, _)| allowed.is_none_or(|a| a.contains(*row)))
                    );
                    n_expected += expected.len();
                    n_found += expected.iter().filter(|one| found.contains(one)).count();
                }
            }
            assert!(
                n_found * 100 >= n_expected * 98,
                "{n_found} of {n_expected}"
            );
            assert_eq!(
                cache.scan_by_codes(&vectors[0], 0, 100, None).unwrap(),
                None
            );
        }
    }
}
