//! Which connection a frame belongs to, whether its checksum is right, and when connections are due.

pub(crate) mod checksum;
mod deadlines;
mod key;

pub(crate) use deadlines::Deadlines;
pub use key::{Flow, Kind, classify};
