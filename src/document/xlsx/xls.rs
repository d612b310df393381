//! Excel 97-2003 workbooks (XLS: BIFF records in an OLE container) → records.
//!
//! calamine reads the cells; here stands what it does not look after: how much memory a file asks for, and the text of
//! shapes and comments (that of Excel 97 and later; comments of Excel 5 and 95 are not read).

use std::collections::HashMap;
use std::io::{Cursor, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};
use calamine::{Reader, Xls, XlsError};

use super::{areas, damaged, display, read_sheets};
use crate::document::sheet::{Remark, Sheet};
use crate::document::{Budget, Document, Warning};

/// Cells of the grids that an XLS file may span: calamine holds all of them, used or not, at about 60 bytes each.
const MAX_GRID_CELLS: u64 = 8 << 20;

/// Cells that calamine reserves address space for because a sheet's declared size says so.
const MAX_RESERVED_CELLS: u64 = 32 << 20;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let stream = workbook_stream(bytes)?;
    check_grid_size(&stream)?;
    let mut workbook = Xls::new(Cursor::new(bytes)).map_err(|cause| {
        if matches!(cause, XlsError::Password) {
            anyhow!("encrypted with a password")
        } else {
            damaged(cause)
        }
    })?;
    let sheets = workbook.sheets_metadata().to_vec();
    let starts: HashMap<&str, usize> = sheets
        .iter()
        .map(|sheet| sheet.name.as_str())
        .zip(sheet_starts(&stream))
        .collect();
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
        if let Some(sheet) = starts.get(name).and_then(|start| stream.get(*start..)) {
            cells.remarks = remarks(sheet);
        }
        Ok(cells)
    })
}

/// A record of the workbook stream.
struct Record<'a> {
    kind: u16,
    data: &'a [u8],
}

impl Record<'_> {
    /// The number at a byte, 0 where the record is too short.
    fn number(&self, at: usize) -> u16 {
        match self.data.get(at..at.saturating_add(2)) {
            Some(pair) => u16::from_le_bytes([pair[0], pair[1]]),
            None => 0,
        }
    }

    fn wide_number(&self, at: usize) -> u32 {
        u32::from(self.number(at)) | u32::from(self.number(at + 2)) << 16
    }
}

/// The records of a stream; the last may be cut off.
fn records(mut rest: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let n_bytes = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let data = tail.get(..n_bytes).unwrap_or(tail);
        rest = tail.get(n_bytes..).unwrap_or_default();
        Some(Record { kind, data })
    })
}

/// Where each sheet begins in the stream, in the order of the workbook.
fn sheet_starts(stream: &[u8]) -> Vec<usize> {
    const SHEET: u16 = 0x0085;
    records(stream)
        .take_while(|record| record.kind != END)
        .filter(|record| record.kind == SHEET)
        .map(|record| usize::try_from(record.wide_number(0)).unwrap_or(usize::MAX))
        .collect()
}

/// Marks the end of the workbook's own records, of a sheet, and of a chart within a sheet.
const END: u16 = 0x000A;

/// The text of the shapes and comments of a sheet that begins here (from Excel 97 on). A shape is told by its place, its
/// number and its text, in this order; the cells of comments come after all shapes.
fn remarks(sheet: &[u8]) -> Vec<Remark> {
    const BEGIN: u16 = 0x0809;
    const DRAWING: u16 = 0x00EC;
    const OBJECT: u16 = 0x005D;
    const TEXT: u16 = 0x01B6;
    const CONTINUE: u16 = 0x003C;
    const COMMENT: u16 = 0x001C;
    let mut remarks: Vec<(u16, Remark)> = Vec::new();
    let mut cell = None;
    let mut object = 0;
    let mut n_units_left = 0_usize;
    let mut depth = 0_usize;
    for record in records(sheet) {
        match record.kind {
            BEGIN => depth += 1,
            END if depth <= 1 => break,
            END => depth -= 1,
            DRAWING => cell = anchor(record.data).or(cell),
            OBJECT => object = record.number(6),
            TEXT => {
                n_units_left = usize::from(record.number(10));
                let text = String::new();
                remarks.push((object, Remark { cell, text }));
            }
            CONTINUE if n_units_left > 0 => {
                if let Some((_, remark)) = remarks.last_mut() {
                    n_units_left -= append_text(&mut remark.text, record.data, n_units_left);
                }
            }
            COMMENT => {
                let (row, column) = (record.number(0), record.number(2));
                let number = record.number(6);
                let commented = remarks.iter_mut().find(|(object, _)| *object == number);
                if let Some((_, remark)) = commented {
                    remark.cell = Some((row.into(), column.into()));
                }
            }
            _ => {}
        }
    }
    let remarks = remarks.into_iter().map(|(_, remark)| remark);
    remarks
        .filter(|remark| !remark.text.trim().is_empty())
        .collect()
}

/// Appends at most so many UTF-16 units of a piece of text and says how many. Its first byte tells whether each unit has
/// one byte or two.
fn append_text(text: &mut String, piece: &[u8], max_units: usize) -> usize {
    let Some((flags, bytes)) = piece.split_first() else {
        return 0;
    };
    let units: Vec<u16> = if flags & 1 == 0 {
        bytes.iter().map(|byte| u16::from(*byte)).collect()
    } else {
        let (pairs, _) = bytes.as_chunks::<2>();
        pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
    };
    let units = units.get(..max_units).unwrap_or(&units);
    text.push_str(&String::from_utf16_lossy(units));
    units.len()
}

