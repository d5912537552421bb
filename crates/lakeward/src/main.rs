//! The Lakeward binary: command line, configuration, wiring.

mod audit;
mod commands;
mod config;
mod exit;
mod notify;
mod offline;
mod preview;
mod quarantine;
mod queries;
mod remote;
mod service;
mod sliced;
mod terminal;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events into lakes and warehouses, exactly once, from one binary.
#[derive(Debug, Parser)]
#[command(name = "lakeward", version, propagate_version = true)]
struct Arguments {
    /// Print for machines: JSON on standard output, no tables, no progress bars.
    #[arg(long, global = true)]
    json: bool,
    /// What to log to standard error, for instance `info` or
    /// `lakeward_engine=debug`.
    #[arg(long, global = true, env = "LAKEWARD_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See the whole thing work: 200,000 events through the front doors into
    /// Parquet, and the proof that none was lost or doubled.
    Demo(commands::demo::Demo),
    /// Serve without a configuration: every stream that a client names is
    /// created on first use and lands under `./lake`.
    Dev(commands::dev::Dev),
    /// Serve as a configuration file says.
    Run(commands::run::Run),
    /// Run instances of the service in the background.
    Daemon(commands::daemon::Daemon),
    /// Convert local JSON files to partitioned Parquet (or NDJSON, CSV),
    /// without any service.
    Convert(commands::convert::Convert),
    /// Write a commented starter configuration.
    Init(commands::init::Init),
    /// Check a configuration: all problems at once.
    Check(commands::check::Check),
    /// Test pipelines: records in, expected rows out.
    Test(commands::test::Test),
    /// Take what a source has and is not taken yet, and end: for cron, Kestra,
    /// Airflow.
    Pull(Box<commands::pull::Pull>),
    /// Fetch any range of the source behind a pipeline: plan, apply, verify.
    Backfill(commands::backfill::Backfill),
    /// Show what every pipeline has received and delivered.
    Status(commands::status::Status),
    /// Follow what a pipeline receives.
    Tail(commands::tail::Tail),
    /// List what lies in the lake.
    Ls(commands::ls::Ls),
    /// Ask with SQL what pipelines have delivered.
    Query(commands::query::Query),
    /// Prove that nothing was lost or doubled: the ledger against the lake.
    Audit(commands::audit::Audit),
    /// Explain and repair the journal on disk.
    Fsck(commands::fsck::Fsck),
    /// Look at the records that could not be processed, and deliver them after
    /// all.
    Quarantine(commands::quarantine::Quarantine),
    /// Print the statement that makes a pipeline's lake a table of another
    /// engine.
    Ddl(commands::ddl::Ddl),
    /// Print the JSON Schema of the configuration file, or a pipeline's columns.
    Schema(commands::schema::Schema),
    /// Be an upstream: seeded data and scripted misbehaviour, for trying a
    /// source without an account.
    Simulate(commands::simulate::Simulate),
    /// Be an AWS Lambda function: take the objects that events tell of.
    Lambda(Box<commands::lambda::Lambda>),
}

fn main() -> ExitCode {
    abort_on_panic();
    without_huge_pages();
    let mut arguments = Arguments::parse_from(arguments());
    if let Command::Daemon(daemon) = &mut arguments.command {
        daemon.prepare();
    }
    let filter = arguments.log.as_deref();
    let log =
        terminal::log(log_to(&arguments.command), filter, default_log(&arguments.command), arguments.json);
    if let Err(error) = log {
        eprintln!("lakeward: the log's file cannot be written: {error}");
        return exit::Code::Usage.into();
    }
    let out = terminal::Output::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments.command, &out));
            // A stopped service does not wait for a task that hangs.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            terminal::print_error(&error, arguments.json);
            exit::code_of(&error).into()
        }
    }
}

async fn run(command: Command, out: &terminal::Output) -> anyhow::Result<exit::Code> {
    match command {
        Command::Demo(demo) => demo.run(out).await,
        Command::Dev(dev) => dev.run(out).await,
        Command::Run(run) => run.run(out).await,
        Command::Daemon(daemon) => Box::pin(daemon.run(out)).await,
        Command::Convert(convert) => convert.run(out),
        Command::Init(init) => init.run(out),
        Command::Check(check) => Box::pin(check.run(out)).await,
        Command::Test(test) => test.run(out).await,
        Command::Pull(pull) => Box::pin(pull.run(out)).await,
        Command::Backfill(backfill) => Box::pin(backfill.run(out)).await,
        Command::Status(status) => status.run(out).await,
        Command::Tail(tail) => tail.run(out).await,
        Command::Ls(ls) => ls.run(out).await,
        Command::Query(query) => Box::pin(query.run(out)).await,
        Command::Audit(audit) => audit.run(out).await,
        Command::Fsck(fsck) => fsck.run(out),
        Command::Quarantine(quarantine) => quarantine.run(out).await,
        Command::Ddl(ddl) => ddl.run(out).await,
        Command::Schema(schema) => schema.run(out).await,
        Command::Simulate(simulate) => Box::pin(simulate.run(out)).await,
        Command::Lambda(lambda) => Box::pin(lambda.run(out)).await,
    }
}

/// The command line. A Lambda sandbox starts the program without any.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut given: Vec<_> = std::env::args_os().collect();
    if given.len() == 1 && std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        given.push("lambda".into());
    }
    given
}

/// With huge pages every buffer that anything is written into takes 2 MiB, and
/// keeps them: the memory of a process that streams small chunks through many
/// buffers doubles. What they save lies within the noise of `bench/export.py`.
fn without_huge_pages() {
    #[cfg(target_os = "linux")]
    // A kernel without the call has no such pages either.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// A broken invariant ends the process, whichever thread finds it: the next
/// start recovers. Only what a decoder of others' files says is an error.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lakeward_unpack::is_guarded() {
            say(panic);
            std::process::abort();
        }
    }));
}

/// Where a command's log goes.
fn log_to(command: &Command) -> &terminal::LogTo {
    match command {
        Command::Pull(pull) => pull.log_to(),
        Command::Backfill(backfill) => backfill.log_to(),
        Command::Daemon(daemon) => daemon.log_to(),
        _ => &terminal::LogTo::Stderr,
    }
}

/// Services say what they do; one-shot commands speak when something is wrong.
fn default_log(command: &Command) -> &'static str {
    match command {
        Command::Run(_) | Command::Dev(_) | Command::Simulate(_) => "info",
        Command::Daemon(daemon) if daemon.is_service() => "info",
        Command::Lambda(lambda) if !lambda.is_once() => "info",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
