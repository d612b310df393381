//! HWPX, the open format of the Hangul word processor (OWPML, KS X 6101: XML in a ZIP) → paragraphs, tables, notes.
//!
//! `header.xml` defines what paragraphs refer to, `section0.xml` and so on hold the text. Both feed the same
//! [`Body`] as HWP 5 does, so that a document reads the same in either format: automatic numbers are computed, merged
//! cells repeated, pages estimated. Tracked deletions are dropped, insertions kept. Left out: headers, footers, hidden
//! comments, memos, pictures, charts. Refused with a reason: encrypted files.

mod header;
mod section;

use anyhow::{Context, Result, bail, ensure};

use super::hwp::body::Body;
use super::hwp::definitions::Definitions;
use super::package::Package;
use super::{Budget, Document, Warning};

/// Reads an HWPX file.
///
/// # Errors
/// When nothing can be read: encrypted, no container, no section.
pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut package = Package::open(bytes, budget)?;
    let manifest = package
        .read_xml("META-INF/manifest.xml")
        .unwrap_or_default();
    if manifest.is_some_and(|manifest| manifest.contains("encryption-data")) {
        bail!(
            "protected by a password or for distribution only (배포용): save it without protection in Hangul, then \
             ingest that"
        );
    }
    let mut warnings = Vec::new();
    let definitions = match read_header(&mut package, budget) {
        Ok(definitions) => definitions,
        Err(cause) => {
            let problem = format!("{cause:#}: automatic numbers are missing");
            warnings.push(Warning(problem));
            Definitions::default()
        }
    };
    let mut names = section_names(&package);
    ensure!(!names.is_empty(), "no text section in the file");
    if names.len() > budget.max_pages {
        let problem = format!("only the first {} sections are read", budget.max_pages);
        warnings.push(Warning(problem));
        names.truncate(budget.max_pages);
    }
    let mut body = Body::new(&definitions);
    for name in names {
        if body.is_full() {
            break;
        }
        match package.read_xml(&name) {
            Ok(Some(xml)) => {
                let problems = section::read(&xml, &mut body, budget)?;
                let named = |problem| Warning(format!("{name}: {problem}"));
                warnings.extend(problems.into_iter().map(named));
            }
            Ok(None) => {}
            Err(cause) => warnings.push(Warning(format!("{cause:#}"))),
        }
    }
    warnings.extend(package.take_warnings());
    let document = Document {
        title: None,
        blocks: body.into_blocks(),
    };
    Ok((document, warnings))
}

fn read_header(package: &mut Package<'_>, budget: &Budget) -> Result<Definitions> {
    let xml = package.read_xml("Contents/header.xml")?;
    header::read(
        &xml.context("Contents/header.xml: not in the file")?,
        budget,
    )
}

