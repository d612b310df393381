//! An error that knows the command that mends it.

use std::fmt;

/// What is wrong, and what to type. `main` prints the hint after a blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hinted {
    /// `<what>: <what is wrong>`, lower case, no full stop.
    pub message: String,
    /// What to type or to change.
    pub hint: String,
}

impl Hinted {
    /// An error with its remedy, ready for `?` and `bail!`.
    pub fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Hinted {
            message: message.into(),
            hint: hint.into(),
        })
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}
