//! Takes running headers, footers and page numbers out of the text.
//!
//! A line near the upper or lower edge that stands at the same height on three pages or more, with the same words or a
//! number that counts with the pages, belongs to the paper and not to the text. So does a lone page number, and what
//! the file itself marks as pagination.

use std::collections::{HashMap, HashSet};

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
    let mut seen: HashMap<(String, i32), HashSet<u32>> = HashMap::new();
    for page in pages.iter() {
        for line in margin_lines(page) {
            for key in keys(line, page.number) {
                seen.entry(key).or_default().insert(page.number);
            }
        }
    }
    let n_pages = pages.len();
    let is_repeated = |line: &Line, number: u32| {
        keys(line, number).iter().any(|(text, place)| {
            // A line on the border of two heights is looked for in both.
            let places = [place - 1, *place, place + 1];
            let on_pages = places.map(|place| seen.get(&(text.clone(), place)));
            let pages: HashSet<&u32> = on_pages.into_iter().flatten().flatten().collect();
            pages.len() >= MIN_PAGES
        })
    };
    let is_kept = |item: &Item, number: u32, height: f32| match item {
        Item::Line(line) => {
            let marked = line.furniture && n_pages > 1;
            !in_margin(line, height)
                || !(marked
                    || is_page_number(&line.text, number, n_pages)
                    || is_repeated(line, number))
        }
        Item::Note(_) | Item::Row { .. } => true,
    };
    let keeps_some = |page: &PageText| {
        let mut items = page.items.iter();
        items.any(|item| is_kept(item, page.number, page.height))
    };
    if pages.iter().any(keeps_some) {
        for page in pages {
            let (number, height) = (page.number, page.height);
            page.items.retain(|item| is_kept(item, number, height));
        }
    }
}

fn margin_lines(page: &PageText) -> impl Iterator<Item = &Line> {
    page.items.iter().filter_map(|item| match item {
        Item::Line(line) if in_margin(line, page.height) => Some(line),
        Item::Line(_) | Item::Note(_) | Item::Row { .. } => None,
    })
}

fn in_margin(line: &Line, height: f32) -> bool {
    line.degrees != 0 || line.baseline < MARGIN * height || line.baseline > (1.0 - MARGIN) * height
}

/// What a line is recognised by on other pages: its words, or its words with one number counted from the page's, and
/// its height.
fn keys(line: &Line, number: u32) -> Vec<(String, i32)> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "heights on a page are far below the limits of i32; the cast saturates"
    )]
    let place = (line.baseline / SAME_HEIGHT).round() as i32;
    let mut keys = vec![(line.text.clone(), place)];
    let text = line.text.as_str();
    let is_digit = |c: char| c.is_ascii_digit();
    let mut before = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_digit) {
        let (head, tail) = rest.split_at(at);
        let end = tail.find(|c| !is_digit(c)).unwrap_or(tail.len());
        let (digits, after) = tail.split_at(end);
        before.push_str(head);
        if let Ok(value) = digits.parse::<i64>() {
            let offset = value - i64::from(number);
            keys.push((format!("{before}\0{offset}\0{after}"), place));
        }
        before.push_str(digits);
        rest = after;
        if keys.len() > 8 {
            break;
        }
    }
    keys
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
