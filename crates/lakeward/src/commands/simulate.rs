//! `lakeward simulate`: fakes of upstreams.

mod adobe_livestream;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use lakeward_model::clock::SystemClock;
use lakeward_model::{Secret, Timestamp, units};
use lakeward_simulate::amplitude::{self, Hour, Volume, What};
use lakeward_simulate::{Running, SimulatedClock};

use crate::exit::{Code, coded};
use crate::service::Signals;
use crate::terminal::Output;

/// Bytes of a big hour at the most.
const BIG_HOUR_MAX: u64 = 100_000_000_000;

/// Be an upstream: seeded data and scripted misbehaviour, for trying a source
/// without an account.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    #[command(subcommand)]
    upstream: Upstream,
}

#[derive(Debug, Subcommand)]
enum Upstream {
    /// Adobe Analytics Livestream, and the service that gives its tokens.
    AdobeLivestream(Box<adobe_livestream::AdobeLivestream>),
    /// Amplitude's Export API.
    Amplitude(Box<Amplitude>),
}

/// Serve Amplitude's Export API, `GET /api/2/export`, with events that follow
/// from a seed. What there is, what was asked and the clock are under
/// `/_simulate/`.
#[derive(Debug, clap::Args)]
struct Amplitude {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// The key that clients must give.
    #[arg(long, default_value = "demo", value_name = "KEY")]
    api_key: String,
    /// The secret that clients must give.
    #[arg(long, default_value = "demo", value_name = "KEY")]
    secret_key: String,
    /// The first hour with events, in UTC: `2026-03-01`, `2026-03-01T05`.
    #[arg(long, default_value = "2026-03-01", value_name = "HOUR")]
    from: Hour,
    /// How many hours have events.
    #[arg(long, default_value_t = 744, value_name = "N", conflicts_with = "to")]
    hours: u64,
    /// The first hour without events, instead of `--hours`.
    #[arg(long, value_name = "HOUR")]
    to: Option<Hour>,
    /// Events of an hour: a number, or a range to draw from. From 0 means that
    /// one hour in eight is empty.
    #[arg(long, default_value = "0..500", value_name = "N|LO..HI")]
    events_per_hour: Volume,
    /// An hour of about so many zipped bytes, such as `2026-03-01T05=4GB`. It
    /// repeats 512 events under ever new ids, and is hardly compressed.
    #[arg(long, value_name = "HOUR=SIZE", value_parser = parse_big_hour)]
    big_hour: Vec<(Hour, u64)>,
    /// The same seed means the same events, for ever.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The project's number, in names of members and in `app`.
    #[arg(long, default_value_t = 203_138, value_name = "N")]
    project: u64,
    /// What the upstream takes for now at its start; otherwise the real now.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    now: Option<Timestamp>,
    /// How many times as fast as the real clock the upstream's goes on; 0
    /// stands still.
    #[arg(long, default_value_t = 1.0, value_name = "X", value_parser = parse_speed)]
    clock_speed: f64,
    /// How long after its end an hour can be had.
    #[arg(long, default_value = "2h", value_name = "TIME", value_parser = parse_time)]
    delay: Duration,
    /// Exports of more zipped bytes than this get 400; the size is estimated
    /// at 370 bytes an event.
    #[arg(long, default_value = "4GB", value_name = "SIZE", value_parser = parse_size)]
    too_large_bytes: u64,
    /// Exports at a time; more get 429.
    #[arg(long, default_value_t = 5, value_name = "N")]
    concurrent: usize,
    /// Write archives with ZIP64 fields even where they are small.
    #[arg(long)]
    zip64: bool,
    /// What may go wrong, drawn from the seed: late, not-found, too-large,
    /// timeout, rate-limited, error, unavailable, truncated, cut, hangup,
    /// wrong-magic, corrupt, slow; `all` is all of these; by name only: stall,
    /// resplit. Every window is answered rightly at its fourth try at the
    /// latest, or once it is an hour.
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', value_parser = parse_whats)]
    misbehave: Vec<Whats>,
    /// A script of what goes wrong for certain: a list of rules as YAML or JSON.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Print what there is, one line of JSON per hour, and end.
    #[arg(long)]
    oracle: bool,
}

/// What one name after `--misbehave` stands for.
#[derive(Debug, Clone)]
struct Whats(Vec<What>);

fn parse_whats(text: &str) -> Result<Whats, String> {
    match text {
        "all" => Ok(Whats(amplitude::ALL.into())),
        "wrong-magic" => Ok(Whats(vec![What::Html, What::Gzip])),
        one => match one.parse()? {
            What::Ok | What::Unauthorized | What::Forbidden => {
                Err(format!("{one:?} only makes sense in a script"))
            }
            what => Ok(Whats(vec![what])),
        },
    }
}

fn parse_big_hour(text: &str) -> Result<(Hour, u64), String> {
    let (hour, size) = text.split_once('=').ok_or("it is HOUR=SIZE, such as 2026-03-01T05=4GB")?;
    let hour = hour.parse().map_err(|error: amplitude::NoHour| error.to_string())?;
    let size = parse_size(size)?;
    // The oracle sorts an hour's ids: 55 million of these.
    if size <= BIG_HOUR_MAX { Ok((hour, size)) } else { Err("an hour has 100GB at the most".to_string()) }
}

