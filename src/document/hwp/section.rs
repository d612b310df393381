//! The records of a `BodyText` section → blocks.
//!
//! Paragraphs own controls (tables, shapes, notes), controls own lists of paragraphs; the records give this tree by
//! their levels. [`SectionReader`] keeps the open paragraphs and controls on a stack of its own, at most one for each
//! level. Left out on purpose: headers, footers, master pages, hidden comments, and numbers of pages.

use std::collections::VecDeque;

use anyhow::Result;

use super::super::flow::{Paragraph, Part};
use super::super::numbering::{Counters, List, NumberFormat};
use super::super::table::{self, Cell};
use super::super::{Block, Budget};
use super::doc_info::{DocInfo, Head, ParagraphShape};
use super::pages::PageEstimate;
use super::record::{Record, Records, tag, utf16};

/// How many records are read between two looks at the clock.
const RECORDS_PER_TIME_CHECK: usize = 4096;

/// Bytes of a line in a `PARA_LINE_SEG` record.
const LINE_SEGMENT_BYTES: usize = 36;

/// Reads the sections of one document, one after the other.
pub(super) struct SectionReader<'a> {
    info: &'a DocInfo,
    counters: Counters,
    pages: PageEstimate,
    /// The numbering of the current section's outline.
    outline: u32,
    n_tables: u32,
    frames: Vec<Frame>,
    /// The level of a control whose content is left out, while that content passes.
    left_out: Option<u32>,
    blocks: Vec<Block>,
}

/// An open paragraph or control, with its record level.
enum Frame {
    Paragraph {
        level: u32,
        paragraph: Paragraph,
        /// The shape until the label is computed. That waits for the first control: a section's first paragraph counts
        /// in the outline that a control in it names.
        unlabelled: Option<ParagraphShape>,
        /// The parts that wait for the paragraph's controls, in order.
        slots: VecDeque<usize>,
    },
    Control {
        level: u32,
        control: Control,
        /// Which part of the paragraph it becomes; `None` where the text names no place for it.
        slot: Option<usize>,
    },
}

enum Control {
    Table(Table),
    Shape { in_line: bool, blocks: Vec<Block> },
    Note { blocks: Vec<Block> },
    Equation { script: String },
}

/// A table while it is read.
struct Table {
    /// Its number in the document, from 0.
    number: u32,
    in_line: bool,
    /// Whether it stands in the body, where it can break over pages.
    in_body: bool,
    /// In HWP units.
    height: u32,
    /// Whether the cells have begun: a list of paragraphs before them is the caption.
    has_begun: bool,
    caption: Vec<Block>,
    caption_is_below: bool,
    cells: Vec<Cell>,
    /// Height of the rows above the current one, and of the current one, in HWP units.
    height_above: u32,
    row_height: u32,
}

impl Frame {
    fn level(&self) -> u32 {
        match self {
            Frame::Paragraph { level, .. } | Frame::Control { level, .. } => *level,
        }
    }
}

impl<'a> SectionReader<'a> {
    /// Starts a document.
    pub(super) fn new(info: &'a DocInfo) -> SectionReader<'a> {
        SectionReader {
            info,
            counters: Counters::default(),
            pages: PageEstimate::default(),
            outline: 1,
            n_tables: 0,
            frames: Vec::new(),
            left_out: None,
            blocks: Vec::new(),
        }
    }

    /// Reads one decompressed section; `true` where it was whole, `false` where it ends inside a record.
    ///
    /// # Errors
    /// When the budget's time is used up.
    pub(super) fn read(&mut self, stream: &[u8], budget: &Budget) -> Result<bool> {
        self.pages.begin_section();
        let mut records = Records::new(stream);
        for (index, record) in records.by_ref().enumerate() {
            if index.is_multiple_of(RECORDS_PER_TIME_CHECK) {
                budget.check_time()?;
            }
            self.record(&record);
        }
        self.left_out = None;
        self.close(0);
        Ok(!records.is_damaged())
    }

    /// The blocks of all sections read.
    pub(super) fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }

