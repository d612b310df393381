//! The `DocInfo` stream → what paragraphs refer to: shapes, numberings, bullets.

use super::definitions::{CharacterShape, Definitions, Head, ParagraphShape};
use super::numbering::{Level, NumberFormat, Numbering};
use super::record::{Record, Records, tag};

/// Reads a decompressed `DocInfo` stream. What is damaged in it is left out: paragraphs then have no labels.
pub(super) fn read(stream: &[u8]) -> Definitions {
    let mut definitions = Definitions::default();
    // Shapes are counted from 0; numberings and bullets from 1, because 0 means none.
    let (mut n_shapes, mut n_numberings, mut n_bullets) = (0, 0, 0);
    let mut n_character_shapes = 0;
    for record in Records::new(stream) {
        match record.tag {
            tag::CHAR_SHAPE => {
                let shape = character_shape(&record);
                definitions.add_character_shape(n_character_shapes, shape);
                n_character_shapes += 1;
            }
            tag::PARA_SHAPE => {
                definitions.add_paragraph_shape(n_shapes, paragraph_shape(&record));
                n_shapes += 1;
            }
            tag::NUMBERING => {
                n_numberings += 1;
                definitions.add_numbering(n_numberings, numbering(&record));
            }
            tag::BULLET => {
                n_bullets += 1;
                let character = char::from_u32(u32::from(record.u16_at(12).unwrap_or(0)));
                definitions.add_bullet(n_bullets, character);
            }
            _ => {}
        }
    }
    definitions
}

fn character_shape(record: &Record<'_>) -> CharacterShape {
    CharacterShape {
        is_bold: record.u32_at(46).unwrap_or(0) & 2 != 0,
        // The file counts in hundredths of a point.
        n_half_points: record.u32_at(42).unwrap_or(0) / 50,
    }
}

fn paragraph_shape(record: &Record<'_>) -> ParagraphShape {
    let attributes = record.u32_at(0).unwrap_or(0);
    let number = u32::from(record.u16_at(30).unwrap_or(0));
    let head = match (attributes >> 23) & 3 {
        1 => Head::Outline,
        2 => Head::Number(number),
        3 => Head::Bullet(number),
        _ => Head::None,
    };
    // Three bits hold the levels 1 to 7; newer files give levels up to 10 at the record's end.
    let level = record.u32_at(54).unwrap_or((attributes >> 25) & 7);
    ParagraphShape {
        head,
        level: u8::try_from(level).unwrap_or(0).min(9),
    }
}

/// Seven levels, then the first numbers of all levels; newer files add three levels with their first numbers.
fn numbering(record: &Record<'_>) -> Numbering {
    let mut levels = Vec::new();
    let mut offset = read_levels(record, 0, 7, &mut levels) + 2;
    offset = read_first_numbers(record, offset, &mut levels);
    let n_levels = levels.len();
    offset = read_levels(record, offset, 3, &mut levels);
    read_first_numbers(
        record,
        offset,
        levels.get_mut(n_levels..).unwrap_or(&mut []),
    );
    Numbering { levels }
}

fn read_levels(
    record: &Record<'_>,
    start: usize,
    n_levels: usize,
    levels: &mut Vec<Level>,
) -> usize {
    let mut offset = start;
    for _ in 0..n_levels {
        let Some(attributes) = record.u32_at(offset) else {
            break;
        };
        let Some((text, end)) = record.string_at(offset + 12) else {
            break;
        };
        levels.push(Level {
            text,
            format: NumberFormat::from_code((attributes >> 5) & 0x1F),
            start: 1,
        });
        offset = end;
    }
    offset
}

fn read_first_numbers(record: &Record<'_>, start: usize, levels: &mut [Level]) -> usize {
    let mut offset = start;
    for level in levels {
        level.start = record.u32_at(offset).unwrap_or(1);
        offset += 4;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_record(attributes: u32, number: u16, level: Option<u32>) -> Vec<u8> {
        let mut data = vec![0; 54];
        data[..4].copy_from_slice(&attributes.to_le_bytes());
        data[30..32].copy_from_slice(&number.to_le_bytes());
        data.extend(level.into_iter().flat_map(u32::to_le_bytes));
        data
    }

    #[test]
    fn a_shape_says_head_and_level() {
        fn check(data: &[u8], head: Head, level: u8) {
            let record = Record {
                tag: tag::PARA_SHAPE,
                level: 0,
                data,
            };
            assert_eq!(paragraph_shape(&record), ParagraphShape { head, level });
        }
        check(&shape_record(0, 0, None), Head::None, 0);
        check(&shape_record(1 << 23 | 2 << 25, 0, None), Head::Outline, 2);
        check(
            &shape_record(2 << 23 | 6 << 25, 3, Some(8)),
            Head::Number(3),
            8,
        );
        check(
            &shape_record(3 << 23, 1, Some(u32::MAX)),
            Head::Bullet(1),
            0,
        );
        check(&[], Head::None, 0);
    }

    #[test]
    fn a_numbering_has_formats_and_first_numbers() {
        let mut data = Vec::new();
        for (format, text) in [(0, "제^1조"), (8, "^2."), (1, "^3")] {
            data.extend(u32::to_le_bytes(format << 5 | 0xC));
            data.extend([0; 8]);
            let units: Vec<u16> = text.encode_utf16().collect();
            data.extend(u16::try_from(units.len()).unwrap().to_le_bytes());
            data.extend(units.into_iter().flat_map(u16::to_le_bytes));
        }
        for _ in 3..7 {
            data.extend([0; 14]);
        }
        data.extend([0, 0]);
        for first in [5u32, 1, 1, 1, 1, 1, 1] {
            data.extend(first.to_le_bytes());
        }
        let record = Record {
            tag: tag::NUMBERING,
            level: 1,
            data: &data,
        };
        let levels = numbering(&record).levels;
        assert_eq!(levels.len(), 7);
        let first: Vec<(&str, NumberFormat, u32)> = levels
            .iter()
            .take(3)
            .map(|level| (level.text.as_str(), level.format, level.start))
            .collect();
        assert_eq!(
            first,
            [
                ("제^1조", NumberFormat::Decimal, 5),
                ("^2.", NumberFormat::Syllable, 1),
                ("^3", NumberFormat::CircledDecimal, 1)
            ]
        );
    }
}
