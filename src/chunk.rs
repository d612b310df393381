//! [`Document`] → [`Chunk`]s: the units that are embedded, searched and cited.
//!
//! A chunk is about [`TARGET_CHARS`] characters and never crosses a section, so that its path is true for all of it.
//! A CSV record is one chunk. Table rows keep their header: it is repeated at the top of each chunk that holds rows of
//! the table. An over-long block is cut at a sentence end, else at white space, never inside a word unless the word
//! itself is longer than a chunk. Headings stand in the path and are not repeated in the text, unless nothing follows.

use crate::document::{Block, BlockKind, Document, Location};

/// A chunk takes further blocks until it would exceed this many characters. Published comparisons on Korean office
/// PDFs find 300 best or second best for retrieval; the prompt widens each hit to its section again.
pub const TARGET_CHARS: usize = 300;

/// A block up to this long stays whole: cutting a 330-character clause in two loses more than it gains.
const MAX_BLOCK_CHARS: usize = 450;

/// Longest path element that is embedded; a heading beyond this is a mis-read paragraph.
const MAX_HEADING_CHARS: usize = 120;

/// A passage that lies within one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The passage as the document has it; what is quoted and cited.
    pub text: String,
    /// The document's title and the section path, outermost first: `휴직 및 복직 관리기준`, `제2장 휴직`, `제3조(휴직기간)`.
    pub path: Vec<String>,
    /// Where the passage begins.
    pub location: Location,
}

impl Chunk {
    /// What is embedded: the path, then the text, so that a short clause carries its headings.
    #[must_use]
    pub fn embedded_text(&self) -> String {
        if self.path.is_empty() {
            self.text.clone()
        } else {
            format!("{}\n{}", self.path.join(" > "), self.text)
        }
    }
}

/// Splits a document into chunks that cover every block in order and never cross a section.
#[must_use]
pub fn split(document: &Document) -> Vec<Chunk> {
    let mut splitter = Splitter {
        title: document.title.as_deref(),
        ..Splitter::default()
    };
    for block in &document.blocks {
        splitter.push(block);
    }
    splitter.finish()
}

/// The chunk under construction and those that are done.
#[derive(Default)]
struct Splitter<'a> {
    title: Option<&'a str>,
    done: Vec<Chunk>,
    text: String,
    n_chars: usize,
    location: Option<Location>,
    /// A heading that no text has followed yet.
    heading: Option<&'a Block>,
    /// The table whose rows are being added, and its header line.
    table: Option<(u32, Option<String>)>,
}

impl<'a> Splitter<'a> {
    fn push(&mut self, block: &'a Block) {
        if self
            .location
            .as_ref()
            .is_some_and(|location| !same_section(location, &block.location))
        {
            self.close();
        }
        if self.heading.is_some_and(|heading| {
            !block
                .location
                .section
                .starts_with(&heading.location.section)
        }) {
            self.close_heading();
        }
        match block.kind {
            BlockKind::Heading { .. } => {
                self.close();
                self.heading = Some(block);
            }
            BlockKind::Paragraph => {
                self.table = None;
                for piece in pieces(&block.text, MAX_BLOCK_CHARS) {
                    self.add(piece, &block.location);
                }
            }
            BlockKind::TableRow { table, header } => self.push_row(block, table, header),
            BlockKind::Record => {
                self.close();
                for piece in pieces(&block.text, 4 * TARGET_CHARS) {
                    self.add(piece, &block.location);
                    self.close();
                }
            }
        }
    }

    fn push_row(&mut self, block: &'a Block, table: u32, header: bool) {
        if self
            .table
            .as_ref()
            .is_none_or(|(current, _)| *current != table)
        {
            self.table = Some((table, None));
        }
        if header && let Some((_, line)) = &mut self.table {
            *line = Some(block.text.clone());
        }
        for piece in pieces(&block.text, 4 * TARGET_CHARS) {
            if self.n_chars > 0 && self.n_chars + piece.chars().count() > TARGET_CHARS {
                self.close();
            }
            if self.text.is_empty()
                && !header
                && let Some((_, Some(line))) = self.table.clone()
            {
                self.add(&line, &block.location);
            }
            self.append(piece, &block.location);
        }
    }

    /// Adds a line, in a new chunk when the current one is full.
    fn add(&mut self, line: &str, location: &Location) {
        if self.n_chars > 0 && self.n_chars + line.chars().count() > TARGET_CHARS {
            self.close();
        }
        self.append(line, location);
    }

    fn append(&mut self, line: &str, location: &Location) {
        self.heading = None;
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.n_chars += line.chars().count() + 1;
        self.location.get_or_insert_with(|| location.clone());
    }

    fn close(&mut self) {
        if let Some(location) = self.location.take() {
            let text = std::mem::take(&mut self.text);
            self.n_chars = 0;
            self.done.push(Chunk {
                text,
                path: path(self.title, &location),
                location,
            });
        }
    }

    /// A heading with nothing under it is a chunk of its own: its words may be all that the document says.
    fn close_heading(&mut self) {
        if let Some(heading) = self.heading.take() {
            let location = heading.location.clone();
            self.done.push(Chunk {
                text: heading.text.clone(),
                path: path(self.title, &location),
                location,
            });
        }
    }

    fn finish(mut self) -> Vec<Chunk> {
        self.close();
        self.close_heading();
        self.done
    }
}

fn same_section(a: &Location, b: &Location) -> bool {
    a.section == b.section && a.sheet == b.sheet
}

fn path(title: Option<&str>, location: &Location) -> Vec<String> {
    let headings = title
        .into_iter()
        .chain(location.sheet.as_deref())
        .chain(location.section.iter().map(String::as_str));
    headings
        .map(|heading| heading.chars().take(MAX_HEADING_CHARS).collect())
        .collect()
}

