//! Tags and server-side encryption: kept and described.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Api;
use super::document::Encryption;
use super::fault::Fault;
use super::streams::text;

const TAGS_MAX: usize = 50;

pub(super) type Tags = BTreeMap<String, Option<String>>;

impl Api {
    pub(super) async fn tag(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let _one_at_a_time = self.changes.lock().await;
        let mut document = self.document(name)?;
        document.tags = merged(document.tags, &input["Tags"])?;
        self.store(name, document).await?;
        Ok(json!({}))
    }

    pub(super) async fn untag(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let _one_at_a_time = self.changes.lock().await;
        let mut document = self.document(name)?;
        for key in input["TagKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            document.tags.remove(key);
        }
        self.store(name, document).await?;
        Ok(json!({}))
    }

    pub(super) fn list_tags(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let spec = self.find(name).ok_or_else(|| Fault::not_found(name, &self.account))?;
        let tags = super::Document::of(&spec).map(|d| d.tags).unwrap_or_default();
        let after = input["ExclusiveStartTagKey"].as_str();
        let limit = input["Limit"].as_u64().map_or(TAGS_MAX, |l| usize::try_from(l).unwrap_or(TAGS_MAX));
        let mut rest = tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let page: Vec<Value> = rest
            .by_ref()
            .take(limit)
            .map(|(key, value)| match value {
                Some(value) => json!({"Key": key, "Value": value}),
                None => json!({"Key": key}),
            })
            .collect();
        Ok(json!({"Tags": page, "HasMoreTags": rest.next().is_some()}))
    }

    pub(super) async fn start_encryption(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let given = &input["DeliveryStreamEncryptionConfigurationInput"];
        let default = json!({"KeyType": "AWS_OWNED_CMK"});
        let encryption = encryption(if given.is_object() { given } else { &default })?;
        let _one_at_a_time = self.changes.lock().await;
        let mut document = self.document(name)?;
        document.encryption = encryption;
        self.store(name, document).await?;
        Ok(json!({}))
    }

    pub(super) async fn stop_encryption(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let _one_at_a_time = self.changes.lock().await;
        let mut document = self.document(name)?;
        if let Some(encryption) = &mut document.encryption {
            encryption.enabled = false;
        }
        self.store(name, document).await?;
        Ok(json!({}))
    }
}

/// Adds the given tags; a key that is there already gets the new value.
pub(super) fn merged(mut tags: Tags, given: &Value) -> Result<Tags, Fault> {
    let mut fresh = Tags::new();
    for tag in given.as_array().into_iter().flatten() {
        let key = text(tag, "Key").to_owned();
        if fresh.insert(key.clone(), tag["Value"].as_str().map(str::to_owned)).is_some() {
            return Err(Fault::invalid_argument(format!("Duplicate tag key {key}.")));
        }
    }
    tags.extend(fresh);
    if tags.len() > TAGS_MAX {
        return Err(Fault::limit_exceeded(format!("A Firehose may have at most {TAGS_MAX} tags.")));
    }
    Ok(tags)
}

/// Reads DeliveryStreamEncryptionConfigurationInput.
pub(super) fn encryption(given: &Value) -> Result<Option<Encryption>, Fault> {
    if !given.is_object() {
        return Ok(None);
    }
    let key_type = text(given, "KeyType").to_owned();
    let key_arn = given["KeyARN"].as_str().map(str::to_owned);
    match (key_type.as_str(), &key_arn) {
        ("CUSTOMER_MANAGED_CMK", None) => {
            Err(Fault::invalid_argument("KeyARN is required when KeyType is CUSTOMER_MANAGED_CMK."))
        }
        ("AWS_OWNED_CMK", Some(_)) => {
            Err(Fault::invalid_argument("KeyARN must not be given when KeyType is AWS_OWNED_CMK."))
        }
        _ => Ok(Some(Encryption { enabled: true, key_type, key_arn })),
    }
}
