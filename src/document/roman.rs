//! Roman numerals, as the labels of numbered paragraphs are spelled in DOCX and HWP, and the pages of a PDF.

/// A number in Roman numerals, upper case; none for 0 and beyond 3,999.
pub(super) fn roman(number: u32) -> Option<String> {
    const NUMERALS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if number == 0 || number > 3999 {
        return None;
    }
    let mut rest = number;
    let mut text = String::new();
    for (value, numeral) in NUMERALS {
        while rest >= value {
            text.push_str(numeral);
            rest -= value;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_by_subtraction_too() {
        let check = |number, expected: Option<&str>| assert_eq!(roman(number).as_deref(), expected);
        check(4, Some("IV"));
        check(1994, Some("MCMXCIV"));
        check(0, None);
        check(4000, None);
    }
}
