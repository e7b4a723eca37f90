//! What a key can hold.

use crate::bytes::Bytes;

/// What a key holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string of bytes; also a bitmap, or a HyperLogLog.
    String(Bytes),
}

impl Value {
    /// The name of the type, as `TYPE` says it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
        }
    }

    /// Bytes of memory that belong to the value beside its place in the table.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.heap_bytes(),
        }
    }

    /// Whether it is a collection without elements, which no key keeps.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::String(_) => false,
        }
    }
}

/// The value is of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

impl Value {
    /// The string that it is.
    ///
    /// # Errors
    ///
    /// If it is something else, as with the others.
    pub fn string(&self) -> Result<&Bytes, WrongType> {
        match self {
            Self::String(text) => Ok(text),
        }
    }

    /// The string that it is, to be changed.
    pub fn string_mut(&mut self) -> Result<&mut Bytes, WrongType> {
        match self {
            Self::String(text) => Ok(text),
        }
    }
}
