//! How a lake is configured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_model::{LakePath, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::{AwsAccess, AwsAccessError};

/// A lake: a folder, or a bucket of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LakeConfig {
    /// `s3://bucket/prefix/`, `file:///folder/`, or a folder's path (relative
    /// to the configuration file).
    pub url: String,
    /// S3: where the store is, and as whom it is asked.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// S3: whether the bucket is in the path (`https://host/bucket/…`) rather
    /// than in the host name. Default: true with an `endpoint`, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// S3: how the store encrypts objects.
    pub server_side_encryption: ServerSideEncryption,
    /// S3: how long one request may take, with its body.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub put_timeout: Duration,
    /// S3: files above this size go in several parts.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub multipart_size: u64,
    /// How many files of a batch are written at once.
    pub concurrency: usize,
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            aws: AwsAccess::default(),
            path_style: None,
            server_side_encryption: ServerSideEncryption::None,
            put_timeout: Duration::from_secs(60),
            multipart_size: 32 << 20,
            concurrency: 8,
        }
    }
}

/// How a store encrypts objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum ServerSideEncryption {
    /// As the bucket says.
    #[default]
    None,
    /// With the store's own keys (SSE-S3).
    Aes256,
    /// With a key of the key service (SSE-KMS).
    Kms {
        /// The key's id or ARN.
        key_id: String,
    },
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LakeConfigError {
    /// The `url` is neither a folder nor a bucket.
    #[error("url {url:?}: {problem}")]
    Url {
        /// It.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// One setting is wrong or does not fit another.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a `url` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    Folder(PathBuf),
    Bucket {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl LakeConfig {
    /// A lake at `url`, everything else by default.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Makes a relative folder relative to `folder`.
    pub fn resolve_in(&mut self, folder: &Path) {
        if let Ok(Location::Folder(path)) = self.location()
            && path.is_relative()
        {
            self.url = folder.join(path).display().to_string();
        }
    }

    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`LakeConfigError`].
    pub fn check(&self) -> Result<(), LakeConfigError> {
        let wrong =
            |setting, problem: &str| Err(LakeConfigError::Setting { setting, problem: problem.into() });
        self.location()?;
        if self.concurrency == 0 || self.concurrency > 256 {
            return wrong("concurrency", "between 1 and 256");
        }
        if self.multipart_size < 5 << 20 {
            return wrong("multipart_size", "at least 5MiB");
        }
        if self.put_timeout < Duration::from_secs(1) {
            return wrong("put_timeout", "at least 1s");
        }
        // Stores other than AWS have regions of any name.
        self.aws.check_key()?;
        Ok(self.aws.check_endpoint()?)
    }

    pub(super) fn location(&self) -> Result<Location, LakeConfigError> {
        let wrong = |problem| Err(LakeConfigError::Url { url: self.url.clone(), problem });
        if self.url.is_empty() {
            return wrong("say where the lake is: a folder, file:///folder/ or s3://bucket/prefix/");
        }
        if let Some(rest) = self.url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if bucket.is_empty() || !bucket.bytes().all(fits) {
                return wrong("a bucket's name is letters, digits, `.`, `-` and `_`");
            }
            let prefix = prefix.trim_end_matches('/');
            if !prefix.is_empty() && LakePath::new(prefix).is_err() {
                return wrong("the prefix has an empty, `.` or `..` segment, or a control character");
            }
            return Ok(Location::Bucket { bucket: bucket.into(), prefix: prefix.into() });
        }
        if let Some(path) = self.url.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if !path.starts_with('/') {
                return wrong(
                    "file:// takes an absolute path, file:///folder/; a relative one is written without",
                );
            }
            return Ok(Location::Folder(PathBuf::from(path)));
        }
        if self.url.contains("://") {
            return wrong("only s3:// and file:// are known");
        }
        Ok(Location::Folder(PathBuf::from(&self.url)))
    }
}

impl From<AwsAccessError> for LakeConfigError {
    fn from(AwsAccessError { setting, problem }: AwsAccessError) -> Self {
        Self::Setting { setting, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, expect: Option<Location>| {
            assert_eq!(LakeConfig::at(url).location().ok(), expect, "{url}");
        };
        let folder = |path: &str| Some(Location::Folder(path.into()));
        let bucket = |bucket: &str, prefix: &str| {
            Some(Location::Bucket { bucket: bucket.into(), prefix: prefix.into() })
        };
        check("./lake", folder("./lake"));
        check("/data/lake/", folder("/data/lake/"));
        check("file:///data/lake", folder("/data/lake"));
        check("s3://b", bucket("b", ""));
        check("s3://b/", bucket("b", ""));
        check("s3://my.bucket-1/a/b/", bucket("my.bucket-1", "a/b"));
        for bad in
            ["", "s3://", "s3:///x", "s3://{bucket}/", "s3://b/../x", "s3://b//x", "gs://b/", "file://x/y"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut LakeConfig), expect: Option<&str>| {
            let mut config = LakeConfig::at("s3://b/");
            change(&mut config);
            assert_eq!(
                config.check().err().map(|e| e.to_string().split(':').next().map(String::from)),
                expect.map(|e| Some(e.into()))
            );
        };
        check(|_| {}, None);
        check(|c| c.aws.endpoint = Some("http://127.0.0.1:8333".into()), None);
        check(|c| c.aws.endpoint = Some("http://[::1]:8333/".into()), None);
        check(|c| c.aws.endpoint = Some("http://localhost".into()), None);
        check(|c| c.aws.endpoint = Some("http://127.0.0.1.example.com".into()), Some("endpoint"));
        check(|c| c.aws.endpoint = Some("minio:9000".into()), Some("endpoint"));
        check(|c| c.aws.endpoint = Some("http://minio:9000".into()), Some("endpoint"));
        check(
            |c| {
                c.aws.endpoint = Some("http://minio:9000".into());
                c.aws.allow_http = true;
            },
            None,
        );
        check(|c| c.aws.region = Some("any_name".into()), None);
        check(|c| c.aws.access_key_id = Some("a".into()), Some("access_key_id"));
        check(|c| c.concurrency = 0, Some("concurrency"));
        check(|c| c.multipart_size = 1, Some("multipart_size"));
        check(|c| c.put_timeout = Duration::ZERO, Some("put_timeout"));
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secret() {
        let text = r#"{"url": "s3://b/p/", "secret_access_key": "hush", "access_key_id": "a", "put_timeout": "5s",
            "multipart_size": "16MiB", "server_side_encryption": {"kms": {"key_id": "k"}}}"#;
        let config: LakeConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!((config.multipart_size, config.put_timeout), (16 << 20, Duration::from_secs(5)));
        assert_eq!(config.server_side_encryption, ServerSideEncryption::Kms { key_id: "k".into() });
        assert!(!format!("{config:?}").contains("hush"));
        assert!(serde_json::from_str::<LakeConfig>(r#"{"url": "x", "nope": 1}"#).is_err());
        let again: LakeConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
    }

    #[test]
    fn relative_folders_are_resolved() {
        let check = |url: &str, expect: &str| {
            let mut config = LakeConfig::at(url);
            config.resolve_in(Path::new("/etc/lakeward"));
            assert_eq!(config.url, expect);
        };
        check("lake/", "/etc/lakeward/lake/");
        check("lake/{bucket}/", "/etc/lakeward/lake/{bucket}/");
        check("/lake", "/lake");
        check("s3://b/", "s3://b/");
    }
}
