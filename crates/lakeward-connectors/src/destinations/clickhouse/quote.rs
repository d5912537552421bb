//! Names and values inside statements.

/// A string literal: a backslash escapes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", escaped(text, '\''))
}

/// A name in backticks: a backslash escapes.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", escaped(name, '`'))
}

/// `database.table`.
pub(super) fn qualified(database: &str, table: &str) -> String {
    format!("{}.{}", name(database), name(table))
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quote_early() {
        assert_eq!(literal("it's\\ \n"), r"'it\'s\\ \n'");
        assert_eq!(name("a`b\\`"), r"`a\`b\\\``");
        assert_eq!(qualified("d", "t x"), "`d`.`t x`");
    }
}
