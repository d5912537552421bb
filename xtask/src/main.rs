//! The developer's commands: `cargo xtask test`, `bench` and `tidy`.

mod bench;
mod cache;
mod servers;
mod steps;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The developer's commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what the tests need, starts the real servers and runs every test.
    Test(test::Options),
    /// Measures us beside the peers, in one run on this machine.
    Bench(bench::Options),
    /// Checks the rules of ARCHITECTURE.md that no compiler checks.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(options) => options.run(),
        Command::Bench(options) => options.run(),
        Command::Tidy => tidy::run(&root()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that RUST_BACKTRACE adds: the programs we ran have said what is wrong.
            eprintln!("error: {}", error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "));
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the repository").to_path_buf()
}
