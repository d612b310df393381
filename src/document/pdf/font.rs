//! A font dictionary → for each code of a string its text and its advance.
//!
//! The text of a code is looked for in this order: `/ToUnicode`; what the encoding itself says (glyph names, a
//! predefined Unicode map); the character collection (`Adobe-Korea1`); the embedded font program. A code that none of
//! them knows has no text, and the reader of the page counts it. Font programs and collections are unpacked only when a
//! code needs them.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use hayro_cmap::CMap;
use lopdf::{Dictionary, Document, Object};

use super::cmap::{EmbeddedMap, PredefinedMaps, text_of_cid};
use super::font_program::{
    GlyphTexts, encoding_of_cff, encoding_of_true_type, encoding_of_type1, texts_of_cff,
    texts_of_open_type,
};
use super::glyph_names::{CodeTexts, GlyphNames, symbol};
use super::objects;
use super::quick_hash::QuickHash;
use super::standard_widths;

/// Flags of a font descriptor (PDF 32000-1, table 123).
const FLAG_SYMBOLIC: i64 = 1 << 2;
const FLAG_FORCE_BOLD: i64 = 1 << 18;

/// Stem width from which a font counts as bold, in thousandths of an em; text faces have 70 to 100.
const BOLD_STEM: f32 = 135.0;

/// What all fonts of a document share.
pub(super) struct FontSource<'a> {
    pub(super) document: &'a Document,
    names: GlyphNames,
    maps: PredefinedMaps,
    max_part_bytes: usize,
    loaded: RefCell<HashMap<*const Dictionary, Rc<Font<'a>>>>,
}

impl<'a> FontSource<'a> {
    pub(super) fn new(document: &'a Document, max_part_bytes: usize) -> FontSource<'a> {
        FontSource {
            document,
            names: GlyphNames::new(),
            maps: PredefinedMaps::default(),
            max_part_bytes,
            loaded: RefCell::default(),
        }
    }

    /// The font of a dictionary, loaded once for the whole document.
    pub(super) fn font(&self, dictionary: &'a Dictionary) -> Rc<Font<'a>> {
        let key = std::ptr::from_ref(dictionary);
        if let Some(font) = self.loaded.borrow().get(&key) {
            return Rc::clone(font);
        }
        let font = Rc::new(Font::load(self, dictionary));
        self.loaded.borrow_mut().insert(key, Rc::clone(&font));
        font
    }

    fn stream_bytes(&self, parent: &'a Dictionary, key: &[u8]) -> Option<Vec<u8>> {
        objects::bytes(
            objects::stream(self.document, parent, key)?,
            self.max_part_bytes,
        )
    }
}

/// One code of a string.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Glyph {
    /// What the code stands for; `None` if nothing says so. May be empty.
    pub(super) text: Option<Rc<str>>,
    /// How far it moves on, in em (along the page for horizontal, down for vertical fonts).
    pub(super) advance: f32,
}

/// A font ready to decode strings.
pub(super) struct Font<'a> {
    /// Whether its weight is that of headings.
    pub(super) bold: bool,
    /// Whether its text runs down the page.
    pub(super) vertical: bool,
    /// How large an em looks, in units of the font size: 1 but for Type 3 fonts drawn on a grid of their own.
    pub(super) em: f32,
    dictionary: &'a Dictionary,
    descriptor: Option<&'a Dictionary>,
    to_unicode: Option<ToUnicode>,
    codes: Codes<'a>,
    glyphs: RefCell<HashMap<u32, Glyph, QuickHash>>,
}

/// `/ToUnicode`.
enum ToUnicode {
    Map(Box<EmbeddedMap>),
    /// The codes are UTF-16 themselves (`/ToUnicode /Identity-H`).
    Identity,
}

enum Codes<'a> {
    OneByte(OneByte),
    Composite(Box<Composite<'a>>),
}

/// Simple fonts: Type 1, TrueType, Type 3.
struct OneByte {
    texts: CodeTexts,
    first_code: usize,
    widths: Vec<f32>,
    /// For codes outside `widths`, in em.
    default_width: f32,
    standard: Option<standard_widths::Widths>,
    /// Looked up only for codes that `texts` lacks.
    built_in: OnceCell<CodeTexts>,
}

