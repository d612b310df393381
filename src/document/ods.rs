//! OpenDocument spreadsheets → one record a row.
//!
//! A cell of ODS holds its text as the program shows it (dates, percent, currency), which is what is read here; the
//! workbook library that reads the other formats returns bare numbers and expands repeated rows without regard to
//! memory. Repeated rows and cells are repeated up to a limit, merged cells count for every cell they cover, hidden
//! sheets are left out and named. Comments and the text of shapes follow the rows; charts and pictures are not read.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::package::{Package, attribute, for_each_element};
use super::sheet::{Area, Remark, Sheet};
use super::{Budget, Document, Warning, table};

/// Copies of a repeated row or cell that holds text; programs repeat empty rows by the million, full ones rarely.
const MAX_REPEATS: u32 = 256;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut package = Package::open(bytes, budget)?;
    let manifest = package.read_xml("META-INF/manifest.xml")?;
    ensure!(
        !manifest.is_some_and(|xml| xml.contains("encryption-data")),
        "encrypted with a password"
    );
    let xml = package
        .read_xml("content.xml")?
        .context("damaged spreadsheet: content.xml is missing")?;
    let mut workbook = Workbook {
        hidden_styles: hidden_styles(&xml),
        ..Workbook::default()
    };
    let mut warnings = package.take_warnings();
    let mut reader = Reader::from_str(&xml);
    let mut n_events = 0_u32;
    loop {
        n_events = n_events.wrapping_add(1);
        if n_events.is_multiple_of(8192) {
            budget.check_time()?;
        }
        match reader.read_event() {
            Ok(Event::Eof) => break,
            Err(cause) => {
                warnings.push(Warning(format!(
                    "damaged XML, read up to byte {}: {cause}",
                    reader.error_position()
                )));
                break;
            }
            Ok(Event::Start(element)) => workbook.start(&element, budget)?,
            Ok(Event::Empty(element)) => {
                workbook.start(&element, budget)?;
                workbook.end(element.local_name().as_ref(), budget)?;
            }
            Ok(Event::End(element)) => workbook.end(element.local_name().as_ref(), budget)?,
            Ok(Event::Text(text)) => workbook.text(&text.xml10_content()),
            Ok(Event::CData(text)) => workbook.text(&text.xml10_content()),
            Ok(Event::GeneralRef(entity)) => match entity.resolve_char_ref() {
                Ok(Some(c)) => workbook.text(c.encode_utf8(&mut [0; 4])),
                _ => workbook.text(resolve_predefined_entity(&entity).unwrap_or_default()),
            },
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
        }
    }
    workbook.n_remarks_open = 0;
    workbook.end("table", budget)?;
    warnings.append(&mut workbook.warnings);
    Ok((workbook.document, warnings))
}

/// Names of the table styles that hide their sheets.
fn hidden_styles(xml: &str) -> HashSet<String> {
    let mut styles = HashSet::new();
    let mut style = None;
    for_each_element(xml, |element| match element.local_name().as_ref() {
        "style" => style = attribute(element, "name"),
        "table-properties" if attribute(element, "display").as_deref() == Some("false") => {
            styles.extend(style.take());
        }
        _ => {}
    });
    styles
}

#[derive(Default)]
struct Workbook {
    document: Document,
    warnings: Vec<Warning>,
    hidden_styles: HashSet<String>,
    sheet: Option<(String, Sheet)>,
    row: u32,
    n_row_repeats: u32,
    row_cells: Vec<(u32, String)>,
    column: u32,
    n_cell_repeats: u32,
    merged: Option<Area>,
    cell: Option<String>,
    n_paragraphs_open: u32,
    /// Depth within comments and shapes: what they say is no part of a cell's text.
    n_remarks_open: u32,
    /// The text of the innermost of them.
    remark: String,
}

