//! Lines of all pages → paragraphs, headings and table rows.
//!
//! A line goes on with the paragraph above it if that paragraph had no room left for the line's first word; it starts a
//! new one if it begins like a unit of structure (`제3조(`, `①`, `가.`, `-`), is set differently, or stands apart.
//! Paragraphs go on over the end of a page. Whether a word goes on over the end of a line is decided by [`Spacing`].

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use super::lines::Line;
use super::spacing::Spacing;
use crate::document::{Block, BlockKind, Document, Location, contents};

/// Fonts this much larger than the body are headings.
const HEADING_SIZE: f32 = 1.15;

/// Fonts this much larger than the body can be the title.
const TITLE_SIZE: f32 = 1.3;

/// Share of bold characters up to which bold means something.
const MAX_BOLD: f32 = 0.3;

/// Longest heading and title, in characters.
const MAX_HEADING_CHARS: usize = 80;

/// Width in em from which a line can go on over the end of its page; what is narrower is a label or a slide.
const MIN_CROSSING_EM: f32 = 16.0;

/// The labels of sub-items, in order.
const HANGUL_LABELS: &str = "가나다라마바사아자차카타파하";

/// Lines above and below that the right edge of a line is judged by, on its page.
const MAX_EDGE_LINES: usize = 400;

/// What stands on a page, in reading order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// A line of running text.
    Line(Line),
    /// The text of an annotation that has no place in a line.
    Note(String),
    /// A row of a table.
    Row {
        /// Its cells, from left to right.
        cells: Vec<TableCell>,
        /// Which table of the page.
        table: usize,
        /// Whether it is the table's first row and looks like its head.
        header: bool,
    },
}

/// The lines of a table's cell; none if it is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TableCell {
    /// From top to bottom.
    pub(super) lines: Vec<Line>,
}

impl TableCell {
    /// How many characters it has.
    pub(super) fn n_chars(&self) -> usize {
        self.lines
            .iter()
            .map(|line| line.text.chars().count())
            .sum()
    }
}

/// The text of one page.
#[derive(Debug, Clone)]
pub(super) struct PageText {
    /// From 1.
    pub(super) number: u32,
    /// Height of the page in points.
    pub(super) height: f32,
    /// In reading order.
    pub(super) items: Vec<Item>,
}

/// Joins the lines of all pages.
pub(super) fn document(pages: &[PageText]) -> Document {
    let body_size = body_size(pages);
    let lines: Vec<Vec<&Line>> = pages.iter().map(|page| lines_of(page).collect()).collect();
    let mut writer = Writer {
        heading_sizes: heading_sizes(pages, body_size),
        bold_is_heading: bold_share(pages) <= MAX_BOLD,
        named_headings: NamedHeadings::of(pages),
        fixed_line_chars: fixed_line_chars(pages),
        body_size,
        spacing: Spacing::learn(&lines),
        open: None,
        last_hangul_label: None,
        document: Document::default(),
        n_tables: 0,
    };
    for page in pages {
        writer.page(page);
    }
    writer.close();
    let title = title(pages, body_size);
    Document {
        title,
        ..writer.document
    }
}

fn lines_of(page: &PageText) -> impl Iterator<Item = &Line> {
    page.items.iter().filter_map(|item| match item {
        Item::Line(line) => Some(line),
        Item::Note(_) | Item::Row { .. } => None,
    })
}

/// Writes blocks while lines come in.
struct Writer<'l> {
    /// Largest first.
    heading_sizes: Vec<i32>,
    bold_is_heading: bool,
    named_headings: Option<NamedHeadings>,
    /// Characters of a full line, if the lines are cut by count and not by width.
    fixed_line_chars: Option<usize>,
    body_size: f32,
    spacing: Spacing<'l>,
    /// The `나` of the last line that began `나.`: `다.` is a label only after it, else the end of a sentence.
    last_hangul_label: Option<char>,
    open: Option<OpenParagraph<'l>>,
    document: Document,
    n_tables: u32,
}

