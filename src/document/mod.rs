//! File bytes → [`Document`]: blocks of text, each with the place where a person finds it.
//!
//! [`parse`] finds the [`Format`] by content, lets that format's reader produce blocks in reading order, and then
//! `structure` gives every block its section path by one set of rules for all formats. Text is always NFC. A
//! reader returns what it could read *and* what it could not: a damaged page is a [`Warning`], not a failure. Readers
//! take bytes and return data; they open nothing and print nothing.

mod budget;
mod contents;
mod csv;
mod docx;
mod encoding;
mod flow;
mod format;
mod html;
mod hwp;
mod hwpx;
mod markdown;
mod merged_table;
mod number_format;
mod ods;
mod package;
mod pdf;
mod pptx;
mod prominence;
mod roman;
mod sheet;
mod structure;
mod table;
mod txt;
mod worker;
mod xlsx;
mod xml;

use std::fmt;

use anyhow::{Result, bail, ensure};
use unicode_normalization::UnicodeNormalization;

pub use self::budget::Budget;
use self::format::Identity;

/// What was read from one file, in reading order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The document's own name for itself (a rule's title line, a heading before any section), if it has one.
    pub title: Option<String>,
    /// The text, piece by piece, in reading order.
    pub blocks: Vec<Block>,
}

/// One piece of text that belongs together: a paragraph, a heading, a table row, a CSV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What the piece is.
    pub kind: BlockKind,
    /// Its text in NFC, without leading or trailing white space, never empty.
    pub text: String,
    /// Where it stands.
    pub location: Location,
}

/// What a [`Block`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// A heading; level 1 is the highest.
    Heading {
        /// 1 to 9.
        level: u8,
    },
    /// Running text or a list item (its label, such as `①` or `가.`, is part of the text).
    Paragraph,
    /// A row of a table: its cells joined by ` | `.
    TableRow {
        /// Which table of the document the row belongs to, from 0.
        table: u32,
        /// Whether the row names the columns.
        header: bool,
    },
    /// A record of a CSV file or a spreadsheet: one `column: value` line for each cell that is not empty.
    Record,
}

/// Where a person finds a piece of text. Everything counts from 1; what a format does not have is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// Page, or slide.
    pub page: Option<u32>,
    /// Whether `page` is only an estimate (word processors do not store pages).
    pub page_is_approximate: bool,
    /// The number that the page bears for its readers, where that is not `page`: `iv`, `A-3`.
    pub page_label: Option<String>,
    /// The headings above the text, outermost first, without the document's title: `제2장 휴직`, `제3조(휴직기간)`.
    pub section: Vec<String>,
    /// Sheet of a workbook.
    pub sheet: Option<String>,
    /// Row as a spreadsheet program numbers it.
    pub row: Option<u32>,
    /// Line of a text file.
    pub line: Option<u32>,
}

/// Something that could not be read, in words for a person: `page 3: no text, perhaps scanned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The formats ragq reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma, semicolon, tab or bar separated values.
    Csv,
    /// Word, Office Open XML.
    Docx,
    /// HTML.
    Html,
    /// Hangul 5 word processor, OLE container.
    Hwp,
    /// Hangul word processor, OWPML in a ZIP container.
    Hwpx,
    /// Markdown.
    Markdown,
    /// PDF.
    Pdf,
    /// PowerPoint, Office Open XML.
    Pptx,
    /// Plain text in any Korean or Unicode encoding.
    Txt,
    /// Excel (XLSX, XLSM, XLSB, XLS) and OpenDocument spreadsheets.
    Spreadsheet,
}

/// Reads one file's bytes. `file_name` helps where content alone cannot tell (CSV, Markdown, plain text).
///
/// The work is done on a thread of its own with a large stack; a panic in a reader or in one of its libraries becomes
/// an error. Memory and time stay within `budget`, apart from what a library does between two of its checks.
///
/// # Errors
/// One sentence on why nothing of the file can be used: unknown type, encrypted, damaged, empty, over budget.
pub fn parse(bytes: &[u8], file_name: &str, budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    worker::guarded(|| parse_unguarded(bytes, file_name, budget))
}

