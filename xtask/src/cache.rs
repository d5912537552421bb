//! The cache folder: Python environments and Node packages, made once and
//! used again until what they were made from changes. It lies outside the
//! repository.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::steps::run;

/// The folder, held for this process alone while anything is made in it.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens `$LAKEWARD_CACHE`, or `lakeward` in `$XDG_CACHE_HOME`, or
    /// `~/.cache/lakeward`.
    ///
    /// # Errors
    /// No such folder can be made.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("LAKEWARD_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("lakeward")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/lakeward")))
            .context("set LAKEWARD_CACHE to a folder for what the tests need")?;
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// The Python of an environment with exactly `requirements` installed.
    ///
    /// # Errors
    /// There is no `python3` with `venv`, or a package cannot be had.
    pub(crate) fn python(&self, name: &str, requirements: &Path) -> anyhow::Result<PathBuf> {
        let folder = self.made(name, requirements, |folder| {
            run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            run(Command::new(folder.join("bin/python")).args(install).arg(requirements))
        })?;
        Ok(folder.join("bin/python"))
    }

    /// A folder whose `node_modules` has what `package` (a `package.json` with
    /// exact versions) asks for. No lock file: it would name a registry.
    ///
    /// # Errors
    /// There is no `npm`, or a package cannot be had.
    pub(crate) fn node(&self, name: &str, package: &Path) -> anyhow::Result<PathBuf> {
        self.made(name, package, |folder| {
            fs::create_dir_all(folder)?;
            fs::copy(package, folder.join("package.json"))?;
            let install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefix"];
            run(Command::new("npm").args(install).arg(folder))
        })
    }

    /// A folder of the jars that `pom` (a `pom.xml` with exact versions) asks
    /// for.
    ///
    /// # Errors
    /// There is no `mvn`, or a package cannot be had.
    pub(crate) fn java(&self, name: &str, pom: &Path) -> anyhow::Result<PathBuf> {
        self.made(name, pom, |folder| {
            fs::create_dir_all(folder)?;
            let mut into = OsString::from("-DoutputDirectory=");
            into.push(folder);
            let copy = ["-q", "-B", "dependency:copy-dependencies", "-f"];
            run(Command::new("mvn").args(copy).arg(pom).arg(into))
        })
    }

    /// The folder `name-<hash of source>`, made by `make` if it is not there
    /// whole; older ones of that name go.
    fn made(
        &self,
        name: &str,
        source: &Path,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let text = fs::read(source).with_context(|| source.display().to_string())?;
        let wanted = OsString::from(format!("{name}-{:016x}", fnv1a(&text)));
        let folder = self.folder.join(&wanted);
        let whole = folder.join("whole");
        if whole.exists() {
            return Ok(folder);
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('-'))
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        make(&folder)?;
        fs::write(whole, b"")?;
        Ok(folder)
    }
}

/// FNV-1a, 64 bits: tells one requirements file from another.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        // Test vectors of the FNV reference code.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
