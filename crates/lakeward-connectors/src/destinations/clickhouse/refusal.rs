//! What ClickHouse's errors mean (contract
//! `amplitude-xapi-adobe-warehouses.md`, section 3.3). Every row is one of the
//! table in `docs/clickhouse.md`.

use std::time::Duration;

use lakeward_model::{Failure, FailureKind};

/// A request that did not do what it was sent for.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// ClickHouse's own code, if it said one.
    pub(super) code: Option<u32>,
    /// What it said, or what happened; short, without line breaks.
    pub(super) message: String,
    pub(super) kind: FailureKind,
    pub(super) retry_after: Option<Duration>,
}

/// What a code is about, where something can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matter {
    /// A value of a row.
    Data,
    /// The table, its columns or what the user may do: what is known of them
    /// is looked up again.
    Table,
    /// A setting that the server does not know, or lets nobody change.
    Setting,
    /// One insert touches too many partitions.
    Partitions,
    Other,
}

/// A wait that helps where a quota or parts are the trouble.
const SLOW: Duration = Duration::from_secs(30);

impl Refusal {
    /// What an answer with a code says. `is_late` if it stands in a reply that
    /// began as a success: something may have been stored.
    pub(super) fn of_code(code: u32, said: &str, is_late: bool) -> Self {
        let kind = match kind_of(code, said) {
            FailureKind::NotDone if is_late => FailureKind::Unknown,
            kind => kind,
        };
        let retry_after = matches!(code, 201 | 252).then_some(SLOW).filter(|_| kind != FailureKind::Refused);
        let message = format!("ClickHouse answers {}{}", short(said), advice(code));
        Self { code: Some(code), message, kind, retry_after }
    }

    /// What a status without a code says.
    pub(super) fn of_status(status: u16, said: &str) -> Self {
        let said = short(said);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let (kind, hint) = match status {
            401 | 403 => (FailureKind::Refused, " (check user and password, and what stands in between)"),
            300..=399 => {
                (FailureKind::Refused, " (redirections are not followed: give the last address in url)")
            }
            404 | 405 => (FailureKind::Refused, " (check url: it is no ClickHouse that answers there)"),
            413 => (
                FailureKind::Refused,
                " (what stands in between takes no such large bodies: make batch.size smaller)",
            ),
            // Nobody knows what stands in between did before it gave up.
            408 | 500..=599 => (FailureKind::Unknown, ""),
            _ => (FailureKind::from_http_status(status), ""),
        };
        let message = format!("{status} came instead of ClickHouse's answer{said}{hint}");
        Self { code: None, message, kind, retry_after: None }
    }

    /// No answer: whether it was done is known to nobody.
    pub(super) fn unknown(message: String) -> Self {
        Self { code: None, message, kind: FailureKind::Unknown, retry_after: None }
    }

    pub(super) fn matter(&self) -> Matter {
        match self.code {
            None => Matter::Other,
            Some(252) if is_partitions(&self.message) => Matter::Partitions,
            Some(164) if self.message.to_lowercase().contains("cannot modify") => Matter::Setting,
            Some(code) => matter_of(code),
        }
    }

    /// The setting that an unknown one, or one that may not be changed, is.
    pub(super) fn setting(&self) -> Option<String> {
        if self.matter() != Matter::Setting {
            return None;
        }
        // "Unknown setting 'x'", "Setting x is neither …", "Cannot modify 'x' setting in readonly mode".
        let lower = self.message.to_lowercase();
        let at = lower.find("setting ").map(|at| at + "setting ".len());
        let quoted = lower.find("cannot modify '").map(|at| at + "cannot modify '".len());
        let rest = self.message.get(quoted.or(at)?..)?.trim_start_matches(['\'', '"', '`']);
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { message, kind, retry_after, .. } = refusal;
        Self { retry_after, ..Self::new(kind, message) }
    }
}

fn kind_of(code: u32, said: &str) -> FailureKind {
    match code {
        // Said before anything is written.
        164 | 201 | 202 | 203 | 242 | 439 | 700 | 745 => FailureKind::NotDone,
        252 if is_partitions(said) => FailureKind::Refused,
        252 => FailureKind::NotDone,
        // While it is written, or by those who do it: some of it may be there.
        3 | 107 | 159 | 209 | 210 | 216 | 236 | 241 | 243 | 279 | 285 | 286 | 319 | 394 | 425 | 499 | 735
        | 999 => FailureKind::Unknown,
        _ if matter_of(code) != Matter::Other => FailureKind::Refused,
        48 | 62 | 73 | 80 | 192..=194 | 291 | 497 | 516 => FailureKind::Refused,
        // Those that nobody has met: tried again, with pauses.
        _ => FailureKind::Unknown,
    }
}

fn matter_of(code: u32) -> Matter {
    match code {
        // Values that cannot be read, converted or kept.
        6 | 25 | 26 | 27 | 33 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 130 | 131 | 190 | 321 | 349 | 376
        | 395 | 407 | 441 | 467 | 469 | 675 | 676 | 691 => Matter::Data,
        // Columns, tables, databases, rights.
        8 | 10 | 16 | 20 | 36 | 43 | 44 | 46 | 47 | 50 | 60 | 63 | 81 | 218 | 497 => Matter::Table,
        115 | 452 => Matter::Setting,
        _ => Matter::Other,
    }
}

