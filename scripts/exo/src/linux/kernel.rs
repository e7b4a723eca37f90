//! Debian's kernel for virtual machines, from its package: downloaded by `apt-get`, unpacked by `dpkg-deb`,
//! kept in the target directory, never installed.

use super::modules::{self, Module};
use super::packages;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use std::path::{Path, PathBuf};

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
        let package = package()?;
        eprintln!("exo: downloading {package}, to compare with (kept in {})", folder.display());
        let scratch = tempfile::tempdir_in(&folder).map_err(Error::io("create a directory in", &folder))?;
        let made = packages::download(&package, scratch.path())?;
        // Whoever comes first wins; the others find it there.
        let place = folder.join("kernel");
        let moved = std::fs::rename(&made, &place);
        match (kept(&place), moved) {
            (Some(kernel), _) => Ok(kernel),
            (None, Err(error)) => Err(Error::io("create", &place)(error)),
            (None, Ok(())) => Err(packages::not_offered(&format!("{package} holds no kernel"))),
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
    let mut packages = packages::dependencies(META_PACKAGE)?.into_iter();
    let newest = packages.find(|package| package.starts_with("linux-image-"));
    newest.ok_or_else(|| packages::not_offered(&format!("apt-cache does not know {META_PACKAGE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

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