/// Type 0 fonts.
struct Composite<'a> {
    descendant: &'a Dictionary,
    encoding: Encoding,
    /// The predefined map from CIDs to Unicode.
    collection: Option<&'static [u8]>,
    cids_are_unicode: bool,
    widths: CidWidths,
    program: OnceCell<GlyphTexts>,
    glyph_of_cid: OnceCell<Option<Vec<u8>>>,
}

enum Encoding {
    /// Two bytes, the CID itself.
    Identity,
    /// A map that PDF names.
    Predefined { map: Rc<CMap>, kind: PredefinedKind },
    /// A map in the file, which may extend one that PDF names.
    Embedded {
        map: Box<EmbeddedMap>,
        base: Option<Rc<CMap>>,
    },
}

/// How the codes of a predefined map are cut, and whether they are Unicode themselves.
#[derive(Clone, Copy, PartialEq)]
enum PredefinedKind {
    Ucs2,
    Utf16,
    Legacy,
}

#[derive(Default)]
struct CidWidths {
    default: f32,
    single: HashMap<u32, f32>,
    ranges: Vec<(u32, u32, f32)>,
}

impl<'a> Font<'a> {
    fn load(source: &FontSource<'a>, dictionary: &'a Dictionary) -> Font<'a> {
        let document = source.document;
        let descendant = objects::array(document, dictionary, b"DescendantFonts")
            .and_then(|fonts| objects::as_dictionary(objects::resolve(document, fonts.first()?)?));
        let owner = descendant.unwrap_or(dictionary);
        let descriptor = objects::dictionary(document, owner, b"FontDescriptor");
        let (codes, vertical) = match descendant {
            Some(descendant) => {
                let composite = Composite::load(source, dictionary, descendant);
                let vertical =
                    composite.is_vertical(objects::name(document, dictionary, b"Encoding"));
                (Codes::Composite(Box::new(composite)), vertical)
            }
            None => (
                Codes::OneByte(OneByte::load(source, dictionary, descriptor)),
                false,
            ),
        };
        Font {
            bold: is_bold(document, dictionary, descriptor),
            vertical,
            em: type3_em(document, dictionary),
            dictionary,
            descriptor,
            to_unicode: ToUnicode::load(source, dictionary),
            codes,
            glyphs: RefCell::default(),
        }
    }

    /// Calls `visit` for each code of a string, with the glyph and whether the code is the one byte 32, which word
    /// spacing applies to.
    pub(super) fn decode(
        &self,
        source: &FontSource<'a>,
        bytes: &[u8],
        mut visit: impl FnMut(&Glyph, bool),
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n_bytes = match &self.codes {
                Codes::OneByte(_) => 1,
                Codes::Composite(composite) => composite.code_length(rest),
            };
            let (head, tail) = rest.split_at(n_bytes.clamp(1, rest.len()));
            rest = tail;
            let code = head
                .iter()
                .fold(0_u32, |code, &byte| code << 8 | u32::from(byte));
            let is_space = head == b" ";
            if let Some(glyph) = self.glyphs.borrow().get(&code) {
                visit(glyph, is_space);
                continue;
            }
            let glyph = self.glyph(source, code, head.len());
            visit(&glyph, is_space);
            self.glyphs.borrow_mut().insert(code, glyph);
        }
    }

    fn glyph(&self, source: &FontSource<'a>, code: u32, n_bytes: usize) -> Glyph {
        let by_map = self
            .to_unicode
            .as_ref()
            .and_then(|map| map.text(code))
            .and_then(clean);
        let (text, advance) = match &self.codes {
            Codes::OneByte(simple) => (
                by_map.or_else(|| self.one_byte_text(source, simple, code)),
                simple.width(code),
            ),
            Codes::Composite(composite) => {
                let cid = composite.cid(code, n_bytes);
                let text = by_map.or_else(|| {
                    let text = composite.text(source, self.descriptor, code, cid);
                    text.and_then(clean)
                });
                let advance = match self.vertical {
                    // Nearly every font keeps the default: one em down.
                    true => 1.0,
                    false => composite.widths.width(cid),
                };
                (text, advance)
            }
        };
        Glyph {
            text: text.map(Rc::from),
            advance,
        }
    }

    fn one_byte_text(
        &self,
        source: &FontSource<'a>,
        simple: &OneByte,
        code: u32,
    ) -> Option<String> {
        let index = usize::try_from(code).ok()?;
        if let Some(text) = simple.texts.get(index)?.clone().and_then(clean) {
            return Some(text);
        }
        let built_in = simple
            .built_in
            .get_or_init(|| built_in_encoding(source, self.dictionary, self.descriptor));
        built_in.get(index)?.clone().and_then(clean)
    }
}

