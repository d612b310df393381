//! Rules drawn on a page → tables, and which run of glyphs stands in which cell.
//!
//! A table is a group of level and upright rules that touch. Its grid is where they lie; two neighbouring places of the
//! grid are one cell if no rule runs between them. The left and right border may be missing, as Korean forms like it.
//! Boxes around running text are no tables: their text stays in the flow.

use super::lines::{Line, assemble};
use super::painting::{Rule, Run};
use super::paragraphs::{Item, TableCell};

/// Rules closer than this, in points, lie on one line of the grid; ends closer than this touch.
const TOUCH: f32 = 3.0;

/// Level and upright rules each, more than which are a drawing.
const MAX_RULES: usize = 1500;

/// Places in one grid, more than which are graph paper.
const MAX_PLACES: usize = 20_000;

/// Lines and characters in one cell, more than which make the table a layout of running text.
pub(super) const MAX_CELL_LINES: usize = 25;
pub(super) const MAX_CELL_CHARS: usize = 1000;

/// Characters of a cell over several rows, up to which it is repeated in each of them.
const MAX_REPEATED_CHARS: usize = 40;

/// Characters of a cell in the head of a table.
const MAX_HEADER_CHARS: usize = 30;

/// The grid of one table, in points from the upper left corner of the page.
#[derive(Debug)]
pub(super) struct Grid {
    /// Upright lines, from left to right.
    columns: Vec<f32>,
    /// Level lines, from top to bottom.
    rows: Vec<f32>,
    /// For each place, row by row, the first place of its cell.
    cells: Vec<usize>,
}

/// Finds the tables of a page.
pub(super) fn grids(rules: &[Rule]) -> Vec<Grid> {
    let level = merged(rules.iter().filter(|rule| rule.top == rule.bottom).copied());
    let upright = merged(
        rules
            .iter()
            .filter(|rule| rule.left == rule.right && rule.top != rule.bottom)
            .map(|&rule| transposed(rule)),
    );
    if level.len() > MAX_RULES || upright.len() > MAX_RULES || upright.is_empty() {
        return Vec::new();
    }
    let upright: Vec<Rule> = upright.into_iter().map(transposed).collect();
    let mut groups = Groups::new(level.len() + upright.len());
    for (i, across) in level.iter().enumerate() {
        for (j, down) in upright.iter().enumerate() {
            let touches = across.left - TOUCH <= down.left
                && down.left <= across.right + TOUCH
                && down.top - TOUCH <= across.top
                && across.top <= down.bottom + TOUCH;
            if touches {
                groups.unite(i, level.len() + j);
            }
        }
    }
    let n_rules = level.len() + upright.len();
    let roots: Vec<usize> = (0..n_rules).map(|index| groups.root(index)).collect();
    let mut grids: Vec<Grid> = Vec::new();
    for root in 0..level.len() {
        if roots.get(root) != Some(&root) {
            continue;
        }
        let mut across: Vec<Rule> = Vec::new();
        let mut down: Vec<Rule> = Vec::new();
        for (index, rule) in level.iter().chain(&upright).enumerate() {
            if roots.get(index) == Some(&root) {
                if index < level.len() {
                    across.push(*rule);
                } else {
                    down.push(*rule);
                }
            }
        }
        grids.extend(Grid::new(&across, &down));
    }
    // Inner tables first, so that a run goes to the smallest that holds it.
    grids.sort_by(|a, b| a.area().total_cmp(&b.area()));
    grids
}

