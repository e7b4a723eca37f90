//! What a path stands for.

use crate::documents::Documents;
use crate::media::media_type;
use crate::request::Request;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use crc::{CRC_64_XZ, Crc};
use libos_fs::{File, FileId, FsError, Volume};

/// What a directory is shown by.
const INDEX: &str = "index.html";
/// Codings that a file may lie beside itself in, the better one first.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];
/// Bytes that are read at once to compute a tag.
const AT_ONCE: usize = 16 * 1024;

/// Paths that are remembered with what they lead to.
const MOST_KNOWN: usize = 4096;

/// The files of a volume, for a server that does not change them.
pub struct Site {
    /// Small files, for connections that share.
    pub documents: Documents,
    /// Bytes of files that were copied on their way to a connection.
    pub copied: Cell<u64>,
    volume: Volume,
    /// Files that are on the volume, and not to be sent.
    secrets: Vec<FileId>,
    /// What a path leads to, for those that were asked for: to find three files costs more than to send one
    /// that is small.
    known: RefCell<BTreeMap<String, Rc<Known>>>,
}

/// A file, and what lies beside it compressed.
struct Known {
    media_type: &'static str,
    /// The better coding first; last the file itself.
    variants: Vec<Variant>,
}

struct Variant {
    coding: Option<&'static str>,
    file: File,
    length: u64,
    tag: String,
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
    /// The site of a volume, which keeps so many blocks of small files for connections that share.
    pub fn new(volume: Volume, document_blocks: usize) -> Site {
        Site {
            documents: Documents::new(document_blocks),
            copied: Cell::default(),
            volume,
            secrets: Vec::new(),
            known: RefCell::default(),
        }
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
        let path = canonical(&request.path);
        let remembered = self.known.borrow().get(&path).cloned();
        let known = match remembered {
            Some(known) => known,
            None => {
                let plain = match self.volume.open(&path) {
                    Ok(file) if self.secrets.contains(&file.id()) => return Ok(Place::Nowhere),
                    Ok(file) => file,
                    Err(FsError::IsADirectory(_)) => return Ok(Place::Moved(format!("{path}/"))),
                    Err(error) if is_absent(&error) => return Ok(Place::Nowhere),
                    Err(error) => return Err(error),
                };
                self.remember(path, plain)?
            }
        };
        let accepted = request.field("accept-encoding").unwrap_or_default();
        let taken = |variant: &&Variant| variant.coding.is_none_or(|coding| accepts(&accepted, coding));
        let chosen = known.variants.iter().find(taken).unwrap_or(&known.variants[known.variants.len() - 1]);
        Ok(Place::File(Found {
            file: chosen.file.clone(),
            length: chosen.length,
            tag: chosen.tag.clone(),
            media_type: known.media_type,
            coding: chosen.coding,
            varies: known.variants.len() > 1,
        }))
    }

    /// Looks for what lies beside a file, and keeps it with the path.
    fn remember(&self, path: String, plain: File) -> Result<Rc<Known>, FsError> {
        let mut variants = Vec::new();
        for (coding, ending) in CODINGS {
            if let Some(file) = self.open(&format!("{path}{ending}"))?
                && !self.secrets.contains(&file.id())
            {
                variants.push(variant(Some(coding), file)?);
            }
        }
        variants.push(variant(None, plain)?);
        let known = Rc::new(Known { media_type: media_type(&path), variants });
        let mut all = self.known.borrow_mut();
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(path, Rc::clone(&known));
        Ok(known)
    }

    fn open(&self, path: &str) -> Result<Option<File>, FsError> {
        match self.volume.open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A file with its tag, which is made of its contents: once, since nobody changes the file. Sums that the
/// volume keeps stand for them; a volume without is read.
fn variant(coding: Option<&'static str>, file: File) -> Result<Variant, FsError> {
    const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);
    let length = file.len()?;
    let mut digest = CRC.digest();
    if let Some(sums) = file.block_sums()? {
        sums.iter().for_each(|sum| digest.update(&sum.to_le_bytes()));
        let tag = format!("\"{length:x}-{:x}\"", digest.finalize());
        return Ok(Variant { coding, file, length, tag });
    }
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
    Ok(Variant { coding, file, length, tag })
}

/// A path without what makes no difference to the volume, so that each file is known by one path only; with
/// the name of the index, if it is that of a directory.
fn canonical(path: &str) -> String {
    let mut canonical = String::with_capacity(path.len() + INDEX.len());
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        canonical.push('/');
        canonical.push_str(name);
    }
    if path.ends_with('/') || path.ends_with("/.") {
        canonical.push('/');
        canonical.push_str(INDEX);
    }
    canonical
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
    fn a_file_has_one_path() {
        for path in ["/a/b", "//a/b", "/a///b", "/./a/././b"] {
            assert_eq!(canonical(path), "/a/b", "{path}");
        }
        for (path, index) in [("/", "/index.html"), ("///", "/index.html"), ("/a//", "/a/index.html")] {
            assert_eq!(canonical(path), index);
        }
    }

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
