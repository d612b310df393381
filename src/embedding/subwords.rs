//! Text → the sub-word features a static embedder adds up.
//!
//! A text is normalised (NFKC, lower case) and cut into words: runs of Hangul, of other letters, of Chinese
//! characters, or of digits. A word becomes *every* substring of it that the vocabulary holds, so that 육아휴직,
//! 육아 휴직 and 육아휴직을 share most of their features whatever the spacing and the ending, and no segmentation can
//! go wrong. What the vocabulary does not cover is not dropped: it becomes a bucket of a hash, so that two texts
//! with the same unknown name, number or foreign word still meet.
//!
//! It does not know where a sentence ends or which word is an ending: the learnt weights do.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::normalisation::normalised;

/// Number of hash buckets for what the vocabulary does not hold. Vectors of buckets are computed, not stored, so
/// the number costs nothing; at this one, two of a passage's unknown words rarely share a bucket.
pub const N_BUCKETS: u32 = 1 << 16;

/// Longest substring of a word that is looked up, in characters.
pub const MAX_SUBWORD_CHARS: usize = 6;

/// Letters of a foreign word that stand for all its forms: employee, employees, employment.
const STEM_CHARS: usize = 5;

/// Marks a vocabulary entry that is the beginning of a longer foreign word.
const STEM_MARK: char = '*';

/// A feature of a text and how much it counts there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feature {
    /// Below the vocabulary's length: the entry of that number. From there on: the hash bucket of that number less
    /// the vocabulary's length.
    pub id: u32,
    /// Square root of the number of occurrences: the tenth mention says less than the first.
    pub weight: f32,
}

/// The vocabulary: strings to row numbers.
#[derive(Debug)]
pub struct Subwords<'v> {
    rows: HashMap<&'v str, u32, BuildHasherDefault<Fnv1a>>,
    n_rows: u32,
}

impl<'v> Subwords<'v> {
    /// Reads a vocabulary with one entry on each line; the number of the line is the number of the row.
    #[must_use]
    pub fn new(vocabulary: &'v str) -> Self {
        let mut rows =
            HashMap::with_capacity_and_hasher(vocabulary.len() / 8, BuildHasherDefault::default());
        let mut n_rows = 0;
        for entry in vocabulary.lines() {
            rows.insert(entry, n_rows);
            n_rows += 1;
        }
        Self { rows, n_rows }
    }

    /// Number of entries; ids of hash buckets start here.
    #[must_use]
    pub fn n_rows(&self) -> u32 {
        self.n_rows
    }

    /// The features of a text, each once, by growing id. Empty when the text holds no letter and no digit.
    #[must_use]
    pub fn features(&self, text: &str) -> Vec<Feature> {
        let mut ids = Vec::with_capacity(text.len());
        for_each_word(text, |class, word| self.push_word(class, word, &mut ids));
        ids.sort_unstable();
        ids.chunk_by(|a, b| a == b)
            .map(|same| Feature {
                id: same[0],
                weight: (same.len() as f32).sqrt(),
            })
            .collect()
    }

    fn push_word(&self, class: WordClass, word: &str, ids: &mut Vec<u32>) {
        match class {
            WordClass::Hangul | WordClass::Han => self.push_substrings(word, ids),
            WordClass::Digits => ids.push(self.id_of(word)),
            WordClass::Letters => {
                ids.push(self.id_of(word));
                if let Some(stem) = stem(word) {
                    ids.push(self.id_of(&stem));
                }
            }
        }
    }

    /// Every substring of two to [`MAX_SUBWORD_CHARS`] characters that the vocabulary holds, and as hash buckets
    /// the pairs of characters that lie in none of them. A word of one character is its own substring.
    fn push_substrings(&self, word: &str, ids: &mut Vec<u32>) {
        let ends: Vec<usize> = word
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .collect();
        if ends.len() == 1 {
            ids.push(self.id_of(word));
            return;
        }
        let mut start = 0;
        let mut covered_to = 0;
        for first in 0..ends.len() - 1 {
            let last_end = ends.len().min(first + MAX_SUBWORD_CHARS);
            for end in &ends[first + 1..last_end] {
                let Some(&id) = word.get(start..*end).and_then(|s| self.rows.get(s)) else {
                    continue;
                };
                ids.push(id);
                covered_to = covered_to.max(*end);
            }
            if covered_to < ends[first + 1] {
                ids.extend(
                    word.get(start..ends[first + 1])
                        .map(|pair| self.bucket_of(pair)),
                );
            }
            start = ends[first];
        }
    }

    fn id_of(&self, entry: &str) -> u32 {
        match self.rows.get(entry) {
            Some(&id) => id,
            None => self.bucket_of(entry),
        }
    }

