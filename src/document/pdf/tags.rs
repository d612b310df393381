//! What a file's logical structure says about its text: which marked content is a heading, and which stands in which cell
//! of which table.
//!
//! Word processors write it on request, typesetters by themselves. It is believed where the look of a page says less: a
//! heading has its level however it is set, a table its cells without any rule. Everything else of it, paragraphs and
//! lists and reading order, is told from the page.

use std::collections::HashMap;

use lopdf::{Dictionary, Document, Stream};
use memchr::memchr_iter;

use super::lexer::unescape_name;
use super::logical_structure::{self, Element};
use super::objects;
use super::quick_hash::QuickHash;

/// Elements between a piece of text and what it is a part of.
const MAX_DEPTH: usize = 32;

/// Cells of a row.
const MAX_COLUMNS: usize = 256;

/// Bytes of an element in which its name is looked for before it is read.
const LOOK_AHEAD: usize = 1 << 8;

/// Roles that are looked up one after the other (`/RoleMap`).
const MAX_ROLES: usize = 8;

/// What a piece of text is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// A heading of a level from 1 on.
    Heading(u8),
    /// A cell of a table.
    Cell(CellTag),
}

/// Where in a table a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CellTag {
    /// Object numbers of the table and of the row.
    pub(super) table: u32,
    pub(super) row: u32,
    /// From 0, of how many.
    pub(super) column: usize,
    pub(super) n_columns: usize,
    /// Whether it names its column or row.
    pub(super) header: bool,
}

/// The tags of a document.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// Object number of the page, and the content's own number → tag.
    tags: HashMap<(u32, u32), Tag, QuickHash>,
    /// Whether the file has a logical structure, so that what is no part of it is no text.
    pub(super) has_structure: bool,
}

/// Object number → element.
type Elements<'a> = HashMap<u32, (Role, Element<'a>), QuickHash>;

/// What an element is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Heading(u8),
    Table,
    Row,
    HeaderCell,
    Cell,
    Other,
}

impl Tags {
    /// Gathers the tags of a document from the elements that begin at these places of its file, and from those in its
    /// object streams.
    pub(super) fn of(document: &Document, file: &[u8], places: &[(u32, usize)]) -> Tags {
        let root = document.catalog().ok();
        let root = root.and_then(|root| objects::dictionary(document, root, b"StructTreeRoot"));
        let Some(root) = root else {
            return Tags::default();
        };
        let roles = objects::dictionary(document, root, b"RoleMap");
        let streams: Vec<&Stream> = document
            .objects
            .values()
            .filter_map(|object| object.as_stream().ok())
            .filter(|stream| stream.dict.has_type(b"ObjStm"))
            .collect();
        // Most elements are paragraphs; a file without anything else need not be read.
        let mut renamed = roles.into_iter().flat_map(Dictionary::iter);
        let is_wanted = renamed
            .any(|(_, role)| role.as_name().is_ok_and(|name| part(name) != Role::Other))
            || streams.iter().any(|stream| names_part(&stream.content))
            || places.iter().any(|&(_, start)| {
                let source = file.get(start..).unwrap_or_default();
                names_part(source.get(..LOOK_AHEAD).unwrap_or(source))
            });
        if !is_wanted {
            return Tags {
                has_structure: true,
                ..Tags::default()
            };
        }
        let plain = logical_structure::read(file, places);
        let packed = streams.into_iter().flat_map(logical_structure::struck_out);
        let elements: Elements<'_> = plain
            .into_iter()
            .chain(packed)
            .map(|(number, element)| (number, (role(document, roles, element.kind), element)))
            .collect();
        let mut tags = HashMap::default();
        for (&number, (_, element)) in &elements {
            if !element.contents.is_empty()
                && let Some(tag) = tag(&elements, number)
            {
                tags.extend(element.contents.iter().map(|&content| (content, tag)));
            }
        }
        Tags {
            tags,
            has_structure: true,
        }
    }

    /// Whether nothing is tagged.
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// What the marked content with this number is a part of, on the page with this object number.
    pub(super) fn tag(&self, page: u32, content: u32) -> Option<Tag> {
        self.tags.get(&(page, content)).copied()
    }
}

/// What an element is a part of. A heading inside a cell is a part of the cell.
fn tag(elements: &Elements<'_>, element: u32) -> Option<Tag> {
    let mut heading = None;
    let mut number = element;
    for _ in 0..MAX_DEPTH {
        let Some((role, element)) = elements.get(&number) else {
            break;
        };
        match role {
            Role::Heading(level) => heading = heading.or(Some(Tag::Heading(*level))),
            Role::Cell | Role::HeaderCell => {
                let (row_role, row) = elements.get(&element.parent)?;
                let mut cells = row.children.iter().take(MAX_COLUMNS);
                let column = cells.position(|&child| child == number)?;
                let is_row = *row_role == Role::Row;
                return is_row.then_some(Tag::Cell(CellTag {
                    table: table_of(elements, row)?,
                    row: element.parent,
                    column,
                    n_columns: row.children.len().min(MAX_COLUMNS),
                    header: *role == Role::HeaderCell,
                }));
            }
            Role::Table | Role::Row | Role::Other => {}
        }
        number = element.parent;
    }
    heading
}