/// A paragraph that may still grow.
struct OpenParagraph<'l> {
    text: String,
    page: u32,
    kind: BlockKind,
    /// The line that came last, and where its column ends.
    last: &'l Line,
    right_edge: f32,
    last_page: u32,
    /// Distance between its baselines, once it has two on one page.
    leading: Option<f32>,
    /// Left edge of its second line.
    hanging: Option<f32>,
    starts_unit: bool,
}

impl<'l> Writer<'l> {
    fn page(&mut self, page: &'l PageText) {
        let lines: Vec<&Line> = lines_of(page).collect();
        let edges = right_edges(&lines);
        let mut edges = edges.into_iter();
        let mut table_on_page = None;
        for item in &page.items {
            match item {
                Item::Line(line) => {
                    let edge = edges.next().unwrap_or(line.end);
                    self.line(line, edge, page.number);
                }
                Item::Note(text) => {
                    self.close();
                    for paragraph in text.split(['\r', '\n']) {
                        self.block(BlockKind::Paragraph, paragraph, page.number);
                    }
                }
                Item::Row {
                    cells,
                    table,
                    header,
                } => {
                    self.close();
                    if table_on_page.replace(*table) != Some(*table) {
                        self.n_tables += 1;
                    }
                    let kind = BlockKind::TableRow {
                        table: self.n_tables - 1,
                        header: *header,
                    };
                    let texts: Vec<String> =
                        cells.iter().map(|cell| self.cell_text(cell)).collect();
                    self.block(kind, &texts.join(" | "), page.number);
                }
            }
        }
    }

    fn line(&mut self, line: &'l Line, right_edge: f32, page: u32) {
        let kind = self.kind(line);
        let starts_unit = self.starts_unit(&line.text);
        if let Some(open) = &mut self.open
            && (!starts_unit || is_wrapped_date(&open.text, &line.text))
            && open.goes_on_with(line, kind, page, right_edge, self.fixed_line_chars)
        {
            open.append(line, right_edge, page, &self.spacing);
            return;
        }
        self.close();
        self.open = Some(OpenParagraph {
            text: line.text.clone(),
            page,
            kind,
            last: line,
            right_edge,
            last_page: page,
            leading: None,
            hanging: None,
            starts_unit,
        });
    }

    fn starts_unit(&mut self, text: &str) -> bool {
        if !starts_unit(text) {
            return false;
        }
        let Some(label) = hangul_label(text) else {
            return true;
        };
        let position = |label: char| HANGUL_LABELS.chars().position(|listed| listed == label);
        let is_next = match (position(label), self.last_hangul_label.and_then(position)) {
            (Some(0), _) => true,
            (Some(this), Some(last)) => this == last + 1,
            (Some(_) | None, _) => false,
        };
        if is_next {
            self.last_hangul_label = Some(label);
        }
        is_next
    }

    /// The text of a cell: wrapped lines joined, others side by side.
    fn cell_text(&self, cell: &TableCell) -> String {
        let edge = cell.lines.iter().map(|line| line.end).fold(0.0, f32::max);
        let mut lines = cell.lines.iter();
        let Some(mut last) = lines.next() else {
            return String::new();
        };
        let mut text = last.text.clone();
        for line in lines {
            let room = edge - last.end;
            if room < line.first_word_width + 0.6 * line.size && !starts_unit(&line.text) {
                self.spacing.join(&mut text, last, line);
            } else {
                text.push(' ');
                text.push_str(&line.text);
            }
            last = line;
        }
        text
    }

    fn close(&mut self) {
        if let Some(paragraph) = self.open.take() {
            let mut kind = paragraph.kind;
            if paragraph.text.chars().count() > MAX_HEADING_CHARS {
                kind = BlockKind::Paragraph;
            }
            self.block(kind, &paragraph.text, paragraph.page);
        }
    }

    fn block(&mut self, kind: BlockKind, text: &str, page: u32) {
        let text = text.trim();
        if text.chars().all(|c| c.is_whitespace() || c == '|') {
            return;
        }
        self.document.blocks.push(Block {
            kind,
            text: text.to_owned(),
            location: Location {
                page: Some(page),
                ..Location::default()
            },
        });
    }

