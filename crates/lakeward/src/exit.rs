//! Exit codes, as in sysexits.h.

use std::process::ExitCode;

use lakeward_engine::LockError;

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
    /// The other side does not let us: wrong keys, or no permission.
    NotPermitted,
    /// The configuration is wrong.
    Configuration,
    /// A daemon died and left its pid file (LSB's status code).
    Dead,
    /// A daemon is stopped (LSB's status code).
    Stopped,
    /// Whether a daemon runs cannot be known (LSB's status code).
    Unknown,
    /// Nothing could be had yet; only where this code was asked for.
    NothingYet,
    /// Ended by SIGINT, at a clean place.
    Interrupted,
    /// Nobody reads standard output any more, as behind `| head`.
    Unread,
    /// Ended by SIGTERM, at a clean place.
    Terminated,
}

impl Code {
    /// The codes that a service ends with.
    const OF_SERVICES: [Self; 7] = [
        Self::Done,
        Self::Usage,
        Self::Data,
        Self::Unavailable,
        Self::TryAgain,
        Self::NotPermitted,
        Self::Configuration,
    ];

    /// What a service that ended with this number says.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::OF_SERVICES.into_iter().find(|code| code.number() == number)
    }

    /// The number that the process ends with.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::TryAgain => 75,
            Self::NotPermitted => 77,
            Self::Configuration => 78,
            Self::Dead => 1,
            Self::Stopped => 3,
            Self::Unknown => 4,
            Self::NothingYet => 99,
            // As a shell says of what a signal ended.
            Self::Interrupted => 130,
            Self::Unread => 141,
            Self::Terminated => 143,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
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
    if error.downcast_ref::<LockError>().is_some() {
        return Code::Unavailable;
    }
    Code::TryAgain
}
