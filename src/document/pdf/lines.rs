//! Runs of glyphs → lines, with the spaces that only their distances show.

use super::painting::Run;
use super::tags::Tag;

/// How far two baselines of one line may lie apart, in heights of the larger font; for text of nearly one size, and for
/// superscripts.
const SAME_BASELINE: f32 = 0.35;
const SCRIPT_BASELINE: f32 = 0.7;

/// Below this share of the other's size, a run is a superscript or subscript.
const SCRIPT_SIZE: f32 = 0.8;

/// A gap wider than this many em separates words.
const WORD_GAP_EM: f32 = 0.17;

/// Between Hangul and Latin letters or digits, where word processors widen the text by a quarter em on their own, a gap
/// must be wider than this many em; only for pages that paint their word spaces.
const AUTOMATIC_GAP_EM: f32 = 0.35;

/// Runs of one line; a real one has less than a hundred.
const MAX_RUNS: usize = 1000;

/// Letters standing alone from which a line is set apart, and how much wider than between letters its word gaps are.
const MIN_SPREAD_LETTERS: usize = 4;
const SPREAD_WORD_GAP: f32 = 1.6;

/// A gap wider than this many em separates the cells of a table or the columns of a page.
const CELL_GAP_EM: f32 = 1.2;

/// A line of text as it stands on a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its text, single spaces between words, none at the ends.
    pub(super) text: String,
    /// The pieces between wide gaps, from left to right; one for most lines.
    pub(super) cells: Vec<Cell>,
    /// Direction in whole degrees.
    pub(super) degrees: i16,
    /// Start along the baseline, in points.
    pub(super) start: f32,
    /// End along the baseline, in points.
    pub(super) end: f32,
    /// Where the baseline lies, in points; larger is further down.
    pub(super) baseline: f32,
    /// Font height of most of its text, in points.
    pub(super) size: f32,
    /// Whether all of its text is bold.
    pub(super) bold: bool,
    /// Whether the file marks it as a header, footer or page number.
    pub(super) furniture: bool,
    /// Its level, if the file says that it is a heading.
    pub(super) heading: Option<u8>,
    /// Whether a space is painted before its first word.
    pub(super) starts_with_space: bool,
    /// Whether a space is painted after its last word.
    pub(super) ends_with_space: bool,
    /// Width of its first word in points.
    pub(super) first_word_width: f32,
}

/// A piece of a line between wide gaps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Start along the baseline, in points.
    pub(super) start: f32,
    /// End along the baseline, in points.
    pub(super) end: f32,
}

impl Line {
    /// The line with only these of its pieces; `None` without any.
    pub(super) fn part(&self, cells: Vec<Cell>) -> Option<Line> {
        let (first, last) = (cells.first()?, cells.last()?);
        let is_start = self.cells.first() == Some(first);
        let is_end = self.cells.last() == Some(last);
        Some(Line {
            start: first.start,
            end: last.end,
            first_word_width: first_word_width(first),
            starts_with_space: is_start && self.starts_with_space,
            ends_with_space: is_end && self.ends_with_space,
            text: join_cells(&cells),
            cells,
            ..*self
        })
    }
}

/// Gathers runs, in the order given, into lines. `paints_spaces`: word spaces are painted, so that narrow gaps are not
/// word spaces.
pub(super) fn assemble<'r>(
    runs: impl IntoIterator<Item = &'r Run>,
    paints_spaces: bool,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<OpenLine> = None;
    for run in runs {
        match &mut open {
            Some(line) if line.takes(run) => line.push(run),
            Some(_) | None => {
                let done = open.replace(OpenLine::new(run));
                lines.extend(done.and_then(|line| line.finish(paints_spaces)));
            }
        }
    }
    lines.extend(open.and_then(|line| line.finish(paints_spaces)));
    lines
}

/// A line that may still grow.
struct OpenLine<'r> {
    /// Sorted by start.
    runs: Vec<&'r Run>,
    start: f32,
    end: f32,
    baseline: f32,
    size: f32,
}

