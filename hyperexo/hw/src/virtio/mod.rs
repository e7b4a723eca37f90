//! virtio devices by the crate `virtio-drivers`: what the crate needs from the image, and drivers with more
//! than one request in flight.

pub mod block;
pub mod mmio;
pub mod net;

use crate::linear;
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

fn pointer(address: PhysAddr) -> NonNull<u8> {
    NonNull::new(linear::pointer(address)).unwrap_or(NonNull::dangling())
}

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a few pages")
}

/// Memory and addresses for the drivers: DMA memory comes from the global allocator, which lies in linearly
/// mapped memory; devices get physical addresses; nothing is copied.
pub struct LinearHal;

// SAFETY: memory from the allocator is valid, zeroed, page-aligned and not aliased; MMIO is mapped like all
// physical memory ([`linear::set_base`]).
unsafe impl Hal for LinearHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty: virtqueues have at least one page.
        match NonNull::new(unsafe { alloc_zeroed(layout(pages.max(1))) }) {
            Some(memory) => (linear::physical(memory.as_ptr()), memory),
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_address: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the memory came from `dma_alloc` with as many pages (the trait's contract).
        unsafe { dealloc(memory.as_ptr(), layout(pages.max(1))) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _bytes: usize) -> NonNull<u8> {
        pointer(address)
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        linear::physical(buffer.cast::<u8>().as_ptr())
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
