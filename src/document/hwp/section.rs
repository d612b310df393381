//! The records of a `BodyText` section → calls of [`Body`].
//!
//! Left out on purpose: headers, footers, master pages, hidden comments, and numbers of pages.

use std::ops::Range;

use anyhow::Result;

use super::super::merged_table::Cell;
use super::super::{Block, Budget};
use super::body::{Body, MAX_PARAGRAPHS};
use super::definitions::Definitions;
use super::numbering::NumberFormat;
use super::record::{Record, Records, tag, utf16};

/// How many records are read between two looks at the clock.
const RECORDS_PER_TIME_CHECK: usize = 4096;

/// Bytes of a line in a `PARA_LINE_SEG` record.
const LINE_SEGMENT_BYTES: usize = 36;

/// Bit 18 of a cell's attributes: the cell belongs to the header rows.
const HEADER_CELL: u32 = 1 << 18;

/// Reads the sections of one document, one after the other.
pub(super) struct SectionReader<'a> {
    body: Body<'a>,
    /// The level of a control whose content is left out, while that content passes.
    left_out: Option<u32>,
}

impl<'a> SectionReader<'a> {
    /// Starts a document.
    pub(super) fn new(definitions: &'a Definitions) -> SectionReader<'a> {
        SectionReader {
            body: Body::new(definitions),
            left_out: None,
        }
    }

    /// Reads one decompressed section; returns what is missing of it, if anything.
    ///
    /// # Errors
    /// When the budget's time is used up.
    pub(super) fn read(&mut self, stream: &[u8], budget: &Budget) -> Result<Option<String>> {
        self.body.pages.begin_section();
        let mut records = Records::new(stream);
        let mut text: &[u8] = &[];
        for (index, record) in records.by_ref().enumerate() {
            if index.is_multiple_of(RECORDS_PER_TIME_CHECK) {
                budget.check_time()?;
            }
            if self.body.is_full() {
                break;
            }
            self.record(&record, &mut text);
        }
        self.left_out = None;
        self.body.close(0);
        Ok(if self.body.is_full() {
            Some(format!(
                "only the first {MAX_PARAGRAPHS} paragraphs are read"
            ))
        } else {
            records
                .is_damaged()
                .then(|| "damaged, text is missing".to_owned())
        })
    }

    /// Whether no more is read, because the document is too long.
    pub(super) fn is_full(&self) -> bool {
        self.body.is_full()
    }

    /// The blocks of all sections read.
    pub(super) fn into_blocks(self) -> Vec<Block> {
        self.body.into_blocks()
    }

    /// `text` is the open paragraph's, until its looks are read.
    fn record<'s>(&mut self, record: &Record<'s>, text: &mut &'s [u8]) {
        if record.tag == tag::PAGE_DEF {
            self.body.pages.set_body_height(body_height(record));
        }
        if self.left_out.is_some_and(|level| record.level > level) {
            return;
        }
        self.left_out = None;
        let body = &mut self.body;
        match record.tag {
            tag::PARA_HEADER => {
                body.close(record.level);
                let shape = u32::from(record.u16_at(8).unwrap_or(0));
                body.begin_paragraph(record.level, shape);
                *text = &[];
            }
            tag::PARA_TEXT => {
                read_text(record.data, body);
                *text = record.data;
            }
            tag::PARA_CHAR_SHAPE => read_looks(std::mem::take(text), record, body),
            tag::PARA_LINE_SEG => {
                for (index, line) in record.data.chunks(LINE_SEGMENT_BYTES).enumerate() {
                    if let Some(position) = line.get(4..).and_then(|bytes| bytes.first_chunk()) {
                        body.line(i32::from_le_bytes(*position), index == 0);
                    }
                }
            }
            tag::CTRL_HEADER => {
                body.close(record.level);
                self.begin_control(record);
            }
            tag::LIST_HEADER => {
                body.close(record.level);
                begin_list(record, body);
            }
            tag::TABLE => {
                body.close(record.level);
                body.begin_cells();
            }
            tag::EQUATION => {
                body.close(record.level);
                body.equation_script(&record.string_at(4).unwrap_or_default().0);
            }
            _ => {}
        }
    }

