//! Values in paths: no value can leave its folder.
//!
//! The rule, in order:
//! 1. an empty value becomes `__empty__`;
//! 2. the characters that Hive escapes in partition folders (`FileUtils.escapePathName`:
//!    control characters, `"` `#` `%` `'` `*` `/` `:` `=` `?` `\` `{` `[` `]` `^`
//!    and DEL), the Unicode controls, and a leading `.` become `%XX` per byte;
//! 3. a result that is longer than its limit (128 bytes, less where a template
//!    has many expressions) is cut and ends in `-` and 16 hex digits of the
//!    value's xxh3, so that different values keep different folders.
//!
//! So a folder's name is never `.`, `..` or empty, and holds no separator.
//!
//! A partition key (`!{partitionKeyFromQuery:…}`) may be several folders:
//! Firehose takes its value as it is, so `2026/07/13` is three of them. Here
//! its slashes stay slashes, and the rule holds for every folder.

use std::fmt::Write as _;

/// The most bytes that one value takes in a path.
pub const MAX_VALUE: usize = 128;

/// What an empty value becomes.
pub const EMPTY: &str = "__empty__";

/// `-` and 16 hex digits.
const HASH: usize = 17;

/// The least limit that [`append`] can keep.
pub(super) const MIN_LIMIT: usize = 24;

/// Appends `value` as it stands in a path, at most `limit` bytes (at least 24).
/// Returns whether the value can be read back from it: false if it was cut.
pub fn append(value: &str, limit: usize, out: &mut String) -> bool {
    append_text(value, limit, false, out)
}

/// Appends a partition key's value, whose slashes separate folders, as
/// [`append`] does a value.
pub fn append_folders(value: &str, limit: usize, out: &mut String) -> bool {
    if !value.contains('/') {
        return append(value, limit, out);
    }
    let folders: Vec<&str> = value.split('/').map(|f| if f.is_empty() { EMPTY } else { f }).collect();
    append_text(&folders.join("/"), limit, true, out)
}

fn append_text(value: &str, limit: usize, has_folders: bool, out: &mut String) -> bool {
    assert!(limit >= MIN_LIMIT, "a limit has room for a hash");
    if value.is_empty() {
        out.push_str(EMPTY);
        return true;
    }
    let start = out.len();
    // Where the text may be cut so that the hash still fits.
    let mut cut = start;
    let mut is_first = true;
    for c in value.chars() {
        if has_folders && c == '/' {
            out.push(c);
            is_first = true;
        } else if must_escape(c) || (is_first && c == '.') {
            is_first = false;
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
            }
        } else {
            is_first = false;
            out.push(c);
        }
        if out.len() - start <= limit - HASH {
            cut = out.len();
        }
        if out.len() - start > limit {
            out.truncate(cut);
            let hash = xxhash_rust::xxh3::xxh3_64(value.as_bytes());
            write!(out, "-{hash:016x}").expect("writing to a string cannot fail");
            return false;
        }
    }
    true
}

fn must_escape(c: char) -> bool {
    const SPECIAL: &str = "\"#%'*/:=?\\{[]^";
    if c.is_ascii_alphanumeric() { false } else { c.is_control() || SPECIAL.contains(c) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let check = |value: &str, expect: &str| {
            let mut out = String::new();
            assert!(append(value, MAX_VALUE, &mut out));
            assert_eq!(out, expect);
        };
        check("plain-value_1.x", "plain-value_1.x");
        check("", "__empty__");
        check(".", "%2E");
        check("..", "%2E.");
        check("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd");
        check("a\\b", "a%5Cb");
        check("a=b:c", "a%3Db%3Ac");
        check("100%", "100%25");
        check("nul\0tab\tnl\n", "nul%00tab%09nl%0A");
        check("\u{85}", "%C2%85");
        check("{a}[b]^#?*'\"", "%7Ba}%5Bb%5D%5E%23%3F%2A%27%22");
        check("Zürich 東京", "Zürich 東京");
    }

    #[test]
    fn folders_are_escaped_one_by_one() {
        let check = |value: &str, expect: &str| {
            let mut out = String::new();
            assert!(append_folders(value, MAX_VALUE, &mut out));
            assert_eq!(out, expect);
        };
        check("plain", "plain");
        check("", "__empty__");
        check("2026/07/13", "2026/07/13");
        check("../../etc", "%2E./%2E./etc");
        check("/a//b/", "__empty__/a/__empty__/b/__empty__");
        check("a=b/c:d", "a%3Db/c%3Ad");
        let mut out = String::new();
        assert!(!append_folders(&"/..".repeat(200), MAX_VALUE, &mut out));
        assert!(out.len() <= MAX_VALUE && !out.contains("//") && !out.contains("/."), "{out}");
    }

    #[test]
    fn long_values_are_cut_and_stay_apart() {
        let (mut a, mut b) = (String::new(), String::new());
        assert!(!append(&("/".repeat(500) + "a"), MAX_VALUE, &mut a));
        assert!(!append(&("/".repeat(500) + "b"), MAX_VALUE, &mut b));
        assert!(a != b && a.len() <= MAX_VALUE && b.len() <= MAX_VALUE);
        assert!(a.starts_with("%2F") && !a.contains('/'));
        let mut exact = String::new();
        assert!(append(&"x".repeat(MAX_VALUE), MAX_VALUE, &mut exact), "just fits");
    }
}
