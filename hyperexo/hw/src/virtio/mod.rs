//! virtio devices by the crate `virtio-drivers`: what the crate needs from the image, and drivers with more than one
//! request in flight.

pub mod block;
pub mod net;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Virtual address of physical address 0.
static LINEAR_BASE: AtomicU64 = AtomicU64::new(0);

/// Says where physical memory is mapped, if not by identity.
///
/// # Safety
///
/// Every physical address `p` that a device or the heap uses is mapped at `base + p`.
pub unsafe fn set_linear_base(base: u64) {
    LINEAR_BASE.store(base, Ordering::Relaxed);
}

fn physical(pointer: *const u8) -> PhysAddr {
    (pointer as u64).wrapping_sub(LINEAR_BASE.load(Ordering::Relaxed))
}

fn pointer(address: PhysAddr) -> NonNull<u8> {
    let pointer = address.wrapping_add(LINEAR_BASE.load(Ordering::Relaxed)) as *mut u8;
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a few pages")
}

/// Memory and addresses for the drivers: DMA memory comes from the global allocator, which lies in linearly mapped
/// memory; devices get physical addresses; nothing is copied.
pub struct LinearHal;

// SAFETY: memory from the allocator is valid, zeroed, page-aligned and not aliased; MMIO is mapped like all physical memory
// (`set_linear_base`).
unsafe impl Hal for LinearHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty: virtqueues have at least one page.
        match NonNull::new(unsafe { alloc_zeroed(layout(pages.max(1))) }) {
            Some(memory) => (physical(memory.as_ptr()), memory),
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
        physical(buffer.cast().as_ptr())
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
