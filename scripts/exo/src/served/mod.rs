//! Machines with a server on them, and those who ask it.
//!
//! | module | what |
//! |---|---|
//! | [`machine`] | a machine with a server on it, for as long as it is asked |
//! | [`client`] | clients that ask exactly so often; streams of bytes |

pub mod client;
pub mod machine;
