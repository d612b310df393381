//! Chooses the vocabulary: the substrings of words that are worth a row of their own.

use std::collections::HashMap;

use ragq::embedding::subwords::{MAX_SUBWORD_CHARS, WordClass, for_each_word, stem};

/// Counts words, so that substrings are taken apart once per different word.
#[derive(Default)]
pub struct WordCounts {
    counts: HashMap<(String, bool), u64>,
}

impl WordCounts {
    /// Adds a text's words; `times` makes a small text count as if it were that many.
    pub fn add(&mut self, text: &str, times: u64) {
        for_each_word(text, |class, word| {
            let whole = matches!(class, WordClass::Letters | WordClass::Digits);
            if let Some(count) = self.counts.get_mut(&(word.to_string(), whole)) {
                *count += times;
            } else {
                self.counts.insert((word.to_string(), whole), times);
            }
        });
    }

    /// At most `n_entries` entries, sorted.
    pub fn choose(&self, n_entries: usize) -> Vec<String> {
        let mut entries = self.entries();
        drop_explained(&mut entries);
        let mut ranked: Vec<(String, u64)> = entries.into_iter().collect();
        ranked.sort_unstable_by(|a, b| {
            let worth = |(entry, count): &(String, u64)| worth(entry, *count);
            worth(b).total_cmp(&worth(a)).then_with(|| a.0.cmp(&b.0))
        });
        let mut chosen: Vec<String> = ranked.into_iter().take(n_entries).map(|(e, _)| e).collect();
        chosen.sort_unstable();
        chosen
    }

    fn entries(&self) -> HashMap<String, u64> {
        let mut entries: HashMap<String, u64> = HashMap::new();
        let mut add = |entry: &str, count: u64| match entries.get_mut(entry) {
            Some(total) => *total += count,
            None => {
                entries.insert(entry.to_string(), count);
            }
        };
        for ((word, whole), &count) in &self.counts {
            if *whole {
                add(word, count);
                if let Some(stem) = stem(word) {
                    add(&stem, count);
                }
                continue;
            }
            let mut starts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
            starts.push(word.len());
            if starts.len() == 2 {
                add(word, count);
            }
            for first in 0..starts.len() - 1 {
                let longest = (starts.len() - 1).min(first + MAX_SUBWORD_CHARS);
                for end in first + 2..=longest {
                    add(&word[starts[first]..starts[end]], count);
                }
            }
        }
        entries.retain(|_, count| *count >= 20);
        entries
    }
}

/// Longer entries pay by meaning more, but are rarer; this keeps both kinds.
fn worth(entry: &str, count: u64) -> f64 {
    let n_chars = entry.chars().count() as f64;
    (count as f64).ln()
        + if n_chars > 2.0 {
            0.3 * (n_chars - 2.0)
        } else {
            0.0
        }
}

/// Drops a substring of three characters or more that nearly always stands within the same longer one: 업재해 says
/// nothing that 산업재해 does not.
fn drop_explained(entries: &mut HashMap<String, u64>) {
    let mut explained = Vec::new();
    for (entry, &count) in entries.iter() {
        let n_chars = entry.chars().count();
        if n_chars < 4 || !entry.chars().all(|c| c as u32 > 0x2fff) {
            continue;
        }
        let shorter = [
            &entry[entry.chars().next().map_or(0, char::len_utf8)..],
            &entry[..entry.len() - entry.chars().next_back().map_or(0, char::len_utf8)],
        ];
        for part in shorter {
            if let Some(&of_part) = entries.get(part)
                && count * 10 >= of_part * 8
            {
                explained.push(part.to_string());
            }
        }
    }
    for part in explained {
        entries.remove(&part);
    }
}
