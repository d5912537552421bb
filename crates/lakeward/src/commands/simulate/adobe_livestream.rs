//! `lakeward simulate adobe-livestream`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lakeward_model::Secret;
use lakeward_model::clock::SystemClock;
use lakeward_simulate::adobe_livestream::{self, Livestream, Options, What};

use super::parse_time;
use crate::exit::{Code, coded};
use crate::service::Signals;
use crate::terminal::Output;

/// What every Livestream's name begins with.
const PREFIX: &str = "adobe-livestream-";

/// Serve an Adobe Analytics Livestream, `GET /api/1/stream/adobe-livestream-demo`,
/// and its token endpoint, `POST /ims/token/v3`, with hits that follow from a
/// seed. What was sent and what was asked are under `/_simulate/`.
#[derive(Debug, clap::Args)]
pub(super) struct AdobeLivestream {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// The Livestream's name, with or without `adobe-livestream-`.
    #[arg(long, default_value = "demo", value_name = "NAME")]
    name: String,
    /// The client id that clients must give.
    #[arg(long, default_value = "demo", value_name = "ID")]
    client_id: String,
    /// The client secret that clients must give.
    #[arg(long, default_value = "demo", value_name = "SECRET")]
    client_secret: String,
    /// Hits a second; with 0 all of them are there from the beginning.
    #[arg(long, default_value_t = 100, value_name = "N")]
    rate: u64,
    /// How many hits there are in all. Default: no end, but 1,000,000 with
    /// `--rate 0`.
    #[arg(long, value_name = "N")]
    hits: Option<u64>,
    /// The same seed means the same hits, but for their times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a token is good; whole seconds.
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = parse_time)]
    token_life: Duration,
    /// How long a hit can be had by one who was cut off.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_time)]
    backlog: Duration,
    /// How much of what was sent last is sent again to one who was cut off.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_time)]
    repeats: Duration,
    /// After how long without a hit an empty record is sent.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_time)]
    keep_alive: Duration,
    /// Serve the stream itself on another port, behind a redirection.
    #[arg(long)]
    redirect: bool,
    /// What may go wrong, drawn from the seed: disconnect, cut, silence,
    /// garbage, hangup, revoked, conflict, error, unavailable; `all` is all.
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', value_parser = parse_whats)]
    misbehave: Vec<Whats>,
    /// A script of what goes wrong for certain: a list of rules as YAML or JSON.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// What one name after `--misbehave` stands for.
#[derive(Debug, Clone)]
struct Whats(Vec<What>);

fn parse_whats(text: &str) -> Result<Whats, String> {
    match text {
        "all" => Ok(Whats(adobe_livestream::ALL.into())),
        one => match one.parse()? {
            What::Ok | What::Status => Err(format!("{one:?} only makes sense in a script")),
            what => Ok(Whats(vec![what])),
        },
    }
}

impl AdobeLivestream {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        if !self.listen.ip().is_loopback() && self.client_secret == "demo" {
            return Err(coded(
                Code::Usage,
                "to listen on more than this machine, choose a secret: --client-secret",
            ));
        }
        let options = self.options()?;
        let mut signals = Signals::listen()?;
        let running =
            adobe_livestream::serve(options, Arc::new(SystemClock), self.listen).await.map_err(|error| {
                let listen = self.listen;
                coded(
                    Code::Unavailable,
                    format!("cannot listen on {listen}: {error}; choose another with --listen"),
                )
            })?;
        self.report(out, &running)?;
        signals.next().await;
        running.stop().await;
        Ok(Code::Done)
    }

    fn options(&self) -> anyhow::Result<Options> {
        let script = match &self.script {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                adobe_livestream::read(&text)
                    .map_err(|error| coded(Code::Configuration, format!("{}: {error}", file.display())))?
            }
            None => Vec::new(),
        };
        let endless = if self.rate == 0 { 1_000_000 } else { u64::MAX };
        Ok(Options {
            seed: self.seed,
            name: self.full_name(),
            client_id: self.client_id.clone(),
            client_secret: Secret::new(self.client_secret.clone()),
            rate: self.rate,
            hits: self.hits.unwrap_or(endless),
            token_life: self.token_life,
            backlog: self.backlog,
            repeats: self.repeats,
            keep_alive: self.keep_alive,
            redirect: self.redirect,
            misbehave: self.misbehave.iter().flat_map(|whats| whats.0.clone()).collect(),
            script,
        })
    }

    fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name.strip_prefix(PREFIX).unwrap_or(&self.name))
    }

    /// What it serves, and how to use it.
    fn report(&self, out: &Output, running: &Livestream) -> anyhow::Result<()> {
        let url = running.url();
        if out.is_json() {
            out.json(&serde_json::json!({ "listening": url, "pid": std::process::id() }))?;
        }
        let (name, id) = (self.full_name(), &self.client_id);
        let secret = if self.client_secret == "demo" { "demo" } else { "${CLIENT_SECRET}" };
        out.say(format!("a simulated Adobe Livestream is listening on {url}"));
        out.say(format!("it has {} hits a second, from seed {}", self.rate, self.seed));
        out.say("");
        out.say("Watch it:");
        out.say(format!(
            "  TOKEN=$(curl -s -d 'grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=openid' \
             {url}/ims/token/v3 | jq -r .access_token)"
        ));
        out.say(format!(
            "  curl -sN --location-trusted -H \"Authorization: Bearer $TOKEN\" -H 'x-api-key: {id}' \
             -H 'Accept-Encoding: gzip' '{url}/api/1/stream/{name}' | gunzip"
        ));
        out.say("Take it into a lake, with this as lakeward.yaml:");
        out.say(format!(
            "  sources:\n    - type: adobe_livestream\n      name: livestream\n      stream: hits\n      \
             livestream: {name}\n      endpoint: {url}\n      token_url: {url}/ims/token/v3\n      \
             client_id: {id}\n      client_secret: {secret}\n      scopes: openid\n  \
             pipelines:\n    - name: hits\n      stream: hits\n      \
             schema: {{ columns: {{ hitIdHigh: \"decimal(20,0)\", hitIdLow: \"decimal(20,0)\" }} }}\n      \
             dedup: {{ key: [hitIdHigh, hitIdLow], window: 1d }}\n      destination: {{ type: lake, url: ./lake }}"
        ));
        out.say("See what was sent, and what was asked:");
        out.say(format!("  curl {url}/_simulate/oracle    curl {url}/_simulate/requests"));
        Ok(())
    }
}
