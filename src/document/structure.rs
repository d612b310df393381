//! Gives every block its section path, for all formats by one line state machine.
//!
//! Three kinds of headings are known. Legal units: 편, 장, 절, 관, 조, 부칙, 별표 by their form. Headings that a reader
//! marked ([`BlockKind::Heading`]). Outline numbers (`3. 휴직기간`, `(1)`, `Ⅰ.`), but only outside articles, only on
//! short lines, and only where the whole series `1., 2., 3.` is followed by text: a list is not a chapter. 항, 호 and 목
//! stay inside their article. Where a document holds several rules, whose articles each begin again at 제1조, a rule's
//! name line opens a top-level section, so that two rules never mix.
//!
//! Lines recognised as headings become [`BlockKind::Heading`]; texts are never changed. Data files (records, sheets)
//! have no sections and are left alone.

use std::collections::HashMap;

use super::{Block, BlockKind, Document, contents};

/// A heading line is no longer than this; what is longer is a sentence that begins like one.
const MAX_HEADING_CHARS: usize = 60;

/// How far above 제1조 a rule's name may stand: dates of revision, a chapter and a date lie between.
const MAX_BLOCKS_TO_NAME: usize = 8;

/// What the names of rules end in.
const RULE_SUFFIXES: [&str; 20] = [
    "규정",
    "규칙",
    "기준",
    "지침",
    "내규",
    "세칙",
    "요령",
    "정관",
    "강령",
    "조례",
    "약관",
    "법",
    "법률",
    "시행령",
    "시행규칙",
    "편람",
    "준칙",
    "협약",
    "매뉴얼",
    "가이드",
];

/// Sets [`super::Location::section`] of every block, and the document's title if its reader found none.
pub(super) fn assign_sections(document: &mut Document) {
    let is_data = |block: &Block| block.kind == BlockKind::Record || block.location.sheet.is_some();
    if document.blocks.iter().any(is_data) {
        return;
    }
    split_at_units(&mut document.blocks);
    let mut lines: Vec<Line> = document.blocks.iter().map(Line::of).collect();
    mark_rule_names(&document.blocks, &mut lines);
    let title = mark_title(document, &mut lines);
    mark_outline(&document.blocks, &mut lines);
    document.title = document.title.take().or(title);

    let mut path: Vec<Entry> = Vec::new();
    for (block, line) in document.blocks.iter_mut().zip(lines) {
        if let Some(heading) = line.heading {
            if let Some(first) = path.iter().position(|open| heading.closes(open)) {
                path.truncate(first);
            }
            if line.is_whole && block.kind == BlockKind::Paragraph {
                block.kind = BlockKind::Heading {
                    level: heading.level(path.len()),
                };
            }
            if heading.unit != Unit::Title {
                path.push(heading);
            }
        }
        block.location.section = path.iter().map(|entry| entry.name.clone()).collect();
    }
}

/// Whether a line begins a unit of its own (an article, a clause, a list item), so that it never continues the line
/// above it.
pub(super) fn begins_unit(line: &str) -> bool {
    let line = line.trim_start();
    legal_heading(line, false).is_some()
        || is_clause(line)
        || outline_label(line).is_some()
        || contents::is_entry(line)
}

/// 항: `①` to `⑳`; their kin `㉠`, `㉮`, `⑴`, `⒈`.
fn is_clause(line: &str) -> bool {
    line.starts_with(|c| matches!(c, '\u{2460}'..='\u{249B}' | '\u{3260}'..='\u{327B}'))
}

/// What a block's first line is.
struct Line {
    heading: Option<Entry>,
    /// The heading is all there is to the block.
    is_whole: bool,
}

