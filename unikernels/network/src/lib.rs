//! The packets that the unikernel `network` exchanges, as bytes.
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod message;
