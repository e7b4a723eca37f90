//! Debian's packages: downloaded by `apt-get`, unpacked by `dpkg-deb`, kept in the target directory, never
//! installed; and what a program in one of them needs to run in a guest.

use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::programs::program_path;
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, ElfFile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs look for libraries in a guest.
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";
/// The program that loads them, as every program names it.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Generations of packages that need each other, before it is given up.
const DEPTH: usize = 6;

/// The files of a package, below the directory that this returns. It is downloaded once.
///
/// # Errors
///
/// [`Error::NotOffered`] if this host has no `apt-get`, does not know the package, or can't download it.
pub fn unpacked(checkout: &Checkout, package: &str) -> Result<PathBuf> {
    let folder = checkout.artefacts("packages")?;
    let place = folder.join(package);
    if place.is_dir() {
        return Ok(place);
    }
    let scratch = tempfile::tempdir_in(&folder).map_err(Error::io("create a directory in", &folder))?;
    let made = download(package, scratch.path())?;
    // Whoever comes first wins; the others find it there.
    match std::fs::rename(&made, &place) {
        Err(error) if !place.is_dir() => Err(Error::io("create", &place)(error)),
        _ => Ok(place),
    }
}

/// Downloads a package into a directory, and unpacks it there; the directory of its files.
pub(super) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if program_path(program).is_none() {
            return Err(not_offered(&format!("there is no {program}")));
        }
    }
    ask("apt-get", &["download", "--quiet=2", package], folder)?;
    let archive = std::fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut archives = archive.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = archives.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let archive = archive.ok_or_else(|| not_offered("apt-get download left no package"))?;
    ask("dpkg-deb", &["--extract", &archive.to_string_lossy(), "files"], folder)?;
    Ok(folder.join("files"))
}

/// The packages that a package depends on.
pub(super) fn dependencies(package: &str) -> Result<Vec<String>> {
    Ok(depended_on(&ask("apt-cache", &["depends", package], Path::new("."))?))
}

/// The packages in what `apt-cache depends` prints.
fn depended_on(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect()
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

/// That nothing of Debian's can be had, and why.
pub(super) fn not_offered(why: &str) -> Error {
    Error::NotOffered { what: "a package of Debian's to compare with".into(), why: why.to_owned() }
}

/// A program of a package with the libraries it needs, from the packages that this one depends on: paths in a
/// guest, where the program is `path`, and files here. `found` is where it is in the package.
///
/// # Errors
///
/// [`Error::NotOffered`] as for [`unpacked`]; [`Error::LinuxKernel`] if a library is in none of them.
pub fn program(
    checkout: &Checkout,
    package: &str,
    found: &str,
    path: &str,
) -> Result<Vec<(String, PathBuf)>> {
    let program = unpacked(checkout, package)?.join(found);
    let mut files = vec![(path.to_owned(), program.clone())];
    let mut wanted: BTreeSet<String> = needed(&program)?.into_iter().collect();
    let (mut there, mut asked) = (BTreeMap::new(), BTreeSet::from([package.to_owned()]));
    let mut generation = asked.clone();
    for _ in 0..DEPTH {
        resolve(&mut wanted, &there, &mut files)?;
        if wanted.is_empty() {
            return Ok(files);
        }
        let mut next = BTreeSet::new();
        for package in &generation {
            // All others hold no libraries, or are programs.
            let libraries = dependencies(package)?.into_iter().filter(|name| name.contains("lib"));
            next.extend(libraries.filter(|name| !asked.contains(name)));
        }
        // Debian's name for the library of zlib does not begin as the others do.
        next.retain(|name| name.starts_with("lib") || name.starts_with("zlib"));
        for name in &next {
            list(&unpacked(checkout, name)?, &mut there)?;
        }
        asked.extend(next.iter().cloned());
        generation = next;
    }
    let names = wanted.into_iter().collect::<Vec<_>>().join(", ");
    Err(Error::LinuxKernel(format!("{package}: no package it depends on has {names}")))
}

/// Moves what is there from `wanted` to `files`, and what that needs likewise.
fn resolve(
    wanted: &mut BTreeSet<String>,
    there: &BTreeMap<String, PathBuf>,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    while let Some((name, file)) = wanted.iter().find_map(|name| there.get_key_value(name)) {
        wanted.remove(name);
        let path =
            if LOADER.ends_with(name.as_str()) { LOADER.into() } else { format!("{LIBRARIES}/{name}") };
        if files.iter().any(|(other, _)| *other == path) {
            continue;
        }
        files.push((path, file.clone()));
        wanted.extend(needed(file)?);
    }
    Ok(())
}

/// All libraries below a directory, by the names under which programs want them.
fn list(folder: &Path, libraries: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            list(&path, libraries)?;
        } else if name.contains(".so") && path.is_file() && !leads_out(&path) {
            libraries.entry(name).or_insert(path);
        }
    }
    Ok(())
}

/// Whether it is a link to a file of this host's own.
fn leads_out(path: &Path) -> bool {
    path.read_link().is_ok_and(|target| target.is_absolute())
}

/// The libraries that an ELF file needs, the program that loads them among them.
fn needed(file: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
    let wrong = |reason: String| Error::Elf { path: file.to_path_buf(), reason };
    names(&bytes).map_err(|error| wrong(error.to_string()))
}

fn names(bytes: &[u8]) -> object::Result<Vec<String>> {
    let elf = ElfFile::<FileHeader64<Endianness>>::parse(bytes)?;
    let endian = elf.endian();
    let Some((entries, strings)) = elf.elf_section_table().dynamic(endian, bytes)? else { return Ok(vec![]) };
    let strings = elf.elf_section_table().strings(endian, bytes, strings)?;
    let mut names = Vec::new();
    for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
        names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
    }
    if !names.is_empty() {
        // Programs name it in a segment of its own, the C library as a library.
        names.push(LOADER.rsplit('/').next().unwrap_or_default().to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_depends_on() {
        let text = "nginx\n  Depends: libc6\n |Depends: a\n  Suggests: x\n  Depends: zlib1g\n";
        assert_eq!(depended_on(text), ["libc6", "zlib1g"]);
    }

    #[test]
    fn libraries_are_named_by_who_needs_them() {
        // This very test program.
        let own = needed(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.iter().any(|name| name == "libc.so.6"), "{own:?}");
        assert!(own.iter().any(|name| name == "ld-linux-x86-64.so.2"), "{own:?}");
        assert!(names(b"no ELF").is_err());
    }
}
