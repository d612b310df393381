//! What is painted on a page → its lines and table rows in reading order.
//!
//! Producers paint in the order of reading, and that order is kept: it knows about cells and columns what geometry can
//! only guess. Only where the painting jumps upwards again and again, or where lines run across two columns, is the
//! page put in order by geometry.

use super::lines::{Cell, Line, assemble};
use super::painting::{Page, Run};
use super::paragraphs::{Item, TableCell};
use super::table::{Grid, grids, is_header};
use super::tagged_table::{TaggedTable, table_of, tagged_tables};

/// Share of steps from line to line that go upwards, from which the painting has no order.
const MAX_UPWARD_STEPS: f32 = 0.3;

/// Lines on each side of a gutter, and their mean length in characters, that make columns of text and not a table.
const MIN_COLUMN_LINES: usize = 5;
const MIN_COLUMN_CHARS: usize = 9;

/// Share of lines that may cross a gutter (titles, wide tables).
const MAX_CROSSING: f32 = 0.25;

/// Columns are looked for within columns this often.
const MAX_COLUMN_SPLITS: usize = 8;

/// Lines of a page that are compared with each other; a page of text has less than a hundred.
const MAX_COMPARED_LINES: usize = 1000;

/// The lines and table rows of a page, in reading order.
pub(super) fn items(page: &mut Page) -> Vec<Item> {
    let paints_spaces = page.paints_spaces();
    let runs = std::mem::take(&mut page.runs);
    let grids = grids(&page.rules);
    let tagged = tagged_tables(&runs, &grids);
    let mut in_grids: Vec<Vec<(usize, &Run)>> = grids.iter().map(|_| Vec::new()).collect();
    let mut places = Vec::with_capacity(runs.len());
    for run in &runs {
        if let Some(table) = table_of(&tagged, run) {
            places.push(Some(grids.len() + table));
            continue;
        }
        let place = grids
            .iter()
            .enumerate()
            .find_map(|(table, grid)| Some((table, grid.cell_of(run)?)));
        if let Some((table, cell)) = place
            && let Some(in_grid) = in_grids.get_mut(table)
        {
            in_grid.push((cell, run));
        }
        places.push(place.map(|(table, _)| table));
    }
    let ruled = grids
        .iter()
        .zip(&in_grids)
        .enumerate()
        .map(|(table, (grid, runs))| grid.read(table, runs, paints_spaces));
    let named = (grids.len()..)
        .zip(&tagged)
        .map(|(table, tagged)| tagged.read(table, paints_spaces));
    let mut tables: Vec<Option<Vec<Item>>> = ruled.chain(named).collect();
    let tops = grids.iter().map(Grid::top);
    let tops: Vec<f32> = tops.chain(tagged.iter().map(TaggedTable::top)).collect();
    let if_read =
        |place: Option<usize>| place.filter(|&table| matches!(tables.get(table), Some(Some(_))));
    let flow: Vec<(Option<usize>, &Run)> = places.into_iter().map(if_read).zip(&runs).collect();
    let elements = painted_order(&flow, paints_spaces);
    let elements = match is_disordered(&elements) {
        true => geometric_order(&flow, &tops, paints_spaces),
        false => split_shared_lines(elements),
    };
    let mut items = Vec::new();
    for element in elements {
        match element {
            Element::Line(line) => items.push(Item::Line(line)),
            Element::Table(table) => {
                items.extend(
                    tables
                        .get_mut(table)
                        .and_then(Option::take)
                        .unwrap_or_default(),
                );
            }
        }
    }
    rows_without_rules(items, tables.len())
}

/// A line, or the place of a table.
#[derive(Debug, Clone)]
enum Element {
    Line(Line),
    Table(usize),
}

/// Lines and tables as they were painted; a table stands where its first run was.
fn painted_order(flow: &[(Option<usize>, &Run)], paints_spaces: bool) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut pending: Vec<&Run> = Vec::new();
    let mut seen = Vec::new();
    for &(table, run) in flow {
        match table {
            None => pending.push(run),
            Some(table) if seen.contains(&table) => {}
            Some(table) => {
                let lines = assemble(std::mem::take(&mut pending), paints_spaces);
                elements.extend(lines.into_iter().map(Element::Line));
                elements.push(Element::Table(table));
                seen.push(table);
            }
        }
    }
    let lines = assemble(pending, paints_spaces);
    elements.extend(lines.into_iter().map(Element::Line));
    elements
}

