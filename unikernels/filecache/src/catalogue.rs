//! The workloads there are.

use crate::workload::{Context, Program, RunError};
use crate::ycsb::Mix;
use crate::{cs, din, gli, ldk, pjn, sort, ycsb};
use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// [`crate::cs`]: symbols and texts.
    Cs,
    /// [`crate::cs`]: symbols.
    Cs1,
    /// [`crate::cs`]: texts.
    Cs2,
    /// [`crate::cs`]: texts in a smaller tree.
    Cs3,
    /// [`crate::cs`]: texts, ten passes.
    Search,
    /// [`crate::din`].
    Din,
    /// [`crate::sort`].
    Sort,
    /// [`crate::gli`].
    Gli,
    /// [`crate::ldk`].
    Ldk,
    /// [`crate::pjn`].
    Pjn,
    /// [`crate::ycsb`], a mix.
    Ycsb(Mix),
}

/// Files that are made together and lie on one disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataFamily {
    /// Source tree, trace and text: `cs`, `cs1`, `cs2`, `cs3`, `search`, `din`, `sort`.
    Texts,
    /// `gli`.
    Articles,
    /// `ldk`.
    Objects,
    /// `pjn`.
    Relations,
    /// `ycsb-a` to `ycsb-f`, `get-scan`.
    Store,
}

impl DataFamily {
    /// All of them.
    pub const ALL: [DataFamily; 5] = [
        DataFamily::Texts,
        DataFamily::Articles,
        DataFamily::Objects,
        DataFamily::Relations,
        DataFamily::Store,
    ];