/// A heading that is open: it stands above the text that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    unit: Unit,
    /// The level its reader gave it, if the reader marked it as a heading.
    level: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// The document's own title: never part of a path.
    Title,
    /// The name line of one of several rules.
    Rule,
    /// 편, 장, 절, 관, 조: ranks 1 to 5. The number tells where a rule begins again.
    Legal { rank: u8, number: u32 },
    /// 부칙, 별표, 별지: after the articles, with articles of their own.
    Attachment,
    /// A heading of the document's own making.
    Plain,
    /// A numbered line that heads the text below it.
    Outline(Style),
}

const PART: u8 = 1;
const CHAPTER: u8 = 2;
const ARTICLE: u8 = 5;

/// The look of an outline number. Which style stands above which is seen from the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Style {
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

impl Entry {
    /// Whether this heading ends the section of one that is open.
    fn closes(&self, open: &Entry) -> bool {
        let is_not_deeper = |open: &Entry| match (self.level, open.level) {
            (Some(level), Some(open_level)) => level <= open_level,
            _ => false,
        };
        match (self.unit, open.unit) {
            (Unit::Title, _) | (_, Unit::Title) => false,
            (Unit::Rule, _) => true,
            (Unit::Outline(style), Unit::Outline(open_style)) => style.closes(open_style),
            (Unit::Outline(_), _) => false,
            (_, Unit::Outline(_)) => true,
            (Unit::Legal { rank, .. }, Unit::Legal { rank: open, .. }) => rank <= open,
            (Unit::Legal { rank, .. }, Unit::Attachment) => rank < ARTICLE,
            (Unit::Attachment, Unit::Legal { .. } | Unit::Attachment) => true,
            (Unit::Legal { .. } | Unit::Attachment | Unit::Plain, Unit::Plain | Unit::Rule) => {
                is_not_deeper(open)
            }
            // A heading of the first level stands above articles that are no headings to their reader.
            (Unit::Plain, Unit::Legal { .. } | Unit::Attachment) => {
                is_not_deeper(open) || (open.level.is_none() && self.level == Some(1))
            }
        }
    }

    /// The level that the heading gets as a block.
    fn level(&self, n_open: usize) -> u8 {
        match (self.level, self.unit) {
            (Some(level), _) => level,
            (None, Unit::Title | Unit::Rule) => 1,
            (None, Unit::Legal { rank, .. }) => rank + 1,
            (None, Unit::Attachment) => 2,
            (None, Unit::Plain | Unit::Outline(_)) => {
                u8::try_from(n_open + 2).unwrap_or(u8::MAX).min(9)
            }
        }
    }
}

impl Style {
    fn closes(self, open: Style) -> bool {
        match (self, open) {
            (Style::Decimal { depth }, Style::Decimal { depth: open }) => depth <= open,
            _ => self == open,
        }
    }
}

impl Line {
    fn of(block: &Block) -> Line {
        let level = match block.kind {
            BlockKind::Heading { level } => Some(level),
            BlockKind::Paragraph => None,
            BlockKind::TableRow { .. } | BlockKind::Record => {
                return Line {
                    heading: None,
                    is_whole: false,
                };
            }
        };
        let first = block.text.lines().next().unwrap_or_default().trim();
        let legal = legal_heading(first, level.is_some());
        let is_whole =
            block.text.trim() == first && legal.as_ref().is_none_or(|(_, rest)| rest.is_empty());
        let heading = match (legal, level) {
            (Some((entry, _)), _) => Some(Entry { level, ..entry }),
            (None, Some(_)) => Some(Entry {
                name: tidied(first),
                unit: Unit::Plain,
                level,
            }),
            (None, None) => None,
        };
        Line { heading, is_whole }
    }

    fn number_of(&self, wanted: u8) -> Option<u32> {
        let heading = self.heading.as_ref()?;
        if let Unit::Legal { rank, number } = heading.unit
            && rank == wanted
        {
            return Some(number);
        }
        None
    }
}

