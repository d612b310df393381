//! The bytes of a PDF file → its objects and its pages, whatever state the file is in.
//!
//! A file that an empty password opens is decrypted. A file that was cut off or lost its tables is searched for its
//! objects, and its pages are found by their type.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use lopdf::{Dictionary, Document, LoadOptions, Object, ObjectId};
use unicode_normalization::UnicodeNormalization;

use super::tags::Tags;
use super::{logical_structure, objects};
use crate::document::{Budget, Warning};

/// Ancestors of a page that are asked for what it inherits.
const MAX_PAGE_TREE_DEPTH: usize = 64;

/// Objects that are looked for in a damaged file.
const MAX_SALVAGED_OBJECTS: usize = 1_000_000;

/// A file whose objects can be read.
pub(super) struct File {
    pub(super) document: Document,
    pub(super) tags: Tags,
    /// In reading order.
    pub(super) pages: Vec<ObjectId>,
    /// What is wrong with the file as a whole.
    pub(super) warnings: Vec<Warning>,
}

/// Opens a file.
///
/// # Errors
/// When a password is needed, or nothing in the bytes is a PDF page.
pub(super) fn open(bytes: &[u8], budget: &Budget) -> Result<File> {
    let loaded = load(bytes, budget);
    if let Ok((document, _)) = &loaded
        && document.is_encrypted()
    {
        bail!("{}", refusal(document));
    }
    let mut pages: Vec<ObjectId> = match &loaded {
        Ok((document, _)) => document.page_iter().take(budget.max_pages).collect(),
        Err(_) => Vec::new(),
    };
    let mut warnings = Vec::new();
    let (document, tags) = match loaded {
        Ok((document, tags)) if !pages.is_empty() => {
            if document.xref_recovery.is_some() {
                warnings.push(Warning(
                    "damaged file: its table of objects was rebuilt, text may be missing"
                        .to_owned(),
                ));
            }
            (document, tags)
        }
        broken => {
            budget.check_time()?;
            let (salvaged, tags) = salvage(bytes, budget)?;
            pages = salvaged_pages(&salvaged);
            pages.truncate(budget.max_pages);
            if pages.is_empty() {
                broken.context("damaged file: no page of it is left")?;
                bail!("no pages in this file");
            }
            warnings.push(Warning(format!(
                "damaged file: {} pages were found in what is left of it, text may be missing",
                pages.len()
            )));
            (salvaged, tags)
        }
    };
    let n_declared = n_declared_pages(&document);
    if let Some(n_declared) = n_declared.filter(|&n_declared| n_declared > pages.len()) {
        warnings.push(Warning(format!(
            "{} of {n_declared} pages are missing or were not read",
            n_declared - pages.len()
        )));
    }
    Ok(File {
        document,
        tags,
        pages,
        warnings,
    })
}

/// Loads a file; the elements of its logical structure are read apart.
fn load(bytes: &[u8], budget: &Budget) -> lopdf::Result<(Document, Tags)> {
    let hidden = logical_structure::hide(bytes);
    let options = LoadOptions::with_max_decompressed_size(budget.max_part_bytes);
    let filtered = LoadOptions {
        filter: Some(without_structure),
        ..options.clone()
    };
    let mut document = Document::load_mem_with_options(&hidden.bytes, filtered)?;
    if !document.is_encrypted() && document.page_iter().next().is_none() {
        // Only when all is loaded does lopdf search a file for its objects because their table leads to no page.
        document = Document::load_mem_with_options(&hidden.bytes, options)?;
    }
    let tags = Tags::of(&document, bytes, &hidden.elements);
    Ok((document, tags))
}

/// Looks at an object before lopdf keeps it, and before it parses what is packed in it.
fn without_structure(id: ObjectId, object: &mut Object) -> Option<(ObjectId, Object)> {
    let is_structure = |dictionary: &Dictionary| dictionary.has_type(b"StructElem");
    if object.is_null() || object.as_dict().is_ok_and(is_structure) {
        return None;
    }
    // What is returned is used of objects that are packed in streams, and those are no streams themselves.
    let packed = match object.as_stream_mut() {
        Ok(stream) => {
            if stream.dict.has_type(b"ObjStm") {
                logical_structure::strike_out(stream);
            }
            Object::Null
        }
        Err(_) => object.clone(),
    };
    Some((id, packed))
}

/// Why an encrypted file is not read.
fn refusal(document: &Document) -> &'static str {
    let handler = document
        .get_encrypted()
        .ok()
        .and_then(|encryption| encryption.get(b"Filter").ok()?.as_name().ok());
    match handler {
        Some(b"Standard") | None => "encrypted with a password",
        Some(_) => "encrypted for certain readers by certificate or rights management",
    }
}

fn n_declared_pages(document: &Document) -> Option<usize> {
    let catalog = document.catalog().ok()?;
    let root = objects::dictionary(document, catalog, b"Pages")?;
    usize::try_from(objects::integer(document, root, b"Count")?).ok()
}

