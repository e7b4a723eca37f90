//! Physical memory, as the kernel reaches it: mapped by identity, addressed by frame.
//!
//! What lies in frames of an environment may change at any moment, by the environment on another core or by a
//! device. So nothing here lends references to it: bytes are copied out or in, once.

use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::boot::IDENTITY_BYTES;

/// Bytes that are moved about as quickly as one word.
const CACHE_LINE: u64 = 64;

/// Permission to touch all of physical memory below `end_frame`.
#[derive(Clone, Copy)]
pub struct PhysicalMemory {
    /// Virtual address of frame 0: 0 on a machine; elsewhere in the model that host tests run on.
    base: usize,
    end_frame: u64,
}

impl PhysicalMemory {
    /// # Safety
    ///
    /// All RAM below `end_frame` is mapped by identity, writable, and nothing that Rust has references to
    /// lies in frames that are passed to the methods.
    pub unsafe fn new(end_frame: u64) -> PhysicalMemory {
        PhysicalMemory { base: 0, end_frame }
    }

    /// Frames that there are.
    pub fn frames(&self) -> u64 {
        self.end_frame
    }

    fn address(&self, frame: u64) -> usize {
        assert!(frame < self.end_frame, "frame {frame:#x} is beyond RAM");
        self.base + (frame << FRAME_SHIFT) as usize
    }

    /// Virtual address of a frame, for structures that the processor reads where they lie.
    pub fn pointer(&self, frame: u64) -> *mut u8 {
        self.address(frame) as *mut u8
    }

    /// Fills a frame with zeros.
    pub fn clear(&self, frame: u64) {
        touched(FRAME_BYTES as u64 / CACHE_LINE);
        // SAFETY: within RAM (`address`), mapped and unreferenced (`new`).
        unsafe { core::ptr::write_bytes(self.address(frame) as *mut u8, 0, FRAME_BYTES) };
    }

    /// Copies bytes into adjacent frames, from byte `offset` of `frame` on.
    pub fn write(&self, frame: u64, offset: usize, bytes: &[u8]) {
        touched(1 + bytes.len() as u64 / CACHE_LINE);
        if let Some(last) = (offset + bytes.len()).checked_sub(1) {
            let _ = self.address(frame + (last / FRAME_BYTES) as u64);
            // SAFETY: first and last frame are within RAM; mapped and unreferenced (`new`).
            unsafe {
                let target = (self.address(frame) + offset) as *mut u8;
                core::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
            }
        }
    }

    /// Copies bytes out of one frame. `offset + bytes.len()` must not exceed the frame.
    pub fn read(&self, frame: u64, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= FRAME_BYTES);
        touched(1 + bytes.len() as u64 / CACHE_LINE);
        // SAFETY: within one frame of RAM. The guest may be writing it: each byte is whatever it is when
        // copied.
        unsafe {
            let source = (self.address(frame) + offset) as *const u8;
            core::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
        }
    }

    /// A word of a page table; `index` below 512.
    pub fn word(&self, frame: u64, index: usize) -> u64 {
        self.atomic(frame, index).load(Ordering::Relaxed)
    }

    /// Sets a word of a page table.
    pub fn set_word(&self, frame: u64, index: usize, value: u64) {
        self.atomic(frame, index).store(value, Ordering::Relaxed);
    }

    fn atomic(&self, frame: u64, index: usize) -> &'static AtomicU64 {
        assert!(index < FRAME_BYTES / 8);
        touched(1);
        // SAFETY: aligned, within RAM, and only ever touched atomically or by hardware.
        unsafe { &*((self.address(frame) + index * 8) as *const AtomicU64) }
    }

    /// A structure of atomics that fills adjacent frames from `frame` on and that the kernel shares with an
    /// environment.
    ///
    /// # Safety
    ///
    /// `T` consists of atomics only, any bits are a value of it, and its alignment is at most a frame. The
    /// frames are not given to anybody else while the reference is used.
    pub unsafe fn shared<T>(&self, frame: u64) -> &'static T {
        let _ = self.address(frame + size_of::<T>().div_ceil(FRAME_BYTES) as u64 - 1);
        // SAFETY: by the caller's promise; within RAM as just checked.
        unsafe { &*(self.address(frame) as *const T) }
    }
}

/// Says how many words, or entries of tables, are about to be looked at or changed: tests want to know how
/// much is done at once.
#[inline(always)]
pub fn touched(_words: u64) {
    #[cfg(test)]
    work::add(_words);
}

/// Extends the identity map to `end` bytes with 2 MiB pages. `table` gives zeroed frames.
///
/// # Safety
///
/// The boot page tables are in use; frames that `table` gives are unused, below the part that is mapped
/// already, and never freed.
pub unsafe fn extend_identity_map(end: u64, mut table: impl FnMut() -> u64) {
    const ENTRY: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    const GIGABYTE: u64 = 1 << 30;
    let top: u64;
    // SAFETY: ring 0; reading CR3 has no effect.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) top, options(nomem, nostack, preserves_flags)) };
    // SAFETY: page tables lie in identity-mapped memory, and only this core uses them now.
    let entry = |table: u64, index: u64| unsafe { &mut *((table & !0xfff) as *mut u64).add(index as usize) };
    let mut address = IDENTITY_BYTES;
    while address < end {
        let pointers = entry(top, address >> 39);
        if *pointers == 0 {
            *pointers = table() << FRAME_SHIFT | ENTRY;
        }
        let directory = table() << FRAME_SHIFT;
        *entry(*pointers, address >> 30 & 511) = directory | ENTRY;
        for index in 0..512 {
            *entry(directory, index) = (address + (index << 21)) | ENTRY | LARGE;
        }
        address += GIGABYTE;
    }
}

/// A machine's memory as a vector, for tests on the host.
#[cfg(test)]
pub fn model(frames: u64) -> PhysicalMemory {
    let memory = std::vec![hyperexo_abi::Page([0xa5; FRAME_BYTES]); frames as usize].leak();
    PhysicalMemory { base: memory.as_ptr() as usize, end_frame: frames }
}

/// Work of the calling thread, in words.
#[cfg(test)]
pub mod work {
    use std::cell::Cell;

    thread_local! {
        static WORDS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add(words: u64) {
        WORDS.set(WORDS.get() + words);
    }

    /// Work since the last time.
    pub fn take() -> u64 {
        WORDS.take()
    }
}