/// A paragraph with line breaks inside may hold several articles: each becomes a block.
fn split_at_units(blocks: &mut Vec<Block>) {
    let holds_units = |block: &Block| {
        block.kind == BlockKind::Paragraph
            && block
                .text
                .lines()
                .skip(1)
                .any(|line| legal_heading(line.trim(), false).is_some())
    };
    if !blocks.iter().any(holds_units) {
        return;
    }
    for block in std::mem::take(blocks) {
        if !holds_units(&block) {
            blocks.push(block);
            continue;
        }
        let mut pieces: Vec<String> = Vec::new();
        for line in block.text.lines() {
            match pieces.last_mut() {
                Some(piece) if legal_heading(line.trim(), false).is_none() => {
                    piece.push('\n');
                    piece.push_str(line);
                }
                _ => pieces.push(line.trim().to_owned()),
            }
        }
        blocks.extend(pieces.into_iter().map(|piece| Block {
            text: piece.trim().to_owned(),
            ..block.clone()
        }));
    }
}

/// Finds the name line above each 제1조 or 제1장 that begins a rule; marks them if there are several.
fn mark_rule_names(blocks: &[Block], lines: &mut [Line]) {
    let mut names: Vec<usize> = Vec::new();
    let mut first_unseen = 0;
    for (n, line) in lines.iter().enumerate() {
        let begins = [PART, CHAPTER, ARTICLE]
            .into_iter()
            .any(|rank| line.number_of(rank) == Some(1));
        if !begins {
            continue;
        }
        let lowest = n.saturating_sub(MAX_BLOCKS_TO_NAME).max(first_unseen);
        if let Some(name) = rule_name_above(blocks, lines, lowest, n) {
            names.push(name);
        }
        first_unseen = n + 1;
    }
    if names.len() < 2 {
        return;
    }
    for name in names {
        if let (Some(line), Some(block)) = (lines.get_mut(name), blocks.get(name)) {
            line.heading = Some(Entry {
                name: tidied(&block.text),
                unit: Unit::Rule,
                level: line.heading.as_ref().and_then(|heading| heading.level),
            });
            line.is_whole = true;
        }
    }
}

/// The nearest line above `below` that is not a date of revision, if it can be the name of a rule.
fn rule_name_above(blocks: &[Block], lines: &[Line], lowest: usize, below: usize) -> Option<usize> {
    let (position, block, line) = (lowest..below)
        .rev()
        .filter_map(|n| Some((n, blocks.get(n)?, lines.get(n)?)))
        .find(|(_, block, _)| !is_revision_note(&block.text))?;
    let is_marked = match (&line.heading, block.kind) {
        (Some(heading), _) if heading.unit != Unit::Plain => return None,
        (_, BlockKind::Heading { .. }) => true,
        (_, BlockKind::Paragraph) => false,
        (_, BlockKind::TableRow { .. } | BlockKind::Record) => return None,
    };
    let name = without_notes(&tidied(&block.text));
    let names_a_rule = RULE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    (is_title_like(&block.text) && (is_marked || names_a_rule)).then_some(position)
}

/// Finds the document's title and keeps it out of the paths.
fn mark_title(document: &Document, lines: &mut [Line]) -> Option<String> {
    let blocks = &document.blocks;
    let position = match &document.title {
        Some(title) => blocks
            .iter()
            .position(|block| tidied(&block.text) == tidied(title))
            .filter(|&n| {
                lines.get(n).is_some_and(|line| {
                    !is_rule(line)
                        && matches!(
                            &line.heading,
                            None | Some(Entry {
                                unit: Unit::Plain,
                                ..
                            })
                        )
                })
            }),
        None => title_heading(lines).or_else(|| title_line(blocks, lines)),
    }?;
    let name = tidied(&blocks.get(position)?.text);
    let line = lines.get_mut(position)?;
    line.is_whole = true;
    line.heading = Some(Entry {
        name: name.clone(),
        unit: Unit::Title,
        level: line.heading.as_ref().and_then(|heading| heading.level),
    });
    Some(name)
}

