//! What a file is: by its content, and by its name only where content cannot tell.
//!
//! Names lie: web applications call an HTML table `.xls`, and people rename. Content decides between containers,
//! PDF, HTML and text; the extension decides only between kinds of plain text.

use std::io::Cursor;

use super::package::Package;
use super::{Budget, Format, encoding};

/// What [`identify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Readable(Format),
    /// A type that is known but not read, or cannot be opened: why, in a sentence.
    Known(String),
    Unknown,
}

/// A PDF may begin with this much of something else (ISO 32000-1, annex H.3.4.1).
const N_BYTES_BEFORE_PDF: usize = 1024;

/// Types that people keep beside their documents, by their first bytes.
const OTHER_TYPES: [(&[u8], &str); 18] = [
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"BM", "a picture (BMP)"),
    (b"II*\0", "a picture (TIFF)"),
    (b"MM\0*", "a picture (TIFF)"),
    (b"RIFF", "sound or video"),
    (b"ID3", "sound (MP3)"),
    (b"{\\rtf", "an RTF document: save it as DOCX"),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7z)"),
    (b"Rar!", "an archive (RAR)"),
    (b"\x1f\x8b", "compressed data (gzip)"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "a database (SQLite)"),
    (
        b"HWP Document File V",
        "an HWP 3 file (Hangul 97 or older): save it as HWPX in Hangul, then ingest that",
    ),
    (
        b"\x09\x08\x08\0\x00\x05",
        "an Excel 5 file without a container: save it as XLSX",
    ),
    (b"%!PS", "a PostScript file: convert it to PDF"),
];

/// Endings of documents, whether ragq reads their format or only says what to save them as.
const DOCUMENT_EXTENSIONS: [&str; 26] = [
    "asc", "csv", "doc", "docm", "docx", "htm", "html", "hwp", "hwpx", "log", "markdown", "md",
    "odp", "ods", "odt", "pdf", "ppt", "pptx", "rtf", "text", "tsv", "txt", "xls", "xlsb", "xlsm",
    "xlsx",
];

/// Whether a file is called as documents are.
pub(super) fn is_document_name(file_name: &str) -> bool {
    let extension = file_name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_lowercase());
    extension.is_some_and(|extension| DOCUMENT_EXTENSIONS.contains(&extension.as_str()))
}

/// Finds what a file is.
pub(super) fn identify(bytes: &[u8], file_name: &str) -> Identity {
    let extension = file_name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_lowercase())
        .unwrap_or_default();
    let head = bytes.get(..N_BYTES_BEFORE_PDF).unwrap_or(bytes);
    if head.windows(5).any(|window| window == b"%PDF-") {
        return Identity::Readable(Format::Pdf);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return identify_ole(bytes);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return identify_zip(bytes);
    }
    let is_text_name = matches!(extension.as_str(), "txt" | "text" | "csv" | "tsv" | "md");
    let other = OTHER_TYPES.iter().find(|(magic, _)| {
        bytes.starts_with(magic) && !(is_text_name && magic.is_ascii() && magic.len() < 4)
    });
    if let Some((_, what)) = other {
        return Identity::Known((*what).to_owned());
    }
    identify_text(bytes, head, &extension)
}

fn identify_text(bytes: &[u8], head: &[u8], extension: &str) -> Identity {
    if is_html(head, extension) {
        return Identity::Readable(Format::Html);
    }
    let format = match extension {
        "csv" | "tsv" | "tab" => Format::Csv,
        "md" | "markdown" | "mdown" | "mkd" => Format::Markdown,
        "txt" | "text" | "log" | "asc" => Format::Txt,
        // Exports of web applications: tab separated text under the name of a workbook.
        "xls" | "xlsx" if encoding::is_text(bytes) => Format::Csv,
        "" if encoding::is_text(bytes) => Format::Txt,
        "docx" | "docm" | "xlsx" | "xlsm" | "xlsb" | "pptx" | "hwpx" | "ods" | "odt" => {
            return Identity::Known(format!(
                "damaged: not the container that .{extension} must be"
            ));
        }
        "hwp" | "xls" | "doc" | "ppt" | "pdf" => {
            return Identity::Known(format!("damaged: the content is not .{extension}"));
        }
        _ => return Identity::Unknown,
    };
    Identity::Readable(format)
}

