//! As much of DynamoDB as leases need: one table, whose key is `leaseKey`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The rows by their key.
#[derive(Debug, Default)]
pub(super) struct Rows(pub(super) BTreeMap<String, Map<String, Value>>);

impl Rows {
    /// What DynamoDB says; `None` if it is not asked.
    pub(super) fn answer(&mut self, operation: &str, input: &Value) -> Option<(u16, Value)> {
        let of_key = |item: &Value| item["leaseKey"]["S"].as_str().expect("a key").to_string();
        let reply = match operation {
            "DescribeTable" => json!({ "Table": { "TableStatus": "ACTIVE" } }),
            "Scan" => json!({ "Items": self.0.values().collect::<Vec<_>>() }),
            "GetItem" => match self.0.get(&of_key(&input["Key"])) {
                Some(row) => json!({ "Item": row }),
                None => json!({}),
            },
            "PutItem" => {
                let item = &input["Item"];
                assert_eq!(input["ConditionExpression"], "attribute_not_exists(leaseKey)");
                if self.0.contains_key(&of_key(item)) {
                    return Some(refused());
                }
                self.0.insert(of_key(item), item.as_object().expect("a row").clone());
                json!({})
            }
            "UpdateItem" => {
                let key = of_key(&input["Key"]);
                let mut row = self.0.get(&key).cloned().unwrap_or_default();
                if !holds(&row, input) {
                    return Some(refused());
                }
                change(&mut row, input);
                row.insert("leaseKey".into(), json!({ "S": key }));
                self.0.insert(key, row.clone());
                json!({ "Attributes": row })
            }
            "DeleteItem" => {
                let key = of_key(&input["Key"]);
                if !holds(&self.0.get(&key).cloned().unwrap_or_default(), input) {
                    return Some(refused());
                }
                self.0.remove(&key);
                json!({})
            }
            _ => return None,
        };
        Some((200, reply))
    }

    /// One value of a row, whatever its type.
    pub(super) fn get(&self, shard: &str, name: &str) -> Option<String> {
        let value = self.0.get(shard)?.get(name)?;
        value["S"].as_str().or(value["N"].as_str()).map(String::from)
    }

    /// What another worker does to a row; its counter grows.
    pub(super) fn set(&mut self, shard: &str, changes: &[(&str, Value)]) {
        let counter: u64 = self.get(shard, "leaseCounter").and_then(|n| n.parse().ok()).expect("a counter");
        let row = self.0.get_mut(shard).expect("it is there");
        row.insert("leaseCounter".into(), json!({ "N": (counter + 1).to_string() }));
        for (name, value) in changes {
            match value {
                Value::Null => row.remove(*name),
                value => row.insert((*name).into(), value.clone()),
            };
        }
    }
}

fn refused() -> (u16, Value) {
    (400, json!({ "__type": "ConditionalCheckFailedException", "message": "no" }))
}

fn name_of<'a>(name: &'a str, input: &'a Value) -> &'a str {
    let name = name.trim();
    if name.starts_with('#') {
        input["ExpressionAttributeNames"][name].as_str().expect("a name")
    } else {
        name
    }
}

fn holds(row: &Map<String, Value>, input: &Value) -> bool {
    let condition = input["ConditionExpression"].as_str().expect("a condition");
    condition.split(" AND ").all(|clause| {
        if let Some(name) = clause.strip_prefix("attribute_not_exists(") {
            return !row.contains_key(name_of(name.trim_end_matches(')'), input));
        }
        let (name, value) = clause.split_once(" = ").expect("a comparison");
        row.get(name_of(name, input)) == Some(&input["ExpressionAttributeValues"][value.trim()])
    })
}

fn change(row: &mut Map<String, Value>, input: &Value) {
    let expression = input["UpdateExpression"].as_str().expect("an expression");
    let (set, remove) = match expression.strip_prefix("REMOVE ") {
        Some(remove) => ("", remove),
        None => expression.split_once(" REMOVE ").unwrap_or((expression, "")),
    };
    // The comma in `if_not_exists(a, :b)` is none between two.
    let set = set.trim_start_matches("SET ").replace(", :", "; :");
    for assignment in set.split(", ").filter(|assignment| !assignment.is_empty()) {
        let (name, value) = assignment.split_once(" = ").expect("an assignment");
        let name = name_of(name, input).to_string();
        let value = match value.strip_prefix("if_not_exists(") {
            Some(_) if row.contains_key(&name) => continue,
            Some(inner) => inner.trim_end_matches(')').split_once("; ").expect("two").1,
            None => value,
        };
        row.insert(name, input["ExpressionAttributeValues"][value.trim()].clone());
    }
    for name in remove.split(", ").filter(|name| !name.is_empty()) {
        row.remove(name_of(name, input));
    }
}
