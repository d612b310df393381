//! Markdown → headings, paragraphs, list items and table rows.
//!
//! Reads the forms that people and converters write (CommonMark blocks, GitHub tables, front matter), not the whole
//! grammar: inline marks are dropped where they are marks beyond doubt (`**bold**`, `[text](link)`, `` `code` ``), and
//! code blocks are kept as they are.

use anyhow::Result;

use super::{Block, BlockKind, Budget, Document, Location, Warning, encoding, table};

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let (text, warnings) = encoding::decode(bytes)?;
    let mut reader = Reader::default();
    for (number, line) in (1_u32..).zip(text.lines()) {
        if number.is_multiple_of(4096) {
            budget.check_time()?;
        }
        reader.read(number, line);
    }
    reader.end_block();
    let document = Document {
        title: None,
        blocks: reader.blocks,
    };
    Ok((document, warnings))
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    /// The paragraph or item that further lines may continue, and its first line's number.
    paragraph: Option<(u32, String)>,
    /// Rows of the table that is open.
    table: Vec<(Vec<String>, Location)>,
    /// The second row of a table is a line of dashes: only then is it a table with a header.
    table_has_rule: bool,
    n_tables: u32,
    /// Level of the last heading with a mark of its own: a bold line stands below it.
    last_level: u8,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// Between two lines of `---` at the top of the file.
    FrontMatter,
    /// Within a fence, until a line that begins with it.
    Code { fence: String },
    /// Within `<!-- -->`.
    Comment,
}

impl Reader {
    fn read(&mut self, number: u32, line: &str) {
        let trimmed = line.trim();
        match &self.state {
            State::FrontMatter => {
                if matches!(trimmed, "---" | "...") {
                    self.state = State::Text;
                }
            }
            State::Code { fence } => {
                if trimmed.starts_with(fence.as_str()) {
                    self.end_block();
                    self.state = State::Text;
                } else {
                    self.continue_paragraph(number, trimmed, "\n");
                }
            }
            State::Comment => {
                if trimmed.contains("-->") {
                    self.state = State::Text;
                }
            }
            State::Text => self.read_text(number, line),
        }
    }

    fn read_text(&mut self, number: u32, line: &str) {
        let trimmed = line.trim();
        if trimmed == "---" && number == 1 {
            self.state = State::FrontMatter;
        } else if trimmed.starts_with("<!--") {
            self.end_block();
            if !trimmed.contains("-->") {
                self.state = State::Comment;
            }
        } else if let Some(fence) = fence(trimmed) {
            self.end_block();
            self.state = State::Code { fence };
        } else if let Some(cells) = table_cells(trimmed) {
            self.end_paragraph();
            if is_table_rule(&cells) {
                self.table_has_rule |= self.table.len() == 1;
            } else {
                self.table.push((cells, at(number)));
            }
        } else {
            self.end_table();
            self.read_paragraph(number, trimmed);
        }
    }

    fn read_paragraph(&mut self, number: u32, trimmed: &str) {
        let underline_level = match trimmed.chars().next() {
            Some('=') if trimmed.chars().all(|c| c == '=') => Some(1),
            Some('-') if trimmed.chars().all(|c| c == '-') => Some(2),
            _ => None,
        };
        if let Some(level) = underline_level
            && let Some((first, text)) = self.paragraph.take()
        {
            self.heading(level, &text, first);
        } else if trimmed.is_empty() || is_rule(trimmed) {
            self.end_paragraph();
        } else if let Some((level, text)) = heading(trimmed) {
            self.end_paragraph();
            self.heading(level, text, number);
        } else if let Some(text) = bold_line(trimmed) {
            self.end_paragraph();
            let level = (self.last_level + 1).min(9);
            self.push(BlockKind::Heading { level }, text, number);
        } else {
            let text = trimmed.trim_start_matches(['>', ' ']);
            let (is_item, text) = item(text);
            if is_item || super::structure::begins_unit(text) {
                self.end_paragraph();
            }
            self.continue_paragraph(number, text, " ");
            if trimmed.ends_with('\\') || trimmed.ends_with("<br>") {
                self.end_paragraph();
            }
        }
    }

    fn heading(&mut self, level: u8, text: &str, line: u32) {
        self.last_level = level;
        self.push(BlockKind::Heading { level }, text, line);
    }

    fn continue_paragraph(&mut self, number: u32, line: &str, joint: &str) {
        match &mut self.paragraph {
            Some((_, text)) => {
                text.push_str(joint);
                text.push_str(line);
            }
            None => self.paragraph = Some((number, line.to_owned())),
        }
    }

    fn end_block(&mut self) {
        self.end_paragraph();
        self.end_table();
    }

    fn end_paragraph(&mut self) {
        if let Some((first, text)) = self.paragraph.take() {
            match &self.state {
                State::Code { .. } => self.push_plain(BlockKind::Paragraph, text, first),
                State::Text | State::FrontMatter | State::Comment => {
                    self.push(BlockKind::Paragraph, &text, first);
                }
            }
        }
    }

    fn end_table(&mut self) {
        if self.table.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.table);
        let n_header_rows = std::mem::take(&mut self.table_has_rule).then_some(1);
        self.blocks
            .extend(table::row_blocks(&rows, n_header_rows, self.n_tables));
        self.n_tables += 1;
    }

    fn push(&mut self, kind: BlockKind, text: &str, line: u32) {
        self.push_plain(kind, without_marks(text), line);
    }

    fn push_plain(&mut self, kind: BlockKind, text: String, line: u32) {
        self.blocks.push(Block {
            kind,
            text,
            location: at(line),
        });
    }
}

fn at(line: u32) -> Location {
    Location {
        line: Some(line),
        ..Location::default()
    }
}

