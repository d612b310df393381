//! HWP 5, the file format of the Hangul word processor from 2000 on → paragraphs, tables, notes.
//!
//! An OLE container holds streams of records, mostly compressed: `FileHeader` says how, `DocInfo` has what paragraphs
//! refer to, `BodyText/Section0` and so on hold the text. Distribution documents are decrypted. Automatic numbers are
//! computed, merged cells repeated, pages estimated from the stored layout. Left out: headers, footers, hidden
//! comments, pictures. Refused with a reason: files with a password or DRM.
//!
//! Sources: "한글 문서 파일 형식 5.0" and "배포용 문서" by Hancom. 본 제품은 한글과컴퓨터의 한글 문서 파일(.hwp) 공개
//! 문서를 참고하여 개발하였습니다.

pub(super) mod body;
pub(super) mod definitions;
mod distribution;
mod doc_info;
pub(super) mod numbering;
mod pages;
mod record;
mod section;

use std::io::{Cursor, Read};

use anyhow::{Context, Result, bail, ensure};
use cfb::CompoundFile;
use flate2::read::DeflateDecoder;

use super::{Budget, Document, Warning};
use definitions::Definitions;
use section::SectionReader;

/// How the `FileHeader` stream begins.
const SIGNATURE: &[u8] = b"HWP Document File";

/// Where distribution documents keep their text.
const ENCRYPTED_STORAGE: &str = "/ViewText";

type Container<'a> = CompoundFile<Cursor<&'a [u8]>>;

/// Reads an HWP file.
///
/// # Errors
/// When nothing can be read: a password, no container, no text at all.
pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut container = CompoundFile::open(Cursor::new(bytes)).context("damaged OLE container")?;
    let properties = Properties::read(&mut container, budget)?;
    let mut streams = Streams {
        container,
        is_compressed: properties.is_compressed,
        max_part_bytes: budget.max_part_bytes,
        unpacked_bytes_left: budget.max_unpacked_bytes,
        warnings: Vec::new(),
    };
    let definitions = match streams.read("/DocInfo") {
        Ok(stream) => doc_info::read(&stream),
        Err(cause) => {
            let problem = format!("{cause:#}: automatic numbers are missing");
            streams.warn("/DocInfo", &problem);
            Definitions::default()
        }
    };
    let mut reader = SectionReader::new(&definitions);
    let sections = streams.sections(properties.is_distribution, budget.max_pages);
    ensure!(!sections.is_empty(), "no text section in the file");
    for name in sections {
        if reader.is_full() {
            break;
        }
        match streams.read(&name) {
            Ok(stream) => {
                if let Some(problem) = reader.read(&stream, budget)? {
                    streams.warn(&name, &problem);
                }
            }
            Err(cause) => streams.warn(&name, &format!("{cause:#}")),
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
            [ENCRYPTED_STORAGE, "/BodyText"]
        } else {
            ["/BodyText", ENCRYPTED_STORAGE]
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

    /// A stream as records: decrypted where it belongs to a distribution document, and decompressed.
    fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut stream = read_stream(&mut self.container, name, self.max_part_bytes)
            .context("cannot be read")?;
        if name.starts_with(ENCRYPTED_STORAGE) {
            stream = distribution::decrypt(&stream).context("cannot be decrypted: no key in it")?;
        }
        Ok(self.unpack(name, stream))
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// The bytes of an HWP 5 file with these flags and streams.
    fn file(flags: u32, streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut container = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        let mut header = vec![0; 256];
        header[..SIGNATURE.len()].copy_from_slice(SIGNATURE);
        header[36..40].copy_from_slice(&flags.to_le_bytes());
        for storage in ["/BodyText", "/ViewText"] {
            container.create_storage(storage).unwrap();
        }
        let header = ("/FileHeader", header);
        for (name, bytes) in streams.iter().chain([&header]) {
            let mut stream = container.create_stream(name).unwrap();
            stream.write_all(bytes).unwrap();
        }
        container.flush().unwrap();
        container.into_inner().into_inner()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn section(text: &str) -> Vec<u8> {
        let mut stream = Vec::new();
        section::tests::push_paragraph(&mut stream, 0, text);
        stream
    }

    fn check(bytes: &[u8], expected: &[&str], expected_warnings: &[&str]) {
        let (document, warnings) = parse(bytes, &Budget::standard()).unwrap();
        let texts: Vec<String> = document
            .blocks
            .into_iter()
            .map(|block| block.text)
            .collect();
        assert_eq!(texts, expected);
        let warnings: Vec<String> = warnings.into_iter().map(|warning| warning.0).collect();
        assert_eq!(warnings, expected_warnings);
    }

    #[test]
    fn sections_are_read_in_order_compressed_or_not() {
        let names = [
            "/DocInfo",
            "/BodyText/Section0",
            "/BodyText/Section2",
            "/BodyText/Section10",
        ];
        let texts = ["", "가", "나", "다"];
        let plain = names.into_iter().zip(texts.map(section));
        let plain: Vec<(&str, Vec<u8>)> = plain.collect();
        check(&file(0, &plain), &["가", "나", "다"], &[]);
        let compressed = plain.iter().map(|(name, bytes)| (*name, deflate(bytes)));
        check(
            &file(1, &compressed.collect::<Vec<_>>()),
            &["가", "나", "다"],
            &[],
        );
    }

    #[test]
    fn a_distribution_document_is_decrypted() {
        let hidden = distribution::tests::encrypt(&deflate(&section("배포용 본문")));
        let streams = [
            ("/DocInfo", deflate(&[])),
            (
                "/BodyText/Section0",
                deflate(&section("한글 2010 이상에서 보십시오")),
            ),
            ("/ViewText/Section0", hidden),
        ];
        check(&file(5, &streams), &["배포용 본문"], &[]);
    }

    #[test]
    fn damage_is_named_and_the_rest_is_read() {
        let mut cut = section("남은 글");
        cut.truncate(cut.len() - 1);
        let streams = [
            ("/BodyText/Section0", section("온전한 글")),
            ("/BodyText/Section1", cut),
        ];
        check(
            &file(0, &streams),
            &["온전한 글", "남은"],
            &[
                "DocInfo: cannot be read: No such stream: \"/DocInfo\": automatic numbers are missing",
                "BodyText/Section1: damaged, text is missing",
            ],
        );
    }

    #[test]
    fn files_that_cannot_be_opened_are_refused_with_the_reason() {
        fn check(bytes: &[u8], expected: &str) {
            let error = parse(bytes, &Budget::standard()).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains(expected), "{message}");
        }
        check(&file(2, &[]), "password");
        check(&file(1 << 4, &[]), "DRM");
        check(&file(0, &[]), "no text section");
        check(b"", "damaged OLE container");
    }

    #[test]
    fn no_mutation_of_a_file_makes_the_reader_panic() {
        let streams = [
            ("/DocInfo", deflate(&section("가"))),
            ("/BodyText/Section0", deflate(&section("나\u{B}다"))),
        ];
        let whole = file(1, &streams);
        // A fixed linear congruential generator: a failure can be repeated.
        let mut state = 1u32;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 8).unwrap() % below
        };
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(8) {
                let place = random(bytes.len());
                bytes[place] = u8::try_from(random(256)).unwrap();
            }
            bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
            let _ = parse(&bytes, &Budget::standard());
        }
    }
}
