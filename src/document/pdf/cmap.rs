//! Character maps: which bytes of a string are one code, which glyph (CID) a code shows, which text it stands for.
//!
//! Maps inside the file (`/ToUnicode`, an embedded `/Encoding`) are read leniently: a bad entry is left out, the others
//! count, because losing a whole font over one entry is worse. The maps that PDF only names (`KSCms-UHC-H`,
//! `Adobe-Korea1-UCS2`, …) come from `hayro-cmap`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

use hayro_cmap::{BfString, CMap, CMapName, load_embedded};

use super::lexer::{Cursor, Lexer, Operand};

/// How many ranges before the nearest one are tried, for files whose ranges overlap.
const OVERLAPPING_RANGES: usize = 4;

/// A character map read from a stream of the file.
#[derive(Debug, Default)]
pub(super) struct EmbeddedMap {
    /// Byte length and range of the codes.
    codespaces: Vec<(usize, RangeInclusive<u32>)>,
    cids: Vec<(RangeInclusive<u32>, u32)>,
    texts: HashMap<u32, Box<str>>,
    text_ranges: Vec<(RangeInclusive<u32>, Box<str>)>,
    /// The predefined map that this one extends.
    pub(super) base: Option<Vec<u8>>,
    /// Whether the text runs down the page.
    pub(super) vertical: bool,
}

impl EmbeddedMap {
    /// Reads a map; what is no entry is left out.
    pub(super) fn parse(source: &[u8]) -> EmbeddedMap {
        let mut map = EmbeddedMap::default();
        let mut lexer = Lexer::default();
        let mut cursor = Cursor::new(source);
        while let Some(operator) = lexer.next_operator(&mut cursor) {
            match operator {
                b"endcodespacerange" => map.add_codespaces(&lexer),
                b"endbfchar" => map.add_texts(&lexer),
                b"endbfrange" => map.add_text_ranges(&lexer),
                b"endcidchar" => map.add_cids(&lexer),
                b"endcidrange" => map.add_cid_ranges(&lexer),
                b"usecmap" => {
                    if let Some(Operand::Name(name)) = lexer.operands.last() {
                        map.base = Some(lexer.bytes(name).to_vec());
                    }
                }
                b"def" => {
                    if let [.., Operand::Name(name), Operand::Number(value)] = &*lexer.operands
                        && lexer.bytes(name) == b"WMode"
                    {
                        map.vertical = *value == 1.0;
                    }
                }
                _ => {}
            }
        }
        map.cids.sort_by_key(|(codes, _)| *codes.start());
        map.text_ranges.sort_by_key(|(codes, _)| *codes.start());
        map
    }

    /// The text of a code, if the map names one.
    pub(super) fn text(&self, code: u32) -> Option<String> {
        if let Some(text) = self.texts.get(&code) {
            return Some(text.to_string());
        }
        let (codes, first) = find(&self.text_ranges, code)?;
        let offset = code - codes.start();
        let last = first.chars().next_back()?;
        let last = char::from_u32(u32::from(last).checked_add(offset)?)?;
        let mut text: String = first.chars().collect();
        text.pop();
        text.push(last);
        Some(text)
    }

    /// The CID of a code.
    pub(super) fn cid(&self, code: u32) -> Option<u32> {
        let (codes, first) = find(&self.cids, code)?;
        first.checked_add(code - codes.start())
    }

    /// How many bytes the first code of `bytes` has, by the code space ranges; `None` if they do not say.
    pub(super) fn code_length(&self, bytes: &[u8]) -> Option<usize> {
        let mut code = 0_u32;
        for (index, &byte) in bytes.iter().take(4).enumerate() {
            code = code << 8 | u32::from(byte);
            let n_bytes = index + 1;
            let mut spaces = self.codespaces.iter();
            if spaces.any(|(length, codes)| *length == n_bytes && codes.contains(&code)) {
                return Some(n_bytes);
            }
        }
        self.codespaces.iter().map(|(length, _)| *length).min()
    }

    fn add_codespaces(&mut self, lexer: &Lexer) {
        for pair in lexer.operands.chunks_exact(2) {
            if let [Operand::String(low), Operand::String(high)] = pair
                && let (Some(from), Some(to)) = (code(lexer.bytes(low)), code(lexer.bytes(high)))
            {
                self.codespaces.push((low.len(), from..=to));
            }
        }
    }

    fn add_texts(&mut self, lexer: &Lexer) {
        for pair in lexer.operands.chunks_exact(2) {
            if let [Operand::String(from), Operand::String(text)] = pair
                && let Some(from) = code(lexer.bytes(from))
            {
                self.texts.insert(from, utf16(lexer.bytes(text)));
            }
        }
    }

    fn add_text_ranges(&mut self, lexer: &Lexer) {
        let mut operands = lexer.operands.iter();
        while let Some(low) = operands.next() {
            let (Operand::String(low), Some(Operand::String(high))) = (low, operands.next()) else {
                continue;
            };
            let bounds = (code(lexer.bytes(low)), code(lexer.bytes(high)));
            match (bounds, operands.next()) {
                ((Some(low), Some(high)), Some(Operand::String(text))) => {
                    let text = utf16(lexer.bytes(text));
                    self.text_ranges.push((low..=high, text));
                }
                ((Some(low), _), Some(Operand::Other)) => {
                    for (from, operand) in (low..).zip(operands.by_ref()) {
                        let Operand::String(text) = operand else {
                            break;
                        };
                        self.texts.insert(from, utf16(lexer.bytes(text)));
                    }
                }
                _ => {}
            }
        }
    }