fn is_rule(line: &Line) -> bool {
    line.heading
        .as_ref()
        .is_some_and(|heading| heading.unit == Unit::Rule)
}

/// The first heading, if no other stands as high.
fn title_heading(lines: &[Line]) -> Option<usize> {
    let mut headings = lines
        .iter()
        .enumerate()
        .filter_map(|(n, line)| Some((n, line.heading.as_ref()?)));
    let (first, title) = headings.next()?;
    let level = title.level?;
    let stands_alone = title.unit == Unit::Plain
        && headings.all(|(_, other)| other.level.is_none_or(|other| other > level));
    (stands_alone && first < MAX_BLOCKS_TO_NAME && is_title_like(&title.name)).then_some(first)
}

/// The first line, if it is short and something else plainly begins below it.
fn title_line(blocks: &[Block], lines: &[Line]) -> Option<usize> {
    let (block, line) = (blocks.first()?, lines.first()?);
    let (next, next_line) = (blocks.get(1)?, lines.get(1)?);
    let is_set_apart = match (block.location.line, next.location.line) {
        (Some(line), Some(next)) => next > line + 1,
        _ => false,
    };
    let next_begins =
        next_line.heading.is_some() || is_revision_note(&next.text) || begins_unit(&next.text);
    (block.kind == BlockKind::Paragraph
        && line.heading.is_none()
        && is_title_like(&block.text)
        && !begins_unit(&block.text)
        && (is_set_apart || next_begins))
        .then_some(0)
}

