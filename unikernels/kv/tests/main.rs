//! All tests that use the server as others do, in one program: that is built and linked once.

mod kills;
mod log;
mod memory;
mod parser;
mod redis;
mod server;
