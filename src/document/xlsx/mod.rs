//! Spreadsheets (XLSX, XLSM, XLSB, XLS; ODS by [`ods`]) → one record a row, each value beside its column's name.
//!
//! Values read as the program shows them where the format can be known: dates, times, percent, thousands. Merged
//! cells count for every cell they cover; hidden sheets are left out and named; formulas whose result was not saved
//! are counted in a warning. Rows keep their numbers. Charts, comments and drawings are not read; drawings with text in
//! them are counted.

use std::collections::HashSet;
use std::io::{Cursor, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};
use calamine::{
    Data, Dimensions, ExcelDateTime, Reader, SheetType, SheetVisible, Xls, XlsError, Xlsb, Xlsx,
};

use super::package::Package;
use super::sheet::{Area, Sheet};
use super::{Budget, Document, Warning, number_format, ods, table};

/// Cells of the grids that an XLS file may span: calamine holds all of them, used or not, at about 60 bytes each.
const MAX_GRID_CELLS: u64 = 8 << 20;

/// Cells that calamine reserves address space for because a sheet's declared size says so.
const MAX_RESERVED_CELLS: u64 = 32 << 20;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    if !bytes.starts_with(b"PK") {
        return parse_xls(bytes, budget);
    }
    let Parts {
        names,
        n_drawings_with_text,
    } = check_parts(bytes, budget)?;
    if names.iter().any(|name| name == "content.xml") {
        return ods::parse(bytes, budget);
    }
    let (document, mut warnings) = if names.iter().any(|name| name == "xl/workbook.bin") {
        parse_xlsb(bytes, budget)
    } else {
        parse_xlsx(bytes, budget)
    }?;
    if n_drawings_with_text > 0 {
        warnings.push(Warning(format!(
            "{n_drawings_with_text} drawings with text in their shapes: not read"
        )));
    }
    Ok((document, warnings))
}

/// The parts of a workbook.
struct Parts {
    names: Vec<String>,
    n_drawings_with_text: usize,
}

/// calamine unpacks without a limit: the parts that it reads are unpacked once before, only to be measured.
fn check_parts(bytes: &[u8], budget: &Budget) -> Result<Parts> {
    let mut package = Package::open(bytes, budget)?;
    let names = package.names();
    let mut n_drawings_with_text = 0;
    for name in &names {
        if [".xml", ".bin", ".rels"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            let part = package.read(name)?.unwrap_or_default();
            let has_text = || part.windows(5).any(|tag| tag == b"<a:t>");
            n_drawings_with_text += usize::from(name.starts_with("xl/drawings/") && has_text());
        }
    }
    Ok(Parts {
        names,
        n_drawings_with_text,
    })
}

fn parse_xlsx(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(damaged)?;
    let sheets = workbook.sheets_metadata().to_vec();
    read_sheets(&sheets, budget, |name| {
        let mut cells = Sheet::default();
        let mut reader = workbook.worksheet_cells_reader(name)?;
        let mut empty = HashSet::new();
        while let Some((cell, style)) = reader.next_cell_with_style_id()? {
            let format = reader
                .styles()
                .get(style)
                .and_then(|style| style.number_format.as_ref())
                .map(|format| format.format_code.as_str());
            let text = display(&cell.get_value().clone().into(), format);
            if text.is_empty() {
                empty.insert(cell.get_position());
            }
            cells.insert(cell.get_position(), text, budget)?;
        }
        drop(reader);
        if !empty.is_empty() {
            let mut reader = workbook.worksheet_cells_reader(name)?;
            while let Some(formula) = reader.next_formula()? {
                let is_unsaved =
                    !formula.get_value().is_empty() && empty.contains(&formula.get_position());
                cells.n_unsaved_formulas += usize::from(is_unsaved);
            }
        }
        cells.merged = areas(&workbook.merge_cells_by_sheet_name(name)?);
        Ok(cells)
    })
}

fn parse_xlsb(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut workbook = Xlsb::new(Cursor::new(bytes)).map_err(damaged)?;
    let sheets = workbook.sheets_metadata().to_vec();
    read_sheets(&sheets, budget, |name| {
        let mut cells = Sheet::default();
        let mut reader = workbook.worksheet_cells_reader(name)?;
        while let Some(cell) = reader.next_cell()? {
            let text = display(&cell.get_value().clone().into(), None);
            cells.insert(cell.get_position(), text, budget)?;
        }
        Ok(cells)
    })
}

