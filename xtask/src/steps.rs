//! Steps with their times, and running programs.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

/// The steps done so far. The first one that fails ends the run.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Runs one step and keeps its time.
    ///
    /// # Errors
    /// The step's own; the caller gives up.
    #[allow(clippy::disallowed_methods, reason = "the times of a report to a person")]
    pub(crate) fn run<T>(
        &mut self,
        name: &str,
        step: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        eprintln!("── {name}");
        let start = Instant::now();
        let result = step().with_context(|| format!("step \"{name}\" failed"));
        self.done.push((name.to_owned(), start.elapsed(), result.is_ok()));
        result
    }

    /// A line for each step.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::from("\n");
        for (name, time, passed) in &self.done {
            let verdict = if *passed { "ok" } else { "FAILED" };
            let _ = writeln!(text, "{verdict:>8} {:>8.1} s  {name}", time.as_secs_f64());
        }
        let total: f64 = self.done.iter().map(|(_, time, _)| time.as_secs_f64()).sum();
        let _ = write!(text, "{:>8} {total:>8.1} s", "in all");
        text
    }
}

/// Runs a program with our own output.
///
/// # Errors
/// It cannot be started or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    anyhow::ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// The cargo that runs us, in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root()).args(arguments);
    // `cargo run` tells us about this package; build scripts that look at it
    // would run again, and all that depends on them be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