fn fence(line: &str) -> Option<String> {
    ["```", "~~~"]
        .iter()
        .find(|fence| line.starts_with(**fence))
        .map(|fence| (*fence).to_owned())
}

/// `## 제1장 총칙 ##`
fn heading(line: &str) -> Option<(u8, &str)> {
    let text = line.trim_start_matches('#');
    let level = u8::try_from(line.len() - text.len()).ok()?;
    let is_heading = (1..=6).contains(&level) && text.starts_with([' ', '\t']);
    is_heading.then(|| (level, text.trim().trim_end_matches('#').trim_end()))
}

/// `**휴직기간**` alone on its line is a heading to its reader.
fn bold_line(line: &str) -> Option<&str> {
    let text = line.strip_prefix("**")?.strip_suffix("**")?;
    (!text.contains("**") && super::structure::may_be_bare_heading(text)).then_some(text)
}

/// `* * *`
fn is_rule(line: &str) -> bool {
    let signs: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).collect();
    signs.len() >= 3
        && matches!(signs.first(), Some('*' | '-' | '_'))
        && signs.iter().all(|sign| Some(sign) == signs.first())
}

/// A list item without its bullet; a number stays, because it is a name (`1.`, `가.`).
fn item(line: &str) -> (bool, &str) {
    for bullet in ["- ", "* ", "+ "] {
        if let Some(text) = line.strip_prefix(bullet) {
            let text = text.trim_start();
            let text = ["[ ] ", "[x] ", "[X] "]
                .iter()
                .find_map(|check| text.strip_prefix(check))
                .unwrap_or(text);
            return (true, text);
        }
    }
    (false, line)
}

/// The cells of `| a | b |`; a line with a bar somewhere inside is text.
fn table_cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?;
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let mut cells = vec![String::new()];
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, cells.last_mut()) {
            ('|', _) => cells.push(String::new()),
            ('\\', Some(cell)) => cell.extend(chars.next()),
            (c, Some(cell)) => cell.push(c),
            (_, None) => {}
        }
    }
    let clean = |cell: String| without_marks(&cell.replace("<br>", " ").replace("<br/>", " "));
    Some(cells.into_iter().map(clean).collect())
}

fn is_table_rule(cells: &[String]) -> bool {
    cells.iter().all(|cell| {
        let cell = cell.trim();
        cell.contains('-') && cell.chars().all(|c| matches!(c, '-' | ':'))
    })
}

/// Text without emphasis, code marks and link targets.
fn without_marks(text: &str) -> String {
    let text = without_links(text);
    let text = without_pairs(&text, "**");
    let text = without_pairs(&text, "__");
    let text = without_pairs(&text, "~~");
    let text = without_pairs(&text, "`");
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_escape = c == '\\' && chars.peek().is_some_and(char::is_ascii_punctuation);
        if !is_escape {
            plain.push(c);
        } else if let Some(escaped) = chars.next() {
            plain.push(escaped);
        }
    }
    plain.trim().trim_end_matches("<br>").trim_end().to_owned()
}

/// Drops a mark where it comes in pairs; a single one is text.
fn without_pairs(text: &str, mark: &str) -> String {
    if text.matches(mark).count().is_multiple_of(2) {
        text.replace(mark, "")
    } else {
        text.to_owned()
    }
}

/// `[text](target)` and `![picture](target)` become `text` and `picture`.
fn without_links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('[') {
        let link = behind
            .split_once("](")
            .filter(|(label, _)| !label.contains('['))
            .and_then(|(label, target)| Some((label, target.split_once(')')?.1)));
        match link {
            Some((label, after)) => {
                plain.push_str(before.strip_suffix('!').unwrap_or(before));
                plain.push_str(label);
                rest = after;
            }
            None => {
                plain.push_str(before);
                plain.push('[');
                rest = behind;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u32, &str, BlockKind)]) {
        let (document, _) = parse(text.as_bytes(), &Budget::standard()).unwrap();
        let found: Vec<(u32, &str, BlockKind)> = document
            .blocks
            .iter()
            .map(|block| {
                (
                    block.location.line.unwrap(),
                    block.text.as_str(),
                    block.kind,
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    const PARAGRAPH: BlockKind = BlockKind::Paragraph;

    fn level(level: u8) -> BlockKind {
        BlockKind::Heading { level }
    }

    fn row(header: bool) -> BlockKind {
        BlockKind::TableRow { table: 0, header }
    }

    #[test]
    fn blocks_are_told_apart() {
        check(
            "---\ntitle: x\n---\n# 휴직 기준 #\n\n휴직은 **2년** 이내로\n한다.\n\n- 육아\n- [x] [연수](http://x)\n1. 첫째\n2. 둘째\n\n제목\n---\n```\n# no heading\n```\n<!-- hidden\n-->\n끝 \\* a_b_c\n**굵은 줄**",
            &[
                (4, "휴직 기준", level(1)),
                (6, "휴직은 2년 이내로 한다.", PARAGRAPH),
                (9, "육아", PARAGRAPH),
                (10, "연수", PARAGRAPH),
                (11, "1. 첫째", PARAGRAPH),
                (12, "2. 둘째", PARAGRAPH),
                (14, "제목", level(2)),
                (17, "# no heading", PARAGRAPH),
                (21, "끝 * a_b_c", PARAGRAPH),
                (22, "굵은 줄", level(3)),
            ],
        );
    }

    #[test]
    fn tables_have_rows() {
        check(
            "| 구분 | 기간 |\n|:---|---:|\n| 육아 | 2년 \\| 1회 |\n",
            &[
                (1, "구분 | 기간", row(true)),
                (3, "육아 | 2년 | 1회", row(false)),
            ],
        );
    }
}