    /// A heading is larger than the body, or bold and alone where the body is not bold.
    fn kind(&self, line: &Line) -> BlockKind {
        if line.text.chars().count() > MAX_HEADING_CHARS
            || !line.text.chars().any(char::is_alphabetic)
        {
            return BlockKind::Paragraph;
        }
        if let (Some(level), Some(_)) = (line.heading, self.named_headings) {
            return BlockKind::Heading { level };
        }
        let size = rounded(line.size);
        let rank = self
            .heading_sizes
            .iter()
            .position(|&heading| heading == size);
        let is_bold_heading = self.bold_is_heading
            && line.bold
            && line.size >= 0.95 * self.body_size
            && !line.text.ends_with(['.', ',', ';']);
        // Bold lines of the body's size come after all larger ones.
        let rank = rank.or(is_bold_heading.then_some(self.heading_sizes.len()));
        // What is not named among headings that are is below them, unless it is larger: then it is the title.
        let above = self
            .named_headings
            .map_or(0, |named| match line.size > named.largest {
                true => 0,
                false => usize::from(named.deepest),
            });
        match rank {
            Some(rank) => BlockKind::Heading {
                level: u8::try_from(above + rank + 1).unwrap_or(9).min(9),
            },
            None => BlockKind::Paragraph,
        }
    }
}

/// The headings that the file names as such.
#[derive(Debug, Clone, Copy)]
struct NamedHeadings {
    /// The lowest level.
    deepest: u8,
    /// The largest font height, in points.
    largest: f32,
}

impl NamedHeadings {
    /// `None` if there are none, or more than headings can be.
    fn of(pages: &[PageText]) -> Option<NamedHeadings> {
        let (mut n_all, mut n_named) = (0, 0);
        let mut named = NamedHeadings {
            deepest: 0,
            largest: 0.0,
        };
        for line in pages.iter().flat_map(lines_of) {
            let n_chars = line.text.chars().count();
            n_all += n_chars;
            if let Some(level) = line.heading {
                n_named += n_chars;
                named.deepest = named.deepest.max(level);
                named.largest = named.largest.max(line.size);
            }
        }
        (n_named > 0 && n_named * 3 <= n_all).then_some(named)
    }
}

impl<'l> OpenParagraph<'l> {
    fn goes_on_with(
        &self,
        line: &Line,
        kind: BlockKind,
        page: u32,
        right_edge: f32,
        fixed_line_chars: Option<usize>,
    ) -> bool {
        let last = self.last;
        let size = last.size.max(line.size);
        if kind != self.kind
            || last.degrees != line.degrees
            || (last.size - line.size).abs() > 0.12 * size
            || last.cells.len() > 1 && line.cells.len() > 1
            || contents::is_entry(&last.text)
        {
            return false;
        }
        let is_heading = matches!(kind, BlockKind::Heading { .. });
        if page == self.last_page {
            let leading = line.baseline - last.baseline;
            let most = match self.leading {
                Some(known) => known * 1.25 + 0.1 * size,
                None => 2.3 * size,
            };
            if leading <= 0.3 * size || leading > most {
                return false;
            }
        } else if is_heading
            || ends_sentence(&self.text)
            || last.end - last.start < MIN_CROSSING_EM * size
        {
            return false;
        }
        // Headings that wrap are centred or ragged; room to the right says nothing about them.
        if is_heading {
            let overlap = last.end.min(line.end) - last.start.max(line.start);
            return page == self.last_page
                && overlap > 0.0
                && self.right_edge - last.end < 0.35 * (self.right_edge - last.start);
        }
        if !self.is_aligned_with(line) {
            return false;
        }
        // A blank at the cut is not among the characters of the line.
        if fixed_line_chars.is_some_and(|full| last.text.chars().count() + 1 >= full) {
            return true;
        }
        let room = self.right_edge.max(right_edge.min(self.right_edge + 1.0)) - last.end;
        room < line.first_word_width + 0.6 * size || room < 1.2 * size
    }

