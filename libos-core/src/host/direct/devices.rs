//! Devices of a machine: finding them, and connecting their interrupts.
//!
//! On PCI a virtio device interrupts by messages (MSI-X) or, without these, by a pin. In a window of memory
//! it always interrupts by a pin. A device holds its pin until it is told to let go. So the handler masks the
//! pin, and the driver acknowledges the interrupt at the device before it unmasks the pin.

use super::machine::{self, Machine};
use super::virtio::console::{EMERGENCY_OFFSET, EmergencyRegister};
use crate::cpu::lock::Masked;
use crate::cpu::timer;
use crate::platform::{self, DeviceFault, DiskError};
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;
use hyperexo_hw::ioapic::{Pin, Signal};
use hyperexo_hw::linear;
use hyperexo_hw::pci::{self, Function, Msix, OutOfReach, PortAccess, VirtioStructure};
use hyperexo_hw::time::ticks;
use hyperexo_hw::virtio::LinearHal;
use hyperexo_hw::virtio::mmio::Window;
use spin::Once;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::{DeviceType, SomeTransport};

/// Where a device is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A function on PCI.
    Pci(DeviceFunction),
    /// Registers in memory.
    Memory(Window),
}

impl Place {
    /// The function, if it is one.
    fn function(&self) -> Option<DeviceFunction> {
        match self {
            Place::Pci(function) => Some(*function),
            Place::Memory(_) => None,
        }
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Place::Pci(function) => function.fmt(f),
            Place::Memory(window) => write!(f, "{:#x}", window.address),
        }
    }
}

/// A device found, not yet started.
pub(super) struct Found {
    /// The way to its registers.
    pub transport: SomeTransport<'static>,
    /// Where it is.
    pub place: Place,
}

/// A device of the kind that is looked for. Nobody has its registers yet.
enum Candidate {
    Pci(Function),
    Memory(Window),
}

impl Candidate {
    fn place(&self) -> Place {
        match self {
            Candidate::Pci(function) => Place::Pci(function.place),
            Candidate::Memory(window) => Place::Memory(*window),
        }
    }

    /// The way to its registers, which resets it.
    fn open(&self) -> Result<Found, DeviceFault> {
        let transport = match self {
            Candidate::Pci(function) => open_function(function)?,
            Candidate::Memory(window) => open_window(window)?,
        };
        Ok(Found { transport, place: self.place() })
    }
}

/// The first device of a kind, on PCI or else in a window. `None` if there is none.
pub(super) fn find(machine: &Machine, kind: DeviceType) -> Option<Result<Found, DeviceFault>> {
    candidates(machine, kind).0.first().map(Candidate::open)
}

/// The virtio disk that is meant.
///
/// # Errors
///
/// [`DiskError::NoDisk`] if there are no virtio disks, [`DiskError::NotChosen`] if it is not clear which of
/// them is meant, [`DiskError::Unusable`].
pub(super) fn find_disk(machine: &Machine) -> Result<Found, DiskError> {
    let (disks, others) = candidates(machine, DeviceType::Block);
    let wanted = machine.options.disk;
    let places: Vec<Place> = disks.iter().map(Candidate::place).collect();
    let Some(chosen) = wanted.among(&places.iter().map(Place::function).collect::<Vec<_>>()) else {
        /// Said the first time, and true ever after: nobody plugs devices in.
        static WHY: Once<String> = Once::new();
        let why = WHY.call_once(|| wanted.why_none(&places, &others));
        return Err(if disks.is_empty() { DiskError::NoDisk { why } } else { DiskError::NotChosen { why } });
    };
    disks[chosen].open().map_err(DiskError::Unusable)
}

/// Held while configuration space is in use, which is reached by a pair of ports.
static CONFIGURATION: Masked<()> = Masked::new(());

fn root() -> PciRoot<PortAccess> {
    // SAFETY: privilege level 0. Only this module uses configuration space, with `CONFIGURATION` locked.
    PciRoot::new(unsafe { PortAccess::new() })
}

