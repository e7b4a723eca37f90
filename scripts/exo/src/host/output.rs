//! Files that this tool writes.

use crate::error::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// Writes a file so that readers see the old content or the new, never half of it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("create a file in", folder))?;
    std::io::Write::write_all(&mut file, bytes).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("replace", path)(error.error))?;
    Ok(())
}

/// Writes one JSON object a line.
pub fn write_lines(path: &Path, lines: impl Iterator<Item = impl Serialize>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(&line).map_err(|error| Error::Measurement(error.to_string()))?;
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}