impl<'r> OpenLine<'r> {
    fn new(run: &'r Run) -> OpenLine<'r> {
        OpenLine {
            start: run.start,
            end: run.end,
            baseline: run.baseline,
            size: run.size,
            runs: vec![run],
        }
    }

    fn takes(&self, run: &Run) -> bool {
        let same_direction = self
            .runs
            .first()
            .is_some_and(|first| first.frame.degrees == run.frame.degrees);
        let (small, large) = (self.size.min(run.size), self.size.max(run.size));
        let is_script = small < SCRIPT_SIZE * large;
        let reach = if is_script {
            SCRIPT_BASELINE
        } else {
            SAME_BASELINE
        };
        same_direction
            && self.runs.len() < MAX_RUNS
            && (self.baseline - run.baseline).abs() <= reach * large
            && (run.start >= self.end - 0.5 * run.em || self.has_room_for(run))
    }

    /// Whether a run painted out of order fills a gap of the line, or stands right before it.
    fn has_room_for(&self, run: &Run) -> bool {
        let slack = 0.2 * run.em;
        let is_free =
            |other: &&Run| run.end <= other.start + slack || run.start >= other.end - slack;
        run.end >= self.start - 3.0 * run.em && self.runs.iter().all(is_free)
    }

    fn push(&mut self, run: &'r Run) {
        if run.size > self.size {
            self.size = run.size;
            self.baseline = run.baseline;
        }
        self.start = self.start.min(run.start);
        self.end = self.end.max(run.end);
        let at = self.runs.partition_point(|other| other.start <= run.start);
        self.runs.insert(at, run);
    }

    /// The finished line; `None` if it is blank.
    fn finish(self, paints_spaces: bool) -> Option<Line> {
        let spread_gap = spread_gap(&self.runs);
        let mut cells: Vec<Cell> = Vec::new();
        // End of the last word, and whether a space was painted since.
        let mut ink_end = f32::NEG_INFINITY;
        let mut after_space = false;
        for run in &self.runs {
            let (lead, words, tail) = ink(&run.text);
            if words.is_empty() {
                after_space |= !run.text.is_empty();
                continue;
            }
            let width = (run.end - run.start).max(0.0);
            let n_units = units(&run.text).max(0.5);
            let start = run.start + width * (lead / n_units);
            let end = run.end - width * (tail / n_units);
            let gap = start - ink_end;
            match cells.last_mut() {
                Some(cell) if gap <= CELL_GAP_EM * run.em || is_label(&cell.text) => {
                    let word_gap = match spread_gap {
                        Some(spread) => spread,
                        None if paints_spaces && changes_script(&cell.text, words) => {
                            AUTOMATIC_GAP_EM
                        }
                        None => WORD_GAP_EM,
                    };
                    if after_space || lead > 0.0 || gap > word_gap * run.em {
                        cell.text.push(' ');
                    }
                    push_words(&mut cell.text, words);
                    cell.end = cell.end.max(end);
                }
                Some(_) | None => {
                    let mut text = String::with_capacity(words.len());
                    push_words(&mut text, words);
                    cells.push(Cell { text, start, end });
                }
            }
            ink_end = ink_end.max(end);
            after_space = tail > 0.0;
        }
        let first = cells.first()?;
        let text = join_cells(&cells);
        let size = usual_size(&self.runs)?;
        let inked = self.runs.iter().filter(|run| !run.text.trim().is_empty());
        Some(Line {
            degrees: self.runs.first()?.frame.degrees,
            start: first.start,
            end: cells.last()?.end,
            baseline: self.baseline,
            size,
            bold: inked.clone().all(|run| run.bold),
            furniture: inked.clone().all(|run| run.furniture),
            heading: heading(inked),
            starts_with_space: self.runs.first()?.text.starts_with(char::is_whitespace),
            ends_with_space: after_space,
            first_word_width: first_word_width(first),
            text,
            cells,
        })
    }
}

/// The level of the heading that all of a line is a part of.
fn heading<'r>(mut runs: impl Iterator<Item = &'r &'r Run>) -> Option<u8> {
    let Some(Tag::Heading(level)) = runs.next()?.tag else {
        return None;
    };
    runs.all(|run| run.tag == Some(Tag::Heading(level)))
        .then_some(level)
}

