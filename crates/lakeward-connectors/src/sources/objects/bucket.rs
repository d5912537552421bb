//! Objects of a bucket: S3, Google Cloud Storage, Azure Blob Storage.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_model::{Failure, FailureKind, SliceFailure, Timestamp};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{Error as PathError, Path};
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};

use super::config::{ObjectsConfig, ObjectsConfigError, wrong};
use super::names::Object;
use super::place::Vendor;
use crate::destinations::lake::store::{self, Reply, WatchedConnector};

/// How many keys that cannot be are stepped over before the caller is asked to
/// come again.
const ODD_KEYS_AT_ONCE: usize = 100;

/// A store that lists in pages.
pub(super) trait Remote: ObjectStore + PaginatedListStore {}
impl<S: ObjectStore + PaginatedListStore> Remote for S {}

/// A prefix of a bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn Remote>,
    vendor: Vendor,
    name: String,
    /// Empty, or with a slash at its end.
    pub(super) prefix: String,
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) objects: Vec<Object>,
    /// The name behind which the list goes on.
    pub(super) next: Option<String>,
    /// A key that nobody can ask for, and how many there were of them.
    pub(super) odd: Option<(String, usize)>,
}

impl Bucket {
    pub(super) fn open(
        config: &ObjectsConfig,
        vendor: Vendor,
        bucket: &str,
        prefix: &str,
    ) -> Result<Self, ObjectsConfigError> {
        let retry = RetryConfig { max_retries: 3, ..RetryConfig::default() };
        let plain = config.aws.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new().with_timeout(config.timeout).with_allow_http(plain);
        let opened: object_store::Result<Arc<dyn Remote>> = match vendor {
            Vendor::S3 => match store::for_reading(&config.lake(), bucket) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => return wrong("url", error.to_string()),
            },
            Vendor::Google => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                if let Some(endpoint) = &config.aws.endpoint {
                    builder = builder.with_base_url(endpoint.trim_end_matches('/'));
                }
                let builder = builder.with_retry(retry).with_client_options(client);
                builder.with_http_connector(WatchedConnector).build().map(|store| Arc::new(store) as _)
            }
            Vendor::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                if let Some(endpoint) = &config.aws.endpoint {
                    builder = builder.with_endpoint(endpoint.trim_end_matches('/').into());
                }
                let builder = builder.with_retry(retry).with_client_options(client).with_allow_http(plain);
                builder.with_http_connector(WatchedConnector).build().map(|store| Arc::new(store) as _)
            }
        };
        let store = opened.or_else(|error| wrong("url", error.to_string()))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store, vendor, name: bucket.into(), prefix })
    }

    /// The bucket's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the keys of all its objects begin with: empty, or with a slash at
    /// its end.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The object's name, if its key is below the prefix.
    pub(super) fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.prefix).filter(|name| !name.is_empty())
    }

    pub(super) fn address(&self, name: &str) -> String {
        format!("{}://{}/{}{name}", self.vendor.scheme(), self.name, self.prefix)
    }

    /// The next objects whose name starts with `prefix` and lies behind
    /// `after`, in the order of their names. One request, if no key is odd: one
    /// with an empty, `.` or `..` segment breaks the whole page that it is on,
    /// so smaller pages are asked for until it is alone and can be stepped over.
    /// For keys that start or end with a slash see [`super::slashes`].
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Listed, Failure> {
        let below = format!("{}{prefix}", self.prefix);
        let mut after = after.map(|after| format!("{}{after}", self.prefix));
        let slashed = self.slashed(&below, after.as_deref()).await?;
        // They are counted on the first page of a list.
        let mut odd = slashed.clone().filter(|_| after.is_none());
        let (mut count, mut token, mut objects) = (count.max(1), None, Vec::new());
        loop {
            let options = PaginatedListOptions {
                offset: after.clone(),
                max_keys: Some(count),
                page_token: token.take(),
                ..PaginatedListOptions::default()
            };
            let (listed, reply) = store::watch(self.store.list_paginated(Some(&below), options)).await;
            let page = match listed {
                Ok(page) => page,
                Err(Error::InvalidPath { source }) => {
                    let Some(key) = odd_key(&source).map(String::from) else {
                        return Err(strange(source.to_string()));
                    };
                    if count > 1 {
                        count /= 2;
                        continue;
                    }
                    let many = odd.as_ref().map_or(0, |(_, many)| *many) + 1;
                    odd = Some((key.clone(), many));
                    if many >= ODD_KEYS_AT_ONCE {
                        let next = self.name_of(&key).map(String::from);
                        return Ok(Listed { objects: Vec::new(), next, odd });
                    }
                    after = Some(key);
                    count = 2;
                    continue;
                }
                Err(error) => return Err(self.failure("list", &self.address(prefix), error, &reply)),
            };
            let more = page.page_token.is_some();
            let straight = self.straight(page.result.objects, after.as_deref(), slashed.is_some()).await?;
            odd = match (odd, straight.odd) {
                (Some((key, many)), Some((_, more))) => Some((key, many + more)),
                (odd, other) => odd.or(other),
            };
            objects.extend(straight.objects.into_iter().filter_map(|found| self.object(found)));
            if let Some(jump) = straight.jump {
                return Ok(Listed { objects, next: Some(jump.into()), odd });
            }
            let last = straight.last;
            let stuck = last.is_none() || last.as_deref() <= after.as_deref();
            if more && stuck {
                token = page.page_token;
                continue;
            }
            let next = last.filter(|_| more).and_then(|last| self.name_of(&last).map(String::from));
            return Ok(Listed { objects, next, odd });
        }
    }

    /// One object as it is now; nothing if it is not there.
    pub(super) async fn head(&self, name: &str) -> Result<Option<Object>, Failure> {
        let Ok(path) = self.path(name) else { return Ok(None) };
        match store::watch(self.store.head(&path)).await {
            (Ok(found), _) => Ok(self.object(found)),
            (Err(error), reply) if is_missing(&error, &reply) => Ok(None),
            (Err(error), reply) => Err(self.failure("look at", &self.address(name), error, &reply)),
        }
    }

    /// The bytes `range` of the object, or all of it, if it still has this
    /// version.
    pub(super) async fn get(
        &self,
        name: &str,
        version: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, SliceFailure> {
        let address = self.address(name);
        let path = self.path(name).map_err(|error| SliceFailure::Broken(format!("{address}: {error}")))?;
        let options = GetOptions {
            range: range.clone().map(GetRange::Bounded),
            if_match: (!version.is_empty()).then(|| format!("\"{version}\"")),
            ..GetOptions::default()
        };
        let read = async {
            let found = self.store.get_opts(&path, options).await?;
            let etag = bare(found.meta.e_tag.as_deref());
            found.bytes().await.map(|bytes| (bytes, etag))
        };
        let (bytes, etag) = match store::watch(read).await {
            (Ok(read), _) => read,
            (Err(Error::Precondition { .. }), _) => return Err(changed(&address)),
            (Err(error), reply) if is_missing(&error, &reply) => {
                if let Some(key) = self.key_with_slash(name, version).await {
                    return Err(SliceFailure::Broken(format!(
                        "{address}: its key is {key:?}, and one that starts or ends with a slash cannot be \
                         asked for: copy the object to another key"
                    )));
                }
                return Err(SliceFailure::Gone(format!("{address} is not there any more")));
            }
            (Err(error), reply) => {
                if is_archived(&error, &reply) {
                    return Err(SliceFailure::Broken(format!(
                        "{address} is archived: restore it, or leave it out by `glob`; a run tries it again"
                    )));
                }
                return Err(SliceFailure::Source(self.failure("read", &address, error, &reply)));
            }
        };
        // A store that does not know If-Match.
        if !version.is_empty() && !etag.is_empty() && etag != version {
            return Err(changed(&address));
        }
        let expected = range.map_or(bytes.len() as u64, |range| range.end - range.start);
        if bytes.len() as u64 != expected {
            let problem = format!("cannot read {address}: {} bytes came of {expected}", bytes.len());
            return Err(SliceFailure::Source(Failure::new(FailureKind::Unknown, problem)));
        }
        Ok(bytes)
    }

    fn path(&self, name: &str) -> Result<Path, PathError> {
        Path::parse(format!("{}{name}", self.prefix))
    }

    fn object(&self, found: ObjectMeta) -> Option<Object> {
        let name = self.name_of(found.location.as_ref())?.to_string();
        let modified = Timestamp(found.last_modified.timestamp_micros());
        Some(Object { name, version: bare(found.e_tag.as_deref()), bytes: found.size, modified })
    }

    pub(super) fn failure(&self, action: &str, address: &str, error: Error, reply: &Reply) -> Failure {
        match self.vendor {
            Vendor::S3 => store::reading_failed(action, address, error, reply),
            Vendor::Google | Vendor::Azure => store::other_failed(action, address, error, reply),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address(""))
    }
}

