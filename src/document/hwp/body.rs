//! The tree of a Hangul document, met from its root to its leaves → blocks.
//!
//! Paragraphs own controls (tables, shapes, notes), controls own paragraphs. HWP 5 gives this tree as records with
//! levels, HWPX as XML elements with depths: both readers tell [`Body`] what begins at which level, and
//! [`Body::close`] ends it. The open paragraphs and controls are kept on a stack here, so nothing recurses. Labels are
//! counted and pages estimated on the way.

use std::collections::VecDeque;

use super::super::flow::{self, Paragraph, Part};
use super::super::merged_table::{self, Cell};
use super::super::prominence::{self, Draft, Look};
use super::super::structure;
use super::super::{Block, BlockKind};
use super::definitions::{CharacterShape, Definitions, Head, ParagraphShape};
use super::numbering::{Counters, List};
use super::pages::PageEstimate;

/// Most paragraphs that are read of one document: some ten thousand pages. A small file can claim billions.
pub(in crate::document) const MAX_PARAGRAPHS: usize = 1_000_000;

/// The text of one document while it is read.
pub(in crate::document) struct Body<'a> {
    definitions: &'a Definitions,
    counters: Counters,
    /// Where pages begin.
    pub(in crate::document) pages: PageEstimate,
    /// The numbering of the current section's outline.
    outline: u32,
    n_tables: u32,
    n_paragraphs: usize,
    frames: Vec<Frame>,
    /// Height, in HWP units, of the highest table in the open paragraph of the body that can break over pages.
    breakable_height: u32,
    drafts: Vec<Draft>,
}

/// An open paragraph or control, with its level.
enum Frame {
    Paragraph {
        level: u32,
        paragraph: Paragraph,
        look: Option<CharacterShape>,
        /// The shape until the label is computed. That waits for the first control: a section's first paragraph counts
        /// in the outline that a control in it names.
        unlabelled: Option<ParagraphShape>,
        /// The parts that wait for the paragraph's controls, in order.
        slots: VecDeque<usize>,
    },
    Control {
        level: u32,
        control: Control,
        /// Which part of the paragraph it becomes; `None` where the text reserves no place for it.
        slot: Option<usize>,
    },
}

/// What a paragraph can own.
enum Control {
    Table(Table),
    Shape { in_line: bool, blocks: Vec<Block> },
    Note { blocks: Vec<Block> },
    Equation { script: String },
}

/// A table while it is read.
#[derive(Default)]
struct Table {
    /// Its number in the document, from 0.
    number: u32,
    in_line: bool,
    /// Whether it stands in the body, where it can break over pages.
    in_body: bool,
    /// In HWP units, as the following heights.
    height: u32,
    /// Whether the cells have begun: paragraphs before them are the caption.
    has_cells: bool,
    caption: Vec<Block>,
    caption_is_below: bool,
    cells: Vec<Cell>,
    height_above_row: u32,
    row_height: u32,
}

impl Frame {
    fn level(&self) -> u32 {
        match self {
            Frame::Paragraph { level, .. } | Frame::Control { level, .. } => *level,
        }
    }
}

