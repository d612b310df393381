//! Bytes of an HWP 5 stream → records: a tag, a nesting level and a payload.
//!
//! Nothing of a payload is trusted: a field that is not there is `None`, and a record that claims more bytes than the
//! stream has ends the stream (see [`Records::is_damaged`]).

/// Tags from "한글 문서 파일 형식 5.0", tables 13 and 57.
pub(super) mod tag {
    pub(in super::super) const CHAR_SHAPE: u32 = 21;
    pub(in super::super) const NUMBERING: u32 = 23;
    pub(in super::super) const BULLET: u32 = 24;
    pub(in super::super) const PARA_SHAPE: u32 = 25;
    pub(in super::super) const DISTRIBUTE_DOC_DATA: u32 = 28;
    pub(in super::super) const PARA_HEADER: u32 = 66;
    pub(in super::super) const PARA_TEXT: u32 = 67;
    pub(in super::super) const PARA_CHAR_SHAPE: u32 = 68;
    pub(in super::super) const PARA_LINE_SEG: u32 = 69;
    pub(in super::super) const CTRL_HEADER: u32 = 71;
    pub(in super::super) const LIST_HEADER: u32 = 72;
    pub(in super::super) const PAGE_DEF: u32 = 73;
    pub(in super::super) const TABLE: u32 = 77;
    pub(in super::super) const EQUATION: u32 = 88;
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// What it is, see [`tag`].
    pub(super) tag: u32,
    /// How deep it is nested: a record belongs to the last one before it with a smaller level. At most 1023.
    pub(super) level: u32,
    /// Its payload, little endian.
    pub(super) data: &'a [u8],
}

impl Record<'_> {
    /// The number at a byte offset of the payload.
    pub(super) fn u16_at(&self, offset: usize) -> Option<u16> {
        let bytes = self.data.get(offset..)?.first_chunk()?;
        Some(u16::from_le_bytes(*bytes))
    }

    /// The number at a byte offset of the payload.
    pub(super) fn u32_at(&self, offset: usize) -> Option<u32> {
        let bytes = self.data.get(offset..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// A string at a byte offset: its length in UTF-16 units, then the units. Returns the offset behind it, too. A
    /// string that is cut off gives what is there.
    pub(super) fn string_at(&self, offset: usize) -> Option<(String, usize)> {
        let n_units = usize::from(self.u16_at(offset)?);
        let bytes = self.data.get(offset + 2..)?;
        let end = (2 * n_units).min(bytes.len());
        let string = utf16(bytes.get(..end)?);
        Some((string, offset + 2 + end))
    }
}

/// Decodes UTF-16 LE; an odd last byte is dropped.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let (pairs, _) = bytes.as_chunks();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The records of a stream, in order.
#[derive(Debug)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    damaged: bool,
}

impl<'a> Records<'a> {
    /// Reads the records of a decompressed stream.
    pub(super) fn new(stream: &'a [u8]) -> Records<'a> {
        Records {
            rest: stream,
            damaged: false,
        }
    }

    /// Whether the stream ended inside a record. Meaningful after the last record.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// What follows the records read so far.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take_u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*bytes))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(header) = self.take_u32() else {
            self.damaged = true;
            return None;
        };
        let short_length = header >> 20;
        // A length of 4095 says that the real one follows.
        let length = if short_length == 0xFFF {
            self.take_u32().unwrap_or(u32::MAX)
        } else {
            short_length
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (data, rest) = self.rest.split_at_checked(length).unwrap_or_else(|| {
            self.damaged = true;
            (self.rest, &[])
        });
        self.rest = rest;
        Some(Record {
            tag: header & 0x3FF,
            level: (header >> 10) & 0x3FF,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &[u8], expected: &[(u32, u32, usize)], damaged: bool) {
        let mut records = Records::new(stream);
        let found: Vec<(u32, u32, usize)> = records
            .by_ref()
            .map(|record| (record.tag, record.level, record.data.len()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(records.is_damaged(), damaged);
    }

    #[test]
    fn records_are_cut_by_their_lengths() {
        let header = |tag: u32, level: u32, length: u32| tag | level << 10 | length << 20;
        let mut stream = header(66, 1, 2).to_le_bytes().to_vec();
        stream.extend([7, 7]);
        check(&stream, &[(66, 1, 2)], false);
        stream.extend(header(67, 2, 0xFFF).to_le_bytes());
        stream.extend(4u32.to_le_bytes());
        stream.extend([1, 2, 3, 4]);
        check(&stream, &[(66, 1, 2), (67, 2, 4)], false);
        check(&stream[..stream.len() - 1], &[(66, 1, 2), (67, 2, 3)], true);
        check(&stream[..8], &[(66, 1, 2)], true);
        check(&[], &[], false);
    }

    #[test]
    fn strings_are_counted_in_utf16_units() {
        let record = Record {
            tag: 0,
            level: 0,
            data: &[9, 2, 0, 0x1C, 0xC8, b'^', 0, 5, 0, b'x', 0],
        };
        assert_eq!(record.string_at(1), Some(("제^".to_owned(), 7)));
        assert_eq!(record.string_at(7), Some(("x".to_owned(), 11)));
        assert_eq!(record.string_at(10), None);
        assert_eq!(record.string_at(usize::MAX - 1), None);
    }
}