/// The font height of most of a line's text.
fn usual_size(runs: &[&Run]) -> Option<f32> {
    let first = runs.first()?.size;
    if runs.iter().all(|run| run.size == first) {
        return Some(first);
    }
    let by_size = |size: f32| -> usize {
        let same = runs.iter().filter(|run| (run.size - size).abs() < 0.5);
        same.map(|run| run.text.len()).sum()
    };
    let sizes = runs.iter().map(|run| run.size);
    sizes.max_by_key(|&size| by_size(size))
}

/// In a line whose letters are set apart from each other, the gap in em that is wider than between letters; `None` for
/// a line set as usual.
fn spread_gap(runs: &[&Run]) -> Option<f32> {
    let is_letter = |run: &&&Run| {
        let mut chars = run.text.chars();
        let is_letter = |c: char| ('가'..='힣').contains(&c) || c.is_alphanumeric();
        matches!((chars.next(), chars.next()), (Some(only), None) if is_letter(only))
    };
    let n_letters = runs.iter().filter(is_letter).count();
    if n_letters < MIN_SPREAD_LETTERS || n_letters * 5 < runs.len() * 4 {
        return None;
    }
    let mut gaps: Vec<f32> = runs
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] => Some((after.start - before.end) / after.em),
            _ => None,
        })
        .collect();
    gaps.sort_by(f32::total_cmp);
    let median = gaps.get(gaps.len() / 2)?;
    (*median > 0.0).then_some((median * SPREAD_WORD_GAP).max(WORD_GAP_EM))
}

/// `1.`, `가)`, `①`, `-`: the label of a list item, which a tab may separate from its text.
fn is_label(text: &str) -> bool {
    let n_chars = text.chars().count();
    let is_mark =
        |c: char| !c.is_alphanumeric() || matches!(c, '①'..='⓿' | '㈀'..='㉿' | 'Ⅰ'..='Ⅻ');
    n_chars <= 4 && text.ends_with(['.', ')']) || n_chars == 1 && text.chars().all(is_mark)
}

/// Whether one text ends and the next begins with different scripts: Hangul or ideographs, and Latin or digits.
fn changes_script(before: &str, after: &str) -> bool {
    let is_wide = |c: char| c.is_alphabetic() && u32::from(c) >= 0x1100;
    match (before.chars().next_back(), after.chars().next()) {
        (Some(a), Some(b)) => {
            is_wide(a) && b.is_ascii_alphanumeric() || a.is_ascii_alphanumeric() && is_wide(b)
        }
        (Some(_) | None, _) => false,
    }
}

/// Width of the first word of a piece, in points.
fn first_word_width(cell: &Cell) -> f32 {
    let word = cell.text.split(' ').next().unwrap_or_default();
    (cell.end - cell.start) * units(word) / units(&cell.text).max(0.5)
}

/// The cells of a line as running text.
fn join_cells(cells: &[Cell]) -> String {
    let texts: Vec<&str> = cells.iter().map(|cell| cell.text.as_str()).collect();
    texts.join(" ")
}

/// Appends words with single spaces between them.
fn push_words(text: &mut String, words: &str) {
    let mut separator = "";
    for word in words
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
    {
        text.push_str(separator);
        text.push_str(word);
        separator = " ";
    }
}

/// A run's text without the blanks around it, and how wide those are before and after, in [`units`].
fn ink(text: &str) -> (f32, &str, f32) {
    let without_lead = text.trim_start();
    let words = without_lead.trim_end();
    let blank = |n_bytes: usize| {
        let n_spaces = u16::try_from(n_bytes).unwrap_or(u16::MAX);
        f32::from(n_spaces) * 0.5
    };
    (
        blank(text.len() - without_lead.len()),
        words,
        blank(without_lead.len() - words.len()),
    )
}

