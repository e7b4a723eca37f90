//! From the first instruction to `main`, and the exit code back.

use crate::cpu::trap;
use crate::host;
use crate::io::console;
use crate::{memory, panic, platform, power, println};
use core::fmt::Display;
use spin::Once;

/// The program.
static MAIN: Once<fn() -> i32> = Once::new();

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

/// Ends the unikernel, on all cores, with an exit code: 0 is success. Before that, text not yet written goes
/// to the console.
pub fn exit(code: i32) -> ! {
    console::flush();
    platform::current().exit(code as u32)
}

/// Called by the entry code of an image. Brings up HyperExo as the platform, the address space and traps,
/// then runs `main` and exits.
///
/// # Safety
///
/// Called once, by the code at the ELF entry point, with `rdi` and `rsi` as they were there.
#[doc(hidden)]
pub unsafe fn start(start_info: u64, magic: u64, main: fn() -> i32) -> ! {
    // SAFETY: at the entry point the state is what `hyperexo_abi::start` describes, if the magic says so.
    if unsafe { !host::exo::start(start_info, magic) } {
        // SAFETY: only HyperExo enters here, or a loader that goes by the ELF header alone: the machine is
        // ours.
        unsafe { host::direct::refuse() }
    }
    // SAFETY: there is a platform now, and this is called once.
    unsafe { build(main) }
}

/// Called by the boot code of an image. Does the same without HyperExo.
///
/// # Safety
///
/// Called once, by the code of [`hyperexo_hw::boot_entry!`], with what it was given.
#[doc(hidden)]
pub unsafe fn start_directly(protocol: u64, information: u64, name: &'static str, main: fn() -> i32) -> ! {
    // SAFETY: by the caller's promise; then there is a platform.
    unsafe {
        host::direct::start(protocol, information, name);
        build(main)
    }
}

/// Brings up the address space.
///
/// # Safety
///
/// Called once, on the start-up stack, with a platform and the linear map in place.
unsafe fn build(main: fn() -> i32) -> ! {
    // SAFETY: by the caller's promise.
    unsafe {
        MAIN.call_once(|| main);
        memory::start(run)
    }
}

/// Brings up traps, runs `main` and exits.
///
/// # Safety
///
/// Called once, by [`build`], in the new address space.
unsafe extern "C" fn run() -> ! {
    // SAFETY: by the caller's promise.
    unsafe {
        memory::settle();
        power::start();
        let (stacks, main) = (memory::trap_stacks(), memory::main_stack());
        trap::start(stacks, main, panic::unhandled_trap, memory::window::answer);
    }
    platform::current().settle();
    exit(MAIN.get().map_or(0, |main| main()))
}

/// Makes a function the program of a unikernel. Defines entry point, panic handler and global allocator.
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

        // Where a boot loader enters the same image.
        #[cfg(bare_metal)]
        $crate::hyperexo_hw::boot_entry!("hx_start_directly");

        // A host program compiles all of it, but does not use it.
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

            #[unsafe(no_mangle)]
            unsafe extern "C" fn hx_start_directly(protocol: u64, information: u64) -> ! {
                // SAFETY: the arguments are those of the boot code, and this is called there only.
                unsafe {
                    $crate::entry::start_directly(
                        protocol,
                        information,
                        ::core::env!("CARGO_PKG_NAME"),
                        program,
                    )
                }
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

/// The binary of an image that is not built as an image: a program that says so.
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