/// Marks the outline numbers that head text.
fn mark_outline(blocks: &[Block], lines: &mut [Line]) {
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

struct Label {
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
fn outline_label(line: &str) -> Option<Label> {
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

/// A legal unit at the beginning of a line, and the text behind it on the same line. A line that a reader marked as a
/// heading needs no brackets behind `제3조`.
fn legal_heading(line: &str, is_heading: bool) -> Option<(Entry, &str)> {
    if contents::is_entry(line) {
        return None;
    }
    numbered_unit(line, is_heading).or_else(|| attachment(line).map(|entry| (entry, "")))
}

fn numbered_unit(line: &str, is_heading: bool) -> Option<(Entry, &str)> {
    let mut scanner = Scanner(line);
    if !scanner.eat("제") {
        return None;
    }
    scanner.spaces();
    let number = scanner.number()?;
    scanner.spaces();
    let unit = scanner.eat_char()?;
    let rank = "편장절관조".chars().position(|c| c == unit)?;
    let rank = u8::try_from(rank).ok()? + 1;
    let branch = scanner.branch();
    let label = match branch {
        Some(branch) => format!("제{number}{unit}의{branch}"),
        None => format!("제{number}{unit}"),
    };
    let (name, rest) = if rank == ARTICLE {
        article_name(&label, scanner.0, is_heading)?
    } else {
        (chapter_name(&label, scanner.0)?, "")
    };
    // 제1조의2 does not begin a rule.
    let number = if branch.is_some() { u32::MAX } else { number };
    let entry = Entry {
        name,
        unit: Unit::Legal { rank, number },
        level: None,
    };
    Some((entry, rest))
}

/// `(휴직기간) ① …` → `제3조(휴직기간)` and `① …`. References (`제3조(휴직기간)에 따라`) are none.
fn article_name<'a>(label: &str, behind: &'a str, is_heading: bool) -> Option<(String, &'a str)> {
    let text = behind.trim_start();
    let closing = match text.chars().next() {
        Some('(') => ')',
        Some('（') => '）',
        Some('[') => ']',
        Some('【') => '】',
        Some('〔') => '〕',
        _ => return bare_article_name(label, behind, is_heading),
    };
    let Some(end) = closing_bracket(text, closing) else {
        // The title runs on in the next line.
        let is_short = text.chars().count() <= MAX_HEADING_CHARS / 2;
        return is_short.then(|| (format!("{label}{}", tidied(text)), ""));
    };
    let (title, rest) = text.split_at_checked(end)?;
    if title.chars().count() > MAX_HEADING_CHARS || continues_reference(rest) {
        return None;
    }
    let title = tidied(title);
    // 제3조의2(휴직기간의 특례 <개정 2020. 5. 1.>)
    let title = if title.contains(['<', '〈']) {
        format!("{}{closing}", without_notes(&title))
    } else {
        title
    };
    Some((format!("{label}{title}"), rest.trim()))
}

/// `제5조 삭제 <2020. 1. 1.>`, and `제5조 휴직기간` where a reader marked the line as a heading.
fn bare_article_name<'a>(
    label: &str,
    behind: &'a str,
    is_heading: bool,
) -> Option<(String, &'a str)> {
    let text = behind.trim();
    if is_heading && (text.is_empty() || behind.starts_with(char::is_whitespace)) {
        return Some((tidied(&format!("{label} {text}")), ""));
    }
    let rest = text.strip_prefix("삭제")?;
    let is_removed = rest.is_empty() || rest.trim_start().starts_with(['<', '[', '(', '〈']);
    is_removed.then(|| (format!("{label} 삭제"), rest.trim()))
}

/// Where the bracket that opens `text` is closed, in bytes behind it; titles may hold brackets.
fn closing_bracket(text: &str, closing: char) -> Option<usize> {
    let opening = text.chars().next()?;
    let mut depth = 0_usize;
    for (position, c) in text.char_indices() {
        if c == opening {
            depth += 1;
        } else if c == closing {
            depth -= 1;
            if depth == 0 {
                return Some(position + c.len_utf8());
            }
        }
    }
    None
}

/// What follows a reference to an article, but never its heading.
fn continues_reference(rest: &str) -> bool {
    const ATTACHED: [&str; 17] = [
        "에", "의 ", "를 ", "을 ", "와 ", "과 ", "은 ", "는 ", "제", "부터", "까지", "로 ", "및",
        "또는", "내지", ",", "ㆍ",
    ];
    const APART: [&str; 6] = ["및 ", "또는 ", "내지 ", "부터 ", "까지 ", "의 "];
    let apart = rest.trim_start();
    if apart.len() == rest.len() {
        return ATTACHED.iter().any(|word| rest.starts_with(word));
    }
    let mut scanner = Scanner(apart);
    let names_clause = scanner.eat("제") && scanner.number().is_some() && scanner.eat("항");
    names_clause || APART.iter().any(|word| apart.starts_with(word))
}

/// ` 휴직` → `제2장 휴직`; `제2장의 규정에 따라` is none.
fn chapter_name(label: &str, behind: &str) -> Option<String> {
    const PARTICLES: [&str; 13] = [
        "에", "의", "을", "를", "은", "는", "과", "와", "및", "또는", "내지", "부터", "까지",
    ];
    let title = behind.trim();
    let is_reference = PARTICLES.iter().any(|particle| {
        title.strip_prefix(particle).is_some_and(|rest| {
            // 제2장 은퇴: a particle ends its word when it stands apart, and begins it when attached.
            !behind.starts_with(char::is_whitespace) || rest.starts_with(char::is_whitespace)
        })
    });
    if is_reference || title.chars().count() > MAX_HEADING_CHARS || ends_like_sentence(title) {
        return None;
    }
    let title = without_notes(&tidied(title));
    Some(if title.is_empty() || title.starts_with(['(', '[']) {
        format!("{label}{title}")
    } else {
        format!("{label} {title}")
    })
}

/// 부칙, 별표, 별지; 별첨 and 붙임 with a bracket or a number.
fn attachment(line: &str) -> Option<Entry> {
    let mut scanner = Scanner(line);
    let is_bracketed = ["[", "<", "(", "【", "〔", "‹", "〈", "■ [", "■["]
        .into_iter()
        .any(|bracket| scanner.eat(bracket));
    scanner.spaces();
    let word = ["부칙", "별표", "별지", "별첨", "붙임"]
        .into_iter()
        .find(|word| scanner.eat_spaced(word))?;
    let has_space = scanner.spaces();
    let behind_word = scanner.0;
    let has_number = scanner.eat("제") | scanner.number().is_some();
    let is_numbered = has_number && {
        scanner.number();
        scanner.spaces();
        scanner.eat("호");
        scanner.branch();
        true
    };
    let is_separate = scanner.0.is_empty()
        || scanner
            .0
            .starts_with(|c: char| c.is_whitespace() || "[]()<>〈〉【】〔〕.:-‹›".contains(c))
        || scanner.0.starts_with("서식")
        || (has_space && !has_number);
    let names_itself = match word {
        "부칙" => {
            !is_bracketed
                && (scanner.0.is_empty()
                    || scanner.0.trim_start().starts_with(['(', '<', '[', '〈'])
                    || is_numbered)
        }
        "별표" | "별지" => {
            is_bracketed || is_numbered || scanner.0.is_empty() || scanner.0.starts_with("서식")
        }
        _ => is_bracketed || is_numbered,
    };
    let is_short = line.chars().count() <= MAX_HEADING_CHARS && !ends_like_sentence(line);
    let is_reference = ["에 ", "에서 ", "과 같", "와 같", "의 ", "에 따"]
        .iter()
        .any(|particle| {
            scanner
                .0
                .trim_start_matches([']', '>', ')'])
                .starts_with(particle)
        });
    (is_separate && names_itself && is_short && !is_reference).then(|| Entry {
        name: if word == "부칙" {
            tidied(&format!(
                "부칙{}{}",
                if has_space { " " } else { "" },
                behind_word
            ))
        } else {
            tidied(line)
        },
        unit: Unit::Attachment,
        level: None,
    })
}

/// `[시행 2024. 1. 1.]`, `제정 2001.3.2`, `2020. 5. 1. 개정`, `(2019. 4. 1)`.
fn is_revision_note(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "시행",
        "제정",
        "개정",
        "전부개정",
        "일부개정",
        "전문개정",
        "공포",
        "타법개정",
        "폐지",
        "훈령",
    ];
    let core = text.trim_start_matches(['[', '(', '<', '〈', '【', '*', ' ']);
    let n_digits = core.chars().filter(char::is_ascii_digit).count();
    n_digits >= 4
        && text.chars().count() <= 3 * MAX_HEADING_CHARS
        && !ends_like_sentence(text.trim_end_matches(['.', ')', ']']))
        && (WORDS
            .iter()
            .any(|word| core.starts_with(word) || core.contains(&format!(" {word}")))
            || n_digits * 2 >= core.chars().filter(|c| !c.is_whitespace()).count())
}

