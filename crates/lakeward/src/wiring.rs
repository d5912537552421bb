//! The only place that knows which connectors there are.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use lakeward_columnar::shape::Lambda;
use lakeward_columnar::transform::{Transform, TransformError};
use lakeward_connectors::catalogs::glue::Glue;
use lakeward_connectors::destinations::lake::{Lake, LakeConfig};
use lakeward_connectors::destinations::warehouse::{CutRows, Table, Warehouse};
use lakeward_connectors::destinations::{clickhouse, postgres, redshift};
use lakeward_connectors::functions::{self, FunctionConfig};
use lakeward_connectors::sources::adobe_livestream::AdobeLivestreamSource;
use lakeward_connectors::sources::amplitude::AmplitudeSource;
use lakeward_connectors::sources::kinesis::KinesisSource;
use lakeward_connectors::sources::objects::{ObjectsSource, SqsAnnouncements};
use lakeward_engine::lambda::StreamArn;
use lakeward_engine::{Connectors, Opened, OpenedCatalog, RemoveFile, SlicedSpec, SourceSpec};
use lakeward_model::{Announcements, Failure, Function, SlicedSource, Source, StreamName, Wanted};
use lakeward_sql::SqlTransform;
use serde::Deserialize;

use crate::config::{CatalogConfig, Config, DestinationConfig, SourceConfig};
use crate::exit::{Code, coded};

/// A destination as pipelines carry it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    /// From the configuration file.
    Configured(Box<DestinationConfig>),
    /// A bucket that a Firehose client named.
    Bucket(Bucket),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename = "bucket")]
struct Bucket {
    bucket: String,
}

/// What the Firehose API stores for a bucket: its name only, so that no
/// credential is ever written to the ledger.
pub(crate) fn bucket(name: &str) -> serde_json::Value {
    serde_json::json!({ "type": "bucket", "bucket": name })
}

/// The lake that the files of a stored destination lie in: those of quarantine
/// alone, if it is a table.
pub(crate) fn lake_config(
    buckets: &LakeConfig,
    destination: &serde_json::Value,
) -> Result<LakeConfig, String> {
    match Stored::deserialize(destination) {
        Ok(Stored::Configured(configured)) => Ok(configured.lake().clone()),
        Ok(Stored::Bucket(Bucket { bucket })) => {
            if !is_bucket(&bucket) {
                return Err(format!("{bucket:?} is not the name of a bucket"));
            }
            let mut lake = buckets.clone();
            lake.url = lake.url.replace("{bucket}", &bucket);
            Ok(lake)
        }
        Err(error) => Err(format!("this release does not know the destination: {error}")),
    }
}

/// An opened destination.
pub(crate) struct Place {
    /// As batches record it.
    pub(crate) name: String,
    /// Where its files lie: those of quarantine alone, if it is a table.
    pub(crate) lake: Lake,
    /// The table, if its rows go into one.
    pub(crate) table: Option<Arc<dyn Table>>,
}

impl Place {
    /// Opens what a stored destination means. Touches nothing.
    ///
    /// # Errors
    /// What must change in the configuration.
    pub(crate) fn open(buckets: &LakeConfig, destination: &serde_json::Value) -> Result<Self, String> {
        let lake = Lake::open(&lake_config(buckets, destination)?).map_err(|error| error.to_string())?;
        let table = match Stored::deserialize(destination) {
            Ok(Stored::Configured(configured)) => open_table(&configured)?,
            _ => None,
        };
        let name = table.as_ref().map_or_else(|| lake.to_string(), ToString::to_string);
        Ok(Self { name, lake, table })
    }
}

/// Opens the table that a destination's rows go into, if it is one.
fn open_table(destination: &DestinationConfig) -> Result<Option<Arc<dyn Table>>, String> {
    match destination {
        DestinationConfig::Lake(_) => Ok(None),
        DestinationConfig::Clickhouse(config) => {
            let table = clickhouse::open(config, cut_rows()).map_err(|error| error.to_string())?;
            Ok(Some(Arc::new(table)))
        }
        DestinationConfig::Postgres(config) => {
            let table = postgres::open(config, cut_rows()).map_err(|error| error.to_string())?;
            Ok(Some(Arc::new(table)))
        }
        DestinationConfig::Redshift(config) => {
            let table = redshift::open(config, cut_rows()).map_err(|error| error.to_string())?;
            Ok(Some(Arc::new(table)))
        }
    }
}

/// How a table takes files apart.
fn cut_rows() -> CutRows {
    Arc::new(|file, rows| lakeward_columnar::cut::rows(file, rows).map_err(|error| error.to_string()))
}