/// Functions on PCI that lead to disks, but not by virtio-blk.
type Others = Vec<(&'static str, DeviceFunction)>;

/// The devices of a kind, those on PCI first. What a window holds that is not mapped can't be seen: such a
/// one counts if there is nothing else.
fn candidates(machine: &Machine, kind: DeviceType) -> (Vec<Candidate>, Others) {
    let functions = {
        let _exclusive = CONFIGURATION.lock();
        pci::functions(&mut root(), &platform::facts().devices)
    };
    let others = functions.iter().filter_map(|one| Some((one.other_storage()?, one.place))).collect();
    let on_pci = functions.into_iter().filter(|function| function.is_virtio(kind)).map(Candidate::Pci);
    let windows = machine.devices.windows();
    let (mapped, unseen): (Vec<Window>, Vec<Window>) =
        windows.iter().partition(|window| reaches(window.address, window.bytes));
    let in_windows = mapped.into_iter().filter(|window| holds(window, kind)).map(Candidate::Memory);
    let mut found: Vec<Candidate> = on_pci.chain(in_windows).collect();
    if found.is_empty() {
        found.extend(unseen.first().copied().map(Candidate::Memory));
    }
    (found, others)
}

fn open_function(function: &Function) -> Result<SomeTransport<'static>, DeviceFault> {
    let _exclusive = CONFIGURATION.lock();
    let mut root = root();
    function.enable(&mut root, &platform::facts().devices).map_err(|OutOfReach| DeviceFault::OutOfReach)?;
    let transport = PciTransport::new::<LinearHal, _>(&mut root, function.place);
    transport.map(SomeTransport::from).map_err(|_| DeviceFault::Transport)
}

/// Whether registers are mapped.
fn reaches(address: u64, bytes: u64) -> bool {
    linear::lies_in(address, bytes, &platform::facts().devices)
}

/// Whether a window, which is mapped, holds a device of this kind.
fn holds(window: &Window, kind: DeviceType) -> bool {
    /// Offset of the register with the kind of device (virtio 1.1 §4.2.2). It is 0 without a device.
    const DEVICE_ID: u64 = 8;
    // Dropping a transport resets its device, which may be in use. So only the device that is wanted gets
    // one. SAFETY: the registers are mapped, and reading this one has no effect.
    let found = unsafe { linear::pointer::<u32>(window.address + DEVICE_ID).read_volatile() };
    found == kind as u32
}

/// The device in a window.
fn open_window(window: &Window) -> Result<SomeTransport<'static>, DeviceFault> {
    if !reaches(window.address, window.bytes) {
        return Err(DeviceFault::OutOfReach);
    }
    let header = NonNull::new(linear::pointer(window.address)).ok_or(DeviceFault::OutOfReach)?;
    // SAFETY: the registers are where the firmware or the operator says, mapped for good. The window has a
    // device, as its register says.
    let transport = unsafe { MmioTransport::new(header, window.bytes as usize) };
    transport.map(SomeTransport::from).map_err(|_| DeviceFault::Transport)
}

/// Keeps a device that needs no interrupts from using its pin. In a window of memory the pin is its own, and
/// nobody routes it.
pub(super) fn silence(place: Place) {
    if let Place::Pci(function) = place {
        let _exclusive = CONFIGURATION.lock();
        let mut root = root();
        let (_, command) = root.get_status_command(function);
        root.set_command(function, command | Command::INTERRUPT_DISABLE);
    }
}

