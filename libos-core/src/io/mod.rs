//! What an application reads and writes: console, disk, network, random bytes.

pub mod console;
pub mod disk;
pub mod net;
pub mod random;