fn is_title_like(text: &str) -> bool {
    let n_chars = text.chars().count();
    (2..=MAX_HEADING_CHARS).contains(&n_chars)
        && !text.contains(['\n', '\t'])
        && !text.contains(" | ")
        && text.chars().any(char::is_alphabetic)
        && !ends_like_sentence(text)
        && !contents::is_entry(text)
}

fn ends_like_sentence(text: &str) -> bool {
    let text = text.trim_end();
    text.ends_with(['.', '。', '!', '?', ':', ';', ','])
        || text.ends_with('다')
        || text.ends_with("니까")
        || text.ends_with("세요")
        || (text.ends_with(['함', '음', '임']) && text.chars().count() > 15)
}

/// Without the notes on changes that statutes put behind names: `제2장 휴직 <개정 2020. 1. 1.>`.
fn without_notes(name: &str) -> String {
    let end = name
        .char_indices()
        .find(|&(position, c)| position > 0 && matches!(c, '<' | '〈'))
        .map_or(name.len(), |(position, _)| position);
    name.get(..end).unwrap_or(name).trim_end().to_owned()
}

/// One line with single spaces; words spaced out for looks (`총    칙`, `취 업 규 칙`) are drawn together.
fn tidied(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_spaced_out = words.len() >= 2
        && words.iter().all(|word| {
            let mut chars = word.chars();
            matches!((chars.next(), chars.next()), (Some('가'..='힣'), None))
        });
    words.join(if is_spaced_out { "" } else { " " })
}

