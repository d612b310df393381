//! Where pages begin, estimated from the layout that Hangul left in the file.
//!
//! The format stores no pages, but it stores for each line how far below the top of its column it was drawn. A line
//! that stands higher than the one before begins a new column. Tables that break over pages have one line only; their
//! height tells how many pages they fill. Without stored lines there is no estimate.

/// The page that the text being read stands on.
#[derive(Debug)]
pub(in crate::document) struct PageEstimate {
    /// From 1; 0 before the first line.
    page: u32,
    n_columns: u32,
    /// Columns begun on this page, from 0.
    column: u32,
    /// Height of the text area in HWP units (1/7200 inch); 0 if unknown.
    body_height: u32,
    /// Where the last line stood, in HWP units below the top of its column.
    last_line: i32,
}

impl Default for PageEstimate {
    fn default() -> PageEstimate {
        PageEstimate {
            page: 0,
            n_columns: 1,
            column: 0,
            body_height: 0,
            last_line: i32::MAX,
        }
    }
}

impl PageEstimate {
    /// The current page, from 1.
    pub(in crate::document) fn page(&self) -> Option<u32> {
        (self.page > 0).then_some(self.page)
    }

    /// The page of something `offset` HWP units below the last line, inside a table that breaks over pages.
    pub(in crate::document) fn page_below(&self, offset: u32) -> Option<u32> {
        let page = self.page()?;
        Some(page.saturating_add(self.n_breaks(offset)))
    }

    /// A section begins on a new page.
    pub(in crate::document) fn begin_section(&mut self) {
        self.last_line = i32::MAX;
        self.column = 0;
        self.n_columns = 1;
    }

    /// The text area of the pages from here on has this height, in HWP units.
    pub(in crate::document) fn set_body_height(&mut self, body_height: u32) {
        self.body_height = body_height;
    }

    /// Text runs in this many columns from here on.
    pub(in crate::document) fn set_columns(&mut self, n_columns: u32) {
        self.n_columns = n_columns.max(1);
        self.column = 0;
    }

    /// A line of the body stands at `position`, in HWP units below the top of its column.
    pub(in crate::document) fn line(&mut self, position: i32) {
        if self.last_line == i32::MAX {
            self.page = self.page.saturating_add(1);
        } else if position < self.last_line {
            self.column += 1;
            if self.column >= self.n_columns {
                self.column = 0;
                self.page = self.page.saturating_add(1);
            }
        }
        self.last_line = position;
    }

    /// A table of this height ends, which could break over pages and was anchored in the last line.
    pub(in crate::document) fn end_table(&mut self, height: u32) {
        let n_breaks = self.n_breaks(height);
        if n_breaks > 0 {
            self.page = self.page.saturating_add(n_breaks);
            self.last_line = 0;
        }
    }

    fn n_breaks(&self, offset: u32) -> u32 {
        let last_line = u32::try_from(self.last_line).unwrap_or(0);
        last_line
            .saturating_add(offset)
            .checked_div(self.body_height)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(n_columns: u32, lines: &[i32], expected: &[u32]) {
        let mut pages = PageEstimate::default();
        pages.begin_section();
        pages.set_columns(n_columns);
        let found: Vec<u32> = lines
            .iter()
            .filter_map(|position| {
                pages.line(*position);
                pages.page()
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_above_the_last_one_begins_a_page_or_a_column() {
        check(1, &[0, 1600, 3200, 0, 1600, 0], &[1, 1, 1, 2, 2, 3]);
        check(2, &[0, 1600, 0, 1600, 0, 1600], &[1, 1, 1, 1, 2, 2]);
        check(1, &[0, 0, -5], &[1, 1, 2]);
    }

    #[test]
    fn a_high_table_fills_pages() {
        let mut pages = PageEstimate::default();
        assert_eq!(pages.page_below(0), None);
        pages.set_body_height(1000);
        pages.line(500);
        assert_eq!(pages.page_below(400), Some(1));
        assert_eq!(pages.page_below(600), Some(2));
        pages.end_table(1600);
        assert_eq!(pages.page(), Some(3));
        pages.line(200);
        assert_eq!(pages.page(), Some(3));
        pages.begin_section();
        pages.line(0);
        assert_eq!(pages.page(), Some(4));
    }
}
