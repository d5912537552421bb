//! A lake in a bucket of an S3-compatible store.
//!
//! Small files go in one create-only put (`If-None-Match: *`). Files above
//! `multipart_size` are looked for first and go in parts; a race there ends in
//! one of two equal objects. A store that answers a conditional put with 501 is
//! asked first whether the name is taken and then written to plainly: names
//! derive from the batch id and one process owns a state directory, so that
//! what could be overwritten is the same batch.
//!
//! Nothing is retried here: the engine has the only retry loop.

mod credentials;
pub(super) mod failures;
pub(super) mod replies;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakeward_model::{DataFile, Failure, FailureKind, LakePath, Timestamp};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, Error, GetOptions, GetRange, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};

use super::{LakeConfig, LakeConfigError, LakeObject, Put, ServerSideEncryption};
use credentials::Credentials;
use replies::{Reply, WatchedConnector};

/// The size of a part; the last one is smaller.
const PART: usize = 16 << 20;

/// How many parts of one file are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// A lake in a bucket.
#[derive(Debug)]
pub(super) struct S3 {
    store: AmazonS3,
    bucket: String,
    /// Without slashes at its ends; may be empty.
    prefix: String,
    multipart_size: u64,
    /// The store has answered a conditional put with 501.
    unconditional: AtomicBool,
}

impl S3 {
    pub(super) fn open(config: &LakeConfig, bucket: String, prefix: String) -> Result<Self, LakeConfigError> {
        let store = builder(config, &bucket)
            .build()
            .map_err(|error| LakeConfigError::Setting { setting: "url", problem: error.to_string() })?;
        let unconditional = AtomicBool::new(false);
        Ok(Self { store, bucket, prefix, multipart_size: config.multipart_size, unconditional })
    }

    /// The bucket alone, with a few more tries when the store fails for a
    /// moment: for reading, which the engine's retry loop has no part in.
    pub(crate) fn for_reading(config: &LakeConfig, bucket: &str) -> Result<AmazonS3, LakeConfigError> {
        let retry = RetryConfig { max_retries: 3, ..RetryConfig::default() };
        builder(config, bucket)
            .with_retry(retry)
            .build()
            .map_err(|error| LakeConfigError::Setting { setting: "url", problem: error.to_string() })
    }

    pub(super) async fn put(&self, file: &DataFile) -> Result<Put, Failure> {
        if file.body.len() as u64 > self.multipart_size {
            return self.put_in_parts(file).await;
        }
        if self.unconditional.load(Ordering::Relaxed) {
            return self.put_after_looking(file).await;
        }
        self.create(file).await
    }

    /// One create-only put.
    pub(super) async fn create(&self, file: &DataFile) -> Result<Put, Failure> {
        let key = self.key(&file.path)?;
        let (result, reply) = replies::watch(self.put_whole(&key, file, PutMode::Create)).await;
        match (result, reply.status) {
            (Ok(()), _) => Ok(Put::Created),
            (Err(Error::AlreadyExists { .. }), status) => self.what_is_there(&key, file, status).await,
            (Err(_), Some(501)) => {
                tracing::warn!(lake = %self, "the store knows no conditional puts: each name is looked for first");
                self.unconditional.store(true, Ordering::Relaxed);
                self.put_after_looking(file).await
            }
            (Err(error), _) => Err(failures::of("put", &self.address(&key), error, &reply)),
        }
    }

    /// After a put that was refused because of another object: what it is.
    async fn what_is_there(&self, key: &Path, file: &DataFile, status: Option<u16>) -> Result<Put, Failure> {
        match self.head(key).await {
            Ok(Some(there)) => Ok(Put::AlreadyThere { bytes: there.size }),
            // 412 says that it is there; we may be allowed to write and not to look.
            Err(failure) if failure.kind == FailureKind::Refused && status == Some(412) => {
                Ok(Put::AlreadyThere { bytes: file.body.len() as u64 })
            }
            Err(failure) => Err(failure),
            // 409: another write of the name was under way, and nothing came of it.
            Ok(None) => {
                let message = format!("another write of {} was under way", self.address(key));
                Err(Failure::new(FailureKind::NotDone, message))
            }
        }
    }

    async fn put_after_looking(&self, file: &DataFile) -> Result<Put, Failure> {
        let key = self.key(&file.path)?;
        if let Some(there) = self.head(&key).await? {
            return Ok(Put::AlreadyThere { bytes: there.size });
        }
        let (result, reply) = replies::watch(self.put_whole(&key, file, PutMode::Overwrite)).await;
        result.map_err(|error| failures::of("put", &self.address(&key), error, &reply))?;
        Ok(Put::Created)
    }

    async fn put_whole(&self, key: &Path, file: &DataFile, mode: PutMode) -> object_store::Result<()> {
        let options = PutOptions { mode, attributes: attributes(file), ..PutOptions::default() };
        self.store.put_opts(key, PutPayload::from_bytes(file.body.clone()), options).await?;
        Ok(())
    }

    async fn put_in_parts(&self, file: &DataFile) -> Result<Put, Failure> {
        let key = self.key(&file.path)?;
        if let Some(there) = self.head(&key).await? {
            return Ok(Put::AlreadyThere { bytes: there.size });
        }
        let failed = |error, reply: &Reply| failures::of("put", &self.address(&key), error, reply);
        let options = PutMultipartOptions { attributes: attributes(file), ..PutMultipartOptions::default() };
        let (begun, reply) = replies::watch(self.store.put_multipart_opts(&key, options)).await;
        let mut upload = begun.map_err(|error| failed(error, &reply))?;
        let (sent, reply) = replies::watch(send_parts(upload.as_mut(), &file.body)).await;
        if let Err(error) = sent {
            // What stays of it costs until the bucket's lifecycle rule ends it.
            if let Err(error) = upload.abort().await {
                tracing::warn!(lake = %self, %error, "an unfinished multipart upload stays behind");
            }
            return Err(failed(error, &reply));
        }
        Ok(Put::Created)
    }