fn parse_xls(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    check_grid_size(bytes)?;
    let mut workbook = Xls::new(Cursor::new(bytes)).map_err(|cause| {
        if matches!(cause, XlsError::Password) {
            anyhow!("encrypted with a password")
        } else {
            damaged(cause)
        }
    })?;
    let sheets = workbook.sheets_metadata().to_vec();
    read_sheets(&sheets, budget, |name| {
        let mut cells = Sheet::default();
        let range = workbook.worksheet_range(name)?;
        let (first_row, first_column) = range.start().unwrap_or_default();
        for (row, column, value) in range.used_cells() {
            let position = (
                first_row + u32::try_from(row)?,
                first_column + u32::try_from(column)?,
            );
            cells.insert(position, display(value, None), budget)?;
        }
        cells.merged = areas(&workbook.merge_cells_by_sheet_name(name)?);
        Ok(cells)
    })
}

fn damaged(cause: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("damaged workbook: {cause}")
}

/// Reads the visible sheets in order. A sheet that fails is a warning, unless all of them fail.
fn read_sheets(
    sheets: &[calamine::Sheet],
    budget: &Budget,
    mut read: impl FnMut(&str) -> Result<Sheet>,
) -> Result<(Document, Vec<Warning>)> {
    let mut document = Document::default();
    let mut warnings = Vec::new();
    let (mut n_read, mut failure) = (0_usize, None);
    for sheet in sheets.iter().take(budget.max_pages) {
        let name = sheet.name.as_str();
        if sheet.typ != SheetType::WorkSheet {
            continue;
        }
        if sheet.visible != SheetVisible::Visible {
            warnings.push(Warning(format!("sheet {name}: hidden, left out")));
            continue;
        }
        budget.check_time()?;
        match read(name) {
            Ok(cells) => {
                n_read += 1;
                if cells.n_unsaved_formulas > 0 {
                    warnings.push(Warning(format!(
                        "sheet {name}: {} formulas without a saved result",
                        cells.n_unsaved_formulas
                    )));
                }
                let first_table = table::next_table(&document.blocks);
                document.blocks.extend(cells.into_blocks(name, first_table));
            }
            Err(cause) => {
                warnings.push(Warning(format!("sheet {name}: not read: {cause}")));
                failure = Some(cause.context(format!("sheet {name}")));
            }
        }
    }
    match failure {
        Some(cause) if n_read == 0 => Err(cause),
        _ => Ok((document, warnings)),
    }
}

fn areas(merged: &[Dimensions]) -> Vec<Area> {
    let area = |area: &Dimensions| Area {
        first: area.start,
        last: area.end,
    };
    merged.iter().map(area).collect()
}

/// A cell's text as the spreadsheet program shows it, as far as its format is known.
fn display(value: &Data, format: Option<&str>) -> String {
    match value {
        Data::Empty | Data::Error(_) => String::new(),
        Data::String(text) => text.trim().to_owned(),
        Data::Bool(true) => "TRUE".to_owned(),
        Data::Bool(false) => "FALSE".to_owned(),
        #[expect(
            clippy::cast_precision_loss,
            reason = "spreadsheets hold every number as a double"
        )]
        Data::Int(number) => number_format::display(*number as f64, format),
        Data::Float(number) => number_format::display(*number, format),
        Data::DateTime(date) => display_date(date),
        Data::DateTimeIso(text) => text.replace('T', " ").replace(" 00:00:00", ""),
        Data::DurationIso(text) => text.clone(),
    }
}

