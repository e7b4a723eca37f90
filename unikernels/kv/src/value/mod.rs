//! What a key can hold.

mod hash;
pub mod hyperloglog;
mod list;
mod set;
mod sorted;
mod stream;

use crate::bytes::Bytes;
use alloc::boxed::Box;
pub use hash::Hash;
pub use list::{End, List};
pub use set::Set;
pub use sorted::{LexBound, ScoreBound, SortedSet};
pub use stream::{Consumer, Group, Id, Pending, Stream};

/// Up to which size collections are kept in their compact forms. Named as in Redis's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// `hash-max-listpack-entries`
    pub hash_entries: usize,
    /// `hash-max-listpack-value`: bytes.
    pub hash_bytes: usize,
    /// `set-max-intset-entries`
    pub set_entries: usize,
    /// `zset-max-listpack-entries`
    pub sorted_entries: usize,
    /// `zset-max-listpack-value`: bytes.
    pub sorted_bytes: usize,
}

impl Default for Compact {
    fn default() -> Self {
        Self { hash_entries: 128, hash_bytes: 64, set_entries: 512, sorted_entries: 128, sorted_bytes: 64 }
    }
}

/// What a key holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string of bytes; also a bitmap, or a HyperLogLog.
    String(Bytes),
    /// A sequence of strings.
    List(Box<List>),
    /// Different strings.
    Set(Box<Set>),
    /// Strings by name.
    Hash(Box<Hash>),
    /// Different strings, in the order of their scores.
    SortedSet(Box<SortedSet>),
    /// A log of entries.
    Stream(Box<Stream>),
}

/// The value is of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// Accessors of a type: shared and exclusive.
macro_rules! accessors {
    ($variant:ident, $type:ty, $shared:ident, $exclusive:ident, $what:literal) => {
        #[doc = concat!("The ", $what, " that it is.\n\n# Errors\n\nIf it is something else.")]
        pub fn $shared(&self) -> Result<&$type, WrongType> {
            if let Self::$variant(value) = self { Ok(value) } else { Err(WrongType) }
        }

        #[doc = concat!("The ", $what, " that it is, to be changed.\n\n# Errors\n\nIf it is something else.")]
        pub fn $exclusive(&mut self) -> Result<&mut $type, WrongType> {
            if let Self::$variant(value) = self { Ok(value) } else { Err(WrongType) }
        }
    };
}

impl Value {
    accessors!(String, Bytes, string, string_mut, "string");
    accessors!(List, List, list, list_mut, "list");
    accessors!(Set, Set, set, set_mut, "set");
    accessors!(Hash, Hash, hash, hash_mut, "hash");
    accessors!(SortedSet, SortedSet, sorted, sorted_mut, "sorted set");
    accessors!(Stream, Stream, stream, stream_mut, "stream");

    /// The name of the type, as `TYPE` says it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Hash(_) => "hash",
            Self::SortedSet(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    /// The name of the form, as `OBJECT ENCODING` says it: of the one that Redis would have chosen.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::String(text) if crate::number::parse_i64(text).is_some() => "int",
            Self::String(text) if text.len() <= 44 => "embstr",
            Self::String(_) => "raw",
            Self::List(_) => "quicklist",
            Self::Set(set) => set.encoding(),
            Self::Hash(hash) => hash.encoding(),
            Self::SortedSet(sorted) => sorted.encoding(),
            Self::Stream(_) => "stream",
        }
    }

    /// Bytes of memory that belong to the value beside its place in the table.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.heap_bytes(),
            Self::List(list) => size_of::<List>() + list.heap_bytes(),
            Self::Set(set) => size_of::<Set>() + set.heap_bytes(),
            Self::Hash(hash) => size_of::<Hash>() + hash.heap_bytes(),
            Self::SortedSet(sorted) => size_of::<SortedSet>() + sorted.heap_bytes(),
            Self::Stream(stream) => size_of::<Stream>() + stream.heap_bytes(),
        }
    }

    /// Whether it is a collection without elements, which no key keeps. A stream is kept.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::String(_) | Self::Stream(_) => false,
            Self::List(list) => list.len() == 0,
            Self::Set(set) => set.len() == 0,
            Self::Hash(hash) => hash.len() == 0,
            Self::SortedSet(sorted) => sorted.len() == 0,
        }
    }
}
