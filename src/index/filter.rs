//! Which documents a question is put to: by path and by extension.
//!
//! A [`Filter`] is what the user typed. A reader makes of it the set of chunks it may find, before it looks for the best
//! of them, so that a narrow filter finds as much as a folder of these documents alone would.

use std::path::{Component, Path};

use unicode_normalization::UnicodeNormalization;

use super::FileRecord;

/// Documents whose path matches one of some patterns and whose extension is one of some; of each none means any.
///
/// A pattern names a document or a folder, with all below it. Without a `/` it may match any name along the path; with
/// one it starts where sources start, or is a path of the file system. `*` and `?` stand for characters within a name,
/// `**` for any folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    patterns: Vec<Pattern>,
    /// Lower case, without the dot.
    extensions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Compared with sources.
    names: Vec<String>,
    /// Compared with paths of the file system.
    absolute: Vec<String>,
}

impl Filter {
    /// Takes what the user typed; a relative path of the file system starts at `base`.
    #[must_use]
    pub fn new(paths: &[String], extensions: &[String], base: &Path) -> Filter {
        let patterns = paths.iter().map(|path| Pattern {
            names: names(Path::new(path)),
            absolute: names(&base.join(path)),
        });
        let extensions = extensions.iter().map(|extension| {
            let extension = extension.trim().trim_start_matches("*.");
            lower(extension.trim_start_matches('.'))
        });
        Filter {
            patterns: patterns.collect(),
            extensions: extensions.collect(),
        }
    }

    /// Whether every document passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.extensions.is_empty()
    }

    pub(super) fn matches(&self, file: &FileRecord) -> bool {
        let source = names(Path::new(&file.source));
        let extension = source
            .last()
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, extension)| lower(extension));
        let is_type = self.extensions.is_empty()
            || extension.is_some_and(|extension| self.extensions.contains(&extension));
        is_type
            && (self.patterns.is_empty() || {
                let path = names(&file.path);
                self.patterns
                    .iter()
                    .any(|pattern| pattern.matches(&source, &path))
            })
    }
}

impl Pattern {
    fn matches(&self, source: &[String], path: &[String]) -> bool {
        let in_source = match self.names.as_slice() {
            [name] => source.iter().any(|part| name_matches(name, part)),
            names => starts_with(source, names),
        };
        in_source || starts_with(path, &self.absolute)
    }
}

fn lower(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// The names along a path, composed; `..` takes back the one before it.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().nfc().collect()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(prefix) => {
                names.push(prefix.as_os_str().to_string_lossy().into_owned());
            }
            Component::CurDir | Component::RootDir => {}
        }
    }
    names
}

/// Whether the path is what the pattern names, or lies below it.
fn starts_with(path: &[String], pattern: &[String]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((name, rest)) if name == "**" => {
            (0..=path.len()).any(|n| path.get(n..).is_some_and(|below| starts_with(below, rest)))
        }
        Some((name, rest)) => path
            .split_first()
            .is_some_and(|(first, below)| name_matches(name, first) && starts_with(below, rest)),
    }
}

/// `*` stands for any characters, `?` for one.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when the last star has to stand for one character more.
    let mut retry: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                retry = Some((at + 1, in_name));
                at += 1;
            }
            Some(&c) if c == '?' || name.get(in_name) == Some(&c) => {
                at += 1;
                in_name += 1;
            }
            Some(_) | None => {
                let Some((after_star, taken)) = retry else {
                    return false;
                };
                retry = Some((after_star, taken + 1));
                at = after_star;
                in_name = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|&c| c == '*')
}

/// A set of small numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    n_ones: usize,
}

impl Bits {
    pub(super) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            self.n_ones += usize::from(*word & (1 << (number % 64)) == 0);
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn contains_id(&self, id: i64) -> bool {
        usize::try_from(id).is_ok_and(|id| self.contains(id))
    }

