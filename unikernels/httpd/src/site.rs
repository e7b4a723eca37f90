//! What a path stands for.

use crate::media::media_type;
use crate::request::Request;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use crc::{CRC_64_XZ, Crc};
use libos_fs::{File, FileId, FsError, Volume};

/// What a directory is shown by.
const INDEX: &str = "index.html";
/// Codings that a file may lie beside itself in, the better one first.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];
/// Bytes that are read at once to compute a tag.
const AT_ONCE: usize = 16 * 1024;

/// The files of a volume, for a server that does not change them.
pub struct Site {
    volume: Volume,
    /// Files that are on the volume, and not to be sent.
    secrets: Vec<FileId>,
    /// Entity tags by path, with the length of the file they are for.
    tags: RefCell<BTreeMap<String, (u64, String)>>,
}

/// A file to be sent.
pub struct Found {
    /// It.
    pub file: File,
    /// Its length.
    pub length: u64,
    /// What tells its contents from others, in quotes.
    pub tag: String,
    /// What it is.
    pub media_type: &'static str,
    /// How it is compressed, if it was found beside the one that was asked for.
    pub coding: Option<&'static str>,
    /// Whether others may get it in another coding.
    pub varies: bool,
}

/// What a path leads to.
pub enum Place {
    /// A file.
    File(Found),
    /// A directory whose path was given without `/` at its end; this is the path with it.
    Moved(String),
    /// Nothing.
    Nowhere,
}

impl Site {
    /// The site of a volume.
    pub fn new(volume: Volume) -> Site {
        Site { volume, secrets: Vec::new(), tags: RefCell::default() }
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Has a file answered for as if it were not there, by whatever name it is asked for.
    pub fn conceal(&mut self, file: &File) {
        self.secrets.push(file.id());
    }

    /// What the path of a request leads to.
    ///
    /// # Errors
    ///
    /// If the volume can't be read.
    pub fn find(&self, request: &Request) -> Result<Place, FsError> {
        let mut path = request.path.clone();
        if path.ends_with('/') {
            path.push_str(INDEX);
        }
        let plain = match self.volume.open(&path) {
            Ok(file) => file,
            Err(FsError::IsADirectory(_)) => return Ok(Place::Moved(format!("{path}/"))),
            Err(error) if is_absent(&error) => return Ok(Place::Nowhere),
            Err(error) => return Err(error),
        };
        let accepted = request.field("accept-encoding").unwrap_or_default();
        let mut varies = false;
        let mut chosen = None;
        for (coding, ending) in CODINGS {
            let beside = format!("{path}{ending}");
            if let Some(file) = self.open(&beside)? {
                varies = true;
                if chosen.is_none() && accepts(&accepted, coding) {
                    chosen = Some((coding, beside, file));
                }
            }
        }
        let media_type = media_type(&path);
        let (coding, path, file) = match chosen {
            Some((coding, path, file)) => (Some(coding), path, file),
            None => (None, path, plain),
        };
        if self.secrets.contains(&file.id()) {
            return Ok(Place::Nowhere);
        }
        let length = file.len()?;
        let tag = self.tag(&path, &file, length)?;
        Ok(Place::File(Found { file, length, tag, media_type, coding, varies }))
    }

    fn open(&self, path: &str) -> Result<Option<File>, FsError> {
        match self.volume.open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The tag of a file, from its contents: computed once, since nobody changes the file.
    fn tag(&self, path: &str, file: &File, length: u64) -> Result<String, FsError> {
        if let Some((of, tag)) = self.tags.borrow().get(path)
            && *of == length
        {
            return Ok(tag.clone());
        }
        const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);
        let mut digest = CRC.digest();
        let mut part = vec![0; AT_ONCE];
        let mut at = 0;
        while at < length {
            let count = file.read_at(at, &mut part)?;
            if count == 0 {
                break;
            }
            digest.update(&part[..count]);
            at += count as u64;
        }
        let tag = format!("\"{length:x}-{:x}\"", digest.finalize());
        self.tags.borrow_mut().insert(path.to_string(), (length, tag.clone()));
        Ok(tag)
    }
}

/// Whether an error says that there is no such file.
fn is_absent(error: &FsError) -> bool {
    matches!(
        error,
        FsError::NotFound(_) | FsError::IsADirectory(_) | FsError::NotADirectory(_) | FsError::BadPath(..)
    )
}

/// Whether a client takes a coding (RFC 9110, section 12.5.3). One that says nothing gets none.
fn accepts(accepted: &str, coding: &str) -> bool {
    let mut any = false;
    for part in accepted.split(',') {
        let mut words = part.split(';').map(str::trim);
        let name = words.next().unwrap_or_default();
        let refused = words.any(|word| {
            let weight = word.strip_prefix("q=").or_else(|| word.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.bytes().all(|byte| matches!(byte, b'0' | b'.')))
        });
        if name.eq_ignore_ascii_case(coding) {
            return !refused;
        }
        any |= name == "*" && !refused;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_accepted_by_name_unless_their_weight_is_nothing() {
        for (accepted, expected) in [
            ("", false),
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*", true),
            ("*;q=0", false),
            ("identity", false),
        ] {
            assert_eq!(accepts(accepted, "gzip"), expected, "{accepted}");
        }
    }
}
