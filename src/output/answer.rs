//! `ragq ask`: an answer with its sources.

use anyhow::Result;
use ragq::answer::Citation;
use ragq::ask::Asked;
use ragq::question::Language;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Output, Style, location_json, location_text, milliseconds, rounded};

/// The line of `ask --json`. Names follow LangChain's RetrievalQAWithSourcesChain where it has one.
#[derive(Serialize)]
struct AnswerLine<'a> {
    question: &'a str,
    answered: bool,
    answer: &'a str,
    sources: Vec<&'a str>,
    citations: Vec<CitationJson<'a>>,
    source_documents: Vec<Value>,
    generator: &'a str,
    embedder: &'a str,
    elapsed_ms: ElapsedMs,
}

#[derive(Serialize)]
struct CitationJson<'a> {
    label: usize,
    source: &'a str,
    location: Value,
    quote: &'a str,
    verified: bool,
}

#[derive(Serialize)]
struct ElapsedMs {
    retrieve: f64,
    generate: f64,
}

impl Output {
    /// An answer as one JSON line. `question` is the line as it was asked.
    pub(crate) fn answer_json(
        &self,
        question: &str,
        asked: &Asked,
        generator: &str,
        embedder: &str,
    ) -> Result<()> {
        let citations = asked.answer.citations.iter().map(|citation| CitationJson {
            label: citation.label,
            source: &citation.source,
            location: location_json(&citation.location),
            quote: &citation.quote,
            verified: citation.verified,
        });
        self.json_line(&AnswerLine {
            question,
            answered: asked.answer.answered,
            answer: &asked.answer.text,
            sources: sources(&asked.answer.citations),
            citations: citations.collect(),
            source_documents: source_documents(asked),
            generator,
            embedder,
            elapsed_ms: ElapsedMs {
                retrieve: milliseconds(asked.retrieve),
                generate: milliseconds(asked.generate),
            },
        })
    }

    /// What went wrong with one line of a batch, as one JSON line.
    pub(crate) fn error_json(&self, key: &str, question: &str, error: &str) -> Result<()> {
        self.json_line(&json!({ key: question, "error": error }))
    }

    /// An answer for a person: the text, unless it was streamed already, and below it the sources.
    pub(crate) fn answer(&self, asked: &Asked, streamed: bool) -> Result<()> {
        if streamed {
            self.line("")?;
        } else {
            self.line(&asked.answer.text)?;
        }
        let language = asked.question.language;
        let lines = source_lines(&asked.answer.citations, language);
        if !lines.is_empty() {
            let heading = if language == Language::Korean {
                "출처"
            } else {
                "Sources"
            };
            self.line("")?;
            self.styled_line(&self.styled(heading, Style::Bold))?;
        }
        for (label, source, place) in lines {
            let place = if place.is_empty() {
                String::new()
            } else {
                self.styled(&format!(", {place}"), Style::Dim)
            };
            self.styled_line(&format!("[{label}] {}{place}", self.plain(&source)))?;
        }
        Ok(())
    }

    /// An answer on one line of a batch: text, tab, sources.
    pub(crate) fn answer_line(&self, asked: &Asked) -> Result<()> {
        let text = asked
            .answer
            .text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let lines = source_lines(&asked.answer.citations, asked.question.language);
        let sources = lines.into_iter().map(|(label, source, place)| {
            if place.is_empty() {
                format!("[{label}] {source}")
            } else {
                format!("[{label}] {source}, {place}")
            }
        });
        let sources = sources.collect::<Vec<_>>().join("; ");
        self.line(&if sources.is_empty() {
            text
        } else {
            format!("{text}\t{sources}")
        })
    }

    /// How the passages were found and why it was answered or not, on stderr.
    pub(crate) fn explain(&self, asked: &Asked) {
        let judgement = &asked.judgement;
        let missing = judgement.missing.as_ref().map_or_else(String::new, |word| {
            format!(
                "\nmissing: {word} ({:.2} of the question)",
                judgement.missing_weight
            )
        });
        self.stderr(&format!(
            "words: {}\nanswerable: {} · coverage {:.2} · alignment {:.2} · heading {:.2} · sentence {:.2}{missing}",
            asked.question.words.join(" · "),
            judgement.answerable,
            judgement.coverage,
            judgement.alignment,
            judgement.heading,
            judgement.sentence,
        ));
        for (rank, hit) in asked.retrieval.hits.iter().enumerate() {
            self.stderr(&super::search::explained(rank + 1, hit));
        }
    }
}

/// The cited files, each once, in order.
fn sources(citations: &[Citation]) -> Vec<&str> {
    let mut sources: Vec<&str> = Vec::new();
    for citation in citations {
        if !sources.contains(&citation.source.as_str()) {
            sources.push(&citation.source);
        }
    }
    sources
}

/// Label, file and place of each cited place, each once, by label.
fn source_lines(citations: &[Citation], language: Language) -> Vec<(usize, String, String)> {
    let mut lines: Vec<(usize, String, String)> = Vec::new();
    for citation in citations {
        let line = (
            citation.label,
            citation.source.clone(),
            location_text(&citation.location, language),
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.sort_by_key(|(label, _, _)| *label);
    lines
}

fn source_documents(asked: &Asked) -> Vec<Value> {
    let documents = asked.passages.iter().map(|passage| {
        let location = passage.location();
        let mut metadata = json!({
            "source": passage.source,
            "page": location.page,
            "section": location.section,
            "row": location.row,
            "sheet": location.sheet,
        });
        if let Some(label) = &location.page_label {
            metadata["page_label"] = json!(label);
        }
        json!({
            "page_content": passage.text(),
            "metadata": metadata,
            "similarity": rounded(passage.similarity),
        })
    });
    documents.collect()
}