/// `2026-03-01`, `2026-03-01 09:30`, `09:30`; a duration of 26 hours is `26:00`.
fn display_date(date: &ExcelDateTime) -> String {
    if date.is_duration() {
        let n_minutes = (date.as_f64() * 24.0 * 60.0).round();
        let n_hours = (n_minutes / 60.0).trunc();
        return format!("{n_hours}:{:02}", (n_minutes - n_hours * 60.0).abs());
    }
    let (year, month, day, hour, minute, second, _) = date.to_ymd_hms_milli();
    let time = match (hour, minute, second) {
        (0, 0, 0) => String::new(),
        (_, _, 0) => format!("{hour:02}:{minute:02}"),
        _ => format!("{hour:02}:{minute:02}:{second:02}"),
    };
    if date.as_f64() < 1.0 {
        return time;
    }
    format!("{year:04}-{month:02}-{day:02} {time}")
        .trim_end()
        .to_owned()
}

/// Refuses an XLS file whose cells span more than calamine can hold: a far-off cell in a small file would otherwise
/// cost gigabytes.
fn check_grid_size(bytes: &[u8]) -> Result<()> {
    const DIMENSIONS: u16 = 0x0200;
    const PASSWORD: u16 = 0x002F;
    const END_OF_SHEET: u16 = 0x000A;
    const CELLS: [u16; 9] = [
        0x0006, 0x00BD, 0x00D6, 0x00FD, 0x0203, 0x0204, 0x0205, 0x0207, 0x027E,
    ];
    let stream = workbook_stream(bytes)?;
    let mut n_grid_cells = 0_u64;
    let (mut last_row, mut last_column) = (0, 0);
    let mut rest = stream.as_slice();
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let n_bytes = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let data = tail.get(..n_bytes).unwrap_or(tail);
        rest = tail.get(n_bytes..).unwrap_or_default();
        let number = |at: usize| match data.get(at..at + 2) {
            Some(pair) => u64::from(u16::from_le_bytes([pair[0], pair[1]])),
            None => 0,
        };
        match kind {
            PASSWORD => bail!("encrypted with a password"),
            DIMENSIONS => {
                let wide = |at: usize| number(at) | number(at + 2) << 16;
                let (n_rows, n_columns) = if n_bytes >= 14 {
                    let n_columns = number(10).saturating_sub(number(8));
                    (wide(4).saturating_sub(wide(0)), n_columns)
                } else {
                    let n_columns = number(6).saturating_sub(number(4));
                    (number(2).saturating_sub(number(0)), n_columns)
                };
                ensure!(
                    (n_rows + 1) * (n_columns + 1) <= MAX_RESERVED_CELLS,
                    "damaged workbook: a sheet of {n_rows} rows and {n_columns} columns"
                );
            }
            END_OF_SHEET => {
                n_grid_cells += (last_row + 1) * (last_column + 1);
                (last_row, last_column) = (0, 0);
            }
            _ if CELLS.contains(&kind) => {
                last_row = last_row.max(number(0));
                last_column = last_column.max(number(2));
            }
            _ => {}
        }
    }
    n_grid_cells += (last_row + 1) * (last_column + 1);
    ensure!(
        n_grid_cells <= MAX_GRID_CELLS,
        "sheets of {n_grid_cells} cells: ragq reads up to {MAX_GRID_CELLS} of an XLS file"
    );
    Ok(())
}

