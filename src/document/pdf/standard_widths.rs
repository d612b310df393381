//! Advances of the standard fonts, which files may use without saying how wide their glyphs are.
//!
//! Only what word spaces depend on: the printable ASCII codes of Helvetica and Times (Adobe's font metrics, in
//! thousandths of an em); Courier is 600 everywhere, other characters count as one digit.

/// The advances of one font.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Widths {
    /// Every glyph as wide as the next, in thousandths of an em.
    Fixed(u16),
    /// One advance for each code from 0x20 to 0x7E, in thousandths of an em.
    Ascii(&'static [u16; 95]),
}

impl Widths {
    /// The advance of a code, in em.
    pub(super) fn of_code(self, code: usize) -> f32 {
        let thousandths = match self {
            Widths::Fixed(width) => width,
            Widths::Ascii(widths) => {
                let index = code.checked_sub(0x20);
                let width = index.and_then(|index| widths.get(index));
                width.copied().unwrap_or(556)
            }
        };
        f32::from(thousandths) * 0.001
    }
}

/// The advances for a font name (`Helvetica-Bold`, `Arial,Bold`, `TimesNewRoman`); Helvetica if it is none of them.
pub(super) fn of_font(name: &str) -> Widths {
    let bold = name.contains("Bold");
    if name.contains("Courier") {
        Widths::Fixed(600)
    } else if name.contains("Times") {
        Widths::Ascii(if bold { &TIMES_BOLD } else { &TIMES })
    } else {
        Widths::Ascii(if bold { &HELVETICA_BOLD } else { &HELVETICA })
    }
}

const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

const HELVETICA_BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667,
    611, 778, 722, 278, 556, 722, 611, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556,
    278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

const TIMES: [u16; 95] = [
    250, 333, 408, 500, 500, 833, 778, 180, 333, 333, 500, 564, 250, 333, 250, 278, 500, 500, 500,
    500, 500, 500, 500, 500, 500, 500, 278, 278, 564, 564, 564, 444, 921, 722, 667, 667, 722, 611,
    556, 722, 722, 333, 389, 722, 611, 889, 722, 722, 556, 722, 667, 556, 611, 722, 722, 944, 722,
    722, 611, 333, 278, 333, 469, 500, 333, 444, 500, 444, 500, 444, 333, 500, 500, 278, 278, 500,
    278, 778, 500, 500, 500, 500, 333, 389, 278, 500, 500, 722, 500, 500, 444, 480, 200, 480, 541,
];

const TIMES_BOLD: [u16; 95] = [
    250, 333, 555, 500, 500, 1000, 833, 278, 333, 333, 500, 570, 250, 333, 250, 278, 500, 500, 500,
    500, 500, 500, 500, 500, 500, 500, 333, 333, 570, 570, 570, 500, 930, 722, 667, 722, 722, 667,
    611, 778, 778, 389, 500, 778, 667, 944, 722, 778, 611, 778, 722, 556, 667, 722, 722, 1000, 722,
    722, 667, 333, 278, 333, 581, 500, 333, 500, 556, 444, 556, 444, 333, 500, 556, 278, 333, 556,
    278, 833, 556, 500, 556, 556, 444, 389, 333, 556, 500, 722, 500, 500, 444, 394, 220, 394, 520,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fonts_are_told_apart_by_name() {
        let check = |name, code: u8, expected: f32| {
            let width = of_font(name).of_code(usize::from(code));
            assert!((width - expected).abs() < 1e-6, "{name}: {width}");
        };
        check("Helvetica", b'i', 0.222);
        check("ABCDEF+Arial,Bold", b'i', 0.278);
        check("TimesNewRoman", b'A', 0.722);
        check("Courier-Bold", b'i', 0.6);
        check("Helvetica", 0xE9, 0.556);
    }
}
