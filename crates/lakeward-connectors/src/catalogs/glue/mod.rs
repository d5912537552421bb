//! The AWS Glue Data Catalog (contract `aws-and-launchdarkly.md`, section 5).
//!
//! Every registration reads the table, makes or changes it if need be, and adds
//! partitions. Each step looks at what is there, so the whole may be asked for
//! again after any failure; nothing is tried again here but what another writer
//! got in the way of.

mod config;
mod merge;
mod partitions;
pub mod projection;
mod table;
mod types;

use lakeward_model::{Catalog, CatalogAnswer, Failure, FailureKind, Registered, Registration};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::hive::{self, HiveColumns};
use crate::aws_json::{AwsError, AwsJson, AwsService};
pub use config::{GlueConfig, GlueConfigError, table_name};
use partitions::Added;
use projection::Projection;
pub use table::{address, serde_parameters, storage_classes};

const GLUE: AwsService =
    AwsService { name: "glue", target: "AWSGlue", content_type: "application/x-amz-json-1.1" };

/// How often a table is read again because somebody else changed it meanwhile.
const ROUNDS: usize = 8;

/// The actions that the credentials need.
const ACTIONS: &str = "glue:GetTable, glue:CreateTable, glue:UpdateTable, glue:CreateDatabase, \
                       glue:BatchCreatePartition, glue:BatchGetPartition, glue:GetPartitions and \
                       glue:BatchUpdatePartition";

/// One table of a catalog. It prints as `glue database.table`.
#[derive(Debug)]
pub struct Glue {
    aws: AwsJson,
    catalog_id: Option<String>,
    database: String,
    table: String,
    projection: Option<Projection>,
}

/// What a step of a registration found.
enum Step {
    /// It is done; the columns of new partitions, the table's descriptor, and
    /// when it was made.
    Ready { columns: Vec<Value>, descriptor: Option<Value>, made: Option<String> },
    /// The table is not there, or it is another one.
    Missing,
    /// Somebody changed it meanwhile, or it was just made; look again.
    Again,
}

#[derive(Deserialize)]
struct GetTableReply {
    #[serde(rename = "Table")]
    table: Map<String, Value>,
}

impl Glue {
    /// Opens the catalog for a pipeline. Asks nobody: the first registration
    /// does.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &GlueConfig, pipeline: &str) -> Result<Self, GlueConfigError> {
        config.check()?;
        let aws = AwsJson::open(GLUE, &config.aws, config.timeout)
            .map_err(|error| GlueConfigError { setting: error.setting, problem: error.problem })?;
        let projection = config.projection.then(|| Projection {
            from: config.projection_from.clone(),
            values: config.projection_values.clone(),
        });
        Ok(Self {
            aws,
            catalog_id: config.catalog_id.clone(),
            database: config.database.clone(),
            table: config.table_for(pipeline),
            projection,
        })
    }

    /// Asks for the table and changes nothing: what a person wants to know before
    /// a pipeline runs. The text says whether it is there.
    ///
    /// # Errors
    /// The catalog cannot be reached or refuses us; the text says what to do.
    pub async fn probe(&self) -> Result<String, Failure> {
        match self.call::<GetTableReply>("GetTable", json!({ "Name": self.table })).await {
            Ok(_) => Ok(format!("the table {} is there; what is missing is added to it", self.name())),
            Err(error) if error.code() == "EntityNotFoundException" => {
                Ok(format!("the table {} is not there yet; it will be made", self.name()))
            }
            Err(error) => Err(failure(error)),
        }
    }

    /// Reads the table, and makes or changes it.
    async fn look(&self, wanted: &Registration, columns: &HiveColumns) -> Result<Step, Failure> {
        let reply = self.call::<GetTableReply>("GetTable", json!({ "Name": self.table })).await;
        let there = match reply {
            Ok(reply) => reply.table,
            Err(error) if error.code() == "EntityNotFoundException" => {
                return if wanted.from_the_start {
                    self.create(wanted, columns).await
                } else {
                    Ok(Step::Missing)
                };
            }
            Err(error) => return Err(failure(error)),
        };
        // An update keeps it.
        let made = there.get("CreateTime").filter(|time| !time.is_null()).map(Value::to_string);
        if wanted.made.is_some() && made.is_some() && wanted.made != made {
            return Ok(Step::Missing);
        }
        let version = there.get("VersionId").and_then(Value::as_str);
        let change =
            merge::plan(&there, &wanted.table, columns, self.projection.as_ref()).map_err(|differs| {
                Failure::new(FailureKind::Refused, format!("the table {}: {differs}", self.name()))
            })?;
        if !change.retyped.is_empty() {
            // Before the table: if we die in between, the table still says that it is to be done.
            self.retype_partitions(&change.retyped).await?;
        }
        if let Some(table) = change.table {
            let mut input = json!({ "TableInput": table, "SkipArchive": true });
            if let Some(version) = version {
                input["VersionId"] = Value::from(version);
            }
            match self.call::<Value>("UpdateTable", input).await {
                Ok(_) => {
                    tracing::info!(table = self.name(), "the catalog's table has new columns or properties")
                }
                Err(error) if is_race(&error) || error.code() == "EntityNotFoundException" => {
                    return Ok(Step::Again);
                }
                Err(error) => return Err(failure(error)),
            }
        }
        let descriptor = there.get("StorageDescriptor").cloned();
        Ok(Step::Ready { columns: change.columns, descriptor, made })
    }

    /// Makes the table, and the database if that is missing.
    async fn create(&self, wanted: &Registration, columns: &HiveColumns) -> Result<Step, Failure> {
        let table = table::input(&self.table, &wanted.table, columns, self.projection.as_ref());
        let create = || self.call::<Value>("CreateTable", json!({ "TableInput": table.clone() }));
        let mut created = create().await;
        if created.as_ref().is_err_and(|error| error.code() == "EntityNotFoundException") {
            let database = json!({ "Name": self.database, "Description": "Made by Lakeward" });
            let mut input = json!({ "DatabaseInput": database });
            self.add_catalog_id(&mut input);
            match self.aws.call::<_, Value>("CreateDatabase", &input).await {
                Ok(_) => tracing::info!(database = self.database, "the catalog's database is made"),
                Err(error) if error.code() == "AlreadyExistsException" => {}
                Err(error) => return Err(failure(error)),
            }
            created = create().await;
        }
        match created {
            Ok(_) => {
                tracing::info!(table = self.name(), "the catalog's table is made");
                // When it was made, only a look says.
                Ok(Step::Again)
            }
            Err(error) if is_race(&error) || error.code() == "AlreadyExistsException" => Ok(Step::Again),
            Err(error) => Err(failure(error)),
        }
    }

    /// Calls an operation on the database.
    async fn call<O: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        mut input: Value,
    ) -> Result<O, AwsError> {
        input["DatabaseName"] = Value::from(self.database.clone());
        self.add_catalog_id(&mut input);
        self.aws.call(operation, &input).await
    }

    fn add_catalog_id(&self, input: &mut Value) {
        if let Some(id) = &self.catalog_id {
            input["CatalogId"] = Value::from(id.clone());
        }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }
}

