//! Bytes of a content stream → operators with their operands.
//!
//! Content streams are read in place: numbers are parsed at once, strings and names go into one scratch buffer that the
//! next operator reuses. Arrays and dictionaries stay flat (their brackets are operands of their own), so nothing nests
//! and nothing recurses, however deep the input is. Damage never stops the reading: what is no token is stepped over.

use std::ops::Range;

/// Operands of one operator that are kept; a stream that pushes more without an operator is not a content stream.
const MAX_OPERANDS: usize = 1 << 18;

/// One operand; the ranges point into [`Lexer::scratch`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Number(f32),
    Name(Range<usize>),
    String(Range<usize>),
    /// `[`, `]`, `<<`, `>>`, `true`, `false` or `null`.
    Other,
}

/// Reads operators one by one.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    /// Operands before the operator that [`Lexer::next_operator`] returned last.
    pub(super) operands: Vec<Operand>,
    scratch: Vec<u8>,
}

/// Where the reading of one stream stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Goes on where another cursor of the same bytes stood.
    pub(super) fn at(bytes: &'a [u8], position: usize) -> Cursor<'a> {
        Cursor {
            bytes,
            at: position,
        }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte.
    pub(super) fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// All bytes up to the first that is not accepted.
    pub(super) fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n_bytes = rest
            .iter()
            .position(|&byte| !accept(byte))
            .unwrap_or(rest.len());
        self.at += n_bytes;
        rest.get(..n_bytes).unwrap_or_default()
    }
}

impl Lexer {
    /// The bytes of a string or name operand of the current operator.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.scratch.get(range.clone()).unwrap_or_default()
    }

    /// The next operator, its operands left in [`Lexer::operands`]; `None` at the end of the stream.
    pub(super) fn next_operator<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
        self.operands.clear();
        self.scratch.clear();
        loop {
            cursor.take_while(is_white);
            let start = cursor.at;
            match cursor.bump()? {
                b'%' => {
                    cursor.take_while(|byte| byte != b'\n' && byte != b'\r');
                }
                b'/' => {
                    let name = self.name(cursor);
                    self.operands.push(Operand::Name(name));
                }
                b'(' => {
                    let string = self.literal_string(cursor);
                    self.operands.push(Operand::String(string));
                }
                b'<' if cursor.peek() == Some(b'<') => {
                    cursor.at += 1;
                    self.operands.push(Operand::Other);
                }
                b'<' => {
                    let string = self.hex_string(cursor);
                    self.operands.push(Operand::String(string));
                }
                b'[' | b']' | b'>' => self.operands.push(Operand::Other),
                b'{' | b'}' | b')' => {}
                b'+' | b'-' | b'.' | b'0'..=b'9' => {
                    cursor.at = start;
                    let digits =
                        cursor.take_while(|byte| matches!(byte, b'+' | b'-' | b'.' | b'0'..=b'9'));
                    self.operands.push(Operand::Number(number(digits)));
                }
                _ => {
                    cursor.at = start;
                    let word = cursor.take_while(is_regular);
                    match word {
                        b"true" | b"false" | b"null" => self.operands.push(Operand::Other),
                        b"BI" => {}
                        b"ID" => {
                            skip_inline_image(cursor);
                            return Some(b"EI");
                        }
                        _ => return Some(word),
                    }
                }
            }
            if self.operands.len() > MAX_OPERANDS {
                self.operands.clear();
                self.scratch.clear();
            }
        }
    }

    fn name(&mut self, cursor: &mut Cursor<'_>) -> Range<usize> {
        let start = self.scratch.len();
        unescape_name(cursor.take_while(is_regular), &mut self.scratch);
        start..self.scratch.len()
    }

    fn literal_string(&mut self, cursor: &mut Cursor<'_>) -> Range<usize> {
        let start = self.scratch.len();
        let mut depth = 1_usize;
        while let Some(byte) = cursor.bump() {
            match byte {
                b'(' => depth += 1,
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                b'\\' => {
                    self.escape(cursor);
                    continue;
                }
                b'\r' => {
                    if cursor.peek() == Some(b'\n') {
                        cursor.at += 1;
                    }
                    self.scratch.push(b'\n');
                    continue;
                }
                _ => {}
            }
            self.scratch.push(byte);
        }
        start..self.scratch.len()
    }

    fn escape(&mut self, cursor: &mut Cursor<'_>) {
        let Some(byte) = cursor.bump() else { return };
        match byte {
            b'n' => self.scratch.push(b'\n'),
            b'r' => self.scratch.push(b'\r'),
            b't' => self.scratch.push(b'\t'),
            b'b' => self.scratch.push(8),
            b'f' => self.scratch.push(12),
            b'0'..=b'7' => {
                let mut value = byte - b'0';
                for _ in 0..2 {
                    match cursor.peek() {
                        Some(digit @ b'0'..=b'7') => {
                            value = value.wrapping_shl(3) | (digit - b'0');
                            cursor.at += 1;
                        }
                        Some(_) | None => break,
                    }
                }
                self.scratch.push(value);
            }
            // A line end after a backslash only folds the source.
            b'\r' => {
                if cursor.peek() == Some(b'\n') {
                    cursor.at += 1;
                }
            }
            b'\n' => {}
            _ => self.scratch.push(byte),
        }
    }

    fn hex_string(&mut self, cursor: &mut Cursor<'_>) -> Range<usize> {
        let start = self.scratch.len();
        // Nearly all strings have nothing but pairs of digits.
        let pairs = cursor.bytes.get(cursor.at..).unwrap_or_default();
        for pair in pairs.as_chunks::<2>().0 {
            let (Some(high), Some(low)) = (hex_digit(pair[0]), hex_digit(pair[1])) else {
                break;
            };
            self.scratch.push(high << 4 | low);
            cursor.at += 2;
        }
        let mut high = None;
        while let Some(byte) = cursor.bump() {
            if byte == b'>' {
                break;
            }
            let Some(digit) = hex_digit(byte) else {
                continue;
            };
            match high.take() {
                None => high = Some(digit),
                Some(high) => self.scratch.push(high << 4 | digit),
            }
        }
        if let Some(high) = high {
            self.scratch.push(high << 4);
        }
        start..self.scratch.len()
    }
}

