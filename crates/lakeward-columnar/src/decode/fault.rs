//! Why a record is rejected.

/// What is wrong, and where in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    what: What,
    at: u32,
}

/// What can be wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Truncated,
    ExpectedValue,
    ExpectedKey,
    ExpectedColon,
    ExpectedCommaOrBrace,
    ExpectedCommaOrBracket,
    BadNumber,
    BadEscape,
    Control,
    Utf8,
    Depth,
    NotObject,
    TooLarge,
}

impl Fault {
    #[cold]
    pub(super) fn new(what: What, at: usize) -> Self {
        Self { what, at: u32::try_from(at).unwrap_or(u32::MAX) }
    }

    /// The same, for a record that ends at `end`: what went wrong in the
    /// padding went wrong because the record ended.
    pub(super) fn within(self, end: usize) -> Self {
        if self.at as usize >= end && !matches!(self.what, What::Utf8 | What::Depth | What::TooLarge) {
            Self::new(What::Truncated, end)
        } else {
            self
        }
    }

    /// The stable code.
    pub(super) fn code(self) -> &'static str {
        match self.what {
            What::Utf8 => "json.utf8",
            What::Depth => "json.depth",
            What::NotObject => "json.not_object",
            What::TooLarge => "json.too_large",
            _ => "json.syntax",
        }
    }

    /// For a person: what, and at which byte of the record, counted from 0.
    pub(super) fn message(self) -> String {
        let what = match self.what {
            What::Truncated => "the record ends within a value",
            What::ExpectedValue => "expected a value",
            What::ExpectedKey => "expected a key in double quotes",
            What::ExpectedColon => "expected `:` after the key",
            What::ExpectedCommaOrBrace => "expected `,` or `}`",
            What::ExpectedCommaOrBracket => "expected `,` or `]`",
            What::BadNumber => "this is not a JSON number",
            What::BadEscape => "this is not a JSON escape",
            What::Control => "a control character must be escaped in a string",
            What::Utf8 => "this is not UTF-8",
            What::Depth => "objects and arrays are nested too deeply",
            What::TooLarge => "what does not fit the columns would take 16 times the record's length",
            What::NotObject => "a record holds JSON objects, or arrays of them",
        };
        format!("{what} (at byte {})", self.at)
    }
}