impl ToUnicode {
    fn load<'a>(source: &FontSource<'a>, dictionary: &'a Dictionary) -> Option<ToUnicode> {
        match objects::value(source.document, dictionary, b"ToUnicode")? {
            Object::Name(_) => Some(ToUnicode::Identity),
            Object::Stream(stream) => {
                let bytes = objects::bytes(stream, source.max_part_bytes)?;
                Some(ToUnicode::Map(Box::new(EmbeddedMap::parse(&bytes))))
            }
            Object::Null
            | Object::Boolean(_)
            | Object::Integer(_)
            | Object::Real(_)
            | Object::String(..)
            | Object::Array(_)
            | Object::Dictionary(_)
            | Object::Reference(_) => None,
        }
    }

    fn text(&self, code: u32) -> Option<String> {
        match self {
            ToUnicode::Map(map) => map.text(code),
            ToUnicode::Identity => char::from_u32(code).map(String::from),
        }
    }
}

impl OneByte {
    fn load<'a>(
        source: &FontSource<'a>,
        dictionary: &'a Dictionary,
        descriptor: Option<&'a Dictionary>,
    ) -> OneByte {
        let document = source.document;
        let font_name = base_font(document, dictionary);
        // Type 3 fonts measure in a space of their own.
        let unit = match objects::name(document, dictionary, b"Subtype") {
            Some(b"Type3") => objects::numbers::<6>(document, dictionary, b"FontMatrix")
                .map_or(0.001, |matrix| matrix[0].abs()),
            _ => 0.001,
        };
        let widths: Vec<f32> = objects::array(document, dictionary, b"Widths")
            .unwrap_or_default()
            .iter()
            .map(|width| {
                let width =
                    objects::resolve(document, width).and_then(|width| width.as_float().ok());
                width.unwrap_or(0.0) * unit
            })
            .collect();
        let first_code = objects::integer(document, dictionary, b"FirstChar").unwrap_or(0);
        let missing = descriptor
            .and_then(|descriptor| objects::number(document, descriptor, b"MissingWidth"))
            .map_or(0.5, |width| width * unit);
        OneByte {
            texts: declared_encoding(source, dictionary, descriptor, &font_name),
            first_code: usize::try_from(first_code).unwrap_or(0),
            standard: widths
                .is_empty()
                .then(|| standard_widths::of_font(&font_name)),
            widths,
            default_width: missing,
            built_in: OnceCell::new(),
        }
    }

    fn width(&self, code: u32) -> f32 {
        let code = usize::try_from(code).unwrap_or(usize::MAX);
        if let Some(standard) = self.standard {
            return standard.of_code(code);
        }
        let index = code.checked_sub(self.first_code);
        index
            .and_then(|index| self.widths.get(index).copied())
            .unwrap_or(self.default_width)
    }
}

/// What `/Encoding` says about each code; nothing for codes it leaves to the font program.
fn declared_encoding<'a>(
    source: &FontSource<'a>,
    dictionary: &'a Dictionary,
    descriptor: Option<&'a Dictionary>,
    font_name: &str,
) -> CodeTexts {
    let document = source.document;
    let nothing = || vec![None; 256];
    let is_symbolic = descriptor
        .and_then(|descriptor| objects::integer(document, descriptor, b"Flags"))
        .is_some_and(|flags| flags & FLAG_SYMBOLIC != 0);
    let has_program = descriptor.is_some_and(|descriptor| {
        [&b"FontFile"[..], b"FontFile2", b"FontFile3"]
            .iter()
            .any(|key| descriptor.has(key))
    });
    let symbols: CodeTexts = (0..=u8::MAX)
        .map(|code| symbol(font_name, code).map(String::from))
        .collect();
    if symbols.iter().any(Option::is_some) {
        return symbols;
    }
    match objects::value(document, dictionary, b"Encoding") {
        Some(Object::Name(name)) => source.names.encoding(name),
        Some(Object::Dictionary(encoding)) => {
            let base = objects::name(document, encoding, b"BaseEncoding");
            let mut texts = match base {
                Some(base) => source.names.encoding(base),
                None if is_symbolic || has_program => nothing(),
                None => source.names.encoding(b"StandardEncoding"),
            };
            let is_type3 = objects::name(document, dictionary, b"Subtype") == Some(b"Type3");
            apply_differences(source, encoding, is_type3, &mut texts);
            texts
        }
        Some(_) | None if is_symbolic || has_program => nothing(),
        Some(_) | None => source.names.encoding(b"StandardEncoding"),
    }
}