/// Bucket naming rules (Amazon S3 user guide, "General purpose bucket naming
/// rules"), with the older capitals and underscores; above all, a name that is
/// no way out of a folder.
fn is_bucket(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let ends = [name.bytes().next(), name.bytes().last()];
    (3..=255).contains(&name.len())
        && name.bytes().all(inner)
        && !name.contains("..")
        && ends.into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
}

/// How the engine reaches what is outside.
pub(crate) fn connectors(config: &Config) -> Connectors {
    let buckets = config.firehose.buckets.clone();
    let functions = Functions::new(config);
    let arn = functions.arn().clone();
    Connectors {
        destination: Arc::new(move |destination| {
            let place = Place::open(&buckets, destination)?;
            let (name, lake) = (place.name, place.lake);
            if let Some(table) = place.table {
                let destination = Arc::new(Warehouse::new(table, lake));
                return Ok(Opened { name, destination, remove: None });
            }
            let lake = Arc::new(lake);
            let of = Arc::clone(&lake);
            let remove: RemoveFile = Arc::new(move |path| {
                let lake = Arc::clone(&of);
                Box::pin(async move { lake.remove(&path).await })
            });
            Ok(Opened { name, destination: lake, remove: Some(remove) })
        }),
        function: Arc::new(move |pipeline, function| functions.open(pipeline, function)),
        catalog: Arc::new(open_catalog),
        arn,
        sql: Arc::new(compile_sql),
    }
}

/// Opens a pipeline's catalog.
fn open_catalog(config: &serde_json::Value, pipeline: &str) -> Result<OpenedCatalog, String> {
    let CatalogConfig::Glue(config) = CatalogConfig::deserialize(config)
        .map_err(|error| format!("this release does not know the catalog: {error}"))?;
    let glue = Glue::open(&config, pipeline).map_err(|error| error.to_string())?;
    Ok(OpenedCatalog { name: glue.to_string(), catalog: Arc::new(glue) })
}

/// The sources of the configuration. They ask nobody yet.
pub(crate) fn sources(config: &Config) -> anyhow::Result<Vec<SourceSpec>> {
    let open = |source: &SourceConfig| {
        let opened: Box<dyn Source> = match source {
            SourceConfig::Kinesis(kinesis) => Box::new(KinesisSource::open(kinesis)?),
            SourceConfig::AdobeLivestream(livestream) => {
                let opened = AdobeLivestreamSource::open(livestream, &spool(config, source));
                Box::new(opened.map_err(|error| unusable(source, &error))?)
            }
            SourceConfig::Amplitude(_) | SourceConfig::Objects(_) => return Ok(None),
        };
        Ok(Some(SourceSpec {
            name: source.name().to_string(),
            stream: StreamName::new(source.stream())?,
            kind: source.kind().to_string(),
            source: opened,
        }))
    };
    config.sources.iter().map(open).filter_map(Result::transpose).collect()
}

/// The sources of the configuration whose records come in slices. Those that
/// do not look by themselves take only what they are asked for. Their folders
/// in the state belong to the process that has its lock.
pub(crate) fn sliced(config: &Config, looks: bool) -> anyhow::Result<Vec<SlicedSpec>> {
    let open = |source: &SourceConfig| {
        let spool = spool(config, source);
        let mut announcements: Option<Box<dyn Announcements>> = None;
        let mut growing = None;
        let (opened, parallel, every): (Arc<dyn SlicedSource>, _, _) = match source {
            SourceConfig::Kinesis(_) | SourceConfig::AdobeLivestream(_) => return Ok(None),
            SourceConfig::Amplitude(amplitude) => {
                let opened =
                    AmplitudeSource::open(amplitude, &spool).map_err(|error| unusable(source, &error))?;
                (Arc::new(opened), amplitude.parallel, amplitude.every)
            }
            SourceConfig::Objects(objects) => {
                let opened =
                    ObjectsSource::open(objects, &spool).map_err(|error| unusable(source, &error))?;
                if looks {
                    let queue =
                        SqsAnnouncements::open(objects, &opened).map_err(|error| unusable(source, &error))?;
                    announcements = queue.map(|queue| Box::new(queue) as Box<dyn Announcements>);
                }
                growing = objects.growing();
                (Arc::new(opened), objects.at_once(), objects.every)
            }
        };
        Ok(Some(SlicedSpec {
            name: source.name().to_string(),
            stream: StreamName::new(source.stream())?,
            kind: source.kind().to_string(),
            source: opened,
            announcements,
            parallel,
            every,
            schedule: source.schedule()?,
            growing,
            wanted: Wanted::default(),
            looks,
        }))
    };
    config.sources.iter().map(open).filter_map(Result::transpose).collect()
}

