//! `ragq search`: ranked passages.

use anyhow::Result;
use ragq::question::Language;
use ragq::retrieval::Hit;
use serde::Serialize;
use serde_json::Value;

use super::{Output, Style, location_json, location_text, rounded};

/// The line of `search --json`.
#[derive(Serialize)]
struct SearchLine<'a> {
    query: &'a str,
    hits: Vec<HitJson<'a>>,
}

#[derive(Serialize)]
struct HitJson<'a> {
    rank: usize,
    source: &'a str,
    location: Value,
    text: &'a str,
    similarity: f64,
    dense: f64,
    lexical: f64,
}

impl Output {
    /// Hits as one JSON line.
    pub(crate) fn hits_json(&self, query: &str, hits: &[Hit]) -> Result<()> {
        let hits = hits.iter().enumerate().map(|(at, hit)| HitJson {
            rank: at + 1,
            source: &hit.chunk.source,
            location: location_json(&hit.chunk.chunk.location),
            text: &hit.chunk.chunk.text,
            similarity: rounded(hit.similarity),
            dense: rounded(hit.dense),
            lexical: rounded(hit.lexical),
        });
        self.json_line(&SearchLine {
            query,
            hits: hits.collect(),
        })
    }

    /// Hits for a person.
    pub(crate) fn hits(&self, hits: &[Hit], explain: bool) -> Result<()> {
        for (at, hit) in hits.iter().enumerate() {
            let place = location_text(&hit.chunk.chunk.location, Language::Korean);
            let source = self.styled(&hit.chunk.source, Style::Bold);
            let place = if place.is_empty() {
                String::new()
            } else {
                self.styled(&format!(", {place}"), Style::Dim)
            };
            self.styled_line(&format!("{}. {source}{place}", at + 1))?;
            if explain {
                self.styled_line(&self.styled(&explained(at + 1, hit), Style::Dim))?;
            }
            for line in hit.chunk.chunk.text.lines() {
                self.line(&format!("   {line}"))?;
            }
        }
        Ok(())
    }

    /// Hits on one line of a batch: sources, best first.
    pub(crate) fn hits_line(&self, hits: &[Hit]) -> Result<()> {
        let places = hits.iter().map(|hit| {
            let place = location_text(&hit.chunk.chunk.location, Language::Korean);
            if place.is_empty() {
                hit.chunk.source.clone()
            } else {
                format!("{}, {place}", hit.chunk.source)
            }
        });
        self.line(&places.collect::<Vec<_>>().join("\t"))
    }
}

/// Each leg's score and rank.
pub(super) fn explained(rank: usize, hit: &Hit) -> String {
    let leg = |rank: Option<usize>| {
        rank.map_or_else(|| "not found".to_string(), |rank| format!("rank {rank}"))
    };
    format!(
        "   {rank}: similarity {:.3} · dense {:.3} ({}) · lexical {:.2} ({}) · {}",
        hit.similarity,
        hit.dense,
        leg(hit.dense_rank),
        hit.lexical,
        leg(hit.lexical_rank),
        hit.chunk.source,
    )
}
