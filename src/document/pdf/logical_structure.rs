//! Keeps the elements of a PDF's logical structure from lopdf, which would take longer over them than over all else: there
//! can be tens of thousands, and of most only a number or two is wanted.
//!
//! They are found at a glance, hidden in what lopdf is given, and read here. What cannot be told to be an element is left
//! as it is; lopdf parses it, and nobody asks for it.

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
/// the file is read, and object streams grow four- to fifteenfold.
const MAX_GROWTH: usize = 16;

/// A file's bytes for lopdf, and where in them elements begin.
pub(super) struct Hidden<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Object number and place.
    pub(super) elements: Vec<(u32, usize)>,
}

/// Replaces the elements among a file's objects by `null`; every other byte stays where it is.
pub(super) fn hide(bytes: &[u8]) -> Hidden<'_> {
    let mut hidden = Cow::Borrowed(bytes);
    let mut elements = Vec::new();
    let mut searched_to = 0;
    for at in memmem::find_iter(bytes, ELEMENT) {
        let end = at + ELEMENT.len();
        let before = bytes.get(searched_to..at).unwrap_or_default();
        let keyword = memmem::rfind(before, b"obj").map(|keyword| searched_to + keyword);
        searched_to = end;
        let header = keyword.and_then(|keyword| Some((keyword, next_object(bytes, keyword)?)));
        let Some((keyword, number)) = header else {
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
            elements.push((number, start));
        }
    }
    Hidden {
        bytes: hidden,
        elements,
    }
}

/// The number of the object that begins with the `obj` keyword at this place, right after another one has ended, as it
/// never does in text.
fn next_object(bytes: &[u8], keyword: usize) -> Option<u32> {
    let (number, _, header) = header_before(bytes, keyword)?;
    let before = bytes.get(..header)?.trim_ascii_end();
    before.ends_with(b"endobj").then_some(number)
}

/// Unpacks an object stream and strikes the elements out of its table: their numbers are written with letters, which
/// lopdf steps over.
pub(super) fn strike_out(stream: &mut Stream) {
    let max_bytes = stream.content.len().saturating_mul(MAX_GROWTH);
    let (Some(first), Some(mut content)) = (first(stream), objects::bytes(stream, max_bytes))
    else {
        return;
    };
    let Some((table, objects)) = content.split_at_mut_checked(first) else {
        return;
    };
    if table.iter().any(|&byte| is_struck_out(byte)) {
        return;
    }
    // Objects may be said to overlap; all together they are looked at as long as if they did not.
    let mut bytes_left = objects.len();
    for (number, offset) in entries(table) {
        let object = objects.get(offset..).unwrap_or_default();
        let object = object.get(..bytes_left).unwrap_or(object);
        let (is_element, n_read) = is_element(object);
        bytes_left -= n_read;
        if is_element && let Some(number) = table.get_mut(number) {
            for digit in number {
                *digit += STRUCK_OUT;
            }
        }
    }
    stream.set_plain_content(content);
}

/// From a digit to the letter that stands for it where a number is struck out.
const STRUCK_OUT: u8 = b'A' - b'0';

fn is_struck_out(byte: u8) -> bool {
    matches!(byte, b'A'..=b'J')
}

/// The elements that were struck out of an object stream, with their numbers.
pub(super) fn struck_out(stream: &Stream) -> Vec<(u32, Element<'_>)> {
    let parts = first(stream).and_then(|first| stream.content.split_at_checked(first));
    let Some((table, objects)) = parts else {
        return Vec::new();
    };
    let place = |(number, offset): (Range<usize>, usize)| {
        let mut value = 0_u32;
        for &byte in table.get(number)? {
            let digit = is_struck_out(byte).then(|| byte - STRUCK_OUT - b'0')?;
            value = value.checked_mul(10)?.checked_add(u32::from(digit))?;
        }
        Some((value, offset))
    };
    let places: Vec<(u32, usize)> = entries(table).into_iter().filter_map(place).collect();
    read(objects, &places)
}

/// Reads the elements that begin at these places, with their numbers. Where they overlap, only as many bytes are read as
/// there are.
pub(super) fn read<'a>(bytes: &'a [u8], places: &[(u32, usize)]) -> Vec<(u32, Element<'a>)> {
    let mut bytes_left = bytes.len();
    let mut elements = Vec::with_capacity(places.len());
    for &(number, start) in places {
        let source = bytes.get(start..).unwrap_or_default();
        let source = source.get(..bytes_left).unwrap_or(source);
        let (element, n_read) = Element::read(source);
        bytes_left -= n_read;
        elements.push((number, element));
    }
    elements
}

