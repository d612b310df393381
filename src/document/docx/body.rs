//! The XML of a story (the body, the footnotes) → drafts of blocks, read as a stream.
//!
//! One pass over the events with an explicit stack, so that no depth of nesting can overflow. Insertions are kept,
//! deletions, field codes, hidden text and old properties of tracked changes are dropped; of a choice between a
//! drawing and its fallback the drawing is taken, so that no text box is read twice.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use quick_xml::events::BytesStart;

use super::numbering::Numbering;
use super::styles::{Styles, number, toggle};
use crate::document::package::attribute;
use crate::document::prominence::{Draft, Look};
use crate::document::xml::{Visit, visit};
use crate::document::{Block, BlockKind, Budget, Location, Warning, table};

/// Columns that one cell may span; Word allows 63.
const MAX_SPAN: usize = 256;

/// A paragraph marked as a heading but longer than this is body text in a list style.
const MAX_HEADING_CHARS: usize = 120;

/// Footnotes and endnotes: element name (`footnote`, `endnote`) and id → text.
pub(super) type Notes = HashMap<(&'static str, String), String>;

/// What the readers of all stories of a document share.
pub(super) struct Context<'a> {
    pub(super) styles: &'a Styles,
    pub(super) numbering: &'a mut Numbering,
    pub(super) notes: &'a Notes,
    pub(super) budget: &'a Budget,
}

/// Reads a story. Notes that are defined in it (`footnotes.xml`) are returned beside its blocks.
///
/// # Errors
/// When the time of the file is used up.
pub(super) fn read(
    xml: &str,
    context: &mut Context<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(Vec<Draft>, Notes)> {
    let budget = context.budget;
    let mut story = Story {
        context,
        open: Vec::new(),
        n_skipped: 0,
        sinks: vec![Vec::new()],
        paragraphs: Vec::new(),
        tables: Vec::new(),
        carried: String::new(),
        page: 1,
        has_rendered_breaks: xml.contains("lastRenderedPageBreak"),
        has_pages: false,
        n_tables: 0,
        is_too_deep: false,
        n_notes: BTreeMap::new(),
        notes: Notes::new(),
    };
    let damage = visit(xml, &mut story, budget)?;
    warnings.extend(damage.map(Warning));
    if story.is_too_deep {
        warnings.push(Warning(format!(
            "elements nested deeper than {} were left out",
            story.context.budget.max_depth
        )));
    }
    Ok(story.finish())
}

/// An element that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Paragraph,
    ParagraphProperties,
    Run,
    RunProperties,
    Text,
    Table,
    Row,
    RowProperties,
    Cell,
    CellProperties,
    TextBox,
    Note,
    DrawingParagraph,
    Other,
    /// Nothing inside is read.
    Skipped,
}

struct Story<'s, 'a> {
    context: &'s mut Context<'a>,
    open: Vec<Tag>,
    n_skipped: usize,
    /// Where finished paragraphs go: the story, and each open cell, text box and note.
    sinks: Vec<Vec<Draft>>,
    paragraphs: Vec<Paragraph>,
    tables: Vec<Table>,
    /// Text of a paragraph whose end was deleted: it runs on in the next.
    carried: String,
    page: u32,
    has_rendered_breaks: bool,
    has_pages: bool,
    n_tables: u32,
    /// Whether something was left out because it is nested too deep.
    is_too_deep: bool,
    n_notes: BTreeMap<&'static str, u32>,
    notes: Notes,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    style: Option<String>,
    list: Option<u32>,
    list_level: Option<u8>,
    outline_level: Option<u8>,
    page: u32,
    is_end_deleted: bool,
    run: Run,
    is_bold: bool,
    n_half_points: u32,
    /// Text boxes and notes, which follow the paragraph.
    after: Vec<Draft>,
    note_id: String,
}

/// Properties of the run that is open; `None` is as the paragraph's style says.
#[derive(Default)]
struct Run {
    is_bold: Option<bool>,
    is_hidden: Option<bool>,
    n_half_points: Option<u32>,
}

#[derive(Default)]
struct Table {
    id: u32,
    rows: Vec<Row>,
    /// Column → the text of the merged cell that reaches down through it.
    merged: HashMap<usize, String>,
}