/// By the first tag; a page without one only if its name says so.
fn is_html(head: &[u8], extension: &str) -> bool {
    // Every encoding that HTML may come in holds its tags as ASCII, with or without NULs between.
    let text: String = head
        .iter()
        .filter(|byte| **byte != 0)
        .map(|&byte| char::from(byte).to_ascii_lowercase())
        .skip_while(|c| !c.is_ascii() || c.is_ascii_whitespace())
        .collect();
    let begins_as_html = [
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<table",
        "<meta",
    ]
    .iter()
    .any(|tag| text.starts_with(tag));
    let begins_as_xml = text.starts_with("<?xml") || text.starts_with("<!--");
    let is_named_html = matches!(extension, "html" | "htm" | "xhtml");
    let is_named_workbook = matches!(extension, "xls" | "xlsx");
    begins_as_html && !matches!(extension, "txt" | "md" | "csv")
        || (begins_as_xml && text.contains("<html"))
        || is_named_html
        || (is_named_workbook && text.contains("<table"))
}

fn identify_ole(bytes: &[u8]) -> Identity {
    let Some(streams) = ole_streams(bytes) else {
        return Identity::Known("damaged OLE container".to_owned());
    };
    // Names in an OLE container have no case: some programs write `WORKBOOK`.
    let has = |name: &str| streams.iter().any(|it| it.eq_ignore_ascii_case(name));
    if has("EncryptedPackage") {
        return Identity::Known("encrypted with a password".to_owned());
    }
    if has("FileHeader") {
        return Identity::Readable(Format::Hwp);
    }
    if has("WordDocument") {
        return Identity::Known("a Word 97-2003 document (.doc): save it as DOCX".to_owned());
    }
    if has("PowerPoint Document") {
        return Identity::Known("a PowerPoint 97-2003 file (.ppt): save it as PPTX".to_owned());
    }
    if has("Workbook") || has("Book") {
        return Identity::Readable(Format::Spreadsheet);
    }
    Identity::Known("an OLE container without a document that ragq reads".to_owned())
}

/// Names of the streams at the root of an OLE container; of a damaged one, whatever directory entries are left.
fn ole_streams(bytes: &[u8]) -> Option<Vec<String>> {
    if let Ok(container) = cfb::CompoundFile::open(Cursor::new(bytes)) {
        let entries = container.read_root_storage();
        return Some(entries.map(|entry| entry.name().to_owned()).collect());
    }
    // A directory entry is 128 bytes: a name in UTF-16, then its length in bytes.
    let names: Vec<String> = bytes
        .get(512..)?
        .chunks_exact(128)
        .filter_map(|entry| {
            let n_bytes = usize::from(u16::from_le_bytes([*entry.get(64)?, *entry.get(65)?]));
            let (pairs, _) = entry.get(..n_bytes.checked_sub(2)?)?.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            String::from_utf16(&units)
                .ok()
                .filter(|name| !name.is_empty())
        })
        .collect();
    (!names.is_empty()).then_some(names)
}

