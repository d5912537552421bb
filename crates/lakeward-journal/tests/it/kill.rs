//! A child process that appends and is killed, again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use lakeward_model::Origin;
use lakeward_model::clock::SystemClock;

use crate::support::{all, open, records, small, stream};

const CHILD: &str = "LAKEWARD_JOURNAL_KILL_CHILD";
const KILLS: u64 = 25;

/// Not a test by itself: appends until it is killed, if it is the child.
/// Prints the offset and the text of every acknowledged record.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let journal = lakeward_journal::Journal::open(Path::new(&dir), small(), std::sync::Arc::new(SystemClock))
        .expect("opens after a kill");
    journal.create(&stream()).expect("created");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let tasks = (0..8).map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let text = format!(
                        "{}/{task}/{number}/{}",
                        std::process::id(),
                        "x".repeat((number % 700) as usize)
                    );
                    let appended = journal.append(&stream(), records(&[&text]), Origin::Push(None)).await;
                    let first = appended.expect("appended").first;
                    writeln!(std::io::stdout().lock(), "acked {first} {text}").expect("the parent reads");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
}

#[test]
fn every_acknowledged_record_survives_kills() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acked: Vec<(usize, String)> = Vec::new();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut left = kill * 37 % 101;
        for line in lines.by_ref().map_while(Result::ok) {
            acked.extend(parse(&line));
            left = left.saturating_sub(1);
            if left == 0 {
                break;
            }
        }
        child.kill().expect("killed");
        // What was acknowledged between the decision and the kill.
        acked.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
        child.wait().expect("ended");
        let journal = open(dir.path(), small()).expect("opens after a kill");
        let stored = all(&journal, 0, 1 << 20);
        for (offset, text) in &acked {
            assert_eq!(stored[*offset], text.as_bytes(), "kill {kill}, offset {offset}");
        }
        let distinct: std::collections::HashSet<_> = stored.iter().collect();
        assert_eq!(distinct.len(), stored.len(), "no record is there twice");
    }
    assert!(acked.len() as u64 > KILLS, "the children got something done: {}", acked.len());
}

/// A whole line of the child; the last one may be cut.
fn parse(line: &str) -> Option<(usize, String)> {
    // The test harness writes before the first line.
    let (_, acked) = line.split_once("acked ")?;
    let (offset, text) = acked.split_once(' ')?;
    let number: usize = text.split('/').nth(2)?.parse().ok()?;
    let filler = text.split('/').nth(3)?;
    (filler.len() == number % 700).then_some(())?;
    Some((offset.parse().ok()?, text.to_owned()))
}
