//! The console of a machine: the first serial port, or a virtio console.
//!
//! Which of them is decided once ([`ConsoleKind`]). If it is the virtio console, text is kept until the
//! device has been found and started, which needs the address space and the heap. If the unikernel ends
//! before that, the text goes to the serial port.
//!
//! **Each text goes to one of the two.** What the virtio console does not take goes to the serial port. If
//! the device returns no buffers, the console waits once, for [`PATIENCE_S`], and not again until the device
//! has returned some. If there is no port, the text is lost.
//!
//! **Reports come through.** Invariant: the holder of [`CONSOLE`] allocates nothing and calls nothing that
//! prints, panics or waits without end. So only a core that a trap stopped in its middle holds it for ever.
//! Such a core, and others after some patience, go around it ([`around`]). That needs none of its state: it
//! writes to the device's register for emergencies, or else to the serial port. Both take each byte by
//! itself.

mod lines;

use super::devices::{self, Found};
use super::machine::{self, Machine};
use super::options::{ConsoleKind, Lines as Style, Options};
use super::virtio::console::{EmergencyRegister, VirtioConsole};
use crate::cpu::lock::{self, Masked, MaskedGuard, PATIENCE_TURNS};
use crate::platform::DeviceFault;
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use hyperexo_hw::serial::Serial;
use hyperexo_hw::time;
use lines::{Early, Lines};
use spin::Once;
use virtio_drivers::transport::{DeviceType, SomeTransport};

/// Seconds that the device has to return a buffer, if it has returned all before.
const PATIENCE_S: u64 = 1;

type Device = VirtioConsole<SomeTransport<'static>>;

/// Where text goes.
enum Way {
    /// Nowhere yet: it is kept.
    Kept,
    /// To the serial port.
    Serial,
    /// To the device.
    Virtio(Box<Device>),
}

static CONSOLE: Masked<Console> = Masked::new(Console {
    port: None,
    way: Way::Kept,
    early: Early::new(),
    lines: Lines::new(None),
    diverted: 0,
});

struct Console {
    /// The serial port, if there is one.
    port: Option<Serial>,
    way: Way,
    early: Early,
    lines: Lines,
    /// Bytes that went to the serial port since the device stopped returning buffers.
    diverted: usize,
}

impl Console {
    fn put(&mut self, text: &[u8]) {
        match &mut self.way {
            Way::Kept => self.early.keep(text),
            Way::Serial => put_to(&mut self.port, text),
            Way::Virtio(device) => {
                let taken = device.put(text, patience(self.diverted > 0));
                put_to(&mut self.port, &text[taken..]);
                self.diverted += text.len() - taken;
            }
        }
    }

    /// Has the device write what was put.
    fn send(&mut self) {
        if let Way::Virtio(device) = &mut self.way {
            device.send();
        }
    }

    /// Text of the program.
    fn write(&mut self, text: &[u8]) {
        self.tell_diverted();
        let mut lines = self.lines;
        lines.program(text, |piece| self.put(piece));
        self.lines = lines;
        self.send();
    }

    /// A line of the platform.
    fn note(&mut self, text: fmt::Arguments<'_>) {
        let mut lines = self.lines;
        lines.platform(text, |piece| self.put(piece));
        self.lines = lines;
        self.send();
    }

    /// Once the device takes text again, says on it what it has missed.
    fn tell_diverted(&mut self) {
        if self.diverted > 0
            && let Way::Virtio(device) = &mut self.way
            && device.has_room()
        {
            let bytes = core::mem::take(&mut self.diverted);
            let fate = if self.port.is_some() { "on the serial port" } else { "lost" };
            self.note(format_args!(
                "warning: this console took nothing for a while: {bytes} bytes are {fate}"
            ));
        }
    }

    /// Sends text this way from now on, the kept text first.
    fn go(&mut self, way: Way) {
        self.way = way;
        let mut early = core::mem::replace(&mut self.early, Early::new());
        let (text, lost) = early.take();
        self.put(text);
        self.send();
        if lost > 0 {
            self.note(format_args!("warning: {lost} bytes of earlier text are lost"));
        }
    }

    /// Waits until all is out. What the device has not returned by then goes to the serial port, perhaps a
    /// second time.
    fn drain(&mut self) {
        if matches!(self.way, Way::Kept) {
            self.go(Way::Serial);
        }
        if let Way::Virtio(device) = &mut self.way
            && !device.drain(patience(self.diverted > 0))
        {
            device.unreturned(|text| put_to(&mut self.port, text));
        }
        if let Some(port) = &mut self.port {
            port.drain();
        }
    }
}

fn put_to(port: &mut Option<Serial>, text: &[u8]) {
    if let Some(port) = port {
        port.write(text);
    }
}

/// Says when the device has had its time: at once, with `none`, if it is known to return nothing.
fn patience(none: bool) -> impl FnMut() -> bool {
    let second = machine::known().map_or(0, |machine| machine.clock.tsc_hz);
    let mut end = None;
    move || {
        none || time::ticks() > *end.get_or_insert_with(|| time::ticks().saturating_add(PATIENCE_S * second))
    }
}

