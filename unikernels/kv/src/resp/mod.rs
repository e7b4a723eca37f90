//! Redis's protocol: commands out of what a client sends, and replies in RESP2 and RESP3.

mod reply;
mod request;

pub use reply::{Later, Protocol, Reply, write_command};
pub use request::{Arguments, Limits, OwnedArguments, Parser, Place, ProtocolError};
