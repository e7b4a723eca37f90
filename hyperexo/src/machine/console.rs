//! The serial line: the kernel's own words, and lines of environments.
//!
//! Every line says whose it is: `hyperexo: …` or `NAME| …`. Lines come out whole, never mixed.
//!
//! No call waits for the port. Lines go into bounded queues: the kernel has one, and each environment. Cores
//! empty them while they do not hold the kernel's lock. A core that runs an environment empties the queues of
//! that environment, of the kernel and of environments that have ended; an idle core empties all. So a slow
//! reader, or an environment that writes without end, slows down only those who write: who does may have to
//! end a line that another has begun.
//!
//! A line of the kernel that finds no room is lost and counted. An environment is told that there is no room,
//! and may try again later.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::start::NAME_BYTES;
use hyperexo_hw::serial::Serial;
use spin::Mutex;

/// Longest line of an environment that comes out whole.
pub const LINE_BYTES: usize = 1024;
/// Most bytes that one line takes in a queue: name, separator, text, end.
pub const QUEUED_LINE_BYTES: usize = NAME_BYTES + 2 + LINE_BYTES + 1;
/// Bytes of a queue: a frame.
const QUEUE_BYTES: usize = FRAME_BYTES;
/// Most bytes that a core writes before it goes on with other things.
const BATCH_BYTES: usize = 512;
/// How often the port is asked in vain, at the very end, before the rest is given up.
const PATIENCE: u32 = 1_000_000;

/// The kernel's own queue.
const KERNEL: usize = 0;

/// The port, and whose line is on it.
struct Port {
    serial: Option<Serial>,
    /// Queue of the line that was begun last.
    last: usize,
    /// Whether that line has not been ended.
    begun: bool,
}

/// A console: a port and the queues in front of it.
pub struct Console {
    port: Mutex<Port>,
    /// Keeps writers of the kernel's queue apart; an environment's is written under the kernel's lock only.
    kernel_writer: Mutex<()>,
    queues: [Queue; MAX_ENVIRONMENTS],
    /// Queues in which something waits, one bit each.
    filled: AtomicU64,
    /// Queues that every core empties: the kernel's, and those of environments that have ended.
    everyones: AtomicU64,
}

const _: () = assert!(MAX_ENVIRONMENTS <= u64::BITS as usize);

/// The machine's.
pub static CONSOLE: Console = Console::new();
static KERNEL_BYTES: [AtomicU8; QUEUE_BYTES] = [const { AtomicU8::new(0) }; QUEUE_BYTES];

/// A ring of bytes with one writer and one reader. Positions run freely and wrap.
struct Queue {
    /// [`QUEUE_BYTES`] bytes; null: no queue.
    bytes: AtomicPtr<AtomicU8>,
    written: AtomicUsize,
    read: AtomicUsize,
    /// Lines lost since the last that found room.
    lost: AtomicU32,
}

impl Queue {
    /// No queue yet.
    const fn new() -> Queue {
        Queue {
            bytes: AtomicPtr::new(core::ptr::null_mut()),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            lost: AtomicU32::new(0),
        }
    }

