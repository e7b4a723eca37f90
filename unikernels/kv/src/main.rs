//! `kv`: a key-value server, for everybody who speaks Redis's protocol.
#![cfg_attr(bare_metal, no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(bare_metal)]
libos_core::main!(main);

/// Runs the server.
#[cfg(bare_metal)]
fn main() -> Result<i32, &'static str> {
    Err("kv: there is no server yet")
}

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("kv is a unikernel: cargo exo run kv --direct --net user --publish 6379:6379 --disk FILE");
}
