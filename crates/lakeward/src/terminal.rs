//! What people see: tables and progress bars on a terminal, JSON for machines.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::exit::{Code, code_of, coded};

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a machine reads the output.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person sees what is printed.
    pub(crate) fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        print(serde_json::to_string(value)?)
    }

    /// Prints a line for people. Whether they read it changes nothing of what
    /// the command does.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if !self.json
            && let Err(error) = print(line.as_ref())
            && code_of(&error) != Code::Unread
        {
            eprintln!("lakeward: {error}");
        }
    }

    /// Prints a line for people beside the result: to standard error.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        if !self.json {
            eprintln!("{}", line.as_ref());
        }
    }

    /// A progress bar over `total` things; hidden for machines and pipes.
    pub(crate) fn progress(&self, total: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::new(total);
        if self.json || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = "{msg:<10} {bar:24.cyan/blue} {human_pos} of {human_len}  {rate}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A progress bar that cannot be drawn is no reason to stop.
                let _ = write!(out, "{}/s", count(state.per_sec() as u64));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// Prints a line of the result.
///
/// # Errors
/// It cannot be written; with [`Code::Unread`] if nobody reads any more.
pub(crate) fn print(line: impl Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => coded(Code::Unread, "nobody reads standard output"),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    })
}

/// A table whose first column is text and whose others are numbers.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(head.iter().map(Cell::new));
    table
}

/// A cell with its text at the right: a number.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text.to_string()).set_alignment(CellAlignment::Right)
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2,000 rows`.
pub(crate) fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// An instant to the second.
pub(crate) fn instant(at: lakeward_model::Timestamp) -> String {
    lakeward_model::Timestamp(at.micros().div_euclid(1_000_000) * 1_000_000).to_string()
}

/// Bytes with a unit: `12.3 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// Seconds with a unit.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.0} min", seconds / 60.0) }
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum LogTo {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output, before the result: Kestra takes every line on standard
    /// error for a warning.
    Stdout,
    /// Behind what is in this file.
    File(PathBuf),
    /// To this file, which is renamed at midnight UTC.
    Daily {
        /// The file.
        file: PathBuf,
        /// How many days before today are kept.
        keep_days: u16,
    },
}

impl FromStr for LogTo {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            file => Self::File(PathBuf::from(file)),
        })
    }
}

/// Sends the log where it should go; as JSON lines if a machine reads it.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn log(to: &LogTo, filter: Option<&str>, default: &str, json: bool) -> std::io::Result<()> {
    let filter = EnvFilter::try_new(filter.unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    let (writer, colours) = match to {
        LogTo::Stderr => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
        LogTo::Stdout => (BoxMakeWriter::new(std::io::stdout), std::io::stdout().is_terminal()),
        LogTo::File(file) => {
            let file = std::fs::File::options().append(true).create(true).open(file)?;
            (BoxMakeWriter::new(std::sync::Arc::new(file)), false)
        }
        LogTo::Daily { file, keep_days } => {
            let daily = crate::commands::daemon::DailyFile::open(file, *keep_days)?;
            (BoxMakeWriter::new(std::sync::Mutex::new(daily)), false)
        }
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if json {
        log.json().init();
    } else {
        log.with_target(false).with_ansi(colours).init();
    }
    Ok(())
}

/// Says why a command failed.
pub(crate) fn print_error(error: &anyhow::Error, json: bool) {
    if code_of(error) == Code::Unread {
        return;
    }
    let printed = json && print(serde_json::json!({ "ok": false, "error": format!("{error:#}") })).is_ok();
    if !printed {
        eprintln!("lakeward: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_have_separators() {
        let check = |n, expect: &str| assert_eq!(super::count(n), expect);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(1_234_567, "1,234,567");
    }
}
