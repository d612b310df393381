//! Which lines are names: of the whole document, and of each of several rules in it.

use super::legal::{ARTICLE, CHAPTER, PART};
use super::wording::{is_revision_note, is_title_like, tidied, without_notes};
use super::{Entry, Line, Unit, begins_unit};
use crate::document::{Block, BlockKind, Document};

/// How far above 제1조 a rule's name may stand: dates of revision, a chapter and a date lie between.
const MAX_BLOCKS_TO_NAME: usize = 8;

/// What the names of rules end in.
const RULE_SUFFIXES: [&str; 20] = [
    "규정",
    "규칙",
    "기준",
    "지침",
    "내규",
    "세칙",
    "요령",
    "정관",
    "강령",
    "조례",
    "약관",
    "법",
    "법률",
    "시행령",
    "시행규칙",
    "편람",
    "준칙",
    "협약",
    "매뉴얼",
    "가이드",
];

/// Finds the name line above each 제1조 or 제1장 that begins a rule; marks them if there are several.
pub(super) fn mark_rules(blocks: &[Block], lines: &mut [Line]) {
    let mut names: Vec<usize> = Vec::new();
    let mut first_unseen = 0;
    for (n, line) in lines.iter().enumerate() {
        let begins = [PART, CHAPTER, ARTICLE]
            .into_iter()
            .any(|rank| line.number_of(rank) == Some(1));
        if !begins {
            continue;
        }
        let lowest = n.saturating_sub(MAX_BLOCKS_TO_NAME).max(first_unseen);
        if let Some(name) = rule_name_above(blocks, lines, lowest, n) {
            names.push(name);
        }
        first_unseen = n + 1;
    }
    if names.len() < 2 {
        return;
    }
    for name in names {
        if let (Some(line), Some(block)) = (lines.get_mut(name), blocks.get(name)) {
            line.heading = Some(Entry {
                name: tidied(&block.text),
                unit: Unit::Rule,
                level: line.heading.as_ref().and_then(|heading| heading.level),
            });
            line.is_whole = true;
        }
    }
}

/// The nearest line above `below` that is not a date of revision, if it can be the name of a rule.
fn rule_name_above(blocks: &[Block], lines: &[Line], lowest: usize, below: usize) -> Option<usize> {
    let (position, block, line) = (lowest..below)
        .rev()
        .filter_map(|n| Some((n, blocks.get(n)?, lines.get(n)?)))
        .find(|(_, block, _)| !is_revision_note(&block.text))?;
    let is_marked = match (&line.heading, block.kind) {
        (Some(heading), _) if heading.unit != Unit::Plain => return None,
        (_, BlockKind::Heading { .. }) => true,
        (_, BlockKind::Paragraph) => false,
        (_, BlockKind::TableRow { .. } | BlockKind::Record) => return None,
    };
    let name = without_notes(&tidied(&block.text));
    let names_a_rule = RULE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    (is_title_like(&block.text) && (is_marked || names_a_rule)).then_some(position)
}

/// Finds the document's title and keeps it out of the paths.
pub(super) fn mark_title(document: &Document, lines: &mut [Line]) -> Option<String> {
    let blocks = &document.blocks;
    let position = match &document.title {
        Some(title) => blocks
            .iter()
            .position(|block| tidied(&block.text) == tidied(title))
            .filter(|&n| {
                lines.get(n).is_some_and(|line| {
                    !is_rule(line)
                        && matches!(
                            &line.heading,
                            None | Some(Entry {
                                unit: Unit::Plain,
                                ..
                            })
                        )
                })
            }),
        None => title_heading(lines).or_else(|| title_line(blocks, lines)),
    }?;
    let name = tidied(&blocks.get(position)?.text);
    let line = lines.get_mut(position)?;
    line.is_whole = true;
    line.heading = Some(Entry {
        name: name.clone(),
        unit: Unit::Title,
        level: line.heading.as_ref().and_then(|heading| heading.level),
    });
    Some(name)
}

fn is_rule(line: &Line) -> bool {
    line.heading
        .as_ref()
        .is_some_and(|heading| heading.unit == Unit::Rule)
}

/// The first heading, if no other stands as high.
fn title_heading(lines: &[Line]) -> Option<usize> {
    let mut headings = lines
        .iter()
        .enumerate()
        .filter_map(|(n, line)| Some((n, line.heading.as_ref()?)));
    let (first, title) = headings.next()?;
    let level = title.level?;
    let stands_alone = title.unit == Unit::Plain
        && headings.all(|(_, other)| other.level.is_none_or(|other| other > level));
    (stands_alone && first < MAX_BLOCKS_TO_NAME && is_title_like(&title.name)).then_some(first)
}

/// The first line, if it is short and something else plainly begins below it.
fn title_line(blocks: &[Block], lines: &[Line]) -> Option<usize> {
    let (block, line) = (blocks.first()?, lines.first()?);
    let (next, next_line) = (blocks.get(1)?, lines.get(1)?);
    let is_set_apart = match (block.location.line, next.location.line) {
        (Some(line), Some(next)) => next > line + 1,
        _ => false,
    };
    let next_begins =
        next_line.heading.is_some() || is_revision_note(&next.text) || begins_unit(&next.text);
    (block.kind == BlockKind::Paragraph
        && line.heading.is_none()
        && is_title_like(&block.text)
        && !begins_unit(&block.text)
        && (is_set_apart || next_begins))
        .then_some(0)
}

#[cfg(test)]
mod tests {
    use crate::document::structure::tests::check;

    #[test]
    fn rules_of_one_file_never_mix() {
        check(
            Some("인사 규정집"),
            &[
                ("# 인사 규정집", ""),
                ("휴직 관리기준", "휴직 관리기준"),
                ("제1조(목적) 휴직을 정한다.", "휴직 관리기준 > 제1조(목적)"),
                ("부칙", "휴직 관리기준 > 부칙"),
                (
                    "제1조(시행일) 바로.",
                    "휴직 관리기준 > 부칙 > 제1조(시행일)",
                ),
                ("근무 복장 규정", "근무 복장 규정"),
                ("(2020. 5. 1. 개정)", "근무 복장 규정"),
                ("제1조(목적) 복장을 정한다.", "근무 복장 규정 > 제1조(목적)"),
            ],
        );
    }
}
