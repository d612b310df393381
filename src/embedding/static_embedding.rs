//! The embedder inside the binary: a text's vector is the weighted sum of its sub-words' vectors, at unit length.
//!
//! In come a vocabulary (one entry a line) and a table of 4-bit rows with one scale each, in safetensors; both are
//! compiled in, and a row is read from the table when a text needs it: opening copies no weights. What the vocabulary
//! does not hold gets a vector computed from its hash (a random projection), so that names and numbers never seen
//! in training still tell passages apart. The recipe that trains the table stands in `examples/train_builtin`.
//!
//! It knows no order of words and no context: it is quick and needs no download, and it is meant to stand beside a
//! lexical leg. A text is the same vector alone and in a batch, bit by bit.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::subwords::{Feature, Subwords};
use super::{Embed, EmbedderId};
use crate::alignment::Alignment;

/// What a user types for this embedder.
pub const NAME: &str = "builtin";

/// Rows of the table: `[vocabulary, dimension / 2]`, two [numbers](two_numbers) a byte: the low four bits of a row's bytes
/// are its first half, the high four its second.
pub const ROWS: &str = "rows";
/// What a row is to be multiplied by: `[vocabulary]`, 32-bit floats.
pub const SCALES: &str = "scales";
/// The greatest number that 4 bits stand for; the least is its negative, and the steps are of 1.
pub const GREATEST: f32 = 7.5;

/// What a computed row of −128..=127 is to be multiplied by: `[1]`, 32-bit float.
pub const BUCKET_SCALE: &str = "bucket_scale";

static VOCABULARY: &str = include_str!("builtin/vocabulary.txt");
static MODEL: &[u8] = include_bytes!("builtin/model.safetensors");
static FINGERPRINT: &str = include_str!("builtin/fingerprint.txt");

/// Opens the embedder that is part of the binary.
///
/// # Errors
/// When the files compiled in do not fit together: a fault of the build, not of the user.
pub fn builtin() -> Result<StaticEmbedding<'static>> {
    StaticEmbedding::new(VOCABULARY, MODEL, FINGERPRINT.trim()).context("built-in embedder")
}

/// A vocabulary and the table of its rows.
#[derive(Debug)]
pub struct StaticEmbedding<'m> {
    id: EmbedderId,
    subwords: Subwords<'m>,
    rows: &'m [u8],
    scales: &'m [u8],
    bucket_scale: f32,
}

impl<'m> StaticEmbedding<'m> {
    /// Reads a model: a vocabulary with one entry a line, and a safetensors file of [`ROWS`], [`SCALES`] and
    /// [`BUCKET_SCALE`].
    ///
    /// # Errors
    /// When the file is not safetensors, lacks a tensor, or its shapes do not fit the vocabulary.
    pub fn new(vocabulary: &'m str, model: &'m [u8], fingerprint: &str) -> Result<Self> {
        let subwords = Subwords::new(vocabulary);
        let n_rows = subwords.n_rows() as usize;
        let model = SafeTensors::deserialize(model).context("model: not a safetensors file")?;
        let tensor = |name: &str, dtype: Dtype| {
            let view = model
                .tensor(name)
                .with_context(|| format!("model: {name}"))?;
            let found = view.dtype();
            ensure!(
                found == dtype,
                "model: {name}: expected {dtype:?}, found {found:?}"
            );
            anyhow::Ok(view)
        };
        let rows = tensor(ROWS, Dtype::U8)?;
        let scales = tensor(SCALES, Dtype::F32)?;
        let bucket_scale = tensor(BUCKET_SCALE, Dtype::F32)?;
        let dimension = 2 * *rows.shape().last().unwrap_or(&0);
        ensure!(
            dimension > 0 && rows.shape() == [n_rows, dimension / 2],
            "model: {ROWS}: expected [{n_rows}, dimension / 2] for a vocabulary of {n_rows}, found {:?}",
            rows.shape()
        );
        ensure!(
            scales.shape() == [n_rows] && bucket_scale.shape() == [1],
            "model: {SCALES}, {BUCKET_SCALE}: expected [{n_rows}] and [1], found {:?} and {:?}",
            scales.shape(),
            bucket_scale.shape()
        );
        Ok(Self {
            id: EmbedderId {
                name: NAME.to_string(),
                fingerprint: fingerprint.to_string(),
                dimension,
            },
            subwords,
            rows: rows.data(),
            scales: scales.data(),
            bucket_scale: float_at(bucket_scale.data(), 0)?,
        })
    }

