//! Paths: names separated by `/`.

use crate::error::FsError;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Bytes that a name may have.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// The names in a path. A leading `/`, doubled and trailing ones and `.` make no difference; `..` is refused.
pub(crate) fn names(path: &str) -> Result<Vec<&str>, FsError> {
    let bad = |why| FsError::BadPath(path.to_string(), why);
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    for name in &names {
        if name.len() > MAX_NAME_BYTES {
            return Err(bad("a name has more than 255 bytes"));
        }
        if *name == ".." {
            return Err(bad("`..` is not supported"));
        }
        if name.contains('\0') {
            return Err(bad("a name contains a zero byte"));
        }
    }
    Ok(names)
}

/// The names of the directory and the last name. The root has none.
pub(crate) fn parent_and_name(path: &str) -> Result<(Vec<&str>, &str), FsError> {
    let mut names = names(path)?;
    let name = names.pop().ok_or_else(|| FsError::BadPath(path.to_string(), "it names the root"))?;
    Ok((names, name))
}