#[derive(Default)]
struct Row {
    cells: Vec<String>,
    page: u32,
    is_header: bool,
    is_deleted: bool,
    /// Properties of the cell that is open.
    n_columns: usize,
    continues_above: bool,
    begins_merged: bool,
    /// What the row's only cell holds, to be unwrapped if it is the table's only one.
    drafts: Vec<Draft>,
}

impl Visit for Story<'_, '_> {
    fn open(&mut self, element: &BytesStart<'_>) {
        self.is_too_deep |= self.open.len() >= self.context.budget.max_depth;
        self.start(element);
    }

    fn close(&mut self, _: &str) {
        self.end();
    }

    fn empty(&mut self, element: &BytesStart<'_>) {
        self.start(element);
        self.end();
    }

    fn text(&mut self, text: &str) {
        if self.open.last() == Some(&Tag::Text) && self.n_skipped == 0 {
            self.push_text(text);
        }
    }
}

impl Story<'_, '_> {
    fn start(&mut self, element: &BytesStart<'_>) {
        let tag = if self.n_skipped > 0 || self.open.len() >= self.context.budget.max_depth {
            Tag::Skipped
        } else {
            self.enter(element)
        };
        self.n_skipped += usize::from(tag == Tag::Skipped);
        self.open.push(tag);
    }

    fn end(&mut self) {
        match self.open.pop() {
            Some(Tag::Skipped) => self.n_skipped -= 1,
            Some(Tag::Paragraph) => self.end_paragraph(),
            Some(Tag::Run) => {
                if let Some(paragraph) = self.paragraphs.last_mut() {
                    paragraph.run = Run::default();
                }
            }
            Some(Tag::Cell) => self.end_cell(),
            Some(Tag::Row) => self.end_row(),
            Some(Tag::Table) => self.end_table(),
            Some(Tag::TextBox) => self.end_text_box(),
            Some(Tag::Note) => self.end_note(),
            Some(Tag::DrawingParagraph) => self.push_text(" "),
            Some(
                Tag::ParagraphProperties
                | Tag::RunProperties
                | Tag::RowProperties
                | Tag::CellProperties
                | Tag::Text
                | Tag::Other,
            )
            | None => {}
        }
    }

    fn enter(&mut self, element: &BytesStart<'_>) -> Tag {
        let parent = self.open.last().copied().unwrap_or(Tag::Other);
        let name = element.local_name();
        let name: &str = name.as_ref();
        if element
            .name()
            .prefix()
            .is_some_and(|prefix| prefix.as_ref() == "a")
        {
            return match name {
                "p" => Tag::DrawingParagraph,
                "t" => Tag::Text,
                _ => Tag::Other,
            };
        }
        match (parent, name) {
            (Tag::ParagraphProperties, _) => return self.paragraph_property(name, element),
            (Tag::RunProperties, _) => return self.run_property(name, element),
            (Tag::RowProperties, _) => return self.row_property(name, element),
            (Tag::CellProperties, _) => return self.cell_property(name, element),
            _ => {}
        }
        match name {
            "p" => {
                self.paragraphs.push(Paragraph {
                    page: self.page,
                    is_bold: true,
                    ..Paragraph::default()
                });
                Tag::Paragraph
            }
            "pPr" => Tag::ParagraphProperties,
            "r" => Tag::Run,
            "rPr" => Tag::RunProperties,
            "t" => Tag::Text,
            "tbl" => {
                self.tables.push(Table {
                    id: self.n_tables,
                    ..Table::default()
                });
                self.n_tables += 1;
                Tag::Table
            }
            "tr" => {
                let page = self.page;
                if let Some(table) = self.tables.last_mut() {
                    table.rows.push(Row {
                        page,
                        ..Row::default()
                    });
                }
                Tag::Row
            }
            "trPr" => Tag::RowProperties,
            "tc" => {
                if let Some(row) = self.row() {
                    row.n_columns = 1;
                    row.continues_above = false;
                    row.begins_merged = false;
                }
                self.sinks.push(Vec::new());
                Tag::Cell
            }
            "tcPr" => Tag::CellProperties,
            "txbxContent" => {
                self.sinks.push(Vec::new());
                Tag::TextBox
            }
            "footnote" | "endnote" => self.enter_note(element),
            "footnoteReference" => self.reference("footnote", "각주", element),
            "endnoteReference" => self.reference("endnote", "미주", element),
            "tab" | "ptab" => self.sign(" "),
            "br" | "cr" => {
                if attribute(element, "type").as_deref() == Some("page")
                    && !self.has_rendered_breaks
                {
                    self.turn_page();
                }
                self.sign("\n")
            }
            "lastRenderedPageBreak" => {
                self.turn_page();
                Tag::Other
            }
            "noBreakHyphen" => self.sign("-"),
            "sym" => {
                let code = attribute(element, "char").unwrap_or_default();
                let symbol = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                match symbol.filter(|c| !matches!(c, '\u{E000}'..='\u{F8FF}')) {
                    Some(c) => self.sign(c.encode_utf8(&mut [0; 4])),
                    None => Tag::Other,
                }
            }
            "del" | "moveFrom" | "instrText" | "delText" | "delInstrText" | "Fallback"
            | "sdtPr" | "sdtEndPr" | "rt" | "sectPr" | "tblPr" | "tblGrid" | "tblPrEx"
            | "annotation" | "background" => Tag::Skipped,
            _ => Tag::Other,
        }
    }

