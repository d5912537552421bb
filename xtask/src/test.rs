//! `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::cache::Cache;
use crate::servers::Servers;
use crate::steps::{Steps, cargo, run};

/// Files of tests go to a worker for each core: most of them wait most of the time. A file stays whole, as its tests
/// share servers. `-- -n 0` is one after the other.
const WORKERS: [&str; 6] = ["-n", "auto", "--maxprocesses=4", "--dist", "loadfile", "--no-loadscope-reorder"];

/// What to run. Without a flag: everything.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the Rust tests, without servers: those that need one are left out.
    #[arg(long, conflicts_with = "only")]
    fast: bool,
    /// Only one part.
    #[arg(long)]
    only: Option<Part>,
    /// Arguments for pytest, after `--`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting and lints.
    Lint,
    /// The Rust tests, with the real servers.
    Rust,
    /// The end-to-end tests: the release binary, real clients, real servers.
    E2e,
}

impl Options {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut steps = Steps::default();
        let result = self.run_steps(&mut steps);
        println!("{}", steps.summary());
        result
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    fn run_steps(&self, steps: &mut Steps) -> anyhow::Result<()> {
        if self.fast {
            return steps.run("cargo test", || run(&mut cargo(&["test", "--workspace"])));
        }
        if self.wants(Part::Lint) {
            steps.run("cargo fmt", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
            let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            steps.run("cargo clippy", || run(&mut cargo(&clippy)))?;
        }
        if !self.wants(Part::Rust) && !self.wants(Part::E2e) {
            return Ok(());
        }
        let tests = crate::root().join("tests");
        let cache = Cache::open()?;
        let python =
            steps.run("python packages", || cache.python("tests", &tests.join("requirements.txt")))?;
        let spark = tests.join("spark-requirements.txt");
        let spark = steps.run("python packages for Spark", || cache.python("spark", &spark))?;
        let node = steps.run("node packages", || cache.node("node", &tests.join("package.json")))?;
        let pom = tests.join("java/pom.xml");
        let java = steps.run("Java packages", || cache.java("java", &pom))?;
        drop(cache);
        if self.wants(Part::Rust) {
            let servers = steps.run("start the servers", || Servers::start(&python))?;
            let mut test = cargo(&["test", "--workspace"]);
            test.envs(servers.environment.iter().cloned());
            steps.run("cargo test", || run(&mut test))?;
        }
        if self.wants(Part::E2e) {
            steps.run("cargo build --release", || run(&mut cargo(&["build", "--release"])))?;
            let servers = steps.run("start the servers", || Servers::start(&python))?;
            steps.run("end to end", || {
                let environment = [("NODE", node), ("SPARK", spark), ("JAVA", java)];
                self.end_to_end(&python, environment, &servers)
            })?;
        }
        Ok(())
    }

    fn end_to_end(
        &self,
        python: &Path,
        packages: [(&str, PathBuf); 3],
        servers: &Servers,
    ) -> anyhow::Result<()> {
        let mut pytest = Command::new(python);
        pytest.current_dir(crate::root()).args(["-m", "pytest", "-p", "no:cacheprovider", "tests"]);
        pytest.args(WORKERS).args(&self.pytest).env("PYTHONDONTWRITEBYTECODE", "1");
        pytest.envs(packages.map(|(name, folder)| (format!("LAKEWARD_TEST_{name}"), folder)));
        run(pytest.envs(servers.environment.iter().cloned()))
    }
}
