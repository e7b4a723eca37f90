//! All tests that use the library as others do, in one program: that is built and linked once.

mod addresses;
mod captures;
mod cores;
mod flood;
#[cfg(target_os = "linux")]
mod linux_peer;
mod malformed;
mod many;
mod names;
mod pair;
mod paths;
mod resets;
mod streams;
#[cfg(target_os = "linux")]
mod tap;
#[cfg(feature = "tls")]
mod tls_clients;
mod variants;
