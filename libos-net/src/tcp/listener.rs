//! Waiting for connections.

use super::TcpStream;
use crate::stack::Handle;
use core::future::poll_fn;
use core::task::Poll;

/// Takes connections to a port; see [`Net::listen`](crate::Net::listen). When it is dropped nobody listens
/// any more; connections that were accepted go on.
pub struct TcpListener {
    net: Handle,
    port: u16,
}

impl TcpListener {
    pub(crate) fn new(net: Handle, port: u16) -> TcpListener {
        TcpListener { net, port }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        poll_fn(|context| {
            let next = self.net.stack().next_accepted(self.port, context.waker());
            next.map_or(Poll::Pending, |id| Poll::Ready(TcpStream::new(self.net.clone(), id)))
        })
        .await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let now_us = self.net.now_us();
        self.net.stack().stop_listening(self.port, now_us);
    }
}
