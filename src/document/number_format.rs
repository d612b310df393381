//! A spreadsheet number → the text its cell shows.
//!
//! Reads the parts of a format code that change what a person would say: percent, thousands, decimals, leading zeros
//! and the words around the digits (`#,##0"원"`, `0"년"`). Any other code (fractions, exponents, conditions) gives the
//! plain number, with at most 15 significant digits as spreadsheets show.

/// The text of a number in a format code of a spreadsheet; `None` and `General` are the plain number.
pub(super) fn display(number: f64, code: Option<&str>) -> String {
    code.and_then(Picture::parse)
        .map_or_else(|| plain(number), |picture| picture.display(number))
}

/// At most 15 significant digits, as few as needed: 0.1 + 0.2 is 0.3.
fn plain(number: f64) -> String {
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    if rounded.abs() >= 1e21 {
        format!("{rounded:e}")
    } else {
        // An added zero turns -0 into 0.
        (rounded + 0.0).to_string()
    }
}

/// The first section of a format code.
#[derive(Default)]
struct Picture {
    before: String,
    after: String,
    n_min_integers: usize,
    n_min_decimals: usize,
    n_max_decimals: usize,
    has_thousands: bool,
    is_percent: bool,
}

impl Picture {
    fn parse(code: &str) -> Option<Picture> {
        let mut picture = Picture::default();
        let (mut has_digits, mut in_decimals) = (false, false);
        let mut chars = code.chars();
        while let Some(c) = chars.next() {
            match c {
                ';' => break,
                '0' | '#' | '?' => {
                    has_digits = true;
                    let is_fixed = usize::from(c == '0');
                    if in_decimals {
                        picture.n_max_decimals += 1;
                        picture.n_min_decimals += is_fixed;
                    } else {
                        picture.n_min_integers += is_fixed;
                    }
                }
                '.' if has_digits => in_decimals = true,
                ',' if has_digits => picture.has_thousands = true,
                '%' => {
                    picture.is_percent = true;
                    picture.literal(has_digits, '%');
                }
                '"' => {
                    for quoted in chars.by_ref().take_while(|&c| c != '"') {
                        picture.literal(has_digits, quoted);
                    }
                }
                '\\' => picture.literal(has_digits, chars.next()?),
                // A space as wide as the next character, or a fill with it.
                '_' | '*' => {
                    chars.next()?;
                }
                // `[$₩-412]` is a currency sign; colours and conditions do not show.
                '[' => {
                    let inner: String = chars.by_ref().take_while(|&c| c != ']').collect();
                    if let Some(sign) = inner.strip_prefix('$') {
                        for shown in sign.chars().take_while(|&c| c != '-') {
                            picture.literal(has_digits, shown);
                        }
                    } else if inner.contains(['<', '>', '=']) {
                        return None;
                    }
                }
                ' ' | '-' | '+' | '(' | ')' | '$' | '₩' | '€' | '¥' | ':' => {
                    picture.literal(has_digits, c);
                }
                c if !c.is_ascii() => picture.literal(has_digits, c),
                _ => return None,
            }
        }
        has_digits.then_some(picture)
    }

    fn literal(&mut self, has_digits: bool, c: char) {
        if has_digits {
            self.after.push(c);
        } else {
            self.before.push(c);
        }
    }

    fn display(&self, number: f64) -> String {
        let scaled = if self.is_percent {
            number * 100.0
        } else {
            number
        };
        let digits = format!("{:.*}", self.n_max_decimals, scaled.abs());
        let (integers, decimals) = digits.split_once('.').unwrap_or((&digits, ""));
        let mut decimals = decimals.to_owned();
        while decimals.len() > self.n_min_decimals && decimals.ends_with('0') {
            decimals.pop();
        }
        let integers = format!("{integers:0>width$}", width = self.n_min_integers);
        let integers = if self.has_thousands {
            with_thousands(&integers)
        } else {
            integers
        };
        let is_zero = !digits.contains(|c: char| c.is_ascii_digit() && c != '0');
        let sign = if scaled < 0.0 && !is_zero { "-" } else { "" };
        let point = if decimals.is_empty() { "" } else { "." };
        format!(
            "{sign}{}{integers}{point}{decimals}{}",
            self.before, self.after
        )
        .trim()
        .to_owned()
    }
}

fn with_thousands(integers: &str) -> String {
    let n_digits = integers.chars().count();
    let mut text = String::new();
    for (n, digit) in integers.chars().enumerate() {
        if n > 0 && (n_digits - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: f64, code: &str, expected: &str) {
        assert_eq!(display(number, Some(code)), expected, "{number} in {code}");
    }

    #[test]
    fn numbers_read_as_shown() {
        check(0.1 + 0.2, "General", "0.3");
        check(1_234_567.0, "General", "1234567");
        check(-0.0, "General", "0");
        check(0.15, "0%", "15%");
        check(0.0333, "0.0%", "3.3%");
        check(1_500_000.0, "#,##0\"원\"", "1,500,000원");
        check(-1_500.5, "#,##0.00", "-1,500.50");
        check(3.0, "0\"년\"", "3년");
        check(42.0, "00000", "00042");
        check(1200.0, "[$₩-412]#,##0", "₩1,200");
        check(1200.0, "_-* #,##0_-;-* #,##0_-;_-* \"-\"_-;_-@_-", "1,200");
        check(0.5, "# ?/?", "0.5");
        check(12345.0, "0.00E+00", "12345");
    }
}
