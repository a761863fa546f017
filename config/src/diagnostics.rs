//! Errors and warnings, each with its place.

use std::fmt;

use thiserror::Error;

use crate::value::Position;

/// Errors of one kind kept for one file; what follows is dropped, for the first ones decide.
const ERRORS_MAX: usize = 200;

/// Distinct warnings kept for one file; what follows is dropped.
const WARNINGS_MAX: usize = 1000;

/// One thing to say about a file. Displays as `FILE:LINE.COL: message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The key it is about; empty for syntax.
    pub key: String,
    /// Further places where the same was found and is not said again.
    pub repeated: u32,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.position, self.message)?;
        match self.repeated {
            0 => Ok(()),
            1 => write!(out, " (and in 1 more place)"),
            more => write!(out, " (and in {more} more places)"),
        }
    }
}

/// A file that cannot be used. Displays its first error; the others are in [`ConfigError::errors`].
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub struct ConfigError {
    first: Box<Diagnostic>,
    others: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    syntax: bool,
}

impl ConfigError {
    /// An error on its own.
    pub(crate) fn new(position: Position, message: &str) -> Self {
        let first = Box::new(diagnostic(&position, "", message.to_owned()));
        Self { first, others: Vec::new(), warnings: Vec::new(), syntax: false }
    }

    /// The first error of the file.
    pub fn first(&self) -> &Diagnostic {
        &self.first
    }

    /// All errors, those of the grammar first (at most 200 of each).
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        std::iter::once(self.first.as_ref()).chain(&self.others)
    }

    /// Warnings found before and beside the errors.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Whether the text itself is at fault: `-t` says `Syntax check failed with: ` then, and
    /// `Error encountered: ` for everything else (CFG-10).
    pub fn is_syntax(&self) -> bool {
        self.syntax
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.first)
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Diagnostics {
    /// What the grammar would have found. Kea finds it first, so it comes first.
    syntax_errors: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Reports an error about `key`.
    pub fn error(&mut self, position: &Position, key: &str, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(diagnostic(position, key, message.into()));
        }
    }

    /// Reports an error that Kea's grammar would have found, see [`ConfigError::is_syntax`].
    pub fn syntax_error(&mut self, position: &Position, key: &str, message: impl Into<String>) {
        if self.syntax_errors.len() < ERRORS_MAX {
            self.syntax_errors.push(diagnostic(position, key, message.into()));
        }
    }

    /// Reports a warning about `key`. The same message about the same key is kept once and counted.
    pub fn warn(&mut self, position: &Position, key: &str, message: impl Into<String>) {
        let message = message.into();
        for known in &mut self.warnings {
            if known.key == key && known.message == message {
                known.repeated = known.repeated.saturating_add(1);
                return;
            }
        }
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(diagnostic(position, key, message));
        }
    }

    /// The warnings, or the error if there was any.
    pub fn finish(self) -> Result<Vec<Diagnostic>, ConfigError> {
        let syntax = !self.syntax_errors.is_empty();
        let mut errors = self.syntax_errors.into_iter().chain(self.errors);
        match errors.next() {
            None => Ok(self.warnings),
            Some(first) => Err(ConfigError {
                first: Box::new(first),
                others: errors.collect(),
                warnings: self.warnings,
                syntax,
            }),
        }
    }
}

fn diagnostic(position: &Position, key: &str, message: String) -> Diagnostic {
    Diagnostic { position: position.clone(), message, key: key.to_owned(), repeated: 0 }
}
