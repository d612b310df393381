//! The tables of a page that its rules do not show, but the file's logical structure names → their rows.

use super::lines::assemble;
use super::painting::Run;
use super::paragraphs::{Item, TableCell};
use super::table::{Grid, MAX_CELL_CHARS, MAX_CELL_LINES, is_header};
use super::tags::Tag;

/// One table, as far as it stands on the page.
pub(super) struct TaggedTable<'r> {
    /// Object number of its element.
    id: u32,
    /// In the order of painting.
    rows: Vec<Row<'r>>,
}

struct Row<'r> {
    id: u32,
    cells: Vec<Vec<&'r Run>>,
    /// Whether all its text stands in cells that name a column.
    header: bool,
}

/// The tables of which some text stands in no grid.
pub(super) fn tagged_tables<'r>(runs: &'r [Run], grids: &[Grid]) -> Vec<TaggedTable<'r>> {
    let mut ids: Vec<u32> = Vec::new();
    for run in runs {
        if let Some(Tag::Cell(cell)) = run.tag
            && cell.n_columns > 1
            && !ids.contains(&cell.table)
            && grids.iter().all(|grid| grid.cell_of(run).is_none())
        {
            ids.push(cell.table);
        }
    }
    let empty = |id| TaggedTable {
        id,
        rows: Vec::new(),
    };
    let mut tables: Vec<TaggedTable<'_>> = ids.into_iter().map(empty).collect();
    for run in runs {
        if let Some(table) = table_of(&tables, run).and_then(|index| tables.get_mut(index)) {
            table.push(run);
        }
    }
    tables
}

