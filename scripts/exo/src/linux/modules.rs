//! Kernel modules: which files they are, and which others they need first.
//!
//! A module says itself what it needs, in its section `.modinfo`: `depends=virtio,virtio_ring`. (The index
//! that `depmod` makes of this is not in Debian's package: it is made when that is installed.)

use crate::error::{Error, Result};
use object::{Object, ObjectSection};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
}

/// The modules `wanted` and all they need, in an order in which they can be loaded. `folder` is searched with
/// all below it.
pub fn with_dependencies(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut files = HashMap::new();
    list(folder, &mut files)?;
    let mut order = Vec::new();
    wanted.iter().try_for_each(|name| append(name, &files, &mut order, MAX_DEPTH))?;
    Ok(order)
}

/// Deepest chain of modules that need each other; kernels have chains of five or so.
const MAX_DEPTH: usize = 32;

fn append(name: &str, files: &HashMap<String, PathBuf>, order: &mut Vec<Module>, depth: usize) -> Result<()> {
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let wrong = |what: &str| Error::LinuxKernel(format!("module {name}: {what}"));
    let file = files.get(name).ok_or_else(|| wrong("not in the package"))?;
    let depth = depth.checked_sub(1).ok_or_else(|| wrong("it needs itself"))?;
    let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
    for needed in depends(&bytes).map_err(|error| wrong(&error))? {
        append(&needed, files, order, depth)?;
    }
    order.push(Module { name: name.to_owned(), file: file.clone() });
    Ok(())
}

/// All module files below `folder`, by name. A "-" in the name of the file is a "_" in that of the module.
fn list(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(stem) = path.file_stem()
        {
            files.insert(stem.to_string_lossy().replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Names of the modules that the module in this ELF file needs.
fn depends(file: &[u8]) -> std::result::Result<Vec<String>, String> {
    let elf = object::File::parse(file).map_err(|error| error.to_string())?;
    let section = elf.section_by_name(".modinfo").ok_or("no section .modinfo")?;
    let text = section.data().map_err(|error| error.to_string())?;
    Ok(named(text))
}

/// The value of `depends` in the text of a section `.modinfo`.
fn named(modinfo: &[u8]) -> Vec<String> {
    let values = modinfo.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"depends="));
    let names = values.flat_map(|value| value.split(|byte| *byte == b','));
    let names = names.filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_in_its_section() {
        assert_eq!(named(b"license=GPL\0depends=virtio,virtio-ring\0name=x\0"), ["virtio", "virtio_ring"]);
        assert!(named(b"license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = with_dependencies(folder.path(), &["virtio_blk"]).unwrap_err().to_string();
        assert!(error.contains("module virtio_blk: not in the package"), "{error}");
        std::fs::write(folder.path().join("virtio-blk.ko"), "no ELF").unwrap();
        assert!(with_dependencies(folder.path(), &["virtio_blk"]).is_err());
    }
}
