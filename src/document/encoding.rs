//! Bytes of a text file → text, whatever Korean or Unicode encoding it was written in.
//!
//! In order: byte order mark; NUL pattern (UTF-16 without a mark); UTF-8 if nearly all of it is valid; ISO-2022-KR by
//! its escapes; then what `chardetng` guesses with Korean as the expectation, weighed against Johab by how Korean the
//! result reads. Line ends become `\n`. What could not be decoded is a warning that names the first such line; binary
//! data is refused. Nothing is normalised to NFC here: [`super::parse`] does that for every format.

use anyhow::{Result, bail};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{EUC_KR, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::Warning;

/// How much of a file decides what it is. Enough for a few thousand Korean words.
const N_SAMPLE_BYTES: usize = 64 << 10;

/// The syllables that make up about a third of running Korean text; counted in statutes and office prose.
const COMMON_SYLLABLES: &str = "이다는을의에가하고로지기사한자인정여부제대서를해시를어은도";

/// Decodes a text file.
///
/// # Errors
/// When the bytes are binary data, not text.
pub(super) fn decode(bytes: &[u8]) -> Result<(String, Vec<Warning>)> {
    let (text, encoding) = decode_unchecked(bytes)?;
    let mut warnings = Vec::new();
    let n_replaced = text.matches('\u{FFFD}').count();
    if n_replaced > 0 {
        let line = text
            .lines()
            .position(|line| line.contains('\u{FFFD}'))
            .unwrap_or(0)
            + 1;
        warnings.push(Warning(format!(
            "line {line}: {n_replaced} characters could not be read as {encoding}"
        )));
    }
    if encoding == "CP949" && is_unlikely_korean(&text) {
        warnings.push(Warning(
            "read as CP949, but the text does not look Korean: perhaps another encoding".to_owned(),
        ));
    }
    Ok((unify_line_ends(text), warnings))
}

/// Running Korean text is made of common syllables by a third; a short list of names need not be.
fn is_unlikely_korean(text: &str) -> bool {
    let n_letters = text.chars().filter(|c| !c.is_ascii()).take(100).count();
    n_letters >= 20 && common_syllable_share(text) < 0.03
}

/// Whether the bytes look like text in some encoding: what a file without a telling name needs to be read as text.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    decode_unchecked(sample(bytes)).is_ok()
}

fn decode_unchecked(bytes: &[u8]) -> Result<(String, &'static str)> {
    if let Some((encoding, n_mark_bytes)) = Encoding::for_bom(bytes) {
        let (text, _) =
            encoding.decode_without_bom_handling(bytes.get(n_mark_bytes..).unwrap_or_default());
        return if is_plausible(&text) {
            Ok((text.into_owned(), encoding.name()))
        } else {
            bail!("binary data, not text")
        };
    }
    if bytes.contains(&0) {
        return decode_utf16_without_mark(bytes);
    }
    let decoded = decode_single_bytes(bytes);
    if is_plausible(&decoded.0) {
        Ok(decoded)
    } else {
        bail!("binary data, not text")
    }
}

fn decode_single_bytes(bytes: &[u8]) -> (String, &'static str) {
    if sample(bytes).windows(4).any(|window| window == b"\x1b$)C") {
        return (decode_iso_2022_kr(bytes), "ISO-2022-KR");
    }
    if is_nearly_utf8(bytes) {
        return (String::from_utf8_lossy(bytes).into_owned(), UTF_8.name());
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample(bytes), true);
    let encoding = detector.guess(Some(b"kr"), Utf8Detection::Allow);
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    // Johab bytes are often valid in other encodings too, so validity cannot tell: only the language can.
    let johab = decode_johab(sample(bytes));
    let share_guessed = common_syllable_share(&text);
    let share_johab = common_syllable_share(&johab);
    if share_johab > 0.15 && share_johab > 2.0 * share_guessed {
        return (decode_johab(bytes), "Johab");
    }
    let (korean, _) = EUC_KR.decode_without_bom_handling(bytes);
    if encoding != EUC_KR && common_syllable_share(&korean) > share_guessed.max(0.1) {
        return (korean.into_owned(), "CP949");
    }
    let name = if encoding == EUC_KR {
        "CP949"
    } else {
        encoding.name()
    };
    (text.into_owned(), name)
}

fn sample(bytes: &[u8]) -> &[u8] {
    bytes.get(..N_SAMPLE_BYTES).unwrap_or(bytes)
}

