//! `ragq eval`: shares over a question set, beside an earlier run's.

use anyhow::Result;
use ragq::evaluation::Report;

use super::Output;

/// Takes one measure out of a report.
type Share = fn(&Report) -> Option<f64>;

impl Output {
    /// A report; the JSON form is what `--against` reads.
    pub(crate) fn report(&self, report: &Report, against: Option<&Report>) -> Result<()> {
        if self.json {
            return self.json_line(report);
        }
        self.line(&format!(
            "{} questions, {} of them answerable",
            report.questions, report.answerable
        ))?;
        let rows: [(&str, Share); 11] = [
            ("hit@1", |report| report.hit_at_1),
            ("hit@5", |report| report.hit_at_5),
            ("hit@10", |report| report.hit_at_10),
            ("MRR", |report| report.mrr),
            ("answer containment", |report| report.answer_containment),
            ("refusal precision", |report| report.refusal_precision),
            ("refusal recall", |report| report.refusal_recall),
            ("refusal F1", |report| report.refusal_f1),
            ("citation correctness", |report| report.citation_correctness),
            ("citations verified", |report| report.citations_verified),
            ("ms per question", |report| report.ms_per_question),
        ];
        for (name, value) in rows {
            let now = value(report);
            let mut line = format!("{name:<22}{:>8}", shown(now));
            if let Some(before) = against.map(value) {
                let change = now
                    .zip(before)
                    .map_or_else(String::new, |(now, before)| format!("{:+.3}", now - before));
                line.push_str(&format!("{:>10}{change:>10}", shown(before)));
            }
            self.line(&line)?;
        }
        Ok(())
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_string(), |value| format!("{value:.3}"))
}
