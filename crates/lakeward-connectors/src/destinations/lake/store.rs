//! What a lake and the objects of a source have in common: how a bucket is
//! opened for reading, and what its answers mean.

use object_store::aws::AmazonS3;

use super::s3::S3;
use super::{LakeConfig, LakeConfigError};

pub(crate) use super::s3::failures::{of_others as other_failed, of_reading as reading_failed};
pub(crate) use super::s3::replies::{Reply, WatchedConnector, watch};

/// A bucket, with a few more tries when it fails for a moment. Touches nothing.
///
/// # Errors
/// The configuration cannot be used; nothing but a change of it helps.
pub(crate) fn for_reading(config: &LakeConfig, bucket: &str) -> Result<AmazonS3, LakeConfigError> {
    S3::for_reading(config, bucket)
}
