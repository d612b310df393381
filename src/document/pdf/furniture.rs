//! Takes running headers, footers and page numbers out of the text.
//!
//! A line near the upper or lower edge that stands at the same height on three pages or more, with the same words or a
//! number that counts with the pages, belongs to the paper and not to the text. So does a lone page number, and what
//! the file itself marks as pagination.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::lines::Line;
use super::paragraphs::{Item, PageText};

/// Pages on which a line must stand to be running.
const MIN_PAGES: usize = 3;

/// Share of the page's height, at the top and at the bottom, where furniture stands.
const MARGIN: f32 = 0.15;

/// Heights closer than this, in points, are the same height.
const SAME_HEIGHT: f32 = 3.0;

/// Removes the furniture of all pages, unless nothing else is there (labels, slides of one line).
pub(super) fn remove(pages: &mut [PageText]) {
    let n_pages = pages.len();
    let sightings = sightings(pages);
    let is_furniture = |item: &Item, page: &PageText| match item {
        Item::Line(line) => {
            in_margin(line, page.height)
                && (line.furniture && n_pages > 1
                    || is_page_number(&line.text, page.number, n_pages)
                    || is_running(line, page.number, &sightings))
        }
        Item::Note(_) | Item::Row { .. } => false,
    };
    let furniture: Vec<bool> = pages
        .iter()
        .flat_map(|page| page.items.iter().map(|item| is_furniture(item, page)))
        .collect();
    if furniture.contains(&false) {
        let mut furniture = furniture.into_iter();
        for page in pages {
            page.items.retain(|_| furniture.next() == Some(false));
        }
    }
}

/// Words of a line → height → the first pages on which the line stands there.
type Sightings<'l> = HashMap<Cow<'l, str>, BTreeMap<i32, Vec<u32>>>;

fn sightings(pages: &[PageText]) -> Sightings<'_> {
    let mut sightings = Sightings::new();
    for page in pages {
        for line in margin_lines(page) {
            for words in recognised_by(line, page.number) {
                let heights = sightings.entry(words).or_default();
                let pages = heights.entry(height(line)).or_default();
                if pages.len() < MIN_PAGES && pages.last() != Some(&page.number) {
                    pages.push(page.number);
                }
            }
        }
    }
    sightings
}

fn margin_lines(page: &PageText) -> impl Iterator<Item = &Line> {
    page.items.iter().filter_map(|item| match item {
        Item::Line(line) if in_margin(line, page.height) => Some(line),
        Item::Line(_) | Item::Note(_) | Item::Row { .. } => None,
    })
}

/// Whether a line stands on enough pages; one on the border of two heights is looked for in both.
fn is_running(line: &Line, number: u32, sightings: &Sightings<'_>) -> bool {
    let height = height(line);
    let around = height.saturating_sub(1)..=height.saturating_add(1);
    recognised_by(line, number).iter().any(|words| {
        let heights = sightings.get(words);
        let heights = heights
            .into_iter()
            .flat_map(|all| all.range(around.clone()));
        let mut pages: Vec<u32> = heights.flat_map(|(_, pages)| pages).copied().collect();
        pages.sort_unstable();
        pages.dedup();
        pages.len() >= MIN_PAGES
    })
}

fn in_margin(line: &Line, height: f32) -> bool {
    line.degrees != 0 || line.baseline < MARGIN * height || line.baseline > (1.0 - MARGIN) * height
}

/// Where a line stands, in steps of [`SAME_HEIGHT`].
fn height(line: &Line) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "heights on a page are far below the limits of i32; the cast saturates"
    )]
    let height = (line.baseline / SAME_HEIGHT).round() as i32;
    height
}