    fn bytes(&self) -> Option<&'static [AtomicU8]> {
        let first = self.bytes.load(Ordering::Acquire);
        // SAFETY: set only by `install` and `attach`, to as many bytes that stay for ever.
        (!first.is_null()).then(|| unsafe { core::slice::from_raw_parts(first, QUEUE_BYTES) })
    }

    fn waiting(&self) -> usize {
        self.written.load(Ordering::Acquire).wrapping_sub(self.read.load(Ordering::Acquire))
    }

    fn room(&self) -> usize {
        if self.bytes.load(Ordering::Acquire).is_null() { 0 } else { QUEUE_BYTES - self.waiting() }
    }

    /// Adds a line if all of it finds room. The caller is the only writer.
    fn add(&self, line: impl FnOnce(&mut Line) -> fmt::Result) {
        let Some(bytes) = self.bytes() else { return };
        let mut writer = Line { bytes, at: self.written.load(Ordering::Relaxed), left: self.room() };
        let lost = self.lost.load(Ordering::Relaxed);
        let told = if lost == 0 { Ok(()) } else { writeln!(writer, "hyperexo: ({lost} lines lost)") };
        if told.and_then(|()| line(&mut writer)).is_err() {
            self.lost.store(lost.saturating_add(1), Ordering::Relaxed);
            return;
        }
        self.lost.store(0, Ordering::Relaxed);
        self.written.store(writer.at, Ordering::Release);
    }

    /// Takes the next byte. The caller is the only reader.
    fn take(&self) -> Option<u8> {
        if self.waiting() == 0 {
            return None;
        }
        let at = self.read.load(Ordering::Relaxed);
        let byte = self.bytes()?[at % QUEUE_BYTES].load(Ordering::Relaxed);
        self.read.store(at.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

/// A line on its way into a queue: seen by readers only when it is complete.
struct Line {
    bytes: &'static [AtomicU8],
    at: usize,
    left: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        for byte in text {
            self.bytes[self.at % QUEUE_BYTES].store(*byte, Ordering::Relaxed);
            self.at = self.at.wrapping_add(1);
        }
        Ok(())
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes())
    }
}

impl Console {
    /// A console without a port and without queues.
    pub const fn new() -> Console {
        Console {
            port: Mutex::new(Port { serial: None, last: KERNEL, begun: false }),
            kernel_writer: Mutex::new(()),
            queues: [const { Queue::new() }; MAX_ENVIRONMENTS],
            filled: AtomicU64::new(0),
            everyones: AtomicU64::new(1 << KERNEL),
        }
    }

    /// Gives environment number `number` a queue.
    ///
    /// # Safety
    ///
    /// `frame` points to a frame that is used for nothing else, for ever.
    pub unsafe fn attach(&self, number: u16, frame: *mut u8) {
        self.queues[usize::from(number)].bytes.store(frame.cast(), Ordering::Release);
    }

    fn add(&self, queue: usize, line: impl FnOnce(&mut Line) -> fmt::Result) {
        self.queues[queue].add(line);
        self.filled.fetch_or(1 << queue, Ordering::AcqRel);
    }

    /// Queues a line of the kernel. Use [`crate::log!`].
    pub fn kernel_line(&self, text: fmt::Arguments<'_>) {
        let _alone = self.kernel_writer.lock();
        self.add(KERNEL, |line| writeln!(line, "hyperexo: {text}"));
    }

    /// Queues a line of an environment. The caller holds the kernel's lock.
    pub fn environment_line(&self, number: u16, name: &str, text: &[u8]) {
        self.add(usize::from(number), |line| {
            line.add(name.as_bytes())?;
            line.add(b"| ")?;
            line.add(text)?;
            line.add(b"\n")
        });
    }

    /// Whether an environment's queue has room for `bytes` bytes more.
    pub fn has_room(&self, number: u16, bytes: usize) -> bool {
        self.queues[usize::from(number)].room() >= bytes
    }

    /// Leaves an environment's queue to all cores: the environment has ended.
    pub fn leave_to_all(&self, number: u16) {
        self.everyones.fetch_or(1 << number, Ordering::AcqRel);
    }

    /// Whether something waits that a core has to write which runs environment number `of`, or (`None`) is
    /// idle.
    pub fn is_waiting(&self, of: Option<u16>) -> bool {
        self.waiting(of) != 0
    }

    /// Queues, one bit each, in which something waits that a core has to write which runs environment number
    /// `of`, or (`None`) is idle.
    fn waiting(&self, of: Option<u16>) -> u64 {
        let mine = of.map_or(u64::MAX, |of| 1 << of | self.everyones.load(Ordering::Acquire));
        self.filled.load(Ordering::Acquire) & mine
    }

    /// Writes what waits in the queues that are for a core which runs environment number `of`, or (`None`) is
    /// idle, as far as the port takes it at once. The caller does not hold the kernel's lock.
    pub fn write_out(&self, of: Option<u16>) -> Written {
        if self.waiting(of) == 0 {
            return Written::All;
        }
        let Some(mut port) = self.port.try_lock() else { return Written::NotYet };
        for _ in 0..BATCH_BYTES {
            match self.write_byte(&mut port, of) {
                Step::Done => {}
                Step::Empty => return Written::All,
                Step::PortBusy => return Written::NotYet,
            }
        }
        Written::NotYet
    }

