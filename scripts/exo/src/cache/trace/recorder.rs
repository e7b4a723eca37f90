//! Reference strings, and what collects them while a file is read.

use super::fault::{Fault, Place, Read};
use hyperexo_abi::BLOCK_BYTES;
use libos_fs::cache::{Numbering, ReferenceString, Sample, Sampler, TooLong};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

/// A reference string, and what was said while it was read.
#[derive(Debug, Default)]
pub struct Trace {
    string: ReferenceString,
    notes: Vec<String>,
}

impl Trace {
    /// The references.
    pub fn string(&self) -> &ReferenceString {
        &self.string
    }

    /// The block numbers referred to, in order.
    pub fn references(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
        self.string.references()
    }

    /// Number of references.
    pub fn length(&self) -> usize {
        self.string.numbers().len()
    }

    /// Number of distinct blocks.
    pub fn distinct(&self) -> usize {
        self.string.blocks().len()
    }

    /// What was taken for granted while reading, in the words the user sees: that a line is a heading, say.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A trace of these references; `None` if they are too many.
    pub fn of(references: &[u64]) -> Option<Trace> {
        ReferenceString::of(references.iter().copied()).map(Trace::from)
    }
}

impl From<ReferenceString> for Trace {
    fn from(string: ReferenceString) -> Trace {
        Trace { string, notes: Vec::new() }
    }
}

/// Collects references while a file is read.
#[derive(Default)]
pub(super) struct Recorder {
    numbering: Numbering,
    /// If a sample is asked for, it has the references, and `numbering` none.
    sampler: Option<Sampler>,
    notes: Vec<String>,
}

/// Blocks that one request of a trace may touch (1 GiB): more is a damaged line, not a request.
const MOST_BLOCKS_OF_A_REQUEST: u64 = 1 << 18;
/// Blocks of a file or disk: [`libos_fs::cache::reference`] leaves 32 bits for them.
const MOST_BLOCKS_OF_A_DISK: u64 = 1 << 32;

/// What to do about a line that can't be meant.
const NO_LINE: &str = "this is no line of a trace: remove it, or cut the file there";

impl Recorder {
    /// Collects a sample.
    pub(super) fn sample(sampler: Sampler) -> Recorder {
        Recorder { sampler: Some(sampler), ..Recorder::default() }
    }

    /// References so far.
    pub(super) fn references(&self) -> u64 {
        match &self.sampler {
            Some(sampler) => sampler.references(),
            None => self.numbering.string().numbers().len() as u64,
        }
    }

    /// Tells the user what was taken for granted.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// What was collected.
    pub(super) fn finish(self) -> Trace {
        Trace { string: self.numbering.finish(), notes: self.notes }
    }

    /// The sample, if it was to be one, and the notes.
    pub(super) fn finish_sample(self) -> Option<(Sample, Vec<String>)> {
        Some((self.sampler?.finish(), self.notes))
    }

    /// Records a block; `place` is for the error.
    pub(super) fn block(&mut self, block: u64, place: Place) -> Read<()> {
        match &mut self.sampler {
            None => self.numbering.push(block),
            Some(sampler) => sampler.push(block),
        }
        .map_err(|TooLong| {
            let reason = format!("more than {} references", Numbering::MOST);
            Fault::new(place, reason, "simulate a smaller sample of it: `exo cache simulate --sample auto`")
        })
    }

    /// Records the block that has these names: each name another block. A sample makes the hash of a name its
    /// number, for it need not remember which names there were; that two of them are the same, of a thousand
    /// million, is improbable, and would not be noticed in an estimate.
    pub(super) fn key<'f>(
        &mut self,
        names: &mut Names,
        fields: impl Iterator<Item = &'f [u8]>,
        place: Place,
    ) -> Read<()> {
        let number = if self.sampler.is_some() { names.hash(fields) } else { names.number(fields) };
        self.block(number, place)
    }

    /// Records the blocks that `bytes` from `offset` touch, on a disk or file with a number of its own.
    pub(super) fn bytes(&mut self, disk: u64, offset: u64, bytes: u64, place: Place) -> Read<()> {
        let size = BLOCK_BYTES as u64;
        if bytes == 0 {
            return Ok(());
        }
        let last = offset.checked_add(bytes - 1).ok_or_else(|| {
            Fault::new(place, format!("{bytes} bytes from {offset} on: that is beyond 2^64"), NO_LINE)
        })?;
        self.run(Some(disk), offset / size, last / size - offset / size + 1, place)
    }

    /// Records a run of blocks: of a disk or file, or, with `None`, of all there are.
    pub(super) fn run(&mut self, disk: Option<u64>, first: u64, count: u64, place: Place) -> Read<()> {
        let fault = |reason| Fault::new(place, reason, NO_LINE);
        if count > MOST_BLOCKS_OF_A_REQUEST {
            return Err(fault(format!(
                "a request of {count} blocks; at most {MOST_BLOCKS_OF_A_REQUEST} make sense"
            )));
        }
        let (base, limit) = match disk {
            None => (0, u64::MAX),
            Some(disk) if disk < 1 << 32 => (disk << 32, MOST_BLOCKS_OF_A_DISK),
            Some(disk) => return Err(fault(format!("disk {disk}: there are 2^32 at most"))),
        };
        let end = first.checked_add(count).filter(|end| *end <= limit);
        let end =
            end.ok_or_else(|| fault(format!("{count} blocks from {first} on; the last can be {limit}")))?;
        (first..end).try_for_each(|block| self.block(base | block, place))
    }
}

/// Numbers for names (of files, disks, keys), in the order in which they appear: the same name always has the
/// same number, and no two names share one.
#[derive(Default)]
pub(super) struct Names {
    known: HashMap<Vec<u8>, u64>,
    name: Vec<u8>,
}

impl Names {
    /// Takes a name together, which may be in several fields.
    fn set<'f>(&mut self, fields: impl Iterator<Item = &'f [u8]>) {
        self.name.clear();
        for field in fields {
            let field = field.trim_ascii();
            // With their lengths, so that "a,b" and "c" is not "a" and "b,c".
            self.name.extend_from_slice(&(field.len() as u64).to_le_bytes());
            self.name.extend_from_slice(field);
        }
    }

    /// The hash of a name, the same in each run.
    fn hash<'f>(&mut self, fields: impl Iterator<Item = &'f [u8]>) -> u64 {
        self.set(fields);
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.name);
        hasher.finish()
    }

    /// The number of a name, which may be in several fields.
    pub(super) fn number<'f>(&mut self, fields: impl Iterator<Item = &'f [u8]>) -> u64 {
        self.set(fields);
        if let Some(number) = self.known.get(&self.name) {
            return *number;
        }
        let number = self.known.len() as u64;
        self.known.insert(self.name.clone(), number);
        number
    }
}
