//! The XML of a section → calls of [`Body`], as a stream.

use anyhow::Result;
use quick_xml::events::BytesStart;

use super::super::Budget;
use super::super::hwp::body::{Body, MAX_PARAGRAPHS};
use super::super::hwp::numbering::NumberFormat;
use super::super::merged_table::Cell;
use super::super::package::{attribute, flag, number};
use super::super::xml::{Visit, visit};

/// Reads one section; returns what could not be read.
///
/// # Errors
/// When the budget's time is used up.
pub(super) fn read(xml: &str, body: &mut Body<'_>, budget: &Budget) -> Result<Vec<String>> {
    body.pages.begin_section();
    let mut section = Section {
        body,
        depth: 0,
        left_out: None,
        max_depth: budget.max_depth,
        is_too_deep: false,
        reading: Reading::Nothing,
        character_shape: 0,
        is_deleted: false,
        auto_number: None,
        page_height: None,
        is_first_line: true,
    };
    let mut problems = Vec::new();
    match visit(xml, &mut section, budget)? {
        Some(damage) => problems.push(damage),
        None if section.is_full() => problems.push(format!(
            "only the first {MAX_PARAGRAPHS} paragraphs are read"
        )),
        None if section.depth > 0 => problems.push("breaks off, text is missing".to_owned()),
        None => {}
    }
    section.body.close(0);
    if section.is_too_deep {
        let max_depth = budget.max_depth;
        problems.push(format!(
            "elements nested deeper than {max_depth} are left out"
        ));
    }
    Ok(problems)
}

/// A section while it is read.
struct Section<'b, 'd> {
    body: &'b mut Body<'d>,
    /// How many elements are open; the level of what begins.
    depth: u32,
    /// The depth of an element whose content is left out, while it is open.
    left_out: Option<u32>,
    max_depth: usize,
    /// Whether something was left out because it is nested deeper than that.
    is_too_deep: bool,
    reading: Reading,
    /// The character shape of the run that is open.
    character_shape: u32,
    /// Whether the text was deleted while changes were tracked.
    is_deleted: bool,
    /// An automatic number whose spelling is not known yet.
    auto_number: Option<u32>,
    /// Height of the page before its margins are known, in HWP units.
    page_height: Option<u32>,
    is_first_line: bool,
}

/// What becomes of the text that comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Nothing,
    Paragraph,
    Equation,
}

impl Visit for Section<'_, '_> {
    fn open(&mut self, element: &BytesStart<'_>) {
        self.depth += 1;
        if self.left_out.is_some() {
            return;
        }
        if usize::try_from(self.depth).is_ok_and(|depth| depth > self.max_depth) {
            self.left_out = Some(self.depth);
            self.is_too_deep = true;
            return;
        }
        self.start(element);
    }

    fn close(&mut self, name: &str) {
        let depth = self.depth;
        self.depth = depth.saturating_sub(1);
        if let Some(left_out) = self.left_out {
            if depth <= left_out {
                self.left_out = None;
            }
            return;
        }
        match name {
            "t" | "mainText" | "script" => self.reading = Reading::Nothing,
            "subText" => {
                self.body.text(")");
                self.reading = Reading::Nothing;
            }
            "autoNum" => {
                if let Some(number) = self.auto_number.take() {
                    self.body.text(&number.to_string());
                }
            }
            "p" => self.is_deleted = false,
            _ => {}
        }
        self.body.close(depth);
    }

    fn text(&mut self, text: &str) {
        if self.left_out.is_some() || self.is_deleted {
            return;
        }
        match self.reading {
            Reading::Nothing => {}
            Reading::Paragraph => {
                // Hancom's own character for the first syllable of its word processor's name.
                if !text.trim().is_empty() {
                    self.body.look(self.character_shape);
                }
                self.body
                    .text(&text.replace('\u{F53A}', "\u{1112}\u{119E}\u{11AB}"));
            }
            Reading::Equation => self.body.equation_script(text),
        }
    }

    fn is_full(&self) -> bool {
        self.body.is_full()
    }
}

