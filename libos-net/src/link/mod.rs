//! What carries Ethernet frames: the [`Link`] under a stack.
//!
//! | link | what |
//! |---|---|
//! | [`NicLink`] | the network card of a unikernel (feature `unikernel`) |
//! | [`Wire`] | one end of a wire in memory |
//! | [`Faulty`] | a link that loses, repeats, reorders, delays and damages frames, by a seed |

mod fault;
#[cfg(feature = "unikernel")]
mod nic;
mod wire;

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
pub use fault::{Faults, Faulty};
use hyperexo_abi::net::MAX_PACKET_BYTES;
use hyperexo_abi::{FRAME_BYTES, Page};
#[cfg(feature = "unikernel")]
pub use nic::NicLink;
pub use wire::{Wire, wire};

/// An Ethernet frame without check sequence, in a page of its own. Its bytes never exceed the page.
#[derive(Clone, Debug)]
pub struct Frame {
    page: Box<Page>,
    bytes: usize,
}

impl Frame {
    /// A frame of so many bytes in this page, which holds them.
    ///
    /// # Panics
    ///
    /// If a page has fewer bytes.
    pub fn new(page: Box<Page>, bytes: usize) -> Frame {
        assert!(bytes <= FRAME_BYTES, "a frame of {bytes} bytes in one page");
        Frame { page, bytes }
    }

    /// A frame with these bytes.
    ///
    /// # Panics
    ///
    /// If a page has fewer bytes.
    pub fn from_bytes(bytes: &[u8]) -> Frame {
        let mut frame = Frame::new(Box::new(Page([0; FRAME_BYTES])), bytes.len());
        frame.copy_from_slice(bytes);
        frame
    }

    /// The page and the number of its bytes that count.
    pub fn into_page(self) -> (Box<Page>, usize) {
        (self.page, self.bytes)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.page.0[..self.bytes]
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.page.0[..self.bytes]
    }
}

/// Carries Ethernet frames. Frames travel by ownership.
pub trait Link {
    /// The hardware address of this end.
    fn address(&self) -> [u8; 6];

    /// Bytes of the longest frame, header included.
    fn max_frame_bytes(&self) -> usize {
        MAX_PACKET_BYTES
    }

    /// The next frame that has come.
    fn receive(&mut self) -> Option<Frame>;

    /// A frame of `bytes` bytes to be filled in. It may hold bytes of earlier ones.
    fn frame(&mut self, bytes: usize) -> Frame {
        Frame::new(Box::new(Page([0; FRAME_BYTES])), bytes)
    }

    /// Whether [`Link::send`] has room for one more frame. A stack must not make a frame for which there is
    /// none: TCP would wait for its acknowledgement for a second.
    fn has_room(&mut self) -> bool;

    /// Sends a frame, now or at the next [`Link::flush`].
    fn send(&mut self, frame: Frame);

    /// Takes back a frame that was received, to hold another one.
    fn recycle(&mut self, frame: Frame) {
        drop(frame);
    }

    /// Sends all frames that were given to [`Link::send`].
    fn flush(&mut self) {}

    /// Sleeps until a frame has come, or there is room again, or the timeout is over. May return early.
    fn wait(&mut self, timeout: Option<Duration>);
}