/// 252 is also said of one insert into too many partitions, which trying again
/// does not change.
fn is_partitions(said: &str) -> bool {
    said.to_lowercase().contains("too many partitions")
}

fn advice(code: u32) -> &'static str {
    match code {
        60 => " (create the table, or set auto_create)",
        81 => " (create the database, or set auto_create)",
        164 | 242 => " (the user, the server or the table can only be read at the moment)",
        192..=194 | 516 => " (check user and password)",
        497 => " (grant it what is missing)",
        216 => " (an earlier try still runs; it is waited for)",
        _ => "",
    }
}

/// The first words of what was said, on one line.
fn short(said: &str) -> String {
    let line: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // The stack of functions that a failed expression stood in helps nobody.
    let cut = line.find(": while executing 'FUNCTION");
    let end = line.find(" (version ");
    let line = match (cut, line.rfind(". (")) {
        (Some(cut), Some(name)) if name > cut => {
            format!("{}{}", &line[..cut], &line[name..end.unwrap_or(line.len()).max(name)])
        }
        _ => line[..end.unwrap_or(line.len())].to_string(),
    };
    line.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use FailureKind::{NotDone, Refused, Unknown};

    use super::*;

    /// Contract, section 3.3, and what it adds.
    #[test]
    fn codes_become_kinds() {
        let said = |code| format!("Code: {code}. DB::Exception: x. (X) (version 1)");
        for code in [3, 107, 159, 209, 210, 241, 285, 286, 319, 236, 999, 425, 499, 394, 735, 216] {
            assert_eq!(Refusal::of_code(code, &said(code), false).kind, Unknown, "{code}");
        }
        for code in [164, 202, 203, 242, 252, 201, 439] {
            assert_eq!(Refusal::of_code(code, &said(code), false).kind, NotDone, "{code}");
            assert_eq!(Refusal::of_code(code, &said(code), true).kind, Unknown, "{code}, late");
        }
        for code in [16, 27, 6, 26, 53, 60, 62, 70, 72, 117, 131, 192, 193, 194, 516, 497, 81, 115, 452] {
            assert_eq!(Refusal::of_code(code, &said(code), false).kind, Refused, "{code}");
        }
        assert_eq!(Refusal::of_code(424_242, "?", false).kind, Unknown);
        for code in [6, 26, 27, 53, 70, 72, 117, 131, 469, 349, 321, 395] {
            assert_eq!(matter_of(code), Matter::Data, "{code}");
        }
    }

    #[test]
    fn parts_and_partitions_are_told_apart() {
        let parts = "Code: 252. DB::Exception: Too many parts (3000 with average size 1 MiB) in table 'd.t'. \
                     Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)";
        let partitions = "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100). \
                          (TOO_MANY_PARTS)";
        let (parts, partitions) =
            (Refusal::of_code(252, parts, false), Refusal::of_code(252, partitions, false));
        assert_eq!((parts.kind, parts.matter(), parts.retry_after), (NotDone, Matter::Other, Some(SLOW)));
        assert_eq!((partitions.kind, partitions.matter()), (Refused, Matter::Partitions));
        assert_eq!(partitions.retry_after, None);
    }

    #[test]
    fn statuses_become_kinds() {
        for (status, kind) in [
            (401, Refused),
            (403, Refused),
            (404, Refused),
            (302, Refused),
            (413, Refused),
            (408, Unknown),
            (429, NotDone),
            (500, Unknown),
            (502, Unknown),
            (503, Unknown),
            (504, Unknown),
        ] {
            assert_eq!(Refusal::of_status(status, "<html>").kind, kind, "{status}");
        }
    }

    #[test]
    fn settings_are_found() {
        let check = |code, said: &str, expect: Option<&str>| {
            assert_eq!(Refusal::of_code(code, said, false).setting().as_deref(), expect, "{said}");
        };
        check(115, "Code: 115. DB::Exception: Unknown setting 'foo_bar'. (UNKNOWN_SETTING)", Some("foo_bar"));
        check(115, "Code: 115. DB::Exception: Setting foo is neither a builtin setting nor …", Some("foo"));
        check(452, "Code: 452. DB::Exception: Setting foo should not be changed. (SETTING_…)", Some("foo"));
        check(27, "Code: 27. DB::Exception: setting foo", None);
    }

    #[test]
    fn messages_are_short() {
        let said = "Code: 395. DB::Exception: column `c`: a value does not fit UInt8: while executing \
                    'FUNCTION throwIf(…)': while x. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO) (version 26.9.2.1)\n";
        assert_eq!(
            Refusal::of_code(395, said, false).message,
            "ClickHouse answers Code: 395. DB::Exception: column `c`: a value does not fit UInt8. \
             (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)"
        );
    }
}
