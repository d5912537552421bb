//! Statements that let rows replace those with the same key.

use lakeward_model::{BatchId, ROW_COLUMN};

use super::config::MergeConfig;
use super::names::{TableName, identifier, list};
use super::{Dialect, columns};

/// Counts the rows of a staging table as they came in (PostgreSQL).
const ORDER: &str = "_lakeward_order";
/// The row's place among those with its key.
const RANK: &str = "_lakeward_rank";

/// A merge of one batch into a table, over a staging table that lives no
/// longer than the transaction.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    dialect: Dialect,
    target: &'a TableName,
    /// The columns of the files, as the table names them.
    columns: &'a [String],
    key: Vec<String>,
    order: Vec<String>,
    /// The staging table.
    pub(crate) stage: String,
}

impl<'a> Merge<'a> {
    /// Works out the names; what is wrong with them, for a person.
    pub(crate) fn new(
        dialect: Dialect,
        config: &MergeConfig,
        target: &'a TableName,
        names: &'a [String],
        batch: BatchId,
    ) -> Result<Self, String> {
        let find = |name: &String| {
            columns::find(dialect, names.iter().map(String::as_str), name)
                .map(String::from)
                .ok_or_else(|| format!("merge: the batch has no column {name:?}"))
        };
        let key = config.key.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let mut order = config.order_by.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        match dialect {
            Dialect::Postgres => order.push(ORDER.into()),
            // COPY reads files side by side: only the rows' own number tells
            // which was last.
            Dialect::Redshift => order.extend(names.iter().find(|name| *name == ROW_COLUMN).cloned()),
        }
        if order.is_empty() {
            return Err(String::from("merge: give order_by, or set lineage: true"));
        }
        let stage = identifier(&format!("lakeward_stage_{}", batch.0.simple()));
        Ok(Self { dialect, target, columns: names, key, order, stage })
    }

    fn all(&self) -> String {
        list(self.columns.iter().map(String::as_str))
    }

    /// Makes the staging table.
    pub(crate) fn begin(&self) -> String {
        let (stage, columns, target) = (&self.stage, self.all(), self.target);
        let create = format!("CREATE TEMP TABLE {stage} AS SELECT {columns} FROM {target} WHERE 1 = 0");
        match self.dialect {
            Dialect::Postgres => {
                format!("{create}; ALTER TABLE {stage} ADD COLUMN {} bigserial", identifier(ORDER))
            }
            Dialect::Redshift => create,
        }
    }

    /// Moves what is in the staging table, and removes it.
    pub(crate) fn finish(&self) -> Vec<String> {
        let (stage, columns, target) = (&self.stage, self.all(), self.target);
        let same: Vec<String> = self
            .key
            .iter()
            .map(|key| identifier(key))
            .map(|key| format!("{target}.{key} = {stage}.{key}"))
            .collect();
        let keyless: Vec<String> =
            self.key.iter().map(|key| format!("{} IS NULL", identifier(key))).collect();
        let order: Vec<String> =
            self.order.iter().map(|name| format!("{} DESC NULLS LAST", identifier(name))).collect();
        let rank = identifier(RANK);
        vec![
            format!("DELETE FROM {target} USING {stage} WHERE {}", same.join(" AND ")),
            format!(
                "INSERT INTO {target} ({columns}) SELECT {columns} FROM (SELECT {columns}, row_number() OVER \
                 (PARTITION BY {} ORDER BY {}) AS {rank} FROM {stage}) AS ranked WHERE {rank} = 1 OR {}",
                list(self.key.iter().map(String::as_str)),
                order.join(", "),
                keyless.join(" OR "),
            ),
            format!("DROP TABLE {stage}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_must_be_known() {
        let target = TableName { schema: "public".into(), name: "t".into() };
        let batch = BatchId(uuid::Uuid::nil());
        let check = |dialect, order_by: Option<&str>, names: &[&str], expect: Option<&str>| {
            let config = MergeConfig { key: vec!["ID".into()], order_by: order_by.map(String::from) };
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let merge = Merge::new(dialect, &config, &target, &names, batch);
            assert_eq!(merge.map(|merge| merge.order.join(",")).ok().as_deref(), expect, "{names:?}");
        };
        check(Dialect::Postgres, None, &["id", "v"], Some("_lakeward_order"));
        check(Dialect::Redshift, None, &["id", "v"], None);
        check(Dialect::Redshift, Some("v"), &["id", "v"], Some("v"));
        check(Dialect::Redshift, None, &["id", "_lakeward_row"], Some("_lakeward_row"));
        check(Dialect::Postgres, None, &["v"], None);
    }
}
