//! A real source tree: the sources of the workspace's locked dependencies, as cargo unpacked them.
//!
//! `Cargo.lock` fixes them to the byte, so everybody who builds a commit searches, sorts and counts the same
//! text.

use super::DataError;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer files are tables that a program wrote, not source text.
const LONGEST_FILE: usize = 128 * 1024;

/// A source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path from the root of the tree, like `serde-1.0.228/src/lib.rs`. Without white space.
    pub path: String,
    /// Contents: UTF-8.
    pub text: String,
}

/// Takes `.rs` files of the locked dependencies of the workspace in `workspace`, in the order of their paths,
/// until together they have at least `bytes` bytes.
pub fn collect(workspace: &Path, bytes: u64) -> Result<Vec<SourceFile>, DataError> {
    let mut files = Vec::new();
    let mut found = 0;
    for (name, directory) in packages(workspace)? {
        for path in files_below(&directory, &["rs"])? {
            if found >= bytes {
                return Ok(files);
            }
            let Some(file) = read_source(&name, &directory, &path)? else { continue };
            found += file.text.len() as u64;
            files.push(file);
        }
    }
    if found >= bytes { Ok(files) } else { Err(DataError::TooFewSources { found, wanted: bytes }) }
}

/// Names with version, and directories, of all packages that come from a registry, in order.
fn packages(workspace: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform"];
    let platform = "x86_64-unknown-linux-gnu";
    let command = || format!("{} {} {platform}", cargo.display(), arguments.join(" "));
    let failed = |reason: String| DataError::Program { command: command(), reason };
    let output = Command::new(&cargo)
        .args(arguments)
        .arg(platform)
        .current_dir(workspace)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let packages = metadata["packages"].as_array().ok_or_else(|| failed("lists no packages".to_string()))?;
    let mut found: Vec<(String, PathBuf)> = packages.iter().filter_map(registry_package).collect();
    found.sort();
    Ok(found)
}

fn registry_package(package: &Value) -> Option<(String, PathBuf)> {
    package["source"].as_str()?.starts_with("registry+").then_some(())?;
    let name = format!("{}-{}", package["name"].as_str()?, package["version"].as_str()?);
    let directory = Path::new(package["manifest_path"].as_str()?).parent()?;
    Some((name, directory.to_path_buf()))
}

/// All files below a directory whose names end with one of these extensions, in the order of their paths.
pub(super) fn files_below(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let wanted = |path: &Path| path.extension().is_some_and(|have| extensions.iter().any(|one| have == *one));
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).map_err(DataError::host(&directory))? {
            let entry = entry.map_err(DataError::host(&directory))?;
            let kind = entry.file_type().map_err(DataError::host(entry.path()))?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && wanted(&entry.path()) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file, unless it is no source text.
fn read_source(package: &str, directory: &Path, path: &Path) -> Result<Option<SourceFile>, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::host(path))?;
    let (Ok(text), Ok(inside)) = (String::from_utf8(bytes), path.strip_prefix(directory)) else {
        return Ok(None);
    };
    let path = format!("{package}/{}", inside.display());
    let usable = !text.is_empty() && text.len() <= LONGEST_FILE && !path.contains(char::is_whitespace);
    Ok(usable.then_some(SourceFile { path, text }))
}