fn apply_differences(
    source: &FontSource<'_>,
    encoding: &Dictionary,
    is_type3: bool,
    texts: &mut CodeTexts,
) {
    let differences = objects::array(source.document, encoding, b"Differences").unwrap_or_default();
    let mut code = 0_usize;
    for entry in differences {
        match entry {
            Object::Integer(next) => code = usize::try_from(*next).unwrap_or(usize::MAX),
            Object::Name(name) => {
                if let Some(slot) = texts.get_mut(code) {
                    let text = source.names.text(name);
                    *slot = text.or_else(|| text_of_private_name(name, code, is_type3));
                }
                code = code.saturating_add(1);
            }
            Object::Null
            | Object::Boolean(_)
            | Object::Real(_)
            | Object::String(..)
            | Object::Array(_)
            | Object::Dictionary(_)
            | Object::Stream(_)
            | Object::Reference(_) => {}
        }
    }
}

/// Names such as `a65`, `C065` or `g41` that only repeat an ASCII code. Type 3 fonts name their glyphs as they like, but
/// those that were made from text fonts keep the codes.
fn text_of_private_name(name: &[u8], code: usize, is_type3: bool) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let digits = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let repeats = digits.parse() == Ok(code) || usize::from_str_radix(digits, 16) == Ok(code);
    let character = char::from(u8::try_from(code).ok()?);
    ((repeats || is_type3) && character.is_ascii_graphic()).then(|| character.to_string())
}

/// The encoding inside the font program, or the standard one for what it does not say.
fn built_in_encoding<'a>(
    source: &FontSource<'a>,
    dictionary: &'a Dictionary,
    descriptor: Option<&'a Dictionary>,
) -> CodeTexts {
    let names = &source.names;
    let program = |key: &[u8]| source.stream_bytes(descriptor?, key);
    let texts = if let Some(program) = program(b"FontFile2") {
        encoding_of_true_type(&program, names)
    } else if let Some(program) = program(b"FontFile3") {
        match program.starts_with(b"OTTO") || program.starts_with(&[0, 1, 0, 0]) {
            true => encoding_of_true_type(&program, names),
            false => encoding_of_cff(&program, names),
        }
    } else if let Some(program) = program(b"FontFile") {
        encoding_of_type1(&program, names)
    } else {
        vec![None; 256]
    };
    // A Type 3 font has no encoding but the one it declares.
    if objects::name(source.document, dictionary, b"Subtype") == Some(b"Type3") {
        return texts;
    }
    let standard = names.encoding(b"StandardEncoding");
    texts
        .into_iter()
        .zip(standard)
        .map(|(own, standard)| own.or(standard))
        .collect()
}

