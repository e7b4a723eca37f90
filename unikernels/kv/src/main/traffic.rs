//! Traffic that the machine makes itself.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;
use kv::evict::PolicyName;
use kv::server::memory;
use kv::traffic::{Traffic, data_bytes, run};
use libos_core::{argument, arguments, println, time};

fn wrong(what: &str, why: &dyn Display) -> String {
    format!("kv: {what}: {why}")
}

/// Makes the requests, and prints what was counted.
pub fn main(name: &str) -> Result<i32, String> {
    let traffic: Traffic = name.parse().map_err(|why| wrong(&format!("traffic={name}"), &why))?;
    let policy = argument("maxmemory-policy").unwrap_or("allkeys-lru");
    let policy: PolicyName = policy.parse().map_err(|why| wrong("maxmemory-policy", &why))?;
    let data = data_bytes(traffic);
    let text = argument("maxmemory").unwrap_or("10%");
    let bytes = match text.strip_suffix('%') {
        Some(share) => {
            share.parse().ok().filter(|share| (1..=100).contains(share)).map(|share: u64| data * share / 100)
        }
        None => memory(text).ok(),
    };
    let bytes = bytes
        .ok_or_else(|| wrong(&format!("maxmemory={text}"), &"bytes as 3mb, or a share from 1% to 100%"))?;
    let part = arguments().number("part").map_err(|why| wrong("part", &why))?.unwrap_or(1);
    let counts = run(traffic, part, policy, bytes, time::now_ns).map_err(|why| wrong(name, &why))?;
    println!("{}", counts.line(traffic, policy, bytes, data));
    Ok(0)
}
