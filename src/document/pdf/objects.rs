//! Reading values out of lopdf's objects: references are followed, a value of the wrong type counts as absent.

use encoding_rs::{EUC_KR, UTF_16BE, UTF_16LE};
use flate2::{Decompress, FlushDecompress, Status};
use lopdf::{Dictionary, Document, Object, Stream};

/// Bytes by which the room for an unpacked stream grows at least.
const MIN_ROOM: usize = 1 << 10;

/// The value of a key, references followed.
pub(super) fn value<'a>(
    document: &'a Document,
    dictionary: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Object> {
    resolve(document, dictionary.get(key).ok()?)
}

/// The object itself, references followed; `None` for a dangling reference or `null`.
pub(super) fn resolve<'a>(document: &'a Document, object: &'a Object) -> Option<&'a Object> {
    let (_, object) = document.dereference(object).ok()?;
    (!object.is_null()).then_some(object)
}

/// A dictionary under a key (a stream counts as its dictionary).
pub(super) fn dictionary<'a>(
    document: &'a Document,
    parent: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Dictionary> {
    as_dictionary(value(document, parent, key)?)
}

/// The dictionary that an object is, or carries as a stream.
pub(super) fn as_dictionary(object: &Object) -> Option<&Dictionary> {
    match object.as_stream() {
        Ok(stream) => Some(&stream.dict),
        Err(_) => object.as_dict().ok(),
    }
}

/// A stream under a key.
pub(super) fn stream<'a>(
    document: &'a Document,
    parent: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Stream> {
    value(document, parent, key)?.as_stream().ok()
}

/// An array under a key.
pub(super) fn array<'a>(
    document: &'a Document,
    parent: &'a Dictionary,
    key: &[u8],
) -> Option<&'a [Object]> {
    value(document, parent, key)?
        .as_array()
        .ok()
        .map(Vec::as_slice)
}

/// A name under a key.
pub(super) fn name<'a>(
    document: &'a Document,
    parent: &'a Dictionary,
    key: &[u8],
) -> Option<&'a [u8]> {
    value(document, parent, key)?.as_name().ok()
}

/// An integer under a key.
pub(super) fn integer(document: &Document, parent: &Dictionary, key: &[u8]) -> Option<i64> {
    let object = value(document, parent, key)?;
    object.as_i64().ok().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "some producers write whole numbers as reals; the cast saturates"
        )]
        let whole = object.as_float().ok()? as i64;
        Some(whole)
    })
}

/// A number under a key.
pub(super) fn number(document: &Document, parent: &Dictionary, key: &[u8]) -> Option<f32> {
    value(document, parent, key)?.as_float().ok()
}

/// Exactly `N` numbers under a key.
pub(super) fn numbers<const N: usize>(
    document: &Document,
    parent: &Dictionary,
    key: &[u8],
) -> Option<[f32; N]> {
    let array = array(document, parent, key)?;
    let mut found = [0.0; N];
    if array.len() < N {
        return None;
    }
    for (slot, object) in found.iter_mut().zip(array) {
        *slot = resolve(document, object)?.as_float().ok()?;
    }
    Some(found)
}

/// A stream's bytes with its filters undone, at most `max_bytes`; what a damaged filter still gave is kept.
pub(super) fn bytes(stream: &Stream, max_bytes: usize) -> Option<Vec<u8>> {
    inflated(stream, max_bytes).or_else(|| stream.get_plain_content_with_limit(max_bytes).ok())
}

/// What a sound stream holds whose only filter is the usual one. lopdf undoes any filter and repairs what it can, but
/// clears each buffer before it fills it.
fn inflated(stream: &Stream, max_bytes: usize) -> Option<Vec<u8>> {
    if stream.filters().ok()? != [b"FlateDecode"] || stream.dict.has(b"DecodeParms") {
        return None;
    }
    let mut inflater = Decompress::new(true);
    let mut bytes = Vec::with_capacity(stream.content.len().saturating_mul(4).min(max_bytes));
    loop {
        let n_read = usize::try_from(inflater.total_in()).ok()?;
        let rest = stream.content.get(n_read..)?;
        let status = inflater.decompress_vec(rest, &mut bytes, FlushDecompress::None);
        match status.ok()? {
            Status::StreamEnd if bytes.len() <= max_bytes => return Some(bytes),
            Status::Ok | Status::BufError
                if bytes.len() == bytes.capacity() && bytes.len() <= max_bytes =>
            {
                bytes.reserve(bytes.len().max(MIN_ROOM));
            }
            Status::StreamEnd | Status::Ok | Status::BufError => return None,
        }
    }
}

/// A text string (`/Title`, `/Contents`, `/ActualText`): UTF-16 or UTF-8 by its mark, else CP949 if it reads as Korean,
/// as old Korean producers write it, else Latin-1.
pub(super) fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xFE, 0xFF, rest @ ..] => UTF_16BE.decode_without_bom_handling(rest).0.into_owned(),
        [0xFF, 0xFE, rest @ ..] => UTF_16LE.decode_without_bom_handling(rest).0.into_owned(),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ if bytes.is_ascii() => String::from_utf8_lossy(bytes).into_owned(),
        _ => {
            let korean = EUC_KR.decode_without_bom_handling_and_without_replacement(bytes);
            let is_hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
            match (std::str::from_utf8(bytes), korean) {
                (Ok(text), _) => text.to_owned(),
                (Err(_), Some(text)) if is_hangul(&text) => text.into_owned(),
                (Err(_), _) => bytes.iter().copied().map(char::from).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopdf::dictionary;

    #[test]
    fn text_strings_are_read_in_every_encoding() {
        let check = |bytes: &[u8], expected| assert_eq!(text_string(bytes), expected);
        check(b"Rules", "Rules");
        check(b"\xFE\xFF\xD7\x34\xC9\xC1", "휴직");
        check(b"\xFF\xFE\x34\xD7\xC1\xC9", "휴직");
        check(b"\xEF\xBB\xBF\xED\x9C\xB4", "휴");
        check("휴직".as_bytes(), "휴직");
        check(b"\xC8\xDE\xC1\xF7", "휴직");
        check(b"caf\xE9", "café");
    }

    #[test]
    fn a_value_of_the_wrong_type_counts_as_absent() {
        let mut document = Document::new();
        let id = document.add_object(Object::Integer(7));
        let parent = dictionary! {
            "Real" => 2.0, "Referred" => id, "Dangling" => (99, 0), "Name" => "N",
            "Box" => vec![0.into(), 1.5.into(), id.into()],
        };
        assert_eq!(integer(&document, &parent, b"Real"), Some(2));
        assert_eq!(integer(&document, &parent, b"Referred"), Some(7));
        assert_eq!(integer(&document, &parent, b"Dangling"), None);
        assert_eq!(integer(&document, &parent, b"Name"), None);
        let corner = numbers::<3>(&document, &parent, b"Box");
        assert_eq!(corner, Some([0.0, 1.5, 7.0]));
        assert_eq!(numbers::<4>(&document, &parent, b"Box"), None);
    }
}
