//! The default generator: quotes the sentences, items and rows that answer, verbatim.
//!
//! It writes nothing of its own but the headings its quotes stand under, so it cannot invent. A piece is judged by how much
//! of the question it covers itself and together with its context (headings, lead-in of its list, question of its row), and
//! by the rank of its passage.

use anyhow::Result;

use super::{Generate, GenerationOptions};
use crate::answerability::{Haystack, coverage};
use crate::prompt::{Passage, Prompt};
use crate::question::Kind;
use crate::sentence;

/// The quotes together stay within this many characters unless one piece alone is longer.
const MAX_CHARS: usize = 250;

/// An overview (the question names a section and nothing else) may quote this much of the section.
const MAX_OVERVIEW_CHARS: usize = 500;

/// A further piece is quoted when it is at least this share as good as the best.
const MIN_SHARE: f32 = 0.85;

/// The generator that quotes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extract;

impl Generate for Extract {
    fn name(&self) -> &str {
        "extract"
    }

    fn passage_budget(&self) -> Option<usize> {
        None
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(text.split_whitespace().count())
    }

    fn generate(
        &mut self,
        prompt: &Prompt,
        _options: &GenerationOptions,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String> {
        let text = write(&select(prompt));
        on_text(&text);
        Ok(text)
    }
}

/// A sentence, item or row that may be quoted.
struct Piece<'a> {
    passage: &'a Passage,
    /// Position within all pieces, in passage and document order.
    order: usize,
    text: &'a str,
    merit: f32,
}

/// The pieces to quote, in passage and document order.
fn select(prompt: &Prompt) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for passage in &prompt.passages {
        collect_pieces(prompt, passage, &mut pieces);
    }
    let overview = is_overview(prompt);
    let max_chars = if overview {
        MAX_OVERVIEW_CHARS
    } else {
        MAX_CHARS
    };
    pieces.sort_by(|a, b| b.merit.total_cmp(&a.merit).then(a.order.cmp(&b.order)));
    let Some(best) = pieces.first().map(|piece| piece.merit) else {
        return pieces;
    };
    let mut total = 0;
    let mut quoted: Vec<Piece<'_>> = Vec::new();
    for piece in pieces {
        let n_chars = piece.text.chars().count();
        let repeated = quoted.iter().any(|known| known.text.contains(piece.text));
        if piece.merit >= MIN_SHARE * best
            && !repeated
            && (quoted.is_empty() || total + n_chars <= max_chars)
        {
            total += n_chars;
            quoted.push(piece);
        }
    }
    quoted.sort_by_key(|piece| piece.order);
    quoted
}

/// Whether the headings of the best passage alone cover the question.
fn is_overview(prompt: &Prompt) -> bool {
    prompt.passages.first().is_some_and(|passage| {
        let heading = passage.path.last().map_or("", String::as_str);
        let heading = Haystack::new(heading);
        !prompt.word_weights.is_empty()
            && prompt
                .word_weights
                .iter()
                .all(|(word, _)| heading.cover(word) > 0.8)
    })
}

fn collect_pieces<'a>(prompt: &'a Prompt, passage: &'a Passage, pieces: &mut Vec<Piece<'a>>) {
    let headings = passage.path.join("\n");
    for part in &passage.parts {
        let mut lead_in = "";
        for text in sentence::split(&part.text) {
            let is_question = text.ends_with('?');
            if is_question || announces(text) {
                lead_in = text;
            }
            if is_question {
                continue;
            }
            let own = coverage(&prompt.word_weights, &Haystack::new(text));
            let context = coverage(
                &prompt.word_weights,
                &Haystack::new(&format!("{headings}\n{lead_in}\n{text}")),
            );
            let number = prompt.question.kind == Kind::Quantity
                && text.contains(|c: char| c.is_ascii_digit());
            let rank = 1.0 / passage.label as f32;
            let merit = 0.45 * own + 0.35 * context + 0.1 * rank + if number { 0.1 } else { 0.0 };
            pieces.push(Piece {
                passage,
                order: pieces.len(),
                text,
                merit,
            });
        }
    }
}

/// Whether a line introduces the items that follow it.
fn announces(text: &str) -> bool {
    text.ends_with(':')
        || text.contains("다음과 같")
        || text.contains("다음 각")
        || text.contains("아래와 같")
}

/// Quotes as Markdown: a heading for each section, a list item for each piece, each marked with its passage.
fn write(pieces: &[Piece<'_>]) -> String {
    let mut lines = Vec::new();
    let mut label = 0;
    for piece in pieces {
        let heading = piece
            .passage
            .path
            .last()
            .filter(|heading| !piece.text.starts_with(heading.as_str()));
        if piece.passage.label != label
            && let Some(heading) = heading
        {
            lines.push(format!("**{heading}**"));
        }
        label = piece.passage.label;
        lines.push(format!("- {} [{label}]", piece.text));
    }
    lines.join("\n")
}
