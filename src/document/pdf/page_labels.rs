//! `/PageLabels` → the page numbers that a reader sees: `iv`, `A-3`, or `1` on the file's fifth page.
//!
//! Only labels that differ from the page's place in the file are given. A tree that is damaged gives what is left of it;
//! a label that would be absurdly long (letters beyond `zzzzzzzz`, a paragraph as prefix) is none.

use std::collections::BTreeMap;

use lopdf::{Dictionary, Document, Object};

use super::objects;
use crate::document::roman::roman;

/// Nodes and entries of the number tree that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// Longest label, in characters.
const MAX_LABEL_CHARS: usize = 32;

/// `Z`, `ZZ`, `ZZZ`: letters are repeated at most this often.
const MAX_LETTERS: usize = 8;

/// The labels of a file's pages.
pub(super) struct PageLabels {
    /// First page, from 0 → how the pages from there on are numbered.
    ranges: BTreeMap<u32, Numbering>,
}

struct Numbering {
    prefix: String,
    style: Style,
    /// The number of the range's first page.
    first: u32,
}

#[derive(Clone, Copy)]
enum Style {
    Decimal,
    UpperRoman,
    LowerRoman,
    UpperLetters,
    LowerLetters,
    /// The prefix alone.
    Unnumbered,
}

impl PageLabels {
    /// Reads the labels of a file; none where it has none.
    pub(super) fn of(document: &Document) -> PageLabels {
        let mut ranges = BTreeMap::new();
        let root = document
            .catalog()
            .ok()
            .and_then(|catalog| objects::dictionary(document, catalog, b"PageLabels"));
        let mut nodes: Vec<&Dictionary> = root.into_iter().collect();
        let mut n_left = MAX_ENTRIES;
        while let Some(node) = nodes.pop() {
            let entries = objects::array(document, node, b"Nums").unwrap_or_default();
            let entries = entries.as_chunks::<2>().0.iter().take(n_left);
            n_left -= entries.len();
            ranges.extend(entries.filter_map(|entry| range(document, entry)));
            let kids = objects::array(document, node, b"Kids").unwrap_or_default();
            let kids = kids.iter().take(n_left);
            n_left -= kids.len();
            let nodes_below =
                kids.filter_map(|kid| objects::as_dictionary(objects::resolve(document, kid)?));
            nodes.extend(nodes_below);
        }
        PageLabels { ranges }
    }

    /// The label of a page, counted from 1, where it is not just that number.
    pub(super) fn label(&self, page: u32) -> Option<String> {
        let index = page.checked_sub(1)?;
        let (start, numbering) = self.ranges.range(..=index).next_back()?;
        let number = numbering.first.checked_add(index - start)?;
        let label = format!("{}{}", numbering.prefix, numbering.style.spell(number)?);
        let label = label.trim();
        let fits = (1..=MAX_LABEL_CHARS).contains(&label.chars().count());
        (fits && label != page.to_string()).then(|| label.to_owned())
    }
}

/// One entry of the tree: the index of a page, and its dictionary.
fn range(document: &Document, [index, numbering]: &[Object; 2]) -> Option<(u32, Numbering)> {
    let index = objects::resolve(document, index)?.as_i64().ok()?;
    let numbering = objects::as_dictionary(objects::resolve(document, numbering)?)?;
    let prefix = objects::value(document, numbering, b"P").and_then(|prefix| prefix.as_str().ok());
    let style = match objects::name(document, numbering, b"S") {
        Some(b"D") => Style::Decimal,
        Some(b"R") => Style::UpperRoman,
        Some(b"r") => Style::LowerRoman,
        Some(b"A") => Style::UpperLetters,
        Some(b"a") => Style::LowerLetters,
        Some(_) | None => Style::Unnumbered,
    };
    let first = objects::integer(document, numbering, b"St").unwrap_or(1);
    let numbering = Numbering {
        prefix: prefix.map(objects::text_string).unwrap_or_default(),
        style,
        first: u32::try_from(first).ok()?,
    };
    Some((u32::try_from(index).ok()?, numbering))
}

