//! Tests of the kernel through the calls of its guests.

mod bounds;
mod console;
mod disk;
mod ends;
mod frames;
mod launch;
mod net;
mod random;
mod vcpus;
mod views;
