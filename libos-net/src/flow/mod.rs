//! Which connection a frame belongs to, and when connections are due.

mod deadlines;
mod key;

pub(crate) use deadlines::Deadlines;
pub use key::{Flow, Kind, classify};