fn identify_zip(bytes: &[u8]) -> Identity {
    let budget = Budget::standard();
    let mut package = match Package::open(bytes, &budget) {
        Ok(package) => package,
        Err(cause) => return Identity::Known(format!("{cause:#}")),
    };
    let mut head_of = |name: &str| package.read(name).ok().flatten().unwrap_or_default();
    let mimetype = String::from_utf8_lossy(&head_of("mimetype")).into_owned();
    let types = String::from_utf8_lossy(&head_of("[Content_Types].xml")).into_owned();
    let names = package.names();
    let has_folder = |folder: &str| names.iter().any(|name| name.starts_with(folder));
    if mimetype.contains("hwp+zip") || has_folder("contents/section") {
        Identity::Readable(Format::Hwpx)
    } else if mimetype.contains("opendocument.spreadsheet") {
        Identity::Readable(Format::Spreadsheet)
    } else if mimetype.contains("opendocument") {
        Identity::Known("an OpenDocument file: save it as DOCX or PDF".to_owned())
    } else if mimetype.contains("epub") {
        Identity::Known("an e-book (EPUB)".to_owned())
    } else if types.contains("wordprocessingml.document.main")
        || types.contains("wordprocessingml.template.main")
        || types.contains("ms-word.document")
        || types.contains("ms-word.template")
    {
        Identity::Readable(Format::Docx)
    } else if types.contains("spreadsheetml.sheet.main")
        || types.contains("spreadsheetml.template.main")
        || types.contains("ms-excel.sheet")
        || types.contains("ms-excel.template")
    {
        Identity::Readable(Format::Spreadsheet)
    } else if types.contains("presentationml") {
        Identity::Readable(Format::Pptx)
    } else if has_folder("word/") {
        Identity::Readable(Format::Docx)
    } else if has_folder("xl/") {
        Identity::Readable(Format::Spreadsheet)
    } else if has_folder("ppt/") {
        Identity::Readable(Format::Pptx)
    } else {
        Identity::Known("an archive (ZIP): unpack it first".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;

    fn check(bytes: &[u8], name: &str, expected: Option<Format>) {
        let found = match identify(bytes, name) {
            Identity::Readable(format) => Some(format),
            Identity::Known(_) | Identity::Unknown => None,
        };
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn content_decides_before_the_name() {
        check(b"%PDF-1.7", "a.docx", Some(Format::Pdf));
        check(b"\n\n%PDF-1.4", "a", Some(Format::Pdf));
        check(b"<html><body><table>", "report.xls", Some(Format::Html));
        check("이름\t값\n".as_bytes(), "report.xls", Some(Format::Csv));
        check(
            &zipped(&[("word/document.xml", b"")]),
            "a.zip",
            Some(Format::Docx),
        );
        check(
            &zipped(&[("xl/workbook.xml", b"")]),
            "a.csv",
            Some(Format::Spreadsheet),
        );
        check(
            &zipped(&[("mimetype", b"application/hwp+zip")]),
            "a.hwp",
            Some(Format::Hwpx),
        );
        check(&zipped(&[("a.txt", b"")]), "a.docx", None);
    }

    #[test]
    fn names_decide_between_kinds_of_text() {
        check("가,나".as_bytes(), "a.CSV", Some(Format::Csv));
        check("# 제목".as_bytes(), "a.md", Some(Format::Markdown));
        check("제목".as_bytes(), "a.txt", Some(Format::Txt));
        check("제목".as_bytes(), "README", Some(Format::Txt));
        check("제목".as_bytes(), "a.rs", None);
        check(b"BMW and others", "a.txt", Some(Format::Txt));
        check(b"\x89PNG\r\n\x1a\n\0\0", "a.txt", None);
    }

    #[test]
    fn an_encrypted_package_is_named_as_such() {
        let mut container = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        container.create_stream("EncryptedPackage").unwrap();
        let bytes = container.into_inner().into_inner();
        assert_eq!(
            identify(&bytes, "a.xlsx"),
            Identity::Known("encrypted with a password".to_owned())
        );
    }

    #[test]
    fn streams_are_known_in_any_case() {
        for name in ["Workbook", "WORKBOOK", "book"] {
            let mut container = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
            container.create_stream(name).unwrap();
            let bytes = container.into_inner().into_inner();
            check(&bytes, "a.xls", Some(Format::Spreadsheet));
        }
    }
}