impl Grid {
    fn new(across: &[Rule], down: &[Rule]) -> Option<Grid> {
        if across.len() < 2 || down.is_empty() {
            return None;
        }
        // The ends of the rules are borders, drawn or not.
        let outer = |ends: (f32, f32), rule: &Rule| (ends.0.min(rule.left), ends.1.max(rule.right));
        let sides = across
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), outer);
        let columns = positions(down.iter().map(|rule| rule.left).chain([sides.0, sides.1]));
        let rows = positions(across.iter().map(|rule| rule.top));
        let n_columns = columns.len().checked_sub(1)?;
        let n_rows = rows.len().checked_sub(1)?;
        if n_columns < 2 || n_rows < 1 || n_columns * n_rows > MAX_PLACES {
            return None;
        }
        let mut cells = Groups::new(n_columns * n_rows);
        for (row, bounds) in rows.windows(2).enumerate() {
            for (column, sides) in columns.windows(2).enumerate() {
                let [(top, bottom), (left, right)] = [bounds, sides].map(|pair| match pair {
                    [low, high] => (*low, *high),
                    _ => (0.0, 0.0),
                });
                let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
                let place = row * n_columns + column;
                let is_closed_right = down.iter().any(|rule| {
                    (rule.left - right).abs() <= TOUCH && rule.top <= y && y <= rule.bottom
                });
                if column + 1 < n_columns && !is_closed_right {
                    cells.unite(place, place + 1);
                }
                let is_closed_below = across.iter().any(|rule| {
                    (rule.top - bottom).abs() <= TOUCH && rule.left <= x && x <= rule.right
                });
                if row + 1 < n_rows && !is_closed_below {
                    cells.unite(place, place + n_columns);
                }
            }
        }
        let cells = (0..n_columns * n_rows)
            .map(|place| cells.root(place))
            .collect();
        Some(Grid {
            columns,
            rows,
            cells,
        })
    }

    fn area(&self) -> f32 {
        let extent = |lines: &[f32]| match lines {
            [first, .., last] => last - first,
            _ => 0.0,
        };
        extent(&self.columns) * extent(&self.rows)
    }

    /// The cell in which a run stands, by its middle.
    pub(super) fn cell_of(&self, run: &Run) -> Option<usize> {
        let middle = (run.start + run.end) / 2.0;
        let (x, y) = run.frame.unproject((middle, run.baseline - 0.3 * run.size));
        let between = |lines: &[f32], at: f32| {
            let after = lines.partition_point(|&line| line <= at);
            (1..lines.len()).contains(&after).then(|| after - 1)
        };
        let (column, row) = (between(&self.columns, x)?, between(&self.rows, y)?);
        let n_columns = self.columns.len() - 1;
        self.cells.get(row * n_columns + column).copied()
    }

    /// Upper edge in points.
    pub(super) fn top(&self) -> f32 {
        self.rows.first().copied().unwrap_or(0.0)
    }

    /// The rows of the table, from the runs of each cell; `None` if what stands in the grid is no table.
    pub(super) fn read(
        &self,
        table: usize,
        runs: &[(usize, &Run)],
        paints_spaces: bool,
    ) -> Option<Vec<Item>> {
        let n_columns = self.columns.len() - 1;
        let mut texts: Vec<TableCell> = vec![TableCell::default(); self.cells.len()];
        let mut runs_of_cells: Vec<Vec<&Run>> = vec![Vec::new(); self.cells.len()];
        for &(cell, run) in runs {
            if let Some(own) = runs_of_cells.get_mut(cell) {
                own.push(run);
            }
        }
        for (own, text) in runs_of_cells.into_iter().zip(&mut texts) {
            let mut lines = assemble(own, paints_spaces);
            let is_sorted = lines.is_sorted_by(|a, b| a.baseline <= b.baseline + 0.5 * a.size);
            if !is_sorted {
                lines.sort_by(|a, b| a.baseline.total_cmp(&b.baseline));
            }
            *text = TableCell { lines };
            if text.lines.len() > MAX_CELL_LINES || text.n_chars() > MAX_CELL_CHARS {
                return None;
            }
        }
        let in_column = |column: usize| texts.iter().skip(column).step_by(n_columns);
        let n_used = (0..n_columns)
            .filter(|&column| in_column(column).any(|cell| !cell.lines.is_empty()))
            .count();
        if n_used < 2 {
            return None;
        }
        let mut rows = Vec::new();
        for (row, places) in self.cells.chunks(n_columns).enumerate() {
            let mut cells = Vec::new();
            let mut is_new = false;
            for (column, &cell) in places.iter().enumerate() {
                let place = row * n_columns + column;
                // A cell over several columns is written once; one over several rows in each.
                let continues_left = column > 0 && places.get(column - 1) == Some(&cell);
                if continues_left {
                    continue;
                }
                is_new |=
                    cell == place && texts.get(cell).is_some_and(|text| !text.lines.is_empty());
                let text = texts
                    .get(cell)
                    .filter(|text| cell / n_columns == row || text.n_chars() <= MAX_REPEATED_CHARS);
                cells.push(text.cloned().unwrap_or_default());
            }
            if is_new {
                rows.extend(split_by_baselines(cells));
            }
        }
        let n_rows = rows.len();
        let items = rows
            .into_iter()
            .enumerate()
            .map(|(index, cells)| Item::Row {
                header: index == 0 && n_rows > 1 && is_header(&cells),
                cells,
                table,
            });
        Some(items.collect())
    }
}

/// A row whose cells all hold the same lines side by side is several rows without rules between them.
fn split_by_baselines(cells: Vec<TableCell>) -> Vec<Vec<TableCell>> {
    let mut used = cells.iter().filter(|cell| !cell.lines.is_empty());
    let Some(first) = used.next() else {
        return vec![cells];
    };
    let n_lines = first.lines.len();
    let side_by_side = |cell: &TableCell| {
        cell.lines.len() == n_lines
            && cell
                .lines
                .iter()
                .zip(&first.lines)
                .all(|(a, b)| (a.baseline - b.baseline).abs() < 0.35 * a.size)
    };
    let mut n_others = 0;
    let all_alike = used.all(|cell| {
        n_others += 1;
        side_by_side(cell)
    });
    if n_lines < 3 || n_others == 0 || !all_alike {
        return vec![cells];
    }
    (0..n_lines)
        .map(|index| {
            let line_of = |cell: &TableCell| TableCell {
                lines: cell.lines.get(index).cloned().into_iter().collect(),
            };
            cells.iter().map(line_of).collect()
        })
        .collect()
}