    fn paragraph_property(&mut self, name: &str, element: &BytesStart<'_>) -> Tag {
        let Some(paragraph) = self.paragraphs.last_mut() else {
            return Tag::Skipped;
        };
        match name {
            "pStyle" => paragraph.style = attribute(element, "val"),
            "outlineLvl" => paragraph.outline_level = number(element),
            // The elements of a list place stand one deeper.
            "numPr" => return Tag::ParagraphProperties,
            "numId" => paragraph.list = number(element),
            "ilvl" => paragraph.list_level = number(element),
            "rPr" => return Tag::ParagraphProperties,
            "del" => paragraph.is_end_deleted = true,
            "pageBreakBefore" if toggle(element) && !self.has_rendered_breaks => {
                self.turn_page();
                let page = self.page;
                if let Some(paragraph) = self.paragraphs.last_mut() {
                    paragraph.page = page;
                }
            }
            _ => {}
        }
        Tag::Skipped
    }

    fn run_property(&mut self, name: &str, element: &BytesStart<'_>) -> Tag {
        let Some(paragraph) = self.paragraphs.last_mut() else {
            return Tag::Skipped;
        };
        let run = &mut paragraph.run;
        match name {
            "rStyle" => {
                let style = attribute(element, "val").unwrap_or_default();
                let (is_bold, is_hidden, n_half_points) = self.context.styles.run(&style);
                run.is_bold = run.is_bold.or(is_bold);
                run.is_hidden = run.is_hidden.or(is_hidden);
                run.n_half_points = run.n_half_points.or(n_half_points);
            }
            "b" => run.is_bold = Some(toggle(element)),
            "vanish" => run.is_hidden = Some(toggle(element)),
            "sz" => run.n_half_points = number(element),
            _ => {}
        }
        Tag::Skipped
    }

    fn row_property(&mut self, name: &str, element: &BytesStart<'_>) -> Tag {
        if let Some(row) = self.row() {
            match name {
                "tblHeader" => row.is_header = toggle(element),
                "del" => row.is_deleted = true,
                "gridBefore" => {
                    let n = number::<usize>(element).unwrap_or(0).min(MAX_SPAN);
                    row.cells.extend(std::iter::repeat_n(String::new(), n));
                }
                _ => {}
            }
        }
        Tag::Skipped
    }

    fn cell_property(&mut self, name: &str, element: &BytesStart<'_>) -> Tag {
        if let Some(row) = self.row() {
            match name {
                "gridSpan" => {
                    row.n_columns = number::<usize>(element).unwrap_or(1).clamp(1, MAX_SPAN);
                }
                "vMerge" => {
                    let begins = attribute(element, "val").as_deref() == Some("restart");
                    row.begins_merged = begins;
                    row.continues_above = !begins;
                }
                _ => {}
            }
        }
        Tag::Skipped
    }

    fn row(&mut self) -> Option<&mut Row> {
        self.tables.last_mut()?.rows.last_mut()
    }