/// Turns that the next caller waits for the console: one, if the last caller has not got it.
static TURNS: AtomicUsize = AtomicUsize::new(PATIENCE_TURNS);

/// Locks the console. `None` if its holder does not let go.
fn console() -> Option<MaskedGuard<'static, Console>> {
    let guard = lock::lock_within(&CONSOLE, TURNS.load(Ordering::Relaxed));
    TURNS.store(if guard.is_some() { PATIENCE_TURNS } else { 1 }, Ordering::Relaxed);
    guard
}

/// The device's register for emergencies, if it has one and text goes to the device.
static EMERGENCY: Once<EmergencyRegister> = Once::new();

/// Lines on the way around the console. They may begin in the middle of one.
static AROUND: Masked<Option<Lines>> = Masked::new(None);

/// Calls `act` with lines and a place to put text, without the console and its state.
fn around(act: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8]))) {
    // Another core may be here and soon be through. If this core failed here itself, its report has no way
    // left.
    let Some(mut lines) = lock::lock_within(&AROUND, PATIENCE_TURNS) else { return };
    // SAFETY: the port is this module's. Its holder was interrupted or hangs. Each byte is written by itself,
    // so ours do no harm between two of its bytes.
    let mut port = unsafe { Serial::in_use() };
    let mut put = |piece: &[u8]| match EMERGENCY.get() {
        Some(register) => register.write(piece),
        None => port.write(piece),
    };
    if lines.is_none() {
        put(b"\n");
    }
    let label = machine::known().and_then(|machine| label(&machine.options));
    act(lines.get_or_insert(Lines::new(label)), &mut put);
}

fn label(options: &Options) -> Option<&'static str> {
    (options.lines == Style::Labelled).then_some(options.name)
}

/// Takes the port.
///
/// # Safety
///
/// Privilege level 0; nobody else uses the port.
pub(super) unsafe fn start() {
    // SAFETY: by the caller's promise.
    let port = unsafe { Serial::new() };
    if let Some(mut console) = console() {
        console.port = Some(port).filter(Serial::is_there);
    }
}

/// Obeys the options: how lines look from now on and, if that is known already, where they go.
pub(super) fn obey(options: &Options) {
    let Some(mut console) = console() else { return };
    console.lines.label = label(options);
    match options.console {
        ConsoleKind::Serial => console.go(Way::Serial),
        ConsoleKind::Auto if console.port.is_some() => console.go(Way::Serial),
        ConsoleKind::Auto | ConsoleKind::Virtio => {}
    }
}

/// Finds and starts the device, if it is wanted. Needs the address space and the heap.
pub(super) fn settle(machine: &Machine) {
    if console().is_none_or(|console| !matches!(console.way, Way::Kept)) {
        return;
    }
    let opened = devices::find(machine, DeviceType::Console).map(|found| found.and_then(open));
    let Some(mut console) = console() else { return };
    match opened {
        Some(Ok(device)) => console.go(Way::Virtio(device)),
        Some(Err(fault)) => {
            console.go(Way::Serial);
            console.note(format_args!("warning: the virtio console can't be used: {fault}"));
        }
        None => {
            console.go(Way::Serial);
            if machine.options.console == ConsoleKind::Virtio {
                console.note(format_args!("warning: console=virtio, but there is no virtio console"));
            }
        }
    }
}

/// Starts the device. It will not interrupt.
fn open(Found { transport, place }: Found) -> Result<Box<Device>, DeviceFault> {
    devices::silence(place);
    let device = VirtioConsole::new(transport).map_err(|_| DeviceFault::Refused)?;
    if device.has_emergency_register() {
        // SAFETY: the console at this place has the register.
        let register = unsafe { devices::emergency_register(place) };
        register.map(|register| EMERGENCY.call_once(|| register));
    }
    Ok(Box::new(device))
}

/// Writes text of the program.
pub(super) fn write(text: &[u8]) {
    match console() {
        Some(mut console) => console.write(text),
        None => around(|lines, put| lines.program(text, put)),
    }
}

/// Writes a line of the platform, labelled or not: an error or a warning.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    match console() {
        Some(mut console) => console.note(text),
        None => around(|lines, put| lines.platform(text, put)),
    }
}

/// Writes a line of the platform if lines are labelled.
pub(super) fn note(text: fmt::Arguments<'_>) {
    match console() {
        Some(mut console) if console.lines.label.is_some() => console.note(text),
        Some(_) => {}
        None => around(|lines, put| {
            if lines.label.is_some() {
                lines.platform(text, put);
            }
        }),
    }
}

/// Waits until all is out. Emulators lose what is still in a port when they end.
pub(super) fn drain() {
    match console() {
        Some(mut console) => console.drain(),
        // SAFETY: the port is this module's, and waiting until it is empty writes nothing.
        None if EMERGENCY.get().is_none() => unsafe { Serial::in_use() }.drain(),
        None => {}
    }
}