    /// Whether a line starts where this paragraph's next line would.
    fn is_aligned_with(&self, line: &Line) -> bool {
        let slack = 0.9 * line.size;
        match self.hanging {
            Some(left) => (line.start - left).abs() <= slack,
            // The first line may be set in, or hang over to the left if it starts with a label.
            None => {
                let step = line.start - self.last.start;
                let hangs = self.starts_unit && step <= 12.0 * line.size;
                step <= slack && step >= -6.0 * line.size || hangs && step > 0.0
            }
        }
    }

    fn append(&mut self, line: &'l Line, right_edge: f32, page: u32, spacing: &Spacing<'_>) {
        if page == self.last_page {
            self.leading = Some(line.baseline - self.last.baseline);
            self.hanging = Some(line.start);
        } else {
            self.hanging = None;
            self.starts_unit = false;
        }
        spacing.join(&mut self.text, self.last, line);
        self.right_edge = right_edge;
        self.last_page = page;
        self.last = line;
    }
}

/// For each line of a page, where the column it stands in ends on the right.
fn right_edges(lines: &[&Line]) -> Vec<f32> {
    let edge = |index: usize, line: &Line| {
        let from = index.saturating_sub(MAX_EDGE_LINES);
        let around = lines.iter().skip(from).take(2 * MAX_EDGE_LINES);
        let around = around.filter(|other| other.degrees == line.degrees);
        // What stands to the right at the same height belongs to another column.
        let obstacle = around
            .clone()
            .filter(|other| {
                other.start > line.end && (other.baseline - line.baseline).abs() < line.size
            })
            .map(|other| other.start)
            .fold(f32::INFINITY, f32::min);
        around
            .filter(|other| {
                other.start >= line.start - 8.0 * line.size
                    && other.start < line.end
                    && other.end < obstacle
            })
            .map(|other| other.end)
            .fold(line.end, f32::max)
    };
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| edge(index, line))
        .collect()
}

/// A font size in tenths of a point, coarse enough that a heading has one size.
fn rounded(size: f32) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "font sizes on a page are far below the limits of i32; the cast saturates"
    )]
    let tenths = (size * 2.0).round() as i32;
    tenths
}

/// The size that most characters have.
fn body_size(pages: &[PageText]) -> f32 {
    let mut n_chars: HashMap<i32, usize> = HashMap::new();
    for line in pages.iter().flat_map(lines_of) {
        *n_chars.entry(rounded(line.size)).or_default() += line.text.chars().count();
    }
    let most = n_chars
        .into_iter()
        .max_by_key(|&(size, count)| (count, size));
    most.map_or(10.0, |(size, _)| {
        let halves = i16::try_from(size).unwrap_or(20);
        f32::from(halves) / 2.0
    })
}

/// How many characters full lines have, if lines are cut by count, as simple programs do: then a good part of the lines
/// has just the most, or one less.
fn fixed_line_chars(pages: &[PageText]) -> Option<usize> {
    let mut counts: Vec<usize> = pages
        .iter()
        .flat_map(lines_of)
        .map(|line| line.text.chars().count())
        .collect();
    counts.sort_unstable();
    let full = counts.last().copied()?;
    let n_full = counts
        .iter()
        .rev()
        .take_while(|&&count| count + 1 >= full)
        .count();
    (counts.len() >= 8 && full >= 20 && n_full * 4 >= counts.len()).then_some(full)
}

/// Share of the characters that stand in bold lines.
fn bold_share(pages: &[PageText]) -> f32 {
    let (mut n_bold, mut n_all) = (0.0_f32, 0.0_f32);
    for line in pages.iter().flat_map(lines_of) {
        let n_chars = f32::from(u16::try_from(line.text.chars().count()).unwrap_or(u16::MAX));
        n_all += n_chars;
        if line.bold {
            n_bold += n_chars;
        }
    }
    n_bold / n_all.max(1.0)
}

