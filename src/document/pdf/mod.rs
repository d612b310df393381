//! PDF bytes → paragraphs, headings and table rows, page by page.
//!
//! The way of a page: its operators are run ([`content`]) with its fonts ([`font`]) and leave runs of glyphs and rules
//! ([`painting`]); runs become lines ([`lines`]) and table rows ([`table`]), in the order in which they were painted
//! unless that order is none ([`order`]); running headers and page numbers are dropped ([`furniture`]); lines become
//! paragraphs ([`paragraphs`]).
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
mod objects;
mod order;
mod painting;
mod paragraphs;
mod quick_hash;
mod report;
mod spacing;
mod standard_widths;
mod table;

use anyhow::{Result, bail};
use lopdf::{Dictionary, Object, ObjectId};

use self::content::Interpreter;
use self::file::File;
use self::painting::Page;
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
        pages,
        warnings,
    } = file::open(bytes, budget)?;
    let mut report = Report::new(warnings);
    let mut interpreter = Interpreter::new(&objects, budget);
    let mut texts = Vec::new();
    for (number, &id) in (1_u32..).zip(&pages) {
        let mut page = Page::default();
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
    }
    furniture::remove(&mut texts);
    let mut document = paragraphs::document(&texts);
    if document.blocks.is_empty() {
        bail!("{}", report.refusal(pages.len()));
    }
    if document.title.is_none() {
        document.title = file::title(&objects);
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
