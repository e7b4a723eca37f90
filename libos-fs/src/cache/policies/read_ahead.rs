//! How many blocks to fetch along with a missing one.
//!
//! Read-ahead decides about requests, replacement about what stays: blocks that were read ahead wait in
//! *staging*, and the replacement policy hears of them only when they are first used. So it sees the same
//! references with and without read-ahead, and a policy that replaces what came last doesn't throw away what
//! was just fetched.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;
use hashbrown::HashMap;

/// A reference to a block of a file, as read-ahead sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Number of the file.
    pub file: u64,
    /// Block of the file.
    pub block: u64,
    /// Most blocks that can be fetched now. 0 if this is no time to fetch any: the block was in memory.
    pub limit: u64,
}

/// A read-ahead policy. It is told of every reference. When a block is missing it is asked how many of those
/// after it should be fetched along; and when half of what was fetched has been used, how many more should be
/// fetched behind that while the reader goes on.
///
/// The answer is a wish. The cache fetches only blocks that exist and are not in memory, only while they are
/// adjacent on disk, and never more than its budget for staging allows.
pub trait ReadAhead {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;
    /// How many blocks should be fetched, up to `reference.limit`. Not asked while the future is disclosed
    /// and [`ReadAhead::disclosed`] makes use of it.
    fn blocks_ahead(&mut self, reference: &Reference) -> u64;
    /// What use is made of what the application disclosed by [`File::will_need`](crate::File::will_need).
    fn disclosed(&self) -> Disclosed {
        Disclosed::Ignored
    }
}

/// What use read-ahead makes of references that an application has disclosed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosed {
    /// None.
    Ignored,
    /// Blocks are fetched in the disclosed order into buffers that hold nothing.
    WhereVacant,
    /// Blocks are fetched in the disclosed order, also instead of blocks that are needed later.
    DoNoHarm,
}

/// Fetches what is asked for, nothing more.
#[derive(Default)]
pub struct NoReadAhead;

impl ReadAhead for NoReadAhead {
    fn name(&self) -> &'static str {
        "none"
    }

    fn blocks_ahead(&mut self, _: &Reference) -> u64 {
        0
    }
}

/// Fetches as much as is allowed: for files that are read in order anyway.
#[derive(Default)]
pub struct Cluster;

impl ReadAhead for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn blocks_ahead(&mut self, reference: &Reference) -> u64 {
        reference.limit
    }
}

/// Files that [`Sequential`] follows at the same time.
const FOLLOWED_FILES: usize = 256;

/// Fetches ahead while a file is read in order, the more the longer that lasts: 1, 2, 4 … blocks up to the
/// limit (the scheme of the BSD and Linux read-ahead).
#[derive(Default)]
pub struct Sequential {
    /// By file: the block that comes next if the file is read in order, and how many have been.
    followed: HashMap<u64, (u64, u64)>,
}

impl ReadAhead for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn blocks_ahead(&mut self, reference: &Reference) -> u64 {
        if self.followed.len() >= FOLLOWED_FILES && !self.followed.contains_key(&reference.file) {
            self.followed.clear();
        }
        let (expected, run) = self.followed.entry(reference.file).or_insert((0, 0));
        if reference.block.wrapping_add(1) != *expected {
            *run = if reference.block == *expected { run.saturating_add(1) } else { 0 };
            *expected = reference.block.wrapping_add(1);
        }
        (*run).min(reference.limit)
    }
}

/// Fetches the block after a missing one (one-block look-ahead on a miss: A. J. Smith, "Sequentiality and
/// prefetching in database systems", ACM TODS 3(3), 1978).
#[derive(Default)]
pub struct OneBlock;

impl ReadAhead for OneBlock {
    fn name(&self) -> &'static str {
        "one-block"
    }

    fn blocks_ahead(&mut self, reference: &Reference) -> u64 {
        reference.limit.min(1)
    }
}

/// Fetches what the application has disclosed, as far as there are buffers that hold nothing; where it has
/// disclosed nothing, as [`Sequential`] does.
#[derive(Default)]
pub struct Directed(Sequential);

impl ReadAhead for Directed {
    fn name(&self) -> &'static str {
        "directed"
    }

    fn blocks_ahead(&mut self, reference: &Reference) -> u64 {
        self.0.blocks_ahead(reference)
    }

    fn disclosed(&self) -> Disclosed {
        Disclosed::WhereVacant
    }
}

/// Fetches what the application has disclosed whenever the device has little to do, and replaces for it what
/// is needed last, but never what is needed sooner: controlled-aggressive prefetching (P. Cao, E. W. Felten,
/// A. R. Karlin, K. Li, ACM TOCS 14(4), 1996). Where nothing is disclosed, as [`Sequential`] does.
#[derive(Default)]
pub struct Aggressive(Sequential);

impl ReadAhead for Aggressive {
    fn name(&self) -> &'static str {
        "aggressive"
    }

    fn blocks_ahead(&mut self, reference: &Reference) -> u64 {
        self.0.blocks_ahead(reference)
    }

    fn disclosed(&self) -> Disclosed {
        Disclosed::DoNoHarm
    }
}

/// The read-ahead policies that come with the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadAheadKind {
    /// [`NoReadAhead`].
    None,
    /// [`OneBlock`].
    OneBlock,
    /// [`Sequential`].
    #[default]
    Sequential,
    /// [`Cluster`].
    Cluster,
    /// [`Directed`].
    Directed,
    /// [`Aggressive`].
    Aggressive,
}

impl ReadAheadKind {
    /// All of them.
    pub const ALL: [ReadAheadKind; 6] = [
        ReadAheadKind::None,
        ReadAheadKind::OneBlock,
        ReadAheadKind::Sequential,
        ReadAheadKind::Cluster,
        ReadAheadKind::Directed,
        ReadAheadKind::Aggressive,
    ];

    /// Its name, which [`ReadAheadKind::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            ReadAheadKind::None => "none",
            ReadAheadKind::OneBlock => "one-block",
            ReadAheadKind::Directed => "directed",
            ReadAheadKind::Aggressive => "aggressive",
            ReadAheadKind::Sequential => "sequential",
            ReadAheadKind::Cluster => "cluster",
        }
    }

    /// A policy of this kind.
    pub fn build(self) -> Box<dyn ReadAhead> {
        match self {
            ReadAheadKind::None => Box::new(NoReadAhead),
            ReadAheadKind::OneBlock => Box::new(OneBlock),
            ReadAheadKind::Directed => Box::new(Directed::default()),
            ReadAheadKind::Aggressive => Box::new(Aggressive::default()),
            ReadAheadKind::Sequential => Box::new(Sequential::default()),
            ReadAheadKind::Cluster => Box::new(Cluster),
        }
    }
}

impl From<ReadAheadKind> for Box<dyn ReadAhead> {
    fn from(kind: ReadAheadKind) -> Box<dyn ReadAhead> {
        kind.build()
    }
}

/// No read-ahead policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReadAhead;

impl fmt::Display for UnknownReadAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "unknown read-ahead, there are: none, one-block, sequential, cluster, directed, aggressive",
        )
    }
}

impl core::error::Error for UnknownReadAhead {}

impl FromStr for ReadAheadKind {
    type Err = UnknownReadAhead;

    fn from_str(name: &str) -> Result<ReadAheadKind, UnknownReadAhead> {
        ReadAheadKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownReadAhead)
    }
}
