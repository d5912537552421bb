//! Consumers with enhanced fan-out: registered for a stream, then subscribed to
//! its shards. A consumer is ACTIVE when the call answers.

use lakeward_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arn::Arn;
use super::document::{Consumer, Document};
use super::iterator::{self, LIFETIME_MS};
use super::{Api, Target, text};
use crate::aws::fault::Fault;

/// *RegisterStreamConsumer*: "you can register up to 20 consumers per stream".
const CONSUMERS_MAX: usize = 20;
const LIST_DEFAULT: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListToken {
    consumers_after: String,
    created: i64,
}

/// Which consumer a call is about.
pub(super) struct Wanted {
    pub(super) name: String,
    /// From its ARN: a consumer that was registered anew is another one.
    created: Option<i64>,
}

impl Wanted {
    pub(super) fn find<'a>(&self, document: &'a Document) -> Option<&'a Consumer> {
        let found = document.consumer(&self.name)?;
        self.created.is_none_or(|created| created == epoch(found)).then_some(found)
    }
}

fn epoch(consumer: &Consumer) -> i64 {
    consumer.created.millis().div_euclid(1_000)
}

impl Api {
    fn describe_consumer_of(&self, target: &Target, consumer: &Consumer) -> Value {
        json!({
            "ConsumerName": consumer.name,
            "ConsumerARN": format!("{}/consumer/{}:{}", self.arn(&target.name), consumer.name, epoch(consumer)),
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": super::seconds(consumer.created),
        })
    }

    pub(super) async fn register_consumer(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let name = text(input, "ConsumerName").to_owned();
        let tags = super::tags::given(&input["Tags"])?;
        let arn = self.arn(&target.name);
        let consumer = self
            .lives
            .change(live, move |change| {
                let consumers = &mut change.state.document.consumers;
                if consumers.iter().any(|consumer| consumer.name == name) {
                    return Err(Fault::in_use(format!("Consumer {name} under stream {arn} already exists.")));
                }
                if consumers.len() >= CONSUMERS_MAX {
                    return Err(Fault::limit_exceeded(format!(
                        "At most {CONSUMERS_MAX} consumers can be registered for stream {arn}."
                    )));
                }
                // A consumer that was registered anew within a second has
                // another ARN all the same.
                let second = change
                    .now
                    .micros()
                    .div_euclid(1_000_000)
                    .max(change.state.document.last_consumer.0.div_euclid(1_000_000).saturating_add(1));
                let created = Timestamp(second.saturating_mul(1_000_000));
                change.state.document.last_consumer = created;
                let consumer = Consumer { name, created, tags };
                change.state.document.consumers.push(consumer.clone());
                Ok(consumer)
            })
            .await?;
        Ok(json!({"Consumer": self.describe_consumer_of(&self.target_of(input)?, &consumer)}))
    }

    pub(super) async fn deregister_consumer(&self, input: &Value) -> Result<Value, Fault> {
        let (target, wanted) = self.consumer_of(input)?;
        let live = self.live(&target).await?;
        let name = self
            .lives
            .change(live, move |change| {
                let found = wanted.find(&change.state.document).map(|consumer| consumer.name.clone());
                let name = found.ok_or_else(|| target.names().no_consumer(&wanted.name))?;
                change.state.document.consumers.retain(|consumer| consumer.name != name);
                Ok(format!("{}/{name}", target.name))
            })
            .await?;
        self.subscriptions.end_all(&name);
        Ok(json!({}))
    }

    pub(super) async fn describe_consumer(&self, input: &Value) -> Result<Value, Fault> {
        let (target, wanted) = self.consumer_of(input)?;
        let live = self.live(&target).await?;
        let state = live.state.read().await;
        let found = wanted.find(&state.document).ok_or_else(|| target.names().no_consumer(&wanted.name))?;
        let mut described = self.describe_consumer_of(&target, found);
        described["StreamARN"] = self.arn(&target.name).into();
        Ok(json!({"ConsumerDescription": described}))
    }

    pub(super) async fn list_consumers(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let now = self.clock.now();
        let after = match input["NextToken"].as_str() {
            None => None,
            Some(token) => {
                let token: Option<ListToken> = iterator::open(token);
                let token = token.ok_or_else(|| Fault::invalid_argument("NextToken is invalid."))?;
                if now.millis().saturating_sub(token.created) > LIFETIME_MS {
                    let message = "NextToken has expired: it is valid for 300 seconds.";
                    return Err(Fault::new("ExpiredNextTokenException", message));
                }
                Some(token.consumers_after)
            }
        };
        let state = live.state.read().await;
        super::streams::check_creation(input, &state.document, &target.names())?;
        let mut consumers: Vec<_> = state.document.consumers.iter().collect();
        consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let limit = input["MaxResults"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let mut rest = consumers
            .into_iter()
            .filter(|consumer| after.as_ref().is_none_or(|after| consumer.name > *after));
        let page: Vec<_> = rest.by_ref().take(limit.unwrap_or(LIST_DEFAULT)).collect();
        let described: Value =
            page.iter().map(|consumer| self.describe_consumer_of(&target, consumer)).collect();
        let mut answer = json!({"Consumers": described});
        if let (Some(last), Some(_)) = (page.last(), rest.next()) {
            let token = ListToken { consumers_after: last.name.clone(), created: now.millis() };
            answer["NextToken"] = iterator::seal(&token).into();
        }
        Ok(answer)
    }

    /// The consumer that an input names, by ARN or by the stream's ARN and its
    /// own name.
    pub(super) fn consumer_of(&self, input: &Value) -> Result<(Target, Wanted), Fault> {
        if let Some(given) = input["ConsumerARN"].as_str() {
            let arn = Arn::parse(given);
            let consumer = arn.and_then(|arn| arn.consumer);
            let (name, created) = consumer
                .ok_or_else(|| Fault::invalid_argument(format!("{given} is not the ARN of a consumer.")))?;
            let target = self.target(None, Some(given))?;
            return Ok((target, Wanted { name: name.to_owned(), created: Some(created) }));
        }
        match (input["StreamARN"].as_str(), input["ConsumerName"].as_str()) {
            (Some(arn), Some(name)) => {
                Ok((self.target(None, Some(arn))?, Wanted { name: name.to_owned(), created: None }))
            }
            _ => Err(Fault::invalid_argument(
                "Either ConsumerARN or both StreamARN and ConsumerName must be given.",
            )),
        }
    }
}
