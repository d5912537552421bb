//! What a `url` means.

use std::path::PathBuf;

use lakeward_model::LakePath;

use super::config::{ObjectsConfig, ObjectsConfigError, wrong};

/// Where objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket {
        vendor: Vendor,
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// Whose API a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    S3,
    Google,
    Azure,
}

impl Vendor {
    /// How its addresses start.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

impl Place {
    pub(super) fn of(config: &ObjectsConfig) -> Result<Self, ObjectsConfigError> {
        let url = config.url.as_str();
        if url.is_empty() {
            return wrong(
                "url",
                "say where the objects are: a folder, file:///folder/ or s3://bucket/prefix/",
            );
        }
        for vendor in [Vendor::S3, Vendor::Google, Vendor::Azure] {
            let rest = url.strip_prefix(vendor.scheme()).and_then(|rest| rest.strip_prefix("://"));
            if let Some(rest) = rest {
                return Self::bucket(vendor, rest, config);
            }
        }
        if let Some(path) = url.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if !path.starts_with('/') {
                return wrong("url", "file:// takes an absolute path: file:///folder/");
            }
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        if url.contains("://") {
            return wrong("url", format!("{url:?}: only s3://, gs://, az:// and file:// are known"));
        }
        Ok(Self::Folder(PathBuf::from(url)))
    }

    fn bucket(vendor: Vendor, rest: &str, config: &ObjectsConfig) -> Result<Self, ObjectsConfigError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'$');
        if bucket.is_empty() || !bucket.bytes().all(fits) {
            return wrong("url", "a bucket's name is letters, digits, `.`, `-` and `_`");
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.contains(['*', '?', '{']) {
            return wrong("url", "no wildcards in it: put them into `glob` or `pattern`");
        }
        if !prefix.is_empty() && LakePath::new(prefix).is_err() {
            return wrong("url", "the prefix has an empty, `.` or `..` segment, or a control character");
        }
        let place = Self::Bucket { vendor, bucket: bucket.into(), prefix: prefix.into() };
        match vendor {
            Vendor::S3 => config.lake().check().or_else(|error| match error {
                crate::destinations::lake::LakeConfigError::Setting { setting: "put_timeout", problem } => {
                    wrong("timeout", problem)
                }
                crate::destinations::lake::LakeConfigError::Setting { setting, problem } => {
                    wrong(setting, problem)
                }
                other => wrong("url", other.to_string()),
            })?,
            Vendor::Google | Vendor::Azure if config.aws.access_key_id.is_some() => {
                return wrong("access_key_id", "only for s3://; others take their environment's credentials");
            }
            Vendor::Google | Vendor::Azure => {
                let checked = config.aws.check_endpoint();
                checked.or_else(|error| wrong(error.setting, error.problem))?;
            }
        }
        Ok(place)
    }
}
