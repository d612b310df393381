//! HTML → headings, paragraphs, list items and table rows.
//!
//! Parsed as browsers parse it (html5ever), then walked without recursion. What a browser does not show (scripts,
//! styles, templates, hidden elements) is left out; numbers of ordered lists, which browsers compute, are part of the
//! text. Tables that only lay out a page are unwrapped. Also reads the HTML tables that web applications save as
//! `.xls`.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use scraper::node::Element;
use scraper::{Html, Node};

use super::{Block, BlockKind, Budget, Document, Location, Warning, encoding, table};

/// html5ever's time grows with the square of the nesting: no page that people wrote comes near this.
const MAX_OPEN_ELEMENTS: usize = 4096;

/// Cells that one cell may span.
const MAX_SPAN: usize = 256;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let (text, warnings) = encoding::decode(bytes)?;
    ensure!(
        text.len() <= budget.max_part_bytes && deepest_nesting(&text) <= MAX_OPEN_ELEMENTS,
        "HTML nested deeper than {MAX_OPEN_ELEMENTS} elements, or larger than {} MiB: refused",
        budget.max_part_bytes >> 20
    );
    let html = Html::parse_document(&text);
    let mut reader = Reader::default();
    let mut node = html.tree.root();
    let mut n_nodes = 0_u32;
    loop {
        n_nodes = n_nodes.wrapping_add(1);
        if n_nodes.is_multiple_of(8192) {
            budget.check_time()?;
        }
        let is_entered = match node.value() {
            Node::Text(text) => {
                reader.text(text);
                true
            }
            Node::Element(element) => reader.enter(element),
            Node::Document
            | Node::Fragment
            | Node::Doctype(_)
            | Node::Comment(_)
            | Node::ProcessingInstruction(_) => true,
        };
        if is_entered && let Some(child) = node.first_child() {
            node = child;
            continue;
        }
        // Up to the nearest ancestor that has something behind it.
        loop {
            if let Node::Element(element) = node.value() {
                reader.leave(element);
            }
            if let Some(next) = node.next_sibling() {
                node = next;
                break;
            }
            let Some(parent) = node.parent() else {
                return Ok((reader.finish(), warnings));
            };
            node = parent;
        }
    }
}

/// An upper bound for how many elements are open at once, counted in tags. Elements that are never closed count only
/// where they nest.
fn deepest_nesting(text: &str) -> usize {
    const NEVER_NESTED: [&str; 17] = [
        "br", "hr", "img", "input", "meta", "link", "p", "li", "td", "th", "tr", "dt", "dd",
        "option", "col", "wbr", "area",
    ];
    let (mut n_open, mut deepest) = (0_usize, 0_usize);
    for piece in text.split('<').skip(1) {
        if piece.starts_with('/') {
            n_open = n_open.saturating_sub(1);
            continue;
        }
        let name: String = piece
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if !name.is_empty() && !NEVER_NESTED.contains(&name.as_str()) {
            n_open += 1;
            deepest = deepest.max(n_open);
        }
    }
    deepest
}

#[derive(Default)]
struct Reader {
    /// Finished blocks of the page and of each open cell.
    sinks: Vec<Vec<Block>>,
    page: Vec<Block>,
    text: String,
    heading: Option<u8>,
    /// Numbers of the open lists; `None` for those with bullets.
    lists: Vec<Option<u32>>,
    tables: Vec<Table>,
    n_tables: u32,
    page_title: String,
    in_page_title: bool,
    has_first_heading: bool,
    is_preformatted: bool,
}

#[derive(Default)]
struct Table {
    id: u32,
    rows: Vec<Vec<Cell>>,
    n_header_rows: usize,
    has_body: bool,
    /// Column → rows that the cell above still reaches into, and its text.
    spanning: HashMap<usize, (usize, String)>,
}

#[derive(Default)]
struct Cell {
    text: String,
    blocks: Vec<Block>,
}

