//! Word documents (Office Open XML) → blocks in reading order.
//!
//! Headings come from outline levels, from the title's style, and, where a document has neither, from short lines
//! that stand out by weight or size. List labels that Word only computes (`제1조`, `①`, `가.`) are part of the text.
//! Table rows repeat what is merged downwards. Text boxes, footnotes and endnotes follow the paragraph that holds
//! them. Pages are those Word last laid out, marked as approximate, and absent where the file has no breaks. Headers,
//! footers, comments and pictures are not read.

mod body;
mod numbering;
mod styles;

use anyhow::{Context as _, Result};

use self::body::{Context, Notes};
use self::numbering::Numbering;
use self::styles::Styles;
use super::package::{Package, Relationship, attribute, for_each_element};
use super::{Block, Budget, Document, Warning, prominence};

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut package = Package::open(bytes, budget)?;
    let main = main_part(&mut package)?;
    let xml = package
        .read_xml(&main)?
        .with_context(|| format!("damaged Word document: {main} is missing"))?;
    let links = package.relationships(&main).unwrap_or_default();
    let mut part = |kind: &str| -> String {
        let target = links.iter().find(|link| link.kind == kind);
        target
            .and_then(|link: &Relationship| package.read_xml(&link.target).ok().flatten())
            .unwrap_or_default()
    };
    let styles = Styles::parse(&part("styles"));
    let mut numbering = Numbering::parse(&part("numbering"));
    let notes_xml = [part("footnotes"), part("endnotes")];
    let mut warnings = Vec::new();
    let no_notes = Notes::new();
    let mut notes = Notes::new();
    for xml in &notes_xml {
        let mut context = Context {
            styles: &styles,
            numbering: &mut numbering,
            notes: &no_notes,
            budget,
        };
        notes.extend(body::read(xml, &mut context, &mut warnings)?.1);
    }
    let mut context = Context {
        styles: &styles,
        numbering: &mut numbering,
        notes: &notes,
        budget,
    };
    let (mut drafts, _) = body::read(&xml, &mut context, &mut warnings)?;
    prominence::mark_headings(&mut drafts);
    let title = drafts
        .iter()
        .find(|draft| draft.look.is_title)
        .map(|draft| draft.block.text.clone());
    let n_embedded = count_embedded(&xml);
    if n_embedded > 0 {
        warnings.push(Warning(format!(
            "{n_embedded} embedded documents were not read"
        )));
    }
    warnings.extend(package.take_warnings());
    let blocks: Vec<Block> = drafts.into_iter().map(|draft| draft.block).collect();
    Ok((Document { title, blocks }, warnings))
}

/// The main part may have any name: the package says which it is, and failing that its content types do.
fn main_part(package: &mut Package<'_>) -> Result<String> {
    let links = package.relationships("")?;
    let linked = links
        .into_iter()
        .find(|link| link.kind == "officeDocument")
        .map(|link| link.target)
        .filter(|target| package.contains(target));
    if let Some(target) = linked {
        return Ok(target);
    }
    let types = package.read_xml("[Content_Types].xml")?.unwrap_or_default();
    let mut main = None;
    for_each_element(&types, |element| {
        let kind = attribute(element, "ContentType").unwrap_or_default();
        if kind.contains("document.main") || kind.contains("macroEnabled.main") {
            main = attribute(element, "PartName");
        }
    });
    Ok(main.unwrap_or_else(|| "word/document.xml".to_owned()))
}

