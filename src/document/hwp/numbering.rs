//! Automatic numbering of the Hangul word processor → the labels a reader sees: `제1조`, `1.`, `가.`, `①`.
//!
//! A file stores only which numbering a paragraph takes part in and at which level; [`Counters`] walks the paragraphs
//! in order and spells each label as the numbering's level says. Levels count from 0 here, and from 1 inside a level's
//! text (`제^1장`). A number too large for its alphabet is written in digits rather than wrong.

use std::collections::HashMap;

use crate::document::roman::roman;

/// How a number is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::document) enum NumberFormat {
    /// 1, 2, 3
    Decimal,
    /// ①, ②, ③
    CircledDecimal,
    /// I, II, III
    RomanUpper,
    /// i, ii, iii
    RomanLower,
    /// A, B, C
    LatinUpper,
    /// a, b, c
    LatinLower,
    /// Ⓐ, Ⓑ, Ⓒ
    CircledLatinUpper,
    /// ⓐ, ⓑ, ⓒ
    CircledLatinLower,
    /// 가, 나, 다
    Syllable,
    /// ㉮, ㉯, ㉰
    CircledSyllable,
    /// ㄱ, ㄴ, ㄷ
    Jamo,
    /// ㉠, ㉡, ㉢
    CircledJamo,
    /// 일, 이, 삼
    HangulNumeral,
    /// 一, 二, 三
    Ideograph,
    /// ㊀, ㊁, ㊂
    CircledIdeograph,
    /// 갑, 을, 병
    HeavenlyStem,
    /// 甲, 乙, 丙
    HeavenlyStemIdeograph,
}

impl NumberFormat {
    /// The format with this code in an HWP 5 file; codes that name no alphabet (user symbols) count in digits.
    pub(in crate::document) fn from_code(code: u32) -> NumberFormat {
        match code {
            1 => NumberFormat::CircledDecimal,
            2 => NumberFormat::RomanUpper,
            3 => NumberFormat::RomanLower,
            4 => NumberFormat::LatinUpper,
            5 => NumberFormat::LatinLower,
            6 => NumberFormat::CircledLatinUpper,
            7 => NumberFormat::CircledLatinLower,
            8 => NumberFormat::Syllable,
            9 => NumberFormat::CircledSyllable,
            10 => NumberFormat::Jamo,
            11 => NumberFormat::CircledJamo,
            12 => NumberFormat::HangulNumeral,
            13 => NumberFormat::Ideograph,
            14 => NumberFormat::CircledIdeograph,
            15 => NumberFormat::HeavenlyStem,
            16 => NumberFormat::HeavenlyStemIdeograph,
            _ => NumberFormat::Decimal,
        }
    }

    /// The format with this name in an HWPX file.
    pub(in crate::document) fn from_name(name: &str) -> NumberFormat {
        match name {
            "CIRCLED_DIGIT" => NumberFormat::CircledDecimal,
            "ROMAN_CAPITAL" => NumberFormat::RomanUpper,
            "ROMAN_SMALL" => NumberFormat::RomanLower,
            "LATIN_CAPITAL" => NumberFormat::LatinUpper,
            "LATIN_SMALL" => NumberFormat::LatinLower,
            "CIRCLED_LATIN_CAPITAL" => NumberFormat::CircledLatinUpper,
            "CIRCLED_LATIN_SMALL" => NumberFormat::CircledLatinLower,
            "HANGUL_SYLLABLE" => NumberFormat::Syllable,
            "CIRCLED_HANGUL_SYLLABLE" => NumberFormat::CircledSyllable,
            "HANGUL_JAMO" => NumberFormat::Jamo,
            "CIRCLED_HANGUL_JAMO" => NumberFormat::CircledJamo,
            "HANGUL_PHONETIC" => NumberFormat::HangulNumeral,
            "IDEOGRAPH" => NumberFormat::Ideograph,
            "CIRCLED_IDEOGRAPH" => NumberFormat::CircledIdeograph,
            "DECAGON_CIRCLE" => NumberFormat::HeavenlyStem,
            "DECAGON_CIRCLE_HANJA" => NumberFormat::HeavenlyStemIdeograph,
            _ => NumberFormat::Decimal,
        }
    }

