//! CSV and TSV in any Korean or Unicode encoding → records whose values stand beside their columns' names.
//!
//! The delimiter is found by trying each with the real reader: the one that gives most rows the same number of
//! fields wins. Titles above the header stay as paragraphs, blank rows and empty values are left out, and rows keep
//! the number that a spreadsheet program shows (a quoted value over several lines is still one row).

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::table::{self, Row};
use super::{Budget, Document, Warning, encoding};

/// How many bytes of text decide on the delimiter.
const N_SAMPLE_BYTES: usize = 32 << 10;

/// A quoted value longer than this, in a file whose quotation marks do not pair up, was never closed.
const MAX_LINES_OF_A_VALUE: usize = 50;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let (text, mut warnings) = encoding::decode(bytes)?;
    let (text, delimiter) = match declared_delimiter(&text) {
        Some((delimiter, rest)) => (rest, delimiter),
        None => (text.as_str(), sniff_delimiter(&text)),
    };
    let mut rows = read_rows(text, delimiter, true, budget)?;
    if has_open_quote(text, &rows) {
        warnings.push(Warning(
            "a quotation mark is never closed: read with quotation marks as plain characters"
                .to_owned(),
        ));
        rows = read_rows(text, delimiter, false, budget)?;
    }
    let blocks = table::record_blocks(&rows, None, 0);
    Ok((
        Document {
            title: None,
            blocks,
        },
        warnings,
    ))
}

/// Excel's own first line, `sep=;`, counts as row 1 but is not shown: the rest keeps its line break.
fn declared_delimiter(text: &str) -> Option<(u8, &str)> {
    let rest = text.strip_prefix("sep=")?;
    let mut bytes = rest.bytes();
    let delimiter = bytes.next().filter(u8::is_ascii)?;
    let rest = rest.strip_prefix(char::from(delimiter))?;
    rest.starts_with('\n').then_some((delimiter, rest))
}

fn sniff_delimiter(text: &str) -> u8 {
    let end = text.floor_char_boundary(N_SAMPLE_BYTES);
    let sample = text.get(..end).unwrap_or(text);
    let quality = |delimiter: u8| {
        let mut n_rows_by_width: HashMap<usize, usize> = HashMap::new();
        let mut reader = reader(sample, delimiter, true);
        let mut n_rows = 0_usize;
        for record in reader.byte_records().map_while(Result::ok) {
            n_rows += 1;
            *n_rows_by_width.entry(record.len()).or_default() += 1;
        }
        // The share of rows that agree on a width above 1; a wider table breaks ties.
        n_rows_by_width
            .iter()
            .filter(|(width, _)| **width > 1)
            .map(|(width, n)| (n * 1000 / n_rows.max(1), *width))
            .max()
            .unwrap_or_default()
    };
    [b',', b';', b'\t', b'|']
        .into_iter()
        .rev()
        .max_by_key(|&delimiter| quality(delimiter))
        .unwrap_or(b',')
}

fn reader(text: &str, delimiter: u8, quoting: bool) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .quoting(quoting)
        .from_reader(text.as_bytes())
}

fn read_rows(text: &str, delimiter: u8, quoting: bool, budget: &Budget) -> Result<Vec<Row>> {
    let mut reader = reader(text, delimiter, quoting);
    let mut record = csv::StringRecord::new();
    let mut rows = Vec::new();
    let mut number = 0_u32;
    loop {
        let start = usize::try_from(reader.position().byte())?;
        if !reader
            .read_record(&mut record)
            .with_context(|| format!("row {}", number + 1))?
        {
            return Ok(rows);
        }
        // The reader skips blank lines, a spreadsheet counts them.
        let n_blank_lines = text
            .as_bytes()
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|&&byte| byte == b'\n')
            .count();
        number = number
            .saturating_add(u32::try_from(n_blank_lines)?)
            .saturating_add(1);
        let cells = (0..)
            .zip(record.iter())
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(column, value)| (column, value.trim().to_owned()))
            .collect();
        let row = Row {
            number,
            cells,
            ..Row::default()
        };
        if !row.cells.is_empty() {
            rows.push(row);
        }
        if number.is_multiple_of(1024) {
            budget.check_time()?;
        }
    }
}

fn has_open_quote(text: &str, rows: &[Row]) -> bool {
    let n_quotes = text.bytes().filter(|&byte| byte == b'"').count();
    n_quotes % 2 == 1
        && rows
            .iter()
            .flat_map(|row| row.cells.values())
            .any(|value| value.lines().count() > MAX_LINES_OF_A_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u32, &str)]) {
        let (document, _) = parse(text.as_bytes(), &Budget::standard()).unwrap();
        let found: Vec<(u32, &str)> = document
            .blocks
            .iter()
            .map(|block| (block.location.row.unwrap(), block.text.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_delimiter_is_found() {
        for delimiter in [",", ";", "\t", "|"] {
            check(
                &"질문,답변\r\n휴가는?,15일\r\n".replace(',', delimiter),
                &[(2, "질문: 휴가는?\n답변: 15일")],
            );
        }
        check("sep=;\n가;나,다\n1,5;2\n", &[(3, "가: 1,5\n나,다: 2")]);
        // Commas within values outnumber the semicolons that separate them.
        check(
            "질문;답변\n서류는?;신청서, 진단서, 동의서\n기한은?;7일\n복직은?;휴직이 끝나면, 바로\n",
            &[
                (2, "질문: 서류는?\n답변: 신청서, 진단서, 동의서"),
                (3, "질문: 기한은?\n답변: 7일"),
                (4, "질문: 복직은?\n답변: 휴직이 끝나면, 바로"),
            ],
        );
    }

    #[test]
    fn rows_have_the_number_a_spreadsheet_shows() {
        check(
            "질문,답변\n\n\"휴가는\n며칠?\",15일\n,\n끝은?,\"예, \"\"끝\"\"\"\n",
            &[
                (3, "질문: 휴가는\n며칠?\n답변: 15일"),
                (5, "질문: 끝은?\n답변: 예, \"끝\""),
            ],
        );
        check(
            "2026년 안내\n\n질문,답변\n휴가는?,15일\n",
            &[(1, "2026년 안내"), (4, "질문: 휴가는?\n답변: 15일")],
        );
    }

    #[test]
    fn an_open_quotation_mark_loses_nothing() {
        let lines: Vec<String> = (0..80).map(|n| format!("{n}번,값 {n}\n")).collect();
        let text = format!("이름,값\n\"열린,1\n{}", lines.concat());
        let (document, warnings) = parse(text.as_bytes(), &Budget::standard()).unwrap();
        assert_eq!(document.blocks.len(), 81);
        assert!(warnings[0].0.contains("never closed"), "{warnings:?}");
    }
}