/// A source of objects for a process that has no state: what must lie on the
/// disk while it is read lies in the system's folder for such files.
pub(crate) fn objects(source: &SourceConfig) -> anyhow::Result<ObjectsSource> {
    let SourceConfig::Objects(objects) = source else {
        let message = format!("the source {} has no objects", source.name());
        return Err(coded(Code::Configuration, message));
    };
    let spool = std::env::temp_dir().join("lakeward").join(&objects.name);
    ObjectsSource::open(objects, &spool).map_err(|error| unusable(source, &error))
}

/// The folder for what a source keeps on the disk while it reads.
fn spool(config: &Config, source: &SourceConfig) -> PathBuf {
    config.state.join("sources").join(source.name())
}

fn unusable(source: &SourceConfig, error: &dyn std::fmt::Display) -> anyhow::Error {
    coded(Code::Configuration, format!("the source {}: {error}", source.name()))
}

/// Tries a source: the probe's name, and what it found or what is wrong.
pub(crate) async fn probe_source(
    config: &Config,
    source: &SourceConfig,
) -> anyhow::Result<(&'static str, Result<String, Failure>)> {
    Ok(match source {
        SourceConfig::Kinesis(kinesis) => ("shards", KinesisSource::open(kinesis)?.probe().await),
        SourceConfig::Amplitude(amplitude) => ("newest hour", AmplitudeSource::probe(amplitude).await),
        SourceConfig::Objects(objects) => {
            let opened = ObjectsSource::open(objects, &spool(config, source))
                .map_err(|error| unusable(source, &error))?;
            ("list", opened.probe().await)
        }
        SourceConfig::AdobeLivestream(livestream) => {
            let opened = AdobeLivestreamSource::open(livestream, &spool(config, source))
                .map_err(|error| unusable(source, &error))?;
            ("token", opened.probe().await)
        }
    })
}

/// A function that a Firehose client named.
#[derive(Deserialize)]
#[serde(tag = "type", rename = "lambda_arn")]
struct LambdaArn {
    arn: String,
}

/// The functions that pipelines name. Their secrets are only here.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    of_pipelines: HashMap<String, FunctionConfig>,
    of_firehose: BTreeMap<String, FunctionConfig>,
    arn: StreamArn,
}

impl Functions {
    pub(crate) fn new(config: &Config) -> Self {
        let of_pipelines = config
            .pipelines
            .iter()
            .filter_map(|pipeline| pipeline.lambda.clone().map(|function| (pipeline.name.clone(), function)));
        Self {
            of_pipelines: of_pipelines.collect(),
            of_firehose: config.firehose.functions.clone(),
            arn: StreamArn {
                region: config.firehose.region.clone(),
                account_id: config.firehose.account_id.clone(),
            },
        }
    }

    /// What functions are told about streams.
    pub(crate) fn arn(&self) -> &StreamArn {
        &self.arn
    }

    /// Opens the function of a pipeline's shape.
    pub(crate) fn open(&self, pipeline: &str, lambda: &Lambda) -> Result<Arc<dyn Function>, String> {
        let config = match LambdaArn::deserialize(&lambda.function) {
            Ok(LambdaArn { arn }) => self.in_aws(&arn),
            Err(_) => {
                let pinned = FunctionConfig::deserialize(&lambda.function)
                    .map_err(|error| format!("this release does not know the function: {error}"))?;
                // A batch that was begun before a change of the configuration
                // still goes to the function that it was planned with.
                let now = self.of_pipelines.get(pipeline);
                now.filter(|now| now.without_secrets() == pinned).cloned().unwrap_or(pinned)
            }
        };
        functions::open(&config).map_err(|error| error.to_string())
    }

    /// What stands for an ARN: what the configuration says, or the function
    /// itself.
    fn in_aws(&self, arn: &str) -> FunctionConfig {
        let name = arn.split(":function:").nth(1).and_then(|rest| rest.split(':').next());
        let known = self.of_firehose.get(arn).or_else(|| self.of_firehose.get(name?));
        known.cloned().unwrap_or_else(|| FunctionConfig {
            function: Some(arn.to_string()),
            ..FunctionConfig::default()
        })
    }
}

/// Compiles a pipeline's SQL.
pub(crate) fn compile_sql(sql: &str) -> Result<Arc<dyn Transform>, TransformError> {
    SqlTransform::compile(sql).map(|compiled| Arc::new(compiled) as Arc<dyn Transform>)
}
