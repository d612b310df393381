//! PowerPoint presentations (Office Open XML) → blocks, each with its slide as the page.
//!
//! Slides come in the order in which they are shown; a slide's title is a heading, then its shapes follow in the order
//! of the file, which is that of screen readers. Table rows repeat what is merged downwards, automatic numbers are
//! computed, diagrams (SmartArt) and speaker notes follow the shapes. Left out: hidden slides (with a warning), slide
//! numbers, dates, footers, comments, charts, pictures, and text that only the slide's master shows.

use anyhow::{Result, ensure};
use quick_xml::events::BytesStart;

use super::flow;
use super::hwp::numbering::NumberFormat;
use super::merged_table::{self, Cell};
use super::package::{Package, attribute, flag, for_each_element, number};
use super::xml::{Visit, visit};
use super::{Block, BlockKind, Budget, Document, Location, Warning};

/// Most blocks that are read of one presentation. A small file can claim billions.
const MAX_BLOCKS: usize = 1_000_000;

/// List levels in a text body: Office has 9.
const N_LEVELS: usize = 9;

/// Reads a presentation.
///
/// # Errors
/// When nothing can be read: no container, encrypted, no slides.
pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut package = Package::open(bytes, budget)?;
    let mut slides = slide_names(&mut package)?;
    ensure!(!slides.is_empty(), "no slides in the file");
    let mut warnings = Vec::new();
    if slides.len() > budget.max_pages {
        let problem = format!("only the first {} slides are read", budget.max_pages);
        warnings.push(Warning(problem));
        slides.truncate(budget.max_pages);
    }
    let mut blocks = Vec::new();
    let mut n_tables = 0;
    for (page, name) in (1..).zip(slides) {
        if blocks.len() > MAX_BLOCKS {
            let problem = format!("slide {page} and those after it: too much text, not read");
            warnings.push(Warning(problem));
            break;
        }
        let slide = match read_slide(&mut package, &name, n_tables, budget)? {
            Ok(slide) => slide,
            Err(problem) => {
                warnings.push(Warning(format!("slide {page}: {problem}")));
                continue;
            }
        };
        n_tables = slide.n_tables;
        let problems = slide.problems.into_iter();
        warnings.extend(problems.map(|problem| Warning(format!("slide {page}: {problem}"))));
        blocks.extend(slide.blocks.into_iter().map(|block| Block {
            location: Location {
                page: Some(page),
                ..Location::default()
            },
            ..block
        }));
    }
    warnings.extend(package.take_warnings());
    let title = None;
    Ok((Document { title, blocks }, warnings))
}

/// The slides' parts in the order of the presentation; where that cannot be read, in the order of their numbers.
fn slide_names(package: &mut Package<'_>) -> Result<Vec<String>> {
    let main = package
        .relationships("")?
        .into_iter()
        .find(|link| link.kind == "officeDocument")
        .map_or_else(|| "ppt/presentation.xml".to_owned(), |link| link.target);
    let links = package.relationships(&main).unwrap_or_default();
    let xml = package.read_xml(&main).ok().flatten().unwrap_or_default();
    let mut names = Vec::new();
    for_each_element(&xml, |element| {
        if element.local_name().as_ref() == "sldId" {
            // The element has two attributes of this local name; the link's has a prefix.
            let id = element
                .attributes()
                .flatten()
                .find(|attribute| attribute.key.as_ref().ends_with(":id"))
                .map(|attribute| attribute.value.into_owned());
            let link = links.iter().find(|link| Some(&link.id) == id.as_ref());
            names.extend(link.map(|link| link.target.clone()));
        }
    });
    if names.is_empty() {
        let mut numbered: Vec<(u32, String)> = package
            .names()
            .into_iter()
            .filter_map(|name| {
                let file = name.strip_prefix("ppt/slides/slide")?;
                Some((file.strip_suffix(".xml")?.parse().ok()?, name))
            })
            .collect();
        numbered.sort_unstable();
        names.extend(numbered.into_iter().map(|(_, name)| name));
    }
    Ok(names)
}

/// What was read of a slide.
struct Slide {
    blocks: Vec<Block>,
    n_tables: u32,
    problems: Vec<String>,
}

