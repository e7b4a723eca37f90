//! All tests that use the server as others do, in one program: that is built and linked once.

mod connection;
mod sharing;
