//! Keys that start or end with a slash, which nobody can ask for.
//!
//! `object_store` cuts a slash off both ends of every key (`Path::parse`), of
//! those that are listed and of those that are asked for. So `z/` is listed as
//! `z`, and `z` is not there. Such keys must not disappear in silence, and must
//! not move the place where a list goes on.

use object_store::ObjectMeta;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;

use lakeward_model::Failure;

use super::bucket::{Bucket, bare};
use crate::destinations::lake::store;

/// How many keys of a page are looked at; more of them are found when they are
/// read.
const LOOKS_MAX: usize = 100;
/// How many keys that start with a slash are counted.
const COUNTED_MAX: usize = 1_000;
/// Behind every key that starts with a slash, before every other that follows.
const BEHIND_SLASH: &str = "/\u{10FFFF}";

/// A page of a list without what lost a slash.
#[derive(Debug, Default)]
pub(super) struct Straight {
    pub(super) objects: Vec<ObjectMeta>,
    /// The key that the page ends with.
    pub(super) last: Option<String>,
    /// The list goes on here, whatever the page says.
    pub(super) jump: Option<&'static str>,
    /// A key that nobody can ask for, and how many there were of them.
    pub(super) odd: Option<(String, usize)>,
}

/// Whether an object with this key can be asked for.
pub(super) fn can_be_asked_for(key: &str) -> bool {
    Path::parse(key).is_ok_and(|path| path.as_ref() == key)
}

impl Bucket {
    /// Keys of the bucket that start with a slash: one of them, and how many.
    /// They can be met only where the whole bucket is listed from before them.
    pub(super) async fn slashed(
        &self,
        below: &str,
        after: Option<&str>,
    ) -> Result<Option<(String, usize)>, Failure> {
        if !below.is_empty() || after.is_some_and(|after| after >= "/") {
            return Ok(None);
        }
        let options = PaginatedListOptions { max_keys: Some(COUNTED_MAX), ..PaginatedListOptions::default() };
        let (listed, reply) = store::watch(self.store.list_paginated(Some("/"), options)).await;
        let objects = match listed {
            Ok(page) => page.result.objects,
            Err(object_store::Error::InvalidPath { source }) => {
                return Ok(super::bucket::odd_key(&source)
                    .filter(|key| key.starts_with('/'))
                    .map(|key| (key.to_string(), 1)));
            }
            Err(error) => return Err(self.failure("list", &self.address(""), error, &reply)),
        };
        let Some(first) = objects.first() else { return Ok(None) };
        // Some stores take no notice of a slash at a prefix's start.
        if self.is_there(first).await? {
            return Ok(None);
        }
        Ok(Some((format!("/{}", first.location), objects.len())))
    }

    /// A page without the objects that lost a slash. A store gives keys in
    /// their order, so one that is not behind the one before it was cut off.
    /// `slashed`: there are keys that start with a slash.
    pub(super) async fn straight(
        &self,
        page: Vec<ObjectMeta>,
        after: Option<&str>,
        slashed: bool,
    ) -> Result<Straight, Failure> {
        let mut straight = Straight::default();
        let (mut before, mut looks) = (after.map(String::from), 0);
        for object in page {
            let key = object.location.to_string();
            let ascends = before.as_deref().is_none_or(|before| key.as_str() > before);
            // Some stores give what was asked to be left out.
            let known = after == Some(key.as_str()) && straight.last.is_none();
            if slashed && !known && (!ascends || key.as_str() >= "/") {
                straight.jump = Some(BEHIND_SLASH);
                return Ok(straight);
            }
            if !ascends && !known && looks < LOOKS_MAX {
                looks += 1;
                if !self.is_there(&object).await? {
                    let raw = format!("{key}/");
                    // An empty one is how a console makes a folder.
                    if object.size > 0 {
                        let many = straight.odd.as_ref().map_or(0, |(_, many)| *many) + 1;
                        straight.odd = Some((raw.clone(), many));
                    }
                    (before, straight.last) = (Some(key), Some(raw));
                    continue;
                }
            }
            straight.last = Some(key.clone());
            if after.is_none_or(|after| key.as_str() > after) {
                straight.objects.push(object);
            }
            before = Some(key);
        }
        Ok(straight)
    }

    /// The key of an object that is not there under the name that it was
    /// listed with, since it lost a slash.
    pub(super) async fn key_with_slash(&self, name: &str, version: &str) -> Option<String> {
        let key = format!("{}{name}", self.prefix);
        for raw in [format!("{key}/"), format!("/{key}")] {
            let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
            // The first key that starts so is the one that ends there.
            let listed = self.store.list_paginated(Some(&raw), options).await;
            let found = listed.ok().and_then(|page| page.result.objects.into_iter().next());
            let is_it = |found: &ObjectMeta| {
                found.location.as_ref() == key && bare(found.e_tag.as_deref()) == version
            };
            if found.is_some_and(|found| is_it(&found)) {
                return Some(raw);
            }
        }
        None
    }

    /// Whether the object is there under the key that was listed.
    async fn is_there(&self, listed: &ObjectMeta) -> Result<bool, Failure> {
        let Some(name) = self.name_of(listed.location.as_ref()) else { return Ok(false) };
        let found = self.head(name).await?;
        Ok(found.is_some_and(|found| found.version == bare(listed.e_tag.as_deref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_keys_can_be_asked_for() {
        for (key, can) in [
            ("a/b", true),
            ("a b/ä+%", true),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            ("a/../b", false),
            ("", true),
        ] {
            assert_eq!(can_be_asked_for(key), can, "{key}");
        }
    }
}