    /// An element that stands for a character.
    fn sign(&mut self, text: &str) -> Tag {
        self.push_text(text);
        Tag::Other
    }

    fn push_text(&mut self, text: &str) {
        let styles = self.context.styles;
        let Some(paragraph) = self.paragraphs.last_mut() else {
            return;
        };
        let style = paragraph.style.as_deref();
        let is_hidden = paragraph
            .run
            .is_hidden
            .unwrap_or_else(|| styles.is_hidden(style));
        if is_hidden {
            return;
        }
        if !text.trim().is_empty() {
            let is_bold = paragraph
                .run
                .is_bold
                .unwrap_or_else(|| styles.is_bold(style));
            let n_half_points = paragraph
                .run
                .n_half_points
                .unwrap_or_else(|| styles.half_points(style));
            paragraph.is_bold &= is_bold;
            paragraph.n_half_points = paragraph.n_half_points.max(n_half_points);
        }
        paragraph.text.push_str(text);
    }

    fn turn_page(&mut self) {
        self.page = self.page.saturating_add(1);
        self.has_pages = true;
        // A break before the first word moves the paragraph.
        if let Some(paragraph) = self.paragraphs.last_mut()
            && paragraph.text.trim().is_empty()
        {
            paragraph.page = self.page;
        }
    }

    /// Notes are read before the body, separators (which have a type) not at all.
    fn enter_note(&mut self, element: &BytesStart<'_>) -> Tag {
        let is_separator = attribute(element, "type").is_some_and(|kind| kind != "normal");
        if is_separator {
            return Tag::Skipped;
        }
        self.sinks.push(Vec::new());
        self.paragraphs.push(Paragraph {
            note_id: attribute(element, "id").unwrap_or_default(),
            style: Some(element.local_name().as_ref().to_owned()),
            ..Paragraph::default()
        });
        Tag::Note
    }

    fn end_note(&mut self) {
        let drafts = self.sinks.pop().unwrap_or_default();
        let Some(note) = self.paragraphs.pop() else {
            return;
        };
        let kind = match note.style.as_deref() {
            Some("endnote") => "endnote",
            _ => "footnote",
        };
        self.notes.insert((kind, note.note_id), joined(&drafts));
    }

    /// A note's text follows the paragraph that refers to it.
    fn reference(&mut self, kind: &'static str, word: &str, element: &BytesStart<'_>) -> Tag {
        let id = attribute(element, "id").unwrap_or_default();
        let counter = self.n_notes.entry(kind).or_default();
        *counter += 1;
        let label = format!("{word} {counter})");
        if let Some(note) = self.context.notes.get(&(kind, id))
            && !note.is_empty()
        {
            let draft = self.draft(BlockKind::Paragraph, format!("{label} {note}"), self.page);
            if let Some(paragraph) = self.paragraphs.last_mut() {
                paragraph.after.push(draft);
            }
        }
        Tag::Other
    }

    fn end_text_box(&mut self) {
        let mut drafts = self.sinks.pop().unwrap_or_default();
        for draft in &mut drafts {
            draft.look.is_item = true;
        }
        match self.paragraphs.last_mut() {
            Some(paragraph) => paragraph.after.append(&mut drafts),
            None => self.sink().append(&mut drafts),
        }
    }

    fn end_paragraph(&mut self) {
        let Some(mut paragraph) = self.paragraphs.pop() else {
            return;
        };
        let styles = self.context.styles;
        let style = paragraph.style.as_deref();
        let from_style = styles.list_place(style);
        let list = paragraph.list.or(from_style.map(|(list, _)| list));
        let level = paragraph
            .list_level
            .or(from_style.map(|(_, level)| level))
            .unwrap_or(0);
        let text = std::mem::take(&mut paragraph.text);
        // A paragraph whose end is deleted has no label of its own: the next one counts.
        if paragraph.is_end_deleted {
            self.carried.push_str(&text);
            self.sink().append(&mut paragraph.after);
            return;
        }
        let label = match list {
            Some(list) if list > 0 => self.context.numbering.next_label((list, level), styles),
            _ => String::new(),
        };
        let text = format!("{}{text}", std::mem::take(&mut self.carried));
        let text = text.trim();
        if !text.is_empty() {
            let text = format!("{label}{text}");
            let heading = match paragraph.outline_level {
                Some(level) => (level < 9).then_some(level + 1),
                None => styles.heading_level(style),
            };
            let is_title = styles.is_title(style);
            let kind = match heading.or(is_title.then_some(1)) {
                Some(level) if is_heading_text(&text) => BlockKind::Heading { level },
                _ => BlockKind::Paragraph,
            };
            let mut draft = self.draft(kind, text, paragraph.page);
            draft.look = Look {
                is_bold: paragraph.is_bold,
                n_half_points: paragraph.n_half_points,
                is_item: !label.is_empty(),
                is_title,
            };
            self.sink().push(draft);
        }
        self.sink().append(&mut paragraph.after);
    }