fn parse_size(text: &str) -> Result<u64, String> {
    #[derive(serde::Deserialize)]
    struct Size(#[serde(with = "units::bytes")] u64);
    let size: Size = serde_json::from_value(text.into()).map_err(|error| error.to_string())?;
    Ok(size.0)
}

fn parse_time(text: &str) -> Result<Duration, String> {
    #[derive(serde::Deserialize)]
    struct Time(#[serde(with = "units::duration")] Duration);
    let time: Time = serde_json::from_value(text.into()).map_err(|error| error.to_string())?;
    Ok(time.0)
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    let instant: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no instant with a zone such as 2026-03-01T05:30:00Z"))?;
    Ok(Timestamp(instant.as_microsecond()))
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1e6).contains(&speed) { Ok(speed) } else { Err("it is from 0 to 1000000".to_string()) }
}

impl Simulate {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        match self.upstream {
            Upstream::AdobeLivestream(livestream) => livestream.run(out).await,
            Upstream::Amplitude(amplitude) => amplitude.run(out).await,
        }
    }
}

impl Amplitude {
    async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let options = self.options()?;
        if self.oracle {
            let asked = amplitude::Asked { from: options.from, to: options.to, bytes: false };
            let printed = amplitude::oracle(&options, asked, std::io::stdout().lock());
            return match printed {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Code::Done),
                other => other.map(|()| Code::Done).map_err(anyhow::Error::from),
            };
        }
        if !self.listen.ip().is_loopback() && self.api_key == "demo" && self.secret_key == "demo" {
            return Err(coded(
                Code::Usage,
                "to listen on more than this machine, choose keys: --api-key and --secret-key",
            ));
        }
        let mut signals = Signals::listen()?;
        let clock = SimulatedClock::new(Arc::new(SystemClock), self.now, self.clock_speed);
        let (from, to) = (options.from, options.to);
        let running = amplitude::serve(options, clock, self.listen).await.map_err(|error| {
            let listen = self.listen;
            coded(
                Code::Unavailable,
                format!("cannot listen on {listen}: {error}; choose another with --listen"),
            )
        })?;
        self.report(out, &running, from, to)?;
        signals.next().await;
        running.stop().await;
        Ok(Code::Done)
    }

    fn options(&self) -> anyhow::Result<amplitude::Options> {
        let to = self.to.unwrap_or_else(|| self.from.plus(self.hours));
        if to <= self.from {
            return Err(coded(Code::Usage, format!("there is no hour from {} to {to}", self.from)));
        }
        let script = match &self.script {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                amplitude::read(&text)
                    .map_err(|error| coded(Code::Configuration, format!("{}: {error}", file.display())))?
            }
            None => Vec::new(),
        };
        let misbehave: BTreeSet<_> = self.misbehave.iter().flat_map(|whats| whats.0.clone()).collect();
        Ok(amplitude::Options {
            seed: self.seed,
            project: self.project,
            api_key: self.api_key.clone(),
            secret_key: Secret::new(self.secret_key.clone()),
            from: self.from,
            to,
            volume: self.events_per_hour,
            big_hours: self.big_hour.clone(),
            delay: self.delay,
            too_large_bytes: self.too_large_bytes,
            concurrent: self.concurrent,
            zip64: self.zip64,
            misbehave,
            script,
        })
    }

    /// What it serves, and how to use it.
    fn report(&self, out: &Output, running: &Running, from: Hour, to: Hour) -> anyhow::Result<()> {
        let url = running.url();
        if out.is_json() {
            out.json(&serde_json::json!({ "listening": url, "pid": std::process::id() }))?;
        }
        let day = from.to_string().replace('-', "");
        let key = |given: &str, name: &str| {
            if given == "demo" { "demo".to_string() } else { format!("${{{name}}}") }
        };
        let (api_key, secret_key) = (key(&self.api_key, "API_KEY"), key(&self.secret_key, "SECRET_KEY"));
        out.say(format!("a simulated Amplitude is listening on {url}"));
        out.say(format!(
            "it has events of {} hours, {from} to {to} (UTC), from seed {}",
            from.until(to),
            self.seed
        ));
        out.say("");
        out.say("Export an hour:");
        out.say(format!(
            "  curl -u {api_key}:{secret_key} -o export.zip '{url}/api/2/export?start={day}&end={day}'"
        ));
        out.say("Take it all into a lake, with this as lakeward.yaml:");
        out.say(format!(
            "  sources:\n    - type: amplitude\n      name: amplitude\n      stream: amplitude-events\n      \
             endpoint: {url}\n      api_key: {api_key}\n      secret_key: {secret_key}\n      \
             from: {from}\n  pipelines:\n    - name: amplitude\n      stream: amplitude-events\n      \
             dedup: {{ key: [uuid], window: 30d }}\n      output: {{ format: parquet, path: \"events/day=!{{event:event_time:yyyy-MM-dd}}/\" }}\n      \
             destination: {{ type: lake, url: ./lake }}"
        ));
        out.say("See what there is, and what was asked:");
        out.say(format!("  curl {url}/_simulate/oracle    curl {url}/_simulate/requests"));
        Ok(())
    }
}