/// Whether the painting goes up, or back on the same line, too often to be an order.
fn is_disordered(elements: &[Element]) -> bool {
    let lines: Vec<&Line> = elements
        .iter()
        .filter_map(|element| match element {
            Element::Line(line) if line.degrees == 0 => Some(line),
            Element::Line(_) | Element::Table(_) => None,
        })
        .collect();
    let is_step_back = |pair: &&[&Line]| match pair {
        [before, after] => {
            let down = after.baseline - before.baseline;
            // Up and to the right is the next column, or the next cell.
            let goes_up = down < -0.5 * before.size && after.start < before.end;
            let goes_back = down.abs() <= 0.35 * before.size && after.end <= before.start;
            goes_up || goes_back
        }
        _ => false,
    };
    let n_back = lines.windows(2).filter(is_step_back).count();
    let ratio = |part: usize, whole: usize| {
        let number = |n: usize| f32::from(u16::try_from(n).unwrap_or(u16::MAX));
        number(part) / number(whole.max(1))
    };
    n_back >= 3 && ratio(n_back, lines.len().saturating_sub(1)) > MAX_UPWARD_STEPS
}

/// Lines and tables from top to bottom, column by column.
fn geometric_order(
    flow: &[(Option<usize>, &Run)],
    tops: &[f32],
    paints_spaces: bool,
) -> Vec<Element> {
    let mut tables: Vec<usize> = Vec::new();
    let mut runs: Vec<&Run> = Vec::new();
    for &(table, run) in flow {
        match table {
            None => runs.push(run),
            Some(table) if tables.contains(&table) => {}
            Some(table) => tables.push(table),
        }
    }
    runs.sort_by(|a, b| {
        let directions = a.frame.degrees.cmp(&b.frame.degrees);
        directions.then(a.baseline.total_cmp(&b.baseline))
    });
    // Runs of one line may differ a little in height; within a line they go from left to right.
    let mut sorted: Vec<&Run> = Vec::with_capacity(runs.len());
    let mut line: Vec<&Run> = Vec::new();
    for run in runs {
        let is_same_line = line.first().is_some_and(|first| {
            first.frame.degrees == run.frame.degrees
                && run.baseline - first.baseline <= 0.3 * first.size.min(run.size)
        });
        if !is_same_line {
            line.sort_by(|a, b| a.start.total_cmp(&b.start));
            sorted.append(&mut line);
        }
        line.push(run);
    }
    line.sort_by(|a, b| a.start.total_cmp(&b.start));
    sorted.append(&mut line);

    let lines = columns_in_order(assemble(sorted, paints_spaces));
    let mut elements: Vec<Element> = lines.into_iter().map(Element::Line).collect();
    for table in tables {
        let top_of = |table: usize| tops.get(table).copied().unwrap_or(0.0);
        let top = top_of(table);
        let is_below = |element: &Element| match element {
            Element::Line(line) => line.degrees == 0 && line.baseline > top,
            Element::Table(other) => top_of(*other) > top,
        };
        let at = elements.iter().position(is_below).unwrap_or(elements.len());
        elements.insert(at, Element::Table(table));
    }
    elements
}

/// In an ordered page, lines that run across two columns of text are taken apart.
fn split_shared_lines(elements: Vec<Element>) -> Vec<Element> {
    let lines: Vec<&Line> = elements
        .iter()
        .filter_map(|element| match element {
            Element::Line(line) => Some(line),
            Element::Table(_) => None,
        })
        .collect();
    let shared = lines.iter().filter(|line| {
        line.cells.len() == 2
            && line
                .cells
                .iter()
                .all(|cell| cell.text.chars().count() >= MIN_COLUMN_CHARS)
    });
    let n_shared = shared.count();
    if n_shared < MIN_COLUMN_LINES || n_shared * 2 < lines.len() {
        return elements;
    }
    // Tables keep their place among the lines before them.
    let mut ordered = Vec::new();
    let mut pending = Vec::new();
    for element in elements {
        match element {
            Element::Line(line) => pending.push(line),
            Element::Table(table) => {
                let lines = columns_in_order(std::mem::take(&mut pending));
                ordered.extend(lines.into_iter().map(Element::Line));
                ordered.push(Element::Table(table));
            }
        }
    }
    ordered.extend(columns_in_order(pending).into_iter().map(Element::Line));
    ordered
}