    fn end_cell(&mut self) {
        let drafts = self.sinks.pop().unwrap_or_default();
        let mut text = joined(&drafts);
        let Some(table) = self.tables.last_mut() else {
            self.sink().extend(drafts);
            return;
        };
        let Some(row) = table.rows.last_mut() else {
            return;
        };
        let column = row.cells.len();
        if row.continues_above {
            text = table.merged.get(&column).cloned().unwrap_or(text);
        } else if row.begins_merged {
            table.merged.insert(column, text.clone());
        } else {
            table.merged.remove(&column);
        }
        row.cells.push(text);
        row.cells
            .extend(std::iter::repeat_n(String::new(), row.n_columns - 1));
        row.drafts.extend(drafts);
    }

    fn end_row(&mut self) {
        if let Some(table) = self.tables.last_mut()
            && table.rows.last().is_some_and(|row| row.is_deleted)
        {
            table.rows.pop();
        }
    }

    fn end_table(&mut self) {
        let Some(mut table) = self.tables.pop() else {
            return;
        };
        // A frame around text, not a table.
        let is_frame = table
            .rows
            .iter()
            .all(|row| row.cells.iter().filter(|cell| !cell.is_empty()).count() <= 1)
            && table.rows.len() <= 2;
        if is_frame {
            for row in &mut table.rows {
                let drafts = std::mem::take(&mut row.drafts);
                self.sink().extend(drafts);
            }
            return;
        }
        let n_header_rows = table.rows.iter().take_while(|row| row.is_header).count();
        let rows: Vec<(Vec<String>, Location)> = table
            .rows
            .into_iter()
            .map(|row| (row.cells, self.location(row.page)))
            .collect();
        let n_header_rows = (n_header_rows > 0).then_some(n_header_rows);
        let blocks = table::row_blocks(&rows, n_header_rows, table.id);
        self.sink().extend(blocks.into_iter().map(|block| Draft {
            block,
            look: Look::default(),
        }));
    }

    fn draft(&self, kind: BlockKind, text: String, page: u32) -> Draft {
        Draft {
            block: Block {
                kind,
                text,
                location: self.location(page),
            },
            look: Look::default(),
        }
    }

    fn location(&self, page: u32) -> Location {
        Location {
            page: Some(page),
            page_is_approximate: true,
            ..Location::default()
        }
    }

    fn sink(&mut self) -> &mut Vec<Draft> {
        if self.sinks.is_empty() {
            self.sinks.push(Vec::new());
        }
        let last = self.sinks.len() - 1;
        &mut self.sinks[last]
    }

    /// Closes what a damaged file left open, and drops the pages if nothing in the file tells where they end.
    fn finish(mut self) -> (Vec<Draft>, Notes) {
        while !self.open.is_empty() {
            self.end();
        }
        let mut drafts = self.sinks.drain(..).flatten().collect::<Vec<_>>();
        if !self.has_pages {
            for draft in &mut drafts {
                draft.block.location.page = None;
                draft.block.location.page_is_approximate = false;
            }
        }
        (drafts, self.notes)
    }
}

fn is_heading_text(text: &str) -> bool {
    text.chars().count() <= MAX_HEADING_CHARS && !text.ends_with("다.") && !text.contains('\n')
}

fn joined(drafts: &[Draft]) -> String {
    let texts: Vec<&str> = drafts
        .iter()
        .map(|draft| draft.block.text.as_str())
        .collect();
    texts.join("\n")
}
