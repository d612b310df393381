//! Glyph names and one-byte encodings → text.

use lopdf::{Dictionary, Document, Object, dictionary};

/// The text of each of the 256 codes of a one-byte encoding.
pub(super) type CodeTexts = Vec<Option<String>>;

/// Looks names up in lopdf's copy of the Adobe Glyph List, which it shows only through font dictionaries.
#[derive(Debug)]
pub(super) struct GlyphNames {
    empty: Document,
}

impl GlyphNames {
    pub(super) fn new() -> GlyphNames {
        GlyphNames {
            empty: Document::new(),
        }
    }

    /// The text of a glyph name: the Adobe Glyph List, `uniAC00`, `u1F600`, parts joined by `_`, suffixes after `.` dropped.
    pub(super) fn text(&self, name: &[u8]) -> Option<String> {
        let name = std::str::from_utf8(name).ok()?;
        let base = name.split('.').next().filter(|base| !base.is_empty())?;
        let mut text = String::new();
        for part in base.split('_') {
            match self.listed(part) {
                Some(listed) => text.push_str(&listed),
                None => text.push_str(&by_number(part)?),
            }
        }
        Some(text)
    }

    /// `StandardEncoding`, `WinAnsiEncoding`, `MacRomanEncoding` or `MacExpertEncoding`; any other name is empty.
    pub(super) fn encoding(&self, name: &[u8]) -> CodeTexts {
        let font = dictionary! { "Type" => "Font", "Encoding" => Object::Name(name.to_vec()) };
        let known = [
            &b"StandardEncoding"[..],
            b"WinAnsiEncoding",
            b"MacRomanEncoding",
            b"MacExpertEncoding",
        ];
        (0..=u8::MAX)
            .map(|code| known.contains(&name).then(|| self.decode(&font, code))?)
            .collect()
    }

    fn listed(&self, name: &str) -> Option<String> {
        let differences = vec![Object::Integer(0), Object::Name(name.as_bytes().to_vec())];
        let font = dictionary! {
            "Type" => "Font",
            "Encoding" => dictionary! { "Differences" => differences },
        };
        self.decode(&font, 0)
    }

    fn decode(&self, font: &Dictionary, code: u8) -> Option<String> {
        let encoding = font.get_font_encoding(&self.empty).ok()?;
        let text = encoding.bytes_to_string(&[code]).ok()?;
        (!text.is_empty()).then_some(text)
    }
}

/// `uniAC00AC01` and `uAC00`.
fn by_number(name: &str) -> Option<String> {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = name.strip_prefix("uni")
        && digits.len() >= 4
        && digits.len().is_multiple_of(4)
        && is_hex(digits)
    {
        let (groups, _) = digits.as_bytes().as_chunks::<4>();
        let units = groups
            .iter()
            .map(|group| u16::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok());
        return String::from_utf16(&units.collect::<Option<Vec<u16>>>()?).ok();
    }
    let digits = name.strip_prefix('u')?;
    if !(4..=6).contains(&digits.len()) || !is_hex(digits) {
        return None;
    }
    let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some(character.to_string())
}

/// Codes of the Symbol font from 0x20 to 0x7E, as its own encoding shows them.
const SYMBOL: &str = " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼";

/// Codes of the Symbol font that office documents use as bullets and operators.
const SYMBOL_HIGH: &[(u8, char)] = &[
    (0xA3, '≤'),
    (0xA5, '∞'),
    (0xA8, '♦'),
    (0xAB, '↔'),
    (0xAC, '←'),
    (0xAD, '↑'),
    (0xAE, '→'),
    (0xAF, '↓'),
    (0xB0, '°'),
    (0xB1, '±'),
    (0xB3, '≥'),
    (0xB4, '×'),
    (0xB7, '•'),
    (0xB8, '÷'),
    (0xB9, '≠'),
    (0xBB, '≈'),
    (0xBC, '…'),
    (0xC5, '⊕'),
    (0xC7, '∩'),
    (0xC8, '∪'),
    (0xDE, '⇒'),
    (0xE5, '∑'),
];

/// Codes of ZapfDingbats and Wingdings that office documents use as bullets and boxes.
const DINGBATS: &[(u8, char)] = &[
    (0x33, '✓'),
    (0x34, '✔'),
    (0x6C, '●'),
    (0x6E, '■'),
    (0x6F, '□'),
    (0x70, '□'),
    (0x71, '□'),
    (0x75, '◆'),
    (0x76, '❖'),
    (0x77, '◆'),
    (0x9F, '•'),
    (0xA1, '○'),
    (0xA4, '◉'),
    (0xA7, '▪'),
    (0xA8, '□'),
    (0xD8, '➢'),
    (0xE0, '→'),
    (0xE8, '➔'),
    (0xF0, '⇨'),
    (0xFB, '✗'),
    (0xFC, '✓'),
    (0xFE, '☑'),
];

/// The text of a code of a font that draws symbols in place of letters, by the font's name.
pub(super) fn symbol(font_name: &str, code: u8) -> Option<char> {
    let listed = |list: &[(u8, char)]| {
        let entry = list.iter().find(|(listed, _)| *listed == code)?;
        Some(entry.1)
    };
    if font_name.contains("Symbol") {
        let index = usize::from(code).checked_sub(0x20)?;
        return SYMBOL.chars().nth(index).or_else(|| listed(SYMBOL_HIGH));
    }
    if font_name.contains("Dingbats") || font_name.contains("Wingdings") {
        return listed(DINGBATS).or((code > 0x20).then_some('•'));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_text() {
        let names = GlyphNames::new();
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(names.text(name.as_bytes()).as_deref(), expected, "{name}");
        };
        check("A", Some("A"));
        check("eacute", Some("é"));
        check("uniD734", Some("휴"));
        check("uniD734C9C1", Some("휴직"));
        check("u1F600", Some("😀"));
        check("a.sc", Some("a"));
        check("f_i", Some("fi"));
        check(".notdef", None);
        check("g123", None);
        check("uniXYZW", None);
    }

    #[test]
    fn encodings_have_their_codes() {
        let names = GlyphNames::new();
        let windows = names.encoding(b"WinAnsiEncoding");
        assert_eq!(windows.len(), 256);
        assert_eq!(windows[0x93].as_deref(), Some("“"));
        assert!(names.encoding(b"Identity-H").iter().all(Option::is_none));
    }

    #[test]
    fn symbol_fonts_show_symbols() {
        assert_eq!(symbol("ABCDEF+Symbol", b'a'), Some('α'));
        assert_eq!(symbol("Symbol", 0xB7), Some('•'));
        assert_eq!(symbol("Wingdings-Regular", 0xA7), Some('▪'));
        assert_eq!(symbol("Batang", b'a'), None);
        assert_eq!(SYMBOL.chars().count(), 95);
    }
}