impl Reader {
    /// Whether the element's content is read.
    fn enter(&mut self, element: &Element) -> bool {
        let is_hidden = element.attr("hidden").is_some()
            || element
                .attr("style")
                .is_some_and(|style| style.replace(' ', "").contains("display:none"));
        if is_hidden {
            return false;
        }
        match element.name() {
            "script" | "style" | "template" | "noscript" | "iframe" | "svg" | "select"
            | "textarea" | "object" => return false,
            "title" => self.in_page_title = true,
            "br" => self.text.push('\n'),
            "pre" => {
                self.end_paragraph();
                self.is_preformatted = true;
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_paragraph();
                self.heading = heading_level(element.name());
                self.has_first_heading |= self.heading == Some(1);
            }
            "ol" => {
                self.end_paragraph();
                let start = element.attr("start").and_then(|start| start.parse().ok());
                self.lists.push(Some(start.unwrap_or(1)));
            }
            "ul" | "menu" => {
                self.end_paragraph();
                self.lists.push(None);
            }
            "li" => {
                self.end_paragraph();
                if let Some(Some(number)) = self.lists.last_mut() {
                    self.text = format!("{number}. ");
                    *number = number.saturating_add(1);
                }
            }
            "table" => {
                self.end_paragraph();
                self.tables.push(Table {
                    id: self.n_tables,
                    ..Table::default()
                });
                self.n_tables += 1;
            }
            "tr" => {
                if let Some(table) = self.tables.last_mut() {
                    table.rows.push(Vec::new());
                    table.fill_spanned();
                }
            }
            "td" | "th" => self.enter_cell(),
            name if is_block(name) => self.end_paragraph(),
            _ => {}
        }
        true
    }

    fn leave(&mut self, element: &Element) {
        match element.name() {
            "title" => self.in_page_title = false,
            "pre" => {
                self.end_paragraph();
                self.is_preformatted = false;
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_paragraph();
                self.heading = None;
            }
            "ol" | "ul" | "menu" => {
                self.end_paragraph();
                self.lists.pop();
            }
            "td" | "th" => self.leave_cell(element),
            "table" => {
                self.end_paragraph();
                self.end_table();
            }
            name if is_block(name) => self.end_paragraph(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_page_title {
            self.page_title.push_str(text);
        } else if self.is_preformatted {
            self.text.push_str(text);
        } else {
            // Line breaks of the source are spaces.
            for (n, word) in text.split([' ', '\n', '\t', '\r', '\u{c}']).enumerate() {
                if n > 0 && !self.text.ends_with([' ', '\n']) {
                    self.text.push(' ');
                }
                self.text.push_str(word);
            }
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.text);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let text = lines.join("\n");
        if !text.is_empty() {
            let kind = match self.heading {
                Some(level) => BlockKind::Heading { level },
                None => BlockKind::Paragraph,
            };
            self.sink().push(Block {
                kind,
                text,
                location: Location::default(),
            });
        }
    }

    fn sink(&mut self) -> &mut Vec<Block> {
        self.sinks.last_mut().unwrap_or(&mut self.page)
    }

    fn enter_cell(&mut self) {
        self.end_paragraph();
        self.sinks.push(Vec::new());
    }

    fn leave_cell(&mut self, element: &Element) {
        self.end_paragraph();
        let Some(blocks) = self.sinks.pop() else {
            return;
        };
        let Some(table) = self.tables.last_mut() else {
            self.sink().extend(blocks);
            return;
        };
        let span = |name: &str| {
            let n = element.attr(name).and_then(|n| n.trim().parse().ok());
            n.unwrap_or(1_usize).clamp(1, MAX_SPAN)
        };
        let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
        let text = texts.join("\n");
        table.push_cell(Cell { text, blocks }, span("colspan"), span("rowspan"));
        if element.name() == "td" {
            table.has_body = true;
        } else if !table.has_body {
            table.n_header_rows = table.rows.len();
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.tables.pop() else {
            return;
        };
        let is_layout = table
            .rows
            .iter()
            .all(|row| row.iter().filter(|cell| !cell.text.is_empty()).count() <= 1)
            || table.rows.iter().flatten().any(|cell| {
                cell.blocks
                    .iter()
                    .any(|block| matches!(block.kind, BlockKind::TableRow { .. }))
            });
        if is_layout {
            let blocks = table
                .rows
                .into_iter()
                .flatten()
                .flat_map(|cell| cell.blocks);
            self.sink().extend(blocks);
            return;
        }
        let n_header_rows = (table.n_header_rows > 0).then_some(table.n_header_rows);
        let rows: Vec<(Vec<String>, Location)> = table
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.text).collect())
            .map(|row| (row, Location::default()))
            .collect();
        let blocks = table::row_blocks(&rows, n_header_rows, table.id);
        self.sink().extend(blocks);
    }

    fn finish(mut self) -> Document {
        self.end_paragraph();
        while let Some(blocks) = self.sinks.pop() {
            self.sink().extend(blocks);
        }
        let page_title = self.page_title.trim();
        let title =
            (!self.has_first_heading && !page_title.is_empty()).then(|| page_title.to_owned());
        Document {
            title,
            blocks: self.page,
        }
    }
}

impl Table {
    fn push_cell(&mut self, cell: Cell, n_columns: usize, n_rows: usize) {
        let Some(row) = self.rows.last_mut() else {
            return;
        };
        if n_rows > 1 {
            self.spanning
                .insert(row.len(), (n_rows - 1, cell.text.clone()));
        }
        row.push(cell);
        row.extend((1..n_columns).map(|_| Cell::default()));
        self.fill_spanned();
    }

