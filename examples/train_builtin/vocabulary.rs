//! Chooses the vocabulary: the substrings of words that are worth a row of their own.

use std::collections::{HashMap, HashSet};

use ragq::embedding::subwords::{MAX_SUBWORD_CHARS, WordClass, for_each_word, stem};

/// Counts words, so that substrings are taken apart once per different word.
#[derive(Default)]
pub(crate) struct WordCounts {
    /// Words whose substrings may become entries.
    divisible: HashMap<String, u64>,
    /// Foreign words and numbers.
    whole: HashMap<String, u64>,
}

/// What is rarer in the training texts than this is left to the hash.
const LEAST_COUNT: u64 = 20;

impl WordCounts {
    /// Adds a text's words; `times` makes a small text count as if it were that many.
    pub(crate) fn add(&mut self, text: &str, times: u64) {
        for_each_word(text, |class, word| {
            let counts = match class {
                WordClass::Hangul | WordClass::Han => &mut self.divisible,
                WordClass::Letters | WordClass::Digits => &mut self.whole,
            };
            add(counts, word, times);
        });
    }

    /// Adds what another has counted.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (word, count) in other.divisible {
            add(&mut self.divisible, &word, count);
        }
        for (word, count) in other.whole {
            add(&mut self.whole, &word, count);
        }
        self
    }

    /// At most `n_entries` entries, sorted.
    pub(crate) fn choose(&self, n_entries: usize) -> Vec<String> {
        let entries = self.entries();
        let explained = explained(&entries);
        let mut ranked: Vec<(&str, f64)> = entries
            .iter()
            .filter(|(entry, count)| {
                !explained.contains(entry.as_str()) && is_word(entry, **count, &entries)
            })
            .map(|(entry, count)| (entry.as_str(), worth(entry, *count)))
            .collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let mut chosen: Vec<String> = ranked
            .iter()
            .take(n_entries)
            .map(|(e, _)| (*e).to_string())
            .collect();
        chosen.sort_unstable();
        chosen
    }

    fn entries(&self) -> HashMap<String, Count> {
        let mut entries = HashMap::new();
        for (word, &count) in &self.whole {
            count_entry(&mut entries, word, count, true);
            if let Some(stem) = stem(word) {
                count_entry(&mut entries, &stem, count, true);
            }
        }
        for (word, &count) in self.divisible.iter().filter(|(_, count)| **count >= 3) {
            let mut cuts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
            cuts.push(word.len());
            let n_chars = cuts.len() - 1;
            if n_chars == 1 {
                count_entry(&mut entries, word, count, true);
            }
            for first in 0..n_chars {
                for end in first + 2..=n_chars.min(first + MAX_SUBWORD_CHARS) {
                    count_entry(
                        &mut entries,
                        &word[cuts[first]..cuts[end]],
                        count,
                        first == 0,
                    );
                }
            }
        }
        entries.retain(|_, count| count.total >= LEAST_COUNT);
        entries
    }
}

/// How often an entry stands anywhere in a word, and how often at a word's beginning.
#[derive(Default, Clone, Copy)]
struct Count {
    total: u64,
    at_start: u64,
}

fn count_entry(entries: &mut HashMap<String, Count>, entry: &str, times: u64, at_start: bool) {
    let count = match entries.get_mut(entry) {
        Some(count) => count,
        None => entries.entry(entry.to_string()).or_default(),
    };
    count.total += times;
    count.at_start += if at_start { times } else { 0 };
}

fn add(counts: &mut HashMap<String, u64>, word: &str, times: u64) {
    match counts.get_mut(word) {
        Some(count) => *count += times,
        None => {
            counts.insert(word.to_string(), times);
        }
    }
}

/// Longer entries pay by meaning more, but are rarer; this keeps both kinds.
fn worth(entry: &str, count: Count) -> f64 {
    let n_chars = entry.chars().count() as f64;
    (count.total as f64).ln()
        + if n_chars > 2.0 {
            0.2 * (n_chars - 2.0)
        } else {
            0.0
        }
}

const PARTICLES: &[&str] = &[
    "에서는",
    "에게는",
    "으로서",
    "으로써",
    "으로",
    "에서",
    "에게",
    "까지",
    "부터",
    "에는",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "로",
    "과",
    "와",
    "도",
    "만",
    "인",
    "된",
    "할",
    "한",
    "하",
];

/// Pairs of characters are kept for what no longer entry covers. A longer entry must look like a word: it often begins
/// one (학연구 never does), and is no shorter entry with a particle.
fn is_word(entry: &str, count: Count, entries: &HashMap<String, Count>) -> bool {
    if entry.chars().count() < 3 || entry.is_ascii() {
        return true;
    }
    let inflected = PARTICLES.iter().any(|particle| {
        let stem = entry
            .strip_suffix(particle)
            .filter(|stem| stem.chars().count() >= 2);
        stem.and_then(|stem| entries.get(stem))
            .is_some_and(|of_stem| of_stem.total >= 2 * count.total)
    });
    count.at_start * 8 >= count.total && !inflected
}

/// Substrings of three characters or more that nearly always stand within the same longer one: 업재해 says nothing that
/// 산업재해 does not.
fn explained(entries: &HashMap<String, Count>) -> HashSet<&str> {
    let mut explained = HashSet::new();
    for (entry, count) in entries {
        if entry.chars().count() < 4 || !entry.chars().all(|c| c as u32 > 0x2fff) {
            continue;
        }
        let first = entry.chars().next().map_or(0, char::len_utf8);
        let last = entry.chars().next_back().map_or(0, char::len_utf8);
        for part in [&entry[first..], &entry[..entry.len() - last]] {
            if entries
                .get(part)
                .is_some_and(|of_part| count.total * 10 >= of_part.total * 8)
            {
                explained.insert(part);
            }
        }
    }
    explained
}