    fn begin_control(&mut self, record: &Record<'_>) {
        let body = &mut self.body;
        let id = record.u32_at(0).unwrap_or(0).to_be_bytes();
        match &id {
            b"tbl " => {
                body.begin_table(record.level);
                body.set_table_height(record.u32_at(20).unwrap_or(0));
            }
            b"gso " => body.begin_shape(record.level),
            b"fn  " | b"en  " => body.begin_note(record.level),
            b"eqed" => body.begin_equation(record.level),
            b"secd" => body.set_outline(record.u16_at(18).map_or(1, u32::from)),
            b"cold" => {
                let attributes = record.u16_at(4).unwrap_or(0);
                let n_columns = u32::from((attributes >> 2) & 0xFF);
                body.pages.set_columns(n_columns);
            }
            _ => {}
        }
        match &id {
            b"tbl " | b"gso " => body.set_in_line(record.u32_at(4).unwrap_or(0) & 1 != 0),
            b"fn  " | b"en  " | b"eqed" => {}
            _ => body.characters(character_control(id, record).unwrap_or_default()),
        }
        if matches!(&id, b"head" | b"foot" | b"tcmt" | b"secd") {
            self.left_out = Some(record.level);
        }
    }
}

/// A list of paragraphs begins in the innermost control: a cell, a caption, a note's text, a text box.
fn begin_list(record: &Record<'_>, body: &mut Body<'_>) {
    if !body.has_cells() {
        // Left 0, right 1, top 2, bottom 3.
        if record.u32_at(8).unwrap_or(0) & 1 != 0 {
            body.set_caption_below();
        }
        return;
    }
    let field = |offset| u32::from(record.u16_at(offset).unwrap_or(0));
    let row = field(10);
    if body.cell().is_some_and(|last| last.row != row) {
        body.begin_row();
    }
    let row_span = field(14).max(1);
    body.begin_cell(Cell {
        row,
        column: field(8),
        row_span,
        column_span: field(12).max(1),
        is_header: record.u32_at(4).unwrap_or(0) & HEADER_CELL != 0,
        blocks: Vec::new(),
    });
    if row_span == 1 {
        body.set_cell_height(record.u32_at(20).unwrap_or(0));
    }
}

/// Height of the text area of a page, in HWP units.
fn body_height(page_def: &Record<'_>) -> u32 {
    let field = |offset| page_def.u32_at(offset).unwrap_or(0);
    let is_landscape = field(36) & 1 != 0;
    let height = if is_landscape { field(0) } else { field(4) };
    // Margins at the top and the bottom, then those of header and footer.
    [16, 20, 24, 28]
        .into_iter()
        .fold(height, |rest, margin| rest.saturating_sub(field(margin)))
}

/// The text of a control that stands for characters: an automatic number, overlaid characters, a gloss.
fn character_control(id: [u8; 4], record: &Record<'_>) -> Option<String> {
    match &id {
        b"atno" => {
            let attributes = record.u32_at(4)?;
            // Numbers of pages (kind 0, and 6 for their total) mean nothing outside the page.
            if matches!(attributes & 0xF, 0 | 6) {
                return None;
            }
            let format = NumberFormat::from_code((attributes >> 4) & 0xFF);
            let number = format.spell(u32::from(record.u16_at(8)?));
            let decoration = |offset| {
                let unit = u32::from(record.u16_at(offset).unwrap_or(0));
                char::from_u32(unit).filter(|character| !character.is_control())
            };
            let parts = decoration(12).into_iter().chain(number.chars());
            Some(parts.chain(decoration(14)).collect())
        }
        b"tcps" => Some(record.string_at(4)?.0),
        b"tdut" => {
            let (text, end) = record.string_at(4)?;
            let gloss = record.string_at(end).unwrap_or_default().0;
            Some(format!("{text}({gloss})"))
        }
        _ => None,
    }
}

/// A piece of a paragraph's text.
enum Piece<'s> {
    /// Characters, as UTF-16 units.
    Characters(&'s [[u8; 2]]),
    /// A control character.
    Control(u16),
}

/// Cuts a paragraph's text into pieces, each with its position in UTF-16 units.
fn pieces(data: &[u8]) -> impl Iterator<Item = (usize, Piece<'_>)> {
    let (units, _) = data.as_chunks::<2>();
    let mut rest = units;
    std::iter::from_fn(move || {
        let position = units.len() - rest.len();
        let unit = u16::from_le_bytes(*rest.first()?);
        let is_character = |pair: &&[u8; 2]| u16::from_le_bytes(**pair) >= 32;
        let n_units = match unit {
            1..=9 | 11 | 12 | 14..=23 => 8,
            0 | 10 | 13 | 24..=31 => 1,
            32.. => rest.iter().take_while(is_character).count(),
        };
        let (piece, behind) = rest.split_at(n_units.min(rest.len()));
        rest = behind;
        let piece = match unit {
            32.. => Piece::Characters(piece),
            0..32 => Piece::Control(unit),
        };
        Some((position, piece))
    })
}

