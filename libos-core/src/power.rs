//! The power button: whoever uses the machine asks for an orderly end. QEMU's `system_powerdown`, `virsh
//! shutdown` and the Ctrl-C of `exo run` press it.
//!
//! A program that does nothing about it ends by itself:
//!
//! * at once, with exit code 0, if nobody has something to save;
//! * else as soon as somebody who has looks: a volume of `libos_fs` that was changed since its last commit
//!   commits at its next operation, and the exit code is 0, or 1 if that failed.
//!
//! A program with more to see to than that calls [`take_over`]. Then nothing happens but that [`is_pressed`]
//! holds, [`wait`] returns, and the handler of [`Cause::Power`] is called
//! ([`set_handler`](crate::upcall::set_handler)). A program that sleeps for something else while it has a
//! volume mounted must look as well, for example in the condition of
//! [`wait_until`](crate::upcall::wait_until).
//!
//! The first virtual CPU is called. Machines whose firmware describes no button never press it.
#![forbid(unsafe_code)]

use crate::cpu::upcall;
use crate::io::console;
use crate::platform;
use core::fmt::Display;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hyperexo_abi::upcall::Cause;

static PRESSED: AtomicBool = AtomicBool::new(false);
/// The program sees to it itself.
static TAKEN_OVER: AtomicBool = AtomicBool::new(false);
/// How many [`Keeper`]s there are.
static KEEPERS: AtomicUsize = AtomicUsize::new(0);

/// Has presses noted from now on. Called once, at the start.
pub(crate) fn start() {
    upcall::listen(Cause::Power, pressed);
}

/// The listener. In interrupt context: what it interrupts never goes on if it ends the program, which holds
/// nothing that others need.
fn pressed() {
    PRESSED.store(true, Ordering::SeqCst);
    end_if_nobody_keeps();
}

/// From now on the program itself sees to an orderly end.
pub fn take_over() {
    TAKEN_OVER.store(true, Ordering::SeqCst);
}

/// Whether the button has been pressed.
pub fn is_pressed() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Sleeps until the button has been pressed. On the first virtual CPU only: no other is called.
///
/// # Panics
///
/// As [`wait_until`](crate::upcall::wait_until).
pub fn wait() {
    upcall::wait_until(is_pressed);
}

/// Whether the program is to end, and has not said that it will see to it.
fn must_end() -> bool {
    is_pressed() && !TAKEN_OVER.load(Ordering::SeqCst)
}

fn end_if_nobody_keeps() {
    if must_end() && KEEPERS.load(Ordering::SeqCst) == 0 {
        end(Ok::<(), &str>(()));
    }
}

/// Ends the program: what there was to save is saved, or this is why it is not.
fn end(saved: Result<(), impl Display>) -> ! {
    let code = match saved {
        Ok(()) => {
            crate::println!("the power button was pressed: ended");
            0
        }
        Err(error) => {
            crate::println!("error: the power button was pressed, and not all is saved: {error}");
            1
        }
    };
    console::flush();
    platform::current().exit(code)
}

/// Somebody who may have something to save. While one has, a press does not end the program at once.
#[derive(Debug, Default)]
pub struct Keeper {
    keeps: AtomicBool,
}

impl Keeper {
    /// One with nothing to save so far.
    pub fn new() -> Keeper {
        Keeper::default()
    }

    /// Whether it has something to save from now on. Who has promises to ask [`Keeper::is_asked`] from time
    /// to time.
    pub fn keep(&self, has_something: bool) {
        if self.keeps.swap(has_something, Ordering::SeqCst) == has_something {
            return;
        }
        if has_something {
            KEEPERS.fetch_add(1, Ordering::SeqCst);
        } else {
            KEEPERS.fetch_sub(1, Ordering::SeqCst);
            end_if_nobody_keeps();
        }
    }

    /// Whether it is to save now, and then to call [`Keeper::end`].
    #[inline]
    pub fn is_asked(&self) -> bool {
        must_end()
    }

    /// Ends the program, with what came of the saving.
    pub fn end(&self, saved: Result<(), impl Display>) -> ! {
        end(saved)
    }
}

/// Who was waited for in vain.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.keep(false);
    }
}