    fn bucket_of(&self, entry: &str) -> u32 {
        let mut hasher = Fnv1a::default();
        hasher.write(entry.as_bytes());
        let folded = hasher.finish() % u64::from(N_BUCKETS);
        self.n_rows + u32::try_from(folded).unwrap_or_default()
    }
}

/// What a word is made of; it decides how the word is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordClass {
    /// Korean syllables and letters.
    Hangul,
    /// Chinese characters.
    Han,
    /// Letters of any other script.
    Letters,
    /// Digits.
    Digits,
}

/// Calls `visit` with each word of a text, normalised, in order.
pub fn for_each_word(text: &str, mut visit: impl FnMut(WordClass, &str)) {
    let mut word = String::new();
    let mut class = None;
    for c in normalised(text).chars() {
        let next = class_of(c);
        if next != class {
            if let Some(class) = class {
                visit(class, &word);
            }
            word.clear();
            class = next;
        }
        if next.is_some() {
            word.push(c);
        }
    }
    if let Some(class) = class {
        visit(class, &word);
    }
}

fn class_of(c: char) -> Option<WordClass> {
    match c {
        // The old vowel that statutes and rules use as a middle dot; NFKC turns ㆍ into it.
        '\u{119e}' => None,
        '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' => {
            Some(WordClass::Hangul)
        }
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => {
            Some(WordClass::Han)
        }
        c if c.is_numeric() => Some(WordClass::Digits),
        c if c.is_alphabetic() => Some(WordClass::Letters),
        _ => None,
    }
}

/// The beginning that a long foreign word shares with its other forms, as it stands in the vocabulary.
#[must_use]
pub fn stem(word: &str) -> Option<String> {
    word.chars().nth(STEM_CHARS)?;
    Some(word.chars().take(STEM_CHARS).chain([STEM_MARK]).collect())
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): the same on every machine, and quick on entries of a few bytes.
#[derive(Debug, Clone)]
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    #[test]
    fn words_are_runs_of_one_script() {
        let check = |text: &str, expected: &[&str]| {
            let mut words = Vec::new();
            for_each_word(text, |_, word| words.push(word.to_string()));
            assert_eq!(words, expected, "{text}");
        };
        check("육아휴직은 최대 2년!", &["육아휴직은", "최대", "2", "년"]);
        check("ＩＴ부서 Wi-Fi", &["it", "부서", "wi", "fi"]);
        check("休職(휴직)기간", &["休職", "휴직", "기간"]);
        check(&"육아휴직".nfd().collect::<String>(), &["육아휴직"]);
        check("교부ㆍ열람", &["교부", "열람"]);
        check("①항 ㎏", &["1", "항", "kg"]);
        check(" \u{0} …!? ", &[]);
        check("", &[]);
    }

    #[test]
    fn a_word_is_the_substrings_that_the_vocabulary_holds() {
        let vocabulary = "육아\n휴직\n육아휴직\n기간\n은\nparental\nparen*\n2";
        let subwords = Subwords::new(vocabulary);
        let check = |text: &str, expected: &[&str]| {
            let entries: Vec<&str> = vocabulary.lines().collect();
            let got: Vec<String> = subwords
                .features(text)
                .iter()
                .map(|f| match entries.get(f.id as usize) {
                    Some(entry) => (*entry).to_string(),
                    None => "?".to_string(),
                })
                .collect();
            assert_eq!(got, expected, "{text}");
        };
        check("육아휴직", &["육아", "휴직", "육아휴직"]);
        check("육아 휴직", &["육아", "휴직"]);
        check("휴직은", &["휴직", "?"]);
        check("은", &["은"]);
        check("나", &["?"]);
        check("Parental parents", &["parental", "paren*", "?"]);
        check("2 3", &["2", "?"]);
        check("—", &[]);
    }

    #[test]
    fn repetition_counts_by_its_square_root() {
        let subwords = Subwords::new("휴직");
        let features = subwords.features("휴직 휴직 휴직 휴직");
        assert_eq!(features, [Feature { id: 0, weight: 2.0 }]);
    }

    #[test]
    fn unknown_words_meet_in_a_bucket() {
        let subwords = Subwords::new("휴직");
        assert_eq!(
            subwords.features("Xylophone"),
            subwords.features("XYLOPHONE")
        );
        assert_ne!(subwords.features("쀍뷁"), subwords.features("뷁쀍"));
        for feature in subwords.features("쀍뷁 xyz 12345 漢字") {
            assert!((1..1 + N_BUCKETS).contains(&feature.id));
        }
    }
}
