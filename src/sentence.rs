//! Text → lines and sentences, as quotes are made of them.
//!
//! A sentence ends at `.`, `?`, `!` or `。` before white space, unless what stands before the mark is only a label: `1.` and
//! `가.` begin an item, and `3.5` is a number.

/// The sentences of a text, line by line, trimmed, none empty.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    text.lines().flat_map(split_line).collect()
}

fn split_line(line: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut rest = line.trim();
    while let Some(end) = sentence_end(rest) {
        let (sentence, remainder) = rest.split_at(end);
        sentences.push(sentence);
        rest = remainder.trim_start();
    }
    if !rest.is_empty() {
        sentences.push(rest);
    }
    sentences
}

/// The byte behind the first sentence's mark, if white space follows it.
fn sentence_end(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let follows_space = characters
            .peek()
            .is_some_and(|(_, next)| next.is_whitespace());
        let end = at + character.len_utf8();
        match character {
            '?' | '!' | '。' if follows_space => return Some(end),
            '.' if follows_space && !text.get(..at).is_some_and(is_label) => return Some(end),
            _ => {}
        }
    }
    None
}

/// Whether the text before a full stop only numbers an item: digits, a single letter or syllable.
fn is_label(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_digit()) || text.chars().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_at_marks_and_not_at_labels() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text}");
        check(
            "휴직은 2년이다. 연장할 수 있다.",
            &["휴직은 2년이다.", "연장할 수 있다."],
        );
        check("1. 육아휴직: 2년 이내", &["1. 육아휴직: 2년 이내"]);
        check(
            "가. 국내 연수는 2년이다. 나누어 쓴다.",
            &["가. 국내 연수는 2년이다.", "나누어 쓴다."],
        );
        check("최대 2.5년으로 한다. 끝.", &["최대 2.5년으로 한다.", "끝."]);
        check("첫 줄\n\n둘째 줄? 셋째!", &["첫 줄", "둘째 줄?", "셋째!"]);
        check("", &[]);
    }
}