    /// Spells `number` (from 1) in this format.
    pub(in crate::document) fn spell(self, number: u32) -> String {
        let nth = |alphabet: &str| nth_letter(alphabet, number);
        let spelled = match self {
            NumberFormat::Decimal => None,
            NumberFormat::CircledDecimal => circled_decimal(number).map(String::from),
            NumberFormat::RomanUpper => roman(number),
            NumberFormat::RomanLower => roman(number).map(|letters| letters.to_lowercase()),
            NumberFormat::LatinUpper => latin(number, 'A'),
            NumberFormat::LatinLower => latin(number, 'a'),
            NumberFormat::CircledLatinUpper => nth("ⒶⒷⒸⒹⒺⒻⒼⒽⒾⒿⓀⓁⓂⓃⓄⓅⓆⓇⓈⓉⓊⓋⓌⓍⓎⓏ"),
            NumberFormat::CircledLatinLower => nth("ⓐⓑⓒⓓⓔⓕⓖⓗⓘⓙⓚⓛⓜⓝⓞⓟⓠⓡⓢⓣⓤⓥⓦⓧⓨⓩ"),
            NumberFormat::Syllable => nth(SYLLABLES),
            NumberFormat::CircledSyllable => nth("㉮㉯㉰㉱㉲㉳㉴㉵㉶㉷㉸㉹㉺㉻"),
            NumberFormat::Jamo => nth("ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"),
            NumberFormat::CircledJamo => nth("㉠㉡㉢㉣㉤㉥㉦㉧㉨㉩㉪㉫㉬㉭"),
            NumberFormat::HangulNumeral => numeral(number, "일이삼사오육칠팔구", '십'),
            NumberFormat::Ideograph => numeral(number, "一二三四五六七八九", '十'),
            NumberFormat::CircledIdeograph => nth("㊀㊁㊂㊃㊄㊅㊆㊇㊈㊉"),
            NumberFormat::HeavenlyStem => nth("갑을병정무기경신임계"),
            NumberFormat::HeavenlyStemIdeograph => nth("甲乙丙丁戊己庚辛壬癸"),
        };
        spelled.unwrap_or_else(|| number.to_string())
    }
}

/// The order of Korean statutes and offices: after 하 comes 거, after 허 comes 고.
const SYLLABLES: &str = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허\
                         고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후";

fn nth_letter(alphabet: &str, number: u32) -> Option<String> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    alphabet.chars().nth(index).map(String::from)
}

fn circled_decimal(number: u32) -> Option<char> {
    let first = match number {
        1..=20 => 0x2460 - 1,
        21..=35 => 0x3251 - 21,
        36..=50 => 0x32B1 - 36,
        _ => return None,
    };
    char::from_u32(first + number)
}

fn latin(number: u32, first: char) -> Option<String> {
    let index = number.checked_sub(1).filter(|index| *index < 26)?;
    char::from_u32(u32::from(first) + index).map(String::from)
}

fn numeral(number: u32, digits: &str, ten: char) -> Option<String> {
    if !(1..100).contains(&number) {
        return None;
    }
    let mut letters = String::new();
    if number >= 20 {
        letters.push_str(&nth_letter(digits, number / 10)?);
    }
    if number >= 10 {
        letters.push(ten);
    }
    if !number.is_multiple_of(10) {
        letters.push_str(&nth_letter(digits, number % 10)?);
    }
    Some(letters)
}

/// One level of a [`Numbering`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::document) struct Level {
    /// The label with references to counters: `^1` is the counter of level 1, `^n` the whole path (`1.2.3`), `^N` the
    /// path with a closing point.
    pub(in crate::document) text: String,
    /// How this level's counter is spelled.
    pub(in crate::document) format: NumberFormat,
    /// The first number, 1 as a rule.
    pub(in crate::document) start: u32,
}

/// A numbering of a document: what each level looks like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::document) struct Numbering {
    /// From the highest level down; 7, or 10 in newer files.
    pub(in crate::document) levels: Vec<Level>,
}

/// Which list a paragraph counts in: outline paragraphs and numbered paragraphs count apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::document) enum List {
    /// The outline of the section, by the numbering's number.
    Outline(u32),
    /// A numbered list, by the numbering's number.
    Numbered(u32),
}

/// The counters of one document.
#[derive(Debug, Default)]
pub(in crate::document) struct Counters {
    /// The current number of each level, `None` before the level's first paragraph.
    numbers: HashMap<List, Vec<Option<u32>>>,
}

