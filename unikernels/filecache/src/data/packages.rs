//! Files of Debian's packages: downloaded by `apt-get`, unpacked by `dpkg-deb`, kept, never installed.

use super::DataError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of a package, unpacked below `downloads`, where they stay for the next time.
///
/// # Errors
///
/// [`DataError::Package`] if this host has no `apt-get`, does not know the package, or can't download it.
pub fn unpack(package: &str, downloads: &Path) -> Result<PathBuf, DataError> {
    let place = downloads.join(package);
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(downloads).map_err(DataError::host(downloads))?;
    // In a folder of its own until it is complete.
    let scratch = downloads.join(format!("{package}.{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(DataError::host(&scratch))?;
    let unpacked = fetch(package, &scratch);
    let moved = unpacked.and_then(|from| std::fs::rename(&from, &place).map_err(DataError::host(&place)));
    // What is left of a failed attempt is of no use; that it can't be removed changes nothing.
    let _ = std::fs::remove_dir_all(&scratch);
    // Somebody else may have been quicker.
    if place.is_dir() { Ok(place) } else { moved.map(|()| place) }
}

/// Downloads a package into a folder and unpacks it there.
fn fetch(package: &str, folder: &Path) -> Result<PathBuf, DataError> {
    run("apt-get", &["download", "--quiet=2", package], folder)?;
    let listing = std::fs::read_dir(folder).map_err(DataError::host(folder))?;
    let archive = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let no_archive = || DataError::Package { package: package.to_string(), reason: "no archive".to_string() };
    let archive = archive.ok_or_else(no_archive)?;
    run("dpkg-deb", &["--extract", &archive.to_string_lossy(), "files"], folder)?;
    Ok(folder.join("files"))
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<(), DataError> {
    let failed = |reason: String| DataError::Package {
        package: arguments.last().copied().unwrap_or_default().to_string(),
        reason: format!("{program}: {reason}"),
    };
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))
}
