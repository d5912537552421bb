//! `lakeward dev`: no configuration; streams exist as soon as they are named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::shape::Shape;
use lakeward_connectors::destinations::lake::LakeConfig;
use lakeward_engine::{AutoPipeline, BatchLimits, PipelineSpec};
use lakeward_model::StreamName;

use crate::config::{Config, DestinationConfig};
use crate::exit::Code;
use crate::notify::Notify;
use crate::service::{Service, Signals};
use crate::terminal::Output;

/// Serve without a configuration. Every stream that a client names is created
/// on first use and lands as Parquet under `DIR/lake/<stream>/`; a bucket that
/// a Firehose client names lands under `DIR/lake/<bucket>/`.
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:7171", value_name = "ADDR")]
    listen: SocketAddr,
    /// The folder for `lake/` and the state.
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// How long records wait for more before a file is written.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_time)]
    age: Duration,
}

/// A time as people write it: `5s`, `1h 30m`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a time such as 5s"))?;
    Duration::try_from(signed).map_err(|_| "a time is not below zero".to_string())
}

/// The configuration that `lakeward dev --dir DIR` stands for.
pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config { state: dir.join(".lakeward"), ..Config::default() };
    config.firehose.buckets = LakeConfig::at(format!("{}/{{bucket}}/", lake(dir).display()));
    config
}

/// The pipeline that a stream gets when it is first named.
pub(crate) fn auto_pipeline(dir: &Path, age: Duration) -> AutoPipeline {
    let lake = lake(dir);
    Arc::new(move |stream: &StreamName| PipelineSpec {
        name: stream.to_string(),
        stream: stream.clone(),
        shape: Shape::default(),
        from_latest: false,
        batch: BatchLimits { age, ..BatchLimits::default() },
        destination: serde_json::to_value(DestinationConfig::Lake(Box::new(LakeConfig::at(format!(
            "{}/{stream}/",
            lake.display()
        )))))
        .expect("a destination is plain data"),
        catalog: None,
        owner: None,
    })
}

fn lake(dir: &Path) -> PathBuf {
    std::path::absolute(dir.join("lake")).unwrap_or_else(|_| dir.join("lake"))
}

impl Dev {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let mut config = config(&self.dir);
        config.listen = self.listen;
        let signals = Signals::listen()?;
        let service = Service::start(&config, Some(auto_pipeline(&self.dir, self.age))).await?;
        let url = format!("{}://{}", service.scheme, service.addr);
        if out.is_json() {
            out.json(&serde_json::json!({ "listening": url, "pid": std::process::id() }))?;
        }
        out.say(format!("lakeward is listening on {url} (development: any credentials, every stream)"));
        out.say(format!("files land under {}", lake(&self.dir).display()));
        out.say("");
        out.say("Use it as your Firehose and your Kinesis, with any AWS SDK or the AWS CLI:");
        out.say(format!("  export AWS_ENDPOINT_URL_FIREHOSE={url} AWS_ENDPOINT_URL_KINESIS={url}"));
        out.say("  export AWS_ACCESS_KEY_ID=dev AWS_SECRET_ACCESS_KEY=dev AWS_DEFAULT_REGION=us-east-1");
        out.say("Or send NDJSON:");
        out.say(format!("  curl -X POST {url}/v1/streams/my-events/records --data-binary @events.ndjson"));
        out.say("See what came:");
        out.say(format!("  lakeward status --dir {0}    lakeward ls --dir {0}", self.dir.display()));
        Ok(service.until_stopped(signals, config.drain_grace, &Notify::default()).await)
    }
}
