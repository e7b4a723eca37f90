//! The image of the exokernel: entry, allocator, panic.
//!
//! Images are built in the profile `image` (see the crate `unikernel-build`); otherwise this is a host
//! program that says so.
#![no_std]
#![no_main]
#![cfg_attr(not(bare_metal), allow(dead_code))]

use core::panic::PanicInfo;
use hyperexo::log;
use hyperexo::machine::console::CONSOLE;
use hyperexo::start::settings::End;
use hyperexo::start::{Image, Outcome, finish, main};
use hyperexo_abi::FRAME_BYTES;
use hyperexo_hw::backtrace;
use talc::TalcLock;
use talc::source::Manual;

#[cfg(bare_metal)]
hyperexo_hw::boot_entry!("hx_kernel_start");

#[cfg_attr(bare_metal, global_allocator)]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

unsafe extern "C" {
    static hx_rodata_start: u8;
    static hx_rodata_end: u8;
    static hx_text_start: u8;
    static hx_text_end: u8;
    static hx_bss_end: u8;
    static boot_stack: u8;
    static boot_stack_end: u8;
}

#[unsafe(no_mangle)]
extern "C" fn hx_kernel_start(protocol: u64, information: u64) -> ! {
    let image = Image {
        memory: (&raw const hx_rodata_start) as u64..(&raw const hx_bss_end) as u64,
        constants: (&raw const hx_rodata_start) as u64..(&raw const hx_rodata_end) as u64,
        code: (&raw const hx_text_start) as u64..(&raw const hx_text_end) as u64,
        stack: (&raw const boot_stack) as u64..(&raw const boot_stack_end) as u64,
        give_heap,
    };
    // SAFETY: called once, by the entry code; the linker's symbols bound the image.
    unsafe { main(protocol, information, &image) }
}

/// # Safety
///
/// The memory is unused and the allocator's for ever.
unsafe fn give_heap(start: *mut u8, bytes: usize) {
    // SAFETY: by the caller's promise.
    let claimed = unsafe { HEAP.lock().claim(start, bytes) };
    assert!(claimed.is_some(), "the kernel's heap is too small to be managed");
}

#[cfg_attr(bare_metal, panic_handler)]
fn panic(information: &PanicInfo<'_>) -> ! {
    // SAFETY: nothing that was interrupted goes on after a panic.
    unsafe { CONSOLE.break_locks() };
    log!("error: {information}");
    // Its lowest page is not mapped (`hyperexo::machine::map`).
    let stack = (&raw const boot_stack) as u64 + FRAME_BYTES as u64..(&raw const boot_stack_end) as u64;
    let text = (&raw const hx_text_start) as u64..(&raw const hx_text_end) as u64;
    // SAFETY: the boot stack is mapped and stays so.
    let frames = unsafe { backtrace::of_memory(backtrace::frame_pointer(), stack, text) };
    for (number, address) in frames.enumerate() {
        log!("  #{number} {address:#x}");
    }
    finish(Outcome::KernelError, End::Exit);
}

#[cfg(not(bare_metal))]
mod host {
    extern crate std;

    #[unsafe(no_mangle)]
    extern "C" fn main() -> i32 {
        std::eprintln!("this is a kernel: build it with `exo build`, run it with `exo run`");
        1
    }
}
