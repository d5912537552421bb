//! Taking over a table that is there: what of it may differ, and what is added
//! to it.

use lakeward_model::TableDescription;
use serde_json::{Map, Value, json};

use super::super::hive::{HiveColumn, HiveColumns};
use super::projection::{self, Projection};
use super::table::{self, address, classes};
use super::types::{Merged, merge};

/// What `UpdateTable` takes of a table (Glue API, `TableInput`); the rest of
/// what `GetTable` gives is only for reading.
const WRITABLE: [&str; 13] = [
    "Name",
    "Description",
    "Owner",
    "LastAccessTime",
    "LastAnalyzedTime",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "ViewOriginalText",
    "ViewExpandedText",
    "TableType",
    "Parameters",
    "TargetTable",
];

/// What has to be changed of a table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// The whole table, if it has to be changed.
    pub(super) table: Option<Map<String, Value>>,
    /// The columns whose type changed, so that the partitions that are there
    /// must have it too: Athena refuses to read them otherwise
    /// (HIVE_PARTITION_SCHEMA_MISMATCH).
    pub(super) retyped: Vec<HiveColumn>,
    /// The table's columns afterwards: those of new partitions.
    pub(super) columns: Vec<Value>,
}

/// Compares the table that is there with the one that is wanted.
///
/// # Errors
/// They cannot be one: the text says what differs and what to do.
pub(super) fn plan(
    there: &Map<String, Value>,
    wanted: &TableDescription,
    columns: &HiveColumns,
    projection: Option<&Projection>,
) -> Result<Change, String> {
    check_kind(there, wanted)?;
    check_keys(there, columns)?;
    check_location(there, wanted, projection.is_some())?;
    let mut change = Change::default();
    let descriptor = there.get("StorageDescriptor").and_then(Value::as_object).cloned().unwrap_or_default();
    let known = descriptor.get("Columns").and_then(Value::as_array).cloned().unwrap_or_default();
    change.columns = known;
    let mut changed = false;
    for column in &columns.columns {
        let found = change.columns.iter_mut().find(|known| text(known, "Name").to_lowercase() == column.name);
        let Some(found) = found else {
            change.columns.push(json!({ "Name": column.name, "Type": column.ty }));
            changed = true;
            continue;
        };
        let theirs = text(found, "Type").to_string();
        match merge(&theirs, &column.ty) {
            Merged::Same => {}
            Merged::Wider(ty) => {
                found["Type"] = Value::from(ty.clone());
                change.retyped.push(HiveColumn { name: column.name.clone(), ty });
                changed = true;
            }
            Merged::Differs { at, theirs: their_part, ours } => {
                return Err(differs(&column.name, &at, &their_part, &ours));
            }
        }
    }
    let mut parameters = there.get("Parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    changed |= set_projection(&mut parameters, wanted, projection);
    if changed {
        let mut input: Map<String, Value> = there
            .iter()
            .filter(|(name, _)| WRITABLE.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut descriptor = descriptor;
        descriptor.insert("Columns".into(), Value::from(change.columns.clone()));
        input.insert("StorageDescriptor".into(), Value::from(descriptor));
        input.insert("Parameters".into(), Value::from(parameters));
        if !input.get("PartitionKeys").is_some_and(Value::is_array) {
            input.insert("PartitionKeys".into(), json!([]));
        }
        change.table = Some(input);
    }
    Ok(change)
}

fn differs(column: &str, at: &str, theirs: &str, ours: &str) -> String {
    let place = if at.is_empty() { column.to_string() } else { format!("{column}.{at}") };
    format!(
        "the column {place} is {theirs} in the table and {ours} in the files; change it to {ours} in the table, \
         declare its type for the pipeline (schema.columns), or name another table"
    )
}

/// Sets the projection's parameters, or leaves what others set; whether that
/// changed anything.
fn set_projection(
    parameters: &mut Map<String, Value>,
    wanted: &TableDescription,
    projection: Option<&Projection>,
) -> bool {
    let Some(projection) = projection else { return false };
    let ours = projection::parameters(wanted, projection);
    let before = parameters.clone();
    parameters.retain(|name, _| !projection::is_parameter(name) || ours.contains_key(name));
    for (name, value) in ours {
        parameters.insert(name, Value::from(value));
    }
    *parameters != before
}

/// Whether it is a table of files in our format.
fn check_kind(there: &Map<String, Value>, wanted: &TableDescription) -> Result<(), String> {
    let parameter = |name: &str| there.get("Parameters").map(|all| text(all, name)).unwrap_or_default();
    if let Some(target) = there.get("TargetTable").filter(|target| target.is_object()) {
        return Err(format!(
            "it is a link to the table {}.{}; name that one",
            text(target, "DatabaseName"),
            text(target, "Name")
        ));
    }
    if there.get("TableType").and_then(Value::as_str) == Some("VIRTUAL_VIEW") {
        return Err(String::from("it is a view; name another table"));
    }
    let kind = ["table_type", "spark.sql.sources.provider"].map(parameter);
    for foreign in ["iceberg", "delta", "hudi"] {
        if kind.iter().any(|kind| kind.eq_ignore_ascii_case(foreign)) {
            return Err(format!(
                "it is a table of the {foreign} format, which keeps a list of its files; name another table"
            ));
        }
    }
    let ours = classes(&wanted.format);
    let none = json!({});
    let descriptor = there.get("StorageDescriptor").unwrap_or(&none);
    let serde =
        descriptor.get("SerdeInfo").map(|info| text(info, "SerializationLibrary")).unwrap_or_default();
    if serde.is_empty() && parameter("classification") == ours.classification {
        return Ok(());
    }
    if serde == ours.serde || ours.others.contains(&serde) {
        return Ok(());
    }
    Err(format!(
        "it is read by {}, and the pipeline writes {}; name another table",
        if serde.is_empty() { "no SerDe" } else { serde },
        wanted.format.name()
    ))
}

/// Whether it is partitioned as our folders are. The types of keys may be
/// others: their values are text in any case.
fn check_keys(there: &Map<String, Value>, columns: &HiveColumns) -> Result<(), String> {
    let keys = there.get("PartitionKeys").and_then(Value::as_array);
    let theirs: Vec<String> =
        keys.into_iter().flatten().map(|key| text(key, "Name").to_lowercase()).collect();
    let ours: Vec<String> = columns.partition_keys.iter().map(|key| key.name.clone()).collect();
    if theirs == ours {
        return Ok(());
    }
    let told = |keys: &[String]| if keys.is_empty() { String::from("none") } else { keys.join(", ") };
    Err(format!(
        "its partition keys are {} and the pipeline's folders are {}; Glue cannot change them: change output.path, \
         delete the table, or name another one",
        told(&theirs),
        told(&ours)
    ))
}

/// Whether our files lie where it looks for them. Registered partitions have a
/// location of their own.
fn check_location(
    there: &Map<String, Value>,
    wanted: &TableDescription,
    is_projected: bool,
) -> Result<(), String> {
    if !wanted.partition_keys.is_empty() && !is_projected {
        return Ok(());
    }
    let theirs = there.get("StorageDescriptor").map(|all| text(all, "Location")).unwrap_or_default();
    let ours = address(&wanted.location);
    if is_one_place(theirs, &ours) {
        return Ok(());
    }
    Err(format!("it lies in {theirs} and the pipeline's files in {ours}; name another table"))
}

/// Whether two addresses are one folder.
pub(super) fn is_one_place(a: &str, b: &str) -> bool {
    let plain = |location: &str| {
        let location = location.replacen("s3a://", "s3://", 1).replacen("s3n://", "s3://", 1);
        location.trim_end_matches('/').to_string()
    };
    plain(a) == plain(b)
}

/// A member that is text; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What a partition's own descriptor is with columns of other types; `None` if
/// it has them already.
pub(super) fn retype(partition: &Value, retyped: &[HiveColumn]) -> Option<Value> {
    let mut descriptor = partition.get("StorageDescriptor")?.clone();
    let mut changed = false;
    for known in descriptor.get_mut("Columns").and_then(Value::as_array_mut)? {
        let name = text(known, "Name").to_lowercase();
        if let Some(column) = retyped.iter().find(|column| column.name == name)
            && text(known, "Type") != column.ty
        {
            known["Type"] = Value::from(column.ty.clone());
            changed = true;
        }
    }
    changed.then_some(descriptor)
}

/// The descriptor of a new partition of a table that has these columns.
pub(super) fn partition_storage(
    there: Option<&Value>,
    wanted: &TableDescription,
    columns: &[Value],
    location: &str,
) -> Value {
    // As the table's own, which others may have tuned.
    let mut storage = match there {
        Some(descriptor) if descriptor.is_object() => descriptor.clone(),
        _ => table::storage(wanted, &[], location),
    };
    storage["Columns"] = Value::from(columns.to_vec());
    storage["Location"] = Value::from(location);
    storage
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