/// Reads a slide with its diagrams and notes; the inner error says why the slide is left out.
fn read_slide(
    package: &mut Package<'_>,
    name: &str,
    n_tables: u32,
    budget: &Budget,
) -> Result<Result<Slide, String>> {
    budget.check_time()?;
    let xml = match package.read_xml(name) {
        Ok(Some(xml)) => xml,
        Ok(None) => return Ok(Err("not in the file".to_owned())),
        Err(cause) => return Ok(Err(format!("{cause:#}"))),
    };
    let mut shapes = Shapes::new(n_tables);
    shapes.read(&xml, budget)?;
    if shapes.is_hidden {
        return Ok(Err("hidden, not read".to_owned()));
    }
    let links = package.relationships(name).unwrap_or_default();
    for (kind, role) in [("diagramData", Role::Text), ("notesSlide", Role::Other)] {
        for link in links.iter().filter(|link| link.kind == kind) {
            shapes.role = role;
            shapes.is_notes = role == Role::Other;
            match package.read_xml(&link.target) {
                Ok(Some(xml)) => shapes.read(&xml, budget)?,
                Ok(None) => {}
                Err(cause) => shapes.problems.push(format!("{cause:#}")),
            }
        }
    }
    if shapes.n_pictures > 0 && shapes.title.is_empty() && shapes.blocks.is_empty() {
        shapes.problems.push("no text, only pictures".to_owned());
    }
    let title = shapes.title.join(" ");
    let heading = flow::block(BlockKind::Heading { level: 1 }, &title, None);
    Ok(Ok(Slide {
        blocks: heading.into_iter().chain(shapes.blocks).collect(),
        n_tables: shapes.n_tables,
        problems: shapes.problems,
    }))
}

/// What the paragraphs of a shape become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Title,
    Text,
    /// Slide number, date, footer, the picture of the slide on a page of notes.
    Other,
}

/// The shapes of a slide, read as a stream. Shapes nest only in groups, paragraphs and tables never: no stack.
struct Shapes {
    title: Vec<String>,
    blocks: Vec<Block>,
    problems: Vec<String>,
    n_tables: u32,
    n_pictures: u32,
    is_hidden: bool,
    /// Whether these are notes, of which only the body is text.
    is_notes: bool,
    role: Role,
    table: Option<Table>,
    paragraph: Option<Paragraph>,
    in_text: bool,
    /// For each list level of the current text body, the kind of its automatic numbers and the last one.
    numbers: [Option<(String, u32)>; N_LEVELS],
    depth: usize,
    /// The depth of an element whose content is left out, while it is open.
    left_out: Option<usize>,
}

struct Table {
    number: u32,
    n_rows: u32,
    n_columns: u32,
    cells: Vec<Cell>,
    /// Whether the cell that is open is covered by a merged one.
    is_covered: bool,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: usize,
    /// Kind of its automatic number, and the number it asks to start with.
    auto_number: Option<(String, u32)>,
}

impl Visit for Shapes {
    fn open(&mut self, element: &BytesStart<'_>) {
        self.depth += 1;
        if self.left_out.is_some() {
            return;
        }
        match element.local_name().as_ref() {
            "sld" => self.is_hidden = attribute(element, "show").as_deref() == Some("0"),
            "sp" => {
                self.role = if self.is_notes {
                    Role::Other
                } else {
                    Role::Text
                };
            }
            "ph" => self.role = self.placeholder_role(element),
            "pic" => self.n_pictures += 1,
            "txBody" => self.numbers = Default::default(),
            "p" => self.paragraph = Some(Paragraph::default()),
            "pPr" => {
                if let Some(paragraph) = &mut self.paragraph {
                    let level = number(element, "lvl").unwrap_or(0);
                    paragraph.level = level.min(N_LEVELS - 1);
                }
            }
            "buAutoNum" => {
                if let Some(paragraph) = &mut self.paragraph {
                    let kind = attribute(element, "type").unwrap_or_default();
                    let start = number(element, "startAt").unwrap_or(1);
                    paragraph.auto_number = Some((kind, start));
                }
            }
            "t" => self.in_text = true,
            "br" => self.add("\n"),
            "tbl" | "tr" | "tc" => self.open_table_part(element),
            // A number of the slide or a date; the fallback of a choice that was taken.
            "fld" | "Fallback" => self.left_out = Some(self.depth),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        let depth = self.depth;
        self.depth = depth.saturating_sub(1);
        if let Some(left_out) = self.left_out {
            if depth <= left_out {
                self.left_out = None;
            }
            return;
        }
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_text && self.left_out.is_none() {
            self.add(text);
        }
    }
}

impl Shapes {
    fn new(n_tables: u32) -> Shapes {
        Shapes {
            title: Vec::new(),
            blocks: Vec::new(),
            problems: Vec::new(),
            n_tables,
            n_pictures: 0,
            is_hidden: false,
            is_notes: false,
            role: Role::Text,
            table: None,
            paragraph: None,
            in_text: false,
            numbers: Default::default(),
            depth: 0,
            left_out: None,
        }
    }

