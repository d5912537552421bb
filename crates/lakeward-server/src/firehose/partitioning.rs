//! DynamicPartitioningConfiguration: what must come together for it.
//!
//! The words are AWS's own (contract, section 2.6). Rules that only protect
//! AWS's service, such as large buffers, can be let pass ([`Rules::Lenient`]):
//! other emulators of the service never had them.

use lakeward_columnar::path::{Kind, Template};
use lakeward_columnar::process::{PartitionKey, Processor};
use lakeward_columnar::shape::Processing;
use serde::Deserialize;

use super::fault::Fault;
use super::processors::Processors;

pub(super) const BUFFER_MEBIBYTES: u64 = 128;
const BUFFER_MEBIBYTES_MIN: u64 = 64;
const BUFFER_SECONDS_MIN: u64 = 60;
pub(super) const RETRY_SECONDS: u64 = 300;

/// Whether AWS's rules about sizes and completeness hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// As at AWS.
    Strict,
    /// What AWS would refuse is accepted with a warning, where we can do it.
    Lenient,
}

impl Rules {
    /// A rule that only AWS needs is broken.
    pub(super) fn broken(self, message: &str) -> Result<(), Fault> {
        match self {
            Self::Strict => Err(Fault::invalid_argument(message)),
            Self::Lenient => {
                tracing::warn!(message, "accepted a delivery stream that AWS would refuse");
                Ok(())
            }
        }
    }
}

/// DynamicPartitioningConfiguration.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Partitioning {
    pub(super) enabled: bool,
}

impl Partitioning {
    /// How a prefix is read.
    pub(super) fn kind(self) -> Kind {
        if self.enabled { Kind::KeyedPrefix } else { Kind::Prefix }
    }

    /// Checks what dynamic partitioning needs, if it is on; hints are in MiB
    /// and seconds.
    pub(super) fn check(
        self,
        prefix: &Template,
        processors: &Processors,
        hints: (Option<u64>, Option<u64>),
        rules: Rules,
    ) -> Result<(), Fault> {
        if !self.enabled {
            return Ok(());
        }
        if hints.0.is_some_and(|mebibytes| mebibytes < BUFFER_MEBIBYTES_MIN) {
            rules.broken(
                "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.",
            )?;
        }
        if hints.1.is_some_and(|seconds| seconds < BUFFER_SECONDS_MIN) {
            rules.broken(
                "BufferingHints.IntervalInSeconds must be at least 60 seconds when Dynamic Partitioning is enabled.",
            )?;
        }
        let keys = prefix.partition_keys();
        let (lambda, query) = (processors.has("Lambda"), processors.has("MetadataExtraction"));
        if keys.is_empty() {
            rules.broken(
                "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled",
            )?;
        }
        if !lambda && !query {
            let message = "Processing Configuration is not enabled when DataPartitioning is enabled";
            if keys.is_empty() { rules.broken(message)? } else { Rules::Strict.broken(message)? }
        }
        if !lambda && keys.iter().any(|key| matches!(key, PartitionKey::Lambda(_))) {
            return Err(Fault::invalid_argument(
                "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace",
            ));
        }
        if !query && keys.iter().any(|key| matches!(key, PartitionKey::Query(_))) {
            return Err(Fault::invalid_argument(
                "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace",
            ));
        }
        Ok(())
    }
}

/// Checks what only compiling the processors tells.
pub(super) fn check_compiles(processing: &Processing, keys: Vec<PartitionKey>) -> Result<(), Fault> {
    Processor::new(processing, keys).map(drop).map_err(|error| {
        Fault::invalid_argument(match error.field {
            "partition_query" => format!("MetadataExtractionQuery is invalid: {}.", error.reason),
            _ => format!("ProcessingConfiguration is invalid: {error}."),
        })
    })
}
