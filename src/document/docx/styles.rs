//! `styles.xml` → what a paragraph or a run of a style looks like, inherited along `basedOn`.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::document::package::attribute;

/// A chain of `basedOn` is followed no further: a damaged file may hold a circle.
const MAX_ANCESTORS: usize = 32;

/// The list that a paragraph counts in: `w:numId`, and the level from 0.
pub(super) type ListPlace = (u32, u8);

/// What a style sets; what it leaves open is `None` and comes from the style it is based on.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// As the user sees it, in lower case: `heading 1`, `개요 1`.
    name: String,
    based_on: Option<String>,
    outline_level: Option<u8>,
    list_id: Option<u32>,
    list_level: Option<u8>,
    is_bold: Option<bool>,
    is_hidden: Option<bool>,
    n_half_points: Option<u32>,
}

/// All styles of a document.
#[derive(Debug, Default)]
pub(super) struct Styles {
    by_id: HashMap<String, Style>,
    default_paragraph: Option<String>,
    default_half_points: Option<u32>,
}

impl Styles {
    /// Reads as far as the XML is well formed.
    pub(super) fn parse(xml: &str) -> Styles {
        let mut styles = Styles::default();
        let mut current: Option<(String, Style)> = None;
        let mut in_defaults = false;
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event() {
                Err(_) | Ok(Event::Eof) => break,
                Ok(Event::Start(element) | Event::Empty(element)) => {
                    match element.local_name().as_ref() {
                        "docDefaults" => in_defaults = true,
                        "style" => {
                            let id = attribute(&element, "styleId").unwrap_or_default();
                            if attribute(&element, "type").as_deref() == Some("paragraph")
                                && is_on(attribute(&element, "default").as_deref(), false)
                            {
                                styles.default_paragraph = Some(id.clone());
                            }
                            current = Some((id, Style::default()));
                        }
                        "sz" if in_defaults => {
                            styles.default_half_points = number(&element);
                        }
                        _ => {
                            if let Some((_, style)) = &mut current {
                                style.set(&element);
                            }
                        }
                    }
                }
                Ok(Event::End(element)) => match element.local_name().as_ref() {
                    "docDefaults" => in_defaults = false,
                    "style" => styles.by_id.extend(current.take()),
                    _ => {}
                },
                Ok(_) => {}
            }
        }
        styles
    }

    /// The first value along the chain of styles that a style is based on.
    fn inherited<T>(&self, id: Option<&str>, get: impl Fn(&Style) -> Option<T>) -> Option<T> {
        let mut id = id.or(self.default_paragraph.as_deref());
        for _ in 0..MAX_ANCESTORS {
            let style = self.by_id.get(id?)?;
            if let Some(value) = get(style) {
                return Some(value);
            }
            id = style.based_on.as_deref();
        }
        None
    }

    /// Heading level 1 to 9 of a paragraph style: its outline level, or its well-known name.
    pub(super) fn heading_level(&self, id: Option<&str>) -> Option<u8> {
        let outline = self.inherited(id, |style| style.outline_level);
        match outline {
            Some(level) => (level < 9).then_some(level + 1),
            None => self.inherited(id, |style| level_of_name(&style.name)),
        }
    }

    /// Whether a paragraph style is the one for the document's title.
    pub(super) fn is_title(&self, id: Option<&str>) -> bool {
        id.and_then(|id| self.by_id.get(id))
            .is_some_and(|style| matches!(style.name.as_str(), "title" | "제목"))
    }

    /// The list that a paragraph style counts in.
    pub(super) fn list_place(&self, id: Option<&str>) -> Option<ListPlace> {
        let list = self.inherited(id, |style| style.list_id)?;
        let level = self.inherited(id, |style| style.list_level).unwrap_or(0);
        Some((list, level))
    }

    pub(super) fn is_bold(&self, id: Option<&str>) -> bool {
        self.inherited(id, |style| style.is_bold).unwrap_or(false)
    }

    pub(super) fn is_hidden(&self, id: Option<&str>) -> bool {
        self.inherited(id, |style| style.is_hidden).unwrap_or(false)
    }

    /// A run's style says something only if it is set: there is no default for it here.
    pub(super) fn run(&self, id: &str) -> (Option<bool>, Option<bool>, Option<u32>) {
        (
            self.inherited(Some(id), |style| style.is_bold),
            self.inherited(Some(id), |style| style.is_hidden),
            self.inherited(Some(id), |style| style.n_half_points),
        )
    }

    /// The font size of a paragraph style, in half points.
    pub(super) fn half_points(&self, id: Option<&str>) -> u32 {
        self.inherited(id, |style| style.n_half_points)
            .or(self.default_half_points)
            .unwrap_or(20)
    }
}

impl Style {
    fn set(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            "name" => {
                self.name = attribute(element, "val").unwrap_or_default().to_lowercase();
            }
            "basedOn" => self.based_on = attribute(element, "val"),
            "outlineLvl" => self.outline_level = number(element),
            "numId" => self.list_id = number(element),
            "ilvl" => self.list_level = number(element),
            "b" => self.is_bold = Some(toggle(element)),
            "vanish" => self.is_hidden = Some(toggle(element)),
            "sz" => self.n_half_points = number(element),
            _ => {}
        }
    }
}

/// Word's own heading styles need not say their outline level.
fn level_of_name(name: &str) -> Option<u8> {
    let number = ["heading ", "제목 ", "개요 "]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    number.parse().ok().filter(|level| (1..=9).contains(level))
}

/// The number in `w:val`.
pub(super) fn number<T: std::str::FromStr>(element: &BytesStart<'_>) -> Option<T> {
    attribute(element, "val")?.trim().parse().ok()
}

/// The truth of an element such as `<w:b/>` or `<w:b w:val="0"/>`.
pub(super) fn toggle(element: &BytesStart<'_>) -> bool {
    is_on(attribute(element, "val").as_deref(), true)
}

fn is_on(value: Option<&str>, default: bool) -> bool {
    match value {
        None => default,
        Some(value) => !matches!(value, "0" | "false" | "off" | "none"),
    }
}