/// Which of the tables a run stands in.
pub(super) fn table_of(tables: &[TaggedTable<'_>], run: &Run) -> Option<usize> {
    let Some(Tag::Cell(cell)) = run.tag else {
        return None;
    };
    tables.iter().position(|table| table.id == cell.table)
}

impl<'r> TaggedTable<'r> {
    fn push(&mut self, run: &'r Run) {
        let Some(Tag::Cell(tag)) = run.tag else {
            return;
        };
        let mut rows = self.rows.iter().rev();
        let at = match rows.position(|row| row.id == tag.row) {
            Some(from_last) => self.rows.len() - 1 - from_last,
            None => {
                self.rows.push(Row {
                    id: tag.row,
                    cells: vec![Vec::new(); tag.n_columns],
                    header: true,
                });
                self.rows.len() - 1
            }
        };
        if let Some(row) = self.rows.get_mut(at) {
            row.header &= tag.header;
            if let Some(cell) = row.cells.get_mut(tag.column) {
                cell.push(run);
            }
        }
    }

    /// Upper edge in points, about.
    pub(super) fn top(&self) -> f32 {
        let runs = self.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let tops = runs.map(|run| run.baseline - run.size);
        tops.fold(f32::INFINITY, f32::min)
    }

    /// The rows; `None` if what stands in them is the page's text, set in a table only for its looks.
    pub(super) fn read(&self, table: usize, paints_spaces: bool) -> Option<Vec<Item>> {
        let columns = self.columns();
        let names_columns = self.rows.iter().any(|row| row.header);
        let mut items = Vec::new();
        let mut is_table = false;
        for (index, row) in self.rows.iter().enumerate() {
            // A row of one cell runs over all columns.
            let n_columns = if row.cells.len() == 1 {
                1
            } else {
                columns.len()
            };
            let mut cells = vec![TableCell::default(); n_columns];
            for (column, runs) in row.placed(&columns) {
                let lines = assemble(runs.iter().copied(), paints_spaces);
                if let Some(cell) = cells.get_mut(column.min(n_columns - 1)) {
                    cell.lines.extend(lines);
                }
            }
            let is_text = |cell: &TableCell| {
                cell.lines.len() > MAX_CELL_LINES || cell.n_chars() > MAX_CELL_CHARS
            };
            if cells.iter().any(is_text) {
                return None;
            }
            is_table |= cells.iter().filter(|cell| !cell.lines.is_empty()).count() > 1;
            let looks_so = !names_columns && self.rows.len() > 1 && is_header(&cells);
            items.push(Item::Row {
                header: index == 0 && (row.header || looks_so),
                cells,
                table,
            });
        }
        is_table.then_some(items)
    }

    /// From where to where the columns go, as far as the rows with the most cells show it.
    fn columns(&self) -> Vec<Extent> {
        let n_columns = self.rows.iter().map(|row| row.cells.len()).max();
        let n_columns = n_columns.unwrap_or(0);
        let mut columns = vec![NOWHERE; n_columns];
        let widest = |row: &&Row<'_>| row.cells.len() == n_columns;
        for row in self.rows.iter().filter(widest) {
            for (column, runs) in columns.iter_mut().zip(&row.cells) {
                let own = extent(runs);
                *column = (column.0.min(own.0), column.1.max(own.1));
            }
        }
        columns
    }
}

/// Left and right end in points.
type Extent = (f32, f32);

const NOWHERE: Extent = (f32::INFINITY, f32::NEG_INFINITY);

fn extent(runs: &[&Run]) -> Extent {
    let union = |all: Extent, run: &&Run| (all.0.min(run.start), all.1.max(run.end));
    runs.iter().fold(NOWHERE, union)
}

impl<'r> Row<'r> {
    /// The cells with their columns. A row with fewer cells than others leaves some out, or has some that are wider: each
    /// goes to the column that it shares most with, right of the cell before it.
    fn placed(&self, columns: &[Extent]) -> Vec<(usize, &[&'r Run])> {
        let cells = self.cells.iter().map(Vec::as_slice).enumerate();
        if self.cells.len() == columns.len() {
            return cells.collect();
        }
        let mut placed = Vec::new();
        let mut next = 0;
        for (index, runs) in cells.filter(|(_, runs)| !runs.is_empty()) {
            let (left, right) = extent(runs);
            let shared = |column: &Extent| right.min(column.1) - left.max(column.0);
            let n_after = self.cells.len() - index - 1;
            let free = columns.iter().enumerate().take(columns.len() - n_after);
            let best = free
                .skip(next)
                .max_by(|(_, a), (_, b)| shared(a).total_cmp(&shared(b)));
            let column = best.map_or(next, |(column, _)| column);
            next = column + 1;
            placed.push((column, runs));
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::lines::tests::run;
    use crate::document::pdf::tags::CellTag;

    /// Runs of 10 points at (row, column of how many, left edge) → the rows of the only table, and which are headers.
    fn check(cells: &[(u32, usize, usize, f32, &str)], expected: Option<&[(bool, &str)]>) {
        let runs: Vec<Run> = cells
            .iter()
            .map(|&(row, column, n_columns, start, text)| Run {
                tag: Some(Tag::Cell(CellTag {
                    table: 7,
                    row,
                    column,
                    n_columns,
                    header: row == 1,
                })),
                ..run(text, start, start + 40.0, 100.0 + 20.0 * row as f32)
            })
            .collect();
        let tables = tagged_tables(&runs, &[]);
        let rows = tables.first().and_then(|table| table.read(0, true));
        let rows = rows.map(|rows| {
            let row = |item| match item {
                Item::Row { cells, header, .. } => {
                    let texts = cells.iter().map(|cell| {
                        let lines = cell.lines.iter().map(|line| line.text.as_str());
                        lines.collect::<Vec<_>>().join(" ")
                    });
                    (header, texts.collect::<Vec<_>>().join("|"))
                }
                Item::Line(_) | Item::Note(_) => panic!("no row"),
            };
            rows.into_iter().map(row).collect::<Vec<_>>()
        });
        let expected = expected.map(|rows| {
            let row = |&(header, text): &(bool, &str)| (header, text.to_owned());
            rows.iter().map(row).collect()
        });
        assert_eq!(rows, expected);
    }

    #[test]
    fn cells_stand_where_the_structure_says() {
        check(
            &[
                (1, 0, 3, 50.0, "구분"),
                (1, 1, 3, 150.0, "기간"),
                (1, 2, 3, 250.0, "비고"),
                (2, 0, 3, 50.0, "육아"),
                (2, 2, 3, 120.0, "연장"),
                (2, 2, 3, 165.0, "가능"),
            ],
            Some(&[(true, "구분|기간|비고"), (false, "육아||연장 가능")]),
        );
    }

    #[test]
    fn a_row_with_fewer_cells_is_put_under_the_others() {
        check(
            &[
                (1, 0, 2, 150.0, "2024"),
                (1, 1, 2, 250.0, "2025"),
                (2, 0, 3, 50.0, "매출"),
                (2, 1, 3, 150.0, "10"),
                (2, 2, 3, 250.0, "20"),
                (3, 0, 1, 50.0, "출처"),
            ],
            Some(&[(true, "|2024|2025"), (false, "매출|10|20"), (false, "출처")]),
        );
    }

    #[test]
    fn text_set_in_a_table_for_its_looks_is_text() {
        check(&[(2, 0, 2, 50.0, "본문"), (3, 0, 2, 50.0, "본문")], None);
        let long = "가".repeat(MAX_CELL_CHARS + 1);
        check(&[(2, 0, 2, 50.0, &long), (2, 1, 2, 950.0, "나")], None);
    }
}
