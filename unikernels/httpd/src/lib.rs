//! A web server for the files of a volume, by RFC 9110 and 9112.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | the head of a request, and what is refused in it |
//! | [`site`] | what a path stands for: files, directories, compressed files beside them |
//! | [`range`] | parts of a file |
//! | [`condition`] | whether the client has it already |
//! | [`answer`] | the head of an answer, and what is sent after it |
//! | [`client`], [`documents`] | connections that send from where files lie in their cache, and what is kept |
//! | [`connection`] | one client: requests in turn, until one says that it was the last |
//! | [`log`] | a line for each request, in the common format |
//!
//! rows: request range media log client documents · condition site · answer · connection
//! rows: main::secure · main::server · main::cores · main::start
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod answer;
pub mod client;
pub mod condition;
pub mod connection;
pub mod documents;
pub mod log;
mod media;
pub mod range;
pub mod request;
pub mod site;