fn parse_unguarded(
    bytes: &[u8],
    file_name: &str,
    budget: &Budget,
) -> Result<(Document, Vec<Warning>)> {
    ensure!(!bytes.is_empty(), "empty file");
    ensure!(
        bytes.len() <= budget.max_unpacked_bytes,
        "file of {} MiB: ragq reads up to {} MiB",
        bytes.len() >> 20,
        budget.max_unpacked_bytes >> 20
    );
    let format = match format::identify(bytes, file_name) {
        Identity::Readable(format) => format,
        Identity::Known(what) => bail!("{what}"),
        Identity::Unknown => bail!("not a type that ragq reads"),
    };
    let (mut document, warnings) = match format {
        Format::Csv => csv::parse(bytes, budget),
        Format::Docx => docx::parse(bytes, budget),
        Format::Html => html::parse(bytes, budget),
        Format::Hwp => hwp::parse(bytes, budget),
        Format::Hwpx => hwpx::parse(bytes, budget),
        Format::Markdown => markdown::parse(bytes, budget),
        Format::Pdf => pdf::parse(bytes, budget),
        Format::Pptx => pptx::parse(bytes, budget),
        Format::Txt => txt::parse(bytes, budget),
        Format::Spreadsheet => xlsx::parse(bytes, budget),
    }?;
    normalise(&mut document);
    if document.blocks.is_empty() {
        match warnings.first() {
            Some(warning) => bail!("no text in it: {warning}"),
            None => bail!("no text in it"),
        }
    }
    contents::remove(&mut document);
    structure::assign_sections(&mut document);
    Ok((document, warnings))
}

/// NFC everywhere, no characters that only steer a display, no white space around a text, no empty block.
fn normalise(document: &mut Document) {
    for block in &mut document.blocks {
        if !is_clean(&block.text) {
            block.text = clean(&block.text);
        }
        let Location {
            sheet, page_label, ..
        } = &mut block.location;
        for name in [sheet, page_label].into_iter().flatten() {
            *name = clean(name);
        }
    }
    document.blocks.retain(|block| !block.text.is_empty());
    document.title = document
        .title
        .take()
        .map(|title| clean(&title))
        .filter(|title| !title.is_empty());
}

/// Whether a text is known to be clean without looking its characters up in tables, as most texts are.
fn is_clean(text: &str) -> bool {
    let is_plain = |c: char| {
        matches!(c, '\t' | '\n' | ' '..='~' | '\u{a0}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' | '‐'..='‧'
            | '←'..='\u{2328}' | '\u{232b}'..='\u{2adb}' | '、'..='】' | 'ㄱ'..='ㆎ' | '一'..='鿿' | '가'..='힣'
            | '！'..='￮')
    };
    text.trim().len() == text.len() && text.chars().all(is_plain)
}

fn clean(text: &str) -> String {
    let is_shown = |c: &char| {
        !matches!(
            c,
            '\u{0}'..='\u{8}'
                | '\u{b}'..='\u{1f}'
                | '\u{7f}'
                | '\u{ad}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{2064}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
    };
    let text: String = text.chars().filter(is_shown).nfc().collect();
    text.trim().to_owned()
}

/// Whether ragq reads a file, or a person would expect it to: a document it must refuse (encrypted, damaged, an old
/// format) is one, a picture is not.
#[must_use]
pub fn is_candidate(bytes: &[u8], file_name: &str) -> bool {
    match format::identify(bytes, file_name) {
        Identity::Readable(_) => true,
        Identity::Known(_) => format::is_document_name(file_name),
        Identity::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_clean_and_nfc() {
        let (document, _) = parse(
            "\u{feff}\u{1112}\u{1172}\u{110c}\u{1175}\u{11a8}\u{200b} 기간\u{7}\n\n \u{ad} \n"
                .as_bytes(),
            "a.txt",
            &Budget::standard(),
        )
        .unwrap();
        assert_eq!(document.blocks.len(), 1);
        assert_eq!(document.blocks[0].text, "휴직 기간");
    }

    #[test]
    fn what_seems_clean_is_clean() {
        let all = ('\0'..=char::MAX).map(|c| format!("가{c}나"));
        for text in all.filter(|text| is_clean(text)) {
            assert_eq!(clean(&text), text);
        }
        for text in [
            " 휴직",
            "휴직\n",
            "휴\u{ad}직",
            "휴\u{200b}직",
            "\u{1112}\u{1172}",
        ] {
            assert!(!is_clean(text), "{text:?}");
        }
        assert!(is_clean("제1조(목적) 「근로기준법」 ① 1.5%"));
    }

    #[test]
    fn a_file_without_text_is_named_as_such() {
        let check = |bytes: &[u8], name: &str, expected: &str| {
            let error = parse(bytes, name, &Budget::standard()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{name}");
        };
        check(b"", "a.docx", "empty file");
        check(b" \n\n\t\n", "a.txt", "no text in it");
        check(
            b"<html><body><img src='a.png'></body></html>",
            "a.html",
            "no text in it",
        );
        check(b",,\n,,\n", "a.csv", "no text in it");
        check(b"---\n", "a.md", "no text in it");
    }
}
