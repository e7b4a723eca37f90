//! What concerns nobody here: it is answered now and then, and costs little.

use super::Stack;
use crate::flow::{Kind, arp_question, udp_port};
use crate::link::Frame;
use crate::protocol::{self, Outlet};
use smoltcp::socket::{AnySocket, udp};

/// Answers a second to what belongs to nobody: resets, and words that nobody has a port.
const REFUSALS_A_SECOND: u32 = 100;
/// The port of DHCP's clients, whose socket is no common one.
const DHCP_PORT: u16 = 68;

impl Stack {
    /// Whether a frame is to be forgotten before anybody works on it: a question to another machine, or a
    /// datagram for a port that nobody has when enough of them were refused.
    pub(super) fn concerns_nobody(&mut self, kind: Kind, frame: &Frame, now_us: i64) -> bool {
        match kind {
            Kind::Neighbor => arp_question(frame).is_some_and(|wanted| !self.interface.has_ip_addr(wanted)),
            Kind::Other => self.is_for_no_port(frame) && !self.may_refuse(now_us),
            _ => false,
        }
    }

    /// Whether one more refusal may be sent; what is not answered is counted.
    fn may_refuse(&mut self, now_us: i64) -> bool {
        let (since_us, sent) = &mut self.refusals;
        if now_us - *since_us >= 1_000_000 {
            (*since_us, *sent) = (now_us, 0);
        }
        let may = *sent < REFUSALS_A_SECOND;
        *sent += u32::from(may);
        self.statistics.ignored_segments += u64::from(!may);
        may
    }

    /// Whether a frame has a datagram for a port of UDP that nobody has.
    fn is_for_no_port(&self, frame: &Frame) -> bool {
        let sockets = self.common.iter().filter_map(|(_, socket)| udp::Socket::downcast(socket));
        let mut ports = sockets.map(|socket| socket.endpoint().port);
        udp_port(frame).is_some_and(|port| port != DHCP_PORT && ports.all(|known| known != port))
    }

    /// A segment of no connection: the stack answers with a reset, but not to everybody.
    pub(super) fn answer_stranger(&mut self, frame: &Frame, now_us: i64) {
        if !self.may_refuse(now_us) {
            return;
        }
        let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
        protocol::take(&mut outlet, frame, &mut self.strangers);
        self.statistics.frames_sent += outlet.sent().frames;
    }
}