/// Where the objects of an object stream begin.
fn first(stream: &Stream) -> Option<usize> {
    let first = stream.dict.get(b"First").and_then(Object::as_i64);
    usize::try_from(first.ok()?).ok()
}

/// The entries of an object stream's table: where the number stands, and the offset of its object; none if the table
/// holds more than numbers.
fn entries(table: &[u8]) -> Vec<(Range<usize>, usize)> {
    let is_plain =
        |byte: u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || is_struck_out(byte);
    if !table.iter().all(|&byte| is_plain(byte)) {
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
        let Some(number) = number.take() else {
            number = Some(start..end);
            continue;
        };
        let offset = std::str::from_utf8(word).ok();
        if let Some(offset) = offset.and_then(|offset| offset.parse().ok()) {
            entries.push((number, offset));
        }
    }
    entries
}

/// A piece of an object's source. Brackets count one by one: `<<` opens twice, `<` and `>` around a string once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Open,
    Close,
    Name(&'a [u8]),
    Word(&'a [u8]),
    String,
}

fn next_token<'a>(cursor: &mut Cursor<'a>) -> Option<Token<'a>> {
    cursor.take_while(is_white);
    let rest = cursor.clone();
    Some(match cursor.bump()? {
        b'/' => Token::Name(cursor.take_while(is_regular)),
        b'<' | b'[' => Token::Open,
        b'>' | b']' => Token::Close,
        b'(' => {
            skip_string(cursor);
            Token::String
        }
        byte if is_regular(byte) => {
            *cursor = rest;
            Token::Word(cursor.take_while(is_regular))
        }
        // A comment, or damage.
        _ => return None,
    })
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

/// Walks through a dictionary: `visit` is given each token of a value, after its key, until it returns false. Returns how
/// many bytes were looked at.
fn walk<'a>(object: &'a [u8], mut visit: impl FnMut(&'a [u8], Token<'a>) -> bool) -> usize {
    let mut cursor = Cursor::new(object);
    let mut depth = 0_usize;
    let mut key: &[u8] = b"";
    let mut has_value = true;
    while let Some(token) = next_token(&mut cursor) {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            // Brackets count one by one: within the dictionary itself two are open.
            Token::Name(name) if depth == 2 && has_value => {
                key = name;
                has_value = false;
                continue;
            }
            Token::Name(_) | Token::Word(_) | Token::String => {}
        }
        has_value = true;
        if depth == 0 || !visit(key, token) {
            break;
        }
    }
    cursor.position()
}

/// Whether an object is a dictionary with the type of an element, as far as one sees without parsing it, and how many
/// bytes were looked at.
fn is_element(object: &[u8]) -> (bool, usize) {
    let mut is_element = false;
    if !object.trim_ascii_start().starts_with(b"<<") {
        return (is_element, 0);
    }
    let n_read = walk(object, |key, token| {
        is_element = key == b"Type" && token == Token::Name(ELEMENT);
        key != b"Type"
    });
    (is_element, n_read)
}

/// An element of the logical structure, as far as it is wanted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Element<'a> {
    /// What it is, a heading or a row: the name as it is written.
    pub(super) kind: &'a [u8],
    /// Object number of the element it belongs to; 0 without one.
    pub(super) parent: u32,
    /// Object numbers of the elements that belong to it, in order.
    pub(super) children: Vec<u32>,
    /// Marked content that belongs to it: object number of the page, and its own number there.
    pub(super) contents: Vec<(u32, u32)>,
}

impl<'a> Element<'a> {
    /// Reads an element's source; how many bytes were read.
    fn read(object: &'a [u8]) -> (Element<'a>, usize) {
        let mut reader = ElementReader::default();
        let n_read = walk(object, |key, token| {
            reader.take(key, token);
            true
        });
        reader.settle();
        for (page, _) in &mut reader.element.contents {
            if *page == 0 {
                *page = reader.page;
            }
        }
        (reader.element, n_read)
    }
}