    /// Reads a part: a slide, its notes, a diagram.
    fn read(&mut self, xml: &str, budget: &Budget) -> Result<()> {
        (self.depth, self.left_out) = (0, None);
        match visit(xml, self, budget)? {
            Some(damage) => self.problems.push(damage),
            None if self.depth > 0 => self.problems.push("breaks off, text is missing".to_owned()),
            None => {}
        }
        self.end_paragraph();
        self.end_table();
        Ok(())
    }

    fn placeholder_role(&self, placeholder: &BytesStart<'_>) -> Role {
        match attribute(placeholder, "type").as_deref() {
            Some("body") if self.is_notes => Role::Text,
            _ if self.is_notes => Role::Other,
            Some("title" | "ctrTitle") => Role::Title,
            Some("sldNum" | "dt" | "ftr" | "hdr") => Role::Other,
            _ => Role::Text,
        }
    }

    fn open_table_part(&mut self, element: &BytesStart<'_>) {
        match (element.local_name().as_ref(), &mut self.table) {
            ("tbl", None) => {
                self.role = Role::Text;
                self.table = Some(Table {
                    number: self.n_tables,
                    n_rows: 0,
                    n_columns: 0,
                    cells: Vec::new(),
                    is_covered: false,
                });
                self.n_tables += 1;
            }
            ("tr", Some(table)) => {
                table.n_rows += 1;
                table.n_columns = 0;
            }
            ("tc", Some(table)) => {
                table.is_covered = flag(element, "hMerge") || flag(element, "vMerge");
                if !table.is_covered {
                    table.cells.push(Cell {
                        row: table.n_rows.saturating_sub(1),
                        column: table.n_columns,
                        row_span: number(element, "rowSpan").unwrap_or(1).max(1),
                        column_span: number(element, "gridSpan").unwrap_or(1).max(1),
                        is_header: false,
                        blocks: Vec::new(),
                    });
                }
                table.n_columns += 1;
            }
            _ => {}
        }
    }

    fn add(&mut self, text: &str) {
        if let Some(paragraph) = &mut self.paragraph {
            paragraph.text.push_str(text);
        }
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.paragraph.take() else {
            return;
        };
        self.in_text = false;
        if paragraph.text.trim().is_empty() {
            return;
        }
        let label = self.label(paragraph.level, paragraph.auto_number);
        let text = format!("{label}{}", paragraph.text);
        match self.role {
            Role::Title => self.title.push(text),
            Role::Text => {
                let block = flow::block(BlockKind::Paragraph, &text, None);
                match &mut self.table {
                    Some(Table {
                        is_covered: true, ..
                    }) => {}
                    Some(Table { cells, .. }) => {
                        if let Some(cell) = cells.last_mut() {
                            cell.blocks.extend(block);
                        }
                    }
                    None => self.blocks.extend(block),
                }
            }
            Role::Other => {}
        }
    }

    fn end_table(&mut self) {
        if let Some(table) = self.table.take() {
            let rows = merged_table::into_blocks(table.number, table.cells);
            self.blocks.extend(rows);
        }
    }

    /// Counts a paragraph; its label with a space, or nothing. A list goes on while paragraphs of its level have the
    /// same kind of number.
    fn label(&mut self, level: usize, auto_number: Option<(String, u32)>) -> String {
        let (here, deeper) = match self.numbers.split_at_mut_checked(level + 1) {
            Some((to_level, deeper)) => (to_level.last_mut(), deeper),
            None => return String::new(),
        };
        deeper.fill(None);
        let Some(here) = here else {
            return String::new();
        };
        let Some((kind, start)) = auto_number else {
            *here = None;
            return String::new();
        };
        let next = match here {
            Some((last_kind, last)) if *last_kind == kind => last.saturating_add(1),
            Some(_) | None => start,
        };
        let label = spell_label(&kind, next);
        *here = Some((kind, next));
        format!("{label} ")
    }
}

/// Spells a number as ECMA-376 part 1, 20.1.10.61 (`ST_TextAutonumberScheme`) names it: an alphabet, then what stands
/// around it.
fn spell_label(kind: &str, number: u32) -> String {
    const ALPHABETS: [(&str, NumberFormat); 7] = [
        ("alphaLc", NumberFormat::LatinLower),
        ("alphaUc", NumberFormat::LatinUpper),
        ("romanLc", NumberFormat::RomanLower),
        ("romanUc", NumberFormat::RomanUpper),
        ("circleNum", NumberFormat::CircledDecimal),
        ("ea1Chs", NumberFormat::Ideograph),
        ("ea1Jpn", NumberFormat::Ideograph),
    ];
    let alphabet = ALPHABETS.iter().find(|(name, _)| kind.starts_with(name));
    let spelled = alphabet
        .map_or(NumberFormat::Decimal, |(_, format)| *format)
        .spell(number);
    if kind.ends_with("ParenBoth") {
        format!("({spelled})")
    } else if kind.ends_with("ParenR") {
        format!("{spelled})")
    } else if kind.ends_with("Period") {
        format!("{spelled}.")
    } else if kind.ends_with("Minus") {
        format!("{spelled} -")
    } else {
        spelled
    }
}

#[cfg(test)]
mod tests {
    use super::super::package::tests::zipped;
    use super::*;

