//! The columns of a table and those of a batch: which belong together, and
//! what has to change so that all have a place.

use lakeward_model::{Column, ColumnType};

use super::Dialect;
use super::error::SqlError;
use super::names::{self, TableName, identifier, literal};
use super::session::Session;

/// A column that the table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Existing {
    pub(crate) name: String,
    /// As `format_type` writes it.
    pub(crate) ty: String,
}

/// How a table is made and changed.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    pub(crate) dialect: Dialect,
    /// Whether a table that is not there is made.
    pub(crate) create: bool,
    /// Whether columns are added and widened.
    pub(crate) evolve: bool,
    /// Whether files are Parquet, whose types are their own.
    pub(crate) parquet: bool,
    /// What stands behind the columns of a new table.
    pub(crate) options: String,
}

/// What a batch needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The columns of the files, as the table names them.
    pub(crate) names: Vec<String>,
    /// Statements that come first; those of one group are done together or not
    /// at all.
    pub(crate) changes: Vec<Vec<String>>,
}

/// Asks for the table's columns; none if there is no such table.
pub(crate) async fn read(
    session: &Session,
    table: &TableName,
    dialect: Dialect,
) -> Result<Vec<Existing>, SqlError> {
    let generated = match dialect {
        Dialect::Postgres => " AND a.attgenerated = ''",
        Dialect::Redshift => "",
    };
    let query = format!(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relname = {} AND a.attnum > 0 AND NOT a.attisdropped{generated} \
         ORDER BY a.attnum",
        literal(&table.schema, dialect),
        literal(&table.name, dialect),
    );
    let rows = session.rows(&query).await?;
    let column = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        Existing { name: row.next().unwrap_or_default(), ty: row.next().unwrap_or_default() }
    };
    Ok(rows.into_iter().map(column).collect())
}

/// The name by which a table has a column of the batch: its own, or that in
/// lower case, as an unquoted name is stored.
pub(crate) fn find<'a>(
    dialect: Dialect,
    existing: impl Iterator<Item = &'a str> + Clone,
    name: &str,
) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let exact = existing.clone().find(|known| *known == name);
    match dialect {
        Dialect::Postgres => exact.or_else(|| existing.clone().find(|known| *known == lower)),
        Dialect::Redshift => exact.or_else(|| existing.clone().find(|known| known.to_lowercase() == lower)),
    }
}

/// What has to be done for `wanted` to have a place in the table. What a
/// person has to do, if it must not be done here.
pub(crate) fn fit(
    making: &Making,
    table: &TableName,
    existing: &[Existing],
    wanted: &[Column],
) -> Result<Fit, String> {
    for column in wanted {
        names::check(&column.name, making.dialect)?;
    }
    if existing.is_empty() {
        let create = create(making, table, wanted);
        if !making.create {
            return Err(format!("the table is not there. Create it, or set auto_create: true: {create};"));
        }
        let names = wanted.iter().map(|column| making.new_name(&column.name)).collect();
        return Ok(Fit { names, changes: vec![vec![create]] });
    }
    let mut names = Vec::with_capacity(wanted.len());
    let mut changes = Vec::new();
    for column in wanted {
        let known = existing.iter().map(|known| known.name.as_str());
        let found = find(making.dialect, known, &column.name);
        let name = found.map_or_else(|| making.new_name(&column.name), String::from);
        if found.is_none() {
            let ty = making.type_of(&column.ty);
            changes.push(vec![format!("ALTER TABLE {table} ADD COLUMN {} {ty}", identifier(&name))]);
        } else if let Some(ty) = existing.iter().find(|known| known.name == name).map(|known| &known.ty)
            && column.ty == ColumnType::Float64
            && matches!(ty.as_str(), "bigint" | "integer" | "smallint")
        {
            let ty = making.type_of(&column.ty);
            let quoted = identifier(&name);
            match making.dialect {
                Dialect::Postgres => {
                    changes.push(vec![format!("ALTER TABLE {table} ALTER COLUMN {quoted} TYPE {ty}")]);
                }
                // No type is changed in place here. All of it is undone with
                // the transaction.
                Dialect::Redshift => {
                    let wider = identifier(&format!("{name}_lakeward"));
                    changes.push(vec![
                        format!("ALTER TABLE {table} ADD COLUMN {wider} {ty}"),
                        format!("UPDATE {table} SET {wider} = {quoted}"),
                        format!("ALTER TABLE {table} DROP COLUMN {quoted}"),
                        format!("ALTER TABLE {table} RENAME COLUMN {wider} TO {quoted}"),
                    ]);
                }
            }
        }
        if names.contains(&name) {
            return Err(format!(
                "two columns of the batch would be the table's {}: rename one in the pipeline's SQL",
                identifier(&name)
            ));
        }
        names.push(name);
    }
    if !changes.is_empty() && !making.evolve {
        return Err(format!(
            "the table lacks columns. Run this, or set auto_evolve: true: {};",
            changes.concat().join("; ")
        ));
    }
    Ok(Fit { names, changes })
}

/// The statement that makes the table.
pub(crate) fn create(making: &Making, table: &TableName, wanted: &[Column]) -> String {
    let column = |column: &Column| {
        format!("{} {}", identifier(&making.new_name(&column.name)), making.type_of(&column.ty))
    };
    let columns: Vec<String> = wanted.iter().map(column).collect();
    let options =
        if making.options.is_empty() { String::new() } else { format!(" {}", making.options.trim()) };
    format!("CREATE TABLE {table} ({}){options}", columns.join(", "))
}

