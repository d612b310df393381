//! PDF bytes → paragraphs, headings and table rows, page by page.
//!
//! The way of a page: its operators are run ([`content`]) with its fonts ([`font`]) and leave runs of glyphs and rules
//! ([`painting`]); runs become lines ([`lines`]) and table rows ([`table`]), in the order in which they were painted
//! unless that order is none ([`order`]); running headers and page numbers are dropped ([`furniture`]); lines become
//! paragraphs ([`paragraphs`]). What the file itself says of its headings and tables ([`tags`]) is believed.
//!
//! Promised: no text is lost in silence. A glyph without text, a page without text, a damaged stream, a garbled page is
//! a [`Warning`] that names the page. Not read: text inside images, attachments, scripts.

mod annotation;
mod cmap;
mod content;
mod file;
mod font;
mod font_program;
mod furniture;
mod geometry;
mod glyph_names;
mod lexer;
mod lines;
mod logical_structure;
mod objects;
mod order;
mod page_labels;
mod painting;
mod paragraphs;
mod quick_hash;
mod repainting;
mod report;
mod spacing;
mod standard_widths;
mod table;
mod tagged_table;
mod tags;

use anyhow::{Result, bail};
use lopdf::{Dictionary, Object, ObjectId};

use self::content::Interpreter;
use self::file::File;
use self::page_labels::PageLabels;
use self::painting::{Memory, Page};
use self::paragraphs::{Item, PageText};
use self::report::Report;
use super::{Budget, Document, Warning};

/// Reads a PDF file.
///
/// # Errors
/// When a password is needed, when nothing in the bytes is a PDF page, or when no page has text.
pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let File {
        document: objects,
        tags,
        pages,
        warnings,
    } = file::open(bytes, budget)?;
    let mut report = Report::new(warnings);
    let mut interpreter = Interpreter::new(&objects, &tags, budget);
    let mut texts = Vec::new();
    let mut memory = Memory::default();
    for (number, &id) in (1_u32..).zip(&pages) {
        let mut page = Page::after(memory);
        let outcome = read_page(&mut interpreter, id, &mut page);
        if report.page(number, &page) {
            let mut items = order::items(&mut page);
            items.extend(page.notes.drain(..).map(Item::Note));
            texts.push(PageText {
                number,
                height: page.height,
                items,
            });
        }
        if let Err(error) = outcome.and_then(|()| budget.check_time()) {
            report.gave_up(number, pages.len(), &error);
            break;
        }
        memory = page.memory;
    }
    furniture::remove(&mut texts);
    let mut document = paragraphs::document(&texts);
    if document.blocks.is_empty() {
        bail!("{}", report.refusal(pages.len()));
    }
    if document.title.is_none() {
        document.title = file::title(&objects);
    }
    let labels = PageLabels::of(&objects);
    for block in &mut document.blocks {
        block.location.page_label = block.location.page.and_then(|page| labels.label(page));
    }
    Ok((document, report.warnings()))
}

/// Paints one page: its content, then its annotations.
fn read_page(interpreter: &mut Interpreter<'_>, id: ObjectId, page: &mut Page) -> Result<()> {
    let document = interpreter.document;
    let Ok(dictionary) = document.get_dictionary(id) else {
        page.n_damaged += 1;
        return Ok(());
    };
    page.object = id.0;
    let rotate = file::inherited(document, dictionary, b"Rotate");
    let rotate = rotate.and_then(|rotate| rotate.as_i64().ok()).unwrap_or(0);
    let visible = file::visible_box(document, dictionary);
    let upright = geometry::upright(visible, rotate);
    page.height = match rotate.rem_euclid(180) {
        0 => visible[3] - visible[1],
        _ => visible[2] - visible[0],
    };
    let resources =
        file::inherited(document, dictionary, b"Resources").and_then(objects::as_dictionary);
    let content = page_content(interpreter, dictionary, page);
    interpreter.run(content, resources, upright, page)?;
    annotation::paint(interpreter, dictionary, upright, page)
}