    fn record(&mut self, record: &Record<'_>) {
        if record.tag == tag::PAGE_DEF {
            self.pages.set_body_height(body_height(record));
        }
        if self.left_out.is_some_and(|level| record.level > level) {
            return;
        }
        self.left_out = None;
        match record.tag {
            tag::PARA_HEADER => {
                self.close(record.level);
                self.begin_paragraph(record);
            }
            tag::CTRL_HEADER => {
                self.close(record.level);
                self.begin_control(record);
            }
            tag::LIST_HEADER => {
                self.close(record.level);
                self.begin_list(record);
            }
            tag::PARA_TEXT | tag::PARA_LINE_SEG => self.paragraph_detail(record),
            tag::TABLE | tag::EQUATION => {
                self.close(record.level);
                self.control_detail(record);
            }
            _ => {}
        }
    }

    fn begin_paragraph(&mut self, record: &Record<'_>) {
        let shape = self.info.paragraph_shape(record.u16_at(8).unwrap_or(0));
        let page = self.current_page();
        self.frames.push(Frame::Paragraph {
            level: record.level,
            paragraph: Paragraph {
                outline_level: (shape.head == Head::Outline).then_some(shape.level + 1),
                label: String::new(),
                page,
                parts: Vec::new(),
            },
            unlabelled: Some(shape),
            slots: VecDeque::new(),
        });
    }

    /// Computes the label of the innermost paragraph, once.
    fn put_label(&mut self) {
        let Some(Frame::Paragraph { unlabelled, .. }) = self.frames.last_mut() else {
            return;
        };
        let Some(shape) = unlabelled.take() else {
            return;
        };
        let text = self.label(shape);
        if let Some(Frame::Paragraph { paragraph, .. }) = self.frames.last_mut() {
            paragraph.label = text;
        }
    }

    fn label(&mut self, shape: ParagraphShape) -> String {
        let (list, number) = match shape.head {
            Head::Outline => (List::Outline(self.outline), self.outline),
            Head::Number(number) => (List::Numbered(number), number),
            Head::Bullet(number) => return self.info.bullet(number).unwrap_or("").to_owned(),
            Head::None => return String::new(),
        };
        let level = usize::from(shape.level);
        let numbering = self.info.numbering(number);
        numbering.map_or_else(String::new, |numbering| {
            self.counters.next_label(list, numbering, level)
        })
    }

    /// The page of a paragraph that begins here: inside a table of the body, that of the row.
    fn current_page(&self) -> Option<u32> {
        let tables = self.frames.iter().find_map(|frame| match frame {
            Frame::Control {
                control: Control::Table(table),
                ..
            } if table.in_body => Some(table.height_above),
            Frame::Control { .. } | Frame::Paragraph { .. } => None,
        });
        self.pages.page_below(tables.unwrap_or(0))
    }

    fn paragraph_detail(&mut self, record: &Record<'_>) {
        let is_in_body = self.frames.len() == 1;
        let Some(Frame::Paragraph {
            paragraph, slots, ..
        }) = self.frames.last_mut()
        else {
            return;
        };
        if record.tag == tag::PARA_TEXT {
            read_text(record.data, &mut paragraph.parts, slots);
        } else if is_in_body {
            for (index, line) in record.data.chunks(LINE_SEGMENT_BYTES).enumerate() {
                if let Some(position) = line.get(4..).and_then(|bytes| bytes.first_chunk()) {
                    self.pages.line(i32::from_le_bytes(*position));
                }
                if index == 0 {
                    paragraph.page = self.pages.page();
                }
            }
        }
    }

    fn control_detail(&mut self, record: &Record<'_>) {
        let Some(Frame::Control { control, .. }) = self.frames.last_mut() else {
            return;
        };
        match control {
            Control::Table(table) => table.has_begun = true,
            Control::Equation { script } => {
                *script = record.string_at(4).unwrap_or_default().0;
            }
            Control::Shape { .. } | Control::Note { .. } => {}
        }
    }

