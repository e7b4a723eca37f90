//! The instructions that are measured and that Rust has no safe name for: the only `unsafe` code here.
#![allow(unsafe_code)]

#[cfg_attr(not(bare_metal), allow(dead_code))]
pub mod crossings;
#[cfg_attr(not(bare_metal), allow(dead_code))]
pub mod exceptions;
#[cfg(feature = "linux")]
pub mod linux;
