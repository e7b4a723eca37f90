//! What an x86-64 image needs before it has an operating system.
#![no_std]
