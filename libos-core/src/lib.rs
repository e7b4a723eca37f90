//! Runtime of a unikernel.
#![no_std]

#[doc(hidden)]
pub use hyperexo_hw::memory;
#[doc(hidden)]
pub unsafe fn start(a: u64, b: u64, main: fn() -> i32) -> ! { hyperexo_hw::trap::set_dispatcher(|f| f.rax=1); let v: u64 = core::hint::black_box(3); main(); loop { core::hint::black_box([a,b,v, hyperexo_hw::trap::entry_address(v as u8)]); } }

/// Main.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        const _: () = {
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn hx_start() -> ! {
                ::core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {run}", "ud2", run = sym run)
            }
            unsafe extern "C" fn run(start_info: u64, magic: u64) -> ! {
                unsafe { $crate::start(start_info, magic, $main) }
            }
            #[global_allocator]
            static HEAP: $crate::Heap = $crate::Heap;
            #[panic_handler]
            fn panic(_information: &::core::panic::PanicInfo) -> ! {
                loop {}
            }
        };
    };
}

#[doc(hidden)]
pub struct Heap;
unsafe impl core::alloc::GlobalAlloc for Heap {
    unsafe fn alloc(&self, _l: core::alloc::Layout) -> *mut u8 { core::ptr::null_mut() }
    unsafe fn dealloc(&self, _p: *mut u8, _l: core::alloc::Layout) {}
}