impl<'a> Composite<'a> {
    fn load(
        source: &FontSource<'a>,
        dictionary: &'a Dictionary,
        descendant: &'a Dictionary,
    ) -> Composite<'a> {
        let document = source.document;
        let encoding = match objects::value(document, dictionary, b"Encoding") {
            Some(Object::Name(name)) => Encoding::named(source, name),
            Some(Object::Stream(stream)) => {
                let bytes = objects::bytes(stream, source.max_part_bytes).unwrap_or_default();
                let map = EmbeddedMap::parse(&bytes);
                let declared = objects::name(document, &stream.dict, b"UseCMap");
                let base = declared.or(map.base.as_deref());
                Encoding::Embedded {
                    base: base.and_then(|name| source.maps.get(name)),
                    map: Box::new(map),
                }
            }
            Some(_) | None => Encoding::Identity,
        };
        let system = objects::dictionary(document, descendant, b"CIDSystemInfo");
        let ordering = system.and_then(|system| {
            let ordering = objects::value(document, system, b"Ordering")?;
            ordering.as_str().or_else(|_| ordering.as_name()).ok()
        });
        let encoding_name = objects::name(document, dictionary, b"Encoding").unwrap_or_default();
        Composite {
            descendant,
            collection: collection(ordering.unwrap_or_default(), encoding_name),
            cids_are_unicode: ordering.is_some_and(|ordering| ordering.starts_with(b"UCS")),
            encoding,
            widths: CidWidths::load(document, descendant),
            program: OnceCell::new(),
            glyph_of_cid: OnceCell::new(),
        }
    }

    fn is_vertical(&self, encoding_name: Option<&[u8]>) -> bool {
        match &self.encoding {
            Encoding::Embedded { map, .. } => map.vertical,
            Encoding::Identity | Encoding::Predefined { .. } => {
                encoding_name.is_some_and(|name| name.ends_with(b"-V") || name == b"V")
            }
        }
    }

    fn code_length(&self, bytes: &[u8]) -> usize {
        match &self.encoding {
            Encoding::Identity => 2,
            Encoding::Embedded { map, base } => map.code_length(bytes).unwrap_or_else(|| {
                base.as_ref()
                    .map_or(2, |base| legacy_code_length(base, bytes))
            }),
            Encoding::Predefined { map, kind } => match kind {
                PredefinedKind::Ucs2 => 2,
                PredefinedKind::Utf16 => match bytes.first() {
                    Some(0xD8..=0xDB) => 4,
                    Some(_) | None => 2,
                },
                PredefinedKind::Legacy => legacy_code_length(map, bytes),
            },
        }
    }

    fn cid(&self, code: u32, n_bytes: usize) -> u32 {
        let n_bytes = u8::try_from(n_bytes).unwrap_or(2);
        match &self.encoding {
            Encoding::Identity => code,
            Encoding::Predefined { map, .. } => map.lookup_cid_code(code, n_bytes).unwrap_or(0),
            Encoding::Embedded { map, base } => map
                .cid(code)
                .or_else(|| base.as_ref()?.lookup_cid_code(code, n_bytes))
                .unwrap_or(0),
        }
    }

    fn text(
        &self,
        source: &FontSource<'a>,
        descriptor: Option<&'a Dictionary>,
        code: u32,
        cid: u32,
    ) -> Option<String> {
        if let Encoding::Predefined { kind, .. } = &self.encoding
            && let Some(text) = kind.text(code)
        {
            return Some(text);
        }
        if let Some(collection) = self.collection
            && let Some(map) = source.maps.get(collection)
            && let Some(text) = text_of_cid(&map, cid)
        {
            return Some(text);
        }
        if self.cids_are_unicode {
            return char::from_u32(cid).map(String::from);
        }
        let program = self
            .program
            .get_or_init(|| program_texts(source, descriptor));
        program.get(&self.glyph_number(source, cid)).cloned()
    }

    fn glyph_number(&self, source: &FontSource<'a>, cid: u32) -> u32 {
        let map = self
            .glyph_of_cid
            .get_or_init(|| source.stream_bytes(self.descendant, b"CIDToGIDMap"));
        let Some(map) = map else { return cid };
        let (glyphs, _) = map.as_chunks::<2>();
        let glyph = usize::try_from(cid).ok().and_then(|cid| glyphs.get(cid));
        glyph.map_or(0, |&bytes| u32::from(u16::from_be_bytes(bytes)))
    }
}

impl Encoding {
    fn named(source: &FontSource<'_>, name: &[u8]) -> Encoding {
        if name.starts_with(b"Identity") {
            return Encoding::Identity;
        }
        let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
        let kind = if contains(b"UCS2") {
            PredefinedKind::Ucs2
        } else if contains(b"UTF16") {
            PredefinedKind::Utf16
        } else {
            PredefinedKind::Legacy
        };
        match source.maps.get(name) {
            Some(map) => Encoding::Predefined { map, kind },
            None => Encoding::Identity,
        }
    }
}

