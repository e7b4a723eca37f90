//! Tests of the kernel through the calls of its guests.

mod ends;
mod frames;
