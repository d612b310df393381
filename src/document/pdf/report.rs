//! What could not be read, page by page, in words for a person.

use super::painting::{Page, UNMAPPED};
use crate::document::Warning;

/// Share of a page's characters without text, from which the rest is not worth reading.
const GARBLED: f32 = 0.4;

/// Characters from which a page can be judged.
const MIN_JUDGED_CHARS: usize = 20;

/// Pages whose unmapped characters are named one by one.
const MAX_UNMAPPED_PAGES: usize = 20;

/// Collects the problems of a file.
pub(super) struct Report {
    warnings: Vec<Warning>,
    without_text: Vec<u32>,
    garbled: Vec<u32>,
    damaged: Vec<u32>,
    /// Page, glyphs without text, glyphs.
    unmapped: Vec<(u32, usize, usize)>,
}

impl Report {
    pub(super) fn new(warnings: Vec<Warning>) -> Report {
        Report {
            warnings,
            without_text: Vec::new(),
            garbled: Vec::new(),
            damaged: Vec::new(),
            unmapped: Vec::new(),
        }
    }

    /// Notes what is wrong with a page; returns whether its text is to be used.
    pub(super) fn page(&mut self, number: u32, page: &Page) -> bool {
        if page.n_damaged > 0 {
            self.damaged.push(number);
        }
        if page.n_glyphs == 0 && page.notes.is_empty() {
            if page.has_image || page.has_drawing {
                self.without_text.push(number);
            }
            return true;
        }
        if is_garbled(page) {
            self.garbled.push(number);
            return false;
        }
        if page.n_unmapped > 0 {
            self.unmapped.push((number, page.n_unmapped, page.n_glyphs));
        }
        true
    }

    /// Notes that reading ended early.
    pub(super) fn gave_up(&mut self, number: u32, n_pages: usize, error: &anyhow::Error) {
        self.warnings.push(Warning(format!(
            "read only up to page {number} of {n_pages}: {error:#}"
        )));
    }

    /// Why nothing of the file can be used.
    pub(super) fn refusal(&self, n_pages: usize) -> String {
        let pages = match n_pages {
            1 => "its only page".to_owned(),
            _ => format!("any of {n_pages} pages"),
        };
        if !self.garbled.is_empty() {
            return format!(
                "no readable text on {pages}: its fonts do not say what their glyphs mean"
            );
        }
        if !self.damaged.is_empty() {
            return format!("no text on {pages}: damaged file");
        }
        if !self.without_text.is_empty() {
            return format!("no text on {pages}, perhaps scanned");
        }
        format!("no text on {pages}")
    }

    /// All warnings.
    pub(super) fn warnings(self) -> Vec<Warning> {
        let mut warnings = self.warnings;
        let mut add = |pages: &[u32], what: &str| {
            if !pages.is_empty() {
                warnings.push(Warning(format!("{}: {what}", page_list(pages))));
            }
        };
        add(&self.without_text, "no text, perhaps scanned");
        add(
            &self.garbled,
            "garbled and left out: its fonts do not say what their glyphs mean",
        );
        add(
            &self.damaged,
            "parts are damaged or missing, text may be lost",
        );
        for (number, n_unmapped, n_glyphs) in self.unmapped.iter().take(MAX_UNMAPPED_PAGES) {
            add(
                &[*number],
                &format!("{n_unmapped} of {n_glyphs} characters have no text in the file"),
            );
        }
        let others: Vec<u32> = self
            .unmapped
            .iter()
            .skip(MAX_UNMAPPED_PAGES)
            .map(|(number, ..)| *number)
            .collect();
        add(&others, "some characters have no text in the file");
        warnings
    }
}

/// Whether most of a page would be noise: unmapped or private characters, or Hangul shown as Latin-1 letters.
fn is_garbled(page: &Page) -> bool {
    let (mut n_chars, mut n_lost, mut n_latin1) = (0_usize, 0_usize, 0_usize);
    for text in page.runs.iter().map(|run| &run.text) {
        // Most characters are told by their first bytes.
        n_chars += count(text, |byte| !matches!(byte, 0x80..=0xBF | b' '));
        n_latin1 += count(text, |byte| matches!(byte, 0xC2 | 0xC3));
        if count(text, |byte| byte >= 0xEE) > 0 {
            n_lost += text.chars().filter(|&c| is_lost(c)).count();
        }
    }
    let exceeds = |n: usize| {
        let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        number(n) > f64::from(GARBLED) * number(n_chars)
    };
    n_chars >= MIN_JUDGED_CHARS && (exceeds(n_lost) || exceeds(n_latin1))
}

/// How many bytes of a text are counted.
fn count(text: &str, is_counted: impl Fn(u8) -> bool) -> usize {
    text.bytes().filter(|&byte| is_counted(byte)).count()
}

/// Characters without a meaning, all beyond U+E000.
fn is_lost(c: char) -> bool {
    matches!(c, UNMAPPED | '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}

/// `page 3`, `pages 3-5, 9`.
fn page_list(pages: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &page in pages {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == page => *last = page,
            Some(_) | None => ranges.push((page, page)),
        }
    }
    let ranges: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    let noun = if pages.len() == 1 { "page" } else { "pages" };
    format!("{noun} {}", ranges.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::tests::run;

    fn page(text: &str) -> Page {
        Page {
            n_glyphs: text.chars().count(),
            n_unmapped: text.chars().filter(|&c| c == UNMAPPED).count(),
            runs: vec![run(text, 0.0, 100.0, 0.0)],
            ..Page::default()
        }
    }

    #[test]
    fn problems_name_their_pages() {
        let mut report = Report::new(Vec::new());
        let scanned = Page {
            has_image: true,
            ..Page::default()
        };
        for number in [1, 2, 3, 7] {
            assert!(report.page(number, &scanned));
        }
        assert!(report.page(4, &page("휴직 기간은 \u{FFFD}년 이내로 한다")));
        assert!(!report.page(5, &page(&"\u{FFFD}".repeat(30))));
        assert!(!report.page(6, &page(&"ÈÞÁ÷±â°£".repeat(5))));
        let texts: Vec<String> = report
            .warnings()
            .into_iter()
            .map(|warning| warning.0)
            .collect();
        assert_eq!(
            texts,
            [
                "pages 1-3, 7: no text, perhaps scanned",
                "pages 5-6: garbled and left out: its fonts do not say what their glyphs mean",
                "page 4: 1 of 16 characters have no text in the file",
            ]
        );
    }

    #[test]
    fn a_file_without_text_says_why() {
        let mut report = Report::new(Vec::new());
        assert_eq!(report.refusal(1), "no text on its only page");
        report.without_text.push(1);
        assert_eq!(
            report.refusal(12),
            "no text on any of 12 pages, perhaps scanned"
        );
    }
}
