//! Outline numbers: which of them head the text below, and which only count the items of a list.

use std::collections::HashMap;

use super::legal::ARTICLE;
use super::scanner::Scanner;
use super::wording::{ends_like_sentence, tidied};
use super::{Entry, Line, Unit};
use crate::document::{Block, BlockKind};

/// Marks the outline numbers that head text.
pub(super) fn mark(blocks: &[Block], lines: &mut [Line]) {
    let mut n_articles_open = false;
    let mut open_series: HashMap<Style, Series> = HashMap::new();
    let mut headings: Vec<(usize, Style)> = Vec::new();
    for (n, block) in blocks.iter().enumerate() {
        match lines.get(n).and_then(|line| line.heading.as_ref()) {
            Some(heading) => {
                n_articles_open = match heading.unit {
                    Unit::Legal { rank, .. } => rank == ARTICLE,
                    Unit::Plain => n_articles_open && heading.level != Some(1),
                    Unit::Title | Unit::Rule | Unit::Attachment | Unit::Outline(_) => false,
                };
                for (style, series) in open_series.drain() {
                    series.settle(style, &mut headings);
                }
                continue;
            }
            None if n_articles_open || block.kind != BlockKind::Paragraph => continue,
            None => {}
        }
        let Some(label) = outline_label(&block.text) else {
            continue;
        };
        let begins_anew = open_series
            .get(&label.style)
            .is_none_or(|series| !label.follows(series.last_number));
        if begins_anew && let Some(series) = open_series.remove(&label.style) {
            series.settle(label.style, &mut headings);
        }
        open_series
            .entry(label.style)
            .or_default()
            .add(n, &label, blocks);
    }
    for (style, series) in open_series {
        series.settle(style, &mut headings);
    }
    for (n, style) in headings {
        if let (Some(line), Some(block)) = (lines.get_mut(n), blocks.get(n)) {
            line.is_whole = true;
            line.heading = Some(Entry {
                name: tidied(&block.text),
                unit: Unit::Outline(style),
                level: None,
            });
        }
    }
}

/// The look of an outline number. Which style stands above which is seen from the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Style {
    /// `Ⅰ.`
    Roman,
    /// `1.` has depth 1, `1.1` depth 2.
    Decimal { depth: usize },
    /// `1)`
    HalfParenthesis,
    /// `(1)`
    Parentheses,
    /// `가.`
    Syllable,
    /// `가)` and `(가)`
    SyllableParenthesis,
    /// `□`
    Square,
}

impl Style {
    /// Whether a number of this style ends the section of one that is open.
    pub(super) fn closes(self, open: Style) -> bool {
        match (self, open) {
            (Style::Decimal { depth }, Style::Decimal { depth: open }) => depth <= open,
            _ => self == open,
        }
    }
}

/// Consecutive numbers of one style.
#[derive(Default)]
struct Series {
    last_number: u32,
    members: Vec<usize>,
    n_short: usize,
    n_with_text: usize,
}

impl Series {
    fn add(&mut self, n: usize, label: &Label, blocks: &[Block]) {
        self.last_number = if label.number == 0 {
            self.last_number + 1
        } else {
            label.number
        };
        let has_text = blocks.get(n + 1).is_some_and(|next| match next.kind {
            BlockKind::Heading { .. } => false,
            BlockKind::TableRow { .. } | BlockKind::Record => true,
            BlockKind::Paragraph => {
                outline_label(&next.text).is_none_or(|other| other.style != label.style)
            }
        });
        self.members.push(n);
        self.n_short += usize::from(label.is_short);
        self.n_with_text += usize::from(has_text);
    }

    /// Two or more short lines, nearly all with text below: headings.
    fn settle(self, style: Style, headings: &mut Vec<(usize, Style)>) {
        let n = self.members.len();
        if n >= 2 && self.n_short == n && self.n_with_text * 3 >= n * 2 {
            headings.extend(self.members.into_iter().map(|member| (member, style)));
        }
    }
}

pub(super) struct Label {
    style: Style,
    /// 0 for signs that do not count.
    number: u32,
    is_short: bool,
}

impl Label {
    fn follows(&self, last_number: u32) -> bool {
        match self.style {
            Style::Square => true,
            Style::Decimal { depth } if depth > 1 => self.number != 1,
            Style::Roman
            | Style::Decimal { .. }
            | Style::HalfParenthesis
            | Style::Parentheses
            | Style::Syllable
            | Style::SyllableParenthesis => self.number == last_number + 1,
        }
    }
}