    /// Name of its disk image, without extension.
    pub fn name(self) -> &'static str {
        match self {
            DataFamily::Texts => "filecache",
            DataFamily::Articles => "gli",
            DataFamily::Objects => "ldk",
            DataFamily::Relations => "pjn",
            DataFamily::Store => "ycsb",
        }
    }
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 17] = [
        Workload::Cs,
        Workload::Cs1,
        Workload::Cs2,
        Workload::Cs3,
        Workload::Search,
        Workload::Din,
        Workload::Sort,
        Workload::Gli,
        Workload::Ldk,
        Workload::Pjn,
        Workload::Ycsb(Mix::A),
        Workload::Ycsb(Mix::B),
        Workload::Ycsb(Mix::C),
        Workload::Ycsb(Mix::D),
        Workload::Ycsb(Mix::E),
        Workload::Ycsb(Mix::F),
        Workload::Ycsb(Mix::GetScan),
    ];

    /// Its name, which [`Workload::from_str`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Cs => "cs",
            Workload::Cs1 => "cs1",
            Workload::Cs2 => "cs2",
            Workload::Cs3 => "cs3",
            Workload::Search => "search",
            Workload::Din => "din",
            Workload::Sort => "sort",
            Workload::Gli => "gli",
            Workload::Ldk => "ldk",
            Workload::Pjn => "pjn",
            Workload::Ycsb(Mix::A) => "ycsb-a",
            Workload::Ycsb(Mix::B) => "ycsb-b",
            Workload::Ycsb(Mix::C) => "ycsb-c",
            Workload::Ycsb(Mix::D) => "ycsb-d",
            Workload::Ycsb(Mix::E) => "ycsb-e",
            Workload::Ycsb(Mix::F) => "ycsb-f",
            Workload::Ycsb(Mix::GetScan) => "get-scan",
        }
    }

    /// What it does, in one line.
    pub fn description(self) -> &'static str {
        match self {
            Workload::Cs => "symbol and text search through a source tree, repeated",
            Workload::Cs1 => "eight symbol searches through a cross-reference database",
            Workload::Cs2 => "four text searches through a source tree",
            Workload::Cs3 => "four text searches through a smaller source tree",
            Workload::Search => "ten text searches through a source tree",
            Workload::Din => "a cache simulator, run several times over a memory-reference trace",
            Workload::Sort => "external merge sort of a text",
            Workload::Gli => "text searches by a two-level index",
            Workload::Ldk => "link of all objects of some archives",
            Workload::Pjn => "join of two relations by an index",
            Workload::Ycsb(Mix::A) => "key-value store, half reads, half updates",
            Workload::Ycsb(Mix::B) => "key-value store, reads and a few updates",
            Workload::Ycsb(Mix::C) => "key-value store, reads",
            Workload::Ycsb(Mix::D) => "key-value store, reads of what was added last",
            Workload::Ycsb(Mix::E) => "key-value store, short scans",
            Workload::Ycsb(Mix::F) => "key-value store, reads, and changes of what was read",
            Workload::Ycsb(Mix::GetScan) => "key-value store, reads and a few long scans",
        }
    }

    /// Size of its data in the paper it comes from, in tenths of a megabyte: 1994's sizes for the workloads
    /// of P. Cao et al., to whose caches of 6.4 to 16 MB [`CacheSize::Paper`](crate::CacheSize::Paper)
    /// relates them.
    ///
    /// `search`, `ycsb` and `get-scan` have no counterpart in that paper: they are given the size at which 8
    /// MB are the share that their own paper has (T. Zussman et al., SOSP 2025), 70 % and 10 %.
    pub fn paper_data(self) -> u64 {
        match self {
            // Database and sources.
            Workload::Cs => 270,
            Workload::Cs1 => 90,
            Workload::Cs2 => 180,
            Workload::Cs3 => 100,
            Workload::Search => 114,
            Workload::Din => 80,
            Workload::Sort => 170,
            // Articles of 40 MB, an index of 2 MB.
            Workload::Gli => 420,
            Workload::Ldk => 250,
            // Relations of 32 and 3.2 MB, an index of 5 MB.
            Workload::Pjn => 402,
            Workload::Ycsb(_) => 800,
        }
    }

    /// The file that holds its own policy, from the crate's `src/` on.
    pub fn own_policy_file(self) -> &'static str {
        match self {
            Workload::Cs | Workload::Cs1 | Workload::Cs2 | Workload::Cs3 | Workload::Search => "cs/policy.rs",
            Workload::Din => "din/policy.rs",
            Workload::Sort => "sort/policy.rs",
            Workload::Gli => "gli/policy.rs",
            Workload::Ldk => "ldk/policy.rs",
            Workload::Pjn => "pjn/policy.rs",
            Workload::Ycsb(_) => "ycsb/policy.rs",
        }
    }

    /// The disk image with its files.
    pub fn family(self) -> DataFamily {
        match self {
            Workload::Cs | Workload::Cs1 | Workload::Cs2 | Workload::Cs3 | Workload::Search => {
                DataFamily::Texts
            }
            Workload::Din | Workload::Sort => DataFamily::Texts,
            Workload::Gli => DataFamily::Articles,
            Workload::Ldk => DataFamily::Objects,
            Workload::Pjn => DataFamily::Relations,
            Workload::Ycsb(_) => DataFamily::Store,
        }
    }

    /// Files that it changes where they are. On several cores each has its own copy of them: who shards a
    /// store gives each core a part of it, and no core waits for the locks of another.
    pub fn changes(self) -> &'static [&'static str] {
        match self {
            Workload::Ycsb(Mix::C | Mix::GetScan) => &[],
            Workload::Ycsb(_) => &[ycsb::INDEX_PATH, ycsb::LEAVES_PATH],
            _ => &[],
        }
    }

    /// Opens its files.
    ///
    /// # Errors
    ///
    /// If one is missing or makes no sense.
    pub fn open(self, context: &Context<'_>) -> Result<Box<dyn Program>, RunError> {
        Ok(match self {
            Workload::Cs => Box::new(cs::Files::open(context, cs::Variant::BOTH)?),
            Workload::Cs1 => Box::new(cs::Files::open(context, cs::Variant::SYMBOLS)?),
            Workload::Cs2 => Box::new(cs::Files::open(context, cs::Variant::TEXTS)?),
            Workload::Cs3 => Box::new(cs::Files::open(context, cs::Variant::PART)?),
            Workload::Search => Box::new(cs::Files::open(context, cs::Variant::REPEATED)?),
            Workload::Din => Box::new(din::Files::open(context)?),
            Workload::Sort => Box::new(sort::Files::open(context)?),
            Workload::Gli => Box::new(gli::Files::open(context)?),
            Workload::Ldk => Box::new(ldk::Files::open(context)?),
            Workload::Pjn => Box::new(pjn::Files::open(context)?),
            Workload::Ycsb(mix) => Box::new(ycsb::Files::open(context, mix)?),
        })
    }
}

/// No workload has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWorkload;

impl fmt::Display for UnknownWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown workload, there are: ")?;
        Workload::ALL.iter().enumerate().try_for_each(|(index, workload)| {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(workload.name())
        })
    }
}

impl core::error::Error for UnknownWorkload {}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<Workload, UnknownWorkload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name).ok_or(UnknownWorkload)
    }
}