impl Counters {
    /// Counts one paragraph at `level` (from 0) of `list` and returns its label, empty where the level shows none.
    pub(in crate::document) fn next_label(
        &mut self,
        list: List,
        numbering: &Numbering,
        level: usize,
    ) -> String {
        let Some(shown) = numbering.levels.get(level) else {
            return String::new();
        };
        let numbers = self.numbers.entry(list).or_default();
        numbers.resize(numbering.levels.len(), None);
        for deeper in numbers.iter_mut().skip(level + 1) {
            *deeper = None;
        }
        if let Some(number) = numbers.get_mut(level) {
            *number = Some(number.map_or(shown.start, |number| number.saturating_add(1)));
        }
        fill_in(shown, level, &numbering.levels, numbers)
    }
}

/// Writes the counters into a level's text.
fn fill_in(shown: &Level, level: usize, levels: &[Level], numbers: &[Option<u32>]) -> String {
    let spelled = |index: usize| {
        levels.get(index).map_or_else(String::new, |level| {
            let number = numbers.get(index).copied().flatten();
            level.format.spell(number.unwrap_or(level.start))
        })
    };
    let path = || (0..=level).map(spelled).collect::<Vec<_>>().join(".");
    let mut label = String::new();
    let mut text = shown.text.chars().peekable();
    while let Some(character) = text.next() {
        if character != '^' {
            label.push(character);
            continue;
        }
        match text.next() {
            // `^10` is level 10 only in the text of level 10; elsewhere it is level 1 and the digit 0.
            Some('1') if level == 9 && text.peek() == Some(&'0') => {
                text.next();
                label.push_str(&spelled(9));
            }
            Some(digit @ '1'..='9') => {
                let index = digit.to_digit(10).and_then(|d| usize::try_from(d).ok());
                label.push_str(&index.map_or_else(String::new, |index| spelled(index - 1)));
            }
            Some('n') => label.push_str(&path()),
            Some('N') => {
                label.push_str(&path());
                label.push('.');
            }
            Some(other) => label.extend(['^', other]),
            None => label.push('^'),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_in_each_alphabet() {
        fn check(code: u32, expected: &[(u32, &str)]) {
            for (number, spelled) in expected {
                assert_eq!(NumberFormat::from_code(code).spell(*number), *spelled);
            }
        }
        check(0, &[(1, "1"), (12, "12")]);
        check(
            1,
            &[(1, "①"), (20, "⑳"), (21, "㉑"), (36, "㊱"), (51, "51")],
        );
        check(2, &[(4, "IV"), (1999, "MCMXCIX"), (4000, "4000")]);
        check(3, &[(9, "ix")]);
        check(4, &[(1, "A"), (26, "Z"), (27, "27")]);
        check(
            8,
            &[(1, "가"), (14, "하"), (15, "거"), (29, "고"), (99, "99")],
        );
        check(9, &[(2, "㉯"), (15, "15")]);
        check(
            12,
            &[(10, "십"), (11, "십일"), (20, "이십"), (25, "이십오")],
        );
        check(13, &[(3, "三"), (30, "三十")]);
        check(16, &[(1, "甲"), (0, "0")]);
        check(200, &[(7, "7")]);
    }

    fn numbering(levels: &[(&str, NumberFormat)]) -> Numbering {
        let level = |(text, format): &(&str, NumberFormat)| Level {
            text: (*text).to_owned(),
            format: *format,
            start: 1,
        };
        Numbering {
            levels: levels.iter().map(level).collect(),
        }
    }

    #[test]
    fn deeper_levels_restart_and_labels_are_filled_in() {
        let articles = numbering(&[
            ("제^1장", NumberFormat::Decimal),
            ("^1-^2.", NumberFormat::Syllable),
            ("^N", NumberFormat::CircledDecimal),
        ]);
        let mut counters = Counters::default();
        let labels: Vec<String> = [0, 1, 1, 2, 0, 1, 2]
            .into_iter()
            .map(|level| counters.next_label(List::Outline(1), &articles, level))
            .collect();
        assert_eq!(
            labels,
            [
                "제1장",
                "1-가.",
                "1-나.",
                "1.나.①.",
                "제2장",
                "2-가.",
                "2.가.①."
            ]
        );
    }

    #[test]
    fn lists_count_apart_and_a_missing_level_has_no_label() {
        let plain = numbering(&[("^1.", NumberFormat::Decimal)]);
        let mut counters = Counters::default();
        assert_eq!(counters.next_label(List::Numbered(1), &plain, 0), "1.");
        assert_eq!(counters.next_label(List::Numbered(2), &plain, 0), "1.");
        assert_eq!(counters.next_label(List::Outline(1), &plain, 0), "1.");
        assert_eq!(counters.next_label(List::Numbered(1), &plain, 0), "2.");
        assert_eq!(counters.next_label(List::Numbered(1), &plain, 5), "");
    }
}
