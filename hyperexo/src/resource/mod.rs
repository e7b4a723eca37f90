//! One file a resource. Each is a table of owners with allocation, checks, and release: protection, and no
//! policy.
//!
//! The tables are pure: they decide, and others act (nested page tables, devices). So they are tested on the
//! host.

pub mod core;
pub mod disk;
pub mod net;
pub mod page;
pub mod view;