/// The content streams of a page, one after the other; a damaged one is counted and left out.
fn page_content(
    interpreter: &mut Interpreter<'_>,
    dictionary: &Dictionary,
    page: &mut Page,
) -> Vec<u8> {
    let document = interpreter.document;
    let streams: Vec<&Object> = match objects::value(document, dictionary, b"Contents") {
        Some(Object::Array(parts)) => parts.iter().collect(),
        Some(single) => vec![single],
        None => Vec::new(),
    };
    let mut content = Vec::new();
    for stream in streams {
        let stream = objects::resolve(document, stream).and_then(|stream| stream.as_stream().ok());
        match stream.and_then(|stream| interpreter.unpack(stream)) {
            Some(bytes) => {
                content.extend_from_slice(&bytes);
                content.push(b'\n');
            }
            None => page.n_damaged += 1,
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::BlockKind;
    use lopdf::{EncryptionState, EncryptionVersion, Permissions, Stream, dictionary};

    /// A file of pages with these content streams. Every page has the font `/F` (Korean, two bytes a character) and
    /// the form `/X`, and is 600 by 800 points.
    fn file(contents: &[&[u8]], form: &[u8]) -> lopdf::Document {
        let mut file = lopdf::Document::with_version("1.7");
        let pages = file.new_object_id();
        let font = file.add_object(dictionary! {
            "Type" => "Font", "Subtype" => "Type0", "BaseFont" => "Batang", "Encoding" => "UniKS-UCS2-H",
            "DescendantFonts" => vec![Object::Dictionary(dictionary! {
                "Type" => "Font", "Subtype" => "CIDFontType2", "DW" => 1000,
                "CIDSystemInfo" => dictionary! {
                    "Registry" => Object::string_literal("Adobe"),
                    "Ordering" => Object::string_literal("Korea1"), "Supplement" => 1,
                },
            })],
        });
        let dictionary = dictionary! { "Type" => "XObject", "Subtype" => "Form" };
        let form = file.add_object(Stream::new(dictionary, form.to_vec()));
        let resources = file.add_object(dictionary! {
            "Font" => dictionary! { "F" => font }, "XObject" => dictionary! { "X" => form },
        });
        let mut kids = Vec::new();
        for content in contents {
            let content = file.add_object(Stream::new(dictionary! {}, content.to_vec()));
            kids.push(Object::Reference(file.add_object(dictionary! {
                "Type" => "Page", "Parent" => pages, "Contents" => content,
            })));
        }
        let count = i64::try_from(kids.len()).unwrap();
        file.objects.insert(
            pages,
            Object::Dictionary(dictionary! {
                "Type" => "Pages", "Kids" => kids, "Count" => count, "Resources" => resources,
                "MediaBox" => vec![0.into(), 0.into(), 600.into(), 800.into()],
            }),
        );
        let catalog = file.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
        file.trailer.set("Root", catalog);
        file
    }

    fn bytes(file: &mut lopdf::Document) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.save_to(&mut bytes).unwrap();
        bytes
    }

    /// `(text) Tj` at a place, as UTF-16.
    fn show(text: &str, x: i32, y: i32) -> String {
        let hex: String = text
            .encode_utf16()
            .map(|unit| format!("{unit:04X}"))
            .collect();
        format!("BT /F 10 Tf {x} {y} Td <{hex}> Tj ET\n")
    }

    fn read(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
        let (document, warnings) = parse(bytes, &Budget::standard())?;
        let blocks = document.blocks.into_iter().map(|block| block.text);
        Ok((
            blocks.collect(),
            warnings.into_iter().map(|warning| warning.0).collect(),
        ))
    }

    fn check(content: &str, form: &str, blocks: &[&str], warnings: &[&str]) {
        let mut file = file(&[content.as_bytes()], form.as_bytes());
        let found = read(&bytes(&mut file)).unwrap();
        assert_eq!(found.0, blocks, "{content}");
        assert_eq!(found.1, warnings, "{content}");
    }

    #[test]
    fn text_is_read_in_the_page_and_in_its_forms() {
        let content =
            show("제1조(목적)", 50, 700) + "q 1 0 0 1 0 -40 cm /X Do Q " + &show("끝", 50, 500);
        check(
            &content,
            &show("이 기준은 휴직을 정한다.", 50, 700),
            &["제1조(목적)", "이 기준은 휴직을 정한다.", "끝"],
            &[],
        );
    }

    #[test]
    fn a_form_that_draws_itself_ends() {
        let form = show("안", 50, 700) + "/X Do";
        let content = show("밖", 50, 750) + "/X Do";
        let warning = "page 1: parts are damaged or missing, text may be lost";
        check(&content, &form, &["밖", "안"], &[warning]);
    }

    #[test]
    fn floods_of_states_and_brackets_end() {
        let content = "q ".repeat(100_000) + &"[ << ".repeat(100_000) + &"Q ".repeat(100_000);
        check(
            &(content + &show("끝까지 읽었다", 50, 700)),
            "",
            &["끝까지 읽었다"],
            &[],
        );
    }

    #[test]
    fn marked_content_says_what_it_stands_for() {
        let content =
            "/Span <</ActualText <FEFFD734C9C1>>> BDC ".to_owned() + &show("XY", 50, 700) + "EMC";
        check(&content, "", &["휴직"], &[]);
    }

    #[test]
    fn ruled_cells_are_rows() {
        let rules = "50 700 200 20 re 50 680 200 20 re 150 680 m 150 720 l S ";
        let content = rules.to_owned()
            + &show("사유", 60, 705)
            + &show("기간", 160, 705)
            + &show("육아", 60, 685)
            + &show("2년", 160, 685);
        check(&content, "", &["사유 | 기간", "육아 | 2년"], &[]);
    }

    #[test]
    fn the_file_names_its_headings_and_cells() {
        let mark = |number: i32, shown: String| format!("/P <</MCID {number}>> BDC {shown} EMC ");
        let content = mark(0, show("개요", 50, 700))
            + &mark(1, show("휴직은 사유가 있어야 한다.", 50, 680))
            + &mark(2, show("사유", 50, 640))
            + &mark(3, show("기간", 300, 640))
            + &mark(4, show("육아", 50, 620))
            + &mark(5, show("2년", 300, 620));
        let mut file = file(&[content.as_bytes()], b"");
        let page = file.page_iter().next().unwrap();
        let mut element = |kind: &str, parent: Option<ObjectId>, content: Option<i64>| {
            let mut element = dictionary! { "Type" => "StructElem", "S" => kind, "Pg" => page };
            if let Some(parent) = parent {
                element.set("P", parent);
            }
            if let Some(content) = content {
                element.set("K", content);
            }
            file.add_object(element)
        };
        element("H1", None, Some(0));
        element("P", None, Some(1));
        let table = element("Table", None, None);
        let rows = [2, 4].map(|content| {
            let row = element("TR", Some(table), None);
            let cells = [0, 1].map(|column| element("TD", Some(row), Some(content + column)));
            (row, cells.map(Object::Reference).to_vec())
        });
        for (row, cells) in rows {
            let row = file.get_object_mut(row).unwrap().as_dict_mut().unwrap();
            row.set("K", cells);
        }
        let root = dictionary! { "Type" => "StructTreeRoot" };
        file.catalog_mut().unwrap().set("StructTreeRoot", root);
        let (mut plain, mut packed) = (Vec::new(), Vec::new());
        file.clone().save_to(&mut plain).unwrap();
        file.save_modern(&mut packed).unwrap();
        for bytes in [plain, packed] {
            let (document, _) = parse(&bytes, &Budget::standard()).unwrap();
            assert_eq!(document.blocks[0].kind, BlockKind::Heading { level: 1 });
            let texts: Vec<&str> = document
                .blocks
                .iter()
                .map(|block| block.text.as_str())
                .collect();
            let expected = [
                "개요",
                "휴직은 사유가 있어야 한다.",
                "사유 | 기간",
                "육아 | 2년",
            ];
            assert_eq!(texts, expected);
        }
    }

    #[test]
    fn comments_are_read() {
        let mut file = file(&[show("본문", 50, 700).as_bytes()], b"");
        let page = file.page_iter().next().unwrap();
        let comment = dictionary! {
            "Type" => "Annot", "Subtype" => "Text", "Contents" => Object::string_literal("메모"),
        };
        let hidden = dictionary! {
            "Type" => "Annot", "Subtype" => "Text", "F" => 2, "Contents" => Object::string_literal("숨음"),
        };
        let annotations = vec![Object::Dictionary(comment), Object::Dictionary(hidden)];
        let page = file.get_object_mut(page).unwrap().as_dict_mut().unwrap();
        page.set("Annots", annotations);
        assert_eq!(read(&bytes(&mut file)).unwrap().0, ["본문", "메모"]);
    }

    #[test]
    fn running_headers_go_and_pages_are_counted() {
        let pages: Vec<String> = (1..=3)
            .map(|n| show("인사 규정", 50, 780) + &show(&format!("본문 {n}쪽이다."), 50, 400))
            .collect();
        let contents: Vec<&[u8]> = pages.iter().map(String::as_bytes).collect();
        let bytes = bytes(&mut file(&contents, b""));
        let (document, _) = parse(&bytes, &Budget::standard()).unwrap();
        let found: Vec<(&str, Option<u32>)> = document
            .blocks
            .iter()
            .map(|block| (block.text.as_str(), block.location.page))
            .collect();
        let expected = [
            ("본문 1쪽이다.", Some(1)),
            ("본문 2쪽이다.", Some(2)),
            ("본문 3쪽이다.", Some(3)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn pages_have_the_labels_that_a_reader_sees() {
        let contents: Vec<String> = (1..=3)
            .map(|n| show(&format!("본문 {n}이다."), 50, 400))
            .collect();
        let contents: Vec<&[u8]> = contents.iter().map(String::as_bytes).collect();
        let mut file = file(&contents, b"");
        let front = Object::Dictionary(dictionary! { "S" => "r" });
        let body = Object::Dictionary(dictionary! { "S" => "D" });
        let labels = dictionary! { "Nums" => vec![0.into(), front, 2.into(), body] };
        file.catalog_mut().unwrap().set("PageLabels", labels);
        let (document, _) = parse(&bytes(&mut file), &Budget::standard()).unwrap();
        let found: Vec<(Option<u32>, Option<&str>)> = document
            .blocks
            .iter()
            .map(|block| (block.location.page, block.location.page_label.as_deref()))
            .collect();
        let expected = [
            (Some(1), Some("i")),
            (Some(2), Some("ii")),
            (Some(3), Some("1")),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn files_without_text_are_refused() {
        let check = |contents: &[&[u8]], expected: &str| {
            let error = read(&bytes(&mut file(contents, b""))).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        };
        let image = b"BI /W 1 /H 1 /BPC 8 /CS /G ID \x00\nEI";
        check(
            &[image, image],
            "no text on any of 2 pages, perhaps scanned",
        );
        check(&[b"q Q"], "no text on its only page");
    }

    #[test]
    fn passwords_are_asked_for_only_where_needed() {
        let encrypted = |user_password: &str| {
            let mut file = file(&[show("비밀 규정", 50, 700).as_bytes()], b"");
            let id = Object::string_literal("0123456789abcdef");
            file.trailer.set("ID", vec![id.clone(), id]);
            let version = EncryptionVersion::V2 {
                document: &file,
                owner_password: "owner",
                user_password,
                key_length: 128,
                permissions: Permissions::all(),
            };
            let state = EncryptionState::try_from(version).unwrap();
            file.encrypt(&state).unwrap();
            bytes(&mut file)
        };
        assert_eq!(read(&encrypted("")).unwrap().0, ["비밀 규정"]);
        let error = read(&encrypted("user")).unwrap_err();
        assert_eq!(error.to_string(), "encrypted with a password");
    }

    #[test]
    fn a_stream_that_unpacks_without_end_is_left_out() {
        let mut file = file(&[b"% blank\n"], b"");
        let mut bomb = Stream::new(dictionary! {}, vec![b' '; 8 << 20]);
        bomb.compress().unwrap();
        let bomb = file.add_object(bomb);
        let page = file.page_iter().next().unwrap();
        let page = file.get_object_mut(page).unwrap().as_dict_mut().unwrap();
        page.set("Contents", bomb);
        let mut budget = Budget::standard();
        budget.max_part_bytes = 1 << 20;
        let error = parse(&bytes(&mut file), &budget).unwrap_err();
        assert_eq!(error.to_string(), "no text on its only page: damaged file");
    }

    #[test]
    fn damage_anywhere_is_no_panic() {
        let content = show("제1조(목적)", 50, 700) + "/X Do " + &show("끝", 50, 500);
        let whole = bytes(&mut file(
            &[content.as_bytes()],
            show("안", 50, 600).as_bytes(),
        ));
        let budget = Budget::standard();
        for at in (0..whole.len()).step_by(7) {
            let mut cut = whole.clone();
            cut.truncate(at);
            let _ = parse(&cut, &budget);
            let mut flipped = whole.clone();
            flipped[at] ^= 0x15;
            let _ = parse(&flipped, &budget);
        }
    }
}