impl<'a> Body<'a> {
    /// Starts a document.
    pub(in crate::document) fn new(definitions: &'a Definitions) -> Body<'a> {
        Body {
            definitions,
            counters: Counters::default(),
            pages: PageEstimate::default(),
            outline: 1,
            n_tables: 0,
            n_paragraphs: 0,
            frames: Vec::new(),
            breakable_height: 0,
            drafts: Vec::new(),
        }
    }

    /// The blocks of everything closed; lines that stand out are headings.
    pub(in crate::document) fn into_blocks(self) -> Vec<Block> {
        let mut drafts = self.drafts;
        prominence::mark_headings(&mut drafts);
        drafts.into_iter().map(|draft| draft.block).collect()
    }

    /// Whether [`MAX_PARAGRAPHS`] have begun, so that reading should end.
    pub(in crate::document) fn is_full(&self) -> bool {
        self.n_paragraphs >= MAX_PARAGRAPHS
    }

    /// The outline of the section that begins in the open paragraph is counted by this numbering.
    pub(in crate::document) fn set_outline(&mut self, numbering: u32) {
        self.outline = numbering;
    }

    /// A paragraph of this shape begins.
    pub(in crate::document) fn begin_paragraph(&mut self, level: u32, shape: u32) {
        self.n_paragraphs += 1;
        let shape = self.definitions.paragraph_shape(shape);
        let page = self.current_page();
        self.frames.push(Frame::Paragraph {
            level,
            paragraph: Paragraph {
                outline_level: (shape.head == Head::Outline).then_some(shape.level + 1),
                label: String::new(),
                page,
                parts: Vec::new(),
            },
            look: None,
            unlabelled: Some(shape),
            slots: VecDeque::new(),
        });
    }

    /// Text of the open paragraph.
    pub(in crate::document) fn text(&mut self, text: &str) {
        let Some(Frame::Paragraph { paragraph, .. }) = self.frames.last_mut() else {
            return;
        };
        match paragraph.parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            Some(Part::Object { .. } | Part::Note(_)) | None => {
                paragraph.parts.push(Part::Text(text.to_owned()));
            }
        }
    }

    /// Some of the open paragraph's text has this character shape.
    pub(in crate::document) fn look(&mut self, shape: u32) {
        let shape = self.definitions.character_shape(shape);
        if let Some(Frame::Paragraph { look, .. }) = self.frames.last_mut() {
            *look = Some(look.map_or(shape, |look| CharacterShape {
                is_bold: look.is_bold && shape.is_bold,
                n_half_points: look.n_half_points.max(shape.n_half_points),
            }));
        }
    }

    /// Here in the open paragraph stands a control that comes later. Reserved places are filled in order.
    pub(in crate::document) fn reserve(&mut self) {
        if let Some(Frame::Paragraph {
            paragraph, slots, ..
        }) = self.frames.last_mut()
        {
            slots.push_back(paragraph.parts.len());
            // The second part keeps the text that follows out of the reserved one.
            let empty = || Part::Text(String::new());
            paragraph.parts.extend([empty(), empty()]);
        }
    }

    /// A control that stands for these characters: a number, a gloss; nothing for one that is left out.
    pub(in crate::document) fn characters(&mut self, text: String) {
        let slot = self.take_slot();
        self.put(slot, Part::Text(text));
    }

    /// A table begins.
    pub(in crate::document) fn begin_table(&mut self, level: u32) {
        let table = Table {
            number: self.n_tables,
            in_body: self.frames.len() == 1,
            ..Table::default()
        };
        self.n_tables += 1;
        self.begin_control(level, Control::Table(table));
    }

    /// A shape begins: a text box, picture, group.
    pub(in crate::document) fn begin_shape(&mut self, level: u32) {
        let control = Control::Shape {
            in_line: false,
            blocks: Vec::new(),
        };
        self.begin_control(level, control);
    }

    /// A footnote or endnote begins.
    pub(in crate::document) fn begin_note(&mut self, level: u32) {
        self.begin_control(level, Control::Note { blocks: Vec::new() });
    }

    /// An equation begins.
    pub(in crate::document) fn begin_equation(&mut self, level: u32) {
        let script = String::new();
        self.begin_control(level, Control::Equation { script });
    }

    fn begin_control(&mut self, level: u32, control: Control) {
        self.put_label();
        let slot = self.take_slot();
        self.frames.push(Frame::Control {
            level,
            control,
            slot,
        });
    }

    /// Whether the innermost control stands in the line like a character.
    pub(in crate::document) fn set_in_line(&mut self, is_in_line: bool) {
        match self.control() {
            Some(Control::Table(Table { in_line, .. }) | Control::Shape { in_line, .. }) => {
                *in_line = is_in_line;
            }
            Some(Control::Note { .. } | Control::Equation { .. }) | None => {}
        }
    }

    /// More of the script of the innermost equation.
    pub(in crate::document) fn equation_script(&mut self, text: &str) {
        if let Some(Control::Equation { script }) = self.control() {
            script.push_str(text);
        }
    }