    /// Repeats what reaches down from above into the next columns.
    fn fill_spanned(&mut self) {
        let Some((row, [_, ..])) = self.rows.split_last_mut() else {
            return;
        };
        while let Some((n_left, text)) = self.spanning.get_mut(&row.len()) {
            if *n_left == 0 {
                break;
            }
            *n_left -= 1;
            let text = text.clone();
            row.push(Cell {
                text,
                blocks: Vec::new(),
            });
        }
    }
}

fn heading_level(name: &str) -> Option<u8> {
    name.strip_prefix('h')?.parse().ok()
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "li"
            | "section"
            | "article"
            | "header"
            | "footer"
            | "main"
            | "nav"
            | "aside"
            | "blockquote"
            | "dl"
            | "dt"
            | "dd"
            | "figure"
            | "figcaption"
            | "form"
            | "fieldset"
            | "legend"
            | "address"
            | "caption"
            | "hr"
            | "center"
            | "details"
            | "summary"
            | "option"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, expected: &[&str]) -> Document {
        let (document, _) = parse(html.as_bytes(), &Budget::standard()).unwrap();
        let texts: Vec<&str> = document.blocks.iter().map(|b| b.text.as_str()).collect();
        assert_eq!(texts, expected);
        document
    }

    #[test]
    fn shown_text_is_read() {
        let document = check(
            "<title>x</title><style>p{}</style><h1>휴직 기준</h1><p>휴직은 <b>2년</b>\n이내로<br>한다.<script>no()</script><ol start=3><li>첫째<li>둘째</ol><div hidden>숨김</div><div>끝&amp;</div>",
            &[
                "휴직 기준",
                "휴직은 2년 이내로\n한다.",
                "3. 첫째",
                "4. 둘째",
                "끝&",
            ],
        );
        assert_eq!(document.blocks[0].kind, BlockKind::Heading { level: 1 });
        assert_eq!(document.title, None);
    }

    #[test]
    fn tables_have_rows_and_repeat_what_spans_down() {
        let document = check(
            "<table><tr><th>구분<th>종류<th>기간<tr><td rowspan=2>연수<td>국내<td>2년<tr><td>국외<td>3년<tr><td colspan=2>합계<td>5년</table>",
            &[
                "구분 | 종류 | 기간",
                "연수 | 국내 | 2년",
                "연수 | 국외 | 3년",
                "합계 |  | 5년",
            ],
        );
        let header = |n: usize| {
            document.blocks[n].kind
                == (BlockKind::TableRow {
                    table: 0,
                    header: true,
                })
        };
        assert!(header(0) && !header(1));
    }

    #[test]
    fn layout_tables_are_unwrapped() {
        check(
            "<table><tr><td><h2>제목</h2><p>본문</p><table><tr><td>가<td>나<tr><td>다<td>라</table></td><td>옆</td></tr></table>",
            &["제목", "본문", "가 | 나", "다 | 라", "옆"],
        );
    }

    #[test]
    fn absurd_nesting_is_refused() {
        let error = parse("<div>".repeat(100_000).as_bytes(), &Budget::standard()).unwrap_err();
        assert!(error.to_string().contains("nested deeper"), "{error}");
    }
}