#[derive(Default)]
struct ElementReader<'a> {
    element: Element<'a>,
    page: u32,
    key: &'a [u8],
    /// Numbers of which it is not known yet what they are: `7 0 R` is an object, `7` marked content.
    numbers: Vec<u32>,
    /// Of marked content that has a dictionary of its own: the key, its page, its number.
    own_key: &'a [u8],
    own_page: u32,
    own_content: Option<u32>,
}

impl<'a> ElementReader<'a> {
    fn take(&mut self, key: &'a [u8], token: Token<'a>) {
        if key != self.key {
            self.settle();
            self.key = key;
        }
        match token {
            Token::Word(b"R") => {
                self.numbers.pop();
                self.refer(self.numbers.last().copied().unwrap_or_default());
                self.numbers.pop();
            }
            Token::Word(word) => {
                let number = std::str::from_utf8(word).ok();
                self.numbers
                    .extend(number.and_then(|number| number.parse::<u32>().ok()));
            }
            Token::Name(name) => {
                self.settle();
                self.own_key = name;
                if key == b"S" {
                    self.element.kind = name;
                }
            }
            Token::Open | Token::Close | Token::String => self.settle(),
        }
    }

    fn refer(&mut self, number: u32) {
        match (self.key, self.own_key) {
            (b"P", _) => self.element.parent = number,
            (b"Pg", _) => self.page = number,
            (b"K", b"") => self.element.children.push(number),
            (b"K", b"Pg") => self.own_page = number,
            _ => {}
        }
    }

    /// What was read belongs together: numbers that were not part of a reference are marked content.
    fn settle(&mut self) {
        match (self.key, self.own_key) {
            (b"K", b"") => {
                if let Some(content) = self.own_content.take() {
                    self.element
                        .contents
                        .push((std::mem::take(&mut self.own_page), content));
                }
                let contents = self.numbers.iter().map(|&content| (0, content));
                self.element.contents.extend(contents);
            }
            (b"K", b"MCID") => self.own_content = self.numbers.last().copied(),
            _ => {}
        }
        self.own_key = b"";
        self.numbers.clear();
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
            assert_eq!(String::from_utf8_lossy(&hidden.bytes), expected);
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
            let struck_out = struck_out(&stream);
            assert!(struck_out.iter().all(|(_, element)| element.kind == b"P"));
            let numbers: Vec<u32> = struck_out.iter().map(|(number, _)| *number).collect();
            numbers
        };
        assert_eq!(check("1 0 2 24 30 38 ", &[2]), [1, 30]);
        assert_eq!(check("\n1  24\r\n2 24 3 0", &[1, 2]), [3]);
        // A table that is not understood is left to lopdf.
        assert_eq!(check("1 0 % 2 3\n2 24 ", &[1, 2]), [0; 0]);
        assert_eq!(check("1 0 2 24 3 99999", &[2]), [1]);
    }

    #[test]
    fn elements_name_what_belongs_to_them() {
        let check =
            |object: &str, kind: &str, parent, children: &[u32], contents: &[(u32, u32)]| {
                let expected = Element {
                    kind: kind.as_bytes(),
                    parent,
                    children: children.to_vec(),
                    contents: contents.to_vec(),
                };
                assert_eq!(Element::read(object.as_bytes()).0, expected, "{object}");
            };
        check("<</S/H1/P 7 0 R/K 3/Pg 9 0 R>>", "H1", 7, &[], &[(9, 3)]);
        check(
            "<</K[3 4]/Pg 9 0 R/S/P/T(K 1)>>",
            "P",
            0,
            &[],
            &[(9, 3), (9, 4)],
        );
        check("<</S /TR /K [ 11 0 R 12 0 R ] >>", "TR", 0, &[11, 12], &[]);
        check(
            "<</S/P/Pg 9 0 R/K[5 <</Type/MCR/MCID 6/Pg 8 0 R>> 11 0 R <</Type/MCR/MCID 7>> 1]>>",
            "P",
            0,
            &[11],
            &[(9, 5), (8, 6), (9, 7), (9, 1)],
        );
        check(
            "<</S/Link/K<</Type/OBJR/Obj 5 0 R/Pg 9 0 R>>>>",
            "Link",
            0,
            &[],
            &[],
        );
        check("<</S/P/A<</K 3/P 4 0 R>>", "P", 0, &[], &[]);
        check("<<", "", 0, &[], &[]);
    }
}
