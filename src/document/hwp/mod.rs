//! HWP 5, the file format of the Hangul word processor from 2000 on → paragraphs, tables, notes.
//!
//! An OLE container holds streams of records, mostly compressed: `FileHeader` says how, `DocInfo` has what paragraphs
//! refer to, `BodyText/Section0` and so on hold the text. Distribution documents are decrypted. Automatic numbers are
//! computed, merged cells repeated, pages estimated from the stored layout. Left out: headers, footers, hidden
//! comments, pictures. Refused with a reason: files of Hangul 97 and older, files with a password or DRM.
//!
//! Sources: "한글 문서 파일 형식 5.0" and "배포용 문서" by Hancom. 본 제품은 한글과컴퓨터의 한글 문서 파일(.hwp) 공개
//! 문서를 참고하여 개발하였습니다.

mod distribution;
mod doc_info;
mod pages;
mod record;
mod section;

use std::io::{Cursor, Read};

use anyhow::{Context, Result, bail, ensure};
use cfb::CompoundFile;
use flate2::read::DeflateDecoder;

use super::{Budget, Document, Warning};
use doc_info::DocInfo;
use section::SectionReader;

/// How an OLE container begins.
const OLE_MAGIC: [u8; 8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

/// How the `FileHeader` stream begins.
const SIGNATURE: &[u8] = b"HWP Document File";

/// How files of Hangul 3 to 97 begin.
const HWP3_MAGIC: &[u8] = b"HWP Document File V";

type Container<'a> = CompoundFile<Cursor<&'a [u8]>>;

/// Whether these are the bytes of a Hangul file of any version that is not a ZIP.
pub(super) fn is_hwp(bytes: &[u8]) -> bool {
    if bytes.starts_with(HWP3_MAGIC) {
        return true;
    }
    // The directory names its streams in UTF-16: cheaper than opening every Word 97 file, and true of damaged ones.
    let file_header: Vec<u8> = "FileHeader"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    bytes.starts_with(&OLE_MAGIC)
        && bytes
            .windows(file_header.len())
            .any(|window| window == file_header)
}

/// Reads an HWP file.
///
/// # Errors
/// When nothing can be read: an old version, a password, no container, no text at all.
pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    ensure!(
        !bytes.starts_with(HWP3_MAGIC),
        "an HWP 3 file (Hangul 97 or older): save it as HWPX or HWP 5 in Hangul, then ingest that"
    );
    let mut container = CompoundFile::open(Cursor::new(bytes)).context("damaged OLE container")?;
    let properties = Properties::read(&mut container, budget)?;
    let mut streams = Streams {
        container,
        is_compressed: properties.is_compressed,
        max_part_bytes: budget.max_part_bytes,
        unpacked_bytes_left: budget.max_unpacked_bytes,
        warnings: Vec::new(),
    };
    let info = streams
        .read_plain("/DocInfo")
        .map(|stream| DocInfo::read(&stream));
    if info.is_none() {
        streams.warn("/DocInfo", "cannot be read: automatic numbers are missing");
    }
    let info = info.unwrap_or_default();
    let mut reader = SectionReader::new(&info);
    let sections = streams.sections(properties.is_distribution, budget.max_pages);
    ensure!(!sections.is_empty(), "no text section in the file");
    for name in sections {
        let stream = if name.starts_with("/ViewText") {
            streams.read_encrypted(&name)
        } else {
            streams.read_plain(&name)
        };
        let is_whole = match stream {
            Some(stream) => reader.read(&stream, budget)?,
            None => false,
        };
        if !is_whole {
            streams.warn(&name, "damaged, text is missing");
        }
    }
    let document = Document {
        title: None,
        blocks: reader.into_blocks(),
    };
    Ok((document, streams.warnings))
}

/// What `FileHeader` says about the file.
struct Properties {
    is_compressed: bool,
    is_distribution: bool,
}