/// Row and column under the upper left corner of the last shape that a drawing record tells of.
fn anchor(drawing: &[u8]) -> Option<(u32, u32)> {
    const ANCHOR: u16 = 0xF010;
    let mut cell = None;
    let mut rest = drawing;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let is_container = head[0] & 0xF == 0xF;
        if u16::from_le_bytes([head[2], head[3]]) == ANCHOR {
            let data = Record {
                kind: 0,
                data: tail,
            };
            cell = Some((data.number(6).into(), data.number(2).into()));
        }
        let n_bytes = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        rest = if is_container {
            tail
        } else {
            let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
            tail.get(n_bytes..).unwrap_or_default()
        };
    }
    cell
}

/// Refuses an XLS file whose cells span more than calamine can hold: a far-off cell in a small file would otherwise
/// cost gigabytes.
fn check_grid_size(stream: &[u8]) -> Result<()> {
    const DIMENSIONS: u16 = 0x0200;
    const PASSWORD: u16 = 0x002F;
    const CELLS: [u16; 9] = [
        0x0006, 0x00BD, 0x00D6, 0x00FD, 0x0203, 0x0204, 0x0205, 0x0207, 0x027E,
    ];
    let mut n_grid_cells = 0_u64;
    let (mut last_row, mut last_column) = (0, 0);
    for record in records(stream) {
        let number = |at: usize| u64::from(record.number(at));
        match record.kind {
            PASSWORD => bail!("encrypted with a password"),
            DIMENSIONS => {
                let (n_rows, n_columns) = if record.data.len() >= 14 {
                    let n_rows = record.wide_number(4).saturating_sub(record.wide_number(0));
                    (u64::from(n_rows), number(10).saturating_sub(number(8)))
                } else {
                    let n_rows = number(2).saturating_sub(number(0));
                    (n_rows, number(6).saturating_sub(number(4)))
                };
                ensure!(
                    (n_rows + 1) * (n_columns + 1) <= MAX_RESERVED_CELLS,
                    "damaged workbook: a sheet of {n_rows} rows and {n_columns} columns"
                );
            }
            END => {
                n_grid_cells += (last_row + 1) * (last_column + 1);
                (last_row, last_column) = (0, 0);
            }
            kind if CELLS.contains(&kind) => {
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

    fn record(kind: u16, data: &[u8]) -> Vec<u8> {
        let n_bytes = u16::try_from(data.len()).unwrap();
        [&kind.to_le_bytes(), &n_bytes.to_le_bytes(), data].concat()
    }

    fn numbers(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// A shape's place within a group: what a drawing record holds.
    fn drawing(row: u16, column: u16) -> Vec<u8> {
        let group = [&numbers(&[0xF, 0xF004]), &99_u32.to_le_bytes()[..]].concat();
        let other = [&numbers(&[0, 0xF00B]), &4_u32.to_le_bytes()[..], &[0; 4]].concat();
        let anchor = numbers(&[0, 0xF010, 18, 0, 0, column, 0, row, 0, 9, 0, 9, 0]);
        record(0xEC, &[group, other, anchor].concat())
    }

    /// An object's number and its text, the latter in pieces.
    fn object(number: u16, text: &str) -> Vec<u8> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let (first, second) = units.split_at(1);
        let n_units = u16::try_from(units.len()).unwrap();
        let piece = |units: &[u16]| record(0x3C, &[vec![1], numbers(units)].concat());
        [
            record(0x5D, &numbers(&[0x15, 18, 0x19, number])),
            record(0x1B6, &numbers(&[0, 0, 0, 0, 0, n_units, 16, 0, 0])),
            piece(first),
            piece(second),
            record(0x3C, &[0; 16]),
        ]
        .concat()
    }

    #[test]
    fn shapes_and_comments_stand_at_their_cells() {
        let begin = record(0x809, &[0; 16]);
        let end = record(END, &[]);
        let sheet = [
            begin.clone(),
            drawing(4, 2),
            object(7, "결재란"),
            // A chart within the sheet ends before the sheet does.
            begin,
            end.clone(),
            drawing(1, 6),
            object(8, "병가 포함"),
            record(0x1C, &numbers(&[3, 5, 0, 8])),
            end,
            object(9, "다음 시트"),
        ]
        .concat();
        let remark = |cell, text: &str| Remark {
            cell: Some(cell),
            text: text.to_owned(),
        };
        let expected = [remark((4, 2), "결재란"), remark((3, 5), "병가 포함")];
        assert_eq!(remarks(&sheet), expected);
        for n_bytes in 0..sheet.len() {
            assert!(remarks(&sheet[..n_bytes]).len() <= expected.len());
        }
    }

    #[test]
    fn text_of_single_bytes_is_latin() {
        let mut text = String::new();
        assert_eq!(append_text(&mut text, b"\x00Memo\xe9!", 5), 5);
        assert_eq!(append_text(&mut text, b"", 5), 0);
        assert_eq!(text, "Memo\u{e9}");
    }

    #[test]
    fn a_workbook_is_found_in_any_case() {
        for name in ["Workbook", "WORKBOOK", "book"] {
            let mut container = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
            container.create_stream(name).unwrap();
            let bytes = container.into_inner().into_inner();
            assert!(workbook_stream(&bytes).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_far_off_cell_is_refused() {
        let check = |row: u16, column: u16, is_accepted: bool| {
            let cell = record(0x0203, &numbers(&[row, column, 0, 0, 0, 0, 0]));
            assert_eq!(check_grid_size(&cell).is_ok(), is_accepted);
        };
        check(65_535, 9, true);
        check(65_535, 255, false);
    }
}