fn count_embedded(xml: &str) -> usize {
    xml.matches("<w:altChunk ").count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;
    use crate::document::{BlockKind, Location};

    const RELS: &str = r#"<Relationships><Relationship Id="r" Type="t/officeDocument" Target="w/haupt.xml"/></Relationships>"#;
    const PART_RELS: &str = r#"<Relationships><Relationship Id="a" Type="t/styles" Target="styles.xml"/><Relationship Id="b" Type="t/numbering" Target="numbering.xml"/><Relationship Id="c" Type="t/footnotes" Target="footnotes.xml"/></Relationships>"#;
    const STYLES: &str = r#"<w:styles xmlns:w="w"><w:style w:type="paragraph" w:default="1" w:styleId="0"><w:name w:val="바탕글"/><w:rPr><w:sz w:val="20"/></w:rPr></w:style><w:style w:type="paragraph" w:styleId="1"><w:name w:val="큰제목"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style><w:style w:type="paragraph" w:styleId="a3"><w:name w:val="Title"/></w:style></w:styles>"#;
    const NUMBERING: &str = r#"<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/><w:lvlText w:val="제%1조"/><w:suff w:val="nothing"/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="decimalEnclosedCircle"/><w:lvlText w:val="%2"/></w:lvl></w:abstractNum><w:num w:numId="5"><w:abstractNumId w:val="0"/></w:num></w:numbering>"#;
    const FOOTNOTES: &str = r#"<w:footnotes xmlns:w="w"><w:footnote w:type="separator" w:id="0"><w:p><w:r><w:t>선</w:t></w:r></w:p></w:footnote><w:footnote w:id="2"><w:p><w:r><w:t>각주 글</w:t></w:r></w:p></w:footnote></w:footnotes>"#;

    fn read(body: &str) -> Document {
        let xml =
            format!(r#"<w:document xmlns:w="w" xmlns:mc="m"><w:body>{body}</w:body></w:document>"#);
        let parts = [
            ("_rels/.rels", RELS),
            ("w/_rels/haupt.xml.rels", PART_RELS),
            ("w/styles.xml", STYLES),
            ("w/numbering.xml", NUMBERING),
            ("w/footnotes.xml", FOOTNOTES),
            ("w/haupt.xml", &xml),
        ];
        let bytes = zipped(&parts.map(|(name, xml)| (name, xml.as_bytes())));
        parse(&bytes, &Budget::standard()).unwrap().0
    }

    fn check(body: &str, expected: &[&str]) -> Document {
        let document = read(body);
        let texts: Vec<&str> = document.blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, expected);
        document
    }

    fn paragraph(properties: &str, runs: &str) -> String {
        format!("<w:p><w:pPr>{properties}</w:pPr>{runs}</w:p>")
    }

    fn run(text: &str) -> String {
        format!("<w:r><w:t>{text}</w:t></w:r>")
    }

    fn listed(level: u8, text: &str) -> String {
        let place = format!(r#"<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="5"/></w:numPr>"#);
        paragraph(&place, &run(text))
    }

    #[test]
    fn computed_labels_are_part_of_the_text() {
        let body = [
            listed(0, "(목적)"),
            listed(1, "가"),
            listed(1, "나"),
            listed(0, "(정의)"),
            listed(1, "다"),
        ];
        check(
            &body.concat(),
            &["제1조(목적)", "① 가", "② 나", "제2조(정의)", "① 다"],
        );
    }

    #[test]
    fn only_what_a_reader_sees_is_text() {
        let runs = [
            run("남은 "),
            "<w:ins><w:r><w:t>새 글</w:t></w:r></w:ins>".to_owned(),
            "<w:del><w:r><w:delText>지운 글</w:delText></w:r></w:del>".to_owned(),
            "<w:moveFrom><w:r><w:t>옮긴 글</w:t></w:r></w:moveFrom>".to_owned(),
            "<w:r><w:instrText>PAGE</w:instrText></w:r>".to_owned(),
            "<w:r><w:rPr><w:vanish/></w:rPr><w:t>숨은 글</w:t></w:r>".to_owned(),
            "<w:hyperlink><w:r><w:t> 이은 글 &amp;</w:t></w:r></w:hyperlink>".to_owned(),
            "<w:r><w:footnoteReference w:id=\"2\"/></w:r>".to_owned(),
            "<w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>상자 글</w:t></w:r></w:p></w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent><w:p><w:r><w:t>상자 글</w:t></w:r></w:p></w:txbxContent></mc:Fallback></mc:AlternateContent></w:r>".to_owned(),
        ];
        check(
            &paragraph("", &runs.concat()),
            &["남은 새 글 이은 글 &", "각주 1) 각주 글", "상자 글"],
        );
        let joined = [
            paragraph("<w:rPr><w:del/></w:rPr>", &run("앞")),
            paragraph("", &run("뒤")),
        ];
        check(&joined.concat(), &["앞뒤"]);
    }

    #[test]
    fn merged_cells_are_repeated_downwards() {
        let cell = |properties: &str, text: &str| {
            format!(
                "<w:tc><w:tcPr>{properties}</w:tcPr>{}</w:tc>",
                paragraph("", &run(text))
            )
        };
        let begin = r#"<w:vMerge w:val="restart"/>"#;
        let rows = [
            format!(
                "<w:tr><w:trPr><w:tblHeader/></w:trPr>{}{}{}</w:tr>",
                cell("", "구분"),
                cell("", "종류"),
                cell("", "기간")
            ),
            format!(
                "<w:tr>{}{}{}</w:tr>",
                cell(begin, "연수"),
                cell("", "국내"),
                cell("", "2년")
            ),
            format!(
                "<w:tr>{}{}{}</w:tr>",
                cell("<w:vMerge/>", ""),
                cell("", "국외"),
                cell("", "3년")
            ),
            format!(
                "<w:tr>{}{}</w:tr>",
                cell(r#"<w:gridSpan w:val="2"/>"#, "합계"),
                cell("", "5년")
            ),
            format!(
                "<w:tr><w:trPr><w:del/></w:trPr>{}</w:tr>",
                cell("", "지운 줄")
            ),
        ];
        let document = check(
            &format!("<w:tbl>{}</w:tbl>", rows.concat()),
            &[
                "구분 | 종류 | 기간",
                "연수 | 국내 | 2년",
                "연수 | 국외 | 3년",
                "합계 |  | 5년",
            ],
        );
        let header = BlockKind::TableRow {
            table: 0,
            header: true,
        };
        assert_eq!(document.blocks[0].kind, header);
        assert_ne!(document.blocks[1].kind, header);
    }

    #[test]
    fn headings_have_the_level_of_their_style() {
        let body = [
            paragraph(r#"<w:pStyle w:val="a3"/>"#, &run("복장 기준")),
            paragraph(r#"<w:pStyle w:val="1"/>"#, &run("총칙")),
            paragraph("", &run("단정하게 입는다.")),
            paragraph("", "<w:r><w:rPr><w:b/></w:rPr><w:t>예외</w:t></w:r>"),
            paragraph("", &run("여름에는 반소매를 입는다.")),
        ];
        let document = check(
            &body.concat(),
            &[
                "복장 기준",
                "총칙",
                "단정하게 입는다.",
                "예외",
                "여름에는 반소매를 입는다.",
            ],
        );
        assert_eq!(document.title.as_deref(), Some("복장 기준"));
        assert_eq!(document.blocks[1].kind, BlockKind::Heading { level: 2 });
        assert_eq!(document.blocks[3].kind, BlockKind::Heading { level: 3 });
    }

    #[test]
    fn pages_are_those_word_last_laid_out() {
        let body = [
            paragraph("", &run("앞")),
            paragraph("", "<w:r><w:lastRenderedPageBreak/><w:t>뒤</w:t></w:r>"),
        ];
        let document = read(&body.concat());
        let location = |page: u32| Location {
            page: Some(page),
            page_is_approximate: true,
            ..Location::default()
        };
        assert_eq!(document.blocks[0].location, location(1));
        assert_eq!(document.blocks[1].location, location(2));
        assert_eq!(read(&body[0]).blocks[0].location.page, None);
    }
}