impl Making {
    /// The name that a new column gets.
    fn new_name(&self, name: &str) -> String {
        match self.dialect {
            Dialect::Postgres => name.into(),
            Dialect::Redshift => name.to_lowercase(),
        }
    }

    /// The type that a new column gets.
    pub(crate) fn type_of(&self, ty: &ColumnType) -> String {
        use Dialect::{Postgres, Redshift};
        // Redshift takes text of at most 65,535 bytes unless a column is wider.
        const TEXT: &str = "varchar(65535)";
        String::from(match (ty, self.dialect) {
            (ColumnType::Bool, _) => "boolean",
            (ColumnType::Int64, _) => "bigint",
            (ColumnType::Float64, _) => "double precision",
            (ColumnType::Utf8, Postgres) => "text",
            (ColumnType::Utf8, Redshift) => TEXT,
            (ColumnType::Json, Postgres) => "jsonb",
            // As text of JSON a CSV file fills a SUPER, and a Parquet file
            // would only make a string of it.
            (ColumnType::Json, Redshift) => {
                if self.parquet {
                    TEXT
                } else {
                    "super"
                }
            }
            (ColumnType::Timestamp, _) => "timestamp",
            // COPY of Parquet knows no zone.
            (ColumnType::TimestampTz, Redshift) if self.parquet => "timestamp",
            (ColumnType::TimestampTz, _) => "timestamptz",
            (ColumnType::Date, _) => "date",
            (ColumnType::Decimal(precision, scale), _) => return format!("numeric({precision},{scale})"),
            (ColumnType::Binary, Redshift) if self.parquet => "varbyte(1024000)",
            // CSV has bytes as base64.
            (ColumnType::Binary, Postgres) => "text",
            (ColumnType::Binary, Redshift) => TEXT,
            (ColumnType::Struct(_) | ColumnType::List(_), Postgres) => "jsonb",
            (ColumnType::Struct(_) | ColumnType::List(_), Redshift) => "super",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(dialect: Dialect) -> Making {
        Making { dialect, create: true, evolve: true, parquet: false, options: String::new() }
    }

    fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
        columns.iter().map(|(name, ty)| Column { name: (*name).into(), ty: ty.clone() }).collect()
    }

    fn existing(columns: &[(&str, &str)]) -> Vec<Existing> {
        columns.iter().map(|(name, ty)| Existing { name: (*name).into(), ty: (*ty).into() }).collect()
    }

    #[test]
    fn a_table_is_made() {
        let table = TableName { schema: "s".into(), name: "t".into() };
        let wanted = columns(&[
            ("userId", ColumnType::Utf8),
            ("n", ColumnType::Decimal(18, 4)),
            ("o", ColumnType::Json),
            ("at", ColumnType::TimestampTz),
        ]);
        let made =
            |dialect| fit(&making(dialect), &table, &[], &wanted).expect("it is made").changes.concat();
        assert_eq!(
            made(Dialect::Postgres),
            [r#"CREATE TABLE "s"."t" ("userId" text, "n" numeric(18,4), "o" jsonb, "at" timestamptz)"#]
        );
        assert_eq!(
            made(Dialect::Redshift),
            [
                r#"CREATE TABLE "s"."t" ("userid" varchar(65535), "n" numeric(18,4), "o" super, "at" timestamptz)"#
            ]
        );
    }

    #[test]
    fn columns_find_their_place() {
        let table = TableName { schema: "s".into(), name: "t".into() };
        let wanted = columns(&[("userId", ColumnType::Utf8), ("n", ColumnType::Float64)]);
        let check = |dialect, has: &[(&str, &str)], names: &[&str], changes: &[&str]| {
            let fit = fit(&making(dialect), &table, &existing(has), &wanted).expect("it fits");
            assert_eq!(fit.names, names);
            assert_eq!(fit.changes.concat(), changes);
        };
        check(Dialect::Postgres, &[("n", "real"), ("userId", "text")], &["userId", "n"], &[]);
        check(Dialect::Postgres, &[("userid", "text"), ("n", "numeric")], &["userid", "n"], &[]);
        check(
            Dialect::Postgres,
            &[("userid", "text"), ("n", "bigint")],
            &["userid", "n"],
            &[r#"ALTER TABLE "s"."t" ALTER COLUMN "n" TYPE double precision"#],
        );
        check(
            Dialect::Redshift,
            &[("n", "double precision")],
            &["userid", "n"],
            &[r#"ALTER TABLE "s"."t" ADD COLUMN "userid" varchar(65535)"#],
        );
        let closed = Making { create: false, evolve: false, ..making(Dialect::Postgres) };
        let refused = |has: &[(&str, &str)]| fit(&closed, &table, &existing(has), &wanted).expect_err("no");
        assert!(refused(&[]).contains(r#"CREATE TABLE "s"."t" ("userId" text, "n" double precision);"#));
        assert!(refused(&[("n", "real")]).contains(r#"ALTER TABLE "s"."t" ADD COLUMN "userId" text;"#));
        let long = columns(&[(&"x".repeat(64), ColumnType::Utf8)]);
        assert!(fit(&closed, &table, &existing(&[]), &long).expect_err("too long").contains("63 bytes"));
    }
}