/// An etag as notifications have it: without quotes.
pub(super) fn bare(etag: Option<&str>) -> String {
    let etag = etag.unwrap_or_default();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_string()
}

/// The key that no path can have.
pub(super) fn odd_key(error: &PathError) -> Option<&str> {
    match error {
        PathError::EmptySegment { path } | PathError::BadSegment { path, .. } => Some(path),
        _ => None,
    }
}

/// A 404 for the object, not for its bucket.
fn is_missing(error: &Error, reply: &Reply) -> bool {
    matches!(error, Error::NotFound { .. })
        && reply.status.is_none_or(|status| status == 404)
        && !["NoSuchBucket", "ContainerNotFound"].iter().any(|code| error.to_string().contains(code))
}

/// Whether the object is in an archive such as Glacier, which is no refusal of
/// the bucket. S3 says `InvalidObjectState` (API reference, "Error responses"),
/// Azure `BlobArchived`.
fn is_archived(error: &Error, reply: &Reply) -> bool {
    let said = error.to_string();
    matches!(reply.status, Some(403 | 409))
        && ["<Code>InvalidObjectState<", "<Code>BlobArchived<"].iter().any(|code| said.contains(code))
}

fn changed(address: &str) -> SliceFailure {
    SliceFailure::Gone(format!("{address} was written anew since it was listed"))
}

fn strange(said: String) -> Failure {
    Failure::new(FailureKind::Unknown, format!("the list cannot be read: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_their_quotes() {
        for (etag, expect) in
            [(Some("\"abc-2\""), "abc-2"), (Some("W/\"a\""), "a"), (Some("0x8D"), "0x8D"), (None, "")]
        {
            assert_eq!(bare(etag), expect);
        }
    }
}
