//! Embedded font programs → text, for fonts whose dictionaries do not say what their glyphs mean.

use std::collections::HashMap;

use ttf_parser::{GlyphId, PlatformId, RawFace, Tag, cff, cmap, post};

use super::glyph_names::GlyphNames;

/// Glyph numbers → text, from the program's own character map or glyph names.
pub(super) type GlyphTexts = HashMap<u32, String>;

/// What a TrueType or OpenType program calls its glyphs.
pub(super) fn texts_of_open_type(program: &[u8], names: &GlyphNames) -> GlyphTexts {
    let mut texts = GlyphTexts::new();
    let Ok(face) = RawFace::parse(program, 0) else {
        return texts;
    };
    let subtables = face
        .table(Tag::from_bytes(b"cmap"))
        .and_then(cmap::Table::parse);
    for subtable in subtables.iter().flat_map(|table| table.subtables) {
        if !subtable.is_unicode() {
            continue;
        }
        // Every character of the basic plane is asked for, because the tables of a hostile file may list billions.
        for character in ' '..='\u{FFFF}' {
            if let Some(glyph) = subtable.glyph_index(u32::from(character)) {
                texts
                    .entry(u32::from(glyph.0))
                    .or_insert_with(|| character.to_string());
            }
        }
    }
    if let Some(table) = face
        .table(Tag::from_bytes(b"post"))
        .and_then(post::Table::parse)
    {
        for glyph in 0..u16::MAX {
            let Some(name) = table.glyph_name(GlyphId(glyph)) else {
                break;
            };
            if let Some(text) = names.text(name.as_bytes()) {
                texts.entry(u32::from(glyph)).or_insert(text);
            }
        }
    }
    if let Some(table) = face.table(Tag::from_bytes(b"CFF ")) {
        for (glyph, text) in texts_of_cff(table, names) {
            texts.entry(glyph).or_insert(text);
        }
    }
    texts
}

/// What a bare CFF program calls its glyphs; nothing if it numbers them (CID-keyed).
pub(super) fn texts_of_cff(program: &[u8], names: &GlyphNames) -> GlyphTexts {
    let mut texts = GlyphTexts::new();
    let Some(table) = cff::Table::parse(program) else {
        return texts;
    };
    for glyph in 0..table.number_of_glyphs() {
        let name = table.glyph_name(GlyphId(glyph));
        if let Some(text) = name.and_then(|name| names.text(name.as_bytes())) {
            texts.insert(u32::from(glyph), text);
        }
    }
    texts
}

/// The built-in encoding of a TrueType program used with one-byte codes.
pub(super) fn encoding_of_true_type(program: &[u8], names: &GlyphNames) -> Vec<Option<String>> {
    let texts = texts_of_open_type(program, names);
    let face = RawFace::parse(program, 0).ok();
    let table = face
        .as_ref()
        .and_then(|face| face.table(Tag::from_bytes(b"cmap")))
        .and_then(cmap::Table::parse);
    let glyph_of = |code: u8| {
        let subtables = table.as_ref()?.subtables.into_iter();
        let mut by_code = subtables.filter(|subtable| {
            subtable.platform_id == PlatformId::Macintosh
                || (subtable.platform_id == PlatformId::Windows && subtable.encoding_id == 0)
        });
        by_code.find_map(|subtable| {
            let symbolic = subtable.glyph_index(0xF000 | u32::from(code));
            symbolic.or_else(|| subtable.glyph_index(u32::from(code)))
        })
    };
    (0..=u8::MAX)
        .map(|code| texts.get(&u32::from(glyph_of(code)?.0)).cloned())
        .collect()
}

/// The built-in encoding of a CFF program.
pub(super) fn encoding_of_cff(program: &[u8], names: &GlyphNames) -> Vec<Option<String>> {
    let table = cff::Table::parse(program);
    (0..=u8::MAX)
        .map(|code| {
            let table = table.as_ref()?;
            let name = table.glyph_name(table.glyph_index(code)?)?;
            names.text(name.as_bytes())
        })
        .collect()
}

/// The built-in encoding of a Type 1 program: the `dup 65 /A put` lines of its readable part.
pub(super) fn encoding_of_type1(program: &[u8], names: &GlyphNames) -> Vec<Option<String>> {
    let mut texts = vec![None; 256];
    let readable_end = program
        .windows(5)
        .position(|window| window == b"eexec")
        .unwrap_or(program.len());
    let readable = String::from_utf8_lossy(program.get(..readable_end).unwrap_or_default());
    let spaced = readable.replace('/', " /");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    for window in words.windows(4) {
        if let ["dup", code, name, "put"] = window
            && let (Ok(code), Some(name)) = (code.parse::<usize>(), name.strip_prefix('/'))
            && let Some(slot) = texts.get_mut(code)
        {
            *slot = names.text(name.as_bytes());
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type1_program_lists_its_codes() {
        let program =
            b"%!PS-AdobeFont-1.0\n/Encoding 256 array\n0 1 255 {1 index exch /.notdef put} for\n\
            dup 1/A put\ndup 2 /uniD734 put\ndup 999 /B put\nreadonly def eexec dup 3 /C put";
        let texts = encoding_of_type1(program, &GlyphNames::new());
        assert_eq!(texts[1].as_deref(), Some("A"));
        assert_eq!(texts[2].as_deref(), Some("휴"));
        assert_eq!(texts[3], None);
    }

    #[test]
    fn what_is_no_font_has_no_texts() {
        let names = GlyphNames::new();
        for bytes in [&b""[..], b"OTTO", b"\x01\x00\x04\x01garbage", &[0; 64]] {
            assert!(texts_of_open_type(bytes, &names).is_empty());
            assert!(texts_of_cff(bytes, &names).is_empty());
            assert!(
                encoding_of_true_type(bytes, &names)
                    .iter()
                    .all(Option::is_none)
            );
        }
    }
}