/// Cuts a text into pieces of at most `max_chars`, each as long as a sentence end allows.
fn pieces(text: &str, max_chars: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while rest.chars().count() > max_chars {
        let (piece, remainder) = rest.split_at(cut(rest, TARGET_CHARS.min(max_chars)));
        pieces.push(piece.trim_end());
        rest = remainder.trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The byte at which to cut a text that is longer than `max_chars`: after the last line or sentence end in the later
/// half of the first `max_chars` characters, else before the last white space, else at `max_chars`.
fn cut(text: &str, max_chars: usize) -> usize {
    let mut sentence = None;
    let mut space = None;
    let mut previous = ' ';
    let mut end = text.len();
    for (n, (at, character)) in text.char_indices().enumerate() {
        if n >= max_chars {
            end = at;
            break;
        }
        if n > max_chars / 2 {
            if character == '\n'
                || (character.is_whitespace() && matches!(previous, '.' | '?' | '!' | '。' | ';'))
            {
                sentence = Some(at);
            }
            if character.is_whitespace() {
                space = Some(at);
            }
        }
        previous = character;
    }
    sentence.or(space).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: BlockKind, section: &[&str], text: &str) -> Block {
        let section = section.iter().map(ToString::to_string).collect();
        Block {
            kind,
            text: text.into(),
            location: Location {
                section,
                ..Location::default()
            },
        }
    }

    fn document(blocks: Vec<Block>) -> Document {
        Document {
            title: Some("휴직 기준".into()),
            blocks,
        }
    }

    fn texts(chunks: &[Chunk]) -> Vec<&str> {
        chunks.iter().map(|chunk| chunk.text.as_str()).collect()
    }

    #[test]
    fn a_chunk_never_crosses_a_section_and_carries_its_path() {
        let chunks = split(&document(vec![
            block(
                BlockKind::Paragraph,
                &["제1조(목적)"],
                "제1조(목적) 이 기준은 휴직을 정한다.",
            ),
            block(
                BlockKind::Paragraph,
                &["제2조(기간)"],
                "제2조(기간) ① 2년으로 한다.",
            ),
            block(
                BlockKind::Paragraph,
                &["제2조(기간)"],
                "② 나누어 쓸 수 있다.",
            ),
        ]));
        assert_eq!(
            texts(&chunks),
            [
                "제1조(목적) 이 기준은 휴직을 정한다.",
                "제2조(기간) ① 2년으로 한다.\n② 나누어 쓸 수 있다."
            ]
        );
        assert_eq!(chunks[1].path, ["휴직 기준", "제2조(기간)"]);
        assert!(
            chunks[1]
                .embedded_text()
                .starts_with("휴직 기준 > 제2조(기간)\n")
        );
    }

    #[test]
    fn a_heading_stands_in_the_path_unless_nothing_follows_it() {
        let heading = BlockKind::Heading { level: 1 };
        let chunks = split(&document(vec![
            block(heading, &["총칙"], "총칙"),
            block(heading, &["총칙", "개요"], "개요"),
            block(BlockKind::Paragraph, &["총칙", "개요"], "내용"),
            block(heading, &["부록"], "부록"),
        ]));
        assert_eq!(texts(&chunks), ["내용", "부록"]);
    }

    #[test]
    fn table_rows_repeat_their_header() {
        let header = BlockKind::TableRow {
            table: 0,
            header: true,
        };
        let row = BlockKind::TableRow {
            table: 0,
            header: false,
        };
        let mut blocks = vec![block(header, &[], "구분 | 복장")];
        blocks.extend((0..20).map(|n| {
            block(
                row,
                &[],
                &format!("부서 {n} | 흰 셔츠와 단정한 바지를 입는다"),
            )
        }));
        let chunks = split(&document(blocks));
        assert!(chunks.len() > 1);
        for chunk in &chunks {
            assert!(
                chunk.text.starts_with("구분 | 복장\n부서 "),
                "{}",
                chunk.text
            );
        }
    }

    #[test]
    fn every_word_of_a_long_block_is_kept_in_order_within_the_limit() {
        let text = "직원은 휴직 기간이 끝나면 지체 없이 복직을 신청하여야 한다. ".repeat(40);
        let chunks = split(&document(vec![block(
            BlockKind::Paragraph,
            &[],
            text.trim(),
        )]));
        let joined: Vec<&str> = chunks
            .iter()
            .flat_map(|chunk| chunk.text.split_whitespace())
            .collect();
        assert_eq!(joined, text.split_whitespace().collect::<Vec<_>>());
        for chunk in &chunks {
            assert!(chunk.text.chars().count() <= MAX_BLOCK_CHARS);
            assert!(
                chunk.text.ends_with("한다."),
                "cut inside a sentence: {}",
                chunk.text
            );
        }
    }

    #[test]
    fn a_word_longer_than_a_chunk_is_cut_between_characters() {
        let chunks = split(&document(vec![block(
            BlockKind::Paragraph,
            &[],
            &"가".repeat(1000),
        )]));
        assert_eq!(
            chunks
                .iter()
                .map(|chunk| chunk.text.chars().count())
                .sum::<usize>(),
            1000
        );
    }

    #[test]
    fn a_record_is_one_chunk() {
        let record = |n| block(BlockKind::Record, &[], &format!("질문: {n}번?\n답변: 예"));
        let chunks = split(&document(vec![record(1), record(2)]));
        assert_eq!(
            texts(&chunks),
            ["질문: 1번?\n답변: 예", "질문: 2번?\n답변: 예"]
        );
    }
}