/// Decodes a paragraph's text; each control that owns a record leaves a reserved place.
fn read_text(data: &[u8], body: &mut Body<'_>) {
    for (_, piece) in pieces(data) {
        match piece {
            Piece::Characters(units) => {
                // Hancom's own character for the first syllable of its word processor's name.
                let text = utf16(units.as_flattened());
                body.text(&text.replace('\u{F53A}', "\u{1112}\u{119E}\u{11AB}"));
            }
            // The controls with a record of their own.
            Piece::Control(1..=3 | 11 | 12 | 14..=18 | 21..=23) => body.reserve(),
            Piece::Control(9 | 30 | 31) => body.text(" "),
            Piece::Control(10) => body.text("\n"),
            Piece::Control(24) => body.text("-"),
            Piece::Control(_) => {}
        }
    }
}

/// Tells the body how the visible characters of a paragraph look. `runs` holds pairs of a position in the text, in
/// UTF-16 units, and the character shape from there on.
fn read_looks(text: &[u8], runs: &Record<'_>, body: &mut Body<'_>) {
    let visible: Vec<Range<usize>> = pieces(text)
        .filter_map(|(start, piece)| match piece {
            Piece::Characters(units) if units.iter().any(|unit| *unit != [b' ', 0]) => {
                Some(start..start + units.len())
            }
            Piece::Characters(_) | Piece::Control(_) => None,
        })
        .collect();
    let position = |index: usize| usize::try_from(runs.u32_at(8 * index)?).ok();
    let mut first_visible = 0;
    for index in 0..runs.data.len() / 8 {
        let (Some(start), Some(shape)) = (position(index), runs.u32_at(8 * index + 4)) else {
            break;
        };
        let end = position(index + 1).unwrap_or(usize::MAX);
        while visible
            .get(first_visible)
            .is_some_and(|range| range.end <= start)
        {
            first_visible += 1;
        }
        if visible
            .get(first_visible)
            .is_some_and(|range| range.start < end)
        {
            body.look(shape);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::BlockKind;
    use super::super::definitions::CharacterShape;
    use super::*;

    /// Appends a record.
    pub(in super::super) fn push(stream: &mut Vec<u8>, tag: u32, level: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        stream.extend((tag | level << 10 | 0xFFF << 20).to_le_bytes());
        stream.extend(length.to_le_bytes());
        stream.extend(data);
    }

    /// Appends a paragraph of shape 0; control characters in `units` are written as Hangul does.
    pub(in super::super) fn push_paragraph(stream: &mut Vec<u8>, level: u32, text: &str) {
        push(stream, tag::PARA_HEADER, level, &[0; 24]);
        let mut data = Vec::new();
        for unit in text.encode_utf16() {
            let n_times = match unit {
                10 | 13 | 24.. => 1,
                _ => 8,
            };
            for _ in 0..n_times {
                data.extend(unit.to_le_bytes());
            }
        }
        push(stream, tag::PARA_TEXT, level + 1, &data);
    }

    fn push_control(stream: &mut Vec<u8>, level: u32, id: &[u8; 4], rest: &[u8]) {
        let mut data: Vec<u8> = id.iter().rev().copied().collect();
        data.extend(rest);
        push(stream, tag::CTRL_HEADER, level, &data);
    }

    fn push_cell(stream: &mut Vec<u8>, level: u32, fields: [u16; 4], text: &str) {
        let mut data = vec![0; 8];
        data.extend(fields.into_iter().flat_map(u16::to_le_bytes));
        push(stream, tag::LIST_HEADER, level, &data);
        push_paragraph(stream, level, text);
    }

    fn texts(stream: &[u8]) -> Vec<String> {
        let definitions = Definitions::default();
        let mut reader = SectionReader::new(&definitions);
        reader.read(stream, &Budget::standard()).unwrap();
        let blocks = reader.into_blocks().into_iter();
        blocks.map(|block| block.text).collect()
    }

    #[test]
    fn control_characters_take_their_place() {
        fn check(text: &str, expected: &[&str]) {
            let mut stream = Vec::new();
            push_paragraph(&mut stream, 0, text);
            assert_eq!(texts(&stream), expected);
        }
        check("휴직\t기간\r", &["휴직 기간"]);
        check("첫 줄\n둘째 줄\r", &["첫 줄\n둘째 줄"]);
        check("\u{3}누름틀\u{4}의 값", &["누름틀의 값"]);
        check("인사\u{18}노무\u{1E}팀", &["인사-노무 팀"]);
        check("\u{1F600}", &["\u{1F600}"]);
        check("\u{F53A}글", &["\u{1112}\u{119E}\u{11AB}글"]);
        check("\r", &[]);
    }

    #[test]
    fn a_line_of_large_characters_is_a_heading() {
        let shape = |n_half_points| CharacterShape {
            is_bold: false,
            n_half_points,
        };
        let mut definitions = Definitions::default();
        definitions.add_character_shape(0, shape(20));
        definitions.add_character_shape(1, shape(32));
        let looks = |runs: &[[u32; 2]]| -> Vec<u8> {
            let numbers = runs.iter().flatten();
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        };
        let mut stream = Vec::new();
        // The control at the start and the paragraph's end are small, which nobody sees.
        push_paragraph(&mut stream, 0, "\u{2}휴직 안내\r");
        let runs = looks(&[[0, 0], [8, 1], [13, 0]]);
        push(&mut stream, tag::PARA_CHAR_SHAPE, 1, &runs);
        for _ in 0..2 {
            push_paragraph(
                &mut stream,
                0,
                "휴직은 다음과 같이 구분하고 그 기간은 따로 정한다.\r",
            );
            push(&mut stream, tag::PARA_CHAR_SHAPE, 1, &looks(&[[0, 0]]));
        }
        let mut reader = SectionReader::new(&definitions);
        reader.read(&stream, &Budget::standard()).unwrap();
        let kinds: Vec<BlockKind> = reader
            .into_blocks()
            .into_iter()
            .map(|block| block.kind)
            .collect();
        let expected = [
            BlockKind::Heading { level: 1 },
            BlockKind::Paragraph,
            BlockKind::Paragraph,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn tables_notes_and_boxes_are_read_and_headers_are_not() {
        let mut stream = Vec::new();
        push_paragraph(&mut stream, 0, "\u{2}앞\u{B}뒤\u{11}\u{10}\u{B}\r");
        push_control(&mut stream, 1, b"secd", &[0; 30]);
        push_paragraph(&mut stream, 2, "바탕쪽");
        push_control(&mut stream, 1, b"tbl ", &[1, 0, 0, 0]);
        push(&mut stream, tag::LIST_HEADER, 2, &[0; 12]);
        push_paragraph(&mut stream, 2, "표 제목");
        push(&mut stream, tag::TABLE, 2, &[]);
        push_cell(&mut stream, 2, [0, 0, 1, 2], "구분");
        push_cell(&mut stream, 2, [1, 0, 1, 1], "국내");
        push_cell(&mut stream, 2, [1, 1, 1, 1], "국외");
        push_control(&mut stream, 1, b"fn  ", &[0; 16]);
        push(&mut stream, tag::LIST_HEADER, 2, &[0; 16]);
        push_paragraph(&mut stream, 2, "각주");
        push_control(&mut stream, 1, b"head", &[0; 16]);
        push(&mut stream, tag::LIST_HEADER, 2, &[0; 16]);
        push_paragraph(&mut stream, 2, "머리말");
        push_control(&mut stream, 1, b"gso ", &[0; 16]);
        push(&mut stream, 76, 2, &[]);
        push(&mut stream, tag::LIST_HEADER, 3, &[0; 16]);
        push_paragraph(&mut stream, 3, "글상자");
        let expected = [
            "앞",
            "표 제목",
            "구분 | 국내",
            "구분 | 국외",
            "뒤",
            "글상자",
            "각주",
        ];
        assert_eq!(texts(&stream), expected);
    }

    #[test]
    fn numbers_equations_and_glosses_stand_in_the_text() {
        let mut stream = Vec::new();
        push_paragraph(&mut stream, 0, "\u{12}식 \u{B}와 \u{17}");
        push_control(
            &mut stream,
            1,
            b"atno",
            &[0x11, 0, 0, 0, 3, 0, 0, 0, 0, 0, b')', 0],
        );
        push_control(&mut stream, 1, b"eqed", &[0; 16]);
        push(&mut stream, tag::EQUATION, 2, &[0, 0, 0, 0, 1, 0, b'x', 0]);
        push_control(&mut stream, 1, b"tdut", &[1, 0, b'a', 0, 1, 0, b'b', 0]);
        assert_eq!(texts(&stream), ["③)식 x 와 a(b)"]);
    }

    #[test]
    fn levels_without_owners_lose_no_text() {
        let mut stream = Vec::new();
        push(&mut stream, tag::LIST_HEADER, 3, &[]);
        push_paragraph(&mut stream, 7, "홀로");
        push_control(&mut stream, 2, b"tbl ", &[]);
        push(&mut stream, tag::TABLE, 9, &[]);
        push_cell(&mut stream, 3, [u16::MAX; 4], "칸");
        push_paragraph(&mut stream, 1023, "깊이");
        let mut found = texts(&stream);
        found.sort();
        assert_eq!(found, ["깊이", "칸", "홀로"]);
    }
}
