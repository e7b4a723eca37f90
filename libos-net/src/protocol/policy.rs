//! What a connection does with acknowledgements, segments, buffers and congestion: the application's choice.

use super::{Congestion, Protocol, SmolTcp, TcpParameters};
use alloc::boxed::Box;
use core::time::Duration;

/// Decides for the connections of a listener, or for one that is opened. The libOS asks when it makes a
/// connection; what is not said has the value of [`Interactive`].
///
/// ```
/// use libos_net::TcpPolicy;
///
/// /// A server that answers small questions, to clients far away.
/// struct Distant;
///
/// impl TcpPolicy for Distant {
///     fn send_bytes(&self) -> usize {
///         64 * 1024
///     }
///     fn acknowledge_after(&self) -> Option<core::time::Duration> {
///         None
///     }
/// }
/// ```
pub trait TcpPolicy {
    /// Bytes that may wait to be read; also the window that is offered.
    fn receive_bytes(&self) -> usize {
        8 * 1024
    }

    /// Bytes that may wait for their acknowledgement.
    fn send_bytes(&self) -> usize {
        16 * 1024
    }

    /// How long an acknowledgement waits for data to travel with. `None`: not at all.
    fn acknowledge_after(&self) -> Option<Duration> {
        Some(Duration::from_millis(10))
    }

    /// Whether a small segment waits until what was sent before is acknowledged (Nagle, RFC 896).
    fn waits_to_fill_segments(&self) -> bool {
        false
    }

    /// How the congestion window moves.
    fn congestion_control(&self) -> Congestion {
        Congestion::Reno
    }

    /// After how long without an answer the connection is given up.
    fn give_up_after(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How often a silent connection is asked whether it is there.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// All of that.
    fn parameters(&self) -> TcpParameters {
        TcpParameters {
            receive_bytes: self.receive_bytes(),
            send_bytes: self.send_bytes(),
            acknowledge_after: self.acknowledge_after(),
            waits_to_fill_segments: self.waits_to_fill_segments(),
            congestion_control: self.congestion_control(),
            give_up_after: self.give_up_after(),
            keep_alive: self.keep_alive(),
        }
    }

    /// The protocol machine of a new connection: smoltcp's, unless another is wanted.
    ///
    /// ```
    /// use libos_net::{OwnTcp, Protocol, TcpPolicy};
    ///
    /// /// A server of files.
    /// struct Files;
    ///
    /// impl TcpPolicy for Files {
    ///     fn protocol(&self) -> Box<dyn Protocol> {
    ///         Box::new(OwnTcp::new(&self.parameters()))
    ///     }
    /// }
    /// ```
    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(SmolTcp::new(&self.parameters()))
    }
}

/// Question and answer: nothing waits to be sent with more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interactive;

impl TcpPolicy for Interactive {}

/// Much data in one direction, on a network that does not lose packets: large buffers, full segments, and no
/// congestion window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bulk;

impl TcpPolicy for Bulk {
    fn receive_bytes(&self) -> usize {
        256 * 1024
    }

    fn send_bytes(&self) -> usize {
        256 * 1024
    }

    fn waits_to_fill_segments(&self) -> bool {
        true
    }

    fn congestion_control(&self) -> Congestion {
        Congestion::None
    }
}