/// The table that a row stands in, perhaps as a part of its head or body.
fn table_of(elements: &Elements<'_>, row: &Element<'_>) -> Option<u32> {
    let above = |number: u32| Some((number, elements.get(&number)?));
    let (number, (role, group)) = above(row.parent)?;
    if *role == Role::Table {
        return Some(number);
    }
    let (number, (role, _)) = above(group.parent)?;
    (*role == Role::Table).then_some(number)
}

/// What the name of an element stands for.
fn role(document: &Document, roles: Option<&Dictionary>, kind: &[u8]) -> Role {
    let mut name = kind;
    let mut unescaped = Vec::new();
    if kind.contains(&b'#') {
        unescape_name(kind, &mut unescaped);
        name = &unescaped;
    }
    for _ in 0..MAX_ROLES {
        let role = part(name);
        let standard = roles.and_then(|roles| objects::name(document, roles, name));
        match standard {
            Some(standard) if role == Role::Other && standard != name => name = standard,
            Some(_) | None => return role,
        }
    }
    Role::Other
}

/// What a standard name stands for.
fn part(name: &[u8]) -> Role {
    match name {
        [b'H', level @ b'1'..=b'6'] => Role::Heading(level - b'0'),
        b"Table" => Role::Table,
        b"TR" => Role::Row,
        b"TH" => Role::HeaderCell,
        b"TD" => Role::Cell,
        _ => Role::Other,
    }
}

/// Whether a heading or a row may be named in the source of elements.
fn names_part(source: &[u8]) -> bool {
    memchr_iter(b'/', source).any(|at| {
        let name = source.get(at + 1..).unwrap_or_default();
        matches!(name, [b'H', b'1'..=b'6', ..] | [b'T', b'R', ..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopdf::dictionary;

    /// Elements with their numbers, in a file of their own → what the marked content of page 9 is a part of.
    fn check(elements: &[(u32, &str)], expected: &[Option<Tag>]) {
        let mut document = Document::new();
        let roles = dictionary! { "Chapter Title" => "Big", "Big" => "H2", "Loop" => "Loop" };
        let root = dictionary! { "StructTreeRoot" => dictionary! { "RoleMap" => roles } };
        let root = document.add_object(root);
        document.trailer.set("Root", root);
        let mut file = String::new();
        let mut places = Vec::new();
        for (number, element) in elements {
            places.push((*number, file.len()));
            file.push_str(element);
        }
        let tags = Tags::of(&document, file.as_bytes(), &places);
        let found: Vec<Option<Tag>> = (0..).map(|n| tags.tag(9, n)).take(expected.len()).collect();
        assert_eq!(found, expected, "{file}");
    }

    #[test]
    fn headings_are_named_by_themselves_or_by_their_role() {
        let (first, second) = (Some(Tag::Heading(1)), Some(Tag::Heading(2)));
        check(
            &[
                (1, "<</S/H1/Pg 9 0 R/K 0>>"),
                (2, "<</S/Span/P 1 0 R/Pg 9 0 R/K[1]>>"),
                (3, "<</S/Chapter#20Title/Pg 9 0 R/K 2>>"),
                (4, "<</S/P/Pg 9 0 R/K 3>>"),
                (5, "<</S/Loop/Pg 9 0 R/K 4/P 5 0 R>>"),
            ],
            &[first, first, second, None, None],
        );
    }

    #[test]
    fn cells_know_their_place() {
        let cell = |column, header| {
            Some(Tag::Cell(CellTag {
                table: 1,
                row: 3,
                column,
                n_columns: 2,
                header,
            }))
        };
        check(
            &[
                (1, "<</S/Table/K[2 0 R]>>"),
                (2, "<</S/TBody/P 1 0 R/K[3 0 R]>>"),
                (3, "<</S/TR/P 2 0 R/K[4 0 R 5 0 R]>>"),
                (4, "<</S/TH/P 3 0 R/Pg 9 0 R/K 0>>"),
                (5, "<</S/TD/P 3 0 R/K[6 0 R]>>"),
                (6, "<</S/H3/P 5 0 R/Pg 9 0 R/K 1>>"),
                (7, "<</S/TD/P 8 0 R/Pg 9 0 R/K 2>>"),
            ],
            &[cell(0, true), cell(1, false), None],
        );
    }
}