/// Lines from top to bottom → the same, column by column where there are columns.
fn columns_in_order(lines: Vec<Line>) -> Vec<Line> {
    let mut done: Vec<Line> = Vec::new();
    let mut regions = vec![lines];
    let mut n_splits = 0;
    while let Some(region) = regions.pop() {
        let gutter = match n_splits < MAX_COLUMN_SPLITS {
            true => gutter(&region),
            false => None,
        };
        let Some(gutter) = gutter else {
            done.extend(region);
            continue;
        };
        n_splits += 1;
        // Between two lines that cross the gutter, first everything left of it, then everything right of it.
        let mut parts: Vec<Vec<Line>> = Vec::new();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for line in region {
            let (before, after) = cut(&line, gutter);
            if before.is_none() && after.is_none() {
                parts.extend([std::mem::take(&mut left), std::mem::take(&mut right)]);
                parts.push(vec![line]);
            } else {
                left.extend(before);
                right.extend(after);
            }
        }
        parts.extend([left, right]);
        regions.extend(parts.into_iter().rev().filter(|part| !part.is_empty()));
    }
    done
}

/// Where the white space between two columns of text lies, if there are two.
fn gutter(lines: &[Line]) -> Option<f32> {
    let level = || {
        lines
            .iter()
            .filter(|line| line.degrees == 0)
            .take(MAX_COMPARED_LINES)
    };
    let pieces: Vec<&Cell> = level().flat_map(|line| &line.cells).collect();
    if pieces.len() < 2 * MIN_COLUMN_LINES {
        return None;
    }
    let mut starts: Vec<f32> = pieces.iter().map(|piece| piece.start).collect();
    starts.sort_by(f32::total_cmp);
    starts.dedup_by(|next, kept| *next - *kept < 2.0);
    let mean_chars = |pieces: &[&&Cell]| {
        let n_chars: usize = pieces.iter().map(|piece| piece.text.chars().count()).sum();
        n_chars / pieces.len().max(1)
    };
    let mut best: Option<(usize, f32)> = None;
    for start in starts {
        let x = start - 1.0;
        let left: Vec<&&Cell> = pieces.iter().filter(|piece| piece.end <= x).collect();
        let right: Vec<&&Cell> = pieces.iter().filter(|piece| piece.start >= x).collect();
        let n_crossing = pieces.len() - left.len() - right.len();
        let is_column = |side: &[&&Cell]| {
            side.len() >= MIN_COLUMN_LINES && mean_chars(side) >= MIN_COLUMN_CHARS
        };
        let few_cross = f32::from(u16::try_from(n_crossing).unwrap_or(u16::MAX))
            <= MAX_CROSSING * f32::from(u16::try_from(pieces.len()).unwrap_or(u16::MAX));
        if is_column(&left)
            && is_column(&right)
            && few_cross
            && best.is_none_or(|(fewest, _)| n_crossing < fewest)
        {
            best = Some((n_crossing, x));
        }
    }
    best.map(|(_, x)| x)
}

/// The parts of a line left and right of a gutter; neither if it crosses.
fn cut(line: &Line, gutter: f32) -> (Option<Line>, Option<Line>) {
    if line.degrees != 0 {
        return (Some(line.clone()), None);
    }
    let crosses = line
        .cells
        .iter()
        .any(|cell| cell.start < gutter && gutter < cell.end);
    if crosses {
        return (None, None);
    }
    let (left, right): (Vec<Cell>, Vec<Cell>) = line
        .cells
        .iter()
        .cloned()
        .partition(|cell| cell.end <= gutter);
    (line.part(left), line.part(right))
}

/// Neighbouring lines whose pieces stand in columns are rows of a table without rules.
fn rows_without_rules(items: Vec<Item>, n_tables: usize) -> Vec<Item> {
    let mut done: Vec<Item> = Vec::with_capacity(items.len());
    let mut group: Vec<Line> = Vec::new();
    let mut table = n_tables;
    for item in items {
        match item {
            Item::Line(line) if line.cells.len() > 1 => {
                if !group.last().is_none_or(|last| is_next_row(last, &line)) {
                    flush_rows(&mut group, &mut table, &mut done);
                }
                group.push(line);
            }
            Item::Line(_) | Item::Note(_) | Item::Row { .. } => {
                flush_rows(&mut group, &mut table, &mut done);
                done.push(item);
            }
        }
    }
    flush_rows(&mut group, &mut table, &mut done);
    done
}

/// Whether two lines have pieces under each other, and not too far apart.
fn is_next_row(above: &Line, below: &Line) -> bool {
    let step = below.baseline - above.baseline;
    let n_aligned = below
        .cells
        .iter()
        .filter(|cell| {
            above
                .cells
                .iter()
                .any(|other| are_aligned(cell, other, below.size))
        })
        .count();
    step > 0.0 && step < 4.0 * below.size && n_aligned >= 2 && above.degrees == below.degrees
}

