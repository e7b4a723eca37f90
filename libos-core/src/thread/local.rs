//! A value for each thread.

use super::queue;
use alloc::rc::Rc;

/// A value that each thread has for itself, made when it is first used and dropped when the thread ends.
///
/// ```ignore
/// static DEPTH: Local<Cell<u32>> = Local::new(|| Cell::new(0));
///
/// DEPTH.with(|depth| depth.set(depth.get() + 1));
/// ```
pub struct Local<T: 'static> {
    initial: fn() -> T,
}

impl<T: 'static> Local<T> {
    /// To be the value of a static.
    pub const fn new(initial: fn() -> T) -> Local<T> {
        Local { initial }
    }

    /// Uses the caller's.
    ///
    /// # Panics
    ///
    /// If the caller is no thread: see [`super::start`].
    pub fn with<R>(&'static self, function: impl FnOnce(&T) -> R) -> R {
        let thread = queue::current().expect("a value for each thread, used where there are none");
        // SAFETY: the thread is the caller, and the reference does not leave this function.
        let locals = unsafe { thread.locals() };
        let key = &raw const *self as usize;
        let there =
            locals.borrow().iter().find(|(other, _)| *other == key).map(|(_, value)| Rc::clone(value));
        let value = there.unwrap_or_else(|| {
            // Nothing is borrowed: it may use another one.
            let value: Rc<dyn core::any::Any> = Rc::new((self.initial)());
            locals.borrow_mut().push((key, Rc::clone(&value)));
            value
        });
        function(value.downcast_ref().expect("a static has one type"))
    }
}

/// Drops the caller's values, the last one made first.
pub(super) fn clear() {
    let Some(thread) = queue::current() else { return };
    // SAFETY: the thread is the caller, and the reference does not leave this function.
    let locals = unsafe { thread.locals() };
    loop {
        let last = locals.borrow_mut().pop();
        if last.is_none() {
            return;
        }
    }
}