/// The rest of a line that is being read.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn eat(&mut self, prefix: &str) -> bool {
        match self.0.strip_prefix(prefix) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// `부칙` and `부   칙`.
    fn eat_spaced(&mut self, word: &str) -> bool {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        let is_eaten = word.chars().all(|c| {
            let is_eaten = scanner.eat(c.encode_utf8(&mut [0; 4]));
            if !word.ends_with(c) {
                scanner.spaces();
            }
            is_eaten
        });
        if is_eaten {
            self.0 = scanner.0;
        }
        is_eaten
    }

    fn eat_char(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let first = chars.next();
        self.0 = chars.as_str();
        first
    }

    /// Whether there were any.
    fn spaces(&mut self) -> bool {
        let rest = self.0.trim_start();
        let had_spaces = rest.len() < self.0.len();
        self.0 = rest;
        had_spaces
    }

    fn number(&mut self) -> Option<u32> {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = self.0.get(..self.0.len() - rest.len())?;
        let number = digits.parse().ok()?;
        self.0 = rest;
        Some(number)
    }

    /// `.2` in `1.2`.
    fn after_dot_number(&mut self) -> Option<u32> {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        let number = (scanner.eat(".") || scanner.eat("-")).then(|| scanner.number())??;
        self.0 = scanner.0;
        Some(number)
    }

    /// `의2` in `제3조의2`; `의` alone is a particle.
    fn branch(&mut self) -> Option<u32> {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        scanner.spaces();
        let is_branch = scanner.eat("의");
        scanner.spaces();
        let number = is_branch.then(|| scanner.number())??;
        self.0 = scanner.0;
        Some(number)
    }
}

