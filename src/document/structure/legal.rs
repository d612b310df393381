//! Legal units by their form: `제3조(휴직기간)`, `제2장 휴직`, `부칙`, `[별표 1]`, and what only refers to one.

use super::scanner::Scanner;
use super::wording::{ends_like_sentence, tidied, without_notes};
use super::{Entry, MAX_HEADING_CHARS, Unit};
use crate::document::contents;

pub(super) const PART: u8 = 1;
pub(super) const CHAPTER: u8 = 2;
pub(super) const ARTICLE: u8 = 5;

/// A legal unit at the beginning of a line, and the text behind it on the same line. A line that a reader marked as a
/// heading needs no brackets behind `제3조`.
pub(super) fn legal_heading(line: &str, is_heading: bool) -> Option<(Entry, &str)> {
    if contents::is_entry(line) {
        return None;
    }
    numbered_unit(line, is_heading).or_else(|| attachment(line).map(|entry| (entry, "")))
}

fn numbered_unit(line: &str, is_heading: bool) -> Option<(Entry, &str)> {
    let mut scanner = Scanner(line);
    if !scanner.eat("제") {
        return None;
    }
    scanner.spaces();
    let number = scanner.number()?;
    scanner.spaces();
    let unit = scanner.eat_char()?;
    let rank = "편장절관조".chars().position(|c| c == unit)?;
    let rank = u8::try_from(rank).ok()? + 1;
    let branch = scanner.branch();
    let label = match branch {
        Some(branch) => format!("제{number}{unit}의{branch}"),
        None => format!("제{number}{unit}"),
    };
    let (name, rest) = if rank == ARTICLE {
        article_name(&label, scanner.0, is_heading)?
    } else {
        (chapter_name(&label, scanner.0)?, "")
    };
    // 제1조의2 does not begin a rule.
    let number = if branch.is_some() { u32::MAX } else { number };
    let entry = Entry {
        name,
        unit: Unit::Legal { rank, number },
        level: None,
    };
    Some((entry, rest))
}

/// `(휴직기간) ① …` → `제3조(휴직기간)` and `① …`. References (`제3조(휴직기간)에 따라`) are none.
fn article_name<'a>(label: &str, behind: &'a str, is_heading: bool) -> Option<(String, &'a str)> {
    let text = behind.trim_start();
    let closing = match text.chars().next() {
        Some('(') => ')',
        Some('（') => '）',
        Some('[') => ']',
        Some('【') => '】',
        Some('〔') => '〕',
        _ => return bare_article_name(label, behind, is_heading),
    };
    let Some(end) = closing_bracket(text, closing) else {
        // The title runs on in the next line.
        let is_short = text.chars().count() <= MAX_HEADING_CHARS / 2;
        return is_short.then(|| (format!("{label}{}", tidied(text)), ""));
    };
    let (title, rest) = text.split_at_checked(end)?;
    if title.chars().count() > MAX_HEADING_CHARS || continues_reference(rest) {
        return None;
    }
    let title = tidied(title);
    // 제3조의2(휴직기간의 특례 <개정 2020. 5. 1.>)
    let title = if title.contains(['<', '〈']) {
        format!("{}{closing}", without_notes(&title))
    } else {
        title
    };
    Some((format!("{label}{title}"), rest.trim()))
}

/// `제5조 삭제 <2020. 1. 1.>`, and `제5조 휴직기간` where a reader marked the line as a heading.
fn bare_article_name<'a>(
    label: &str,
    behind: &'a str,
    is_heading: bool,
) -> Option<(String, &'a str)> {
    let text = behind.trim();
    if is_heading && (text.is_empty() || behind.starts_with(char::is_whitespace)) {
        return Some((tidied(&format!("{label} {text}")), ""));
    }
    let rest = text.strip_prefix("삭제")?;
    let is_removed = rest.is_empty() || rest.trim_start().starts_with(['<', '[', '(', '〈']);
    is_removed.then(|| (format!("{label} 삭제"), rest.trim()))
}

/// Where the bracket that opens `text` is closed, in bytes behind it; titles may hold brackets.
fn closing_bracket(text: &str, closing: char) -> Option<usize> {
    let opening = text.chars().next()?;
    let mut depth = 0_usize;
    for (position, c) in text.char_indices() {
        if c == opening {
            depth += 1;
        } else if c == closing {
            depth -= 1;
            if depth == 0 {
                return Some(position + c.len_utf8());
            }
        }
    }
    None
}

/// What follows a reference to an article, but never its heading.
fn continues_reference(rest: &str) -> bool {
    const ATTACHED: [&str; 17] = [
        "에", "의 ", "를 ", "을 ", "와 ", "과 ", "은 ", "는 ", "제", "부터", "까지", "로 ", "및",
        "또는", "내지", ",", "ㆍ",
    ];
    const APART: [&str; 6] = ["및 ", "또는 ", "내지 ", "부터 ", "까지 ", "의 "];
    let apart = rest.trim_start();
    if apart.len() == rest.len() {
        return ATTACHED.iter().any(|word| rest.starts_with(word));
    }
    let mut scanner = Scanner(apart);
    let names_clause = scanner.eat("제") && scanner.number().is_some() && scanner.eat("항");
    names_clause || APART.iter().any(|word| apart.starts_with(word))
}