    fn begin_control(&mut self, record: &Record<'_>) {
        let id = record.u32_at(0).unwrap_or(0).to_be_bytes();
        let in_line = record.u32_at(4).unwrap_or(0) & 1 != 0;
        let slot = match self.frames.last_mut() {
            Some(Frame::Paragraph { slots, .. }) => slots.pop_front(),
            Some(Frame::Control { .. }) | None => None,
        };
        if id != *b"secd" {
            self.put_label();
        }
        let control = match &id {
            b"tbl " => Control::Table(self.begin_table(record, in_line)),
            b"gso " => Control::Shape {
                in_line,
                blocks: Vec::new(),
            },
            b"fn  " | b"en  " => Control::Note { blocks: Vec::new() },
            b"eqed" => Control::Equation {
                script: String::new(),
            },
            b"atno" | b"tcps" | b"tdut" => {
                let text = character_control(id, record).unwrap_or_default();
                self.put(slot, Part::Text(text));
                return;
            }
            b"head" | b"foot" | b"tcmt" => {
                self.left_out = Some(record.level);
                return;
            }
            b"secd" => {
                self.outline = record.u16_at(18).map_or(1, u32::from);
                self.left_out = Some(record.level);
                return;
            }
            b"cold" => {
                let attributes = record.u16_at(4).unwrap_or(0);
                self.pages.set_columns(u32::from((attributes >> 2) & 0xFF));
                return;
            }
            _ => return,
        };
        self.frames.push(Frame::Control {
            level: record.level,
            control,
            slot,
        });
    }

    fn begin_table(&mut self, record: &Record<'_>, in_line: bool) -> Table {
        self.n_tables += 1;
        Table {
            number: self.n_tables - 1,
            in_line,
            in_body: self.frames.len() == 1,
            height: record.u32_at(20).unwrap_or(0),
            has_begun: false,
            caption: Vec::new(),
            caption_is_below: false,
            cells: Vec::new(),
            height_above: 0,
            row_height: 0,
        }
    }

    /// A list of paragraphs begins in the innermost control: a cell, a caption, a note's text, a text box.
    fn begin_list(&mut self, record: &Record<'_>) {
        let Some(Frame::Control {
            control: Control::Table(table),
            ..
        }) = self.frames.last_mut()
        else {
            return;
        };
        if !table.has_begun {
            // Left 0, right 1, top 2, bottom 3.
            table.caption_is_below = record.u32_at(8).unwrap_or(0) & 1 != 0;
            return;
        }
        let field = |offset| u32::from(record.u16_at(offset).unwrap_or(0));
        let row = field(10);
        if table.cells.last().is_some_and(|last| last.row != row) {
            table.height_above = table.height_above.saturating_add(table.row_height);
            table.row_height = 0;
        }
        let row_span = field(14).max(1);
        if row_span == 1 {
            let height = record.u32_at(20).unwrap_or(0);
            table.row_height = table.row_height.max(height);
        }
        table.cells.push(Cell {
            row,
            column: field(8),
            row_span,
            column_span: field(12).max(1),
            is_header: record.u32_at(4).unwrap_or(0) & HEADER_CELL != 0,
            blocks: Vec::new(),
        });
    }

    /// Closes what is open at this level or deeper.
    fn close(&mut self, level: u32) {
        while self.frames.last().is_some_and(|top| top.level() >= level) {
            self.put_label();
            match self.frames.pop() {
                Some(Frame::Paragraph { paragraph, .. }) => {
                    let blocks = paragraph.into_blocks();
                    self.container().extend(blocks);
                }
                Some(Frame::Control { control, slot, .. }) => {
                    let part = self.end_control(control);
                    self.put(slot, part);
                }
                None => {}
            }
        }
    }