    const MAIN: &str = r#"<Relationships><Relationship Id="r1" Type="x/officeDocument" Target="ppt/presentation.xml"/></Relationships>"#;

    /// A presentation of these slides, with the given parts beside them.
    fn file(slides: &[&str], more: &[(&str, &str)]) -> Vec<u8> {
        let mut order = String::from("<p:presentation xmlns:p='p' xmlns:r='r'><p:sldIdLst>");
        let mut links = String::from("<Relationships>");
        let mut parts = Vec::new();
        // The parts' numbers run against the order of the slides.
        for (index, slide) in slides.iter().enumerate() {
            let n = slides.len() - index;
            order += &format!(r#"<p:sldId id="{}" r:id="rId{n}"/>"#, 256 + index);
            links += &format!(
                r#"<Relationship Id="rId{n}" Type="x/slide" Target="slides/slide{n}.xml"/>"#
            );
            let xml = format!("<p:sld xmlns:p='p' xmlns:a='a'>{slide}</p:sld>");
            parts.push((format!("ppt/slides/slide{n}.xml"), xml));
        }
        order += "</p:sldIdLst></p:presentation>";
        links += "</Relationships>";
        parts.push(("ppt/presentation.xml".to_owned(), order));
        parts.push(("ppt/_rels/presentation.xml.rels".to_owned(), links));
        parts.push(("_rels/.rels".to_owned(), MAIN.to_owned()));
        parts.extend(
            more.iter()
                .map(|(name, xml)| ((*name).to_owned(), (*xml).to_owned())),
        );
        let parts: Vec<(&str, &[u8])> = parts
            .iter()
            .map(|(name, xml)| (name.as_str(), xml.as_bytes()))
            .collect();
        zipped(&parts)
    }

    fn shape(placeholder: &str, paragraphs: &[&str]) -> String {
        let paragraphs = paragraphs.concat();
        format!(
            r#"<p:sp><p:nvSpPr><p:nvPr><p:ph type="{placeholder}"/></p:nvPr></p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"#
        )
    }

    fn check(bytes: &[u8], expected: &[(u32, &str)], expected_warnings: &[&str]) -> Document {
        let (document, warnings) = parse(bytes, &Budget::standard()).unwrap();
        let blocks = document.blocks.iter();
        let found: Vec<(u32, &str)> = blocks
            .map(|block| (block.location.page.unwrap(), block.text.as_str()))
            .collect();
        assert_eq!(found, expected);
        let warnings: Vec<String> = warnings.into_iter().map(|warning| warning.0).collect();
        assert_eq!(warnings, expected_warnings);
        document
    }

    #[test]
    fn slides_come_as_shown_with_their_titles_first() {
        let first = [
            shape(
                "body",
                &["<a:p><a:r><a:t>휴직 &amp; </a:t></a:r><a:r><a:t>복직</a:t></a:r></a:p>"],
            ),
            shape(
                "title",
                &["<a:p><a:r><a:t>인사</a:t></a:r><a:br/><a:r><a:t>제도</a:t></a:r></a:p>"],
            ),
            shape("sldNum", &["<a:p><a:r><a:t>1</a:t></a:r></a:p>"]),
        ];
        let grouped = shape(
            "",
            &["<a:p><a:r><a:t>묶음</a:t></a:r><a:fld type='slidenum'><a:t>2</a:t></a:fld></a:p>"],
        );
        let second = format!("<p:grpSp><p:grpSp>{grouped}</p:grpSp></p:grpSp>");
        let bytes = file(&[&first.concat(), &second], &[]);
        let document = check(
            &bytes,
            &[(1, "인사\n제도"), (1, "휴직 & 복직"), (2, "묶음")],
            &[],
        );
        assert_eq!(document.blocks[0].kind, BlockKind::Heading { level: 1 });
        assert!(!document.blocks[0].location.page_is_approximate);
    }

    #[test]
    fn tables_notes_and_diagrams_are_read() {
        let cell = |attributes: &str, text: &str| {
            format!(
                "<a:tc {attributes}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>"
            )
        };
        let slide = format!(
            "<p:graphicFrame><a:tbl><a:tr>{}{}</a:tr><a:tr>{}{}</a:tr></a:tbl></p:graphicFrame>",
            cell("rowSpan='2'", "구분"),
            cell("", "국내"),
            cell("vMerge='1'", ""),
            cell("", "국외"),
        );
        let links = r#"<Relationships><Relationship Id="a" Type="x/notesSlide" Target="../notesSlides/n.xml"/>
            <Relationship Id="b" Type="x/diagramData" Target="../diagrams/d.xml"/></Relationships>"#;
        let notes = [
            shape("sldImg", &[]),
            shape("body", &["<a:p><a:r><a:t>발표자 메모</a:t></a:r></a:p>"]),
            shape("sldNum", &["<a:p><a:r><a:t>1</a:t></a:r></a:p>"]),
        ];
        let notes = format!("<p:notes>{}</p:notes>", notes.concat());
        let more = [
            ("ppt/slides/_rels/slide1.xml.rels", links),
            ("ppt/notesSlides/n.xml", notes.as_str()),
            (
                "ppt/diagrams/d.xml",
                "<d><pt><t><a:p><a:r><a:t>도식</a:t></a:r></a:p></t></pt></d>",
            ),
        ];
        check(
            &file(&[&slide], &more),
            &[
                (1, "구분 | 국내"),
                (1, "구분 | 국외"),
                (1, "도식"),
                (1, "발표자 메모"),
            ],
            &[],
        );
    }

    #[test]
    fn automatic_numbers_are_counted() {
        let numbered = |level: usize, kind: &str, text: &str| {
            format!(
                "<a:p><a:pPr lvl='{level}'><a:buAutoNum type='{kind}'/></a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>"
            )
        };
        let list = [
            numbered(0, "arabicPeriod", "가"),
            numbered(1, "alphaLcParenR", "나"),
            numbered(1, "alphaLcParenR", "다"),
            numbered(0, "arabicPeriod", "라"),
            numbered(1, "circleNumDbPlain", "마"),
            "<a:p><a:r><a:t>글</a:t></a:r></a:p>".to_owned(),
            numbered(0, "romanUcParenBoth", "바"),
        ];
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let expected = ["1. 가", "a) 나", "b) 다", "2. 라", "① 마", "글", "(I) 바"];
        check(
            &file(&[&shape("body", &list)], &[]),
            &expected.map(|text| (1, text)),
            &[],
        );
    }

    #[test]
    fn what_is_not_read_is_named() {
        let good = shape("body", &["<a:p><a:r><a:t>글</a:t></a:r></a:p>"]);
        let cut = "<p:sp><p:txBody><a:p><a:r><a:t>반</a:t></a:r></x>";
        let bytes = file(&["<p:pic/>", cut, &good], &[]);
        let (document, warnings) = parse(&bytes, &Budget::standard()).unwrap();
        let texts: Vec<&str> = document
            .blocks
            .iter()
            .map(|block| block.text.as_str())
            .collect();
        assert_eq!(texts, ["반", "글"]);
        assert_eq!(warnings[0].0, "slide 1: no text, only pictures");
        assert!(
            warnings[1].0.starts_with("slide 2: damaged XML"),
            "{warnings:?}"
        );
        let error = parse(&zipped(&[("a", b"")]), &Budget::standard()).unwrap_err();
        assert_eq!(error.to_string(), "no slides in the file");
    }

    #[test]
    fn hidden_slides_are_left_out_and_a_lost_order_is_rebuilt() {
        let slide = |show: &str, text: &str| {
            format!("<p:sld show='{show}'><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>")
        };
        let parts = [
            ("ppt/slides/slide10.xml", slide("1", "열")),
            ("ppt/slides/slide2.xml", slide("0", "둘")),
            ("ppt/slides/slide1.xml", slide("true", "하나")),
        ];
        let parts: Vec<(&str, &[u8])> = parts
            .iter()
            .map(|(name, xml)| (*name, xml.as_bytes()))
            .collect();
        check(
            &zipped(&parts),
            &[(1, "하나"), (3, "열")],
            &["slide 2: hidden, not read"],
        );
    }
}
