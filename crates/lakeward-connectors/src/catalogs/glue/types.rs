//! Hive types as they stand in a table, compared with those of our files.

/// What becomes of a column that is in the table and in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Merged {
    /// The table's type reads the files.
    Same,
    /// The table needs this type, which reads what it had too.
    Wider(String),
    /// There is no such type.
    Differs {
        /// The field inside the column; empty for the column itself.
        at: String,
        /// The table's type there.
        theirs: String,
        /// Ours.
        ours: String,
    },
}

/// A type, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    /// `bigint`, `decimal(18,4)`, `map<string,int>`: in lower case, without
    /// spaces.
    Plain(String),
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
}

/// The type for a column that is `theirs` in the table and `ours` in the files.
pub(super) fn merge(theirs: &str, ours: &str) -> Merged {
    let (before, now) = (parse(theirs), parse(ours));
    match join(&before, &now, "") {
        Err((at, theirs, ours)) => Merged::Differs { at, theirs, ours },
        Ok(joined) if joined == before => Merged::Same,
        Ok(joined) => Merged::Wider(joined.text()),
    }
}

type Difference = (String, String, String);

fn join(theirs: &Type, ours: &Type, at: &str) -> Result<Type, Difference> {
    match (theirs, ours) {
        (Type::Array(theirs), Type::Array(ours)) => Ok(Type::Array(Box::new(join(theirs, ours, at)?))),
        (Type::Struct(theirs), Type::Struct(ours)) => {
            let mut fields = theirs.clone();
            for (name, ours) in ours {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                match fields.iter_mut().find(|(known, _)| known == name) {
                    Some((_, theirs)) => *theirs = join(theirs, ours, &at)?,
                    None => fields.push((name.clone(), ours.clone())),
                }
            }
            Ok(Type::Struct(fields))
        }
        (Type::Plain(before), Type::Plain(now)) if reads(before, now) => Ok(theirs.clone()),
        // Columns of ours widen so, and only so.
        (Type::Plain(before), Type::Plain(now)) if before == "bigint" && now == "double" => Ok(ours.clone()),
        _ => Err((at.into(), theirs.text(), ours.text())),
    }
}

/// Whether a table's plain type reads files of another.
fn reads(theirs: &str, ours: &str) -> bool {
    let decimal = |text: &str| -> Option<(u8, u8)> {
        let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        Some((precision.parse().ok()?, scale.parse().ok()?))
    };
    theirs == ours
        || (ours == "string" && (theirs.starts_with("varchar(") || theirs.starts_with("char(")))
        || matches!((decimal(theirs), decimal(ours)), (Some(a), Some(b)) if a.0 >= b.0 && a.1 == b.1)
}

/// Reads a type. What is not understood is plain.
fn parse(text: &str) -> Type {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    parse_within(&text, 0)
}

/// Deeper types are compared as text.
const DEPTH_MAX: usize = 64;

fn parse_within(text: &str, depth: usize) -> Type {
    let plain = || Type::Plain(text.into());
    if depth > DEPTH_MAX {
        return plain();
    }
    if let Some(item) = text.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')) {
        return Type::Array(Box::new(parse_within(item, depth + 1)));
    }
    let Some(fields) = text.strip_prefix("struct<").and_then(|rest| rest.strip_suffix('>')) else {
        return plain();
    };
    let mut parsed = Vec::new();
    for field in split(fields) {
        let Some((name, ty)) = field.split_once(':') else { return plain() };
        parsed.push((name.to_string(), parse_within(ty, depth + 1)));
    }
    Type::Struct(parsed)
}

/// The fields of a struct: split at the commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut fields, mut open, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' => open += 1,
            '>' | ')' => open = open.saturating_sub(1),
            ',' if open == 0 => {
                fields.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&text[start..]);
    fields
}

impl Type {
    fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Array(item) => format!("array<{}>", item.text()),
            Self::Struct(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, ty)| format!("{name}:{}", ty.text())).collect();
                format!("struct<{}>", fields.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_joined_or_not() {
        let wider = |text: &str| Merged::Wider(text.into());
        let differs = |at: &str, theirs: &str, ours: &str| Merged::Differs {
            at: at.into(),
            theirs: theirs.into(),
            ours: ours.into(),
        };
        let check = |theirs: &str, ours: &str, expect: Merged| {
            assert_eq!(merge(theirs, ours), expect, "{theirs} {ours}")
        };
        check("bigint", "bigint", Merged::Same);
        check("BIGINT", "bigint", Merged::Same);
        check("varchar(20)", "string", Merged::Same);
        check("decimal(20, 4)", "decimal(18,4)", Merged::Same);
        check("decimal(18,4)", "decimal(20,4)", differs("", "decimal(18,4)", "decimal(20,4)"));
        check("bigint", "double", wider("double"));
        check("double", "bigint", differs("", "double", "bigint"));
        check("int", "bigint", differs("", "int", "bigint"));
        check("timestamp", "double", differs("", "timestamp", "double"));
        check("string", "struct<a:bigint>", differs("", "string", "struct<a:bigint>"));
        check("struct<a: bigint>", "struct<a:bigint>", Merged::Same);
        check("struct<a:bigint,b:string>", "struct<b:string>", Merged::Same);
        check(
            "struct<a:bigint>",
            "struct<a:double,b:array<string>>",
            wider("struct<a:double,b:array<string>>"),
        );
        check(
            "array<struct<a:decimal(3,1),s:struct<x:int>>>",
            "array<struct<a:decimal(3,1),s:struct<x:bigint>>>",
            differs("s.x", "int", "bigint"),
        );
        check("map<string,int>", "map<string,int>", Merged::Same);
        check("struct<", "struct<", Merged::Same);
    }

    #[test]
    fn deep_types_do_not_overflow() {
        let deep = format!("{}int{}", "array<".repeat(100_000), ">".repeat(100_000));
        assert_eq!(merge(&deep, &deep), Merged::Same);
    }
}
