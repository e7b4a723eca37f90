//! TCP for applications: listeners and streams.

mod listener;
mod stream;

pub use listener::TcpListener;
pub use stream::{ConnectError, TcpStream};