impl Style {
    fn spell(self, number: u32) -> Option<String> {
        match self {
            Style::Decimal => Some(number.to_string()),
            Style::UpperRoman => roman(number),
            Style::LowerRoman => roman(number).map(|numeral| numeral.to_lowercase()),
            Style::UpperLetters => letters(number, 'A'),
            Style::LowerLetters => letters(number, 'a'),
            Style::Unnumbered => Some(String::new()),
        }
    }
}

/// `A` to `Z`, then `AA` to `ZZ`: the letter repeated.
fn letters(number: u32, first: char) -> Option<String> {
    let index = number.checked_sub(1)?;
    let letter = char::from_u32(u32::from(first) + index % 26)?;
    let n_letters = usize::try_from(index / 26 + 1).ok()?;
    (n_letters <= MAX_LETTERS).then(|| letter.to_string().repeat(n_letters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopdf::dictionary;

    fn labels(tree: Dictionary) -> PageLabels {
        let mut document = Document::new();
        let catalog = document.add_object(dictionary! { "PageLabels" => tree });
        document.trailer.set("Root", catalog);
        PageLabels::of(&document)
    }

    #[test]
    fn pages_are_spelled_as_their_range_says() {
        let check = |numbering: Dictionary, expected: [Option<&str>; 3]| {
            let labels = labels(dictionary! {
                "Nums" => vec![1.into(), Object::Dictionary(numbering)],
            });
            let found = [2, 3, 28].map(|page| labels.label(page));
            assert_eq!(found.each_ref().map(Option::as_deref), expected);
            assert_eq!(labels.label(1), None, "before the first range");
        };
        check(
            dictionary! { "S" => "D" },
            [Some("1"), Some("2"), Some("27")],
        );
        check(
            dictionary! { "S" => "r" },
            [Some("i"), Some("ii"), Some("xxvii")],
        );
        check(
            dictionary! { "S" => "R", "St" => 4 },
            [Some("IV"), Some("V"), Some("XXX")],
        );
        check(
            dictionary! { "S" => "A" },
            [Some("A"), Some("B"), Some("AA")],
        );
        check(
            dictionary! { "S" => "a", "St" => 26 },
            [Some("z"), Some("aa"), Some("zz")],
        );
        let prefix = Object::string_literal(b"\xFE\xFF\xBD\x80\x00-".as_slice());
        check(
            dictionary! { "S" => "D", "P" => prefix.clone() },
            [Some("부-1"), Some("부-2"), Some("부-27")],
        );
        check(
            dictionary! { "P" => prefix },
            [Some("부-"), Some("부-"), Some("부-")],
        );
        // The number that a reader counts anyway is no label, and neither is nothing, nor what cannot be spelled.
        check(dictionary! { "S" => "D", "St" => 2 }, [None, None, None]);
        check(dictionary! {}, [None, None, None]);
        check(
            dictionary! { "S" => "R", "St" => 4_000 },
            [None, None, None],
        );
        check(
            dictionary! { "S" => "a", "St" => 100_000 },
            [None, None, None],
        );
        check(dictionary! { "S" => "D", "St" => -1 }, [None, None, None]);
    }

    #[test]
    fn a_tree_has_branches_and_damage() {
        let leaf = |index: i64, style: &str| {
            Object::Dictionary(dictionary! {
                "Nums" => vec![index.into(), Object::Dictionary(dictionary! { "S" => style })],
            })
        };
        let kids = vec![
            leaf(0, "r"),
            Object::Null,
            leaf(2, "D"),
            Object::Reference((99, 0)),
        ];
        let labels = labels(dictionary! { "Kids" => kids });
        let found: Vec<Option<String>> = (1..=4).map(|page| labels.label(page)).collect();
        let expected = [Some("i"), Some("ii"), Some("1"), Some("2")];
        assert_eq!(found, expected.map(|label| label.map(str::to_owned)));
    }

    #[test]
    fn a_tree_that_holds_itself_ends() {
        let mut document = Document::new();
        let root = document.new_object_id();
        let kids = vec![Object::Reference(root), Object::Reference(root)];
        document
            .objects
            .insert(root, Object::Dictionary(dictionary! { "Kids" => kids }));
        let catalog = document.add_object(dictionary! { "PageLabels" => root });
        document.trailer.set("Root", catalog);
        assert_eq!(PageLabels::of(&document).label(1), None);
    }
}