    fn add_cids(&mut self, lexer: &Lexer) {
        for pair in lexer.operands.chunks_exact(2) {
            if let [Operand::String(from), Operand::Number(cid)] = pair
                && let Some(from) = code(lexer.bytes(from))
            {
                self.cids.push((from..=from, whole(*cid)));
            }
        }
    }

    fn add_cid_ranges(&mut self, lexer: &Lexer) {
        for triple in lexer.operands.chunks_exact(3) {
            if let [
                Operand::String(low),
                Operand::String(high),
                Operand::Number(cid),
            ] = triple
                && let (Some(low), Some(high)) = (code(lexer.bytes(low)), code(lexer.bytes(high)))
            {
                self.cids.push((low..=high, whole(*cid)));
            }
        }
    }
}

/// The range that holds `code`, in a list sorted by the ranges' starts.
fn find<T>(ranges: &[(RangeInclusive<u32>, T)], code: u32) -> Option<&(RangeInclusive<u32>, T)> {
    let after = ranges.partition_point(|(codes, _)| *codes.start() <= code);
    let before = ranges.get(..after)?.iter().rev();
    before
        .take(OVERLAPPING_RANGES)
        .find(|(codes, _)| codes.contains(&code))
}

/// A code's bytes as a number; `None` for no bytes or more than four.
fn code(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    let value = |code: u32, &byte: &u8| code << 8 | u32::from(byte);
    Some(bytes.iter().fold(0, value))
}

/// Big-endian UTF-16; one lone byte counts as one unit, as some producers write it.
fn utf16(bytes: &[u8]) -> Box<str> {
    if let [byte] = bytes {
        return char::from(*byte).to_string().into();
    }
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect();
    String::from_utf16_lossy(&units).into()
}

/// A CID operand; CIDs have 16 bits.
fn whole(number: f32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the 16 bits of a CID; a fraction has no meaning"
    )]
    let cid = number.clamp(0.0, 65_535.0) as u32;
    cid
}

/// The maps that PDF only names, each unpacked when first asked for.
#[derive(Debug, Default)]
pub(super) struct PredefinedMaps {
    loaded: RefCell<HashMap<Vec<u8>, Option<Rc<CMap>>>>,
}

impl PredefinedMaps {
    /// The map of this name; `None` if PDF defines none.
    pub(super) fn get(&self, name: &[u8]) -> Option<Rc<CMap>> {
        if let Some(known) = self.loaded.borrow().get(name) {
            return known.clone();
        }
        let map = load_embedded(CMapName::from_bytes(name))
            .and_then(|bytes| CMap::parse(bytes, load_embedded))
            .map(Rc::new);
        self.loaded.borrow_mut().insert(name.to_vec(), map.clone());
        map
    }
}

/// The text of a CID, by a map from CIDs to Unicode (`Adobe-Korea1-UCS2`).
pub(super) fn text_of_cid(map: &CMap, cid: u32) -> Option<String> {
    match map.lookup_bf_string(cid)? {
        BfString::Char(character) => Some(character.to_string()),
        BfString::String(text) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_code() {
        let map = EmbeddedMap::parse(
            b"/CIDInit /ProcSet findresource begin begincmap\n\
              1 begincodespacerange <0000> <FFFF> endcodespacerange\n\
              2 beginbfchar <0003> <0020> <0024> <D734> endbfchar\n\
              3 beginbfrange <0030> <0032> <AC00> <0040> <0041> [<00660069> <C9C1>]\n\
              <0050> <0050> <D83DDE00> endbfrange endcmap",
        );
        let check = |code, expected: Option<&str>| {
            assert_eq!(map.text(code).as_deref(), expected, "{code:04x}");
        };
        check(0x03, Some(" "));
        check(0x24, Some("휴"));
        check(0x32, Some("갂"));
        check(0x40, Some("fi"));
        check(0x41, Some("직"));
        check(0x50, Some("😀"));
        check(0x60, None);
    }

    #[test]
    fn a_bad_entry_costs_only_itself() {
        let map = EmbeddedMap::parse(
            b"3 beginbfchar <01> <AC00> <0102030405> <AC01> <02> <AC02> endbfchar \
              beginbfrange <05> 7 <06> <07> <AC05> endbfrange",
        );
        assert_eq!(map.text(1).as_deref(), Some("가"));
        assert_eq!(map.text(2).as_deref(), Some("갂"));
        assert_eq!(map.text(7).as_deref(), Some("갆"));
    }

    #[test]
    fn codes_of_mixed_length_are_told_apart() {
        let map = EmbeddedMap::parse(
            b"2 begincodespacerange <00> <80> <8140> <FEFE> endcodespacerange \
              1 begincidrange <8141> <8143> 100 endcidrange 1 begincidchar <20> 1 endcidchar \
              /WMode 1 def /KSC-EUC-H usecmap",
        );
        assert_eq!(map.code_length(b"A\x81\x41"), Some(1));
        assert_eq!(map.code_length(b"\x81\x41A"), Some(2));
        assert_eq!(map.cid(0x8143), Some(102));
        assert_eq!(map.cid(0x20), Some(1));
        assert_eq!(map.base.as_deref(), Some(&b"KSC-EUC-H"[..]));
        assert!(map.vertical);
    }

    #[test]
    fn korean_maps_are_there() {
        let maps = PredefinedMaps::default();
        let uhc = maps.get(b"KSCms-UHC-H").unwrap();
        let cid = uhc.lookup_cid_code(0xC8DE, 2).unwrap();
        let korea1 = maps.get(b"Adobe-Korea1-UCS2").unwrap();
        assert_eq!(text_of_cid(&korea1, cid).as_deref(), Some("휴"));
        assert!(maps.get(b"No-Such-Map").is_none());
    }
}