/// What a line is recognised by on other pages: its words, and its words with one number counted from the page's.
fn recognised_by(line: &Line, number: u32) -> Vec<Cow<'_, str>> {
    let text = line.text.as_str();
    let is_digit = |c: char| c.is_ascii_digit();
    let mut all = vec![Cow::Borrowed(text)];
    let mut before = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_digit) {
        let (head, tail) = rest.split_at(at);
        let end = tail.find(|c| !is_digit(c)).unwrap_or(tail.len());
        let (digits, after) = tail.split_at(end);
        before.push_str(head);
        if let Ok(value) = digits.parse::<i64>() {
            let offset = value - i64::from(number);
            all.push(Cow::Owned(format!("{before}\0{offset}\0{after}")));
        }
        before.push_str(digits);
        rest = after;
        if all.len() > 8 {
            break;
        }
    }
    all
}

/// `3`, `- 3 -`, `3 / 12`, `3쪽`: nothing but this page's number.
fn is_page_number(text: &str, number: u32, n_pages: usize) -> bool {
    let bare = text.trim_matches(|c: char| " -–—―[]()<>·~".contains(c));
    let bare = bare.trim_end_matches(['쪽', '면']).trim();
    let bare = ["Page", "page", "PAGE", "p."]
        .iter()
        .find_map(|word| bare.strip_prefix(word))
        .unwrap_or(bare)
        .trim();
    let digits_of = |text: &str| text.trim().parse::<usize>().ok();
    let this = usize::try_from(number).unwrap_or(usize::MAX);
    let framed = text.trim_start().starts_with(['-', '–', '—', '―']);
    match bare.split_once('/').or_else(|| bare.split_once("of")) {
        Some((page, all)) => {
            digits_of(page).is_some() && digits_of(all).is_some_and(|all| all >= n_pages)
        }
        None => digits_of(bare).is_some_and(|page| page == this || framed && page < 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::assemble;
    use crate::document::pdf::lines::tests::run;

    /// Pages of 800 points with lines of the given texts and heights; what is left on each.
    fn check(pages: &[&[(&str, f32)]], expected: &[&[&str]]) {
        let mut pages: Vec<PageText> = (1..)
            .zip(pages)
            .map(|(number, lines)| {
                let runs = lines
                    .iter()
                    .map(|&(text, baseline)| run(text, 50.0, 150.0, baseline));
                let items = assemble(&runs.collect::<Vec<_>>(), true)
                    .into_iter()
                    .map(Item::Line)
                    .collect();
                PageText {
                    number,
                    height: 800.0,
                    items,
                }
            })
            .collect();
        remove(&mut pages);
        for (page, expected) in pages.iter().zip(expected) {
            let left: Vec<&str> = margin_and_body(page);
            assert_eq!(&left, expected);
        }
    }

    fn margin_and_body(page: &PageText) -> Vec<&str> {
        let texts = page.items.iter().filter_map(|item| match item {
            Item::Line(line) => Some(line.text.as_str()),
            Item::Note(_) | Item::Row { .. } => None,
        });
        texts.collect()
    }

    #[test]
    fn running_lines_are_dropped() {
        check(
            &[
                &[
                    ("인사규정", 40.0),
                    ("제1조", 60.0),
                    ("본문", 400.0),
                    ("규정집 11", 780.0),
                ],
                &[
                    ("인사규정", 40.0),
                    ("제2조", 60.0),
                    ("본문", 400.0),
                    ("규정집 12", 780.0),
                ],
                &[
                    ("인사규정", 41.0),
                    ("제5조", 60.0),
                    ("본문", 400.0),
                    ("규정집 13", 780.0),
                ],
            ],
            &[&["제1조", "본문"], &["제2조", "본문"], &["제5조", "본문"]],
        );
    }

    #[test]
    fn lone_page_numbers_are_dropped() {
        check(
            &[
                &[("7", 40.0), ("본문", 400.0), ("- 1 -", 780.0)],
                &[("1", 40.0), ("2 / 2", 780.0)],
            ],
            &[&["7", "본문"], &["1"]],
        );
    }
}