impl Workbook {
    fn start(&mut self, element: &BytesStart<'_>, budget: &Budget) -> Result<()> {
        let count = |name: &str| -> u32 {
            let value = attribute(element, name).and_then(|value| value.trim().parse().ok());
            value.unwrap_or(1).max(1)
        };
        match element.local_name().as_ref() {
            name if is_remark(name) => {
                self.end_remark();
                self.n_remarks_open += 1;
            }
            "p" => {
                self.n_paragraphs_open += 1;
                self.text("\n");
            }
            "line-break" => self.text("\n"),
            "s" | "tab" => self.text(" "),
            _ if self.n_remarks_open > 0 => {}
            "table" => {
                self.end("table", budget)?;
                let name = attribute(element, "name").unwrap_or_default();
                let style = attribute(element, "style-name").unwrap_or_default();
                self.row = 0;
                if self.hidden_styles.contains(&style) {
                    let warning = format!("sheet {name}: hidden, left out");
                    self.warnings.push(Warning(warning));
                } else {
                    self.sheet = Some((name, Sheet::default()));
                }
            }
            "table-row" => {
                self.n_row_repeats = count("number-rows-repeated");
                self.row_cells.clear();
                self.column = 0;
            }
            "table-cell" | "covered-table-cell" => {
                self.n_cell_repeats = count("number-columns-repeated");
                let (n_rows, n_columns) = (
                    count("number-rows-spanned"),
                    count("number-columns-spanned"),
                );
                self.merged = (n_rows > 1 || n_columns > 1).then(|| Area {
                    first: (self.row, self.column),
                    last: (
                        self.row.saturating_add(n_rows - 1),
                        self.column.saturating_add(n_columns - 1),
                    ),
                });
                self.cell = Some(String::new());
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str, budget: &Budget) -> Result<()> {
        match name {
            name if is_remark(name) => {
                self.end_remark();
                self.n_remarks_open = self.n_remarks_open.saturating_sub(1);
            }
            "p" => self.n_paragraphs_open = self.n_paragraphs_open.saturating_sub(1),
            _ if self.n_remarks_open > 0 => {}
            "table-cell" | "covered-table-cell" => self.end_cell(),
            "table-row" => self.end_row(budget)?,
            "table" => {
                if let Some((name, sheet)) = self.sheet.take() {
                    let first_table = table::next_table(&self.document.blocks);
                    let blocks = sheet.into_blocks(&name, first_table);
                    self.document.blocks.extend(blocks);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_cell(&mut self) {
        let text = self.cell.take().unwrap_or_default();
        let text = text.trim();
        if !text.is_empty() {
            for n in 0..self.n_cell_repeats.min(MAX_REPEATS) {
                self.row_cells
                    .push((self.column.saturating_add(n), text.to_owned()));
            }
        }
        if let (Some(area), Some((_, sheet))) = (self.merged.take(), &mut self.sheet) {
            sheet.merged.push(area);
        }
        self.column = self.column.saturating_add(self.n_cell_repeats);
    }

    fn end_row(&mut self, budget: &Budget) -> Result<()> {
        if let Some((_, sheet)) = &mut self.sheet {
            let n_repeats = if self.row_cells.is_empty() {
                0
            } else {
                self.n_row_repeats.min(MAX_REPEATS)
            };
            for n in 0..n_repeats {
                for (column, text) in &self.row_cells {
                    let position = (self.row.saturating_add(n), *column);
                    sheet.insert(position, text.clone(), budget)?;
                }
            }
        }
        self.row = self.row.saturating_add(self.n_row_repeats);
        Ok(())
    }

    fn end_remark(&mut self) {
        let text = std::mem::take(&mut self.remark);
        if let Some((_, sheet)) = &mut self.sheet
            && !text.trim().is_empty()
        {
            let cell = self.cell.is_some().then_some((self.row, self.column));
            sheet.remarks.push(Remark { cell, text });
        }
    }

    fn text(&mut self, text: &str) {
        match &mut self.cell {
            _ if self.n_paragraphs_open == 0 => {}
            _ if self.n_remarks_open > 0 => self.remark.push_str(text),
            Some(cell) => cell.push_str(text),
            None => {}
        }
    }
}

/// Whether an element is a comment or a shape.
fn is_remark(name: &str) -> bool {
    matches!(
        name,
        "annotation"
            | "shapes"
            | "frame"
            | "custom-shape"
            | "g"
            | "rect"
            | "circle"
            | "ellipse"
            | "line"
            | "connector"
            | "polyline"
            | "polygon"
            | "path"
            | "caption"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;

    #[test]
    fn cells_read_as_they_are_shown() {
        let xml = r#"<office:document-content xmlns:office="o" xmlns:table="t" xmlns:text="x" xmlns:style="s" xmlns:draw="d"><style:style style:name="ta2"><style:table-properties table:display="false"/></style:style>
            <table:table table:name="휴가"><table:shapes><draw:frame><draw:text-box><text:p>결재</text:p></draw:text-box></draw:frame></table:shapes><table:table-row table:number-rows-repeated="2"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>
            <table:table-row><table:table-cell><text:p>이름</text:p></table:table-cell><table:table-cell><text:p>비율</text:p></table:table-cell></table:table-row>
            <table:table-row><table:table-cell table:number-rows-spanned="2"><text:p>김하나</text:p></table:table-cell><table:table-cell office:value="0.15"><office:annotation><text:p>메모</text:p></office:annotation><text:p>15<text:s/>%</text:p></table:table-cell><table:table-cell><draw:g><draw:rect><text:p>글상</text:p><text:p>자</text:p></draw:rect><draw:line/></draw:g></table:table-cell></table:table-row>
            <table:table-row table:number-rows-repeated="1048570"><table:covered-table-cell/><table:table-cell><text:p>20%</text:p></table:table-cell></table:table-row></table:table>
            <table:table table:name="숨김" table:style-name="ta2"><table:table-row><table:table-cell><text:p>비밀</text:p></table:table-cell></table:table-row></table:table></office:document-content>"#;
        let bytes = zipped(&[("content.xml", xml.as_bytes())]);
        let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
        let mut found: Vec<(Option<u32>, &str)> = document
            .blocks
            .iter()
            .map(|block| (block.location.row, block.text.as_str()))
            .collect();
        // Of the repeated last row two are enough to see.
        found.drain(2..found.len() - 3);
        assert_eq!(
            found,
            [
                (Some(4), "이름: 김하나\n비율: 15 %"),
                (Some(5), "이름: 김하나\n비율: 20%"),
                (Some(4), "메모"),
                (Some(4), "글상\n자"),
                (None, "결재"),
            ]
        );
        assert_eq!(
            warnings,
            [Warning("sheet 숨김: hidden, left out".to_owned())]
        );
    }
}
