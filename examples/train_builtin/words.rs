//! Vectors of words that a language model of Korean has learnt, to start the rows from: `words.py` writes them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;

/// Words as they stand in text, most frequent first.
pub(crate) struct Words {
    words: Vec<String>,
    places: HashMap<String, usize>,
    /// `[words, dimension]`, unit length.
    vectors: Vec<f32>,
    ranks: Vec<i32>,
    dimension: usize,
}

impl Words {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = ragq::fs::read(path)?;
        let file = SafeTensors::deserialize(&bytes).context("words: not a safetensors file")?;
        let words: Vec<String> = std::str::from_utf8(file.tensor("words")?.data())?
            .lines()
            .map(String::from)
            .collect();
        let vectors = file.tensor("vectors")?;
        let four_bytes = |data: &[u8]| -> Vec<[u8; 4]> {
            data.chunks_exact(4)
                .filter_map(|c| c.try_into().ok())
                .collect()
        };
        let ranks = four_bytes(file.tensor("ranks")?.data());
        ensure!(
            vectors.shape().first() == Some(&words.len()) && ranks.len() == words.len(),
            "words: expected a vector and a rank for each of {} words",
            words.len()
        );
        Ok(Self {
            places: words.iter().cloned().zip(0..).collect(),
            dimension: vectors.shape()[1],
            vectors: four_bytes(vectors.data())
                .into_iter()
                .map(f32::from_le_bytes)
                .collect(),
            ranks: ranks.into_iter().map(i32::from_le_bytes).collect(),
            words,
        })
    }

    /// The most frequent words.
    pub(crate) fn most_frequent(&self, n_words: usize) -> &[String] {
        &self.words[..n_words.min(self.words.len())]
    }

    /// In how many of all sentences a word stands, by its rank: frequencies fall as one over the rank (Zipf), and a
    /// sentence has some fifteen morphemes.
    pub(crate) fn share_of_sentences(&self, word: &str) -> Option<f32> {
        let rank = self.ranks[*self.places.get(word)?];
        Some((1.5 / rank.max(1) as f32).min(1.0))
    }

    /// The unit vector of an entry: its own, or the mean of the fewest words that cover the most of it.
    pub(crate) fn vector(&self, entry: &str) -> Option<Vec<f32>> {
        let parts = self.parts(entry);
        let mut sum = vec![0.0; self.dimension];
        for part in parts {
            let vector = &self.vectors[part * self.dimension..(part + 1) * self.dimension];
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        (length > 1e-3).then(|| sum.into_iter().map(|x| x / length).collect())
    }

    fn parts(&self, entry: &str) -> Vec<usize> {
        let chars: Vec<char> = entry.chars().collect();
        // Best cover of the first n characters: characters covered, words used (fewer is better), the words.
        let mut best: Vec<(usize, usize, Vec<usize>)> = vec![(0, 0, Vec::new())];
        for end in 1..=chars.len() {
            let mut here = best[end - 1].clone();
            for start in 0..end {
                let part: String = chars[start..end].iter().collect();
                let alone = chars.len() == 1;
                if (end - start < 2 && !alone) || !self.places.contains_key(&part) {
                    continue;
                }
                let (covered, n_words, words) = &best[start];
                let (covered, n_words) = (covered + end - start, n_words + 1);
                if covered > here.0 || (covered == here.0 && n_words < here.1) {
                    let mut words = words.clone();
                    words.push(self.places[&part]);
                    here = (covered, n_words, words);
                }
            }
            best.push(here);
        }
        best.pop().map(|(_, _, words)| words).unwrap_or_default()
    }
}