/// The sizes of headings, largest first: larger than the body, and used for few characters.
fn heading_sizes(pages: &[PageText], body_size: f32) -> Vec<i32> {
    let mut n_chars: HashMap<i32, usize> = HashMap::new();
    let mut n_all = 0;
    for line in pages.iter().flat_map(lines_of) {
        let count = line.text.chars().count();
        n_all += count;
        if line.size >= HEADING_SIZE * body_size {
            *n_chars.entry(rounded(line.size)).or_default() += count;
        }
    }
    let mut sizes: Vec<i32> = n_chars
        .into_iter()
        .filter(|&(_, count)| count * 4 <= n_all)
        .map(|(size, _)| size)
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// The title: the largest text in the upper half of the first page, if it is clearly larger than the body.
fn title(pages: &[PageText], body_size: f32) -> Option<String> {
    let first = pages.first()?;
    let upper =
        || lines_of(first).filter(|line| line.baseline < 0.6 * first.height && line.degrees == 0);
    let largest = upper().map(|line| line.size).fold(0.0, f32::max);
    if largest < TITLE_SIZE * body_size {
        return None;
    }
    let words: Vec<&str> = upper()
        .skip_while(|line| line.size < 0.95 * largest)
        .take_while(|line| line.size >= 0.95 * largest)
        .map(|line| line.text.as_str())
        .collect();
    let title: String = words.join(" ").nfc().collect();
    let fits = (2..=MAX_HEADING_CHARS).contains(&title.chars().count());
    (fits && title.chars().any(char::is_alphabetic)).then_some(title)
}

/// Whether a sentence, or an announcement of a list, ends here.
fn ends_sentence(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', ')', '”', '’', '」', '』', '>'])
        .ends_with(['.', '?', '!', ':'])
}

/// A date such as `2024. 3. 1.` broken over a line end looks like a numbered item.
fn is_wrapped_date(before: &str, line: &str) -> bool {
    let mut parts = before
        .trim_end()
        .rsplit(['.', ' '])
        .filter(|part| !part.is_empty());
    let number = parts.next().unwrap_or_default();
    before.trim_end().ends_with('.')
        && (1..=4).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && line.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a line begins as a unit of structure does: `제3조(`, `제2장`, `①`, `1.`, `(1)`, `가.`, `-`, `•`, `부칙`, `[별표 1]`.
pub(super) fn starts_unit(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return false;
    };
    let rest = chars.as_str();
    match first {
        '①'..='⓿'
        | '㈀'..='㉿'
        | '❶'..='➓'
        | 'Ⅰ'..='Ⅻ'
        | '■'
        | '□'
        | '▪'
        | '▫'
        | '○'
        | '●'
        | '◎'
        | '◆'
        | '◇'
        | '▶'
        | '▷'
        | '►'
        | '◦'
        | '•'
        | '★'
        | '☆'
        | '※'
        | '➢'
        | '✓'
        | '❍'
        | '❖'
        | '☞' => true,
        '-' | '–' | '—' | '*' | '·' | '∙' | 'ㆍ' | '+' | 'o' => rest.starts_with(' '),
        '제' => is_article(rest),
        '부' => rest.trim_start().starts_with('칙') && text.chars().count() <= 30,
        '[' | '【' | '<' | '〈' | '«' => {
            let rest = rest.trim_start();
            ["별표", "별지", "서식", "붙임", "첨부"]
                .iter()
                .any(|word| rest.starts_with(word))
        }
        '(' => match rest.split_once(')') {
            Some((label, _)) => is_label(label),
            None => false,
        },
        'Q' | 'A' | '문' | '답' => {
            let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            after.starts_with([':', '.', ')'])
                && after
                    .chars()
                    .nth(1)
                    .is_none_or(|c| !c.is_ascii_alphanumeric())
        }
        _ => starts_with_label(text),
    }
}

/// `3조(`, `2장`, `4조의2【` after `제`.
fn is_article(rest: &str) -> bool {
    let after = rest.trim_start();
    let unit = after.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() == after.len() {
        return false;
    }
    let mut unit = unit.trim_start().chars();
    let kind = unit.next();
    let mut tail = unit.as_str();
    if let Some(number) = tail.strip_prefix('의') {
        tail = number
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
    }
    match kind {
        Some('조') => tail.trim_start().starts_with(['(', '[', '【', '<']),
        Some('편' | '장' | '절' | '관') => tail.is_empty() || tail.starts_with([' ', '(']),
        Some(_) | None => false,
    }
}

/// The `나` of `나.`, `나)` and `(나)`.
fn hangul_label(text: &str) -> Option<char> {
    let label = text.trim_start_matches('(').chars().next()?;
    HANGUL_LABELS.contains(label).then_some(label)
}

