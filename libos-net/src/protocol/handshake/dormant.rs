//! A connection that others have asked for, until something comes on it or the application writes.

use super::{Answer, Handshake, Segment};
use crate::flow::Flow;
use crate::link::Frame;
use crate::protocol::{Counted, Outlet, Protocol, SharedBytes, TcpError, TcpPolicy, TcpState};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::task::{Poll, Waker};
use smoltcp::wire::{EthernetAddress, TcpControl};

/// How long the first answer waits for its own before it is sent again; then twice as long (RFC 6298).
const AGAIN_US: i64 = 1_000_000;

/// The longest time between two.
const LONGEST_US: i64 = 60_000_000;

enum Phase {
    /// The SYN has still to come.
    Listening,
    /// It was answered.
    HalfOpen {
        asked: Handshake,
        hardware: EthernetAddress,
        send_us: i64,
        wait_us: i64,
    },
    /// The connection is there, and nothing has come on it.
    Silent {
        agreed: Handshake,
        since_us: i64,
        ends: Option<Ending>,
    },
    /// The policy's machine has it.
    Awake(Box<dyn Protocol>),
    Over,
}

/// How the application has ended what was silent.
#[derive(Clone, Copy)]
enum Ending {
    Close,
    Abort,
}

/// A connection without buffers.
pub(crate) struct Dormant {
    policy: Rc<dyn TcpPolicy>,
    /// The sequence number of our SYN.
    sequence: u32,
    phase: Phase,
    waker: Option<Waker>,
}

impl Dormant {
    /// For a connection that is asked for: [`Protocol::listen`] comes next.
    pub(crate) fn new(policy: Rc<dyn TcpPolicy>, sequence: u32) -> Dormant {
        Dormant { policy, sequence, phase: Phase::Listening, waker: None }
    }

    /// For a connection that is there.
    pub(crate) fn established(policy: Rc<dyn TcpPolicy>, agreed: Handshake, now_us: i64) -> Dormant {
        let phase = Phase::Silent { agreed, since_us: now_us, ends: None };
        Dormant { policy, sequence: agreed.local_sequence, phase, waker: None }
    }

    fn wake(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Has the policy's machine go on.
    fn awake(&mut self, agreed: &Handshake, now_us: i64) -> Option<&mut dyn Protocol> {
        let mut machine = self.policy.protocol();
        let begun = machine.begin(agreed, now_us);
        self.phase = if begun { Phase::Awake(machine) } else { Phase::Over };
        self.wake();
        match &mut self.phase {
            Phase::Awake(machine) => Some(&mut **machine),
            _ => None,
        }
    }

    /// The machine, for bytes to be sent.
    fn writer(&mut self) -> Result<&mut dyn Protocol, TcpError> {
        match &self.phase {
            Phase::Silent { ends: Some(_), .. } => return Err(TcpError::Closed),
            Phase::Silent { agreed, since_us, .. } => {
                let (agreed, since_us) = (*agreed, *since_us);
                self.awake(&agreed, since_us);
            }
            _ => {}
        }
        match &mut self.phase {
            Phase::Awake(machine) => Ok(&mut **machine),
            _ => Err(TcpError::Reset),
        }
    }

    fn take_first(&mut self, segment: &Segment<'_>, outlet: &mut Outlet<'_>) {
        let Some(mut asked) = segment.request() else { return };
        if !outlet.interface.has_ip_addr(asked.flow.local.addr) {
            return;
        }
        asked.local_sequence = self.sequence;
        let (hardware, send_us) = (segment.hardware, outlet.now_us());
        self.phase = Phase::HalfOpen { asked, hardware, send_us, wait_us: AGAIN_US };
    }

    /// A segment while the answer to ours is awaited (RFC 9293, section 3.10.7.4).
    fn take_answer(&mut self, segment: &Segment<'_>, frame: &Frame, outlet: &mut Outlet<'_>) {
        let receive_bytes = self.policy.receive_bytes();
        let Phase::HalfOpen { asked, hardware, .. } = &self.phase else { return };
        let expected = asked.remote_sequence.wrapping_add(1);
        let ahead = segment.sequence().wrapping_sub(expected);
        let answer = match (segment.tcp.control, segment.acknowledges()) {
            (TcpControl::Rst, _) => {
                if ahead == 0 {
                    self.phase = Phase::Over;
                    self.wake();
                }
                return;
            }
            // The other end has not heard us. When we say it again by ourselves stays as it is.
            (TcpControl::Syn, None) if segment.sequence() == asked.remote_sequence => {
                Answer::Accept { receive_bytes }
            }
            (TcpControl::Syn, _) => Answer::Where { receive_bytes },
            (_, None) => return,
            (_, Some(acknowledged)) if acknowledged != self.sequence.wrapping_add(1) => {
                Answer::Reset { acknowledged }
            }
            _ if ahead as usize >= receive_bytes.max(1) => Answer::Where { receive_bytes },
            _ => {
                let agreed = with_window(asked, segment);
                return self.take_established(agreed, segment, frame, outlet);
            }
        };
        let (asked, hardware) = (*asked, *hardware);
        outlet.answer(answer, &asked, hardware);
    }

    fn take_established(
        &mut self,
        agreed: Handshake,
        segment: &Segment<'_>,
        frame: &Frame,
        outlet: &mut Outlet<'_>,
    ) {
        let is_expected = segment.sequence() == agreed.remote_sequence.wrapping_add(1)
            && segment.acknowledges() == Some(agreed.local_sequence.wrapping_add(1));
        if is_expected && segment.is_bare() && self.policy.keep_alive().is_none() {
            let ends = if let Phase::Silent { ends, .. } = self.phase { ends } else { None };
            self.phase = Phase::Silent { agreed, since_us: outlet.now_us(), ends };
            self.wake();
        } else if let Some(machine) = self.awake(&agreed, outlet.now_us()) {
            machine.take(frame, outlet);
        }
    }
}

fn with_window(agreed: &Handshake, segment: &Segment<'_>) -> Handshake {
    let window_bytes = u32::from(segment.tcp.window_len) << agreed.window_shift.unwrap_or(0);
    Handshake { window_bytes, ..*agreed }
}

impl Protocol for Dormant {
    fn listen(&mut self, _: &Flow) -> bool {
        matches!(self.phase, Phase::Listening)
    }

