//! Plain text → one block a line, or a paragraph where lines were wrapped at a fixed width.
//!
//! Korean rules and statutes in plain text have one clause a line, whatever its length; mail and old documents are
//! wrapped at 60 to 100 columns. Lines are joined only if the whole file shows such a width and the next word would
//! not have fitted. Headings are not marked here: [`super::structure`] finds them.

use anyhow::Result;
use unicode_width::UnicodeWidthStr;

use super::{Block, BlockKind, Budget, Document, Location, Warning, encoding, structure};

/// Widths, in columns, at which programs and people wrap text.
const WRAP_COLUMNS: std::ops::RangeInclusive<usize> = 50..=120;

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let (text, warnings) = encoding::decode(bytes)?;
    let wrapping = Wrapping::of(&text);
    let mut blocks: Vec<Block> = Vec::new();
    let mut previous: Option<&str> = None;
    let lines = (1_u32..)
        .zip(text.split('\n'))
        .flat_map(|(number, line)| line.split('\u{c}').map(move |part| (number, part)));
    for (number, line) in lines {
        if number.is_multiple_of(4096) {
            budget.check_time()?;
        }
        let trimmed = line.trim();
        if trimmed.is_empty() {
            previous = None;
            continue;
        }
        let joint = previous.and_then(|previous| wrapping.as_ref()?.joint(previous, line));
        match (joint, blocks.last_mut()) {
            (Some(joint), Some(block)) => {
                block.text.push_str(joint);
                block.text.push_str(trimmed);
            }
            _ => blocks.push(Block {
                kind: BlockKind::Paragraph,
                text: trimmed.to_owned(),
                location: Location {
                    line: Some(number),
                    ..Location::default()
                },
            }),
        }
        previous = Some(line);
    }
    Ok((
        Document {
            title: None,
            blocks,
        },
        warnings,
    ))
}

/// The width a text was wrapped at.
struct Wrapping {
    n_columns: usize,
    /// Lines break between any two characters, not only between words, as some Korean editors do.
    within_words: bool,
}

impl Wrapping {
    fn of(text: &str) -> Option<Wrapping> {
        let widths: Vec<usize> = text
            .lines()
            .map(|line| line.trim_end().width())
            .filter(|&width| width > 0)
            .collect();
        let n_columns = widths.iter().copied().max()?;
        let n_full = widths
            .iter()
            .filter(|&&width| width * 100 >= n_columns * 85)
            .count();
        let n_brim_full = widths
            .iter()
            .filter(|&&width| width + 1 >= n_columns)
            .count();
        (WRAP_COLUMNS.contains(&n_columns) && n_full >= 4 && n_full * 4 >= widths.len()).then_some(
            Wrapping {
                n_columns,
                within_words: n_full >= 8 && n_brim_full * 10 >= n_full * 9,
            },
        )
    }

    /// What to put between two lines of one paragraph; `None` if the second begins something new.
    fn joint(&self, line: &str, next: &str) -> Option<&'static str> {
        if begins_item(next) || is_indented_further(line, next) {
            return None;
        }
        let width = line.trim_end().width();
        if self.within_words {
            let breaks_a_word = !line.ends_with(' ') && !next.starts_with(' ');
            return (width + 1 >= self.n_columns).then_some(if breaks_a_word { "" } else { " " });
        }
        let n_next_columns = next
            .split_whitespace()
            .next()
            .map_or(0, |word| word.width());
        (width + 1 + n_next_columns > self.n_columns).then_some(" ")
    }
}

/// A clause, a list item, a quotation or a table line stands for itself.
fn begins_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with([
        '-', '*', '•', '·', '○', '□', '■', '▶', '※', '>', '|', '+', '#', '<', '[',
    ]) || structure::begins_unit(line)
}

/// More than the first line's own indentation: a new paragraph or an inset.
fn is_indented_further(line: &str, next: &str) -> bool {
    let indentation = |line: &str| line.width() - line.trim_start().width();
    indentation(next) > indentation(line) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u32, &str)]) {
        let (document, _) = parse(text.as_bytes(), &Budget::standard()).unwrap();
        let found: Vec<(u32, &str)> = document
            .blocks
            .iter()
            .map(|block| (block.location.line.unwrap(), block.text.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_is_a_block() {
        check(
            "지급보험금 계산\r\n\r\n  1. 입원 보험금\n① 하루 3만원\n",
            &[
                (1, "지급보험금 계산"),
                (3, "1. 입원 보험금"),
                (4, "① 하루 3만원"),
            ],
        );
        check("앞쪽\n\u{c}뒤쪽\n", &[(1, "앞쪽"), (2, "뒤쪽")]);
    }

    #[test]
    fn wrapped_lines_are_joined() {
        let mail = "\
안녕하세요. 지난 회의에서 말씀드린 대로 육아휴직 신청 기한은 휴직을
시작하려는 날의 30일 전까지이며, 부득이한 경우에는 7일 전까지로 한다고
정하였습니다. 복직은 휴직 기간이 끝나기 전에 신청하여야 하며 인사팀에서
확인합니다.

- 신청서는 인사팀 서식을 쓰며, 반드시 부서장의 서명을 받아 주시기 바라며
- 진단서는 원본을 냅니다
";
        check(
            mail,
            &[
                (
                    1,
                    "안녕하세요. 지난 회의에서 말씀드린 대로 육아휴직 신청 기한은 휴직을 시작하려는 날의 30일 전까지이며, 부득이한 경우에는 7일 전까지로 한다고 정하였습니다. 복직은 휴직 기간이 끝나기 전에 신청하여야 하며 인사팀에서 확인합니다.",
                ),
                (
                    6,
                    "- 신청서는 인사팀 서식을 쓰며, 반드시 부서장의 서명을 받아 주시기 바라며",
                ),
                (7, "- 진단서는 원본을 냅니다"),
            ],
        );
    }
}