    /// Text that the innermost shape itself shows, such as word art.
    pub(in crate::document) fn shape_text(&mut self, text: &str) {
        let page = self.current_page();
        if let Some(Control::Shape { blocks, .. }) = self.control() {
            blocks.extend(flow::block(BlockKind::Paragraph, text, page));
        }
    }

    /// The height of the innermost table, in HWP units.
    pub(in crate::document) fn set_table_height(&mut self, height: u32) {
        if let Some(Control::Table(table)) = self.control() {
            table.height = height;
        }
    }

    /// The caption of the innermost table stands below or beside it.
    pub(in crate::document) fn set_caption_below(&mut self) {
        if let Some(Control::Table(table)) = self.control() {
            table.caption_is_below = true;
        }
    }

    /// The cells of the innermost table begin.
    pub(in crate::document) fn begin_cells(&mut self) {
        if let Some(Control::Table(table)) = self.control() {
            table.has_cells = true;
        }
    }

    /// Whether the innermost control is a table whose cells have begun.
    pub(in crate::document) fn has_cells(&mut self) -> bool {
        matches!(self.control(), Some(Control::Table(table)) if table.has_cells)
    }

    /// A row of the innermost table begins.
    pub(in crate::document) fn begin_row(&mut self) {
        if let Some(Control::Table(table)) = self.control() {
            table.height_above_row = table.height_above_row.saturating_add(table.row_height);
            table.row_height = 0;
        }
    }

    /// A cell of the innermost table begins; its paragraphs follow.
    pub(in crate::document) fn begin_cell(&mut self, cell: Cell) {
        if let Some(Control::Table(table)) = self.control() {
            table.cells.push(cell);
        }
    }

    /// The cell of the innermost table that began last.
    pub(in crate::document) fn cell(&mut self) -> Option<&mut Cell> {
        match self.control() {
            Some(Control::Table(table)) => table.cells.last_mut(),
            Some(Control::Shape { .. } | Control::Note { .. } | Control::Equation { .. })
            | None => None,
        }
    }

    /// The height of that cell, in HWP units; not for cells that span rows.
    pub(in crate::document) fn set_cell_height(&mut self, height: u32) {
        if let Some(Control::Table(table)) = self.control() {
            table.row_height = table.row_height.max(height);
        }
    }

    /// A line of the open paragraph stands at `position`, in HWP units below the top of its column.
    pub(in crate::document) fn line(&mut self, position: i32, is_first: bool) {
        let [Frame::Paragraph { paragraph, .. }] = self.frames.as_mut_slice() else {
            return;
        };
        self.pages.line(position);
        let page = self.pages.page();
        if is_first && page != paragraph.page {
            // What the paragraph owns was placed before its first line was known.
            let n_pages_on = page.unwrap_or(0) - paragraph.page.unwrap_or(0).min(page.unwrap_or(0));
            for part in &mut paragraph.parts {
                if let Part::Object { blocks, .. } | Part::Note(blocks) = part {
                    for block in blocks {
                        let page = block.location.page.unwrap_or(0);
                        block.location.page = Some(page.saturating_add(n_pages_on));
                    }
                }
            }
            paragraph.page = page;
        }
    }

    /// Ends what is open at this level or deeper.
    pub(in crate::document) fn close(&mut self, level: u32) {
        while self.frames.last().is_some_and(|top| top.level() >= level) {
            self.put_label();
            match self.frames.pop() {
                Some(Frame::Paragraph {
                    paragraph, look, ..
                }) => self.end_paragraph(paragraph, look),
                Some(Frame::Control { control, slot, .. }) => {
                    let part = self.end_control(control);
                    self.put(slot, part);
                }
                None => {}
            }
        }
    }

