//! Does a word end where its line ends? Korean lines may break between any two syllables.
//!
//! The document itself teaches the answer: whether it paints a space after a line that ends with a word, whether its
//! lines are filled to the last syllable, which pairs of syllables it writes with a space between them in the middle
//! of its lines, and which words it uses there. Where it says nothing, the endings of Korean words decide.

use std::collections::{HashMap, HashSet};

use super::lines::Line;

/// Words kept of the document: enough for a long rule book, bounded for a hostile one.
const MAX_WORDS: usize = 200_000;

/// Share of the full lines of a document with a space painted after them, from which a missing space means "no space".
/// Where lines break between words, nearly all have it; where they break anywhere, about one in four.
const SPACES_ARE_PAINTED: f32 = 0.08;

/// Syllables that end words far more often than they stand inside them (particles, verb endings).
const ENDINGS: &str = "은는을를에의와과도로며고나면서써여야만지한된될할인든터게및등때중후간시각";

/// Of those, syllables that stand inside words nearly as often; they count half.
const WEAK_ENDINGS: &str = "의도로고나면서여야만지인터게간시각등중후";

/// Syllables that begin words rarely: particles and endings that are written to the word before them.
const BOUND: &str = "은는을를의와과며써든및께됨됩됐였었했습니";

/// What a document's own lines say about its word spaces.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    /// Pairs of characters → how often with a space between them, how often without.
    pairs: HashMap<(char, char), (u32, u32)>,
    words: HashSet<String>,
    /// Whether a line that ends with a word has a space painted after it.
    paints_line_spaces: bool,
}

impl Spacing {
    /// Learns from all lines of a document.
    pub(super) fn learn<'l>(lines: impl Iterator<Item = &'l Line>) -> Spacing {
        let mut spacing = Spacing::default();
        let (mut n_lines, mut n_spaces) = (0.0_f32, 0.0_f32);
        for line in lines {
            // Short lines end where their paragraph ends.
            if line.text.chars().count() >= 12 {
                n_lines += 1.0;
                n_spaces += f32::from(u8::from(line.ends_with_space));
            }
            spacing.learn_line(&line.text);
        }
        spacing.paints_line_spaces = n_spaces >= SPACES_ARE_PAINTED * n_lines.max(1.0);
        spacing
    }

    fn learn_line(&mut self, text: &str) {
        let mut before: Option<char> = None;
        let mut after_space = false;
        for character in text.chars() {
            if character == ' ' {
                after_space = true;
                continue;
            }
            if let Some(before) = before {
                let counts = self.pairs.entry((before, character)).or_default();
                match after_space {
                    true => counts.0 += 1,
                    false => counts.1 += 1,
                }
            }
            before = Some(character);
            after_space = false;
        }
        // The first and last word may be parts of words.
        let mut words: Vec<&str> = text.split(' ').skip(1).collect();
        words.pop();
        if self.words.len() < MAX_WORDS {
            let words = words.into_iter().filter(|word| !word.is_empty());
            self.words.extend(words.map(str::to_owned));
        }
    }

    /// Appends the next line of a paragraph to its text.
    pub(super) fn join(&self, text: &mut String, last: &Line, next: &Line) {
        // A soft hyphen, or a hyphen inside an English word, exists only because the line ends.
        if text.ends_with('\u{AD}') {
            text.pop();
        } else if is_hyphenated(text, &next.text) {
            if next.text.starts_with(|c: char| c.is_ascii_lowercase()) {
                text.pop();
            }
        } else if self.is_word_end(text, last, &next.text) {
            text.push(' ');
        }
        text.push_str(&next.text);
    }

    fn is_word_end(&self, text: &str, last: &Line, next: &str) -> bool {
        let (Some(before), Some(after)) = (text.chars().next_back(), next.chars().next()) else {
            return false;
        };
        if last.ends_with_space {
            return true;
        }
        if !is_syllable(before) && !is_syllable(after) {
            return is_space_between_symbols(before, after);
        }
        if matches!(before, '(' | '[' | '「' | '『' | '<' | '“' | '‘')
            || matches!(after, ')' | ']' | '」' | '』' | '>' | '”' | '’' | ',' | '.')
        {
            return false;
        }
        if self.paints_line_spaces {
            return false;
        }
        self.evidence(text, before, next, after) > 0.0
    }

    /// Positive if a space is more likely than none.
    fn evidence(&self, text: &str, before: char, next: &str, after: char) -> f32 {
        let last_word = text.rsplit(' ').next().unwrap_or_default();
        let next_word = next.split(' ').next().unwrap_or_default();
        if self.words.contains(&format!("{last_word}{next_word}")) {
            return -1.0;
        }
        let mut evidence = 0.0;
        if self.words.contains(last_word) {
            evidence += 1.5;
        }
        if self.words.contains(next_word) {
            evidence += 0.5;
        }
        if let Some(&(with, without)) = self.pairs.get(&(before, after)) {
            let count = |n: u32| f32::from(u16::try_from(n).unwrap_or(u16::MAX));
            // Logarithm of the odds, with half a sighting added to each side.
            evidence += ((count(with) + 0.5) / (count(without) + 0.5)).ln();
        }
        if ENDINGS.contains(before) {
            evidence += if WEAK_ENDINGS.contains(before) { 0.6 } else { 1.2 };
        } else if matches!(before, '.' | ',' | ')' | '>' | '」' | ';' | ':' | '다') {
            evidence += 1.2;
        } else {
            evidence -= 0.7;
        }
        if BOUND.contains(after) {
            evidence -= 1.5;
        }
        evidence
    }
}