impl Section<'_, '_> {
    fn start(&mut self, element: &BytesStart<'_>) {
        let body = &mut *self.body;
        let depth = self.depth;
        match element.local_name().as_ref() {
            "p" => {
                self.is_deleted = false;
                let shape = number(element, "paraPrIDRef").unwrap_or(0);
                body.begin_paragraph(depth, shape);
            }
            "run" => self.character_shape = number(element, "charPrIDRef").unwrap_or(0),
            "t" | "mainText" => self.reading = Reading::Paragraph,
            "subText" => {
                body.text("(");
                self.reading = Reading::Paragraph;
            }
            "script" => self.reading = Reading::Equation,
            "tab" | "nbSpace" | "fwSpace" => self.text(" "),
            "lineBreak" => self.text("\n"),
            "hyphen" => self.text("-"),
            "deleteBegin" => self.is_deleted = true,
            "deleteEnd" => self.is_deleted = false,
            "compose" => body.text(&attribute(element, "composeText").unwrap_or_default()),
            "footNote" | "endNote" => body.begin_note(depth),
            "equation" => body.begin_equation(depth),
            "pic" | "rect" | "ellipse" | "arc" | "polygon" | "curve" | "line" | "connectLine"
            | "container" | "ole" | "video" | "chart" => body.begin_shape(depth),
            "textart" => {
                body.begin_shape(depth);
                body.shape_text(&attribute(element, "text").unwrap_or_default());
            }
            "pos" => body.set_in_line(flag(element, "treatAsChar")),
            // The text of headers and comments, the parameters of fields, what older programs show instead.
            "header" | "footer" | "hiddenComment" | "fieldBegin" | "default" => {
                self.left_out = Some(depth);
            }
            "tbl" | "caption" | "sz" | "tr" | "tc" | "cellAddr" | "cellSpan" | "cellSz" => {
                table_part(element, depth, body);
            }
            "autoNum" => {
                let kind = attribute(element, "numType").unwrap_or_default();
                let is_page = matches!(kind.as_str(), "PAGE" | "TOTAL_PAGE");
                self.auto_number = number(element, "num").filter(|_| !is_page);
            }
            "autoNumFormat" => {
                if let Some(number) = self.auto_number.take() {
                    body.text(&auto_number(number, element));
                }
            }
            "secPr" | "pagePr" | "margin" | "colPr" | "linesegarray" | "lineseg" => {
                self.layout(element);
            }
            _ => {}
        }
    }

    /// The elements that say how text is laid out: the section's properties, its columns, the lines.
    fn layout(&mut self, element: &BytesStart<'_>) {
        let body = &mut *self.body;
        let length = |name| number::<u32>(element, name).unwrap_or(0);
        match element.local_name().as_ref() {
            "secPr" => body.set_outline(number(element, "outlineShapeIDRef").unwrap_or(1)),
            "pagePr" => {
                let is_landscape = attribute(element, "landscape").as_deref() == Some("NARROWLY");
                self.page_height = Some(length(if is_landscape { "width" } else { "height" }));
            }
            "margin" => {
                if let Some(page_height) = self.page_height.take() {
                    let margins = ["top", "bottom", "header", "footer"].map(length);
                    let height = margins.into_iter().fold(page_height, u32::saturating_sub);
                    body.pages.set_body_height(height);
                }
            }
            "colPr" => body.pages.set_columns(length("colCount")),
            "linesegarray" => self.is_first_line = true,
            "lineseg" => {
                if let Some(position) = number(element, "vertpos") {
                    body.line(position, self.is_first_line);
                    self.is_first_line = false;
                }
            }
            _ => {}
        }
    }
}

fn table_part(element: &BytesStart<'_>, depth: u32, body: &mut Body<'_>) {
    let field = |name| number::<u32>(element, name);
    match element.local_name().as_ref() {
        "tbl" => body.begin_table(depth),
        "sz" => body.set_table_height(field("height").unwrap_or(0)),
        "caption" => {
            if matches!(
                attribute(element, "side").as_deref(),
                Some("BOTTOM" | "RIGHT")
            ) {
                body.set_caption_below();
            }
        }
        "tr" => {
            body.begin_cells();
            body.begin_row();
        }
        "tc" => body.begin_cell(Cell {
            row_span: 1,
            column_span: 1,
            is_header: flag(element, "header"),
            ..Cell::default()
        }),
        "cellAddr" => {
            if let Some(cell) = body.cell() {
                cell.row = field("rowAddr").unwrap_or(0);
                cell.column = field("colAddr").unwrap_or(0);
            }
        }
        "cellSpan" => {
            if let Some(cell) = body.cell() {
                cell.row_span = field("rowSpan").unwrap_or(1).max(1);
                cell.column_span = field("colSpan").unwrap_or(1).max(1);
            }
        }
        "cellSz" if body.cell().is_some_and(|cell| cell.row_span == 1) => {
            body.set_cell_height(field("height").unwrap_or(0));
        }
        _ => {}
    }
}

fn auto_number(number: u32, format: &BytesStart<'_>) -> String {
    let field = |name| attribute(format, name).unwrap_or_default();
    let number = NumberFormat::from_name(&field("type")).spell(number);
    format!("{}{number}{}", field("prefixChar"), field("suffixChar"))
}