/// The interrupt line that the firmware gave to a function's pin (PCI local bus 3.0 §6.2.4), on an I/O APIC
/// of the same numbering; `None` if it has no pin or no line. `CONFIGURATION` is locked.
fn interrupt_line(function: DeviceFunction) -> Option<u32> {
    const LINE_AND_PIN: u8 = 0x3c;
    /// "Unknown", and beyond what a line of this kind can be.
    const UNKNOWN: u32 = 0xff;
    // SAFETY: privilege level 0, and the caller alone uses configuration space.
    let word = unsafe { PortAccess::new() }.read_word(function, LINE_AND_PIN);
    let (line, pin) = (word & 0xff, word >> 8 & 0xff);
    (pin != 0 && line != UNKNOWN).then_some(line)
}

/// A console's register for emergencies, if it is in reach.
///
/// # Safety
///
/// There is a console that has it.
pub(super) unsafe fn emergency_register(place: Place) -> Option<EmergencyRegister> {
    /// Where the configuration of the kind of device begins in a window (virtio 1.1 §4.2.2).
    const WINDOW_CONFIGURATION: u64 = 0x100;
    let configuration = match place {
        Place::Memory(window) => window.address + WINDOW_CONFIGURATION,
        Place::Pci(function) => {
            let _exclusive = CONFIGURATION.lock();
            pci::virtio_structure(&mut root(), function, VirtioStructure::Device)?
        }
    };
    let address = configuration + EMERGENCY_OFFSET;
    // SAFETY: it is that register (caller), and mapped for good.
    reaches(address, 4).then(|| unsafe { EmergencyRegister::new(address) })
}

/// How a device interrupts.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// By messages. There is nothing to acknowledge.
    Messages,
    /// By a pin.
    Pin {
        /// The pin of an I/O APIC.
        pin: Pin,
        /// Whether it is surely the device's. A function's line on PCI is what its firmware wrote down, and
        /// not all get it right: qboot on q35 names the line of another slot. What is routed how is said in
        /// AML only. So who waits for such a device looks again by itself after a while.
        sure: bool,
    },
}

/// After so many microseconds, who waits for a device whose pin is not sure looks again.
const UNSURE_PIN_US: u64 = 1000;

impl Interrupt {
    /// Has the queues of a started device interrupt the first core with `vector`.
    ///
    /// # Errors
    ///
    /// [`DeviceFault::NoInterrupt`].
    pub fn connect(
        machine: &Machine,
        place: Place,
        queues: u16,
        vector: u8,
    ) -> Result<Interrupt, DeviceFault> {
        let target = machine.processors.apic_id(0).unwrap_or_default();
        let (line, sure) = match place {
            Place::Pci(function) => {
                let _exclusive = CONFIGURATION.lock();
                let mut root = root();
                // SAFETY: the firmware assigned the BARs, `find` saw that they are mapped, and nobody else
                // uses the table.
                let routed = unsafe {
                    Msix::enable(&mut root, function).is_ok_and(|mut table| {
                        (0..queues).all(|queue| {
                            table.route(queue, target, vector)
                                && pci::route_virtio_queue(&mut root, function, queue, queue)
                        })
                    })
                };
                if routed {
                    return Ok(Interrupt::Messages);
                }
                (interrupt_line(function).ok_or(DeviceFault::NoInterrupt)?, false)
            }
            Place::Memory(window) => (window.line, true),
        };
        // SAFETY: the chips are where the firmware says, in the fourth GiB, which is mapped. The line is this
        // device's.
        let pin = unsafe { Pin::route(machine.devices.io_apics(), line, Signal::High, vector, target) };
        pin.map(|pin| Interrupt::Pin { pin, sure }).ok_or(DeviceFault::NoInterrupt)
    }

    /// The pin, if it is one.
    pub fn pin(&self) -> Option<Pin> {
        match self {
            Interrupt::Messages => None,
            Interrupt::Pin { pin, .. } => Some(*pin),
        }
    }

    /// Sets the calling core's timer for who is about to wait for the device, if no interrupt may come.
    pub fn look_again(&self) {
        if let Interrupt::Pin { sure: false, .. } = self {
            timer::wake_by(ticks().saturating_add(machine::machine().clock.ticks_of_us(UNSURE_PIN_US)));
        }
    }
}