/// Whether a first row looks like the names of columns: every cell short, none empty, no bare numbers.
pub(super) fn is_header(cells: &[TableCell]) -> bool {
    cells.len() > 1
        && cells.iter().all(|cell| {
            let has_letter = |line: &Line| line.text.chars().any(char::is_alphabetic);
            (1..=MAX_HEADER_CHARS).contains(&cell.n_chars()) && cell.lines.iter().any(has_letter)
        })
}

/// Rules on one line that touch, joined; all level.
fn merged(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = rules.collect();
    rules.sort_by(|a, b| a.top.total_cmp(&b.top).then(a.left.total_cmp(&b.left)));
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        // Only the rules of this height, the last ones, can take it up.
        let same_height = merged
            .iter_mut()
            .rev()
            .take_while(|other| rule.top - other.top <= TOUCH / 2.0)
            .take(64)
            .find(|other| rule.left <= other.right + TOUCH && other.left <= rule.right + TOUCH);
        match same_height {
            Some(other) => {
                other.left = other.left.min(rule.left);
                other.right = other.right.max(rule.right);
            }
            None => merged.push(rule),
        }
    }
    merged
}

/// Upright for level and back.
fn transposed(rule: Rule) -> Rule {
    Rule {
        left: rule.top,
        top: rule.left,
        right: rule.bottom,
        bottom: rule.right,
    }
}

/// Sorted positions; those that nearly coincide are one.
fn positions(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    values.dedup_by(|next, kept| *next - *kept <= TOUCH);
    values
}

/// Things that belong together, found pair by pair.
struct Groups(Vec<usize>);

impl Groups {
    fn new(n: usize) -> Groups {
        Groups((0..n).collect())
    }

    /// The first member of a thing's group.
    fn root(&self, mut index: usize) -> usize {
        while let Some(&parent) = self.0.get(index)
            && parent != index
        {
            index = parent;
        }
        index
    }

    fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number stays the root: the first place of a cell, the first level rule of a table.
        if let Some(parent) = self.0.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::tests::run;

    fn level(y: f32, left: f32, right: f32) -> Rule {
        Rule {
            left,
            top: y,
            right,
            bottom: y,
        }
    }

    fn upright(x: f32, top: f32, bottom: f32) -> Rule {
        Rule {
            left: x,
            top,
            right: x,
            bottom,
        }
    }

    fn check(rules: &[Rule], runs: Vec<Run>, expected: &[&str]) {
        let grids = grids(rules);
        let placed: Vec<(usize, &Run)> = runs
            .iter()
            .filter_map(|run| Some((grids[0].cell_of(run)?, run)))
            .collect();
        let rows = grids[0].read(0, &placed, true).unwrap();
        let texts: Vec<String> = rows
            .iter()
            .map(|row| match row {
                Item::Row { cells, .. } => {
                    let cells: Vec<String> = cells
                        .iter()
                        .map(|cell| {
                            let lines: Vec<&str> =
                                cell.lines.iter().map(|line| line.text.as_str()).collect();
                            lines.join(" ")
                        })
                        .collect();
                    cells.join(" | ")
                }
                Item::Line(line) => line.text.clone(),
                Item::Note(text) => text.clone(),
            })
            .collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_grid_is_read_row_by_row() {
        let rules = [
            level(0.0, 0.0, 200.0),
            level(20.0, 0.0, 100.0),
            level(20.0, 101.0, 200.0),
            level(40.0, 0.0, 200.0),
            upright(100.0, 0.0, 40.0),
        ];
        let runs = vec![
            run("직급", 10.0, 30.0, 15.0),
            run("대리", 10.0, 30.0, 35.0),
            run("기간", 110.0, 130.0, 15.0),
            run("1년", 110.0, 130.0, 35.0),
        ];
        check(&rules, runs, &["직급 | 기간", "대리 | 1년"]);
    }

    #[test]
    fn a_cell_over_two_rows_is_in_both() {
        let rules = [
            level(0.0, 0.0, 200.0),
            level(20.0, 100.0, 200.0),
            level(40.0, 0.0, 200.0),
            upright(0.0, 0.0, 40.0),
            upright(100.0, 0.0, 40.0),
            upright(200.0, 0.0, 40.0),
        ];
        let runs = vec![
            run("휴직", 10.0, 30.0, 25.0),
            run("육아", 110.0, 130.0, 15.0),
            run("질병", 110.0, 130.0, 35.0),
        ];
        check(&rules, runs, &["휴직 | 육아", "휴직 | 질병"]);
    }

    #[test]
    fn boxes_and_single_rules_are_no_tables() {
        let frame = [
            level(0.0, 0.0, 200.0),
            level(40.0, 0.0, 200.0),
            upright(0.0, 0.0, 40.0),
            upright(200.0, 0.0, 40.0),
        ];
        assert!(grids(&frame).is_empty());
        assert!(grids(&[level(0.0, 0.0, 200.0)]).is_empty());
    }
}
