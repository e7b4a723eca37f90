//! Runtime of a unikernel.
#![no_std]