impl PredefinedKind {
    fn text(self, code: u32) -> Option<String> {
        let code = match self {
            PredefinedKind::Ucs2 | PredefinedKind::Utf16 => code,
            PredefinedKind::Legacy => return None,
        };
        if let Some(character) = char::from_u32(code) {
            return Some(character.to_string());
        }
        let [a, b, c, d] = code.to_be_bytes();
        let units = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        String::from_utf16(&units).ok()
    }
}

/// Codes of one or more bytes: the shortest that the map knows, else what legacy Asian encodings do.
fn legacy_code_length(map: &CMap, bytes: &[u8]) -> usize {
    let mut code = 0_u32;
    for (n_bytes, &byte) in (1_u8..=4).zip(bytes) {
        code = code << 8 | u32::from(byte);
        if map.lookup_cid_code(code, n_bytes).is_some() {
            return usize::from(n_bytes);
        }
    }
    match bytes.first() {
        Some(0..0x80) => 1,
        Some(_) | None => 2,
    }
}

/// The predefined map from CIDs to Unicode for a collection, by its name or by the encoding's.
fn collection(ordering: &[u8], encoding_name: &[u8]) -> Option<&'static [u8]> {
    let by_ordering: Option<&'static [u8]> = match ordering {
        b"Korea1" | b"KR" => Some(b"Adobe-Korea1-UCS2"),
        b"Japan1" => Some(b"Adobe-Japan1-UCS2"),
        b"GB1" => Some(b"Adobe-GB1-UCS2"),
        b"CNS1" => Some(b"Adobe-CNS1-UCS2"),
        _ => None,
    };
    let is_korean = encoding_name.starts_with(b"KSC") || encoding_name.starts_with(b"UniKS");
    by_ordering.or(is_korean.then_some(b"Adobe-Korea1-UCS2"))
}

fn program_texts<'a>(source: &FontSource<'a>, descriptor: Option<&'a Dictionary>) -> GlyphTexts {
    let program = |key: &[u8]| source.stream_bytes(descriptor?, key);
    if let Some(program) = program(b"FontFile2") {
        return texts_of_open_type(&program, &source.names);
    }
    match program(b"FontFile3") {
        Some(program) if program.starts_with(b"OTTO") || program.starts_with(&[0, 1, 0, 0]) => {
            texts_of_open_type(&program, &source.names)
        }
        Some(program) => texts_of_cff(&program, &source.names),
        None => GlyphTexts::new(),
    }
}

impl CidWidths {
    fn load(document: &Document, descendant: &Dictionary) -> CidWidths {
        let default = objects::number(document, descendant, b"DW").unwrap_or(1000.0) * 0.001;
        let mut widths = CidWidths {
            default,
            ..CidWidths::default()
        };
        let mut entries = objects::array(document, descendant, b"W")
            .unwrap_or_default()
            .iter()
            .map(|entry| objects::resolve(document, entry));
        while let (Some(first), Some(next)) = (entries.next(), entries.next()) {
            let Some(first) = first.and_then(cid_of) else {
                continue;
            };
            match next {
                Some(Object::Array(list)) => {
                    for (cid, width) in (first..).zip(list) {
                        let width = objects::resolve(document, width);
                        if let Some(width) = width.and_then(|width| width.as_float().ok()) {
                            widths.single.insert(cid, width * 0.001);
                        }
                    }
                }
                Some(last) => {
                    let width = entries.next().flatten();
                    let width = width.and_then(|width| width.as_float().ok());
                    if let (Some(last), Some(width)) = (cid_of(last), width) {
                        widths.ranges.push((first, last, width * 0.001));
                    }
                }
                None => {}
            }
        }
        widths
    }

    fn width(&self, cid: u32) -> f32 {
        if let Some(width) = self.single.get(&cid) {
            return *width;
        }
        let mut ranges = self.ranges.iter();
        let range = ranges.find(|(first, last, _)| (*first..=*last).contains(&cid));
        range.map_or(self.default, |(_, _, width)| *width)
    }
}

