//! smoltcp's socket behind a connection: one in a set of its own, so that to poll it costs the same however
//! many others there are.

use super::{Congestion, Counted, Outlet, Protocol, TcpError, TcpParameters, TcpState, instant, send, take};
use crate::flow::Flow;
use crate::link::Frame;
use core::task::{Poll, Waker};
use core::time::Duration;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer};
use smoltcp::wire::IpListenEndpoint;

/// smoltcp's TCP. Bytes are copied into a ring for each direction.
pub struct SmolTcp {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    written: u64,
}

impl SmolTcp {
    /// A closed socket.
    pub fn new(parameters: &TcpParameters) -> SmolTcp {
        let mut sockets = SocketSet::new(alloc::vec::Vec::with_capacity(1));
        let handle = sockets.add(socket(parameters));
        SmolTcp { sockets, handle, written: 0 }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

fn socket(parameters: &TcpParameters) -> Socket<'static> {
    let buffer = |bytes: usize| SocketBuffer::new(alloc::vec![0; bytes.max(1)]);
    let mut socket = Socket::new(buffer(parameters.receive_bytes), buffer(parameters.send_bytes));
    let time = |duration: Duration| {
        smoltcp::time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    };
    socket.set_ack_delay(parameters.acknowledge_after.map(time));
    socket.set_nagle_enabled(parameters.waits_to_fill_segments);
    socket.set_congestion_control(match parameters.congestion_control {
        Congestion::None => CongestionControl::None,
        Congestion::Reno | Congestion::Cubic => CongestionControl::Reno,
    });
    socket.set_timeout(Some(time(parameters.give_up_after)));
    socket.set_keep_alive(parameters.keep_alive.map(time));
    socket
}

impl Protocol for SmolTcp {
    fn listen(&mut self, flow: &Flow) -> bool {
        let local = IpListenEndpoint { addr: Some(flow.local.addr), port: flow.local.port };
        self.socket().listen(local).is_ok()
    }

    fn connect(&mut self, flow: &Flow, outlet: &mut Outlet<'_>) -> bool {
        let begun = self.socket().connect(outlet.interface.context(), flow.remote, flow.local).is_ok();
        outlet.interface.poll_maintenance(instant(outlet.now_us()));
        begun
    }

    fn take(&mut self, frame: &Frame, outlet: &mut Outlet<'_>) {
        take(outlet, frame, &mut self.sockets);
    }

    fn send(&mut self, outlet: &mut Outlet<'_>) {
        send(outlet, &mut self.sockets);
    }

    fn due_us(&mut self, outlet: &mut Outlet<'_>) -> Option<i64> {
        let due = outlet.interface.poll_at(instant(outlet.now_us()), &self.sockets);
        due.map(|due| due.total_micros())
    }

    fn state(&self) -> TcpState {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    fn poll_read(&mut self, into: &mut [u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        let socket = self.socket();
        match socket.recv_slice(into) {
            Ok(0) => {
                socket.register_recv_waker(waker);
                Poll::Pending
            }
            Ok(bytes) => Poll::Ready(Ok(bytes)),
            Err(RecvError::Finished) => Poll::Ready(Ok(0)),
            Err(RecvError::InvalidState) => Poll::Ready(Err(TcpError::Reset)),
        }
    }

    fn poll_write(&mut self, from: &[u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        match socket.send_slice(from) {
            Ok(0) => {
                socket.register_send_waker(waker);
                Poll::Pending
            }
            Ok(bytes) => {
                self.written += bytes as u64;
                Poll::Ready(Ok(bytes))
            }
            Err(_) if socket.state() == TcpState::Closed => Poll::Ready(Err(TcpError::Reset)),
            Err(_) => Poll::Ready(Err(TcpError::Closed)),
        }
    }

    fn poll_flush(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        let socket = self.socket();
        if socket.send_queue() == 0 {
            return Poll::Ready(Ok(()));
        }
        if socket.state() == TcpState::Closed {
            return Poll::Ready(Err(TcpError::Reset));
        }
        socket.register_send_waker(waker);
        Poll::Pending
    }

    fn poll_established(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        let socket = self.socket();
        match socket.state() {
            TcpState::SynSent | TcpState::SynReceived => {
                socket.register_send_waker(waker);
                Poll::Pending
            }
            TcpState::Closed => Poll::Ready(Err(TcpError::Reset)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn close(&mut self) {
        self.socket().close();
    }

    fn abort(&mut self) {
        self.socket().abort();
    }

    /// Each byte is copied into the ring, and from there into a frame. What is sent again is not told.
    fn counted(&self) -> Counted {
        Counted { bytes_sent: self.written, bytes_copied: 2 * self.written, bytes_summed: self.written }
    }
}
