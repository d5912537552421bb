//! The words of the Data API. It tells errors of a statement as text alone, so
//! the SQLSTATE that the protocol has beside them is found from the words.

use super::Said;

/// The longest text that is kept, in characters.
const CHARACTERS_MAX: usize = 1000;

/// Words at the start of a text or (`*` before them) anywhere in it, words that
/// must stand somewhere, and the SQLSTATE. The first that fits is taken.
const WORDS: [(&str, &str, &str); 30] = [
    // COPY has no codes of its own in the protocol either, and may quote others.
    ("load into table", "", "XX000"),
    ("s3serviceexception", "", "XX000"),
    ("1023", "", "40001"),
    ("*serializable isolation violation", "", "40001"),
    ("*deadlock detected", "", "40P01"),
    ("*division by zero", "", "22012"),
    ("*divide by zero", "", "22012"),
    ("permission denied", "", "42501"),
    ("must be owner", "", "42501"),
    ("password authentication failed", "", "28P01"),
    ("*secrets manager", "", "28000"),
    ("user ", "does not exist", "28000"),
    ("database ", "does not exist", "3D000"),
    ("schema ", "does not exist", "3F000"),
    ("relation ", "does not exist", "42P01"),
    ("table ", "does not exist", "42P01"),
    ("column ", "does not exist", "42703"),
    ("column ", "already exists", "42701"),
    ("*already exists", "", "42P07"),
    ("duplicate key", "", "23505"),
    ("syntax error", "", "42601"),
    ("cannot drop", "", "0A000"),
    ("*not supported", "", "0A000"),
    ("*statement timeout", "", "57014"),
    ("*cancelled on user's request", "", "57014"),
    ("*canceling statement", "", "57014"),
    ("cannot insert a null value", "", "23502"),
    ("null value in column", "", "23502"),
    ("value too long", "", "22001"),
    ("*disk full", "", "53100"),
];

/// What a statement said that ended as `status`.
pub(super) fn read(status: &str, text: Option<&str>) -> Said {
    let message = plain(text.unwrap_or_default());
    let lower = message.to_lowercase();
    let code = if status == "ABORTED" {
        "57014"
    } else {
        let fits = |start: &str, also: &str| {
            let found = match start.strip_prefix('*') {
                Some(words) => lower.contains(words),
                None => lower.starts_with(start),
            };
            found && lower.contains(also)
        };
        WORDS.iter().find(|(start, also, _)| fits(start, also)).map_or("XX000", |(_, _, code)| *code)
    };
    let message = match (message.is_empty(), status) {
        (false, _) => message,
        (true, "ABORTED") => String::from("the statement was stopped"),
        (true, _) => String::from("the statement failed, and nothing says why"),
    };
    Said { code: code.into(), message, ..Said::default() }
}

/// The number of the statement that a text of several speaks of, from 1:
/// `Query #2 failed with ERROR: …`.
pub(super) fn number(text: &str) -> Option<usize> {
    let rest = text.trim_start().strip_prefix("Query #")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// The server's own words: without what the service puts before and behind
/// them, on one line.
fn plain(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    if number(rest).is_some()
        && let Some((_, said)) = rest.split_once("failed with ")
    {
        rest = said;
    }
    for word in ["ERROR:", "FATAL:"] {
        rest = rest.strip_prefix(word).unwrap_or(rest).trim_start();
    }
    // Another one each time: it would make every message new.
    let end = rest.rfind("[ErrorId:").unwrap_or(rest.len());
    rest[..end].trim_end().chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_from_words() {
        let check = |text: &str, code: &str, message: &str| {
            let said = read("FAILED", Some(text));
            assert_eq!((said.code.as_str(), said.message.as_str()), (code, message));
        };
        check(
            "ERROR: permission denied for relation t [ErrorId: 1-65a1b2c3-0123456789abcdef]",
            "42501",
            "permission denied for relation t",
        );
        check(
            "Query #12 failed with ERROR: relation \"public.x\" does not exist",
            "42P01",
            "relation \"public.x\" does not exist",
        );
        check(
            "ERROR: Load into table 't' failed.  Check 'stl_load_errors' system table for details.",
            "XX000",
            "Load into table 't' failed. Check 'stl_load_errors' system table for details.",
        );
        check(
            "ERROR: permission denied for relation stl_load_errors",
            "42501",
            "permission denied for relation stl_load_errors",
        );
        check(
            "ERROR: 1023\n  Detail: Serializable isolation violation on table - 1, transactions",
            "40001",
            "1023 Detail: Serializable isolation violation on table - 1, transactions",
        );
        check(
            "FATAL: password authentication failed for user \"u\"",
            "28P01",
            "password authentication failed for user \"u\"",
        );
        check(
            "ERROR: S3ServiceException:The specified key does not exist.,Status 404",
            "XX000",
            "S3ServiceException:The specified key does not exist.,Status 404",
        );
        check("ERROR: Relation \"t\" already exists", "42P07", "Relation \"t\" already exists");
        check(
            "ERROR: column \"c\" of relation \"t\" already exists",
            "42701",
            "column \"c\" of relation \"t\" already exists",
        );
        check(
            "ERROR: Query (1) cancelled on user's request",
            "57014",
            "Query (1) cancelled on user's request",
        );
        check("", "XX000", "the statement failed, and nothing says why");
    }

    #[test]
    fn numbers_of_statements() {
        assert_eq!(number("Query #3 failed with ERROR: x"), Some(3));
        assert_eq!(number("Query #"), None);
        assert_eq!(number("Query #99999999999999999999 "), None);
        assert_eq!(number("ERROR: Query #3"), None);
    }
}