    async fn head(&self, key: &Path) -> Result<Option<ObjectMeta>, Failure> {
        match replies::watch(self.store.head(key)).await {
            (Ok(there), _) => Ok(Some(there)),
            // A missing bucket answers 404 too; the put that follows says so.
            (Err(Error::NotFound { .. }), _) => Ok(None),
            (Err(error), reply) => Err(failures::of("look at", &self.address(key), error, &reply)),
        }
    }

    pub(super) async fn get(&self, path: &LakePath, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let key = self.key(path)?;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let read = async { self.store.get_opts(&key, options).await?.bytes().await };
        let (result, reply) = replies::watch(read).await;
        result.map_err(|error| failures::of("read", &self.address(&key), error, &reply))
    }

    pub(super) async fn delete(&self, path: &LakePath) -> Result<(), Failure> {
        let key = self.key(path)?;
        let (result, reply) = replies::watch(self.store.delete(&key)).await;
        match result {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result.map_err(|error| failures::of("delete", &self.address(&key), error, &reply)),
        }
    }

    /// Everything below `folder`.
    pub(super) fn list(&self, folder: &str) -> BoxStream<'static, Result<LakeObject, Failure>> {
        let below = match (self.prefix.as_str(), folder) {
            ("", folder) => folder.to_string(),
            (prefix, "") => prefix.to_string(),
            (prefix, folder) => format!("{prefix}/{folder}"),
        };
        let place = format!("s3://{}/{below}", self.bucket);
        let below = match Path::parse(&below) {
            Ok(below) => below,
            Err(error) => {
                let message = format!("cannot list {place}: {error}");
                return futures::stream::iter([Err(Failure::new(FailureKind::Refused, message))]).boxed();
            }
        };
        let ours = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let objects = Some(self.store.list(Some(&below)));
        futures::stream::unfold(objects, move |objects| {
            let (place, ours) = (place.clone(), ours.clone());
            async move { next_listed(objects?, &place, &ours).await }
        })
        .boxed()
    }

    fn key(&self, path: &LakePath) -> Result<Path, Failure> {
        let key = if self.prefix.is_empty() { path.to_string() } else { format!("{}/{path}", self.prefix) };
        let refused = |problem: String| Failure::new(FailureKind::Refused, format!("{key:?}: {problem}"));
        if key.len() > 1024 {
            return Err(refused(String::from(
                "a key has at most 1,024 bytes; shorten the path or the prefix",
            )));
        }
        Path::parse(&key).map_err(|error| refused(error.to_string()))
    }

    fn address(&self, key: &Path) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "{}/", self.prefix) }
    }
}

type Listing = BoxStream<'static, object_store::Result<ObjectMeta>>;

/// The next object of ours, and the rest of the listing, which ends with its
/// first error.
async fn next_listed(
    mut objects: Listing,
    place: &str,
    ours: &str,
) -> Option<(Result<LakeObject, Failure>, Option<Listing>)> {
    loop {
        let (next, reply) = replies::watch(objects.try_next()).await;
        match next {
            Ok(Some(found)) => {
                let path =
                    found.location.as_ref().strip_prefix(ours).and_then(|path| LakePath::new(path).ok());
                if let Some(path) = path {
                    let modified = Timestamp(found.last_modified.timestamp_micros());
                    return Some((Ok(LakeObject { path, size: found.size, modified }), Some(objects)));
                }
            }
            Ok(None) => return None,
            Err(error) => return Some((Err(failures::of("list", place, error, &reply)), None)),
        }
    }
}

async fn send_parts(upload: &mut dyn MultipartUpload, body: &Bytes) -> object_store::Result<()> {
    let parts: Vec<_> = (0..body.len())
        .step_by(PART)
        .map(|start| upload.put_part(PutPayload::from_bytes(body.slice(start..body.len().min(start + PART)))))
        .collect();
    futures::stream::iter(parts).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await?;
    upload.complete().await?;
    Ok(())
}

/// What Firehose sets too: its content type, and the encoding of the body.
fn attributes(file: &DataFile) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, "application/octet-stream".into());
    if let Some(encoding) = file.content_encoding {
        attributes.insert(Attribute::ContentEncoding, encoding.as_str().into());
    }
    attributes
}

fn builder(config: &LakeConfig, bucket: &str) -> AmazonS3Builder {
    let access = &config.aws;
    let endpoint = access.endpoint_of("s3");
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let http = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let client = ClientOptions::new()
        .with_timeout(config.put_timeout)
        .with_connect_timeout(Duration::from_secs(10).min(config.put_timeout))
        .with_allow_http(http);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(access.region())
        .with_retry(retry)
        .with_client_options(client)
        .with_http_connector(WatchedConnector)
        .with_credentials(Arc::new(Credentials::new(access)));
    let path_style = config.path_style.unwrap_or(endpoint.is_some());
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = endpoint {
        let endpoint = endpoint.trim_end_matches('/');
        // object_store takes the bucket's own host as the endpoint then.
        let hosted = endpoint.replacen("://", &format!("://{bucket}."), 1);
        builder = builder.with_endpoint(if path_style { endpoint } else { &hosted });
    }
    match &config.server_side_encryption {
        ServerSideEncryption::None => builder,
        ServerSideEncryption::Aes256 => {
            let key = "aws_server_side_encryption".parse().expect("object_store knows the key");
            builder.with_config(key, "AES256")
        }
        ServerSideEncryption::Kms { key_id } => builder.with_sse_kms_encryption(key_id),
    }
}
