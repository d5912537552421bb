//! The real servers that tests run against, held by `tests/servers.py`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

/// Running servers. They stop when this is dropped, and also when this
/// process dies in whatever way: `servers.py` sees its input end.
#[derive(Debug)]
pub(crate) struct Servers {
    holder: Child,
    /// How to reach them: environment variables for every test.
    pub(crate) environment: Vec<(String, String)>,
}

impl Servers {
    /// Starts them and waits until they answer.
    ///
    /// # Errors
    /// One of them does not start.
    pub(crate) fn start(python: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(python);
        command.arg(crate::root().join("tests/servers.py"));
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("servers.py")?;
        let output = holder.stdout.take().context("servers.py has no output")?;
        let mut environment = vec![("LAKEWARD_REQUIRE_SERVERS".to_owned(), "1".to_owned())];
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == "ready" {
                return Ok(Self { holder, environment });
            }
            let (name, value) = line.split_once('=').with_context(|| format!("servers.py said {line:?}"))?;
            environment.push((name.to_owned(), value.to_owned()));
        }
        let status = holder.wait()?;
        ensure!(status.success(), "servers.py: {status}");
        anyhow::bail!("servers.py ended before it said that the servers are ready")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
