//! Every reader is total: whatever the bytes, it ends in time, without a panic, with a document or an error.
//!
//! Small documents of each format are made here (and taken from `fixtures/documents` where there are some), then cut
//! off, flipped bit by bit and spliced with each other, by a seeded generator, so that a failure can be repeated.

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use ragq::document::{Block, Budget, parse};

/// Mutations of each document. The whole test takes a few seconds.
const N_MUTATIONS: u64 = 120;

/// Far above what a small document takes, even on a busy machine; far below the budget's own limit.
const MAX_TIME: Duration = Duration::from_secs(8);

/// What `document::parse` says when a reader or a library panicked: for small mutations that is a bug in a reader of
/// ours, and tolerated only from libraries that are known to do it.
const PANICKED: &str = "damaged in a way that ragq cannot read";

/// xorshift64*: enough to spread mutations, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % below.max(1)
    }
}

fn mutated(bytes: &[u8], others: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match random.next(5) {
        0 => bytes.truncate(random.next(bytes.len())),
        1 => {
            for _ in 0..=random.next(8) {
                let position = random.next(bytes.len());
                bytes[position] ^= 1 << random.next(8);
            }
        }
        2 => {
            let (_, other) = &others[random.next(others.len())];
            let from = random.next(other.len());
            let n_bytes = random.next(200).min(other.len() - from);
            let at = random.next(bytes.len());
            bytes.splice(at..at, other[from..from + n_bytes].iter().copied());
        }
        3 => {
            let at = random.next(bytes.len());
            let n_bytes = random.next(64).min(bytes.len() - at);
            bytes[at..at + n_bytes].fill([0, 0xFF, b'<', b'"'][random.next(4)]);
        }
        _ => {
            let at = random.next(bytes.len());
            let n_bytes = random.next(500).min(bytes.len() - at);
            let piece = bytes[at..at + n_bytes].to_vec();
            for _ in 0..random.next(40) {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

fn check(name: &str, bytes: &[u8], how: &str) {
    let start = Instant::now();
    let outcome = parse(bytes, name, &Budget::standard());
    let elapsed = start.elapsed();
    assert!(elapsed < MAX_TIME, "{name}, {how}: took {elapsed:?}");
    match outcome {
        Ok((document, _)) => document
            .blocks
            .iter()
            .for_each(|block| check_block(name, how, block)),
        Err(error) => {
            let text = format!("{error:#}");
            assert!(
                !text.is_empty() && !text.contains('\n'),
                "{name}, {how}: {text}"
            );
            // calamine panics on some damaged workbooks; it is caught, and nothing of ours may do it.
            let may_panic =
                name.contains(".xls") || name.ends_with(".pdf") || name.ends_with(".hwp");
            assert!(
                may_panic || !text.starts_with(PANICKED),
                "{name}, {how}: {text}"
            );
        }
    }
}

fn check_block(name: &str, how: &str, block: &Block) {
    assert_eq!(block.text, block.text.trim(), "{name}, {how}");
    assert!(!block.text.is_empty(), "{name}, {how}");
}

#[test]
fn mutated_documents_are_read_or_refused() {
    let documents = documents();
    for (name, bytes) in &documents {
        check(name, bytes, "as it is");
        for seed in 0..N_MUTATIONS {
            let mut random = Random(seed * 0x9E37_79B9 + 1);
            let mutated = mutated(bytes, &documents, &mut random);
            check(name, &mutated, &format!("mutation {seed}"));
        }
    }
}

/// A mutation of a compressed part mostly breaks the compression; here the XML within is what is damaged.
#[test]
fn mutated_parts_are_read_or_refused() {
    for (name, parts) in containers() {
        for seed in 0..N_MUTATIONS {
            let mut random = Random(seed * 0x9E37_79B9 + 7);
            let target = random.next(parts.len());
            let all: Vec<(String, Vec<u8>)> = parts
                .iter()
                .map(|(part, xml)| ((*part).to_owned(), xml.as_bytes().to_vec()))
                .collect();
            let mut damaged = all.clone();
            damaged[target].1 = mutated(&all[target].1, &all, &mut random);
            check(
                name,
                &zipped(&damaged),
                &format!("part {target}, mutation {seed}"),
            );
        }
    }
}

#[test]
fn depth_and_width_cost_no_stack_and_little_time() {
    let depth = 50_000;
    let nested = |open: &str, close: &str, inner: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let body = |xml: &str| {
        zipped(&[(
            "word/document.xml".to_owned(),
            format!("<w:document xmlns:w=\"w\"><w:body>{xml}</w:body></w:document>").into_bytes(),
        )])
    };
    let tables = nested("<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>", "<w:p/>");
    check("tables.docx", &body(&tables), "nested tables");
    let paragraphs = nested(
        "<w:p><w:r><w:txbxContent>",
        "</w:txbxContent></w:r></w:p>",
        "",
    );
    check("boxes.docx", &body(&paragraphs), "nested text boxes");
    check(
        "a.html",
        nested("<div>", "</div>", "가").as_bytes(),
        "nested elements",
    );
    check(
        "b.html",
        "<table><tr><td>".repeat(5_000).as_bytes(),
        "nested tables",
    );
    check(
        "c.html",
        "<b><i><u>".repeat(30_000).as_bytes(),
        "open formats",
    );
    check("a.md", "> ".repeat(200_000).as_bytes(), "nested quotations");
    check("b.md", "[".repeat(200_000).as_bytes(), "open brackets");
    check("c.md", "**`__".repeat(100_000).as_bytes(), "open marks");
    check(
        "a.txt",
        "제1조(".repeat(200_000).as_bytes(),
        "open articles",
    );
    check("b.txt", "1.".repeat(200_000).as_bytes(), "endless numbers");
    check(
        "c.txt",
        "1. 가\n".repeat(100_000).as_bytes(),
        "endless lists",
    );
    check(
        "d.txt",
        "제1조(가)\n".repeat(50_000).as_bytes(),
        "endless articles",
    );
    check("a.csv", ",".repeat(1_000_000).as_bytes(), "endless row");
    check(
        "b.csv",
        "\"".repeat(1_000_001).as_bytes(),
        "endless quotation marks",
    );
    check(
        "c.csv",
        "가,나\n".repeat(100_000).as_bytes(),
        "endless rows",
    );
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![b' '; 80 << 20];
    for part in ["word/document.xml", "xl/sharedStrings.xml", "content.xml"] {
        let mimetype: &[u8] = match part {
            "content.xml" => b"application/vnd.oasis.opendocument.spreadsheet",
            _ => b"",
        };
        let bytes = zipped(&[
            ("mimetype".to_owned(), mimetype.to_vec()),
            (part.to_owned(), zeros.clone()),
        ]);
        let error = parse(&bytes, "bomb", &Budget::standard()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            format!("{part}: unpacks to more than 64 MiB: refused")
                .to_lowercase()
                .replace("mib", "MiB"),
        );
    }
}

fn zipped(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A small document of each format, by file name.
fn documents() -> Vec<(String, Vec<u8>)> {
    const RULE: &str = "휴직 기준\r\n\r\n제1장 총칙\r\n제1조(목적) 이 기준은 휴직을 정한다.\r\n제2조(기간)\r\n① 육아휴직은 2년 이내로 한다.\r\n1. 국내\r\n가. 연수\r\n부칙\r\n제1조(시행일) 바로.\r\n";
    let (cp949, ..) = encoding_rs::EUC_KR.encode(RULE);
    let utf16: Vec<u8> = RULE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let texts: [(&str, &[u8]); 7] = [
        ("utf8.txt", RULE.as_bytes()),
        ("cp949.txt", &cp949),
        ("utf16.txt", &utf16),
        ("faq.csv", "질문,답변\n\"휴가는\n며칠?\",15일\n복장은?,\"\"\"단정\"\"하게\"\n".as_bytes()),
        ("faq.tsv", "이름\t값\n가\t1\n나\t2\n".as_bytes()),
        ("a.md", "# 제목\n\n| 가 | 나 |\n|---|---|\n| 1 | 2 |\n\n```\n코드\n```\n1. **굵게** [링크](x)\n".as_bytes()),
        ("a.html", "<!doctype html><title>t</title><h1>제목</h1><table><tr><th>가<th>나<tr><td rowspan=2>1<td>2<tr><td>3</table><ol><li>하나<li>둘&amp;</ol>".as_bytes()),
    ];
    let mut documents: Vec<(String, Vec<u8>)> = texts
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect();
    for (name, parts) in containers() {
        let parts: Vec<(String, Vec<u8>)> = parts
            .iter()
            .map(|(part, xml)| ((*part).to_owned(), xml.as_bytes().to_vec()))
            .collect();
        documents.push((name.to_owned(), zipped(&parts)));
    }
    documents.extend(fixtures());
    documents
}

/// Documents of the repository, if they are small enough to be read this often.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.is_file())
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let bytes = ragq::fs::read(&path).ok()?;
            (bytes.len() < 40_000 && !bytes.is_empty()).then_some((name, bytes))
        })
        .collect()
}

/// Containers by file name: their parts' names and XML.
fn containers() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        (
            "a.docx",
            vec![
                (
                    "_rels/.rels",
                    r#"<Relationships><Relationship Id="r" Type="t/officeDocument" Target="word/document.xml"/></Relationships>"#,
                ),
                (
                    "word/_rels/document.xml.rels",
                    r#"<Relationships><Relationship Id="a" Type="t/styles" Target="styles.xml"/><Relationship Id="b" Type="t/numbering" Target="numbering.xml"/><Relationship Id="c" Type="t/footnotes" Target="footnotes.xml"/></Relationships>"#,
                ),
                (
                    "word/styles.xml",
                    r#"<w:styles xmlns:w="w"><w:style w:type="paragraph" w:styleId="1"><w:name w:val="heading 1"/><w:basedOn w:val="2"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr><w:outlineLvl w:val="0"/></w:pPr></w:style><w:style w:type="paragraph" w:default="1" w:styleId="2"><w:basedOn w:val="1"/><w:rPr><w:sz w:val="20"/></w:rPr></w:style></w:styles>"#,
                ),
                (
                    "word/numbering.xml",
                    r#"<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="ganada"/><w:lvlText w:val="%1. %9"/><w:lvlRestart w:val="0"/></w:lvl></w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="4"/></w:lvlOverride></w:num></w:numbering>"#,
                ),
                (
                    "word/footnotes.xml",
                    r#"<w:footnotes xmlns:w="w"><w:footnote w:id="1"><w:p><w:r><w:t>각주</w:t></w:r></w:p></w:footnote></w:footnotes>"#,
                ),
                (
                    "word/document.xml",
                    r#"<w:document xmlns:w="w" xmlns:mc="m"><w:body><w:p><w:pPr><w:pStyle w:val="1"/></w:pPr><w:r><w:rPr><w:b/><w:sz w:val="30"/></w:rPr><w:t>휴직 기준</w:t></w:r></w:p><w:p><w:r><w:t>제1조(목적) 정한다.</w:t><w:footnoteReference w:id="1"/><w:br w:type="page"/></w:r><w:ins><w:r><w:t>&amp;#x41;</w:t></w:r></w:ins><w:del><w:r><w:delText>없음</w:delText></w:r></w:del></w:p><w:tbl><w:tr><w:trPr><w:tblHeader/></w:trPr><w:tc><w:tcPr><w:gridSpan w:val="2"/><w:vMerge w:val="restart"/></w:tcPr><w:p><w:r><w:t>가</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>나</w:t></w:r></w:p></w:tc></w:tr><w:tr><w:tc><w:tcPr><w:gridSpan w:val="2"/><w:vMerge/></w:tcPr><w:p/></w:tc><w:tc><w:p><w:r><w:t>다</w:t></w:r></w:p></w:tc></w:tr></w:tbl><w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>상자</w:t></w:r></w:p></w:txbxContent></mc:Choice><mc:Fallback><w:t>헛것</w:t></mc:Fallback></mc:AlternateContent></w:r></w:p></w:body></w:document>"#,
                ),
            ],
        ),
        (
            "a.xlsx",
            vec![
                ("[Content_Types].xml", "<Types/>"),
                (
                    "_rels/.rels",
                    r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
                ),
                (
                    "xl/workbook.xml",
                    r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="휴가" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
                ),
                (
                    "xl/_rels/workbook.xml.rels",
                    r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#,
                ),
                (
                    "xl/styles.xml",
                    r##"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><numFmts><numFmt numFmtId="170" formatCode="#,##0&quot;원&quot;"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="170"/></cellXfs></styleSheet>"##,
                ),
                (
                    "xl/worksheets/sheet1.xml",
                    r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="A1:C3"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>이름</t></is></c><c r="B1" t="inlineStr"><is><t>날짜</t></is></c></row><row r="2"><c r="A2" t="inlineStr"><is><t>김하나</t></is></c><c r="B2" s="1"><v>46082</v></c><c r="C2" s="2"><f>A1</f><v>1500.5</v></c></row></sheetData><mergeCells><mergeCell ref="A2:A3"/></mergeCells></worksheet>"#,
                ),
            ],
        ),
        (
            "a.ods",
            vec![
                ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
                (
                    "content.xml",
                    r#"<o:c xmlns:t="t" xmlns:x="x"><t:table t:name="휴가"><t:table-row t:number-rows-repeated="2"><t:table-cell t:number-columns-repeated="3"><x:p>이름</x:p></t:table-cell></t:table-row><t:table-row><t:table-cell t:number-rows-spanned="2"><x:p>가<x:s/></x:p></t:table-cell></t:table-row></t:table></o:c>"#,
                ),
            ],
        ),
    ]
}
