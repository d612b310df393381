//! Reads a line piece by piece: words, numbers, spaces.

/// The rest of a line that is being read.
pub(super) struct Scanner<'a>(pub(super) &'a str);

impl<'a> Scanner<'a> {
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        match self.0.strip_prefix(prefix) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// `부칙` and `부   칙`.
    pub(super) fn eat_spaced(&mut self, word: &str) -> bool {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        let is_eaten = word.chars().all(|c| {
            let is_eaten = scanner.eat(c.encode_utf8(&mut [0; 4]));
            if !word.ends_with(c) {
                scanner.spaces();
            }
            is_eaten
        });
        if is_eaten {
            self.0 = scanner.0;
        }
        is_eaten
    }

    pub(super) fn eat_char(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let first = chars.next();
        self.0 = chars.as_str();
        first
    }

    /// Whether there were any.
    pub(super) fn spaces(&mut self) -> bool {
        let rest = self.0.trim_start();
        let had_spaces = rest.len() < self.0.len();
        self.0 = rest;
        had_spaces
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = self.0.get(..self.0.len() - rest.len())?;
        let number = digits.parse().ok()?;
        self.0 = rest;
        Some(number)
    }

    /// `.2` in `1.2`.
    pub(super) fn after_dot_number(&mut self) -> Option<u32> {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        let number = (scanner.eat(".") || scanner.eat("-")).then(|| scanner.number())??;
        self.0 = scanner.0;
        Some(number)
    }

    /// `의2` in `제3조의2`; `의` alone is a particle.
    pub(super) fn branch(&mut self) -> Option<u32> {
        let mut scanner: Scanner<'a> = Scanner(self.0);
        scanner.spaces();
        let is_branch = scanner.eat("의");
        scanner.spaces();
        let number = is_branch.then(|| scanner.number())??;
        self.0 = scanner.0;
        Some(number)
    }
}