    /// One word → the sum of its rows, `[dimension]`, as long as the word is telling; zeros for what is no word.
    ///
    /// # Errors
    /// When the table lacks a row.
    pub fn word(&self, word: &str) -> Result<Vec<f32>> {
        self.sum(&self.subwords.features(word))
    }

    /// Text → `[dimension]`, unit length. A text without a letter or a digit has no meaning to compare: it gets the
    /// first axis, always the same one.
    fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let features = self.subwords.features(text);
        let sum = self.sum(&features).context("built-in embedder")?;
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > f32::MIN_POSITIVE {
            Ok(sum.into_iter().map(|x| x / length).collect())
        } else {
            Ok(first_axis(self.id.dimension))
        }
    }

    /// The features' rows added up, each by its weight.
    fn sum(&self, features: &[Feature]) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; self.id.dimension];
        for feature in features {
            self.add_row(*feature, &mut sum)?;
        }
        Ok(sum)
    }

    /// Adds one feature's row, by its weight.
    fn add_row(&self, feature: Feature, sum: &mut [f32]) -> Result<()> {
        let dimension = self.id.dimension;
        if let Some(bucket) = feature.id.checked_sub(self.subwords.n_rows()) {
            let weight = feature.weight * self.bucket_scale;
            for (sum, x) in sum.iter_mut().zip(bucket_row(bucket, dimension)) {
                *sum += weight * x;
            }
            return Ok(());
        }
        let row = feature.id as usize;
        let n_bytes = dimension / 2;
        let bytes = self
            .rows
            .get(row * n_bytes..(row + 1) * n_bytes)
            .with_context(|| format!("no row {row}"))?;
        let weight = feature.weight * float_at(self.scales, row)?;
        let (low, high) = sum.split_at_mut(n_bytes);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            *low += weight * (f32::from(byte & 15) - GREATEST);
            *high += weight * (f32::from(byte >> 4) - GREATEST);
        }
        Ok(())
    }
}

impl Embed for StaticEmbedding<'_> {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        self.embed(text)
    }

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        texts.par_iter().map(|text| self.embed(text)).collect()
    }

    fn alignment(&self, question: &str) -> Result<Option<Alignment<'_>>> {
        Alignment::new(self, question).map(Some)
    }
}

/// The vector of what the vocabulary does not hold: whole numbers of −128..=127 that look random and depend on
/// nothing but the bucket's number (SplitMix64: Steele, Lea, Flood 2014).
pub fn bucket_row(bucket: u32, dimension: usize) -> impl Iterator<Item = f32> {
    let mut state = (u64::from(bucket) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    })
    .flatten()
    .take(dimension)
    .map(|byte| f32::from(byte.cast_signed()))
}

/// Two numbers of −[`GREATEST`]..=[`GREATEST`] in a byte, each the nearest that 4 bits can say: −7.5, −6.5 … 7.5.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=15 before"
)]
pub fn two_numbers(numbers: [f32; 2]) -> u8 {
    let [low, high] = numbers.map(|x| (x + GREATEST).round().clamp(0.0, 15.0) as u8);
    low | high << 4
}

fn first_axis(dimension: usize) -> Vec<f32> {
    let mut axis = vec![0.0; dimension];
    axis[0] = 1.0;
    axis
}