/// ` 휴직` → `제2장 휴직`; `제2장의 규정에 따라` is none.
fn chapter_name(label: &str, behind: &str) -> Option<String> {
    const PARTICLES: [&str; 13] = [
        "에", "의", "을", "를", "은", "는", "과", "와", "및", "또는", "내지", "부터", "까지",
    ];
    let title = behind.trim();
    let is_reference = PARTICLES.iter().any(|particle| {
        title.strip_prefix(particle).is_some_and(|rest| {
            // 제2장 은퇴: a particle ends its word when it stands apart, and begins it when attached.
            !behind.starts_with(char::is_whitespace) || rest.starts_with(char::is_whitespace)
        })
    });
    if is_reference || title.chars().count() > MAX_HEADING_CHARS || ends_like_sentence(title) {
        return None;
    }
    let title = without_notes(&tidied(title));
    Some(if title.is_empty() || title.starts_with(['(', '[']) {
        format!("{label}{title}")
    } else {
        format!("{label} {title}")
    })
}

/// 부칙, 별표, 별지; 별첨 and 붙임 with a bracket or a number.
fn attachment(line: &str) -> Option<Entry> {
    let mut scanner = Scanner(line);
    let is_bracketed = ["[", "<", "(", "【", "〔", "‹", "〈", "■ [", "■["]
        .into_iter()
        .any(|bracket| scanner.eat(bracket));
    scanner.spaces();
    let word = ["부칙", "별표", "별지", "별첨", "붙임"]
        .into_iter()
        .find(|word| scanner.eat_spaced(word))?;
    let has_space = scanner.spaces();
    let behind_word = scanner.0;
    let has_number = scanner.eat("제") | scanner.number().is_some();
    let is_numbered = has_number && {
        scanner.number();
        scanner.spaces();
        scanner.eat("호");
        scanner.branch();
        true
    };
    let is_separate = scanner.0.is_empty()
        || scanner
            .0
            .starts_with(|c: char| c.is_whitespace() || "[]()<>〈〉【】〔〕.:-‹›".contains(c))
        || scanner.0.starts_with("서식")
        || (has_space && !has_number);
    let names_itself = match word {
        "부칙" => {
            !is_bracketed
                && (scanner.0.is_empty()
                    || scanner.0.trim_start().starts_with(['(', '<', '[', '〈'])
                    || is_numbered)
        }
        "별표" | "별지" => {
            is_bracketed || is_numbered || scanner.0.is_empty() || scanner.0.starts_with("서식")
        }
        _ => is_bracketed || is_numbered,
    };
    let is_short = line.chars().count() <= MAX_HEADING_CHARS && !ends_like_sentence(line);
    let is_reference = ["에 ", "에서 ", "과 같", "와 같", "의 ", "에 따"]
        .iter()
        .any(|particle| {
            scanner
                .0
                .trim_start_matches([']', '>', ')'])
                .starts_with(particle)
        });
    (is_separate && names_itself && is_short && !is_reference).then(|| Entry {
        name: if word == "부칙" {
            tidied(&format!(
                "부칙{}{}",
                if has_space { " " } else { "" },
                behind_word
            ))
        } else {
            tidied(line)
        },
        unit: Unit::Attachment,
        level: None,
    })
}

/// 항: `①` to `⑳`; their kin `㉠`, `㉮`, `⑴`, `⒈`.
pub(super) fn is_clause(line: &str) -> bool {
    line.starts_with(|c| matches!(c, '\u{2460}'..='\u{249B}' | '\u{3260}'..='\u{327B}'))
}

#[cfg(test)]
mod tests {
    use crate::document::structure::tests::check;

    #[test]
    fn articles_stand_under_chapters_and_hold_their_clauses() {
        check(
            Some("휴직 및 복직 관리기준"),
            &[
                ("휴직 및 복직 관리기준", ""),
                ("제정 2001. 3. 2.", ""),
                ("제 1 장   총   칙", "제1장 총칙"),
                (
                    "제1조(목적) 이 기준은 휴직을 정한다.",
                    "제1장 총칙 > 제1조(목적)",
                ),
                ("제2장 휴직 <개정 2020. 5. 1.>", "제2장 휴직"),
                ("제3조(휴직기간)", "제2장 휴직 > 제3조(휴직기간)"),
                (
                    "① 육아휴직은 2년 이내로 한다.",
                    "제2장 휴직 > 제3조(휴직기간)",
                ),
                ("1. 육아휴직", "제2장 휴직 > 제3조(휴직기간)"),
                ("가. 국내", "제2장 휴직 > 제3조(휴직기간)"),
                (
                    "제3조의2 (특례 <신설 2020>) 둔다.",
                    "제2장 휴직 > 제3조의2(특례)",
                ),
                ("제4조 삭제 <2020. 5. 1.>", "제2장 휴직 > 제4조 삭제"),
                ("부    칙 <2020. 5. 1.>", "부칙 <2020. 5. 1.>"),
                (
                    "제1조(시행일) 바로 시행한다.",
                    "부칙 <2020. 5. 1.> > 제1조(시행일)",
                ),
                ("[별표 1] 휴직기간표", "[별표 1] 휴직기간표"),
                ("육아휴직 2년", "[별표 1] 휴직기간표"),
            ],
        );
    }

    #[test]
    fn references_are_no_headings() {
        for line in [
            "제5조에 따라 승인을 받아야 하고",
            "제5조(연장)에 따라 승인을 받아야 한다.",
            "제5조(연장) 및 제6조(복직)의 규정에 따른다.",
            "제5조(연장) 제1항에 따라",
            "제2장의 규정에 따른다.",
            "제2장 및 제3장에 따라",
            "부칙 제2조에 따라 정한다.",
            "별표 1에 따라 계산한다.",
            "제3조(휴직기간) ········ 4",
        ] {
            check(
                None,
                &[("제1조(목적)", "제1조(목적)"), (line, "제1조(목적)")],
            );
        }
        check(None, &[("제1조(목적)이 기준은 정한다.", "제1조(목적)")]);
    }
}