/// `12`, `가`, `a`: what may stand in brackets before an item.
fn is_label(label: &str) -> bool {
    let n_chars = label.chars().count();
    match label.chars().next() {
        Some(first) if first.is_ascii_digit() => {
            n_chars <= 2 && label.bytes().all(|b| b.is_ascii_digit())
        }
        Some(first) if HANGUL_LABELS.contains(first) => n_chars == 1,
        Some(first) => n_chars == 1 && first.is_ascii_lowercase(),
        None => false,
    }
}

/// `1.`, `1.2`, `1)`, `가.`, `가)` followed by something that is no number.
fn starts_with_label(text: &str) -> bool {
    let Some(end) = text.find(|c: char| !c.is_ascii_digit()) else {
        return false;
    };
    let (mut label, mut rest) = text.split_at(end);
    if label.is_empty() {
        let n_bytes = text.chars().next().map_or(0, char::len_utf8);
        (label, rest) = text.split_at(n_bytes);
        return is_label(label)
            && rest.starts_with(['.', ')'])
            && rest
                .chars()
                .nth(1)
                .is_none_or(|c| c == ' ' || c > '\u{1100}');
    }
    // Outline numbers: 1.2.3
    let mut depth = 1;
    while let Some(next) = rest.strip_prefix('.') {
        let digits = next.trim_start_matches(|c: char| c.is_ascii_digit());
        if digits.len() == next.len() {
            break;
        }
        depth += 1;
        rest = digits;
    }
    if depth > 1 {
        let after = rest.strip_prefix('.').unwrap_or(rest);
        return label.len() <= 2
            && depth <= 5
            && after.starts_with(' ')
            && !after.trim_start().is_empty();
    }
    label.len() <= 3
        && rest.starts_with(['.', ')'])
        && rest
            .chars()
            .nth(1)
            .is_none_or(|c| c == ' ' || c > '\u{1100}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::assemble;
    use crate::document::pdf::lines::tests::run;
    use crate::document::pdf::painting::Run;

    /// One page of 500 points with these runs.
    fn page(number: u32, runs: Vec<Run>) -> PageText {
        PageText {
            number,
            height: 500.0,
            items: assemble(&runs, true).into_iter().map(Item::Line).collect(),
        }
    }

    fn texts(document: &Document) -> Vec<&str> {
        document
            .blocks
            .iter()
            .map(|block| block.text.as_str())
            .collect()
    }

    #[test]
    fn full_lines_go_on_and_short_ones_end() {
        let document = document(&[page(
            1,
            vec![
                run("휴직을 신청하려는 사람은 그 사유와 기 ", 0.0, 200.0, 10.0),
                run("간을 적은 신청서를 내야 한다.", 0.0, 110.0, 25.0),
                run("사용자는 이를 허용한다.", 0.0, 120.0, 40.0),
            ],
        )]);
        assert_eq!(
            texts(&document),
            [
                "휴직을 신청하려는 사람은 그 사유와 기 간을 적은 신청서를 내야 한다.",
                "사용자는 이를 허용한다.",
            ]
        );
    }

    #[test]
    fn lines_cut_by_count_are_joined_whatever_their_width() {
        let line = |text: &str, end: f32, n: u8| run(text, 0.0, end, 15.0 * f32::from(n));
        let mut runs = Vec::new();
        for n in 0..4 {
            runs.push(line("직원이 신청하면 휴직을 허용하되 그 기", 180.0, 2 * n));
            runs.push(line(
                "간은 1, 2, 3, 4년의 어느 하나로 한다",
                120.0,
                2 * n + 1,
            ));
        }
        assert_eq!(document(&[page(1, runs)]).blocks.len(), 1);
    }

    #[test]
    fn a_unit_begins_a_block_although_the_line_above_is_full() {
        let document = document(&[page(
            1,
            vec![
                run("제3조(휴직) 다음 각 호의 휴직을 둔다", 0.0, 200.0, 10.0),
                run("1. 육아휴직", 0.0, 60.0, 25.0),
                run("가. 국내", 10.0, 60.0, 40.0),
                run("나. 국외로 가는 긴 휴직에 대하여서는 한", 10.0, 200.0, 55.0),
                run("다. 그 밖의 휴직", 10.0, 100.0, 70.0),
            ],
        )]);
        assert_eq!(document.blocks.len(), 5);
    }

    #[test]
    fn the_end_of_a_sentence_is_no_label() {
        let document = document(&[page(
            1,
            vec![
                run(
                    "휴직 기간이 끝난 사람은 바로 복직하여야 한",
                    0.0,
                    200.0,
                    10.0,
                ),
                run("다. 다만 늦출 수 있다.", 0.0, 100.0, 25.0),
            ],
        )]);
        assert_eq!(
            texts(&document),
            ["휴직 기간이 끝난 사람은 바로 복직하여야 한다. 다만 늦출 수 있다."]
        );
    }

    #[test]
    fn entries_of_a_table_of_contents_are_lines_of_their_own() {
        let document = document(&[page(
            1,
            vec![
                run("휴직의 기간과 그 연장 ........ 2", 0.0, 200.0, 10.0),
                run("복직의 절차와 그 서식 ........ 3", 0.0, 200.0, 25.0),
                run("부칙 ......................... 3", 0.0, 200.0, 40.0),
            ],
        )]);
        assert_eq!(document.blocks.len(), 3);
    }

    #[test]
    fn a_paragraph_goes_on_over_the_end_of_a_page() {
        let first = page(
            1,
            vec![run(
                "휴직 기간에는 임금을 주지 아니하며 그 ",
                0.0,
                200.0,
                480.0,
            )],
        );
        let second = page(2, vec![run("기간은 근속에 넣는다.", 0.0, 100.0, 20.0)]);
        let document = document(&[first, second]);
        assert_eq!(
            texts(&document),
            ["휴직 기간에는 임금을 주지 아니하며 그 기간은 근속에 넣는다."]
        );
        assert_eq!(document.blocks[0].location.page, Some(1));
    }

    #[test]
    fn large_type_is_a_title_and_headings() {
        let large = |text: &str, baseline, size| Run {
            size,
            em: size,
            ..run(text, 50.0, 150.0, baseline)
        };
        let mut runs = vec![
            large("휴직 관리기준", 20.0, 18.0),
            large("총칙", 50.0, 13.0),
        ];
        runs.push(run(
            "이 기준은 직원의 휴직에 적용한다. 휴직의 사유는 따로 정한다.",
            0.0,
            300.0,
            80.0,
        ));
        let document = document(&[page(1, runs)]);
        assert_eq!(document.title.as_deref(), Some("휴직 관리기준"));
        let levels: Vec<BlockKind> = document.blocks.iter().map(|block| block.kind).collect();
        assert_eq!(
            levels,
            [
                BlockKind::Heading { level: 1 },
                BlockKind::Heading { level: 2 },
                BlockKind::Paragraph,
            ]
        );
    }

    #[test]
    fn units_of_structure_are_known_by_their_beginning() {
        let check = |expected: bool, lines: &[&str]| {
            for line in lines {
                assert_eq!(starts_unit(line), expected, "{line}");
            }
        };
        check(
            true,
            &[
                "제3조(휴직)",
                "제 3 조 (휴직)",
                "제3조의2(복직)",
                "제2장 휴직",
                "① 직원은",
                "1. 육아",
                "12) 기타",
                "(1) 대상",
                "(가) 대상",
                "가. 국내",
                "- 항목",
                "• 항목",
                "※ 참고",
                "부칙",
                "부 칙 <2020.1.1>",
                "[별표 1]",
                "1.2 적용 범위",
                "Q1. 언제",
                "Ⅰ. 총칙",
            ],
        );
        check(
            false,
            &[
                "제3조에 따라",
                "제2장에서",
                "1.5배로",
                "2019.1.15>",
                "-3.5%",
                "휴직",
                "가족돌봄",
                "(이하 “회사”)",
                "2020년",
                "부칙에 따라 이 규정이 정하는 바에 의하여 처리하는 것으로 한다고 본다",
            ],
        );
    }
}