    fn end_paragraph(&mut self, paragraph: Paragraph, look: Option<CharacterShape>) {
        if self.frames.is_empty() {
            self.pages.end_table(self.breakable_height);
            self.breakable_height = 0;
        }
        let text: String = paragraph
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Object { .. } | Part::Note(_) => None,
            })
            .collect();
        // Lines with a number are recognised by their series, whatever their looks.
        let is_plain = paragraph.label.is_empty()
            && !structure::begins_unit(&text)
            && !paragraph.parts.iter().any(|part| match part {
                Part::Text(_) => false,
                Part::Object { blocks, .. } | Part::Note(blocks) => !blocks.is_empty(),
            });
        let look = look.unwrap_or_default();
        let look = Look {
            // Offices print much in bold that heads nothing: signatures, dates, field names of forms.
            is_bold: false,
            n_half_points: look.n_half_points,
            is_item: !is_plain,
            is_title: false,
        };
        self.put_blocks(paragraph.into_blocks(), look);
    }

    fn end_control(&mut self, control: Control) -> Part {
        match control {
            Control::Table(table) => {
                if table.in_body && !table.in_line {
                    self.breakable_height = self.breakable_height.max(table.height);
                }
                let rows = merged_table::into_blocks(table.number, table.cells);
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

    /// Computes the label of the open paragraph, once.
    fn put_label(&mut self) {
        let Some(Frame::Paragraph {
            paragraph,
            unlabelled,
            ..
        }) = self.frames.last_mut()
        else {
            return;
        };
        let Some(shape) = unlabelled.take() else {
            return;
        };
        let (list, number) = match shape.head {
            Head::None => return,
            Head::Outline => (List::Outline(self.outline), self.outline),
            Head::Number(number) => (List::Numbered(number), number),
            Head::Bullet(number) => {
                paragraph.label = self.definitions.bullet(number);
                return;
            }
        };
        if let Some(numbering) = self.definitions.numbering(number) {
            let level = usize::from(shape.level);
            paragraph.label = self.counters.next_label(list, numbering, level);
        }
    }

    /// The innermost frame, if it is a control.
    fn control(&mut self) -> Option<&mut Control> {
        match self.frames.last_mut() {
            Some(Frame::Control { control, .. }) => Some(control),
            Some(Frame::Paragraph { .. }) | None => None,
        }
    }

    /// The page of a paragraph that begins here: inside a table of the body, that of the row.
    fn current_page(&self) -> Option<u32> {
        let height_above = self.frames.iter().find_map(|frame| match frame {
            Frame::Control {
                control: Control::Table(table),
                ..
            } if table.in_body && !table.in_line => Some(table.height_above_row),
            Frame::Control { .. } | Frame::Paragraph { .. } => None,
        });
        match height_above {
            Some(height_above) => self.pages.page_below(height_above),
            None => self.pages.page(),
        }
    }

    /// Puts blocks where they belong: the current list of the innermost control, or the body.
    fn put_blocks(&mut self, blocks: Vec<Block>, look: Look) {
        let controls = self
            .frames
            .iter_mut()
            .rev()
            .filter_map(|frame| match frame {
                Frame::Control { control, .. } => Some(control),
                Frame::Paragraph { .. } => None,
            });
        let mut lists = controls.filter_map(|control| match control {
            Control::Table(table) => match table.cells.last_mut() {
                Some(cell) => Some(&mut cell.blocks),
                None => Some(&mut table.caption),
            },
            Control::Shape { blocks, .. } | Control::Note { blocks } => Some(blocks),
            Control::Equation { .. } => None,
        });
        match lists.next() {
            Some(list) => list.extend(blocks),
            None => {
                let drafts = blocks.into_iter().map(|block| Draft { block, look });
                self.drafts.extend(drafts);
            }
        }
    }

    fn take_slot(&mut self) -> Option<usize> {
        match self.frames.last_mut() {
            Some(Frame::Paragraph { slots, .. }) => slots.pop_front(),
            Some(Frame::Control { .. }) | None => None,
        }
    }

    /// Gives a control's result to the paragraph that owns it, or to the control: shapes stand in groups.
    fn put(&mut self, slot: Option<usize>, part: Part) {
        let Some(Frame::Paragraph { paragraph, .. }) = self.frames.last_mut() else {
            if let Part::Object { blocks, .. } | Part::Note(blocks) = part {
                self.put_blocks(blocks, Look::default());
            }
            return;
        };
        match slot.and_then(|slot| paragraph.parts.get_mut(slot)) {
            Some(place) => *place = part,
            None => paragraph.parts.push(part),
        }
    }
}