/// Loads what is left of a file by giving it a new table of objects and an empty catalog.
fn salvage(bytes: &[u8], budget: &Budget) -> Result<(Document, Tags)> {
    let start = bytes.windows(5).position(|window| window == b"%PDF-");
    let bytes = bytes.get(start.unwrap_or(0)..).unwrap_or_default();
    let found = object_headers(bytes);
    ensure!(!found.is_empty(), "damaged file: no PDF objects in it");
    let free_number = found.keys().next_back().map_or(1, |last| last + 1);

    // The last stream may have been cut off; what is there of it can still be read.
    let mut patched = bytes.to_vec();
    patched.extend_from_slice(b"\nendstream\nendobj\n");
    let catalog_offset = patched.len();
    let catalog = format!("{free_number} 0 obj\n<</Type/Catalog>>\nendobj\n");
    patched.extend_from_slice(catalog.as_bytes());
    let table_offset = patched.len();
    let mut table = String::from("xref\n0 1\n0000000000 65535 f \n");
    for (number, (generation, offset)) in &found {
        table.push_str(&format!("{number} 1\n{offset:010} {generation:05} n \n"));
    }
    table.push_str(&format!(
        "{free_number} 1\n{catalog_offset:010} 00000 n \ntrailer\n<</Size {}/Root {free_number} 0 R>>\n\
         startxref\n{table_offset}\n%%EOF\n",
        free_number + 1
    ));
    patched.extend_from_slice(table.as_bytes());
    load(&patched, budget).context("damaged file")
}

/// Object number → generation and offset of its last copy.
fn object_headers(bytes: &[u8]) -> BTreeMap<u32, (u16, usize)> {
    let mut found = BTreeMap::new();
    let mut position = 0;
    while let Some(rest) = bytes.get(position..) {
        let Some(ahead) = rest.windows(3).position(|window| window == b"obj") else {
            break;
        };
        let keyword = position + ahead;
        position = keyword + 3;
        let Some((number, generation, offset)) = header_before(bytes, keyword) else {
            continue;
        };
        if found.len() < MAX_SALVAGED_OBJECTS {
            found.insert(number, (generation, offset));
        }
    }
    found
}

/// The `12 0 ` before an `obj` keyword.
pub(super) fn header_before(bytes: &[u8], keyword: usize) -> Option<(u32, u16, usize)> {
    let before = bytes.get(..keyword)?;
    let trim = |bytes: &'_ [u8]| bytes.trim_ascii_end().len();
    let digits = |end: usize| {
        let digits = bytes.get(..end)?.iter().rev();
        let n_digits = digits
            .take(8)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let start = end - n_digits;
        let text = std::str::from_utf8(bytes.get(start..end)?).ok()?;
        (n_digits > 0).then_some((text, start))
    };
    let (generation, start) = digits(trim(before))?;
    let gap = trim(bytes.get(..start)?);
    if gap == start {
        return None;
    }
    let (number, offset) = digits(gap)?;
    let number = number.parse::<u32>().ok()?;
    let number = Some(number)
        .filter(|number| usize::try_from(*number).is_ok_and(|n| n < MAX_SALVAGED_OBJECTS));
    Some((number?, generation.parse().ok()?, offset))
}

/// Every page object, in the order of the page tree as far as it is left, the others by number.
fn salvaged_pages(document: &Document) -> Vec<ObjectId> {
    let mut ranks = HashMap::new();
    for object in document.objects.values() {
        let kids = object
            .as_dict()
            .ok()
            .and_then(|node| objects::array(document, node, b"Kids"));
        for kid in kids.unwrap_or_default() {
            if let Ok(id) = kid.as_reference() {
                let rank = ranks.len();
                ranks.entry(id).or_insert(rank);
            }
        }
    }
    let is_page = |object: &Object| object.as_dict().is_ok_and(|page| page.has_type(b"Page"));
    let pages = document
        .objects
        .iter()
        .filter(|(_, object)| is_page(object));
    let mut pages: Vec<ObjectId> = pages.map(|(&id, _)| id).collect();
    pages.sort_by_key(|id| (ranks.get(id).copied().unwrap_or(usize::MAX), *id));
    pages
}

/// The title that the file gives itself, if a person could have meant it: no file name, no placeholder.
pub(super) fn title(document: &Document) -> Option<String> {
    let info = objects::dictionary(document, &document.trailer, b"Info")?;
    let title = objects::value(document, info, b"Title")?.as_str().ok()?;
    let title = objects::text_string(title);
    let title = title.trim().trim_matches('\0');
    let lower = title.to_lowercase();
    let is_file_name = [
        ".doc", ".docx", ".hwp", ".hwpx", ".xls", ".xlsx", ".ppt", ".pptx", ".pdf", ".indd",
        ".qxd", ".tex", ".dvi",
    ]
    .iter()
    .any(|extension| lower.ends_with(extension));
    let is_placeholder = [
        "microsoft",
        "powerpoint",
        "untitled",
        "제목 없음",
        "document",
        "문서",
        "무제",
        "슬라이드",
        "(anonymous)",
    ]
    .iter()
    .any(|word| lower.starts_with(word));
    let n_chars = title.chars().count();
    let is_title = (2..=100).contains(&n_chars)
        && !is_file_name
        && !is_placeholder
        && title.chars().any(char::is_alphabetic)
        && !title.chars().any(|c| c.is_control() || c == '\u{FFFD}');
    is_title.then(|| title.nfc().collect())
}

