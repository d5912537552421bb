//! Names and texts in statements.

use std::fmt;

use super::Dialect;

/// A table with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl TableName {
    /// Reads `table` or `schema.table`; each part may be in double quotes.
    /// Without quotes a name is taken as it is written on PostgreSQL, and in
    /// lower case on Redshift, which folds also what is quoted (its
    /// `enable_case_sensitive_identifier` is off by default).
    pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Self, String> {
        let parts =
            parts(text).ok_or_else(|| format!("{text:?} is not a table: `table` or `schema.table`"))?;
        let fold = |part: &String| match dialect {
            Dialect::Postgres => part.clone(),
            Dialect::Redshift => part.to_lowercase(),
        };
        let (schema, name) = match parts.as_slice() {
            [name] => (String::from("public"), fold(name)),
            [schema, name] => (fold(schema), fold(name)),
            _ => return Err(format!("{text:?} has more than a schema and a name")),
        };
        for part in [&schema, &name] {
            check(part, dialect)?;
        }
        Ok(Self { schema, name })
    }

    /// Another table in the same schema.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self { schema: self.schema.clone(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    /// As it stands in a statement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}

/// Splits at dots outside of quotes.
fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut letters = quoted.char_indices().peekable();
            let end = loop {
                match letters.next()? {
                    (_, '"') if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                        letters.next();
                        name.push('"');
                    }
                    (at, '"') => break at + 1,
                    (_, letter) => name.push(letter),
                }
            };
            parts.push(name);
            rest = &quoted[end..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            parts.push(rest[..end].to_string());
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// Whether a name can be one. A longer one would be cut by the server, and two
/// could become one.
pub(crate) fn check(name: &str, dialect: Dialect) -> Result<(), String> {
    // PostgreSQL: NAMEDATALEN - 1. Redshift: "Names and identifiers".
    let most = match dialect {
        Dialect::Postgres => 63,
        Dialect::Redshift => 127,
    };
    if name.is_empty() {
        return Err(String::from("a name is empty"));
    }
    if name.contains('\0') {
        return Err(format!("the name {name:?} has a NUL character"));
    }
    if name.len() > most {
        return Err(format!(
            "the name {name:?} is longer than the {most} bytes that {} takes: give it a shorter one in the \
             pipeline's SQL",
            dialect.name()
        ));
    }
    Ok(())
}

/// A name in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes. Redshift takes a backslash for an escape,
/// PostgreSQL does not (`standard_conforming_strings`, which the session sets).
pub(crate) fn literal(text: &str, dialect: Dialect) -> String {
    let text = text.replace('\'', "''");
    match dialect {
        Dialect::Postgres => format!("'{text}'"),
        Dialect::Redshift => format!("'{}'", text.replace('\\', "\\\\")),
    }
}

/// Names in double quotes, with commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let parsed = TableName::parse(text, Dialect::Postgres).ok();
            let expect = expect.map(|(schema, name)| TableName { schema: schema.into(), name: name.into() });
            assert_eq!(parsed, expect, "{text}");
        };
        check("events", Some(("public", "events")));
        check("a.b", Some(("a", "b")));
        check(r#""A.b"."c""d""#, Some(("A.b", "c\"d")));
        check(r#"a."b"#, None);
        check(r#""a"b"#, None);
        check("a.b.c", None);
        check("a.", None);
        check("", None);
        check(&"x".repeat(64), None);
        assert_eq!(
            TableName::parse("Adobe_LS.Stg", Dialect::Redshift).map(|table| table.to_string()),
            Ok(String::from(r#""adobe_ls"."stg""#))
        );
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(identifier(r#"a"; drop"#), r#""a""; drop""#);
        assert_eq!(literal(r"it's \", Dialect::Postgres), r"'it''s \'");
        assert_eq!(literal(r"it's \", Dialect::Redshift), r"'it''s \\'");
        assert_eq!(list(["a", "b"]), r#""a", "b""#);
    }
}