/// At least 99.9 % of the bytes that are not ASCII belong to valid UTF-8: a damaged byte must not turn a whole file
/// into another encoding.
fn is_nearly_utf8(bytes: &[u8]) -> bool {
    let n_invalid: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    let n_not_ascii = bytes.iter().filter(|byte| !byte.is_ascii()).count();
    n_invalid == 0 || n_invalid * 1000 <= n_not_ascii
}

/// UTF-16 without a mark has a NUL in every ASCII character, always on the same side.
fn decode_utf16_without_mark(bytes: &[u8]) -> Result<(String, &'static str)> {
    for encoding in [UTF_16LE, UTF_16BE] {
        let (text, _) = encoding.decode_without_bom_handling(bytes);
        let n_chars = text.chars().take(N_SAMPLE_BYTES).count().max(1);
        let n_expected = text
            .chars()
            .take(N_SAMPLE_BYTES)
            .filter(|&c| c.is_ascii_graphic() || c.is_ascii_whitespace() || is_korean(c))
            .count();
        if is_plausible(&text) && n_expected * 10 >= n_chars * 7 {
            return Ok((text.into_owned(), encoding.name()));
        }
    }
    bail!("binary data, not text")
}

fn is_korean(c: char) -> bool {
    matches!(c, '가'..='힣' | 'ㄱ'..='ㆎ' | '\u{1100}'..='\u{11FF}' | '\u{3000}'..='\u{303F}' | '①'..='⑳')
}

/// Text holds next to no control characters; even a small picture or program holds many.
fn is_plausible(text: &str) -> bool {
    let (mut n_chars, mut n_control, mut n_replaced) = (0_usize, 0_usize, 0_usize);
    for c in text.chars().take(N_SAMPLE_BYTES) {
        n_chars += 1;
        n_control += usize::from(c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'));
        n_replaced += usize::from(c == '\u{FFFD}');
    }
    n_control * 100 <= n_chars + 200 && n_replaced * 4 <= n_chars
}

fn common_syllable_share(text: &str) -> f64 {
    let (mut n_letters, mut n_common) = (0_u32, 0_u32);
    for c in text.chars().filter(|c| !c.is_ascii()).take(N_SAMPLE_BYTES) {
        n_letters += 1;
        n_common += u32::from(COMMON_SYLLABLES.contains(c));
    }
    f64::from(n_common) / f64::from(n_letters.max(1))
}

fn unify_line_ends(text: String) -> String {
    if text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        text.replace("\r\n", "\n")
            .replace(['\r', '\u{85}', '\u{2028}', '\u{2029}'], "\n")
    } else {
        text
    }
}

/// RFC 1557: between SO and SI each pair of 7-bit bytes is a KS X 1001 character.
fn decode_iso_2022_kr(bytes: &[u8]) -> String {
    let mut euc_kr = Vec::with_capacity(bytes.len());
    let mut is_shifted = false;
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            0x0E => is_shifted = true,
            0x0F => is_shifted = false,
            0x1B if tail.starts_with(b"$)C") => rest = tail.get(3..).unwrap_or_default(),
            b'\n' | b'\r' => {
                is_shifted = false;
                euc_kr.push(byte);
            }
            0x21..=0x7E if is_shifted => euc_kr.push(byte | 0x80),
            _ => euc_kr.push(byte),
        }
    }
    EUC_KR.decode_without_bom_handling(&euc_kr).0.into_owned()
}

/// KS C 5601-1992 annex 3: 1 bit, then 5 bits each for the initial, the vowel and the final.
fn decode_johab(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&lead, tail)) = rest.split_first() {
        rest = tail;
        if lead.is_ascii() {
            text.push(char::from(lead));
        } else if let Some((&trail, tail)) = tail.split_first() {
            rest = tail;
            text.push(johab_char(lead, trail).unwrap_or('\u{FFFD}'));
        } else {
            text.push('\u{FFFD}');
        }
    }
    text
}

fn johab_char(lead: u8, trail: u8) -> Option<char> {
    match lead {
        0x84..=0xD3 => johab_hangul(u16::from_be_bytes([lead, trail])),
        0xD8..=0xDE | 0xE0..=0xF9 => johab_symbol(lead, trail),
        _ => None,
    }
}

