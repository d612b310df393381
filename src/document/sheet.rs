//! The cells of one sheet, gathered in any order, → records; after them what stands on the sheet beside its cells.
//!
//! Only cells that hold text cost anything, so that a cell in the last row of an empty sheet is no danger.

use std::collections::BTreeMap;

use anyhow::Result;

use super::table::{self, Row};
use super::{Block, BlockKind, Budget, Location};

/// Copies of merged cells that are made in one sheet; a merge over whole columns must not fill the memory.
const MAX_MERGED_COPIES: u32 = 200_000;

/// A merged cell: row and column of its first and its last corner, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) first: (u32, u32),
    pub(super) last: (u32, u32),
}

/// Text that stands on a sheet beside its cells: a comment, a text box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    /// Row and column, from 0, of the cell it belongs to or begins over, if it has one.
    pub(super) cell: Option<(u32, u32)>,
    pub(super) text: String,
}

/// A sheet that is being read.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    /// The merged cells.
    pub(super) merged: Vec<Area>,
    /// What stands beside the cells, in any order.
    pub(super) remarks: Vec<Remark>,
    /// What could not be read of it, in words for a person.
    pub(super) problems: Vec<String>,
    rows: BTreeMap<u32, Row>,
    n_inserted: usize,
}

impl Sheet {
    /// Adds a cell at a row and a column from 0.
    ///
    /// # Errors
    /// When the time of the file is used up.
    pub(super) fn insert(
        &mut self,
        (row, column): (u32, u32),
        text: String,
        budget: &Budget,
    ) -> Result<()> {
        self.n_inserted += 1;
        if self.n_inserted.is_multiple_of(4096) {
            budget.check_time()?;
        }
        if !text.trim().is_empty() {
            let entry = self.rows.entry(row).or_default();
            entry.number = row.saturating_add(1);
            entry.cells.insert(column, text);
        }
        Ok(())
    }

    /// The sheet's rows as blocks, then its remarks from top to bottom; its tables are counted from `first_table`.
    pub(super) fn into_blocks(mut self, name: &str, first_table: u32) -> Vec<Block> {
        self.fill_merged();
        let rows: Vec<Row> = self.rows.into_values().collect();
        let mut blocks = table::record_blocks(&rows, Some(name), first_table);
        self.remarks
            .sort_by_key(|remark| remark.cell.unwrap_or((u32::MAX, u32::MAX)));
        blocks.extend(self.remarks.into_iter().map(|remark| Block {
            kind: BlockKind::Paragraph,
            text: without_blank_lines(&remark.text),
            location: Location {
                sheet: Some(name.to_owned()),
                row: remark.cell.map(|(row, _)| row.saturating_add(1)),
                ..Location::default()
            },
        }));
        blocks
    }

    /// A merged cell's value stands for all that it covers. A title over the whole width of its row stays one cell.
    fn fill_merged(&mut self) {
        let mut n_copies = 0;
        for area in std::mem::take(&mut self.merged) {
            let (first_row, first_column) = area.first;
            let Some(row) = self.rows.get_mut(&first_row) else {
                continue;
            };
            let Some(value) = row.cells.get(&first_column).cloned() else {
                continue;
            };
            let last_column = if row.cells.len() == 1 {
                first_column
            } else {
                area.last.1
            };
            let n_rows = area.last.0.saturating_sub(first_row).saturating_add(1);
            row.n_merged_rows = row.n_merged_rows.max(n_rows);
            row.has_wide_cell |= last_column > first_column;
            for (_, row) in self.rows.range_mut(first_row..=area.last.0.max(first_row)) {
                for column in first_column..=last_column {
                    n_copies += 1;
                    if n_copies > MAX_MERGED_COPIES {
                        return;
                    }
                    row.cells.entry(column).or_insert_with(|| value.clone());
                }
            }
        }
    }
}

fn without_blank_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}