    fn connect(&mut self, _: &Flow, _: &mut Outlet<'_>) -> bool {
        false
    }

    fn take(&mut self, frame: &Frame, outlet: &mut Outlet<'_>) {
        if let Phase::Awake(machine) = &mut self.phase {
            return machine.take(frame, outlet);
        }
        let Some(segment) = Segment::parse(frame, &*outlet.link) else { return };
        match &self.phase {
            Phase::Listening => self.take_first(&segment, outlet),
            Phase::HalfOpen { .. } => self.take_answer(&segment, frame, outlet),
            Phase::Silent { agreed, .. } => {
                let agreed = with_window(agreed, &segment);
                self.take_established(agreed, &segment, frame, outlet);
            }
            Phase::Awake(_) | Phase::Over => {}
        }
    }

    fn send(&mut self, outlet: &mut Outlet<'_>) {
        let now_us = outlet.now_us();
        match &mut self.phase {
            Phase::Awake(machine) => machine.send(outlet),
            Phase::HalfOpen { asked, hardware, send_us, wait_us }
                if *send_us <= now_us && outlet.has_room() =>
            {
                let (asked, hardware) = (*asked, *hardware);
                *send_us = now_us + *wait_us;
                *wait_us = (2 * *wait_us).min(LONGEST_US);
                let receive_bytes = self.policy.receive_bytes();
                outlet.answer(Answer::Accept { receive_bytes }, &asked, hardware);
            }
            Phase::Silent { agreed, ends: Some(ending), .. } => {
                let (agreed, ending) = (*agreed, *ending);
                if let Some(machine) = self.awake(&agreed, now_us) {
                    match ending {
                        Ending::Close => machine.close(),
                        Ending::Abort => machine.abort(),
                    }
                    machine.send(outlet);
                }
            }
            _ => {}
        }
    }

    fn due_us(&mut self, outlet: &mut Outlet<'_>) -> Option<i64> {
        match &mut self.phase {
            Phase::Awake(machine) => machine.due_us(outlet),
            Phase::HalfOpen { send_us, .. } => Some(*send_us),
            _ => None,
        }
    }

    fn state(&self) -> TcpState {
        match &self.phase {
            Phase::Listening => TcpState::Listen,
            Phase::HalfOpen { .. } => TcpState::SynReceived,
            Phase::Silent { .. } => TcpState::Established,
            Phase::Awake(machine) => machine.state(),
            Phase::Over => TcpState::Closed,
        }
    }

    fn poll_read(&mut self, into: &mut [u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        match &mut self.phase {
            Phase::Awake(machine) => machine.poll_read(into, waker),
            Phase::Over => Poll::Ready(Err(TcpError::Reset)),
            _ => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    fn poll_write(&mut self, from: &[u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        self.writer().map_or_else(|error| Poll::Ready(Err(error)), |machine| machine.poll_write(from, waker))
    }

    fn poll_write_shared(&mut self, bytes: &SharedBytes, waker: &Waker) -> Poll<Result<usize, TcpError>> {
        let write = |machine: &mut dyn Protocol| machine.poll_write_shared(bytes, waker);
        self.writer().map_or_else(|error| Poll::Ready(Err(error)), write)
    }

    fn poll_flush(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        match &mut self.phase {
            Phase::Awake(machine) => machine.poll_flush(waker),
            Phase::Over => Poll::Ready(Err(TcpError::Reset)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_established(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        match &mut self.phase {
            Phase::Awake(machine) => machine.poll_established(waker),
            Phase::Silent { .. } => Poll::Ready(Ok(())),
            Phase::Over => Poll::Ready(Err(TcpError::Reset)),
            _ => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    fn close(&mut self) {
        match &mut self.phase {
            Phase::Awake(machine) => machine.close(),
            Phase::Silent { ends, .. } => *ends = Some(ends.unwrap_or(Ending::Close)),
            _ => self.phase = Phase::Over,
        }
    }

    fn abort(&mut self) {
        match &mut self.phase {
            Phase::Awake(machine) => machine.abort(),
            Phase::Silent { ends, .. } => *ends = Some(Ending::Abort),
            _ => self.phase = Phase::Over,
        }
    }

    fn counted(&self) -> Counted {
        match &self.phase {
            Phase::Awake(machine) => machine.counted(),
            _ => Counted::default(),
        }
    }
}
