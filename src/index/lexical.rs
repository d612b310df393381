//! Text → the terms that lexical search counts.
//!
//! Korean glues particles to nouns and is loose about spaces, so a word is not a term. Each run of Hangul or Han gives
//! its character bigrams, which survive any spacing, and the whole word without its particle, which keeps rare words
//! rare. Latin words are terms as they stand, numbers also together with their unit (`30일`, `5%`). Text is compared in
//! NFKC and lower case. There is no dictionary and no stemming; both sides of the search go through [`terms`], so
//! changing it means reading every document again.

use crate::normalisation::normalised;

/// Particles that end a word, longest first within each length class, so that `에서는` goes before `는`.
const PARTICLES: [&str; 58] = [
    "으로부터",
    "에서부터",
    "이라도",
    "으로서",
    "으로써",
    "으로는",
    "으로도",
    "에서는",
    "에서도",
    "에게는",
    "에게서",
    "에서의",
    "로부터",
    "까지는",
    "까지의",
    "부터는",
    "이라고",
    "이라는",
    "에서",
    "에게",
    "에는",
    "에도",
    "에만",
    "으로",
    "로서",
    "로써",
    "로는",
    "까지",
    "부터",
    "마다",
    "마저",
    "조차",
    "밖에",
    "처럼",
    "보다",
    "한테",
    "께서",
    "이나",
    "이란",
    "이며",
    "라고",
    "라는",
    "와의",
    "과의",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "도",
    "만",
    "로",
    "와",
    "과",
    "나",
];

/// The terms of a text, in order, repeated as often as they occur.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let text: Vec<char> = normalised(text).chars().collect();
    let mut terms = Vec::with_capacity(text.len() * 2);
    let mut rest = text.as_slice();
    while let Some(&first) = rest.first() {
        let script = Script::of(first);
        let n = script.run_length(rest);
        let (run, after) = rest.split_at(n);
        match script {
            Script::Ideographs => push_ideographs(run, &mut terms),
            Script::Digits => push_number(run, after, &mut terms),
            Script::Letters => terms.push(run.iter().collect()),
            Script::Other => {}
        }
        rest = after;
    }
    terms
}

/// A word without its longest particle, as long as a noun may remain: two characters before a particle of one, since
/// many nouns end like a particle (`휴가`), but one before `을`, `를`, `은`, `는` and particles of more than one.
#[must_use]
pub fn strip_particle(word: &str) -> &str {
    for particle in PARTICLES {
        let Some(stem) = word.strip_suffix(particle) else {
            continue;
        };
        let is_certain =
            particle.chars().count() > 1 || matches!(particle, "을" | "를" | "은" | "는");
        let n_chars = stem.chars().count();
        if n_chars >= 2 || (n_chars == 1 && is_certain) {
            return stem;
        }
        break;
    }
    word
}

/// What a character is to the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Hangul, Han, Kana: written without dependable spaces.
    Ideographs,
    /// Decimal digits.
    Digits,
    /// Letters of scripts that put spaces between words.
    Letters,
    /// Everything that parts words.
    Other,
}

impl Script {
    fn of(c: char) -> Script {
        match c {
            // ㆍ (U+318D) lists words in statutes; NFKC makes it a vowel of Old Korean, which would glue them.
            '\u{119e}' => Script::Other,
            '\u{1100}'..='\u{11ff}'
            | '\u{2e80}'..='\u{2fdf}'
            | '\u{3005}'..='\u{3007}'
            | '\u{3040}'..='\u{30ff}'
            | '\u{3130}'..='\u{318f}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{9fff}'
            | '\u{a960}'..='\u{a97f}'
            | '\u{ac00}'..='\u{d7ff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Script::Ideographs,
            _ if c.is_ascii_digit() => Script::Digits,
            _ if c.is_alphanumeric() => Script::Letters,
            _ => Script::Other,
        }
    }

    /// Number of characters at the start of `text` that belong together. A number keeps `,` and `.` between digits.
    fn run_length(self, text: &[char]) -> usize {
        let mut n = 1;
        while let Some(&c) = text.get(n) {
            let joins = self == Script::Digits
                && matches!(c, ',' | '.')
                && text.get(n + 1).is_some_and(char::is_ascii_digit);
            if Script::of(c) != self && !joins {
                break;
            }
            n += 1;
        }
        n
    }
}

fn push_ideographs(word: &[char], terms: &mut Vec<String>) {
    terms.extend(word.windows(2).map(|pair| pair.iter().collect::<String>()));
    let stem = without_particle(word);
    // A stem of two characters is one of the bigrams already.
    if stem.len() != 2 {
        terms.push(stem.iter().collect());
    }
}

/// `10,000` → `10000`, with the unit's first character when one follows: `3개월` → `3`, `3개`.
fn push_number(run: &[char], after: &[char], terms: &mut Vec<String>) {
    let number: String = run.iter().filter(|&&c| c != ',').collect();
    if let Some(&unit) = after.first()
        && (unit == '%' || Script::of(unit) == Script::Ideographs)
    {
        terms.push(format!("{number}{unit}"));
    }
    terms.push(number);
}

/// The word without the particle at its end; at least one character stays.
fn without_particle(word: &[char]) -> &[char] {
    for particle in PARTICLES {
        let n = particle.chars().count();
        if word.len() > n
            && let Some((stem, end)) = word.split_at_checked(word.len() - n)
            && particle.chars().eq(end.iter().copied())
        {
            return stem;
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    #[test]
    fn terms_are_bigrams_words_and_numbers() {
        let check =
            |text: &str, expected: &str| assert_eq!(terms(text).join(" "), expected, "{text}");
        check("출산ㆍ육아", "출산 육아");
        check("휴직", "휴직");
        check("휴직을", "휴직 직을");
        check("육아휴직은", "육아 아휴 휴직 직은 육아휴직");
        check("법을", "법을 법");
        check("약 2년", "약 2년 2 년");
        check("10,000원, 2.5년", "10000원 10000 원 2.5년 2.5 년");
        check("1. 목적", "1 목적");
        check("5％", "5% 5");
        check("VPN 접속", "vpn 접속");
        check("KPI지표", "kpi 지표");
        check("Café's menu", "café s menu");
        check(" \t~·?", "");
        check("①항", "1항 1 항");
    }

    #[test]
    fn decomposed_text_gives_the_same_terms() {
        let decomposed: String = "육아휴직 Ａ４".nfd().collect();
        assert_eq!(terms(&decomposed), terms("육아휴직 A4"));
    }

    #[test]
    fn longer_particles_go_first() {
        let mut longest = usize::MAX;
        for particle in PARTICLES {
            let n = particle.chars().count();
            assert!(n <= longest, "{particle} stands after a shorter one");
            longest = n;
        }
    }
}
