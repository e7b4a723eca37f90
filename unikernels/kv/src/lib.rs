//! A key-value server that speaks Redis's protocol, with what Redis 7.0 answers.
//!
//! | module | what |
//! |---|---|
//! | [`bytes`] | keys, fields, members and strings: short ones without an allocation |
//! | [`geo`] | places as numbers |
//! | [`glob`] | patterns of names |
//! | [`resp`] | commands out of what a client sends, and replies in RESP2 and RESP3 |
//! | [`table`] | the hash table below everything: it grows in steps, and a scan misses nothing that stays |
//! | [`ranked`] | a sequence with ranks, for sorted sets |
//! | [`value`] | what a key can hold |
//! | [`store`] | databases of keys, with expiry, watched keys and an account of memory |
//! | [`command`] | the table of commands, and what each does |
//! | [`evict`] | which keys leave when memory runs out |
//! | [`log`] | what was changed, in a file: appended to, written anew, read again |
//! | [`server`] | clients, and what they ask for |
//! | [`traffic`] | requests to try policies with |
//!
//! A server reads into a buffer, has [`resp::Parser`] find a command in it, looks it up by
//! [`command::Index::find`] and runs it with [`command::Command::run`]. What it has to send is appended to a
//! vector, what it has to keep on disk and whom it has to wake is in [`command::Effects`].
//!
//! rows: bytes geo glob number random · resp table ranked · value · store
//! rows: command::error · command::call · command::about
//! rows: command::list · command::hash command::transfer command::expiry command::bits
//! rows: command::set command::string command::subsequence
//! rows: command::bitfield command::generic command::scan command::sort command::hyperloglog
//! rows: command::server command::stream
//! rows: command::read command::sorted · command::range command::group · command::geo
//! rows: command::claim command::combine · command
//! rows: evict::policy evict::level · evict::trial
//! rows: evict::blocks evict::plain evict::worth evict::keeper · evict
//! rows: log::error log::format log::dump · log::writer log::recover · log
//! rows: server::contents server::channels server::clock server::config server::slowlog
//! rows: server::client server::waiting
//! rows: server::state · server::persist server::transaction server::clients server::info server::debug
//! rows: server::room
//! rows: server::publish server::configure · server::commands · server::request
//! rows: server::connection server::local server::tasks
//! rows: server · traffic::plan · traffic::run · traffic::limit · traffic
//! rows: main::server main::traffic
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bytes;
pub mod command;
pub mod evict;
pub mod geo;
pub mod glob;
pub mod log;
pub mod number;
pub mod random;
pub mod ranked;
pub mod resp;
pub mod server;
pub mod store;
pub mod table;
pub mod traffic;
pub mod value;
