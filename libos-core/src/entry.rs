//! From the first instruction to `main`, and the exit code back.

use crate::{console, memory, platform, println, trap};
use core::fmt::Display;

/// What a unikernel's `main` may return.
pub trait Termination {
    /// The exit code: 0 is success.
    fn exit_code(self) -> i32;
}

impl Termination for () {
    fn exit_code(self) -> i32 {
        0
    }
}

impl Termination for i32 {
    fn exit_code(self) -> i32 {
        self
    }
}

/// An error is printed as one line, and the exit code is 1.
impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn exit_code(self) -> i32 {
        match self {
            Ok(value) => value.exit_code(),
            Err(error) => {
                println!("error: {error}");
                1
            }
        }
    }
}

/// Ends the unikernel, on all cores, with an exit code: 0 is success. Text not yet written goes to the console first.
pub fn exit(code: i32) -> ! {
    console::flush();
    platform::current().exit(code as u32)
}

/// What the entry code of an image calls: brings up platform, address space and traps, then runs `main` and exits.
///
/// # Safety
/// To be called once, by the code at the ELF entry point, with `rdi` and `rsi` as they were there.
#[doc(hidden)]
pub unsafe fn start(start_info: u64, magic: u64, main: fn() -> i32) -> ! {
    // SAFETY: at the entry point the state is what `hyperexo_abi::start` describes, if the magic says so.
    if unsafe { !platform::exo::start(start_info, magic) } {
        // Not HyperExo: there is neither a console nor an exit that we know of.
        loop {
            core::hint::spin_loop();
        }
    }
    // SAFETY: called once, in this order, on the start-up stack.
    unsafe {
        let stacks = memory::start();
        trap::start(stacks);
    }
    exit(main())
}

/// Makes a function the program of a unikernel: defines entry point, panic handler and global allocator.
///
/// The function takes nothing and returns a [`Termination`]: nothing, an exit code, or a `Result` of these.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
/// #![forbid(unsafe_code)]
///
/// libos_core::main!(main);
///
/// fn main() -> i32 {
///     libos_core::println!("hello");
///     0
/// }
/// ```
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[cfg(not(bare_metal))]
        $crate::host_program!();

        // A host program checks all of it but has no use for it.
        #[cfg_attr(not(bare_metal), allow(dead_code))]
        const _: () = {
            /// The ELF entry point: a frame pointer that ends a walk, an aligned stack.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn hx_start() -> ! {
                ::core::arch::naked_asm!(
                    "xor ebp, ebp",
                    "and rsp, -16",
                    "call {run}",
                    "ud2",
                    run = sym run,
                )
            }

            unsafe extern "C" fn run(start_info: u64, magic: u64) -> ! {
                // SAFETY: the registers are those of the entry point, and this is called there only.
                unsafe { $crate::entry::start(start_info, magic, program) }
            }

            fn program() -> i32 {
                $crate::Termination::exit_code($main())
            }

            #[cfg(bare_metal)]
            #[global_allocator]
            static HEAP: $crate::heap::Heap = $crate::heap::Heap;

            #[cfg_attr(bare_metal, panic_handler)]
            fn panic(information: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::panic::report(information)
            }
        };
    };
}

/// What the binary of an image is when it is not built as an image: a program that says so.
#[doc(hidden)]
#[macro_export]
macro_rules! host_program {
    () => {
        extern crate std;

        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn main() -> i32 {
                std::eprintln!("this is a unikernel: build it with `exo build`, run it with `exo run`");
                1
            }
        };
    };
}