/// A value that a page has itself or inherits from the nodes above it.
pub(super) fn inherited<'a>(
    document: &'a Document,
    page: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Object> {
    let mut node = page;
    for _ in 0..MAX_PAGE_TREE_DEPTH {
        if let Some(value) = objects::value(document, node, key) {
            return Some(value);
        }
        node = objects::dictionary(document, node, b"Parent")?;
    }
    None
}

/// The box of a page that is seen: `[left, bottom, right, top]`; a sheet of A4 if the file does not say.
pub(super) fn visible_box(document: &Document, page: &Dictionary) -> [f32; 4] {
    let read = |key: &[u8]| {
        let corners = inherited(document, page, key)?.as_array().ok()?;
        let mut values = corners
            .iter()
            .map(|corner| objects::resolve(document, corner)?.as_float().ok());
        let mut next = || values.next().flatten();
        let [x0, y0, x1, y1] = [next()?, next()?, next()?, next()?];
        let area = [x0.min(x1), y0.min(y1), x0.max(x1), y0.max(y1)];
        (area[2] - area[0] > 1.0 && area[3] - area[1] > 1.0).then_some(area)
    };
    read(b"CropBox")
        .or_else(|| read(b"MediaBox"))
        .unwrap_or([0.0, 0.0, 595.0, 842.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "%PDF-1.4\n1 0 obj\n<</Type/Pages/Kids[3 0 R 2 0 R]>>\nendobj\n\
        2 0 obj <</Type/Page/Contents 4 0 R>> endobj\n3 0 obj<</Type/Page>>endobj\n\
        4 0 obj<</Length 99>>stream\nBT (cut off";

    #[test]
    fn a_file_without_its_end_still_has_pages() {
        let file = open(BODY.as_bytes(), &Budget::standard()).unwrap();
        assert_eq!(file.pages, [(3, 0), (2, 0)]);
        assert_eq!(file.warnings.len(), 1);
        let stream = file
            .document
            .get_object((4, 0))
            .unwrap()
            .as_stream()
            .unwrap();
        assert!(stream.content.starts_with(b"BT (cut off"), "{stream:?}");
    }

    #[test]
    fn structure_is_left_out_and_all_else_is_there() {
        use lopdf::dictionary;
        let mut made = Document::with_version("1.7");
        let pages = made.new_object_id();
        let content = made.add_object(lopdf::Stream::new(dictionary! {}, b"BT ET".to_vec()));
        let page = made.add_object(dictionary! {
            "Type" => "Page", "Parent" => pages, "Contents" => content,
        });
        let kids = vec![Object::Reference(page)];
        let tree = dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => 1 };
        made.objects.insert(pages, Object::Dictionary(tree));
        let element = made.add_object(dictionary! { "Type" => "StructElem", "S" => "P" });
        let other = made.add_object(dictionary! { "S" => "P" });
        let catalog = made.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
        made.trailer.set("Root", catalog);
        let (mut plain, mut packed) = (Vec::new(), Vec::new());
        made.clone().save_to(&mut plain).unwrap();
        made.save_modern(&mut packed).unwrap();
        for bytes in [plain, packed] {
            let file = open(&bytes, &Budget::standard()).unwrap();
            assert_eq!(file.pages, [page]);
            let has = |id| file.document.get_dictionary(id).is_ok();
            assert_eq!(
                [pages, page, other, catalog, element].map(has),
                [true, true, true, true, false]
            );
            let content = file.document.get_object(content).unwrap();
            assert_eq!(content.as_stream().unwrap().content, b"BT ET");
        }
    }

    #[test]
    fn what_is_no_pdf_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let error = open(bytes, &Budget::standard()).err().unwrap();
            assert_eq!(format!("{error:#}"), expected);
        };
        check(b"%PDF-1.4\nnothing", "damaged file: no PDF objects in it");
    }

    #[test]
    fn only_titles_that_were_meant_are_titles() {
        let check = |title: &str, expected: Option<&str>| {
            let mut document = Document::new();
            let info = lopdf::dictionary! { "Title" => Object::string_literal(title) };
            document.trailer.set("Info", info);
            assert_eq!(super::title(&document).as_deref(), expected, "{title}");
        };
        check("휴직 및 복직 관리기준", Some("휴직 및 복직 관리기준"));
        check("Microsoft Word - rule.doc", None);
        check("인사규정.hwp", None);
        check("제목 없음", None);
        check("", None);
    }

    #[test]
    fn object_headers_are_found() {
        let headers = object_headers(b"1 0 obj\nendobj 12 3 obj 4obj x 5 obj");
        assert_eq!(headers.keys().copied().collect::<Vec<_>>(), [1, 12]);
        assert_eq!(headers[&12], (3, 15));
    }
}