/// The parts that hold text, in order: `Contents/section0.xml` and so on.
fn section_names(package: &Package<'_>) -> Vec<String> {
    let mut numbered: Vec<(u32, String)> = package
        .names()
        .into_iter()
        .filter_map(|name| {
            let file = name.rsplit('/').next()?;
            let number = file.strip_prefix("section")?.strip_suffix(".xml")?;
            Some((number.parse().ok()?, name))
        })
        .collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::package::tests::zipped;
    use super::*;

    const HEADER: &str = r##"<hh:head xmlns:hh="h"><hh:refList>
        <hh:numbering id="1" start="0"><hh:paraHead level="1" start="3" numFormat="DIGIT">제^1조</hh:paraHead>
        <hh:paraHead level="2" start="1" numFormat="CIRCLED_DIGIT">^2</hh:paraHead></hh:numbering>
        <hh:bullet id="1" char="&#xF06C;"><hh:paraHead level="0"/></hh:bullet>
        <hh:charPr id="0" height="1000"/><hh:charPr id="1" height="1600"><hh:bold/></hh:charPr>
        <hh:paraPr id="0"><hh:heading type="NONE" idRef="0" level="0"/></hh:paraPr>
        <hh:paraPr id="5"><hh:heading type="OUTLINE" idRef="0" level="0"/></hh:paraPr>
        <hh:paraPr id="6"><hh:heading type="NUMBER" idRef="1" level="1"/></hh:paraPr>
        <hh:paraPr id="7"><hh:heading type="BULLET" idRef="1" level="0"/></hh:paraPr>
        </hh:refList></hh:head>"##;

    fn file(sections: &[(&str, &str)]) -> Vec<u8> {
        let mut parts = vec![
            ("mimetype", b"application/hwp+zip".as_slice()),
            ("Contents/header.xml", HEADER.as_bytes()),
        ];
        parts.extend(sections.iter().map(|(name, xml)| (*name, xml.as_bytes())));
        zipped(&parts)
    }

    fn check(section: &str, expected: &[&str]) {
        let xml = format!(r#"<hs:sec xmlns:hs="s" xmlns:hp="p">{section}</hs:sec>"#);
        let bytes = file(&[("Contents/section0.xml", &xml)]);
        let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
        let texts: Vec<String> = document
            .blocks
            .into_iter()
            .map(|block| block.text)
            .collect();
        assert_eq!(texts, expected);
        assert_eq!(warnings, []);
    }

    /// A paragraph of this shape with this content in its one run.
    fn paragraph(shape: u32, content: &str) -> String {
        format!(r#"<hp:p paraPrIDRef="{shape}"><hp:run>{content}</hp:run></hp:p>"#)
    }

    #[test]
    fn text_labels_and_headings_are_read() {
        let section = [
            paragraph(5, r#"<hp:secPr outlineShapeIDRef="1"/><hp:t>(목적)</hp:t>"#),
            paragraph(
                6,
                "<hp:t>하나&amp;둘</hp:t><hp:t> 셋<hp:tab/>넷<hp:lineBreak/>끝</hp:t>",
            ),
            paragraph(6, "<hp:t>둘째</hp:t>"),
            paragraph(7, "<hp:t>점</hp:t>"),
            paragraph(5, "<hp:t>(정의)</hp:t>"),
            paragraph(0, "<hp:t/>"),
        ];
        let expected = [
            "제3조 (목적)",
            "① 하나&둘 셋 넷\n끝",
            "② 둘째",
            "• 점",
            "제4조 (정의)",
        ];
        check(&section.concat(), &expected);
    }

    #[test]
    fn tracked_deletions_fields_and_headers_are_left_out() {
        let inner = paragraph(0, "<hp:t>숨은 글</hp:t>");
        let content = format!(
            "<hp:ctrl><hp:header><hp:subList>{inner}</hp:subList></hp:header></hp:ctrl>\
             <hp:ctrl><hp:hiddenComment><hp:subList>{inner}</hp:subList></hp:hiddenComment></hp:ctrl>\
             <hp:ctrl><hp:fieldBegin type=\"MEMO\"><hp:subList>{inner}</hp:subList></hp:fieldBegin></hp:ctrl>\
             <hp:t>남은<hp:deleteBegin/>지운<hp:deleteEnd/><hp:insertBegin/> 글<hp:insertEnd/></hp:t>"
        );
        check(&paragraph(0, &content), &["남은 글"]);
    }

    #[test]
    fn tables_notes_boxes_and_glosses_stand_in_their_places() {
        let cell = |column: u32, row: u32, rows: u32, text: &str| {
            let content = paragraph(0, &format!("<hp:t>{text}</hp:t>"));
            format!(
                r#"<hp:tc><hp:subList>{content}</hp:subList><hp:cellAddr colAddr="{column}" rowAddr="{row}"/>
                   <hp:cellSpan colSpan="1" rowSpan="{rows}"/></hp:tc>"#
            )
        };
        let caption = paragraph(
            0,
            r#"<hp:t>표 </hp:t><hp:ctrl><hp:autoNum num="2" numType="TABLE"><hp:autoNumFormat type="DIGIT"
               suffixChar="."/></hp:autoNum></hp:ctrl>"#,
        );
        let table = format!(
            r#"<hp:tbl><hp:pos treatAsChar="1"/><hp:caption side="BOTTOM">{caption}</hp:caption>
               <hp:tr>{}{}</hp:tr><hp:tr>{}</hp:tr></hp:tbl>"#,
            cell(0, 0, 2, "구분"),
            cell(1, 0, 1, "국내"),
            cell(1, 1, 1, "국외")
        );
        let note = paragraph(0, "<hp:t>각주</hp:t>");
        let content = format!(
            r#"<hp:t>앞</hp:t>{table}<hp:t>뒤</hp:t><hp:ctrl><hp:footNote>{note}</hp:footNote></hp:ctrl>
               <hp:container><hp:rect><hp:drawText>{}</hp:drawText></hp:rect></hp:container>
               <hp:dutmal><hp:mainText>본말</hp:mainText><hp:subText>덧말</hp:subText></hp:dutmal>
               <hp:equation><hp:script>a over b</hp:script></hp:equation><hp:compose composeText="③"/>"#,
            paragraph(0, "<hp:t>글상자</hp:t>")
        );
        check(
            &paragraph(0, &content),
            &[
                "앞",
                "구분 | 국내",
                "구분 | 국외",
                "표 2.",
                "뒤본말(덧말) a over b ③",
                "글상자",
                "각주",
            ],
        );
    }

    #[test]
    fn a_large_line_is_a_heading() {
        let body = paragraph(
            0,
            "<hp:t>휴직은 다음과 같이 구분하고 그 기간은 따로 정한다.</hp:t>",
        );
        let large = r#"<hp:p paraPrIDRef="0"><hp:run charPrIDRef="1"><hp:t>휴직 안내</hp:t></hp:run>
                       <hp:run charPrIDRef="0"><hp:t> </hp:t></hp:run></hp:p>"#;
        let xml = format!("<sec>{large}{body}{body}</sec>");
        let bytes = file(&[("Contents/section0.xml", &xml)]);
        let (document, _) = parse(&bytes, &Budget::standard()).unwrap();
        let headings: Vec<bool> = document
            .blocks
            .iter()
            .map(|block| block.kind == super::super::BlockKind::Heading { level: 1 })
            .collect();
        assert_eq!(headings, [true, false, false]);
    }

    #[test]
    fn sections_are_read_in_the_order_of_their_numbers() {
        let one = |text: &str| {
            format!(
                "<sec>{}</sec>",
                paragraph(0, &format!("<hp:t>{text}</hp:t>"))
            )
        };
        let bytes = file(&[
            ("Contents/section10.xml", &one("열")),
            ("Contents/section2.xml", &one("둘")),
        ]);
        let (document, _) = parse(&bytes, &Budget::standard()).unwrap();
        let texts: Vec<&str> = document
            .blocks
            .iter()
            .map(|block| block.text.as_str())
            .collect();
        assert_eq!(texts, ["둘", "열"]);
    }

    #[test]
    fn damage_is_a_warning_and_encryption_an_error() {
        let cut = "<sec><p paraPrIDRef='0'><run><t>남은 글</t></run></p><p><run><t>반</t></run><";
        let bytes = file(&[("Contents/section0.xml", cut)]);
        let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
        let texts: Vec<&str> = document
            .blocks
            .iter()
            .map(|block| block.text.as_str())
            .collect();
        assert_eq!(texts, ["남은 글", "반"]);
        assert_eq!(warnings.len(), 1);
        fn refused(bytes: &[u8], expected: &str) {
            let error = parse(bytes, &Budget::standard()).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains(expected), "{message}");
        }
        let manifest = ("META-INF/manifest.xml", "<a><odf:encryption-data/></a>");
        refused(&file(&[manifest]), "password");
        refused(&file(&[]), "no text section");
        refused(b"PK\x03\x04", "damaged ZIP");
    }

    #[test]
    fn depth_is_limited() {
        let deep = "<x>".repeat(100_000);
        let xml = format!("<sec><p><run><t>앞</t></run></p>{deep}");
        let bytes = file(&[("Contents/section0.xml", &xml)]);
        let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
        assert_eq!(document.blocks.len(), 1);
        let is_named = warnings
            .iter()
            .any(|warning| warning.0.contains("nested deeper"));
        assert!(is_named, "{warnings:?}");
    }
}