fn johab_hangul(code: u16) -> Option<char> {
    /// Compatibility letters of the 19 initials, for a letter that stands alone.
    const INITIALS: &str = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ";
    let initial = u32::from((code >> 10) & 31);
    let vowel = match u32::from((code >> 5) & 31) {
        bits @ 3..=7 => Some(bits - 3),
        bits @ 10..=15 => Some(bits - 5),
        bits @ 18..=23 => Some(bits - 7),
        bits @ 26..=29 => Some(bits - 9),
        2 => None,
        _ => return None,
    };
    let final_consonant = match u32::from(code & 31) {
        bits @ 1..=17 => bits - 1,
        bits @ 19..=29 => bits - 2,
        _ => return None,
    };
    match (initial, vowel, final_consonant) {
        (2..=20, Some(vowel), _) => {
            char::from_u32(0xAC00 + ((initial - 2) * 21 + vowel) * 28 + final_consonant)
        }
        (2..=20, None, 0) => INITIALS.chars().nth(usize::try_from(initial - 2).ok()?),
        (1, Some(vowel), 0) => char::from_u32(u32::from('ㅏ') + vowel),
        _ => None,
    }
}

/// Symbols and Hanja stand in the order of KS X 1001, two of its rows in each lead byte.
fn johab_symbol(lead: u8, trail: u8) -> Option<char> {
    let row = if lead < 0xE0 {
        2 * (i32::from(lead) - 0xD9)
    } else {
        2 * i32::from(lead) - 0x197
    };
    let column = match trail {
        0x31..=0x7E => i32::from(trail) - 0x31,
        0x91..=0xFE => i32::from(trail) - 0x43,
        _ => return None,
    };
    let row = u8::try_from(row + i32::from(column >= 0x5E) + 0x21).ok()?;
    let column = u8::try_from(column % 0x5E + 0x21).ok()?;
    let pair = [row | 0x80, column | 0x80];
    let text = EUC_KR.decode_without_bom_handling_and_without_replacement(&pair)?;
    text.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "제3조(휴직기간) ① 육아휴직은 2년 이내로 하며 1회에 한하여 나누어 사용할 수 있다.\n국내연수는 3개월 이상이어야 한다.\n";

    fn check(bytes: &[u8], expected: &str) {
        let (text, warnings) = decode(bytes).unwrap();
        assert_eq!(text, expected);
        assert_eq!(warnings, Vec::new());
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn korean_encodings_are_told_apart() {
        check(TEXT.as_bytes(), TEXT);
        check(format!("\u{FEFF}{TEXT}").as_bytes(), TEXT);
        check(&EUC_KR.encode(TEXT).0, TEXT);
        check(&EUC_KR.encode("휴직 신청서\r\n").0, "휴직 신청서\n");
        check(&utf16(TEXT, u16::to_le_bytes), TEXT);
        check(&utf16(TEXT, u16::to_be_bytes), TEXT);
        check(&utf16(&format!("\u{FEFF}{TEXT}"), u16::to_le_bytes), TEXT);
        check(b"\x1b$)C\x0e\x48\x5e\x41\x77\x0f 3", "휴직 3");
        check(b"plain ASCII\r\nnext\rlast", "plain ASCII\nnext\nlast");
    }

    #[test]
    fn johab_is_read() {
        // 이 규정은 직원의 휴직에 관한 사항을 정한다. (made with another program's codec)
        let bytes = b"\xb7\xa1 \x8bA\xb8\xf7\xb7e \xbb\xa2\xb6\xa5\xb7\x81 \xd3A\xbb\xa2\xb5A \x89\xc5\xd0e \xaca\xd0w\xb7i \xb8\xf7\xd0e\x94a.";
        check(bytes, "이 규정은 직원의 휴직에 관한 사항을 정한다.");
    }

    #[test]
    fn a_damaged_byte_does_not_change_the_encoding() {
        let mut bytes = TEXT.repeat(40).into_bytes();
        let position = bytes.iter().rposition(|&byte| byte >= 0x80).unwrap();
        bytes[position] = 0xFF;
        let (text, warnings) = decode(&bytes).unwrap();
        assert!(text.starts_with("제3조(휴직기간)"));
        assert!(warnings[0].0.starts_with("line 80: "), "{warnings:?}");
        assert!(warnings[0].0.ends_with("as UTF-8"), "{warnings:?}");
    }

    #[test]
    fn binary_data_is_refused() {
        let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06";
        let noise: Vec<u8> = (0..4000_u32)
            .map(|n| ((n * n) >> 3).to_le_bytes()[0])
            .collect();
        for bytes in [picture.as_slice(), &noise] {
            assert_eq!(
                decode(bytes).unwrap_err().to_string(),
                "binary data, not text"
            );
        }
    }
}