/// The em of a Type 3 font by the height of its bounding box; 1 for other fonts, and where that is about right.
fn type3_em(document: &Document, dictionary: &Dictionary) -> f32 {
    if objects::name(document, dictionary, b"Subtype") != Some(b"Type3") {
        return 1.0;
    }
    let height = objects::numbers::<4>(document, dictionary, b"FontBBox")
        .map(|[_, bottom, _, top]| (top - bottom).abs());
    let scale = objects::numbers::<6>(document, dictionary, b"FontMatrix");
    let (Some(height), Some([_, _, _, scale, _, _])) = (height, scale) else {
        return 1.0;
    };
    let em = height * scale.abs();
    let is_plain = !em.is_finite() || em <= f32::EPSILON || (0.4..=2.5).contains(&em);
    if is_plain { 1.0 } else { em }
}

fn cid_of(object: &Object) -> Option<u32> {
    u32::try_from(object.as_i64().ok()?).ok()
}

fn base_font(document: &Document, dictionary: &Dictionary) -> String {
    let name = objects::name(document, dictionary, b"BaseFont").unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Whether a font is heavy enough for headings, by its name or its descriptor.
fn is_bold(document: &Document, dictionary: &Dictionary, descriptor: Option<&Dictionary>) -> bool {
    let name = base_font(document, dictionary).to_lowercase();
    let says_bold = [
        "bold",
        "black",
        "heavy",
        "headline",
        "견고딕",
        "헤드라인",
        "굵은",
    ]
    .iter()
    .any(|word| name.contains(word));
    let Some(descriptor) = descriptor else {
        return says_bold;
    };
    let number = |key: &[u8]| objects::number(document, descriptor, key);
    says_bold
        || number(b"FontWeight").is_some_and(|weight| weight >= 600.0)
        || number(b"StemV").is_some_and(|stem| stem >= BOLD_STEM)
        || objects::integer(document, descriptor, b"Flags")
            .is_some_and(|flags| flags & FLAG_FORCE_BOLD != 0)
}

/// Text as a reader wants it: no control characters, plain spaces, ligatures taken apart; `None` if the map's answer
/// was no answer (NUL, a replacement character, an unassigned code).
fn clean(text: String) -> Option<String> {
    let is_plain = |c: char| matches!(c, ' '..='~' | '가'..='힣');
    if text.chars().all(is_plain) {
        return Some(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t'
            | '\n'
            | '\r'
            | '\u{A0}'
            | '\u{2000}'..='\u{200A}'
            | '\u{202F}'
            | '\u{205F}'
            | '\u{3000}' => cleaned.push(' '),
            '\u{FB00}' => cleaned.push_str("ff"),
            '\u{FB01}' => cleaned.push_str("fi"),
            '\u{FB02}' => cleaned.push_str("fl"),
            '\u{FB03}' => cleaned.push_str("ffi"),
            '\u{FB04}' => cleaned.push_str("ffl"),
            // Symbol fonts shown through Microsoft's private range; bullets in nearly every document.
            '\u{F0A7}' => cleaned.push('▪'),
            '\u{F06C}' | '\u{F0B7}' => cleaned.push('•'),
            '\u{F06E}' => cleaned.push('■'),
            '\u{F0D8}' => cleaned.push('➢'),
            '\u{F0FC}' => cleaned.push('✓'),
            '\u{F020}'..='\u{F07E}' => {
                let ascii = u32::from(character) - 0xF000;
                cleaned.extend(char::from_u32(ascii));
            }
            '\u{FFFD}' | '\u{FFFE}' | '\u{FFFF}' => return None,
            '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}' => {}
            _ if character.is_control() => return None,
            _ => cleaned.push(character),
        }
    }
    Some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopdf::{Stream, dictionary};

    /// Decodes `bytes` with the font under the id and joins the texts; `?` for a code without text.
    fn decode(document: &Document, font: &Dictionary, bytes: &[u8]) -> (String, f32) {
        let source = FontSource::new(document, 1 << 20);
        let font = source.font(font);
        let (mut text, mut advance) = (String::new(), 0.0);
        font.decode(&source, bytes, |glyph, _| {
            text.push_str(glyph.text.as_deref().unwrap_or("?"));
            advance += glyph.advance;
        });
        (text, advance)
    }

    fn check(document: &Document, font: &Dictionary, bytes: &[u8], expected: &str) {
        assert_eq!(decode(document, font, bytes).0, expected);
    }

    #[test]
    fn differences_name_the_glyphs() {
        let font = dictionary! {
            "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
            "Encoding" => dictionary! {
                "BaseEncoding" => "WinAnsiEncoding",
                "Differences" => vec![1.into(), "uniD734".into(), "bullet".into(), "nonsense".into()],
            },
        };
        check(&Document::new(), &font, b"A\x93\x01\x02\x03", "A“휴•?");
        let (_, advance) = decode(&Document::new(), &font, b"A");
        assert!((advance - 0.667).abs() < 1e-6);
    }

    #[test]
    fn a_type3_font_is_read_through_to_unicode() {
        let mut document = Document::new();
        let map = b"1 beginbfrange <21> <22> <D734> endbfrange".to_vec();
        let map = document.add_object(Stream::new(dictionary! {}, map));
        let font = dictionary! {
            "Type" => "Font", "Subtype" => "Type3", "ToUnicode" => map,
            "Encoding" => dictionary! { "Differences" => vec![33.into(), "g0".into(), "g1".into()] },
            "FontMatrix" => vec![0.01.into(), 0.into(), 0.into(), 0.01.into(), 0.into(), 0.into()],
            "FirstChar" => 33, "Widths" => vec![100.into(), 50.into()],
        };
        let (text, advance) = decode(&document, &font, b"\x21\x22");
        assert_eq!(text, "휴휵");
        assert!((advance - 1.5).abs() < 1e-6);
    }

    #[test]
    fn predefined_korean_encodings_are_read() {
        let font = |encoding: &str| {
            dictionary! {
                "Type" => "Font", "Subtype" => "Type0", "Encoding" => encoding,
                "DescendantFonts" => vec![Object::Dictionary(dictionary! {
                    "Subtype" => "CIDFontType0", "DW" => 1000,
                    "W" => vec![1.into(), 95.into(), 500.into()],
                    "CIDSystemInfo" => dictionary! {
                        "Registry" => Object::string_literal("Adobe"),
                        "Ordering" => Object::string_literal("Korea1"), "Supplement" => 1,
                    },
                })],
            }
        };
        let document = Document::new();
        check(
            &document,
            &font("KSCms-UHC-H"),
            b"A\xC8\xDE\xC1\xF7 1",
            "A휴직 1",
        );
        check(&document, &font("KSC-EUC-H"), b"\xC8\xDE\xC1\xF7", "휴직");
        check(
            &document,
            &font("UniKS-UCS2-H"),
            b"\xD7\x34\xC9\xC1",
            "휴직",
        );
        check(
            &document,
            &font("UniKS-UTF16-H"),
            b"\xD7\x34\xC9\xC1",
            "휴직",
        );
        let (_, advance) = decode(&document, &font("KSCms-UHC-H"), b"A\xC8\xDE");
        assert!((advance - 1.5).abs() < 1e-6);
    }

    #[test]
    fn cids_of_a_collection_are_read_without_to_unicode() {
        let font = dictionary! {
            "Type" => "Font", "Subtype" => "Type0", "Encoding" => "Identity-H",
            "DescendantFonts" => vec![Object::Dictionary(dictionary! {
                "CIDSystemInfo" => dictionary! { "Ordering" => Object::string_literal("Korea1") },
            })],
        };
        // CID 1086 is the first Hangul syllable of Adobe-Korea1.
        check(&Document::new(), &font, b"\x04\x3E", "가");
    }

    #[test]
    fn codes_that_nothing_explains_have_no_text() {
        let font = dictionary! {
            "Type" => "Font", "Subtype" => "Type0", "Encoding" => "Identity-H",
            "DescendantFonts" => vec![Object::Dictionary(dictionary! {})],
        };
        check(&Document::new(), &font, b"\x04\x3E\x00", "??");
    }

    #[test]
    fn texts_are_cleaned() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(clean(text.to_owned()).as_deref(), expected, "{text:?}");
        };
        check("휴직", Some("휴직"));
        check("ﬁ\u{A0}", Some("fi "));
        check("\0", None);
        check("\u{FFFD}", None);
        check("\u{F0B7}\u{200B}", Some("•"));
    }
}
