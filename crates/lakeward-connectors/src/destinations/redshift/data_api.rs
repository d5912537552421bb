//! How the Redshift Data API is reached.

use std::time::Duration;

use lakeward_model::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::AwsAccess;
use crate::destinations::sql::SqlConfigError;
use crate::destinations::sql::data_api::{DataApi, Place};

/// The Redshift Data API: which warehouse, and as whom. The database's user is
/// that of the secret, or `db_user`, or follows from the IAM identity (`IAM:name`
/// or `IAMR:role`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataApiConfig {
    /// The serverless workgroup, by name or ARN; or `cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workgroup: Option<String>,
    /// The provisioned cluster's identifier; or `workgroup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A secret of AWS Secrets Manager with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_arn: Option<String>,
    /// With `cluster` and without a secret: the user that temporary credentials
    /// are made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_user: Option<String>,
    /// Where the API is, and as whom it is asked.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// How long one call may take; statements have `statement_timeout`. Default
    /// `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

impl Default for DataApiConfig {
    fn default() -> Self {
        Self {
            workgroup: None,
            cluster: None,
            secret_arn: None,
            db_user: None,
            aws: AwsAccess::default(),
            timeout: Duration::from_secs(30),
        }
    }
}

impl DataApiConfig {
    /// Checks all that can be checked without asking anyone.
    pub(super) fn check(&self) -> Result<(), SqlConfigError> {
        let wrong = |setting, problem: &str| Err(SqlConfigError::new(setting, problem));
        if self.workgroup.is_some() == self.cluster.is_some() {
            return wrong("data_api", "give workgroup (serverless) or cluster (provisioned)");
        }
        let given = [
            ("data_api.workgroup", &self.workgroup),
            ("data_api.cluster", &self.cluster),
            ("data_api.secret_arn", &self.secret_arn),
            ("data_api.db_user", &self.db_user),
        ];
        for (setting, value) in given {
            if value.as_ref().is_some_and(String::is_empty) {
                return wrong(setting, "not empty; or leave it out");
            }
        }
        if self.db_user.is_some() && (self.workgroup.is_some() || self.secret_arn.is_some()) {
            return wrong("data_api.db_user", "only with cluster, and not together with secret_arn");
        }
        if self.timeout < Duration::from_secs(1) {
            return wrong("data_api.timeout", "at least 1s");
        }
        self.aws.check().map_err(|error| SqlConfigError::new("data_api", error.to_string()))
    }

    /// The client for a database.
    pub(super) fn open(
        &self,
        database: &str,
        statement_timeout: Duration,
    ) -> Result<DataApi, SqlConfigError> {
        let place = Place {
            workgroup_name: self.workgroup.clone(),
            cluster_identifier: self.cluster.clone(),
            database: database.into(),
            secret_arn: self.secret_arn.clone(),
            db_user: self.db_user.clone(),
        };
        DataApi::open(&self.aws, place, self.timeout, statement_timeout)
            .map_err(|error| SqlConfigError::new("data_api", error.to_string()))
    }
}
