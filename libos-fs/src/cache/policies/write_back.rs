//! When written blocks go to the device, before they have to.
//!
//! Written blocks go there when they are replaced and when the file system commits. A [`WriteBack`] policy
//! can send them earlier, while the application computes.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

/// What a write-back policy is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyBlocks {
    /// Blocks that must be written before they can go.
    pub dirty: usize,
    /// Blocks that the cache may hold.
    pub capacity: usize,
    /// References since the oldest of them was first written to.
    pub oldest_references: u64,
}

/// A write-back policy. It is asked after each write of the application; what it asks for is written oldest
/// first, with dirty neighbours in the same request, and not waited for. If a write fails its blocks stay
/// dirty.
pub trait WriteBack {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;
    /// Whether the oldest dirty block should be written now.
    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool;
}

/// Writes nothing before it has to be: blocks of files that are removed in time are never written.
pub struct OnReplacement;

impl WriteBack for OnReplacement {
    fn name(&self) -> &'static str {
        "on-replacement"
    }

    fn is_due(&mut self, _: &DirtyBlocks) -> bool {
        false
    }
}

/// Writes blocks that have been dirty for so many references. (UNIX's `update` counted seconds; a unikernel
/// may have no clock.)
pub struct ByAge(pub u64);

impl WriteBack for ByAge {
    fn name(&self) -> &'static str {
        "age"
    }

    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool {
        blocks.oldest_references >= self.0
    }
}

/// Writes while more than so many percent of the cache are dirty: what Linux calls the background ratio.
pub struct ByRatio(pub usize);

impl WriteBack for ByRatio {
    fn name(&self) -> &'static str {
        "ratio"
    }

    fn is_due(&mut self, blocks: &DirtyBlocks) -> bool {
        blocks.dirty * 100 > blocks.capacity * self.0
    }
}

/// The write-back policies that come with the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteBackKind {
    /// [`OnReplacement`].
    #[default]
    OnReplacement,
    /// [`ByAge`], of 4096 references.
    Age,
    /// [`ByRatio`], of 10 percent.
    Ratio,
}

impl WriteBackKind {
    /// All of them.
    pub const ALL: [WriteBackKind; 3] =
        [WriteBackKind::OnReplacement, WriteBackKind::Age, WriteBackKind::Ratio];

    /// Its name, which [`WriteBackKind::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            WriteBackKind::OnReplacement => "on-replacement",
            WriteBackKind::Age => "age",
            WriteBackKind::Ratio => "ratio",
        }
    }

    /// A policy of this kind.
    pub fn build(self) -> Box<dyn WriteBack> {
        match self {
            WriteBackKind::OnReplacement => Box::new(OnReplacement),
            WriteBackKind::Age => Box::new(ByAge(4096)),
            WriteBackKind::Ratio => Box::new(ByRatio(10)),
        }
    }
}

impl From<WriteBackKind> for Box<dyn WriteBack> {
    fn from(kind: WriteBackKind) -> Box<dyn WriteBack> {
        kind.build()
    }
}

/// No write-back policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWriteBack;

impl fmt::Display for UnknownWriteBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown write-back, there are: on-replacement, age, ratio")
    }
}

impl core::error::Error for UnknownWriteBack {}

impl FromStr for WriteBackKind {
    type Err = UnknownWriteBack;

    fn from_str(name: &str) -> Result<WriteBackKind, UnknownWriteBack> {
        WriteBackKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownWriteBack)
    }
}