/// Whether a line that only stands out by its looks may be taken as a heading: a title or an outline number, but
/// neither a clause nor a sentence.
pub(super) fn may_be_bare_heading(line: &str) -> bool {
    is_title_like(line) && !is_clause(line) && !line.starts_with(['-', '*', '※', '•', '·'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Location;

    fn document(lines: &[&str]) -> Document {
        let block = |text: &&str| {
            // `# ` marks what a reader found to be a heading.
            let level = text.len() - text.trim_start_matches('#').len();
            Block {
                kind: match u8::try_from(level).unwrap() {
                    0 => BlockKind::Paragraph,
                    level => BlockKind::Heading { level },
                },
                text: text.trim_start_matches(['#', ' ']).to_owned(),
                location: Location::default(),
            }
        };
        let mut document = Document {
            title: None,
            blocks: lines.iter().map(block).collect(),
        };
        assign_sections(&mut document);
        document
    }

    /// Each line with the path that it must get, parts joined by ` > `.
    fn check(title: Option<&str>, expected: &[(&str, &str)]) {
        let lines: Vec<&str> = expected.iter().map(|(line, _)| *line).collect();
        let document = document(&lines);
        assert_eq!(document.title.as_deref(), title);
        let found: Vec<(&str, String)> = lines
            .iter()
            .zip(&document.blocks)
            .map(|(line, block)| (*line, block.location.section.join(" > ")))
            .collect();
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0, found.1.as_str()), *expected);
        }
    }

    #[test]
    fn articles_stand_under_chapters_and_hold_their_clauses() {
        check(
            Some("휴직 및 복직 관리기준"),
            &[
                ("휴직 및 복직 관리기준", ""),
                ("제정 2001. 3. 2.", ""),
                ("제 1 장   총   칙", "제1장 총칙"),
                (
                    "제1조(목적) 이 기준은 휴직을 정한다.",
                    "제1장 총칙 > 제1조(목적)",
                ),
                ("제2장 휴직 <개정 2020. 5. 1.>", "제2장 휴직"),
                ("제3조(휴직기간)", "제2장 휴직 > 제3조(휴직기간)"),
                (
                    "① 육아휴직은 2년 이내로 한다.",
                    "제2장 휴직 > 제3조(휴직기간)",
                ),
                ("1. 육아휴직", "제2장 휴직 > 제3조(휴직기간)"),
                ("가. 국내", "제2장 휴직 > 제3조(휴직기간)"),
                (
                    "제3조의2 (특례 <신설 2020>) 둔다.",
                    "제2장 휴직 > 제3조의2(특례)",
                ),
                ("제4조 삭제 <2020. 5. 1.>", "제2장 휴직 > 제4조 삭제"),
                ("부    칙 <2020. 5. 1.>", "부칙 <2020. 5. 1.>"),
                (
                    "제1조(시행일) 바로 시행한다.",
                    "부칙 <2020. 5. 1.> > 제1조(시행일)",
                ),
                ("[별표 1] 휴직기간표", "[별표 1] 휴직기간표"),
                ("육아휴직 2년", "[별표 1] 휴직기간표"),
            ],
        );
    }

    #[test]
    fn references_are_no_headings() {
        for line in [
            "제5조에 따라 승인을 받아야 하고",
            "제5조(연장)에 따라 승인을 받아야 한다.",
            "제5조(연장) 및 제6조(복직)의 규정에 따른다.",
            "제5조(연장) 제1항에 따라",
            "제2장의 규정에 따른다.",
            "제2장 및 제3장에 따라",
            "부칙 제2조에 따라 정한다.",
            "별표 1에 따라 계산한다.",
            "제3조(휴직기간) ········ 4",
        ] {
            check(
                None,
                &[("제1조(목적)", "제1조(목적)"), (line, "제1조(목적)")],
            );
        }
        check(None, &[("제1조(목적)이 기준은 정한다.", "제1조(목적)")]);
    }

    #[test]
    fn rules_of_one_file_never_mix() {
        check(
            Some("인사 규정집"),
            &[
                ("# 인사 규정집", ""),
                ("휴직 관리기준", "휴직 관리기준"),
                ("제1조(목적) 휴직을 정한다.", "휴직 관리기준 > 제1조(목적)"),
                ("부칙", "휴직 관리기준 > 부칙"),
                (
                    "제1조(시행일) 바로.",
                    "휴직 관리기준 > 부칙 > 제1조(시행일)",
                ),
                ("근무 복장 규정", "근무 복장 규정"),
                ("(2020. 5. 1. 개정)", "근무 복장 규정"),
                ("제1조(목적) 복장을 정한다.", "근무 복장 규정 > 제1조(목적)"),
            ],
        );
    }

    #[test]
    fn headings_of_readers_keep_their_levels() {
        check(
            Some("안내서"),
            &[
                ("# 안내서", ""),
                ("## 휴가", "휴가"),
                ("### 연차", "휴가 > 연차"),
                ("15일", "휴가 > 연차"),
                ("## 제2조 적용범위", "제2조 적용범위"),
                ("모두", "제2조 적용범위"),
            ],
        );
        // Two headings of the first level: neither is the title.
        check(
            None,
            &[("# 휴가", "휴가"), ("15일", "휴가"), ("# 복장", "복장")],
        );
    }

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

    #[test]
    fn a_paragraph_of_several_articles_is_split() {
        let document = document(&["제1조(목적) 가\n나\n제2조(정의) 다"]);
        let texts: Vec<&str> = document.blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["제1조(목적) 가\n나", "제2조(정의) 다"]);
    }
}
