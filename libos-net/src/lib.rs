//! From Ethernet frames to sockets, in the application's own address space.
//!
//! ```text
//!   application            async tasks, embedded-io-async
//!      │
//!   TcpListener · TcpStream · UdpSocket      one owner each; dropping cancels
//!      │
//!   Net ── Stack           a table of flows: a frame goes by its addresses and ports to its connection, and
//!      │                   only that connection is polled; deadlines in a heap
//!   Protocol               one connection's protocol machine: by default smoltcp's socket
//!      │
//!   smoltcp                TCP, UDP, ARP, NDP, ICMP, DHCP: an `Interface`, and a `SocketSet` for each connection
//!      │
//!   Link                   frames out and in: the network card, a wire in memory, a wire that loses frames
//! ```
//!
//! Module `tls` (feature `tls`) goes over any stream.
//!
//! What a connection does with acknowledgements, segments, buffers and congestion is decided by a
//! [`TcpPolicy`], which an application writes for each of its listeners. It also chooses the [`Protocol`].
//!
//! # Order of the modules
//!
//! rows: tls::+ flow::+ · link::+ address::+ config · protocol::+ · stack::+ · tcp::+ udp · name::+
//! rows: net · blocking
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
pub mod blocking;
mod config;
mod flow;
pub mod link;
mod name;
mod net;
mod protocol;
mod stack;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
mod udp;

pub use config::{Config, ConfigError, Ipv4, Ipv6};
pub use flow::Flow;
pub use link::{Frame, Link};
pub use name::{ConnectByNameError, ResolveError};
pub use net::Net;
pub use protocol::{
    Bulk, Congestion, Counted, Handshake, Interactive, Outlet, OwnTcp, Protocol, SharedBytes, SmolTcp,
    TcpError, TcpParameters, TcpPolicy, TcpState,
};
pub use stack::{ListenError, Statistics};
pub use tcp::{ConnectError, TcpListener, TcpStream};
pub use udp::{UdpError, UdpSocket};

pub use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint, Ipv4Cidr, Ipv6Cidr};
