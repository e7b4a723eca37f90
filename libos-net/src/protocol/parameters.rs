//! What a policy wants, as numbers.

use core::time::Duration;

/// How the congestion window moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// There is none: for a network that does not lose packets.
    None,
    /// NewReno (RFC 6582).
    #[default]
    Reno,
    /// Cubic (RFC 9438). [`SmolTcp`](crate::SmolTcp) has it only with a standard library, and takes Reno.
    Cubic,
}

/// All that a [`TcpPolicy`](crate::TcpPolicy) says of a connection, but for its protocol. Its functions of
/// the same names say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each is described at the policy's function.
pub struct TcpParameters {
    pub receive_bytes: usize,
    pub send_bytes: usize,
    pub acknowledge_after: Option<Duration>,
    pub waits_to_fill_segments: bool,
    pub congestion_control: Congestion,
    pub give_up_after: Duration,
    pub keep_alive: Option<Duration>,
}
