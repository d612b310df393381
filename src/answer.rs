//! Generated text → [`Answer`]: citations resolved and checked, or 모른다.
//!
//! Every `[n]` is looked up; a number that names no passage is dropped. What stands before a mark is the statement. If the
//! passage has it word for word (white space aside) it is the quote; else the passage's closest sentence is, and the
//! citation counts as verified only if the statement brings no number of its own and shares most of its words with it.

use crate::document::Location;
use crate::prompt::Passage;
use crate::question::Language;
use crate::sentence;

/// What a user gets to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether the documents hold the answer.
    pub answered: bool,
    /// Markdown with `[n]` marks, or 모른다.
    pub text: String,
    /// Each mark's source, in order.
    pub citations: Vec<Citation>,
}

/// Where one statement of an answer stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The n of `[n]`.
    pub label: usize,
    /// File, relative to the ingested folder.
    pub source: String,
    /// Where in the file the quote begins.
    pub location: Location,
    /// What stands there, verbatim.
    pub quote: String,
    /// Whether the quote carries the statement.
    pub verified: bool,
}

/// Share of a statement's character pairs that its quote must have to count as carrying it.
const MIN_SHARED_PAIRS: f32 = 0.5;

impl Answer {
    /// The answer that the documents do not hold the answer.
    #[must_use]
    pub fn unknown(language: Language) -> Answer {
        let text = match language {
            Language::Korean => "모른다",
            Language::English => "I don't know (모른다)",
        };
        Answer {
            answered: false,
            text: text.into(),
            citations: Vec::new(),
        }
    }

    /// Resolves the marks of a generated text.
    #[must_use]
    pub fn resolve(text: &str, passages: &[Passage], language: Language) -> Answer {
        let mut citations = Vec::new();
        let lines: Vec<String> = text
            .trim()
            .lines()
            .map(|line| resolve_line(line, passages, &mut citations))
            .collect();
        let text = lines.join("\n").trim().to_string();
        if text.is_empty() || (citations.is_empty() && says_unknown(&text)) {
            return Answer::unknown(language);
        }
        Answer {
            answered: true,
            text,
            citations,
        }
    }
}

fn says_unknown(text: &str) -> bool {
    let lower = text.to_lowercase();
    [
        "모른다",
        "모릅니다",
        "모르겠",
        "알 수 없",
        "i don't know",
        "i do not know",
    ]
    .iter()
    .any(|words| lower.contains(words))
        && text.chars().count() < 80
}

/// One line without the marks that name no passage; its citations go to `citations`.
fn resolve_line(line: &str, passages: &[Passage], citations: &mut Vec<Citation>) -> String {
    let mut resolved = String::new();
    let mut statement = String::new();
    let mut rest = line;
    while let Some((before, labels, after)) = next_mark(rest) {
        if before.chars().any(char::is_alphanumeric) {
            statement = strip_markup(before).to_string();
        }
        resolved.push_str(before);
        for label in labels {
            if let Some(passage) = passages.iter().find(|passage| passage.label == label) {
                resolved.push_str(&format!("[{label}]"));
                citations.extend(cite(&statement, passage));
            }
        }
        rest = after;
    }
    resolved.push_str(rest);
    resolved.trim_end().to_string()
}

/// The text before the next `[1]` or `[1, 2]`, its numbers, and what follows.
fn next_mark(text: &str) -> Option<(&str, Vec<usize>, &str)> {
    let mut from = 0;
    while let Some((at, _)) = text
        .get(from..)?
        .split_once('[')
        .map(|(before, _)| (from + before.len(), ()))
    {
        let inside = text.get(at + 1..)?;
        if let Some((numbers, after)) = inside.split_once(']') {
            let labels: Option<Vec<usize>> = numbers
                .split(',')
                .map(|number| number.trim().parse().ok())
                .collect();
            if let (Some(labels), Some(before)) = (labels, text.get(..at)) {
                return Some((before, labels, after));
            }
        }
        from = at + 1;
    }
    None
}

/// A statement without list marks, emphasis and the punctuation left by an earlier mark.
fn strip_markup(text: &str) -> &str {
    text.trim()
        .trim_start_matches(['-', '*', '>', '#', '.', ',', ' '])
        .trim_end_matches(['*', ' '])
}

