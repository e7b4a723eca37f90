//! What a unikernel can run on. This is the only part of the library that knows.
//!
//! There are two hosts: HyperExo ([`exo`]), and the machine itself (`direct`). The entry point shows which it
//! is: the kernel enters an image at its ELF entry, a boot loader at the one that the image's notes name.

pub(crate) mod direct;
pub mod exo;
