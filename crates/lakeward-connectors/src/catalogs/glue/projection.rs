//! Athena's partition projection: partitions worked out from a table's
//! parameters ("Use partition projection with Amazon Athena" in its user
//! guide).

use std::collections::BTreeMap;

use lakeward_model::{KeyFormat, TableDescription, TimeStep};

/// What the parameters need besides the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// The first day with data, `YYYY-MM-DD`.
    pub from: String,
    /// The values of keys that are no times.
    pub values: BTreeMap<String, Vec<String>>,
}

/// Whether a table's parameter is about projection.
#[must_use]
pub fn is_parameter(name: &str) -> bool {
    name.starts_with("projection.") || name == "storage.location.template"
}

/// The table's parameters, sorted; none for a table without partition keys.
#[must_use]
pub fn parameters(table: &TableDescription, projection: &Projection) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if table.partition_keys.is_empty() {
        return all;
    }
    all.insert("projection.enabled".into(), "true".into());
    let mut template = table.folders.clone();
    for key in &table.partition_keys {
        let name = key.name.to_lowercase();
        template = template.replace(&format!("${{{}}}", key.name), &format!("${{{name}}}"));
        let mut set = |what: &str, value: String| all.insert(format!("projection.{name}.{what}"), value);
        let given = projection.values.iter().find(|(given, _)| given.to_lowercase() == name);
        match (&key.format, given) {
            (_, Some((_, values))) => {
                set("type", "enum".into());
                set("values", values.join(","));
            }
            (KeyFormat::Time { pattern, step }, None) => {
                set("type", "date".into());
                set("format", pattern.clone());
                // Events of a zone ahead of UTC, where `NOW` is.
                set("range", format!("{},NOW+1{}", first(pattern, &projection.from), ahead(*step)));
                set("interval", "1".into());
                set("interval.unit", unit(*step).into());
            }
            (KeyFormat::Number { from, to, digits }, None) => {
                set("type", "integer".into());
                set("range", format!("{from},{to}"));
                if *digits > 1 {
                    set("digits", digits.to_string());
                }
            }
            (KeyFormat::Any, None) => {
                set("type", "injected".into());
            }
        }
    }
    all.insert(
        "storage.location.template".into(),
        format!("{}{template}", super::table::address(&table.location)),
    );
    all
}

/// The first day in a pattern of years to seconds.
fn first(pattern: &str, from: &str) -> String {
    let mut day = from.split('-');
    let (year, month, day) =
        (day.next().unwrap_or("2020"), day.next().unwrap_or("01"), day.next().unwrap_or("01"));
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            // `''` is a quote.
            let end = quoted.find('\'').unwrap_or(quoted.len());
            out.push_str(if end == 0 { "'" } else { &quoted[..end] });
            rest = quoted.get(end + 1..).unwrap_or("");
            continue;
        }
        let run = rest.len() - rest.trim_start_matches(c).len();
        let padded = |number: &str| {
            let number = number.trim_start_matches('0');
            format!("{:0>width$}", if number.is_empty() { "0" } else { number }, width = run / c.len_utf8())
        };
        match c {
            'y' | 'u' => out.push_str(year),
            'M' | 'L' => out.push_str(&padded(month)),
            'd' => out.push_str(&padded(day)),
            'H' | 'm' | 's' => out.push_str(&padded("0")),
            _ => out.push_str(&rest[..run]),
        }
        rest = &rest[run..];
    }
    out
}

fn unit(step: TimeStep) -> &'static str {
    match step {
        TimeStep::Year => "YEARS",
        TimeStep::Month => "MONTHS",
        TimeStep::Day => "DAYS",
        TimeStep::Hour => "HOURS",
        TimeStep::Minute => "MINUTES",
        TimeStep::Second => "SECONDS",
    }
}

/// How far beyond now, at least a day.
fn ahead(step: TimeStep) -> &'static str {
    unit(step.min(TimeStep::Day))
}

#[cfg(test)]
mod tests {
    use lakeward_model::{ColumnType, PartitionKey, TableFormat};

    use super::*;

    #[test]
    fn the_first_day_in_every_pattern() {
        for (pattern, expect) in [
            ("yyyy", "2024"),
            ("yyyy-MM-dd", "2024-03-09"),
            ("yyyy/M/d/H", "2024/3/9/0"),
            ("yyyy-MM-dd'T'HH", "2024-03-09T00"),
            ("'logs'yyyyMMdd", "logs20240309"),
            ("yyyy''MM", "2024'03"),
        ] {
            assert_eq!(first(pattern, "2024-03-09"), expect);
        }
    }

    #[test]
    fn every_kind_of_key() {
        let key = |name: &str, format, hive, depth| PartitionKey {
            name: name.into(),
            ty: ColumnType::Utf8,
            format,
            hive,
            optional: true,
            depth,
        };
        let time = |pattern: &str, step| KeyFormat::Time { pattern: pattern.into(), step };
        let table = TableDescription {
            pipeline: "p".into(),
            location: "s3://b/p/".into(),
            columns: Vec::new(),
            hidden: std::collections::BTreeMap::new(),
            partition_keys: vec![
                key("Year", time("yyyy", TimeStep::Year), true, 1),
                key("month", KeyFormat::Number { from: 1, to: 12, digits: 2 }, true, 1),
                key("h", KeyFormat::Number { from: 0, to: 23, digits: 1 }, true, 1),
                key("area", KeyFormat::Any, true, 1),
                key("customer", KeyFormat::Any, true, 1),
                key("datehour", time("yyyy/MM/dd/HH", TimeStep::Hour), false, 4),
            ],
            folders: "Year=${Year}/month=${month}/h=${h}/area=${area}/customer=${customer}/${datehour}/"
                .into(),
            deeper: 0,
            format: TableFormat::Parquet { compression: "zstd".into() },
        };
        let values = BTreeMap::from([("area".into(), vec!["a".into(), "b".into()])]);
        let all = parameters(&table, &Projection { from: "2024-03-09".into(), values });
        let text: String = all.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        assert_eq!(
            text,
            "projection.area.type=enum\nprojection.area.values=a,b\n\
             projection.customer.type=injected\n\
             projection.datehour.format=yyyy/MM/dd/HH\nprojection.datehour.interval=1\n\
             projection.datehour.interval.unit=HOURS\nprojection.datehour.range=2024/03/09/00,NOW+1DAYS\n\
             projection.datehour.type=date\nprojection.enabled=true\n\
             projection.h.range=0,23\nprojection.h.type=integer\n\
             projection.month.digits=2\nprojection.month.range=1,12\nprojection.month.type=integer\n\
             projection.year.format=yyyy\nprojection.year.interval=1\nprojection.year.interval.unit=YEARS\n\
             projection.year.range=2024,NOW+1YEARS\nprojection.year.type=date\n\
             storage.location.template=s3://b/p/Year=${year}/month=${month}/h=${h}/area=${area}/customer=${customer}/${datehour}/\n"
        );
    }
}
