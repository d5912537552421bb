//! Exit codes, as in sysexits.h.

use std::process::ExitCode;

use crate::config::Problems;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// It did what was asked.
    Done,
    /// The command line is wrong.
    Usage,
    /// The data are not what they should be.
    Data,
    /// A source, a destination or the service cannot be reached.
    Unavailable,
    /// Something failed that may work another time.
    TryAgain,
    /// The configuration is wrong.
    Configuration,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::Done => 0,
            Code::Usage => 2,
            Code::Data => 65,
            Code::Unavailable => 69,
            Code::TryAgain => 75,
            Code::Configuration => 78,
        })
    }
}

/// An error with a code of its own.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Coded {}

/// An error that ends the command with `code`.
pub(crate) fn coded(code: Code, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Coded { code, message: message.into() })
}

/// The code that an error ends the process with.
pub(crate) fn code_of(error: &anyhow::Error) -> Code {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.code;
    }
    if error.downcast_ref::<Problems>().is_some() {
        return Code::Configuration;
    }
    Code::TryAgain
}