/// `3. 휴직기간`, `3.1 기간`, `(1) 육아휴직`, `1)`, `가.`, `Ⅲ.`, `□`.
pub(super) fn outline_label(line: &str) -> Option<Label> {
    const SYLLABLES: &str = "가나다라마바사아자차카타파하";
    const ROMAN: [&str; 10] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"];
    let mut scanner = Scanner(line.trim_start());
    let in_parentheses = scanner.eat("(");
    let first = scanner.0.chars().next()?;
    let (mut style, number) = match first {
        '0'..='9' => {
            let mut number = scanner.number()?;
            let mut depth = 1;
            while let Some(next) = scanner.after_dot_number() {
                number = next;
                depth += 1;
            }
            (Style::Decimal { depth }, number)
        }
        'Ⅰ'..='Ⅻ' => {
            scanner.eat_char();
            (Style::Roman, u32::from(first) - u32::from('Ⅰ') + 1)
        }
        'I' | 'V' | 'X' => {
            let numeral = scanner.0.split(['.', ' ']).next()?;
            let number = ROMAN.iter().position(|roman| *roman == numeral)? + 1;
            scanner.eat(numeral);
            (Style::Roman, u32::try_from(number).ok()?)
        }
        '□' | '■' | '▣' if !in_parentheses => {
            scanner.eat_char();
            (Style::Square, 0)
        }
        _ => {
            let number = SYLLABLES.chars().position(|syllable| syllable == first)? + 1;
            scanner.eat_char();
            (Style::Syllable, u32::try_from(number).ok()?)
        }
    };
    if in_parentheses || scanner.0.starts_with(')') {
        if !scanner.eat(")") {
            return None;
        }
        style = match style {
            Style::Decimal { depth: 1 } if in_parentheses => Style::Parentheses,
            Style::Decimal { depth: 1 } => Style::HalfParenthesis,
            Style::Syllable => Style::SyllableParenthesis,
            Style::Roman
            | Style::Decimal { .. }
            | Style::HalfParenthesis
            | Style::Parentheses
            | Style::SyllableParenthesis
            | Style::Square => return None,
        };
    } else if style != Style::Square {
        let has_dot = scanner.eat(".");
        let needs_dot = !matches!(style, Style::Decimal { depth: 2.. });
        // `3.5%` is a quantity, `2026. 3. 1.` a date.
        if (needs_dot && !has_dot) || !scanner.0.starts_with(|c: char| !c.is_ascii_digit()) {
            return None;
        }
        let is_date = style == Style::Decimal { depth: 1 }
            && (number > 99
                || scanner
                    .0
                    .trim_start()
                    .starts_with(|c: char| c.is_ascii_digit()));
        if is_date {
            return None;
        }
    }
    let rest = scanner.0.trim();
    let has_space = scanner.0.starts_with(char::is_whitespace);
    if rest.is_empty() || (matches!(style, Style::Decimal { depth: 2.. }) && !has_space) {
        return None;
    }
    Some(Label {
        style,
        number,
        is_short: rest.chars().count() <= 40 && !line.contains('\n') && !ends_like_sentence(rest),
    })
}

#[cfg(test)]
mod tests {
    use crate::document::structure::tests::check;

    #[test]
    fn outline_numbers_are_headings_only_above_text() {
        check(
            Some("생활 안내"),
            &[
                ("생활 안내", ""),
                ("1. 출퇴근", "1. 출퇴근"),
                ("9시까지 출근한다.", "1. 출퇴근"),
                ("2. 휴가", "2. 휴가"),
                ("(1) 결혼", "2. 휴가 > (1) 결혼"),
                ("결혼은 5일이다.", "2. 휴가 > (1) 결혼"),
                ("(2) 사망", "2. 휴가 > (2) 사망"),
                ("배우자는 5일이다.", "2. 휴가 > (2) 사망"),
                ("3. 준비물", "3. 준비물"),
                ("1) 신분증", "3. 준비물"),
                ("2) 통장", "3. 준비물"),
                ("위 서류를 낸다.", "3. 준비물"),
            ],
        );
        check(
            None,
            &[
                ("1. 사과", ""),
                ("2. 배", ""),
                ("3. 감", ""),
                ("모두 과일이다.", ""),
            ],
        );
        check(None, &[("2026. 3. 1. 공지", ""), ("3.5% 인상", "")]);
    }
}