fn cite(statement: &str, passage: &Passage) -> Option<Citation> {
    let cited = |quote: &str, location: &Location, verified: bool| Citation {
        label: passage.label,
        source: passage.source.clone(),
        location: location.clone(),
        quote: quote.to_string(),
        verified,
    };
    let wanted = squash(statement);
    for part in &passage.parts {
        if !wanted.is_empty() && squash(&part.text).contains(&wanted) {
            return Some(cited(statement, &part.location, true));
        }
    }
    let sentences = passage.parts.iter().flat_map(|part| {
        sentence::split(&part.text)
            .into_iter()
            .map(move |s| (s, part))
    });
    let (shared, quote, part) = sentences
        .map(|(sentence, part)| (shared_pairs(&wanted, &squash(sentence)), sentence, part))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let known_numbers = numbers(&passage.text());
    let verified = shared >= MIN_SHARED_PAIRS
        && numbers(statement)
            .iter()
            .all(|number| known_numbers.contains(number));
    Some(cited(quote, &part.location, verified))
}

fn squash(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_whitespace())
        .collect()
}

/// Share of the character pairs of `statement` that `quote` has.
fn shared_pairs(statement: &str, quote: &str) -> f32 {
    let characters: Vec<char> = statement.chars().collect();
    let pairs = characters
        .windows(2)
        .map(|pair| pair.iter().collect::<String>());
    let (mut n_pairs, mut n_shared) = (0, 0);
    for pair in pairs {
        n_pairs += 1;
        n_shared += usize::from(quote.contains(&pair));
    }
    if n_pairs == 0 {
        0.0
    } else {
        n_shared as f32 / n_pairs as f32
    }
}

fn numbers(text: &str) -> Vec<String> {
    let digits = text
        .split(|character: char| !character.is_ascii_digit() && !matches!(character, '.' | ','));
    digits
        .map(|number| number.replace(',', "").trim_matches('.').to_string())
        .filter(|number| !number.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Part;

    fn passage(label: usize, text: &str) -> Passage {
        Passage {
            label,
            source: "기준.pdf".into(),
            path: vec!["제3조(휴직기간)".into()],
            parts: vec![Part {
                text: text.into(),
                location: Location {
                    page: Some(2),
                    ..Location::default()
                },
            }],
            similarity: 1.0,
        }
    }

    fn resolve(text: &str) -> Answer {
        let passages = [
            passage(1, "육아휴직은 최대 2년으로 한다. 1회 나눌 수 있다."),
            passage(2, "복직은 30일 전에 신청한다."),
        ];
        Answer::resolve(text, &passages, Language::Korean)
    }

    #[test]
    fn a_verbatim_statement_is_its_own_quote() {
        let answer = resolve("- 육아휴직은 최대 2년으로 한다. [1]");
        assert_eq!(answer.citations.len(), 1);
        assert_eq!(answer.citations[0].quote, "육아휴직은 최대 2년으로 한다.");
        assert!(answer.citations[0].verified);
        assert_eq!(answer.citations[0].location.page, Some(2));
    }

    #[test]
    fn a_paraphrase_gets_the_closest_sentence() {
        let answer = resolve("육아휴직은 2년이 최대이다 [1].");
        assert_eq!(answer.citations[0].quote, "육아휴직은 최대 2년으로 한다.");
        assert!(answer.citations[0].verified);
    }

    #[test]
    fn a_number_that_the_passage_does_not_have_is_not_verified() {
        assert!(!resolve("육아휴직은 최대 5년으로 한다 [1].").citations[0].verified);
    }

    #[test]
    fn marks_that_name_no_passage_are_dropped() {
        let answer = resolve("복직은 30일 전에 신청한다 [2][7]. 제[3]항 [9]");
        assert_eq!(answer.text, "복직은 30일 전에 신청한다 [2]. 제항");
        assert_eq!(
            answer
                .citations
                .iter()
                .map(|citation| citation.label)
                .collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(resolve("둘 다 그렇다 [1, 2]").citations.len(), 2);
    }

    #[test]
    fn a_text_that_says_unknown_is_no_answer() {
        for text in ["모른다", "모른다.", "", "문서에 답이 없어 모릅니다."] {
            assert!(!resolve(text).answered, "{text}");
        }
        assert!(resolve("모른다고 한 직원도 30일 전에 신청한다 [2]").answered);
    }
}
