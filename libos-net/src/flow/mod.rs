//! Which connection a frame belongs to, whether its checksum is right, and when connections are due.

pub(crate) mod checksum;
mod deadlines;
mod key;
mod path;

pub(crate) use deadlines::Deadlines;
pub use key::{Flow, Kind, classify};
pub(crate) use key::{arp_question, udp_port};
pub(crate) use path::too_long;
