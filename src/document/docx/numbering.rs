//! `numbering.xml` → the labels that Word computes and does not store: `제1조`, `①`, `가.`, `1.2`.
//!
//! Follows ECMA-376 part 1, 17.9: counters belong to the abstract list, so that lists which share one go on counting;
//! a list with `startOverride` begins again at its first use; a level restarts when a higher one counts, unless
//! `lvlRestart` says otherwise.

use std::collections::{HashMap, HashSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::styles::{ListPlace, Styles, number, toggle};
use crate::document::package::attribute;
use crate::document::roman::roman;

const N_LEVELS: usize = 9;

/// One level of a list.
#[derive(Debug, Clone)]
struct Level {
    start: u32,
    format: String,
    /// `제%1조`: each `%n` stands for the counter of level n.
    template: String,
    /// The level from 1 whose counting restarts this one; 0 never restarts.
    restart: Option<u8>,
    /// Numbers of other levels are shown as 1, 2, 3 whatever their format.
    is_legal: bool,
    /// No space between the label and the text.
    is_attached: bool,
}

impl Default for Level {
    fn default() -> Level {
        Level {
            start: 1,
            format: "decimal".to_owned(),
            template: String::new(),
            restart: None,
            is_legal: false,
            is_attached: false,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct AbstractList {
    levels: HashMap<u8, Level>,
    /// The style whose list defines the levels instead.
    linked_style: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct List {
    abstract_id: u32,
    starts: HashMap<u8, u32>,
    levels: HashMap<u8, Level>,
}

/// All lists of a document, and how far they have counted.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    abstract_lists: HashMap<u32, AbstractList>,
    lists: HashMap<u32, List>,
    counters: HashMap<u32, [Option<u32>; N_LEVELS]>,
    begun: HashSet<(u32, u8)>,
}

impl Numbering {
    /// Reads as far as the XML is well formed.
    pub(super) fn parse(xml: &str) -> Numbering {
        let mut parser = Parser::default();
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event() {
                Err(_) | Ok(Event::Eof) => break,
                Ok(Event::Start(element)) => parser.open(&element),
                Ok(Event::Empty(element)) => {
                    parser.open(&element);
                    parser.close(element.local_name().as_ref());
                }
                Ok(Event::End(element)) => parser.close(element.local_name().as_ref()),
                Ok(_) => {}
            }
        }
        parser.numbering
    }

    /// Counts a paragraph and returns its label with the space behind it; empty if the list shows none.
    pub(super) fn next_label(&mut self, (list_id, level): ListPlace, styles: &Styles) -> String {
        let Some(list) = self.lists.get(&list_id) else {
            return String::new();
        };
        let abstract_id = self.resolved(list.abstract_id, styles);
        let level_at = |n: u8| -> Level {
            list.levels
                .get(&n)
                .or_else(|| self.abstract_lists.get(&abstract_id)?.levels.get(&n))
                .cloned()
                .unwrap_or_default()
        };
        let levels: Vec<Level> = (0_u8..).take(N_LEVELS).map(level_at).collect();
        let position = usize::from(level).min(N_LEVELS - 1);
        let counters = self.counters.entry(abstract_id).or_default();
        let overridden = list.starts.get(&level).copied();
        if self.begun.insert((list_id, level)) && overridden.is_some() {
            counters[position] = None;
        }
        let start = overridden.unwrap_or(levels[position].start);
        counters[position] = Some(counters[position].map_or(start, |n| n.saturating_add(1)));
        for (deeper, shape) in levels.iter().enumerate().skip(position + 1) {
            let is_restarted = shape
                .restart
                .is_none_or(|restart| position < usize::from(restart));
            if is_restarted {
                counters[deeper] = None;
            }
        }
        label(&levels, position, counters)
    }

    /// The abstract list behind a link to a list style.
    fn resolved(&self, abstract_id: u32, styles: &Styles) -> u32 {
        let linked = self
            .abstract_lists
            .get(&abstract_id)
            .and_then(|list| list.linked_style.as_deref())
            .and_then(|style| styles.list_place(Some(style)))
            .and_then(|(list, _)| self.lists.get(&list));
        linked.map_or(abstract_id, |list| list.abstract_id)
    }
}

fn label(levels: &[Level], position: usize, counters: &[Option<u32>; N_LEVELS]) -> String {
    let Some(shape) = levels.get(position) else {
        return String::new();
    };
    let mut text = String::new();
    if shape.format == "bullet" {
        // Bullets of symbol fonts lie in the private use area: no other font shows them.
        let is_private = |c: char| matches!(c, '\u{E000}'..='\u{F8FF}');
        let sign = shape.template.trim();
        text.push_str(if sign.contains(is_private) {
            "•"
        } else {
            sign
        });
    } else {
        let mut chars = shape.template.chars().peekable();
        while let Some(c) = chars.next() {
            let other = match (c, chars.peek().and_then(|digit| digit.to_digit(10))) {
                ('%', Some(digit @ 1..=9)) => usize::try_from(digit - 1).unwrap_or(0),
                _ => {
                    text.push(c);
                    continue;
                }
            };
            chars.next();
            let value = counters[other].unwrap_or(levels[other].start);
            let format = if shape.is_legal {
                "decimal"
            } else {
                levels[other].format.as_str()
            };
            text.push_str(&formatted(value, format));
        }
    }
    if !text.is_empty() && !shape.is_attached && !text.ends_with(' ') {
        text.push(' ');
    }
    text
}

/// A number in one of the formats of ECMA-376 part 1, 17.18.59; formats that Korean documents do not use are decimal.
fn formatted(number: u32, format: &str) -> String {
    let nth = |symbols: &str| -> Option<String> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        symbols.chars().nth(index).map(String::from)
    };
    let text = match format {
        "none" => Some(String::new()),
        "decimalZero" => Some(format!("{number:02}")),
        "decimalEnclosedCircle" | "decimalEnclosedCircleChinese" => {
            nth("①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳㉑㉒㉓㉔㉕㉖㉗㉘㉙㉚㉛㉜㉝㉞㉟㊱㊲㊳㊴㊵㊶㊷㊸㊹㊺㊻㊼㊽㊾㊿")
        }
        "decimalEnclosedParen" => nth("⑴⑵⑶⑷⑸⑹⑺⑻⑼⑽⑾⑿⒀⒁⒂⒃⒄⒅⒆⒇"),
        "decimalEnclosedFullstop" => nth("⒈⒉⒊⒋⒌⒍⒎⒏⒐⒑⒒⒓⒔⒕⒖⒗⒘⒙⒚⒛"),
        "decimalFullWidth" | "decimalFullWidth2" => {
            let wide = |digit: char| char::from_u32(u32::from('０') + digit.to_digit(10)?);
            number.to_string().chars().map(wide).collect()
        }
        "ganada" => repeated(number, "가나다라마바사아자차카타파하"),
        "chosung" => repeated(number, "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"),
        "upperLetter" => repeated(number, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "lowerLetter" => repeated(number, "abcdefghijklmnopqrstuvwxyz"),
        "upperRoman" => roman(number),
        "lowerRoman" => roman(number).map(|numeral| numeral.to_lowercase()),
        "koreanDigital" | "koreanCounting" => {
            sino(number, "일이삼사오육칠팔구", ["", "십", "백", "천"])
        }
        "koreanLegal" => nth_word(number),
        "koreanDigital2"
        | "chineseCounting"
        | "chineseCountingThousand"
        | "ideographDigital"
        | "japaneseCounting"
        | "taiwaneseCounting" => sino(number, "一二三四五六七八九", ["", "十", "百", "千"]),
        "ideographEnclosedCircle" => nth("㊀㊁㊂㊃㊄㊅㊆㊇㊈㊉"),
        "ideographTraditional" => nth("甲乙丙丁戊己庚辛壬癸"),
        "ideographZodiac" => nth("子丑寅卯辰巳午未申酉戌亥"),
        _ => None,
    };
    text.unwrap_or_else(|| number.to_string())
}

/// After the last letter the letters are doubled: z, aa, bb.
fn repeated(number: u32, symbols: &str) -> Option<String> {
    let n_symbols = symbols.chars().count();
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    let symbol = symbols.chars().nth(index % n_symbols)?;
    Some(symbol.to_string().repeat((index / n_symbols + 1).min(9)))
}

fn nth_word(number: u32) -> Option<String> {
    const WORDS: [&str; 10] = [
        "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉", "열",
    ];
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    WORDS.get(index).map(|word| (*word).to_owned())
}

/// `십일`, `이십`: digits beside their powers of ten, a one before a power left out.
fn sino(number: u32, digits: &str, powers: [&str; 4]) -> Option<String> {
    if number == 0 || number > 9999 {
        return None;
    }
    let mut text = String::new();
    for (power, name) in (0_u32..).zip(powers).collect::<Vec<_>>().into_iter().rev() {
        let digit = number / 10_u32.pow(power) % 10;
        if digit > 1 || (digit == 1 && power == 0) {
            text.extend(digits.chars().nth(usize::try_from(digit - 1).ok()?));
        }
        if digit > 0 {
            text.push_str(name);
        }
    }
    Some(text)
}

/// What the reader of the XML is inside of.
#[derive(Default)]
struct Parser {
    numbering: Numbering,
    abstract_list: Option<(u32, AbstractList)>,
    list: Option<(u32, List)>,
    override_level: Option<u8>,
    level: Option<(u8, Level)>,
}

impl Parser {
    fn open(&mut self, element: &BytesStart<'_>) {
        let id = |name: &str| attribute(element, name).and_then(|value| value.parse().ok());
        match element.local_name().as_ref() {
            "abstractNum" => {
                self.abstract_list = id("abstractNumId").map(|id| (id, AbstractList::default()));
            }
            "num" => self.list = id("numId").map(|id| (id, List::default())),
            "abstractNumId" => {
                if let (Some((_, list)), Some(id)) = (&mut self.list, number(element)) {
                    list.abstract_id = id;
                }
            }
            "numStyleLink" => {
                if let Some((_, list)) = &mut self.abstract_list {
                    list.linked_style = attribute(element, "val");
                }
            }
            "lvlOverride" => {
                self.override_level = attribute(element, "ilvl").and_then(|n| n.parse().ok());
            }
            "startOverride" => {
                if let (Some((_, list)), Some(level), Some(start)) =
                    (&mut self.list, self.override_level, number(element))
                {
                    list.starts.insert(level, start);
                }
            }
            "lvl" => {
                self.level = attribute(element, "ilvl")
                    .and_then(|n| n.parse().ok())
                    .map(|level| (level, Level::default()));
            }
            name => {
                if let Some((_, level)) = &mut self.level {
                    level.set(name, element);
                }
            }
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "lvl" => {
                let Some((n, level)) = self.level.take() else {
                    return;
                };
                if let Some((_, list)) = &mut self.list {
                    list.levels.insert(n, level);
                } else if let Some((_, list)) = &mut self.abstract_list {
                    list.levels.insert(n, level);
                }
            }
            "abstractNum" => self
                .numbering
                .abstract_lists
                .extend(self.abstract_list.take()),
            "num" => self.numbering.lists.extend(self.list.take()),
            "lvlOverride" => self.override_level = None,
            _ => {}
        }
    }
}

impl Level {
    fn set(&mut self, name: &str, element: &BytesStart<'_>) {
        match name {
            "start" => self.start = number(element).unwrap_or(1),
            "numFmt" => {
                self.format = attribute(element, "val").unwrap_or_else(|| "decimal".to_owned());
            }
            "lvlText" => self.template = attribute(element, "val").unwrap_or_default(),
            "lvlRestart" => self.restart = number(element),
            "isLgl" => self.is_legal = toggle(element),
            "suff" => {
                self.is_attached = attribute(element, "val").as_deref() == Some("nothing");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: &str = r#"<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="7">
        <w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/><w:lvlText w:val="제%1조"/></w:lvl>
        <w:lvl w:ilvl="1"><w:numFmt w:val="decimalEnclosedCircle"/><w:lvlText w:val="%2"/></w:lvl>
        <w:lvl w:ilvl="2"><w:numFmt w:val="ganada"/><w:lvlText w:val="%3."/><w:suff w:val="nothing"/></w:lvl>
        <w:lvl w:ilvl="3"><w:start w:val="3"/><w:lvlRestart w:val="0"/><w:lvlText w:val="%1-%4"/></w:lvl>
        </w:abstractNum>
        <w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>
        <w:num w:numId="2"><w:abstractNumId w:val="7"/></w:num>
        <w:num w:numId="3"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride></w:num>
        </w:numbering>"#;

    #[test]
    fn labels_count_as_word_counts() {
        let mut numbering = Numbering::parse(LEVELS);
        let styles = Styles::default();
        let steps = [
            ((1, 0), "제1조 "),
            ((1, 1), "① "),
            ((1, 1), "② "),
            ((1, 2), "가."),
            ((1, 3), "1-3 "),
            ((1, 0), "제2조 "),
            ((1, 1), "① "),
            ((1, 2), "가."),
            // Level 4 never restarts; another list of the same kind goes on; an override begins again.
            ((1, 3), "2-4 "),
            ((2, 0), "제3조 "),
            ((3, 0), "제1조 "),
            ((3, 0), "제2조 "),
            ((99, 0), ""),
        ];
        for (place, expected) in steps {
            assert_eq!(numbering.next_label(place, &styles), expected, "{place:?}");
        }
    }

    #[test]
    fn numbers_take_their_format() {
        let cases = [
            (3, "decimalEnclosedCircle", "③"),
            (51, "decimalEnclosedCircle", "51"),
            (2, "ganada", "나"),
            (15, "ganada", "가가"),
            (4, "upperRoman", "IV"),
            (28, "lowerLetter", "bb"),
            (11, "koreanCounting", "십일"),
            (20, "chineseCounting", "二十"),
            (7, "decimalZero", "07"),
            (1, "bahtText", "1"),
        ];
        for (number, format, expected) in cases {
            assert_eq!(formatted(number, format), expected, "{format}");
        }
    }
}
