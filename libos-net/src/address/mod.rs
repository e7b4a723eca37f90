//! Addresses of IPv6 and of neighbours: what is said about them on the link, and what follows from it.
//!
//! Nothing here touches the link: messages come in and go out as values, the time is an argument.

mod autoconf;
mod heard;
mod message;

pub(crate) use autoconf::Autoconf;
pub(crate) use heard::{Heard, Word, hear};
pub(crate) use message::Message;