fn is_syllable(c: char) -> bool {
    ('가'..='힣').contains(&c) || ('一'..='鿿').contains(&c)
}

/// Between two Latin words there is a space; inside a number, or at a bracket or slash, there is none.
fn is_space_between_symbols(before: char, after: char) -> bool {
    let is_opening = matches!(before, '(' | '[' | '/' | '「' | '『' | '“' | '‘' | 'ㆍ' | '·');
    let is_closing = matches!(after, ')' | ']' | '/' | '」' | '』' | '”' | '’' | ',' | '.' | 'ㆍ' | '·');
    let is_number = before == ',' && after.is_ascii_digit();
    !is_opening && !is_closing && !is_number
}

/// `infor-` and `mation`; a hyphen between capitals or digits belongs to the word.
fn is_hyphenated(text: &str, next: &str) -> bool {
    let mut before = text.chars().rev();
    before.next() == Some('-')
        && before.next().is_some_and(|c| c.is_ascii_alphabetic())
        && next.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            text: text.trim_end().to_owned(),
            cells: Vec::new(),
            degrees: 0,
            start: 0.0,
            end: 400.0,
            baseline: 0.0,
            size: 10.0,
            bold: false,
            furniture: false,
            ends_with_space: text.ends_with(' '),
            first_word_width: 20.0,
        }
    }

    fn check(learnt: &[&str], last: &str, next: &str, expected: &str) {
        let learnt: Vec<Line> = learnt.iter().map(|text| line(text)).collect();
        let spacing = Spacing::learn(learnt.iter());
        let last = line(last);
        let mut text = last.text.clone();
        spacing.join(&mut text, &last, &line(next));
        assert_eq!(text, expected);
    }

    #[test]
    fn a_painted_space_is_a_space() {
        let painted = ["근로자의 육아휴직 기간은 "];
        check(&painted, "휴직 ", "기간", "휴직 기간");
        check(&painted, "휴직을 신", "청한 자", "휴직을 신청한 자");
        check(&painted, "휴직을", "신청한 자", "휴직을신청한 자");
    }

    #[test]
    fn the_documents_own_words_decide() {
        let learnt = ["이때 육아휴직 신청은 서면으로 한다", "그는 휴직 기간에 복직을 신청한다"];
        check(&learnt, "모든 육아", "휴직 신청은", "모든 육아휴직 신청은");
        check(&learnt, "그 휴직", "기간에 대해", "그 휴직 기간에 대해");
    }

    #[test]
    fn korean_endings_decide_the_rest() {
        check(&[], "휴직을", "신청한 자", "휴직을 신청한 자");
        check(&[], "휴직", "은 1년으로", "휴직은 1년으로");
        check(&[], "휴직 기", "간은 1년", "휴직 기간은 1년");
    }

    #[test]
    fn latin_words_and_numbers_are_joined_their_own_way() {
        check(&[], "the infor-", "mation", "the information");
        check(&[], "the quick", "brown fox", "the quick brown fox");
        check(&[], "1,", "000원", "1,000원");
        check(&[], "COVID-", "19", "COVID-19");
    }
}
