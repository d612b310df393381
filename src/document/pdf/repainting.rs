//! Which glyphs are painted a second time at one place: so programs make a font look bold that has no bold face.
//!
//! Every glyph is asked for, almost none is painted twice, and text mostly runs to the right: what lies to the right of
//! all that a row holds is new without a look at the table, and the table is filled only when somebody looks.

use std::collections::HashMap;

use super::painting::Pen;
use super::quick_hash::QuickHash;

/// Equal glyphs closer than this many em are one glyph painted twice.
const REACH_EM: f32 = 0.1;

/// The glyphs of one page, each at the place where it was painted first.
#[derive(Debug, Default)]
pub(super) struct Painted {
    strings: HashMap<Spot, u32, QuickHash>,
    /// Glyphs that are not in the table yet.
    waiting: Vec<(Spot, u32)>,
    /// Row of a grid → the column furthest to the right that holds a glyph.
    furthest: HashMap<(i32, i32), i32, QuickHash>,
    rows: Option<Rows>,
    n_strings: u32,
}

/// A glyph at a place, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Spot {
    character: char,
    grid: i32,
    column: i32,
    row: i32,
}

/// Where the glyphs of a baseline lie, and the rows within reach.
#[derive(Debug, Clone, Copy)]
struct Rows {
    em: f32,
    baseline: f32,
    grid: i32,
    above: i32,
    below: i32,
    own: i32,
    /// The column furthest to the right that holds a glyph: of an earlier string in the rows within reach, and of any in
    /// the glyphs' own row.
    furthest: i32,
    furthest_own: i32,
}

impl Painted {
    /// The same room for another page.
    pub(super) fn clear(&mut self) {
        self.strings.clear();
        self.waiting.clear();
        self.furthest.clear();
        self.rows = None;
    }

    /// Glyphs of one string never count as painted twice.
    pub(super) fn begin_string(&mut self) {
        self.n_strings = self.n_strings.wrapping_add(1);
        if let Some(rows) = &mut self.rows {
            rows.furthest = rows.furthest.max(rows.furthest_own);
        }
    }

    /// Whether an earlier string has painted this glyph here. If not, it is painted now.
    pub(super) fn is_repainted(&mut self, character: char, pen: &Pen, start: f32) -> bool {
        let reach = pen.em * REACH_EM;
        let place = |position: f32| place(position, reach);
        let mut rows = self.enter(pen, reach);
        let spot = |column: i32, row: i32| Spot {
            character,
            grid: rows.grid,
            column,
            row,
        };
        let left = place(start - reach);
        if left <= rows.furthest {
            self.strings.extend(self.waiting.drain(..));
            let right = place(start + reach);
            let is_seen = |column, row| {
                let string = self.strings.get(&spot(column, row));
                string.is_some_and(|&string| string != self.n_strings)
            };
            if is_seen(left, rows.above)
                || is_seen(right, rows.above)
                || is_seen(left, rows.below)
                || is_seen(right, rows.below)
            {
                return true;
            }
        }
        let column = place(start);
        self.waiting.push((spot(column, rows.own), self.n_strings));
        rows.furthest_own = rows.furthest_own.max(column);
        self.rows = Some(rows);
        false
    }

    /// The rows of a baseline, which mostly are those of the glyph before.
    fn enter(&mut self, pen: &Pen, reach: f32) -> Rows {
        if let Some(rows) = self.rows {
            if (rows.em, rows.baseline) == (pen.em, pen.baseline) {
                return rows;
            }
            self.furthest
                .insert((rows.grid, rows.own), rows.furthest_own);
        }
        // Grids of different font sizes must not be mixed up.
        let grid = whole(2.0 * reach * 64.0);
        let row = |baseline: f32| place(baseline, reach);
        let (above, below) = (row(pen.baseline - reach), row(pen.baseline + reach));
        let own = row(pen.baseline);
        let furthest = |row: i32| *self.furthest.get(&(grid, row)).unwrap_or(&i32::MIN);
        let rows = Rows {
            em: pen.em,
            baseline: pen.baseline,
            grid,
            above,
            below,
            own,
            furthest: furthest(above).max(furthest(below)),
            furthest_own: furthest(own),
        };
        self.rows = Some(rows);
        rows
    }
}

/// The row or column of a place: each is as wide as a glyph reaches to both sides.
fn place(position: f32, reach: f32) -> i32 {
    whole(position / (2.0 * reach))
}

/// Rounds down what lies within half a million cells, without the call that `floor` costs.
fn whole(value: f32) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "places saturate far outside any page"
    )]
    let whole = (value + 65_536.0) as i32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::pdf::painting::tests::PEN;

    /// Strings of glyphs at (start, baseline) → for each glyph whether it was painted before.
    fn check(strings: &[&[(f32, f32)]], expected: &[bool]) {
        let mut painted = Painted::default();
        let mut found = Vec::new();
        for string in strings {
            painted.begin_string();
            for &(start, baseline) in *string {
                let pen = PEN.on_baseline(baseline);
                found.push(painted.is_repainted('휴', &pen, start));
            }
        }
        assert_eq!(found, expected, "{strings:?}");
    }

    #[test]
    fn a_glyph_within_reach_of_an_earlier_string_is_a_repetition() {
        let first = (50.0, 100.0);
        for (shift, is_repainted) in [
            ((0.0, 0.0), true),
            ((0.9, 0.0), true),
            ((-0.9, 0.9), true),
            ((0.0, -0.9), true),
            ((4.0, 0.0), false),
            ((-4.0, 0.0), false),
            ((0.0, 4.0), false),
            ((0.0, -4.0), false),
        ] {
            let second = (first.0 + shift.0, first.1 + shift.1);
            check(&[&[first], &[second]], &[false, is_repainted]);
            check(&[&[first, second]], &[false, false]);
        }
    }

    #[test]
    fn rows_are_remembered_when_others_come_between() {
        let (left, right) = ((50.0, 100.0), (90.0, 100.0));
        let (left_below, right_below) = ((50.0, 120.0), (90.0, 120.0));
        check(
            &[&[left, right], &[left_below, right_below], &[right, left]],
            &[false, false, false, false, true, true],
        );
        check(
            &[&[right], &[left], &[left_below], &[left], &[right]],
            &[false, false, false, true, true],
        );
    }

    #[test]
    fn another_page_begins_empty() {
        let mut painted = Painted::default();
        painted.begin_string();
        assert!(!painted.is_repainted('휴', &PEN, 50.0));
        painted.clear();
        painted.begin_string();
        assert!(!painted.is_repainted('휴', &PEN, 50.0));
        painted.begin_string();
        assert!(painted.is_repainted('휴', &PEN, 50.0));
        assert!(!painted.is_repainted('직', &PEN, 50.0));
        let larger = Pen { em: 20.0, ..PEN };
        assert!(!painted.is_repainted('휴', &larger, 50.0));
    }
}