/// Whether two pieces begin, end or are centred at one place.
fn are_aligned(a: &Cell, b: &Cell, size: f32) -> bool {
    let near = |x: f32, y: f32| (x - y).abs() < 0.6 * size;
    near(a.start, b.start) || near(a.end, b.end) || near(a.start + a.end, b.start + b.end)
}

/// Three aligned lines are a table; fewer stay lines.
fn flush_rows(group: &mut Vec<Line>, table: &mut usize, done: &mut Vec<Item>) {
    let lines = std::mem::take(group);
    if lines.len() < 3 {
        done.extend(lines.into_iter().map(Item::Line));
        return;
    }
    let widest = lines.iter().max_by_key(|line| line.cells.len());
    let columns = widest.map(|line| line.cells.clone()).unwrap_or_default();
    for (index, line) in lines.iter().enumerate() {
        let mut cells = vec![TableCell::default(); columns.len()];
        for cell in &line.cells {
            let distance = |column: &Cell| {
                let overlap = cell.end.min(column.end) - cell.start.max(column.start);
                -overlap
            };
            let nearest = columns
                .iter()
                .enumerate()
                .min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
            if let Some((column, _)) = nearest
                && let Some(slot) = cells.get_mut(column)
            {
                slot.lines.extend(line.part(vec![cell.clone()]));
            }
        }
        done.push(Item::Row {
            header: index == 0 && is_header(&cells),
            cells,
            table: *table,
        });
    }
    *table += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::tests::run;

    fn check(runs: Vec<Run>, expected: &[&str]) {
        let mut page = Page {
            runs,
            ..Page::default()
        };
        let texts: Vec<String> = items(&mut page)
            .iter()
            .map(|item| match item {
                Item::Line(line) => line.text.clone(),
                Item::Note(text) => text.clone(),
                Item::Row { cells, .. } => {
                    let cells: Vec<&str> = cells
                        .iter()
                        .map(|cell| cell.lines.first().map_or("", |line| &line.text))
                        .collect();
                    cells.join(" | ")
                }
            })
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn the_order_of_painting_is_kept() {
        check(
            vec![
                run("왼쪽 하나", 0.0, 100.0, 10.0),
                run("왼쪽 둘", 0.0, 100.0, 25.0),
                run("오른쪽 하나", 150.0, 250.0, 12.0),
                run("오른쪽 둘", 150.0, 250.0, 27.0),
            ],
            &["왼쪽 하나", "왼쪽 둘", "오른쪽 하나", "오른쪽 둘"],
        );
    }

    #[test]
    fn shuffled_lines_are_sorted() {
        let line = |n: u16| run(&format!("{n}째 줄이다"), 0.0, 60.0, 15.0 * f32::from(n));
        check(
            [4, 2, 6, 1, 5, 3].map(line).to_vec(),
            &[
                "1째 줄이다",
                "2째 줄이다",
                "3째 줄이다",
                "4째 줄이다",
                "5째 줄이다",
                "6째 줄이다",
            ],
        );
    }

    #[test]
    fn lines_across_two_columns_are_taken_apart() {
        let mut runs = vec![run("두 단을 가로지르는 제목입니다", 0.0, 300.0, 0.0)];
        let mut expected = vec!["두 단을 가로지르는 제목입니다".to_owned()];
        for side in ["왼쪽", "오른"] {
            for n in 1..=6 {
                expected.push(format!("{side} 단의 본문 줄 {n}"));
            }
        }
        for n in 1..=6_u8 {
            let y = 15.0 * f32::from(n);
            runs.push(run(&format!("왼쪽 단의 본문 줄 {n}"), 0.0, 130.0, y));
            runs.push(run(&format!("오른 단의 본문 줄 {n}"), 160.0, 290.0, y));
        }
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(runs, &expected);
    }

    #[test]
    fn aligned_pieces_are_rows() {
        let mut runs = Vec::new();
        for (n, (name, days)) in (0_u8..).zip([("이름", "일수"), ("가람", "12"), ("나래", "3")])
        {
            let y = 15.0 * f32::from(n);
            runs.push(run(name, 0.0, 20.0, y));
            runs.push(run(days, 100.0, 120.0, y));
        }
        check(runs, &["이름 | 일수", "가람 | 12", "나래 | 3"]);
    }
}