    /// Writes the next byte, if there is one for this core: of the line that has been begun, else of the
    /// kernel's next, else of the next environment's in turn.
    fn write_byte(&self, port: &mut Port, of: Option<u16>) -> Step {
        let waiting = self.waiting(of);
        let Some(serial) = port.serial.as_mut().filter(|_| waiting != 0) else { return Step::Empty };
        if !serial.is_ready() {
            return Step::PortBusy;
        }
        if !port.begun {
            port.last = next_of(waiting, port.last);
        }
        let queue = &self.queues[port.last];
        if let Some(byte) = queue.take() {
            serial.put(byte);
            port.begun = byte != b'\n';
        }
        if queue.waiting() == 0 {
            self.filled.fetch_and(!(1 << port.last), Ordering::AcqRel);
            // A line that came meanwhile is seen by one of the two.
            if queue.waiting() != 0 {
                self.filled.fetch_or(1 << port.last, Ordering::AcqRel);
            }
        }
        Step::Done
    }

    /// Writes all that waits, and sees it onto the wire. For the time before there is a lock, and for the
    /// end: it waits for the port, but not for ever.
    pub fn drain(&self) {
        let mut port = self.port.lock();
        let mut tries = 0;
        while tries < PATIENCE {
            match self.write_byte(&mut port, None) {
                Step::Done => tries = 0,
                Step::Empty => break,
                Step::PortBusy => tries += 1,
            }
        }
        if let Some(serial) = &mut port.serial {
            serial.drain();
        }
    }

    /// Lets a panic write whatever the console was doing.
    ///
    /// # Safety
    ///
    /// The caller never returns to code that holds the console.
    pub unsafe fn break_locks(&self) {
        // SAFETY: by the caller's promise.
        unsafe {
            self.kernel_writer.force_unlock();
            self.port.force_unlock();
        }
    }

    /// What waits in a queue, taken out of it.
    #[cfg(test)]
    pub fn taken(&self, number: u16) -> String {
        let bytes = core::iter::from_fn(|| self.queues[usize::from(number)].take()).collect();
        String::from_utf8(bytes).unwrap()
    }
}

impl Default for Console {
    fn default() -> Console {
        Console::new()
    }
}

/// Whose line is begun after one of queue `last`, of those in which something waits: the kernel's, else the
/// next environment's in turn.
fn next_of(waiting: u64, last: usize) -> usize {
    let later = waiting & (u64::MAX << last) << 1;
    let some = if waiting & 1 << KERNEL != 0 || later == 0 { waiting } else { later };
    some.trailing_zeros() as usize
}

/// Makes the serial port the machine's console.
pub fn install(serial: Serial) {
    CONSOLE.port.lock().serial = Some(serial);
    CONSOLE.queues[KERNEL].bytes.store(KERNEL_BYTES.as_ptr().cast_mut(), Ordering::Release);
}

/// How far [`Console::write_out`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All that was asked for.
    All,
    /// There is more; the port, or another core that uses it, wants time.
    NotYet,
}

/// What became of a byte.
#[derive(PartialEq, Eq)]
enum Step {
    Done,
    Empty,
    PortBusy,
}

/// Queues a line of the kernel, formatted like `println!`.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::machine::console::CONSOLE.kernel_line(format_args!($($argument)*)) };
}

/// Collects what an environment writes until a line is complete.
pub struct LineBuffer {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        LineBuffer { bytes: [0; LINE_BYTES], used: 0 }
    }
}

