//! Clients, and what they ask for.
//!
//! | module | what |
//! |---|---|
//! | `state` | what the tasks of all connections share: [`Server`] |
//! | `connection` | one client: its requests in turn, and what it is sent |
//! | `request` | a request: whether it may be carried out now, and what follows from it |
//! | `room` | what follows from a change of keys |
//! | `commands` | the commands that are about the server, and who does which |
//! | `persist` | what goes into the log, and when that is durable |
//! | `tasks` | what goes on beside the connections |
//! | `local` | a client without a connection |
//!
//! A task serves a client. In its turn it carries out all requests that have come, and sends the replies as
//! one. With `appendfsync always` it waits in between until the log is durable as far as anything that the
//! replies tell: the task that keeps the log runs after all connections that were ready, so that one commit
//! serves them all.

mod channels;
mod client;
mod clients;
mod clock;
mod commands;
mod config;
mod configure;
mod connection;
mod contents;
mod debug;
mod info;
mod local;
mod persist;
mod publish;
mod request;
mod room;
mod slowlog;
mod state;
mod tasks;
mod transaction;
mod waiting;

pub use clock::Clock;
pub use config::{Config, Fsync, OutputLimit, Refused, memory};
pub use connection::serve;
pub use local::Local;
pub use request::Next;
pub use state::{Counts, Ending, Server};
pub use tasks::{ended, keep_log, look_after};
