//! A value that is made once.

use super::base::Ready;
use super::mutex::Mutex;

/// A value that the first who needs it makes, while others who need it wait.
pub struct Once<T> {
    making: Mutex<()>,
    value: Ready<T>,
}

impl<T> Once<T> {
    /// No value yet.
    pub const fn new() -> Once<T> {
        Once { making: Mutex::new(()), value: Ready::new() }
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, made by `make` if nobody has before.
    ///
    /// # Panics
    ///
    /// As [`super::Semaphore::acquire`]. If `make` asks for the same value, it waits for ever.
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock();
        // Who waited for the lock finds it.
        self.value.call_once(make)
    }

    /// The same for a task, which may wait while it makes the value.
    pub async fn get_or_make_async(&self, make: impl Future<Output = T>) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock_async().await;
        match self.get() {
            Some(value) => value,
            None => {
                let value = make.await;
                self.value.call_once(|| value)
            }
        }
    }
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once::new()
    }
}