impl LineBuffer {
    /// Adds text, handing each complete line, or a full buffer, to `emit`. Control characters other than tab
    /// become spaces: an environment must not be able to make the console look like somebody else's.
    pub fn add(&mut self, text: &[u8], mut emit: impl FnMut(&[u8])) {
        for byte in text {
            match byte {
                b'\n' => self.flush_always(&mut emit),
                _ => {
                    if self.used == LINE_BYTES {
                        self.flush_always(&mut emit);
                    }
                    // C1 controls are two bytes in UTF-8: both go.
                    let c1 = (0x80..0xa0).contains(byte)
                        && self.bytes[..self.used].last().is_none_or(|lead| *lead == 0xc2);
                    if c1 && self.used != 0 {
                        self.bytes[self.used - 1] = b' ';
                    }
                    let control = *byte != b'\t' && (*byte < b' ' || *byte == 0x7f) || c1;
                    self.bytes[self.used] = if control { b' ' } else { *byte };
                    self.used += 1;
                }
            }
        }
    }

    fn flush_always(&mut self, emit: &mut impl FnMut(&[u8])) {
        emit(&self.bytes[..self.used]);
        self.used = 0;
    }

    /// Hands out a last line without an end.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.used != 0 {
            self.flush_always(&mut emit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> &'static Console {
        let console = Box::leak(Box::new(Console::new()));
        for number in [1, 2] {
            let bytes = vec![0u8; QUEUE_BYTES].leak();
            // SAFETY: leaked, and used for nothing else.
            unsafe { console.attach(number, bytes.as_mut_ptr()) };
        }
        console
    }

    #[test]
    fn who_fills_its_queue_loses_its_own_lines_and_is_told() {
        let console = console();
        let long = [b'x'; LINE_BYTES];
        (0..10).for_each(|_| console.environment_line(1, "hog", &long));
        assert!(!console.has_room(1, QUEUED_LINE_BYTES) && console.has_room(2, QUEUE_BYTES));
        console.environment_line(2, "other", b"here");
        assert_eq!(console.taken(2), "other| here\n");
        let hogs = console.taken(1);
        assert_eq!(hogs.lines().count(), 3);
        assert!(hogs.lines().all(|line| line.len() == LINE_BYTES + 5), "only whole lines");
        console.environment_line(1, "hog", b"again");
        assert_eq!(console.taken(1), "hyperexo: (7 lines lost)\nhog| again\n");
    }

    #[test]
    fn a_core_minds_its_own_lines_and_nobodys_only() {
        let console = console();
        console.environment_line(1, "one", b"here");
        assert_eq!([None, Some(1), Some(2)].map(|of| console.is_waiting(of)), [true, true, false]);
        console.environment_line(2, "two", b"here");
        assert!(console.is_waiting(Some(2)));
        console.leave_to_all(1);
        assert_eq!(console.waiting(Some(5)), 1 << 1, "it has ended");
    }

    #[test]
    fn environments_have_turns_and_the_kernel_comes_first() {
        let waiting = 1 << 1 | 1 << 5 | 1 << 63;
        assert_eq!([0, 1, 4, 5, 62, 63].map(|last| next_of(waiting, last)), [1, 5, 5, 63, 63, 1]);
        assert_eq!([0, 5, 63].map(|last| next_of(waiting | 1 << KERNEL, last)), [KERNEL; 3]);
    }

    #[test]
    fn lines_come_out_whole_and_clean() {
        let mut lines = Vec::new();
        let mut buffer = LineBuffer::default();
        let mut emit = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
        buffer.add(b"one\ntw", &mut emit);
        buffer.add(b"o\n\nh\x1b[1m\rx", &mut emit);
        buffer.add("\n\u{9b}1m \u{e9}".as_bytes(), &mut emit);
        buffer.flush(&mut emit);
        buffer.flush(&mut emit);
        assert_eq!(lines, ["one", "two", "", "h [1m x", "  1m \u{e9}"]);
    }

    #[test]
    fn endless_lines_are_broken() {
        let mut sizes = Vec::new();
        let mut buffer = LineBuffer::default();
        buffer.add(&[b'x'; LINE_BYTES * 2 + 5], |line| sizes.push(line.len()));
        buffer.flush(|line| sizes.push(line.len()));
        assert_eq!(sizes, [LINE_BYTES, LINE_BYTES, 5]);
    }
}
