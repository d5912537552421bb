//! The rules of ARCHITECTURE.md that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The longest source file, in lines.
const LINES_MAX: usize = 600;

/// Names that say nothing about what a module holds.
const EMPTY_NAMES: [&str; 8] =
    ["common", "handler", "helper", "helpers", "manager", "processor", "util", "utils"];

/// Which of our crates each crate may use: the borders of ARCHITECTURE.md.
/// `lakeward`, the binary, wires them all and is not named.
const USES: [(&str, &[&str]); 8] = [
    ("lakeward-model", &[]),
    ("lakeward-journal", &["lakeward-model"]),
    ("lakeward-columnar", &["lakeward-model"]),
    ("lakeward-connectors", &["lakeward-model", "lakeward-unpack"]),
    ("lakeward-engine", &["lakeward-model", "lakeward-journal", "lakeward-columnar"]),
    ("lakeward-server", &["lakeward-model", "lakeward-engine", "lakeward-columnar"]),
    ("lakeward-simulate", &["lakeward-model"]),
    ("lakeward-unpack", &[]),
];

/// Everything that is stored, each described in `docs/formats/`.
const FORMATS: [&str; 6] = ["dedup.md", "journal.md", "lake.md", "ledger.md", "replies.md", "slices.md"];

/// Checks the repository at `root`.
///
/// # Errors
/// Every broken rule, one a line.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        for file in rust_files(&folder.join("src"))? {
            let text = fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display();
            broken.extend(check_source(&text).into_iter().map(|rule| format!("{shown}: {rule}")));
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        let name = folder.file_name().context("a crate's folder has a name")?.to_string_lossy();
        broken.extend(check_uses(&name, &manifest));
    }
    for format in FORMATS {
        if !root.join("docs/formats").join(format).is_file() {
            broken.push(format!("docs/formats/{format} is missing: every stored format is described"));
        }
    }
    ensure!(broken.is_empty(), "{} broken rules:\n{}", broken.len(), broken.join("\n"));
    Ok(())
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The rules that one source file breaks.
fn check_source(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        broken.push(format!("{lines} lines, more than {LINES_MAX}: one idea per file"));
    }
    for line in text.lines().map(str::trim) {
        let declared = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
        let Some(name) = declared.map(|rest| rest.trim_end_matches([';', '{', ' '])) else { continue };
        if EMPTY_NAMES.contains(&name) {
            broken.push(format!("`mod {name}` does not say what it holds"));
        }
    }
    broken
}

/// The borders that one crate's manifest crosses.
fn check_uses(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = USES.iter().find(|(of, _)| *of == name) else { return Vec::new() };
    let mut section = "";
    let mut broken = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        // A dev-dependency is no border: tests may look across.
        let used = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if section == "[dependencies]" && used.starts_with("lakeward-") && !allowed.contains(&used) {
            broken.push(format!("{name} must not use {used}: see ARCHITECTURE.md"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        if let Err(broken) = run(&crate::root()) {
            panic!("{broken}");
        }
    }

    #[test]
    fn a_long_file_or_an_empty_name_is_found() {
        assert!(check_source(&"x\n".repeat(LINES_MAX)).is_empty());
        assert_eq!(check_source(&"x\n".repeat(LINES_MAX + 1)).len(), 1);
        assert_eq!(check_source("pub(crate) mod utils;\nmod common {\nmod commonplace;\n").len(), 2);
    }

    #[test]
    fn a_crossed_border_is_found() {
        let check = |name: &str, manifest: &str, expect: usize| {
            assert_eq!(check_uses(name, manifest).len(), expect, "{name}: {manifest}");
        };
        check("lakeward-columnar", "[dependencies]\nlakeward-model.workspace = true", 0);
        check("lakeward-columnar", "[dependencies]\nlakeward-engine = { workspace = true }", 1);
        check("lakeward-columnar", "[dev-dependencies]\nlakeward-engine.workspace = true", 0);
        check("lakeward", "[dependencies]\nlakeward-engine.workspace = true", 0);
    }
}
