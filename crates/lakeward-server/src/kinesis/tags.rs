//! Tags of streams and of consumers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::arn::Arn;
use super::document::{Document, State};
use super::{Api, Names, text};
use crate::aws::fault::Fault;

/// *AddTagsToStream*: "You can assign up to 50 tags to a data stream."
const TAGS_MAX: usize = 50;

type Tags = BTreeMap<String, String>;

/// The tags of an input, within the limits.
pub(super) fn given(tags: &Value) -> Result<Tags, Fault> {
    let tags = tags.as_object().into_iter().flatten();
    let tags = tags.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    check(tags.collect())
}

fn check(tags: Tags) -> Result<Tags, Fault> {
    if let Some(reserved) = tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(Fault::invalid_argument(format!(
            "Tag key {reserved} starts with the reserved prefix aws:."
        )));
    }
    if tags.len() > TAGS_MAX {
        return Err(Fault::limit_exceeded(format!("At most {TAGS_MAX} tags are allowed for a resource.")));
    }
    Ok(tags)
}

/// What the tags belong to: the stream, or a consumer of it.
fn tags_of<'a>(
    document: &'a mut Document,
    consumer: Option<&str>,
    names: &Names<'_>,
) -> Result<&'a mut Tags, Fault> {
    match consumer {
        None => Ok(&mut document.tags),
        Some(name) => {
            let found = document.consumers.iter_mut().find(|consumer| consumer.name == name);
            found.map(|consumer| &mut consumer.tags).ok_or_else(|| names.no_consumer(name))
        }
    }
}

fn list(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

fn keys(input: &Value) -> Vec<String> {
    let keys = input["TagKeys"].as_array().into_iter().flatten();
    keys.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Api {
    pub(super) async fn add_tags(&self, input: &Value) -> Result<Value, Fault> {
        self.change_tags(input, None, given(&input["Tags"])?, Vec::new()).await
    }

    pub(super) async fn remove_tags(&self, input: &Value) -> Result<Value, Fault> {
        self.change_tags(input, None, Tags::new(), keys(input)).await
    }

    pub(super) async fn list_tags(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let state = live.state.read().await;
        let after = input["ExclusiveStartTagKey"].as_str();
        let limit = input["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(TAGS_MAX);
        let mut rest =
            state.document.tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let page: Tags = rest.by_ref().take(limit).map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(json!({"Tags": list(&page), "HasMoreTags": rest.next().is_some()}))
    }

    pub(super) async fn tag_resource(&self, input: &Value) -> Result<Value, Fault> {
        let (stream, consumer) = resource(input)?;
        self.change_tags(&stream, consumer, given(&input["Tags"])?, Vec::new()).await
    }

    pub(super) async fn untag_resource(&self, input: &Value) -> Result<Value, Fault> {
        let (stream, consumer) = resource(input)?;
        self.change_tags(&stream, consumer, Tags::new(), keys(input)).await
    }

    pub(super) async fn list_tags_for_resource(&self, input: &Value) -> Result<Value, Fault> {
        let (stream, consumer) = resource(input)?;
        let target = self.target_of(&stream)?;
        let live = self.live(&target).await?;
        let mut state = State::clone(&*live.state.read().await);
        let tags = tags_of(&mut state.document, consumer.as_deref(), &target.names())?;
        Ok(json!({"Tags": list(tags)}))
    }

    async fn change_tags(
        &self,
        input: &Value,
        consumer: Option<String>,
        add: Tags,
        remove: Vec<String>,
    ) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        self.lives
            .change(live, move |change| {
                let tags = tags_of(&mut change.state.document, consumer.as_deref(), &target.names())?;
                tags.extend(add);
                tags.retain(|key, _| !remove.contains(key));
                *tags = check(std::mem::take(tags))?;
                Ok(json!({}))
            })
            .await
    }
}

/// The stream of a `ResourceARN`, as an input names it, and the consumer.
fn resource(input: &Value) -> Result<(Value, Option<String>), Fault> {
    let given = text(input, "ResourceARN");
    let arn = Arn::parse(given).ok_or_else(|| {
        Fault::invalid_argument(format!("{given} is not the ARN of a stream or a consumer."))
    })?;
    // A consumer's ARN names its stream too.
    Ok((json!({"StreamARN": given}), arn.consumer.map(|(name, _)| name.to_owned())))
}