    fn end_control(&mut self, control: Control) -> Part {
        match control {
            Control::Table(table) => {
                if table.in_body && !table.in_line {
                    self.pages.end_table(table.height);
                }
                let rows = table::into_blocks(table.number, table.cells);
                let (above, below) = if table.caption_is_below {
                    (Vec::new(), table.caption)
                } else {
                    (table.caption, Vec::new())
                };
                Part::Object {
                    blocks: [above, rows, below].concat(),
                    in_line: table.in_line,
                }
            }
            Control::Shape { in_line, blocks } => Part::Object { blocks, in_line },
            Control::Note { blocks } => Part::Note(blocks),
            Control::Equation { script } => Part::Text(format!(" {script} ")),
        }
    }

    /// Where the blocks of a closed paragraph belong: the current list of the innermost control, or the body.
    fn container(&mut self) -> &mut Vec<Block> {
        let controls = self
            .frames
            .iter_mut()
            .rev()
            .filter_map(|frame| match frame {
                Frame::Control { control, .. } => Some(control),
                Frame::Paragraph { .. } => None,
            });
        let lists = controls.filter_map(|control| match control {
            Control::Table(table) => match table.cells.last_mut() {
                Some(cell) => Some(&mut cell.blocks),
                None => Some(&mut table.caption),
            },
            Control::Shape { blocks, .. } | Control::Note { blocks } => Some(blocks),
            Control::Equation { .. } => None,
        });
        lists.into_iter().next().unwrap_or(&mut self.blocks)
    }

    /// Gives a control's result to the paragraph that owns it.
    fn put(&mut self, slot: Option<usize>, part: Part) {
        let Some(Frame::Paragraph { paragraph, .. }) = self.frames.last_mut() else {
            // A control without a paragraph is damage; its text is kept.
            if let Part::Object { blocks, .. } | Part::Note(blocks) = part {
                self.container().extend(blocks);
            }
            return;
        };
        match slot.and_then(|slot| paragraph.parts.get_mut(slot)) {
            Some(place) => *place = part,
            None => paragraph.parts.push(part),
        }
    }
}

/// Bit 18 of a cell's attributes: the cell belongs to the header rows.
const HEADER_CELL: u32 = 1 << 18;

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

/// Decodes a paragraph's text. Each control that owns a record leaves an empty part and its index in `slots`.
fn read_text(data: &[u8], parts: &mut Vec<Part>, slots: &mut VecDeque<usize>) {
    let (pairs, _) = data.as_chunks::<2>();
    let mut rest = pairs;
    while let Some((first, behind)) = rest.split_first() {
        let unit = u16::from_le_bytes(*first);
        if unit >= 32 {
            let n_units = rest
                .iter()
                .take_while(|pair| u16::from_le_bytes(**pair) >= 32)
                .count();
            let (text, behind) = rest.split_at(n_units);
            parts.push(Part::Text(decode(text)));
            rest = behind;
            continue;
        }
        let is_long = matches!(unit, 1..=9 | 11 | 12 | 14..=23);
        rest = if is_long {
            behind.get(7..).unwrap_or(&[])
        } else {
            behind
        };
        match unit {
            // The controls with a record of their own.
            1..=3 | 11 | 12 | 14..=18 | 21..=23 => {
                slots.push_back(parts.len());
                parts.push(Part::Text(String::new()));
            }
            9 | 30 | 31 => parts.push(Part::Text(" ".to_owned())),
            10 => parts.push(Part::Text("\n".to_owned())),
            24 => parts.push(Part::Text("-".to_owned())),
            _ => {}
        }
    }
}

fn decode(units: &[[u8; 2]]) -> String {
    let text = utf16(units.as_flattened());
    // Hancom's own character for the first syllable of its word processor's name.
    text.replace('\u{F53A}', "\u{1112}\u{119E}\u{11AB}")
}

#[cfg(test)]
pub(super) mod tests {
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
        let info = DocInfo::default();
        let mut reader = SectionReader::new(&info);
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