impl Properties {
    fn read(container: &mut Container<'_>, budget: &Budget) -> Result<Properties> {
        let header = read_stream(container, "/FileHeader", budget.max_part_bytes)
            .context("FileHeader cannot be read")?;
        ensure!(
            header.starts_with(SIGNATURE),
            "not an HWP file: FileHeader lacks the signature"
        );
        let flags = header.get(36..).and_then(|bytes| bytes.first_chunk());
        let flags = u32::from_le_bytes(*flags.context("FileHeader is too short")?);
        let has = |bit: u32| flags & (1 << bit) != 0;
        if has(1) {
            bail!("protected by a password: save it without one in Hangul, then ingest that");
        }
        if has(4) || has(8) || has(10) {
            bail!(
                "encrypted by DRM or a certificate: only the program that protects it can open it"
            );
        }
        Ok(Properties {
            is_compressed: has(0),
            is_distribution: has(2),
        })
    }
}

/// The streams of one file, read within the budget; what goes wrong is noted.
struct Streams<'a> {
    container: Container<'a>,
    is_compressed: bool,
    max_part_bytes: usize,
    unpacked_bytes_left: usize,
    warnings: Vec<Warning>,
}

impl Streams<'_> {
    fn warn(&mut self, name: &str, problem: &str) {
        let name = name.trim_start_matches('/');
        self.warnings.push(Warning(format!("{name}: {problem}")));
    }

    /// The paths of the text sections in order. A distribution document has a stub in `BodyText` and its text in
    /// `ViewText`.
    fn sections(&mut self, is_distribution: bool, max_sections: usize) -> Vec<String> {
        let storages = if is_distribution {
            ["/ViewText", "/BodyText"]
        } else {
            ["/BodyText", "/ViewText"]
        };
        for storage in storages {
            let Ok(entries) = self.container.read_storage(storage) else {
                continue;
            };
            let mut numbers: Vec<u32> = entries
                .filter_map(|entry| entry.name().strip_prefix("Section")?.parse().ok())
                .collect();
            numbers.sort_unstable();
            if numbers.len() > max_sections {
                let problem = format!("only the first {max_sections} sections are read");
                self.warn(storage, &problem);
                numbers.truncate(max_sections);
            }
            if !numbers.is_empty() {
                let path = |number| format!("{storage}/Section{number}");
                return numbers.into_iter().map(path).collect();
            }
        }
        Vec::new()
    }

    fn read_plain(&mut self, name: &str) -> Option<Vec<u8>> {
        let stream = self.read_raw(name)?;
        Some(self.unpack(name, stream))
    }

    fn read_encrypted(&mut self, name: &str) -> Option<Vec<u8>> {
        let stream = self.read_raw(name)?;
        let plain = distribution::decrypt(&stream)?;
        Some(self.unpack(name, plain))
    }

    fn read_raw(&mut self, name: &str) -> Option<Vec<u8>> {
        match read_stream(&mut self.container, name, self.max_part_bytes) {
            Ok(stream) => Some(stream),
            Err(cause) => {
                self.warn(name, &format!("cannot be read: {cause:#}"));
                None
            }
        }
    }

    /// Decompresses a stream as far as it goes.
    fn unpack(&mut self, name: &str, stream: Vec<u8>) -> Vec<u8> {
        if !self.is_compressed {
            return stream;
        }
        let limit = self.max_part_bytes.min(self.unpacked_bytes_left);
        let mut unpacked = Vec::new();
        let mut decoder = DeflateDecoder::new(stream.as_slice()).take(limit_as_u64(limit) + 1);
        if let Err(cause) = decoder.read_to_end(&mut unpacked) {
            self.warn(
                name,
                &format!("damaged compression, text is missing: {cause}"),
            );
        }
        if unpacked.len() > limit {
            unpacked.truncate(limit);
            self.warn(name, &format!("only the first {limit} bytes are read"));
        }
        self.unpacked_bytes_left -= unpacked.len();
        unpacked
    }
}

/// A stream's bytes as they are stored, at most `max_bytes`.
fn read_stream(container: &mut Container<'_>, name: &str, max_bytes: usize) -> Result<Vec<u8>> {
    let stream = container.open_stream(name)?;
    let mut bytes = Vec::new();
    stream
        .take(limit_as_u64(max_bytes))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn limit_as_u64(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX - 1)
}
