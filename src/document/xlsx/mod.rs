//! Spreadsheets (XLSX, XLSM, XLSB; XLS by [`xls`], ODS by [`ods`]) → one record a row, each value beside its column's
//! name; after a sheet's rows the text of its shapes, the words of its charts and its comments.
//!
//! Values read as the program shows them where the format can be known: dates, times, percent, thousands. Merged
//! cells count for every cell they cover; hidden sheets are left out and named; formulas whose result was not saved
//! are counted in a warning. Rows keep their numbers.

mod binary;
mod chart;
mod remarks;
mod xls;

use std::collections::HashSet;
use std::io::Cursor;

use anyhow::{Result, anyhow};
use calamine::{Data, Dimensions, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsb, Xlsx};

use super::package::Package;
use super::sheet::{Area, Sheet};
use super::{Budget, Document, Warning, number_format, ods, table};

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    if !bytes.starts_with(b"PK") {
        return xls::parse(bytes, budget);
    }
    let mut package = Package::open(bytes, budget)?;
    check_parts(&mut package)?;
    if package.contains("content.xml") {
        ods::parse(bytes, budget)
    } else if package.contains("xl/workbook.bin") {
        parse_xlsb(bytes, &mut package, budget)
    } else {
        parse_xlsx(bytes, &mut package, budget)
    }
}

/// calamine unpacks without a limit: the parts that it reads are unpacked once before, only to be measured.
fn check_parts(package: &mut Package<'_>) -> Result<()> {
    for name in package.names() {
        if [".xml", ".bin", ".rels"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            package.read(&name)?;
        }
    }
    Ok(())
}

fn parse_xlsx(
    bytes: &[u8],
    package: &mut Package<'_>,
    budget: &Budget,
) -> Result<(Document, Vec<Warning>)> {
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(damaged)?;
    let sheets = workbook.sheets_metadata().to_vec();
    let parts = remarks::sheet_parts(package)?;
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
            let mut n_unsaved = 0;
            let mut reader = workbook.worksheet_cells_reader(name)?;
            while let Some(formula) = reader.next_formula()? {
                let is_formula = !formula.get_value().is_empty();
                n_unsaved += usize::from(is_formula && empty.contains(&formula.get_position()));
            }
            if n_unsaved > 0 {
                let problem = format!("{n_unsaved} formulas without a saved result");
                cells.problems.push(problem);
            }
        }
        cells.merged = areas(&workbook.merge_cells_by_sheet_name(name)?);
        add_remarks(&mut cells, package, parts.get(name), budget);
        Ok(cells)
    })
}

fn parse_xlsb(
    bytes: &[u8],
    package: &mut Package<'_>,
    budget: &Budget,
) -> Result<(Document, Vec<Warning>)> {
    let mut workbook = Xlsb::new(Cursor::new(bytes)).map_err(damaged)?;
    let sheets = workbook.sheets_metadata().to_vec();
    let parts = remarks::sheet_parts(package)?;
    read_sheets(&sheets, budget, |name| {
        let mut cells = Sheet::default();
        let mut reader = workbook.worksheet_cells_reader(name)?;
        while let Some(cell) = reader.next_cell()? {
            let text = display(&cell.get_value().clone().into(), None);
            cells.insert(cell.get_position(), text, budget)?;
        }
        add_remarks(&mut cells, package, parts.get(name), budget);
        Ok(cells)
    })
}

/// Adds what stands beside the cells of a sheet. What cannot be read of it is a problem of the sheet.
fn add_remarks(
    sheet: &mut Sheet,
    package: &mut Package<'_>,
    part: Option<&String>,
    budget: &Budget,
) {
    let Some(part) = part else { return };
    match remarks::read(package, part, budget) {
        Ok(remarks) => sheet.remarks = remarks,
        Err(cause) => {
            let problem = format!("text boxes and comments: not read: {cause:#}");
            sheet.problems.push(problem);
        }
    }
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
            Ok(mut cells) => {
                n_read += 1;
                let problems = std::mem::take(&mut cells.problems).into_iter();
                warnings.extend(problems.map(|it| Warning(format!("sheet {name}: {it}"))));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;

    /// A workbook of one sheet with these rows of XML cells.
    fn workbook(sheet_xml: &str) -> Vec<u8> {
        workbook_with_drawing(sheet_xml, "<wsDr/>")
    }

    fn workbook_with_drawing(sheet_xml: &str, drawing: &str) -> Vec<u8> {
        let sheet = format!(
            r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{sheet_xml}</worksheet>"#
        );
        let parts: [(&str, &str); 8] = [
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
            (
                "xl/worksheets/_rels/sheet1.xml.rels",
                r#"<Relationships><Relationship Id="rId1" Type="x/drawing" Target="../drawings/drawing1.xml"/></Relationships>"#,
            ),
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
    fn text_boxes_follow_the_rows() {
        let xml = format!(
            r#"<row r="1">{}{}</row><row r="2">{}{}</row></sheetData>"#,
            text("A1", "이름"),
            text("B1", "일수"),
            text("A2", "김하나"),
            text("B2", "15"),
        );
        let check = |drawing: &str, expected: (&str, Option<u32>)| {
            let bytes = workbook_with_drawing(&xml, drawing);
            let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
            let last = document.blocks.last().unwrap();
            assert_eq!((last.text.as_str(), last.location.row), expected);
            assert_eq!(last.location.sheet.as_deref(), Some("휴가"));
            assert_eq!(warnings.len(), 1, "the hidden sheet: {warnings:?}");
        };
        let row = ("이름: 김하나\n일수: 15", Some(2));
        check("<wsDr/>", row);
        let shape = "<wsDr><twoCellAnchor><from><col>3</col><row>0</row></from><sp><txBody><p><r><t>결재</t></r></p><p/></txBody></sp></twoCellAnchor></wsDr>";
        check(shape, ("결재", Some(1)));
        let problem =
            "sheet 휴가: text boxes and comments: not read: damaged XML, read up to byte 6:";
        let (document, warnings) = parse(
            &workbook_with_drawing(&xml, "<wsDr></sp>"),
            &Budget::standard(),
        )
        .unwrap();
        assert_eq!(document.blocks.len(), 1);
        assert!(warnings[0].0.starts_with(problem), "{warnings:?}");
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
