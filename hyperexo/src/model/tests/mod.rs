//! Tests of the kernel through the calls of its guests.

mod bounds;
mod disk;
mod ends;
mod frames;
mod random;
mod vcpus;
mod views;
