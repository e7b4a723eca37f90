//! Where the sources are and where artefacts go.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A checkout of HyperExo.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// Directory of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// Features of its packages to build with, as cargo's `--features` takes them; normally none.
    pub features: Vec<String>,
}

impl Checkout {
    /// The checkout named by the variable `HYPEREXO`, else the one this tool was built from.
    pub fn find() -> Result<Checkout> {
        let root = match std::env::var_os("HYPEREXO") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        };
        let root = root.canonicalize().map_err(|_| Error::NoCheckout(root.clone()))?;
        if !root.join("hyperexo/abi/Cargo.toml").is_file() {
            return Err(Error::NoCheckout(root));
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(path) => std::path::absolute(&path).map_err(Error::io("resolve", Path::new(&path)))?,
            None => root.join("target"),
        };
        Ok(Checkout { root, target, features: Vec::new() })
    }

    /// Directory for what this tool makes: images, bundles, reports. Created if missing.
    pub fn artefacts(&self, kind: &str) -> Result<PathBuf> {
        let path = self.target.join("exo").join(kind);
        std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }

    /// Names of the unikernels of the checkout: the directories of `unikernels/` that have a `src/main.rs`.
    pub fn unikernels(&self) -> Result<Vec<String>> {
        let folder = self.root.join("unikernels");
        let listing = std::fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
        let mut names: Vec<String> = listing
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("src/main.rs").is_file())
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }
}
