//! Keeps the elements of a PDF's logical structure from being parsed, of which there can be more than of all else
//! together. Nothing of them is read: the text is on the pages.
//!
//! What cannot be told to be such an element at a glance is left as it is; lopdf parses it, and nobody asks for it.

use std::borrow::Cow;
use std::ops::Range;

use lopdf::{Object, Stream};
use memchr::memmem;

use super::file::header_before;
use super::lexer::{Cursor, is_regular, is_white};
use super::objects;

/// The name that is their type.
const ELEMENT: &[u8] = b"StructElem";

/// How much larger than it is stored an object stream may be to be unpacked here. What is unpacked stays in memory until
/// the file is read, and object streams mostly grow five- to tenfold.
const MAX_GROWTH: usize = 32;

/// Replaces the elements among a file's objects by `null`; every other byte stays where it is.
pub(super) fn hide(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut hidden = Cow::Borrowed(bytes);
    let mut searched_to = 0;
    for at in memmem::find_iter(bytes, ELEMENT) {
        let end = at + ELEMENT.len();
        let before = bytes.get(searched_to..at).unwrap_or_default();
        let keyword = memmem::rfind(before, b"obj").map(|keyword| searched_to + keyword);
        searched_to = end;
        let Some(keyword) = keyword.filter(|&keyword| follows_an_object(bytes, keyword)) else {
            continue;
        };
        let start = keyword + b"obj".len();
        // One byte more shows whether the name ends here.
        let object = bytes.get(start..bytes.len().min(end + 1));
        if object.is_some_and(|object| is_element(object).0)
            && let Some(object) = hidden.to_mut().get_mut(start..end)
        {
            object.fill(b' ');
            if let Some(null) = object.last_chunk_mut() {
                *null = *b"null";
            }
        }
    }
    hidden
}

/// Whether the `obj` keyword at this place begins an object right after another one has ended, as it never does in text.
fn follows_an_object(bytes: &[u8], keyword: usize) -> bool {
    header_before(bytes, keyword)
        .and_then(|(_, _, header)| bytes.get(..header))
        .is_some_and(|before| before.trim_ascii_end().ends_with(b"endobj"))
}

/// Unpacks an object stream and strikes the elements out of its table.
pub(super) fn strike_out(stream: &mut Stream) {
    let max_bytes = stream.content.len().saturating_mul(MAX_GROWTH);
    let first = stream.dict.get(b"First").and_then(Object::as_i64);
    let first = first.ok().and_then(|first| usize::try_from(first).ok());
    let (Some(first), Some(mut content)) = (first, objects::bytes(stream, max_bytes)) else {
        return;
    };
    let Some((table, objects)) = content.split_at_mut_checked(first) else {
        return;
    };
    // Objects may be said to overlap; all together they are looked at as long as if they did not.
    let mut bytes_left = objects.len();
    for (entry, offset) in entries(table) {
        let object = objects.get(offset..).unwrap_or_default();
        let object = object.get(..bytes_left).unwrap_or(object);
        let (is_element, n_read) = is_element(object);
        bytes_left -= n_read;
        if is_element && let Some(entry) = table.get_mut(entry) {
            entry.fill(b' ');
        }
    }
    stream.set_plain_content(content);
}

/// The entries of an object stream's table, each with the offset of its object; none if the table holds more than
/// numbers.
fn entries(table: &[u8]) -> Vec<(Range<usize>, usize)> {
    let is_plain = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace();
    if !table.iter().all(is_plain) {
        return Vec::new();
    }
    let mut entries = Vec::new();
    let mut number = None;
    let mut at = 0;
    for word in table.split(u8::is_ascii_whitespace) {
        let start = at;
        let end = start + word.len();
        at = end + 1;
        if word.is_empty() {
            continue;
        }
        let Some(start) = number.take() else {
            number = Some(start);
            continue;
        };
        let offset = std::str::from_utf8(word).ok();
        if let Some(offset) = offset.and_then(|offset| offset.parse().ok()) {
            entries.push((start..end, offset));
        }
    }
    entries
}

