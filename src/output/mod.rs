//! What a person or a script gets to see. Only this module and `main` print.
//!
//! stdout holds the result and nothing else; notes, warnings and progress go to stderr. Text from documents, file names and
//! models may hold control and bidirectional characters: on a terminal they are shown escaped.

mod answer;
mod evaluation;
mod ingest;
mod models;
mod search;
mod status;
mod text;

use std::io::{IsTerminal, Write};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ragq::document::Location;
use ragq::question::Language;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub(crate) use ingest::duration;

use crate::cli::{ColorChoice, Common};

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON object a line on stdout.
    pub(crate) json: bool,
    /// No notes and no progress.
    quiet: bool,
    /// More notes.
    verbose: bool,
    color: ColorChoice,
}

/// How a piece of text is shown on a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Dim,
    Error,
}

impl Output {
    pub(crate) fn new(common: &Common, color: ColorChoice) -> Output {
        Output {
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
            color,
        }
    }

    /// A line of the result.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        self.piece(text)?;
        self.raw("\n")
    }

    /// Part of a line of the result, shown at once.
    pub(crate) fn piece(&self, text: &str) -> Result<()> {
        if std::io::stdout().is_terminal() {
            self.raw(&escape(text))
        } else {
            self.raw(text)
        }
    }

    /// A line of the result as JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<()> {
        self.raw(&(serde_json::to_string(value)? + "\n"))
    }

    fn raw(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Something worth knowing, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr(text);
        }
    }

    /// Something worth knowing for a person, on stderr and only on a terminal.
    pub(crate) fn tip(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Something worth knowing for who asked for more, on stderr.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.stderr(text);
        }
    }

    /// A line on stderr that was asked for.
    pub(crate) fn stderr(&self, text: &str) {
        let text = if std::io::stderr().is_terminal() {
            escape(text)
        } else {
            text.to_string()
        };
        // Nothing sensible is left to do when stderr is closed.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error and its causes, and what mends it.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        let name = self.styled_stderr("ragq:", Style::Error);
        let mut stderr = std::io::stderr().lock();
        let message = if std::io::stderr().is_terminal() {
            escape(message)
        } else {
            message.to_string()
        };
        let _ = writeln!(stderr, "{name} {message}");
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "\nhint: {hint}");
        }
    }

    /// Text in a style, if stdout shows styles. The text itself is escaped first.
    pub(crate) fn styled(&self, text: &str, style: Style) -> String {
        paint(text, style, self.colors(std::io::stdout().is_terminal()))
    }

    fn styled_stderr(&self, text: &str, style: Style) -> String {
        paint(text, style, self.colors(std::io::stderr().is_terminal()))
    }

    /// A line that may hold styled text; its plain parts must have gone through [`Output::styled`] or [`Output::plain`].
    pub(crate) fn styled_line(&self, text: &str) -> Result<()> {
        self.raw(&format!("{text}\n"))
    }

    /// Text as stdout may show it.
    pub(crate) fn plain(&self, text: &str) -> String {
        if std::io::stdout().is_terminal() {
            escape(text)
        } else {
            text.to_string()
        }
    }

    fn colors(&self, is_terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                is_terminal
                    && !set("NO_COLOR")
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }

    /// A progress bar over `n` steps: on a terminal only.
    pub(crate) fn progress(&self, n: usize) -> ProgressBar {
        let target = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(n as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {spinner} {wide_msg}")
        {
            bar.set_style(style);
        }
        bar
    }

    /// Whether answers may be shown as they are written.
    pub(crate) fn streams(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }
}

fn paint(text: &str, style: Style, colors: bool) -> String {
    let text = escape(text);
    if !colors {
        return text;
    }
    let style = match style {
        Style::Bold => anstyle::Style::new().bold(),
        Style::Dim => anstyle::Style::new().dimmed(),
        Style::Error => anstyle::AnsiColor::Red.on_default().bold(),
    };
    format!("{style}{text}{style:#}")
}

