//! From a page fault to the window's handler, and what is said if there is no answer.

use super::slots::{self, MOST_WINDOWS, Slot};
use crate::cpu::lock::Masked;
use crate::cpu::trap::{Handled, TrapFrame, fault_address};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, Ordering};
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_hw::descriptor::core_number;
use hyperexo_hw::trap as hw;

/// An access to a page of a window that is not there, or not with that right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The page, counted from the window's first.
    pub page: u64,
    /// Byte of the page.
    pub offset: usize,
    /// Whether it was a write.
    pub write: bool,
    /// Whether the page is mapped and the access not allowed.
    pub protected: bool,
    /// Address of the instruction.
    pub instruction: u64,
}

/// Why a fault is not answered: the unikernel ends with this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl<T: core::fmt::Display> From<T> for Refusal {
    fn from(why: T) -> Refusal {
        Refusal(format!("{why}"))
    }
}

/// Answers page faults of a window: after `Ok` the access is made again.
pub type Handler = dyn Fn(&Fault) -> Result<(), Refusal>;

/// Answers some page faults at once. Given page, address, error code and instruction, it returns where to go
/// on, or 0 if the [`Handler`] is to answer.
pub(super) type QuickHandler = dyn Fn(u64, u64, u64, u64) -> u64;

/// What the trap handler finds.
pub(super) struct Answerer {
    first_address: u64,
    pages: u64,
    /// The core that may use the window.
    core: usize,
    /// Whether the handler is at work.
    at_work: Cell<bool>,
    pub handler: Option<Box<Handler>>,
    pub quick: Option<Box<QuickHandler>>,
}

impl Answerer {
    /// Which page an address is on: of the window, or a number beyond its pages.
    fn page(&self, address: u64) -> u64 {
        address.wrapping_sub(self.first_address) >> FRAME_SHIFT
    }
}

/// By the number of the window's place. An [`Answerer`] lives as long as it stands here.
static ANSWERERS: [AtomicPtr<Answerer>; MOST_WINDOWS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MOST_WINDOWS];

/// Those of them that have a quick handler.
static QUICK: [AtomicPtr<Answerer>; MOST_WINDOWS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MOST_WINDOWS];

/// A handler that is called, until this value is dropped.
pub(super) struct Registered {
    number: usize,
    answerer: *mut Answerer,
}

impl Registered {
    /// Registers nothing that answers yet.
    pub fn new(slot: &Slot) -> Registered {
        let answerer = Box::into_raw(Box::new(Answerer {
            first_address: slot.address(0),
            pages: slot.pages(),
            core: core_number(),
            at_work: Cell::new(false),
            handler: None,
            quick: None,
        }));
        ANSWERERS[slot.number()].store(answerer, Ordering::Release);
        Registered { number: slot.number(), answerer }
    }

    /// Changes who answers.
    pub fn change(&mut self, change: impl FnOnce(&mut Answerer)) {
        self.forget();
        // SAFETY: the pointer comes from a box, and as in `drop` nobody uses what it leads to.
        let answerer = unsafe { &mut *self.answerer };
        change(answerer);
        ANSWERERS[self.number].store(self.answerer, Ordering::Release);
        if answerer.quick.is_some() {
            QUICK[self.number].store(self.answerer, Ordering::Release);
        }
    }

    fn forget(&self) {
        QUICK[self.number].store(core::ptr::null_mut(), Ordering::Release);
        ANSWERERS[self.number].store(core::ptr::null_mut(), Ordering::Release);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.forget();
        // SAFETY: the pointer comes from a box. The value stays on its core, where no handler is at work:
        // that borrows it. Another core that faults there looks at what never changes, and is wrong to.
        drop(unsafe { Box::from_raw(self.answerer) });
    }
}

/// Why the last fault had no answer.
static FAILURE: Masked<Option<String>> = Masked::new(None);

/// The reason for a page fault that ends the unikernel, if it was in a window.
pub(crate) fn failure() -> Option<String> {
    crate::cpu::lock::lock_within(&FAILURE, 1)?.take()
}

impl Fault {
    /// What the processor says of an access.
    #[inline(always)]
    pub(super) fn new(page: u64, address: u64, error_code: u64, instruction: u64) -> Fault {
        const WRITE: u64 = 1 << 1;
        const PROTECTED: u64 = 1 << 0;
        Fault {
            page,
            offset: address as usize & 0xfff,
            write: error_code & WRITE != 0,
            protected: error_code & PROTECTED != 0,
            instruction,
        }
    }
}

/// The short way of a page fault: calls the quick handler of the window, if it has one. It runs on the core's
/// stack for exceptions, with interrupts disabled. 0: the fault goes the usual way, to [`answer`].
///
/// It does not ask on which core it is. Only a wild pointer leads to a window of another one.
pub(super) extern "C" fn answer_quickly(instruction: u64, error_code: u64, address: u64) -> u64 {
    let Some(number) = slots::number_of(address) else { return 0 };
    let answerer = QUICK[number].load(Ordering::Acquire);
    // SAFETY: as in `answer`.
    let Some(answerer) = (unsafe { answerer.as_ref() }) else { return 0 };
    let page = answerer.page(address);
    match &answerer.quick {
        Some(quick) if page < answerer.pages => quick(page, address, error_code, instruction),
        _ => 0,
    }
}

/// Deals with a page fault. `None` if it was not where windows lie.
pub(crate) fn answer(frame: &mut TrapFrame) -> Option<Handled> {
    let address = fault_address();
    let number = slots::number_of(address)?;
    let answerer = ANSWERERS[number].load(Ordering::Acquire);
    // SAFETY: a pointer that stands there is valid; this core does not drop it while it is in this handler.
    let result = match unsafe { answerer.as_ref() } {
        None => Err(Refusal::from("there is no window, or it has no handler")),
        Some(answerer) => {
            let fault = Fault::new(answerer.page(address), address, frame.error_code, frame.rip);
            ask(answerer, &fault, frame)
                .map_err(|Refusal(why)| Refusal(format!("page {} of a window: {why}", fault.page)))
        }
    };
    Some(match result {
        Ok(()) => Handled::Yes,
        Err(Refusal(why)) => {
            if let Some(mut failure) = crate::cpu::lock::lock_within(&FAILURE, 1) {
                *failure = Some(why);
            }
            Handled::No
        }
    })
}

/// Calls the handler, with interrupts enabled.
fn ask(answerer: &Answerer, fault: &Fault, frame: &TrapFrame) -> Result<(), Refusal> {
    const INTERRUPTS: u64 = 1 << 9;
    if fault.page >= answerer.pages {
        return Err("outside of the window: its guard".into());
    }
    if answerer.core != core_number() {
        return Err("the window belongs to another core".into());
    }
    if frame.rflags & INTERRUPTS == 0 {
        return Err("used with interrupts disabled, as in a handler or while a lock is held".into());
    }
    let Some(handler) = &answerer.handler else {
        return Err("the window has no handler that can wait".into());
    };
    if answerer.at_work.replace(true) {
        return Err("the handler of this window used a page of it that is not there".into());
    }
    // SAFETY: the interrupted program had interrupts enabled, so it holds nothing that their handlers need.
    unsafe { hw::enable_interrupts() };
    let answered = handler(fault);
    hw::disable_interrupts();
    answerer.at_work.set(false);
    answered
}
