//! The network of a machine: virtio-net, straight from and to the application's pages.
//!
//! The device interrupts only while somebody sleeps. Nothing here waits for it. A caller that wants a limit
//! gives it to [`crate::net::Nic::wait`].

use super::devices::{self, Found, Interrupt};
use super::machine::{Machine, accounting, count};
use super::vector;
use crate::cpu::lock::Masked;
use crate::memory::{self, Lent};
use crate::platform::{DeviceFault, NetError, NetPort};
use alloc::boxed::Box;
use hyperexo_abi::net::{MacAddress, PacketOutcome};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, Page};
use hyperexo_hw::ioapic::Pin;
use hyperexo_hw::virtio::net::{QUEUE_ENTRIES, SLOTS, StartError, VirtioNet};
use virtio_drivers::transport::{DeviceType, SomeTransport};

/// The pin of the open device, if it has one. The handler masks it.
static PIN: Masked<Option<Pin>> = Masked::new(None);

/// The handler of the device's interrupt.
pub(super) fn interrupted() {
    if let Some(pin) = &*PIN.lock() {
        pin.set_masked(true);
    }
}

/// Finds and starts the device.
pub(super) fn open(machine: &'static Machine) -> Result<DevicePort, NetError> {
    let Found { transport, place } = devices::find(machine, DeviceType::Network)
        .ok_or(NetError::NoNetwork)?
        .map_err(NetError::Unusable)?;
    let mut device = VirtioNet::new(transport).map_err(|error| match error {
        StartError::ShortQueue { entries } => {
            NetError::Unusable(DeviceFault::ShortQueue { entries, needed: QUEUE_ENTRIES as u32 })
        }
        StartError::Driver(_) | StartError::NoAddress => NetError::Unusable(DeviceFault::Refused),
    })?;
    device.interrupt_on_receive(false);
    let interrupt = Interrupt::connect(machine, place, 2, vector::NET).map_err(NetError::Unusable)?;
    *PIN.lock() = interrupt.pin();
    let (room, sending) = ((0..SLOTS).map(|_| None).collect(), (0..SLOTS).map(|_| None).collect());
    Ok(DevicePort { device: Some(device), interrupt, room, sending })
}

/// The device, open.
///
/// Invariant: the pages that the device may use are those in `room` and `sending`, each in the slot that the
/// driver named.
pub(super) struct DevicePort {
    /// There until the port is dropped.
    device: Option<VirtioNet<SomeTransport<'static>>>,
    interrupt: Interrupt,
    /// Pages for packets that come.
    room: Box<[Option<Lent>]>,
    /// Pages of packets on their way, with the packets' lengths.
    sending: Box<[Option<(Lent, usize)>]>,
}

impl NetPort for DevicePort {
    fn address(&self) -> MacAddress {
        MacAddress(self.device.as_ref().map_or([0; 6], VirtioNet::address))
    }

    fn supply(&mut self, buffer: Box<Page>) -> Result<(), Box<Page>> {
        let Some((device, frame)) = self.device.as_mut().zip(memory::frame_of(&buffer)) else {
            return Err(buffer);
        };
        // SAFETY: the page is a frame of the heap, and is lent until the device gives it back (invariant).
        match unsafe { device.supply(frame << FRAME_SHIFT, FRAME_BYTES) } {
            Ok(slot) => {
                self.room[slot] = Some(Lent::new(buffer));
                Ok(())
            }
            Err(_) => Err(buffer),
        }
    }

    fn receive(&mut self) -> Option<(Box<Page>, Result<usize, PacketOutcome>)> {
        let (slot, bytes) = self.device.as_mut()?.receive()?;
        // SAFETY: the device has given it back.
        let page = unsafe { self.room[slot].take()?.back() };
        let counters = accounting();
        count(&counters.net_packets_received, 1);
        count(&counters.net_bytes_received, bytes as u64);
        Some((page, Ok(bytes)))
    }

    fn transmit(&mut self, buffer: Box<Page>, bytes: usize) -> Result<(), Box<Page>> {
        let Some((device, frame)) = self.device.as_mut().zip(memory::frame_of(&buffer)) else {
            return Err(buffer);
        };
        // The queue would refuse an empty packet, so the packet gets at least one byte. SAFETY: as in
        // `supply`.
        match unsafe { device.transmit(frame << FRAME_SHIFT, bytes.clamp(1, FRAME_BYTES)) } {
            Ok(slot) => {
                self.sending[slot] = Some((Lent::new(buffer), bytes));
                Ok(())
            }
            Err(_) => Err(buffer),
        }
    }

    fn reclaim(&mut self) -> Option<(Box<Page>, Result<(), PacketOutcome>)> {
        let slot = self.device.as_mut()?.reclaim()?;
        let (lent, bytes) = self.sending[slot].take()?;
        let counters = accounting();
        count(&counters.net_packets_sent, 1);
        count(&counters.net_bytes_sent, bytes as u64);
        // SAFETY: the device has given it back.
        Some((unsafe { lent.back() }, Ok(())))
    }

    fn kick(&mut self) {
        if let Some(device) = &mut self.device {
            device.notify();
        }
    }

    fn ready_or_wake(&mut self, room: bool) -> bool {
        let Some(device) = &mut self.device else { return true };
        if let Some(pin) = self.interrupt.pin() {
            device.acknowledge_interrupt();
            pin.set_masked(false);
        }
        device.interrupt_on_receive(true);
        device.interrupt_on_reclaim(room);
        let ready = device.has_received() || room && device.has_sent();
        if ready {
            device.interrupt_on_receive(false);
            device.interrupt_on_reclaim(false);
        } else {
            self.interrupt.look_again();
        }
        ready
    }
}

/// Resets the device, so that it uses none of the pages any more, and takes them back.
impl Drop for DevicePort {
    fn drop(&mut self) {
        if let Some(pin) = PIN.lock().take() {
            pin.set_masked(true);
        }
        // Dropping the driver drops its transport, which resets the device.
        self.device = None;
        let sending = self.sending.iter_mut().filter_map(Option::take).map(|(lent, _)| lent);
        for lent in self.room.iter_mut().filter_map(Option::take).chain(sending) {
            // SAFETY: a device that has been reset uses no buffers (virtio 1.1 §2.1.2).
            drop(unsafe { lent.back() });
        }
    }
}
