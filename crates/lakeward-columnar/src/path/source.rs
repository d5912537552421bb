//! What a path takes from the lineage of a row's record.

use lakeward_model::Lineage;

use crate::process::lineage::read;

/// A part of a record's lineage that a path asks for. Records without a lineage
/// have none of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourcePart {
    /// `!{source:file}`: the file's name with its folders, which are folders in
    /// the path too.
    File,
    /// `!{source:stem}`: the file's name without its folders, and without
    /// `.gz`, `.zst` or `.zip`.
    Stem,
    /// `!{source:<part>}`: what the file's name says there.
    Captured(String),
}

impl SourcePart {
    /// The part of this name; `None` if it is empty.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" => None,
            "file" => Some(Self::File),
            "stem" => Some(Self::Stem),
            name => Some(Self::Captured(name.into())),
        }
    }

    /// The name of the hidden column that holds its values when rows are
    /// partitioned; no `!{event:…}` can name it, as it has a colon.
    #[must_use]
    pub fn column(&self) -> String {
        let name = match self {
            Self::File => "file",
            Self::Stem => "stem",
            Self::Captured(name) => name,
        };
        format!("source:{name}")
    }

    /// Its value in this lineage, if there is one.
    #[must_use]
    pub fn of(&self, lineage: &Lineage<'_>) -> Option<String> {
        match self {
            Self::File => Some(lineage.file.to_string()),
            Self::Stem => Some(stem(lineage.file).to_string()),
            Self::Captured(name) => {
                let (_, value) = read(lineage.fields).find(|(known, _)| known == name)?;
                match serde_json::from_str::<String>(value) {
                    Ok(text) => Some(text),
                    Err(_) => Some(value.to_string()),
                }
            }
        }
    }
}

/// A file's name without its folders and without what says how it is packed.
fn stem(file: &str) -> &str {
    let name = &file[file.rfind('/').map_or(0, |at| at + 1)..];
    let is_packing =
        |ending: &str| [".gz", ".zst", ".zip"].iter().any(|packing| ending.eq_ignore_ascii_case(packing));
    match name.rfind('.') {
        Some(at) if at > 0 && is_packing(&name[at..]) => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::SliceId;

    use super::*;

    #[test]
    fn names_have_stems() {
        let check = |file: &str, expect: &str| assert_eq!(stem(file), expect, "{file}");
        check("203138/203138_2020-11-24_9#0.json.gz", "203138_2020-11-24_9#0.json");
        check("a/b.jsonl", "b.jsonl");
        check("a/b.JSON.GZ", "b.JSON");
        check("b.zst", "b");
        check("b.tar.zip", "b.tar");
        check(".gz", ".gz");
        check("a/", "");
        check("gz", "gz");
        check("ü.ö", "ü.ö");
    }

    #[test]
    fn parts_of_a_lineage() {
        let fields = r#""section_id":145,"category":"vi\"deo","at":"2026-03-01T05-00-00Z""#;
        let lineage = Lineage { slice: SliceId(1), file: "a/b.json.gz", line: 7, fields };
        let check = |name: &str, expect: Option<&str>| {
            let part = SourcePart::named(name).expect("a name");
            assert_eq!(part.of(&lineage).as_deref(), expect, "{name}");
        };
        check("file", Some("a/b.json.gz"));
        check("stem", Some("b.json"));
        check("section_id", Some("145"));
        check("category", Some("vi\"deo"));
        check("at", Some("2026-03-01T05-00-00Z"));
        check("section", None);
        assert_eq!(SourcePart::named(""), None);
        for broken in ["", "\"a\"", "\"a\":", "\"a\":x", "a:1", "\"a\":1 \"b\":2"] {
            let lineage = Lineage { fields: broken, ..lineage };
            assert_eq!(SourcePart::Captured("b".into()).of(&lineage), None, "{broken}");
        }
    }
}