/// Appends a name without its escapes, such as `#20` for a space.
pub(super) fn unescape_name(mut raw: &[u8], name: &mut Vec<u8>) {
    while let Some((&byte, rest)) = raw.split_first() {
        raw = rest;
        match (byte, rest) {
            (b'#', [high, low, tail @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    name.push(high << 4 | low);
                    raw = tail;
                }
                (None, _) | (_, None) => name.push(byte),
            },
            _ => name.push(byte),
        }
    }
}

/// Steps over the data of an inline image, up to an `EI` that stands alone and is followed by text, not by pixels.
fn skip_inline_image(cursor: &mut Cursor<'_>) {
    cursor.at += 1;
    let bytes = cursor.bytes;
    let mut at = cursor.at;
    while let Some(window) = bytes.get(at..at + 2) {
        let before_is_white = at
            .checked_sub(1)
            .and_then(|before| bytes.get(before))
            .is_some_and(|&byte| is_white(byte));
        if window == b"EI" && before_is_white {
            let after = bytes.get(at + 2..).unwrap_or_default();
            let looks_like_text = after
                .iter()
                .take(12)
                .all(|&byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
            if after.first().is_none_or(|&byte| is_white(byte)) && looks_like_text {
                cursor.at = at + 2;
                return;
            }
        }
        at += 1;
    }
    cursor.at = bytes.len();
}

/// A number as lenient readers take it: a sign, digits, one point; anything later (`1.2.3`, `5-3`) is ignored.
fn number(digits: &[u8]) -> f32 {
    let mut negative = false;
    let mut whole = 0.0_f64;
    let mut scale = 0.0_f64;
    let mut seen_digit = false;
    for &byte in digits {
        match byte {
            b'-' | b'+' if seen_digit => break,
            b'-' => negative = true,
            b'.' if scale > 0.0 => break,
            b'.' => scale = 1.0,
            b'0'..=b'9' => {
                seen_digit = true;
                whole = whole * 10.0 + f64::from(byte - b'0');
                scale *= 10.0;
            }
            _ => {}
        }
    }
    let value = if scale > 1.0 { whole / scale } else { whole };
    let value = if value.is_finite() { value } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a page is a few thousand points wide; half precision of a double is plenty"
    )]
    let value = value as f32;
    if negative { -value } else { value }
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// White space of PDF.
pub(super) fn is_white(byte: u8) -> bool {
    matches!(byte, 0 | b'\t' | b'\n' | 12 | b'\r' | b' ')
}

/// What names, numbers and keywords are made of.
pub(super) fn is_regular(byte: u8) -> bool {
    !is_white(byte)
        && !matches!(
            byte,
            b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operator with its operands written out.
    fn read(source: &[u8]) -> Vec<String> {
        let mut lexer = Lexer::default();
        let mut cursor = Cursor::new(source);
        let mut found = Vec::new();
        while let Some(operator) = lexer.next_operator(&mut cursor) {
            let mut line = String::new();
            for operand in &lexer.operands {
                let word = match operand {
                    Operand::Number(value) => value.to_string(),
                    Operand::Name(range) => {
                        format!("/{}", String::from_utf8_lossy(lexer.bytes(range)))
                    }
                    Operand::String(range) => {
                        format!("({})", String::from_utf8_lossy(lexer.bytes(range)))
                    }
                    Operand::Other => "_".to_owned(),
                };
                line.push_str(&word);
                line.push(' ');
            }
            line.push_str(&String::from_utf8_lossy(operator));
            found.push(line);
        }
        found
    }

    fn check(source: &[u8], expected: &[&str]) {
        assert_eq!(
            read(source),
            expected,
            "{}",
            String::from_utf8_lossy(source)
        );
    }

    #[test]
    fn operators_come_with_their_operands() {
        check(b"/F1 12 Tf(a) Tj", &["/F1 12 Tf", "(a) Tj"]);
        check(b"[(a)-250<4142>]TJ T*", &["_ (a) -250 (AB) _ TJ", "T*"]);
        check(
            b"1 0 0 1 72.5 -.5 cm % note\nQ",
            &["1 0 0 1 72.5 -0.5 cm", "Q"],
        );
        check(b"/A#20B gs", &["/A B gs"]);
    }

    #[test]
    fn strings_are_unescaped() {
        check(
            br"(a\(b\)c(d)\101\n\
e) Tj",
            &["(a(b)c(d)A\ne) Tj"],
        );
        check(b"<414> Tj", &["(A@) Tj"]);
        check(b"(open", &[]);
    }

    #[test]
    fn odd_numbers_are_read_as_other_readers_read_them() {
        check(b"1.2.3 --4 5-3 +.5 w", &["1.2 -4 5 0.5 w"]);
    }

    #[test]
    fn an_inline_image_is_stepped_over() {
        check(
            b"q BI /W 1 ID \x00\xffEI \xfe\xff\nEI Q",
            &["q", "/W 1 EI", "Q"],
        );
        check(b"BI ID never ends", &["EI"]);
    }

    #[test]
    fn damage_is_stepped_over() {
        check(b")}>> ] q", &["_ _ _ q"]);
        check(b"", &[]);
    }
}