    /// How many numbers are in the set.
    pub(super) fn len(&self) -> usize {
        self.n_ones
    }

    /// The first number of the set that is not before `number`.
    pub(super) fn next(&self, number: usize) -> Option<usize> {
        let first = number / 64;
        let mut mask = u64::MAX << (number % 64);
        for (word, bits) in self.words.iter().enumerate().skip(first) {
            let bits = bits & mask;
            if bits != 0 {
                return Some(word * 64 + usize::try_from(bits.trailing_zeros()).ok()?);
            }
            mask = u64::MAX;
        }
        None
    }
}

/// What a reader that was restricted may find, by number.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) chunks: Bits,
    pub(super) vectors: Bits,
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::FileState;
    use super::*;

    #[test]
    fn a_filter_matches_what_a_person_means() {
        let matches = |paths: &[&str], extensions: &[&str], source: &str| {
            let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            let (paths, extensions): (Vec<String>, Vec<String>) = (owned(paths), owned(extensions));
            let file = FileRecord {
                path: PathBuf::from("/home/kim/docs").join(source),
                source: source.to_owned(),
                content_hash: String::new(),
                n_bytes: 0,
                modified_ns: 0,
                pipeline: 1,
                state: FileState::Read {
                    title: None,
                    warnings: Vec::new(),
                },
            };
            Filter::new(&paths, &extensions, Path::new("/home/kim")).matches(&file)
        };
        let check = |pattern: &str, source: &str, expected: bool| {
            assert_eq!(
                matches(&[pattern], &[], source),
                expected,
                "{pattern} {source}"
            );
        };
        check("인사", "인사/휴직.pdf", true);
        check("인사/", "인사/2026/휴직.pdf", true);
        check("인사", "인사팀/휴직.pdf", false);
        check("휴직.pdf", "인사/휴직.pdf", true);
        check("인사/휴직.pdf", "인사/휴직.pdf", true);
        check("인사/휴직", "인사/휴직.pdf", false);
        check("사/휴직.pdf", "인사/휴직.pdf", false);
        check("*.pdf", "인사/휴직.pdf", true);
        check("휴?.pdf", "인사/휴직.pdf", true);
        check("인사/*.pdf", "인사/2026/휴직.pdf", false);
        check("인사/**/*.pdf", "인사/2026/a/휴직.pdf", true);
        check("**/휴직.pdf", "휴직.pdf", true);
        check("*직*.p*f", "인사/휴직.pdf", true);
        check("*직*.x*", "인사/휴직.pdf", false);
        check("docs/인사", "인사/휴직.pdf", true);
        check("./docs/../docs/인사/*.pdf", "인사/휴직.pdf", true);
        check("/home/kim/docs", "인사/휴직.pdf", true);
        check("/home/lee/docs", "인사/휴직.pdf", false);
        let decomposed: String = "인사".nfd().collect();
        check(&decomposed, "인사/휴직.pdf", true);

        assert!(matches(&[], &["PDF"], "인사/휴직.pdf"));
        assert!(matches(&[], &["txt", ".pdf"], "인사/휴직.Pdf"));
        assert!(!matches(&[], &["pdf"], "인사/pdf"));
        assert!(matches(&["총무", "인사"], &["pdf"], "인사/휴직.pdf"));
        assert!(!matches(&["인사"], &["txt"], "인사/휴직.pdf"));
    }

    #[test]
    fn a_set_of_numbers_knows_the_next() {
        let mut bits = Bits::default();
        for number in [3, 64, 200, 3] {
            bits.insert(number);
        }
        assert_eq!(bits.len(), 3);
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(number) = bits.next(at) {
            found.push(number);
            at = number + 1;
        }
        assert_eq!(found, [3, 64, 200]);
        assert!(bits.contains(64) && !bits.contains(65) && !bits.contains(1000));
        assert!(bits.contains_id(200) && !bits.contains_id(-1));
        assert_eq!(bits.next(1000), None);
    }
}
