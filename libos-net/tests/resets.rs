//! Resets in every state of a connection: who waits is told, nothing is left, and others go on.

use crate::pair::strangers::{recorded_syn, seal};
use crate::pair::{Pair, Variant, config, remote};
use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, Wire, wire};
use libos_net::{Interactive, Net, TcpError, TcpStream};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// What a test does to the server's end of a wire.
#[derive(Clone, Default)]
struct Tampered {
    /// The last segment that came.
    last: Rc<RefCell<Vec<u8>>>,
    /// Frames that come next.
    next: Rc<RefCell<VecDeque<Frame>>>,
    /// Whether frames of the other end are lost.
    cut: Rc<Cell<bool>>,
}

struct TamperedLink {
    below: Wire,
    tampered: Tampered,
}

impl Link for TamperedLink {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        if let Some(frame) = self.tampered.next.borrow_mut().pop_front() {
            return Some(frame);
        }
        let frame = self.below.receive().filter(|_| !self.tampered.cut.get())?;
        if frame[12..14] == [8, 0] && frame[23] == 6 {
            *self.tampered.last.borrow_mut() = frame.to_vec();
        }
        Some(frame)
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.below.send(frame);
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A reset as the sender of a segment would send it next, `ahead` further on.
fn reset(last: &[u8], ahead: u32) -> Frame {
    next_of(last, ahead, RST)
}

/// A segment without data as the sender of another one would send it next, `ahead` further on.
fn next_of(last: &[u8], ahead: u32, control: u8) -> Frame {
    let header = usize::from(last[46] >> 4) * 4;
    let total = usize::from(u16::from_be_bytes([last[16], last[17]]));
    let flags = last[47];
    let data = (total - 20 - header) as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
    let mut frame = last[..54].to_vec();
    frame[16..18].copy_from_slice(&40_u16.to_be_bytes());
    let sequence = u32::from_be_bytes([last[38], last[39], last[40], last[41]]);
    frame[38..42].copy_from_slice(&sequence.wrapping_add(data).wrapping_add(ahead).to_be_bytes());
    frame[46] = 0x50;
    frame[47] = control;
    seal(&mut frame);
    Frame::from_bytes(&frame)
}

fn tampered_pair() -> (Pair, Tampered) {
    let (one, two) = wire(64);
    let tampered = Tampered::default();
    let link = TamperedLink { below: one, tampered: tampered.clone() };
    let server = Net::new(link, &config(1)).unwrap();
    let client = Net::new(two, &config(2)).unwrap();
    (Pair::of(server, client), tampered)
}

/// How far a connection is when the reset comes, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Silent,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    LastAck,
    Closing,
    TimeWait,
}

impl At {
    const ALL: [At; 8] = [
        At::Silent,
        At::Established,
        At::FinWait1,
        At::FinWait2,
        At::CloseWait,
        At::LastAck,
        At::Closing,
        At::TimeWait,
    ];
}

/// Both ends of a connection that is as far as that.
fn brought_to(at: At, policy: Variant, pair: &Pair, tampered: &Tampered) -> (TcpStream, TcpStream) {
    let (client, listener) = (pair.client.clone(), pair.server.listen(7, 4, policy).unwrap());
    let accepted = pair.executor.spawn(async move { listener.accept().await });
    let mut near = pair.run(async move { client.connect(remote(7), &Interactive).await.unwrap() });
    let mut far = pair.run(async move { accepted.await.unwrap() });
    let pause = |pair: &Pair| {
        let executor = pair.executor.clone();
        pair.run(async move { executor.sleep(Duration::from_millis(300)).await });
    };
    if at != At::Silent {
        (near, far) = pair.run(async move {
            near.write_all(b"ping").await.unwrap();
            far.read_exact(&mut [0; 4]).await.unwrap();
            far.write_all(b"pong").await.unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
            (near, far)
        });
    }
    pause(pair);
    match at {
        At::Silent | At::Established => {}
        At::FinWait1 => {
            tampered.cut.set(true);
            far.shutdown();
        }
        At::FinWait2 => far.shutdown(),
        At::CloseWait => near.shutdown(),
        At::LastAck => {
            near.shutdown();
            pause(pair);
            tampered.cut.set(true);
            far.shutdown();
        }
        // Both ends come at once: theirs was sent before ours has arrived.
        At::Closing => {
            tampered.cut.set(true);
            far.shutdown();
            pause(pair);
            let end = next_of(&tampered.last.borrow(), 0, FIN | ACK);
            tampered.next.borrow_mut().push_back(end);
        }
        At::TimeWait => {
            far.shutdown();
            pause(pair);
            near.shutdown();
        }
    }
    pause(pair);
    (near, far)
}

#[test]
fn a_reset_ends_a_connection_wherever_it_is() {
    for (at, policy) in At::ALL.into_iter().flat_map(|at| [(at, Variant::SMOL), (at, Variant::OWN)]) {
        let (pair, tampered) = tampered_pair();
        let (near, mut far) = brought_to(at, policy, &pair, &tampered);
        let frame = reset(&tampered.last.borrow(), u32::from(at == At::Closing));
        tampered.next.borrow_mut().push_back(frame);
        let executor = pair.executor.clone();
        let (read, written) = pair.run(async move {
            executor.sleep(Duration::from_millis(10)).await;
            let read = executor.within(Duration::from_secs(1), far.read(&mut [0; 1])).await;
            (read, executor.within(Duration::from_secs(1), far.write(b"x")).await)
        });
        // What came before the reset may be read to its end, where there is one.
        let is_told = matches!(read, Some(Err(TcpError::Reset)))
            || matches!(at, At::CloseWait | At::LastAck | At::Closing | At::TimeWait) && read == Some(Ok(0));
        assert!(is_told, "{at:?} {policy:?}: {read:?}");
        assert!(matches!(written, Some(Err(_))), "{at:?} {policy:?}: {written:?}");
        let executor = pair.executor.clone();
        pair.run(async move { executor.sleep(Duration::from_secs(1)).await });
        assert_eq!(pair.server.statistics().connections, 0, "{at:?} {policy:?}");
        drop(near);
    }
}

#[test]
fn a_reset_from_elsewhere_ends_nothing() {
    let all = [At::Silent, At::Established, At::CloseWait];
    for (at, policy) in all.into_iter().flat_map(|at| [(at, Variant::SMOL), (at, Variant::OWN)]) {
        let (pair, tampered) = tampered_pair();
        let (mut near, mut far) = brought_to(at, policy, &pair, &tampered);
        for ahead in [0x8000_0000, 100_000, 0xffff_0000] {
            let frame = reset(&tampered.last.borrow(), ahead);
            tampered.next.borrow_mut().push_back(frame);
        }
        pair.run(async move {
            far.write_all(b"still here").await.unwrap();
            near.read_exact(&mut [0; 10]).await.unwrap();
        });
    }
}

#[test]
fn a_reset_ends_a_handshake() {
    [Variant::SMOL, Variant::OWN].into_iter().for_each(reset_of_a_handshake);
}

fn reset_of_a_handshake(policy: Variant) {
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let _listener = server.listen(7, 4, policy).unwrap();
    let mut syn = recorded_syn();
    syn[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    two.send(Frame::from_bytes(&syn));
    server.poll();
    assert_eq!(server.statistics().connections, 1);
    two.send(reset(&syn, 77));
    server.poll();
    assert_eq!(server.statistics().connections, 1, "one that is not exact is none");
    two.send(reset(&syn, 0));
    server.poll();
    assert_eq!(server.statistics().connections, 0);
}