/// Whether an object is a dictionary with the type of an element, as far as one sees without parsing it, and how many
/// bytes were looked at.
fn is_element(object: &[u8]) -> (bool, usize) {
    let mut cursor = Cursor::new(object);
    // Brackets are counted one by one: `<<` opens two levels, `<` and `>` around a string one.
    let mut depth = 0_usize;
    let mut key: Option<&[u8]> = None;
    while let Some(byte) = cursor.bump() {
        if is_white(byte) {
            continue;
        }
        key = match (byte, key) {
            (b'/', key) => {
                let name = cursor.take_while(is_regular);
                match key {
                    Some(b"Type") if depth == 2 => return (name == ELEMENT, cursor.position()),
                    None if depth == 2 => Some(name),
                    Some(_) | None => None,
                }
            }
            (b'<' | b'[', _) => {
                depth += 1;
                None
            }
            (b'>' | b']', _) => {
                depth = depth.saturating_sub(1);
                None
            }
            (b'(', _) => {
                skip_string(&mut cursor);
                None
            }
            (_, _) => {
                cursor.take_while(is_regular);
                None
            }
        };
        if depth == 0 {
            break;
        }
    }
    (false, cursor.position())
}

fn skip_string(cursor: &mut Cursor<'_>) {
    let mut depth = 1_usize;
    while depth > 0
        && let Some(byte) = cursor.bump()
    {
        match byte {
            b'\\' => {
                cursor.bump();
            }
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopdf::{ObjectStream, dictionary};

    #[test]
    fn elements_are_told_by_their_type() {
        let check = |object: &str, expected: bool| {
            assert_eq!(is_element(object.as_bytes()).0, expected, "{object}");
        };
        check("<</Type/StructElem/S/P>>", true);
        check(
            " << /K [<</Type /MCR>> 5 0 R] /T (a>>\\)()) /ID <3E> /S /P /Type /StructElem >>",
            true,
        );
        check("<</Type/StructElement>>", false);
        check("<</Type/Page/S/StructElem>>", false);
        check("<</S/Type/StructElem/P>>", false);
        check("<</K<</Type/StructElem>>/Type/MCR>>", false);
        check("<</T(/Type/StructElem)>> <</Type/StructElem>>", false);
        check("[/Type/StructElem]", false);
        check("<<", false);
        check("", false);
    }

    #[test]
    fn hidden_elements_are_null() {
        let check = |source: &str, expected: &str| {
            let hidden = hide(source.as_bytes());
            assert_eq!(String::from_utf8_lossy(&hidden), expected);
        };
        check(
            "endobj\n7 0 obj<</Type/StructElem/K(StructElem)>>\nendobj",
            "endobj\n7 0 obj              null/K(StructElem)>>\nendobj",
        );
        for unchanged in [
            "endobj 7 0 obj<</Type/StructElems>>",
            "(see 7 0 obj<</Type/StructElem>>)Tj",
            "endobj 7 0 obj<</Type/Page>>endobj<</Type/StructElem>>",
            "StructElem",
        ] {
            check(unchanged, unchanged);
        }
    }

    #[test]
    fn elements_are_struck_out_of_object_streams() {
        let element = "<</Type/StructElem/S/P>>";
        let check = |table: &str, expected: &[u32]| {
            let content = format!("{table}{element}<</Type/Page>>{element}");
            let first = i64::try_from(table.len()).unwrap();
            let dictionary = dictionary! { "Type" => "ObjStm", "N" => 3, "First" => first };
            let mut stream = Stream::new(dictionary, content.into_bytes());
            strike_out(&mut stream);
            let objects = ObjectStream::new(&stream).unwrap().objects;
            let left: Vec<u32> = objects.keys().map(|id| id.0).collect();
            assert_eq!(left, expected, "{table}");
        };
        check("1 0 2 24 3 38 ", &[2]);
        check("\n1  24\r\n2 24 3 0", &[1, 2]);
        // A table that is not understood is left to lopdf.
        check("1 0 % 2 3\n2 24 ", &[1, 2]);
        check("1 0 2 24 3 99999", &[2]);
    }
}