impl std::fmt::Display for Glue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "glue {}", self.name())?;
        if self.projection.is_some() { f.write_str(" (projection)") } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl Catalog for Glue {
    async fn register(&self, registration: &Registration) -> Result<Registered, Failure> {
        let mut hive = hive::columns(&registration.table);
        for _ in 0..ROUNDS {
            match self.look(registration, &hive).await? {
                Step::Again => {}
                Step::Missing => return Ok(Registered::TableMissing),
                Step::Ready { columns, descriptor, made } => {
                    let mut elsewhere = Vec::new();
                    if self.projection.is_none() && !registration.table.partition_keys.is_empty() {
                        let storage = |location: &str| {
                            merge::partition_storage(
                                descriptor.as_ref(),
                                &registration.table,
                                &columns,
                                location,
                            )
                        };
                        match self.create_partitions(&registration.partitions, storage).await? {
                            Added::NoTable => continue,
                            Added::All { elsewhere: found } => elsewhere = found,
                        }
                    }
                    if !registration.table.location.starts_with("s3://") {
                        hive.notes.push(String::from("the lake is a local folder, which Athena cannot read"));
                    }
                    return Ok(Registered::Done(CatalogAnswer { notes: hive.notes, made, elsewhere }));
                }
            }
        }
        let message = format!("others keep changing the table {}", self.name());
        Err(Failure::new(FailureKind::NotDone, message))
    }
}

/// Whether another writer was in the way.
fn is_race(error: &AwsError) -> bool {
    matches!(error.code(), "ConcurrentModificationException" | "VersionMismatchException")
}

/// An error of the service in the words of a connector.
fn failure(error: AwsError) -> Failure {
    match error.code() {
        // The service's own faults that it answers as if the caller were at fault.
        "ConcurrentModificationException" | "OperationTimeoutException" | "InternalServiceException" => {
            let problem = error.problem();
            Failure {
                retry_after: problem.retry_after,
                ..Failure::new(FailureKind::Unknown, problem.to_string())
            }
        }
        "AccessDeniedException" => {
            let mut failure = error.into_failure();
            failure.message.push_str(&format!(
                " (the credentials need {ACTIONS}, and in Lake Formation the same of the table)"
            ));
            failure
        }
        _ => error.into_failure(),
    }
}
