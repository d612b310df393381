//! The binary parts of XLSB workbooks, as far as calamine does not tell of them: where each sheet is, and its comments.
//!
//! A part is a row of records; what is cut off or malformed ends the reading.

use crate::document::sheet::Remark;

/// A sheet of the workbook.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SheetLink {
    pub(super) name: String,
    /// Id of the link to its part.
    pub(super) id: String,
}

/// The sheets that the workbook's part names.
pub(super) fn sheets(workbook: &[u8]) -> Vec<SheetLink> {
    const SHEET: u32 = 156;
    let sheets = records(workbook).filter(|(kind, _)| *kind == SHEET);
    sheets
        .filter_map(|(_, data)| {
            let (id, rest) = string(data.get(8..)?)?;
            let (name, _) = string(rest)?;
            Some(SheetLink { name, id })
        })
        .collect()
}

/// The comments of a part of comments.
pub(super) fn comments(part: &[u8]) -> Vec<Remark> {
    const COMMENT: u32 = 635;
    const TEXT: u32 = 637;
    let mut cell = None;
    let mut comments = Vec::new();
    for (kind, data) in records(part) {
        match kind {
            // After the author's number: first and last row, first and last column.
            COMMENT => cell = number(data, 4).zip(number(data, 12)),
            TEXT => {
                let text = data.get(1..).and_then(string);
                comments.extend(text.map(|(text, _)| Remark { cell, text }));
            }
            _ => {}
        }
    }
    comments
}

/// Kind and content of each record. Both kind and length are written seven bits a byte, low ones first.
fn records(mut rest: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let variable = |bytes: &mut &[u8], max_bytes: u32| -> Option<u32> {
        let mut value = 0;
        for n in 0..max_bytes {
            let (&byte, tail) = bytes.split_first()?;
            *bytes = tail;
            value |= u32::from(byte & 0x7F) << (7 * n);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(value)
    };
    std::iter::from_fn(move || {
        let kind = variable(&mut rest, 2)?;
        let n_bytes = usize::try_from(variable(&mut rest, 4)?).ok()?;
        let (data, tail) = rest.split_at_checked(n_bytes)?;
        rest = tail;
        Some((kind, data))
    })
}

fn number(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// A string that begins here, and what comes after it.
fn string(data: &[u8]) -> Option<(String, &[u8])> {
    let n_units = usize::try_from(number(data, 0)?).ok()?;
    let (bytes, rest) = data.get(4..)?.split_at_checked(n_units.checked_mul(2)?)?;
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    Some((String::from_utf16_lossy(&units), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        for (mut value, is_kind) in [(kind, true), (u32::try_from(data.len()).unwrap(), false)] {
            // Numbers of more than seven bits in two bytes, which is enough here.
            if value > 0x7F || is_kind {
                record.push(u8::try_from(value & 0x7F).unwrap() | 0x80);
                value >>= 7;
            }
            record.push(u8::try_from(value).unwrap());
        }
        record.extend(data);
        record
    }

    fn string(text: &str) -> Vec<u8> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let n_units = u32::try_from(units.len()).unwrap();
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        n_units.to_le_bytes().into_iter().chain(units).collect()
    }

    #[test]
    fn sheets_have_names_and_links() {
        let sheet =
            |name: &str, id: &str| record(156, &[vec![0; 8], string(id), string(name)].concat());
        let part = [
            record(128, &[]),
            sheet("휴가", "rId1"),
            sheet("Two", "rId7"),
        ]
        .concat();
        let expected = [("휴가", "rId1"), ("Two", "rId7")].map(|(name, id)| SheetLink {
            name: name.to_owned(),
            id: id.to_owned(),
        });
        assert_eq!(sheets(&part), expected);
        for n_bytes in 0..part.len() {
            assert!(sheets(&part[..n_bytes]).len() < 2);
        }
    }

    #[test]
    fn comments_stand_at_their_cells() {
        let place = [0_u32, 3, 3, 1, 1].map(u32::to_le_bytes).concat();
        let text = "병가 ".repeat(50);
        let part = [
            record(635, &place),
            record(637, &[vec![0], string(&text)].concat()),
            record(636, &[]),
        ]
        .concat();
        let cell = Some((3, 1));
        assert_eq!(comments(&part), [Remark { cell, text }]);
    }
}