fn workbook_stream(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut container =
        cfb::CompoundFile::open(Cursor::new(bytes)).context("damaged OLE container")?;
    let name = ["/Workbook", "/Book"]
        .into_iter()
        .find(|name| container.is_stream(name))
        .context("damaged workbook: no sheets in it")?;
    let mut stream = Vec::new();
    container.open_stream(name)?.read_to_end(&mut stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;

    /// A workbook of one sheet with these rows of XML cells.
    fn workbook(sheet_xml: &str) -> Vec<u8> {
        workbook_with_drawing(sheet_xml, "")
    }

    fn workbook_with_drawing(sheet_xml: &str, drawing: &str) -> Vec<u8> {
        let sheet = format!(
            r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{sheet_xml}</worksheet>"#
        );
        let parts: [(&str, &str); 7] = [
            (
                "[Content_Types].xml",
                r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>"#,
            ),
            (
                "_rels/.rels",
                r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
            ),
            (
                "xl/workbook.xml",
                r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="휴가" sheetId="1" r:id="rId1"/><sheet name="숨김" sheetId="2" state="hidden" r:id="rId1"/></sheets></workbook>"#,
            ),
            (
                "xl/_rels/workbook.xml.rels",
                r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#,
            ),
            (
                "xl/styles.xml",
                r##"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><numFmts><numFmt numFmtId="170" formatCode="#,##0&quot;원&quot;"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="9"/><xf numFmtId="170"/></cellXfs></styleSheet>"##,
            ),
            ("xl/worksheets/sheet1.xml", &sheet),
            ("xl/drawings/drawing1.xml", drawing),
        ];
        zipped(&parts.map(|(name, xml)| (name, xml.as_bytes())))
    }

    fn text(reference: &str, text: &str) -> String {
        format!(r#"<c r="{reference}" t="inlineStr"><is><t>{text}</t></is></c>"#)
    }

    #[test]
    fn values_read_as_they_are_shown() {
        let xml = format!(
            r#"<row r="2">{}{}{}{}</row><row r="4">{}<c r="B4" s="1"><v>46082</v></c><c r="C4" s="2"><v>0.15</v></c><c r="D4" s="3"><v>1500000</v></c></row></sheetData>"#,
            text("A2", "이름"),
            text("B2", "시작일"),
            text("C2", "비율"),
            text("D2", "금액"),
            text("A4", "김하나"),
        );
        let (document, warnings) = parse(&workbook(&xml), &Budget::standard()).unwrap();
        assert_eq!(document.blocks.len(), 1);
        let block = &document.blocks[0];
        assert_eq!(
            block.text,
            "이름: 김하나\n시작일: 2026-03-01\n비율: 15%\n금액: 1,500,000원"
        );
        assert_eq!(block.location.row, Some(4));
        assert_eq!(block.location.sheet.as_deref(), Some("휴가"));
        assert_eq!(
            warnings,
            [Warning("sheet 숨김: hidden, left out".to_owned())]
        );
    }

    #[test]
    fn merged_cells_stand_for_all_they_cover_and_lost_formulas_are_told() {
        let xml = format!(
            r#"<row r="1">{}</row><row r="2">{}{}{}</row><row r="3">{}{}</row><row r="4">{}<c r="C4"><f>1+1</f></c></row></sheetData><mergeCells><mergeCell ref="A1:C1"/><mergeCell ref="A3:A4"/></mergeCells>"#,
            text("A1", "휴직 기간표"),
            text("A2", "구분"),
            text("B2", "종류"),
            text("C2", "기간"),
            text("A3", "연수"),
            text("B3", "국내"),
            text("B4", "국외"),
        );
        let (document, warnings) = parse(&workbook(&xml), &Budget::standard()).unwrap();
        let texts: Vec<&str> = document.blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "휴직 기간표",
                "구분: 연수\n종류: 국내",
                "구분: 연수\n종류: 국외"
            ]
        );
        assert_eq!(
            warnings[0].0,
            "sheet 휴가: 1 formulas without a saved result"
        );
    }

    #[test]
    fn text_in_shapes_is_told() {
        let check = |drawing: &str, expected: &[&str]| {
            let xml = format!(r#"<row r="1">{}</row></sheetData>"#, text("A1", "휴가"));
            let bytes = workbook_with_drawing(&xml, drawing);
            let (_, warnings) = parse(&bytes, &Budget::standard()).unwrap();
            let found: Vec<&str> = warnings.iter().map(|warning| &*warning.0).collect();
            assert_eq!(found, expected);
        };
        let hidden = "sheet 숨김: hidden, left out";
        check("<xdr:pic/>", &[hidden]);
        check(
            "<xdr:sp><a:p><a:r><a:t>결재</a:t></a:r></a:p></xdr:sp>",
            &[hidden, "1 drawings with text in their shapes: not read"],
        );
    }

    #[test]
    fn a_far_off_cell_costs_nothing() {
        let xml = format!(
            r#"<row r="1">{}{}</row><row r="1048576">{}{}</row></sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>"#,
            text("A1", "이름"),
            text("B1", "값"),
            text("A1048576", "끝"),
            text("XFD1048576", "구석"),
        );
        let (document, _) = parse(&workbook(&xml), &Budget::standard()).unwrap();
        assert_eq!(
            document.blocks.last().unwrap().location.row,
            Some(1_048_576)
        );
    }
}
