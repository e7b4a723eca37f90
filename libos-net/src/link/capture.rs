//! Links that show what goes over them: as a capture file, and as text.

use super::{Frame, Link, NicStatistics, Offloads};
use crate::flow::Flow;
use alloc::borrow::Cow;
use alloc::vec;
use core::fmt;
use core::time::Duration;
use embedded_io::Write;
use smoltcp::wire::{EthernetFrame, PrettyPrinter};

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this stack.
    In,
    /// From this stack.
    Out,
}

/// Sees each frame of a [`Watched`] link.
pub trait Watch {
    /// A frame, whole.
    fn frame(&mut self, way: Way, bytes: &[u8]);
}

/// A link that shows each frame to somebody. Checksums that are left to the device are not there yet in
/// frames that go out.
pub struct Watched<L, W> {
    below: L,
    watch: W,
}

impl<L: Link, W: Watch> Watched<L, W> {
    /// Watches a link.
    pub fn new(below: L, watch: W) -> Watched<L, W> {
        Watched { below, watch }
    }

    fn show(&mut self, way: Way, frame: &Frame) {
        let bytes = match frame.pieces() {
            [] => Cow::Borrowed(&frame[..]),
            _ => {
                let mut whole = vec![0; frame.total_bytes()];
                frame.copy_to(&mut whole);
                Cow::Owned(whole)
            }
        };
        self.watch.frame(way, &bytes);
    }
}

impl<L: Link, W: Watch> Link for Watched<L, W> {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.below.max_frame_bytes()
    }
    fn offloads(&self) -> Offloads {
        self.below.offloads()
    }
    fn statistics(&self) -> NicStatistics {
        self.below.statistics()
    }
    fn takes(&self, flow: &Flow) -> bool {
        self.below.takes(flow)
    }
    fn receive(&mut self) -> Option<Frame> {
        let frame = self.below.receive()?;
        self.show(Way::In, &frame);
        Some(frame)
    }
    fn frame(&mut self, bytes: usize) -> Frame {
        self.below.frame(bytes)
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.show(Way::Out, &frame);
        self.below.send(frame);
    }
    fn recycle(&mut self, frame: Frame) {
        self.below.recycle(frame);
    }
    fn flush(&mut self) {
        self.below.flush();
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

/// Writes a capture file, as `tshark` and `wireshark` read it: `pcap` with times in nanoseconds
/// (draft-ietf-opsawg-pcap).
pub struct Capture<W: Write> {
    to: W,
    now_ns: fn() -> u64,
    failure: Option<W::Error>,
}

/// Number that such a file begins with, in the order of bytes of its writer.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Kind of frames: Ethernet.
const ETHERNET: u32 = 1;
/// More than any frame has.
const MOST_BYTES: u32 = 1 << 18;

impl<W: Write> Capture<W> {
    /// Begins a file. `now_ns` is the time that its records have: nanoseconds since 1970, or since anything.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn new(mut to: W, now_ns: fn() -> u64) -> Result<Capture<W>, W::Error> {
        let mut header = [0; 24];
        // Version 2.4; the two words behind it are always 0.
        let words = [MAGIC, 2 | 4 << 16, 0, 0, MOST_BYTES, ETHERNET];
        for (into, word) in header.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        to.write_all(&header)?;
        Ok(Capture { to, now_ns, failure: None })
    }

    /// Why the file ends early, if it does: after that nothing more is written.
    pub fn failure(&self) -> Option<&W::Error> {
        self.failure.as_ref()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), W::Error> {
        let (now_ns, length) = ((self.now_ns)(), bytes.len() as u32);
        let mut header = [0; 16];
        let words = [(now_ns / 1_000_000_000) as u32, (now_ns % 1_000_000_000) as u32, length, length];
        for (into, word) in header.chunks_exact_mut(4).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        self.to.write_all(&header)?;
        self.to.write_all(bytes)
    }
}

impl<W: Write> Watch for Capture<W> {
    fn frame(&mut self, _: Way, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.write(bytes).err();
        }
    }
}

/// Shows frames as text: which way, and what each layer says.
pub struct Trace<F>(pub F);

impl<F: FnMut(fmt::Arguments<'_>)> Watch for Trace<F> {
    fn frame(&mut self, way: Way, bytes: &[u8]) {
        let way = match way {
            Way::In => "<- ",
            Way::Out => "-> ",
        };
        self.0(format_args!("{}", PrettyPrinter::<EthernetFrame<&[u8]>>::new(way, &bytes)));
    }
}
