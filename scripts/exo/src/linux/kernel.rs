//! Debian's kernel for virtual machines, from its package: downloaded by `apt-get`, unpacked by `dpkg-deb`,
//! kept in the target directory, never installed.

use super::modules::{self, Module};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::programs::program_path;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that always names the newest one.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel of Debian's.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The image, `vmlinuz`.
    pub image: PathBuf,
    /// Directory of its modules.
    pub folder: PathBuf,
    /// Its version, such as `6.1.0-56-cloud-amd64`.
    pub version: String,
}

impl Kernel {
    /// The kernel: the one that is kept, or else the newest that `apt-get` offers.
    ///
    /// # Errors
    ///
    /// [`Error::NotOffered`] if this host has no `apt-get`, does not know the package, or can't download it.
    pub fn fetch(checkout: &Checkout) -> Result<Kernel> {
        let folder = checkout.artefacts("linux")?;
        if let Some(kernel) = kept(&folder.join("kernel")) {
            return Ok(kernel);
        }
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if program_path(program).is_none() {
                return Err(not_offered(&format!("there is no {program}")));
            }
        }
        let package = package()?;
        eprintln!("exo: downloading {package}, to compare with (kept in {})", folder.display());
        let scratch = tempfile::tempdir_in(&folder).map_err(Error::io("create a directory in", &folder))?;
        ask("apt-get", &["download", "--quiet=2", &package], scratch.path())?;
        let archive = std::fs::read_dir(scratch.path()).map_err(Error::io("list", scratch.path()))?;
        let mut archives = archive.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = archives.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let archive = archive.ok_or_else(|| not_offered("apt-get download left no package"))?;
        ask("dpkg-deb", &["--extract", &archive.to_string_lossy(), "kernel"], scratch.path())?;
        // Whoever comes first wins; the others find it there.
        let (made, place) = (scratch.path().join("kernel"), folder.join("kernel"));
        let moved = std::fs::rename(&made, &place);
        match (kept(&place), moved) {
            (Some(kernel), _) => Ok(kernel),
            (None, Err(error)) => Err(Error::io("create", &place)(error)),
            (None, Ok(())) => Err(not_offered(&format!("{package} holds no kernel"))),
        }
    }

    /// The files of these modules and of those they need, in the order in which they can be loaded.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        modules::with_dependencies(&self.folder, names)
    }
}

/// The kernel in the directory of an unpacked package.
fn kept(folder: &Path) -> Option<Kernel> {
    let boot = std::fs::read_dir(folder.join("boot")).ok()?;
    let files = boot.filter_map(|entry| Some(entry.ok()?.path()));
    let (image, version) = files
        .filter_map(|path| {
            let version = path.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            Some((path, version))
        })
        .next()?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(&version));
    let folder = modules.into_iter().find(|modules| modules.is_dir())?;
    Some(Kernel { image, folder, version })
}

/// The package with the newest kernel.
fn package() -> Result<String> {
    let text = ask("apt-cache", &["depends", META_PACKAGE], Path::new("."))?;
    depended_on(&text).ok_or_else(|| not_offered(&format!("apt-cache does not know {META_PACKAGE}")))
}

/// The kernel's package in what `apt-cache depends` prints.
fn depended_on(text: &str) -> Option<String> {
    let packages = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.map(str::to_owned).find(|package| package.starts_with("linux-image-"))
}

/// Runs a program of Debian's package tools; returns what it prints.
fn ask(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).env("LC_ALL", "C").output();
    let output = output.map_err(Error::io("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
    Err(not_offered(&format!("{program} {}: {said}", arguments.join(" "))))
}

fn not_offered(why: &str) -> Error {
    Error::NotOffered { what: "Debian's Linux kernel to compare with".into(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_behind_the_newest_kernel() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        assert_eq!(depended_on(text).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(depended_on("nothing\n"), None);
    }

    #[test]
    fn an_unpacked_package_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        assert!(kept(folder.path()).is_none());
        for place in ["boot", "usr/lib/modules/6.1.0"] {
            std::fs::create_dir_all(folder.path().join(place)).unwrap();
        }
        std::fs::write(folder.path().join("boot/vmlinuz-6.1.0"), "kernel").unwrap();
        let kernel = kept(folder.path()).unwrap();
        assert_eq!(kernel.version, "6.1.0");
        assert!(kernel.folder.ends_with("usr/lib/modules/6.1.0"));
    }
}