fn float_at(bytes: &[u8], at: usize) -> Result<f32> {
    let four = bytes
        .get(at * 4..)
        .and_then(|rest| rest.first_chunk::<4>())
        .with_context(|| format!("no number {at}"))?;
    Ok(f32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn similarity(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn every_text_has_a_unit_vector() {
        let embedder = builtin().unwrap();
        let long = "휴직 기간은 2년으로 한다. ".repeat(2000);
        for text in [
            "휴직", "쀍뷁", "xyzzy", "3", "", " \n", "?!", "\u{0}", "\u{feff}", &long,
        ] {
            let vector = embedder.embed_query(text).unwrap();
            assert_eq!(vector.len(), embedder.id().dimension, "{text:.20}");
            let length = similarity(&vector, &vector);
            assert!((length - 1.0).abs() < 1e-4, "{text:.20}: {length}");
        }
    }

    #[test]
    fn a_text_alone_is_the_same_as_in_a_batch() {
        let embedder = builtin().unwrap();
        let texts: Vec<String> = (0..200)
            .map(|i| {
                format!(
                    "제{i}조(육아휴직) {}",
                    "휴직 기간은 최대 2년으로 한다. ".repeat(i % 40)
                )
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = embedder.embed_passages(&texts).unwrap();
        for (text, together) in texts.iter().zip(&batch) {
            let alone = embedder.embed_query(text).unwrap();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&alone), bits(together), "{text:.20}");
        }
    }

    #[test]
    fn near_texts_are_nearer_than_far_ones() {
        let embedder = builtin().unwrap();
        let check = |query: &str, near: &str, far: &str| {
            let [query, near, far] = [query, near, far].map(|t| embedder.embed_query(t).unwrap());
            let (near, far) = (similarity(&query, &near), similarity(&query, &far));
            assert!(near > far, "{near} ≤ {far}");
        };
        check("육아휴직 기간", "육아 휴직 기간", "근무 복장 기준");
        check("육아휴직", "아이를 키우기 위한 휴직", "차량 운행 관리");
        check(
            "야근 수당 얼마예요?",
            "연장근로에 대한 가산임금",
            "도로의 구조와 시설",
        );
        check(
            "퇴사하면 돈을 받나요?",
            "퇴직급여를 지급한다",
            "도로의 구조와 시설",
        );
        check(
            "parental leave",
            "육아휴직 기간은 2년으로 한다",
            "도로의 구조와 시설",
        );
        check("쀍뷁 설명해줘", "쀍뷁은 물건이다", "물건은 물건이다");
    }

    /// The sum that the vectors are, written out.
    #[test]
    fn a_vector_is_the_weighted_sum_of_rows() {
        let vocabulary = "기간\n휴직";
        let rows = [[7.5, -7.5], [0.5, 1.5], [1.5, 3.5], [2.5, -0.5]];
        let data: Vec<u8> = rows.into_iter().map(two_numbers).collect();
        let scales: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let model = safetensors::serialize(
            [
                (
                    ROWS,
                    safetensors::tensor::TensorView::new(Dtype::U8, vec![2, 2], &data).unwrap(),
                ),
                (
                    SCALES,
                    safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &scales).unwrap(),
                ),
                (
                    BUCKET_SCALE,
                    safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &scales[4..])
                        .unwrap(),
                ),
            ],
            None,
        )
        .unwrap();
        let embedder = StaticEmbedding::new(vocabulary, &model, "").unwrap();
        let check = |text: &str, sum: [f32; 4]| {
            let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
            let vector = embedder.embed_query(text).unwrap();
            for (got, expected) in vector.iter().zip(sum.map(|x| x / length)) {
                assert!((got - expected).abs() < 1e-6, "{text}: {vector:?}");
            }
        };
        check("기간", [3.75, 0.25, -3.75, 0.75]);
        check("휴직", [3.0, 5.0, 7.0, -1.0]);
        check("휴직 기간", [6.75, 5.25, 3.25, -0.25]);
        check("휴직 휴직 휴직 휴직 기간", [9.75, 10.25, 10.25, -1.25]);
        let unknown: Vec<f32> =
            bucket_row(embedder.subwords.features("쀍뷁")[0].id - 2, 4).collect();
        check("쀍뷁", [unknown[0], unknown[1], unknown[2], unknown[3]]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let check = |vocabulary: &str, model: &[u8], expected: &str| {
            let error = StaticEmbedding::new(vocabulary, model, "").unwrap_err();
            let chain = format!("{error:#}");
            assert!(chain.contains(expected), "{chain}");
        };
        check(VOCABULARY, b"", "model: not a safetensors file");
        check(
            VOCABULARY,
            &MODEL[..MODEL.len() / 2],
            "model: not a safetensors file",
        );
        check(
            "휴직\n기간\n",
            MODEL,
            "model: rows: expected [2, dimension / 2] for a vocabulary of 2, found [",
        );
    }

    #[test]
    fn the_fingerprint_is_the_digest_of_the_files() {
        let digest = Sha256::new()
            .chain_update(VOCABULARY)
            .chain_update(MODEL)
            .finalize();
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(FINGERPRINT.trim(), digest);
    }
}
