//! What carries Ethernet frames: the [`Link`] under a stack.
//!
//! | link | what |
//! |---|---|
//! | [`NicLink`] | the network card of a unikernel (feature `unikernel`) |
//! | [`Wire`] | one end of a wire in memory |
//! | [`Watched`] | a link that shows its frames, as a capture file ([`Capture`]) or as text ([`Trace`]) |
//! | [`Spread`], [`Lane`] | a link that several cores share |
//! | [`Faulty`] | a link that loses, repeats, reorders, delays and damages frames, by a seed |
//!
//! # Without a copy
//!
//! A [`Frame`] has a head, in pages of its own, and may have [`Piece`]s behind it: bytes of pages that others
//! share, such as those of a file cache. Every link takes them. The network card gathers them from where they
//! are; whoever can't makes a copy, and counts it ([`Link::statistics`]).
//!
//! ```
//! use libos_net::link::{Link, Offload, Piece, wire};
//! use std::sync::Arc;
//! # let (mut link, mut other) = wire(1);
//! let cached = Arc::new(libos_net::link::Frame::from_bytes(&[7; 1000]).into_parts().0);
//! let mut frame = link.frame(54);
//! frame.fill(0); // here headers are written; the sum of the pseudo-header is where the checksum belongs
//! frame.push(Piece::new(Arc::clone(&cached), 0..1000));
//! frame.set_offload(Offload::checksum(34, 16));
//! link.send(frame);
//! link.flush();
//! # assert_eq!(other.receive().unwrap().total_bytes(), 1054);
//! ```

mod capture;
mod fault;
mod limited;
#[cfg(feature = "unikernel")]
mod nic;
mod spread;
mod wire;

use crate::flow::Flow;
pub use capture::{Capture, Trace, Watch, Watched, Way};
use core::time::Duration;
pub use fault::{Faults, Faulty};
use libos_core::net::{MAX_PACKET_BYTES, pages_for};
pub use libos_core::net::{NicStatistics, Offload, Offloads, Packet as Frame, Pages, Piece};
pub(crate) use limited::Limited;
#[cfg(feature = "unikernel")]
pub use nic::{NicLink, UnikernelCores};
pub use spread::{Cores, Lane, Spread, spread};
pub use wire::{Wire, wire};

/// Carries Ethernet frames. Frames travel by ownership.
pub trait Link {
    /// The hardware address of this end.
    fn address(&self) -> [u8; 6];

    /// Bytes of the longest frame, header included.
    fn max_frame_bytes(&self) -> usize {
        MAX_PACKET_BYTES
    }

    /// What the link does with frames that are sent ([`Frame::set_offload`]): complete checksums, cut TCP
    /// into segments. If it completes checksums, frames that come say whether anybody need look at theirs
    /// ([`Offload::is_checked`]). A checksum may be left to any link: it is completed in software then.
    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// Counts, as far as the link keeps them: frames, bytes, and bytes that were copied or summed because the
    /// link does not gather or does not complete checksums.
    fn statistics(&self) -> NicStatistics {
        NicStatistics::default()
    }

    /// Whether segments of a connection come here. Where several cores share a link, each has some; one that
    /// opens a connection chooses its port such that the answers come to it.
    fn takes(&self, flow: &Flow) -> bool {
        let _ = flow;
        true
    }

    /// The next frame that has come. One longer than a page has pieces.
    fn receive(&mut self) -> Option<Frame>;

    /// A frame of `bytes` bytes to be filled in, all in its head. It may hold bytes of earlier ones.
    fn frame(&mut self, bytes: usize) -> Frame {
        Frame::new(pages_for(bytes), bytes)
    }

    /// Whether [`Link::send`] has room for one more frame. A stack must not make a frame for which there is
    /// none: TCP would wait for its acknowledgement for a second.
    fn has_room(&mut self) -> bool;

    /// Sends a frame, now or at the next [`Link::flush`]. Its pieces are shared until it has left. A frame
    /// that is longer than [`Link::max_frame_bytes`] without being left to the link to cut, or asks for what
    /// the link does not do, is lost and counted as refused.
    fn send(&mut self, frame: Frame);

    /// Takes back a frame that was received, to hold another one.
    fn recycle(&mut self, frame: Frame) {
        drop(frame);
    }

    /// Sends all frames that were given to [`Link::send`].
    fn flush(&mut self) {}

    /// Sleeps until a frame has come, or there is room again, or the timeout is over. May return early.
    fn wait(&mut self, timeout: Option<Duration>);

    /// The same, and until `other` holds. Whoever makes it hold also ends the sleep: a link that can look at
    /// it after each time that it was woken does so.
    fn wait_or(&mut self, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) {
        if !other() {
            self.wait(timeout);
        }
    }
}