/// Control and bidirectional characters as `\u{…}`; line ends and tabs stay.
fn escape(text: &str) -> String {
    let is_bidi = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() && !matches!(character, '\n' | '\t')) || is_bidi(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// A location as `--json` shows it: only what the format has.
fn location_json(location: &Location) -> Value {
    let mut fields = Map::new();
    if let Some(page) = location.page {
        fields.insert("page".into(), json!(page));
        if location.page_is_approximate {
            fields.insert("page_is_approximate".into(), json!(true));
        }
        if let Some(label) = &location.page_label {
            fields.insert("page_label".into(), json!(label));
        }
    }
    if let Some(sheet) = &location.sheet {
        fields.insert("sheet".into(), json!(sheet));
    }
    if let Some(row) = location.row {
        fields.insert("row".into(), json!(row));
    }
    if let Some(line) = location.line {
        fields.insert("line".into(), json!(line));
    }
    fields.insert("section".into(), json!(location.section));
    Value::Object(fields)
}

/// A location for a person: `2쪽, 제3조(휴직기간)`.
fn location_text(location: &Location, language: Language) -> String {
    let korean = language == Language::Korean;
    let mut parts = Vec::new();
    if let Some(page) = location.page {
        let about = match (location.page_is_approximate, korean) {
            (false, _) => "",
            (true, true) => "약 ",
            (true, false) => "about ",
        };
        parts.push(match (&location.page_label, korean) {
            (None, true) => format!("{about}{page}쪽"),
            (None, false) => format!("{about}page {page}"),
            (Some(label), true) => format!("{about}{page}쪽(쪽 번호 {label})"),
            (Some(label), false) => format!("{about}page {page} (numbered {label})"),
        });
    }
    if let Some(sheet) = &location.sheet {
        parts.push(if korean {
            format!("시트 {sheet}")
        } else {
            format!("sheet {sheet}")
        });
    }
    if let Some(row) = location.row {
        parts.push(if korean {
            format!("{row}행")
        } else {
            format!("row {row}")
        });
    }
    if let Some(line) = location.line.filter(|_| location.section.is_empty()) {
        parts.push(if korean {
            format!("{line}번째 줄")
        } else {
            format!("line {line}")
        });
    }
    if !location.section.is_empty() {
        parts.push(location.section.join(" > "));
    }
    parts.join(", ")
}

/// A similarity as `--json` shows it, to four digits.
fn rounded(similarity: f32) -> f64 {
    (f64::from(similarity) * 1e4).round() / 1e4
}

/// A time as `--json` shows it, to a tenth.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_escaped() {
        assert_eq!(
            escape("규정\u{1b}[2J\u{202e}.pdf\n끝"),
            "규정\\u{1b}[2J\\u{202e}.pdf\n끝"
        );
    }

    #[test]
    fn a_location_reads_as_a_person_would_say_it() {
        let section = vec!["제2장".to_string(), "제3조(휴직기간)".to_string()];
        let location = Location {
            page: Some(2),
            section,
            ..Location::default()
        };
        assert_eq!(
            location_text(&location, Language::Korean),
            "2쪽, 제2장 > 제3조(휴직기간)"
        );
        assert_eq!(
            location_text(&location, Language::English),
            "page 2, 제2장 > 제3조(휴직기간)"
        );
        let location = Location {
            page: Some(12),
            page_label: Some("iv".into()),
            ..Location::default()
        };
        assert_eq!(
            location_text(&location, Language::Korean),
            "12쪽(쪽 번호 iv)"
        );
        assert_eq!(
            location_text(&location, Language::English),
            "page 12 (numbered iv)"
        );
        assert_eq!(
            location_json(&location).to_string(),
            r#"{"page":12,"page_label":"iv","section":[]}"#
        );
        let location = Location {
            sheet: Some("휴가".into()),
            row: Some(7),
            ..Location::default()
        };
        assert_eq!(location_text(&location, Language::Korean), "시트 휴가, 7행");
        assert_eq!(
            location_json(&location).to_string(),
            r#"{"sheet":"휴가","row":7,"section":[]}"#
        );
    }
}
