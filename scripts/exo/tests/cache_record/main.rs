//! `exo cache record` as a user runs it: small programs, and exactly the blocks that they read and write.
//!
//! | module | what |
//! |---|---|
//! | [`host`] | a folder, a recorder in it, what a record says |
//! | [`transfers`] | each way to read and write a file |
//! | [`processes`] | children, threads, offsets that are shared |
//! | [`ends`] | statuses, signals, what goes wrong |

mod ends;
mod host;
mod processes;
mod transfers;