/// How wide a text is, roughly: 1 for a Hangul syllable or ideograph, 0.5 for a Latin letter, digit or space.
fn units(text: &str) -> f32 {
    let unit = |c: char| if u32::from(c) < 0x1100 { 0.5 } else { 1.0 };
    text.chars().map(unit).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::document::pdf::geometry::Frame;

    /// A run of 10 point text with the given extent and baseline.
    pub(in crate::document::pdf) fn run(text: &str, start: f32, end: f32, baseline: f32) -> Run {
        Run {
            text: text.to_owned(),
            frame: Frame::HORIZONTAL,
            start,
            end,
            baseline,
            size: 10.0,
            em: 10.0,
            bold: false,
            furniture: false,
            tag: None,
        }
    }

    fn check(runs: Vec<Run>, expected: &[&str]) {
        let lines = assemble(&runs, false);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn gaps_become_spaces() {
        check(
            vec![
                run("휴직", 0.0, 20.0, 0.0),
                run("기간은", 23.0, 53.0, 0.0),
                run("1", 54.0, 59.0, 0.0),
            ],
            &["휴직 기간은1"],
        );
        check(
            vec![run("휴직 ", 0.0, 25.0, 0.0), run("기간", 25.0, 45.0, 0.0)],
            &["휴직 기간"],
        );
    }

    #[test]
    fn the_widening_between_scripts_is_no_space() {
        let runs = || vec![run("제", 0.0, 10.0, 0.0), run("1", 12.5, 17.5, 0.0)];
        assert_eq!(assemble(&runs(), true)[0].text, "제1");
        assert_eq!(assemble(&runs(), false)[0].text, "제 1");
    }

    #[test]
    fn baselines_make_lines() {
        check(
            vec![
                run("첫째", 0.0, 20.0, 100.0),
                run("줄", 23.0, 33.0, 101.0),
                run("둘째 줄", 0.0, 35.0, 114.0),
                run("  ", 0.0, 10.0, 128.0),
            ],
            &["첫째 줄", "둘째 줄"],
        );
    }

    #[test]
    fn superscripts_stay_in_their_line() {
        let note = Run {
            size: 6.0,
            em: 6.0,
            ..run("1)", 20.0, 26.0, 96.0)
        };
        check(
            vec![
                run("휴직", 0.0, 20.0, 100.0),
                note,
                run("은", 26.0, 36.0, 100.0),
            ],
            &["휴직1)은"],
        );
    }

    #[test]
    fn a_run_painted_late_goes_to_its_place() {
        check(
            vec![run("목적", 20.0, 40.0, 0.0), run("①", 5.0, 15.0, 0.0)],
            &["① 목적"],
        );
    }

    #[test]
    fn letters_set_apart_are_still_words() {
        let spread = |text: &str, gaps: &[f32]| {
            let mut x = 0.0;
            let mut runs = Vec::new();
            for (letter, gap) in text.chars().zip(gaps) {
                runs.push(run(&letter.to_string(), x, x + 10.0, 0.0));
                x += 10.0 + gap;
            }
            assemble(&runs, false)[0].text.clone()
        };
        assert_eq!(spread("휴직규정", &[5.0, 5.0, 5.0, 0.0]), "휴직규정");
        assert_eq!(
            spread("휴직관리기준", &[4.0, 10.0, 4.0, 10.0, 4.0, 0.0]),
            "휴직 관리 기준"
        );
    }

    #[test]
    fn a_label_belongs_to_its_item() {
        let lines = assemble(
            &[run("1.", 0.0, 7.5, 0.0), run("임금", 36.0, 56.0, 0.0)],
            true,
        );
        assert_eq!(lines[0].cells.len(), 1);
        assert_eq!(lines[0].text, "1. 임금");
    }

    #[test]
    fn wide_gaps_make_cells() {
        let lines = assemble(
            &[run("성명", 0.0, 20.0, 0.0), run("홍길동", 80.0, 110.0, 0.0)],
            false,
        );
        let cells: Vec<&str> = lines[0]
            .cells
            .iter()
            .map(|cell| cell.text.as_str())
            .collect();
        assert_eq!(cells, ["성명", "홍길동"]);
        assert_eq!(lines[0].first_word_width, 20.0);
    }
}
