//! What the words of a line say about it: a sentence, a title, a note on changes.

use super::MAX_HEADING_CHARS;
use crate::document::contents;

/// `[시행 2024. 1. 1.]`, `제정 2001.3.2`, `2020. 5. 1. 개정`, `(2019. 4. 1)`.
pub(super) fn is_revision_note(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "시행",
        "제정",
        "개정",
        "전부개정",
        "일부개정",
        "전문개정",
        "공포",
        "타법개정",
        "폐지",
        "훈령",
    ];
    let core = text.trim_start_matches(['[', '(', '<', '〈', '【', '*', ' ']);
    let n_digits = core.chars().filter(char::is_ascii_digit).count();
    n_digits >= 4
        && text.chars().count() <= 3 * MAX_HEADING_CHARS
        && !ends_like_sentence(text.trim_end_matches(['.', ')', ']']))
        && (WORDS
            .iter()
            .any(|word| core.starts_with(word) || core.contains(&format!(" {word}")))
            || n_digits * 2 >= core.chars().filter(|c| !c.is_whitespace()).count())
}

pub(super) fn is_title_like(text: &str) -> bool {
    let n_chars = text.chars().count();
    (2..=MAX_HEADING_CHARS).contains(&n_chars)
        && !text.contains(['\n', '\t'])
        && !text.contains(" | ")
        && text.chars().any(char::is_alphabetic)
        && !ends_like_sentence(text)
        && !contents::is_entry(text)
}

pub(super) fn ends_like_sentence(text: &str) -> bool {
    let text = text.trim_end();
    text.ends_with(['.', '。', '!', '?', ':', ';', ','])
        || text.ends_with('다')
        || text.ends_with("니까")
        || text.ends_with("세요")
        || (text.ends_with(['함', '음', '임']) && text.chars().count() > 15)
}

/// Without the notes on changes that statutes put behind names: `제2장 휴직 <개정 2020. 1. 1.>`.
pub(super) fn without_notes(name: &str) -> String {
    let end = name
        .char_indices()
        .find(|&(position, c)| position > 0 && matches!(c, '<' | '〈'))
        .map_or(name.len(), |(position, _)| position);
    name.get(..end).unwrap_or(name).trim_end().to_owned()
}

/// One line with single spaces; words spaced out for looks (`총    칙`, `취 업 규 칙`) are drawn together.
pub(super) fn tidied(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_spaced_out = words.len() >= 2
        && words.iter().all(|word| {
            let mut chars = word.chars();
            matches!((chars.next(), chars.next()), (Some('가'..='힣'), None))
        });
    words.join(if is_spaced_out { "" } else { " " })
}
