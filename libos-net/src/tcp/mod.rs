//! TCP for applications: listeners, streams, and the policy of a connection.

mod listener;
pub(crate) mod policy;
mod stream;

pub use listener::TcpListener;
pub use policy::{Bulk, Interactive, TcpPolicy};
pub use stream::{ConnectError, TcpError, TcpStream};
