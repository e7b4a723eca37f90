//! The network of a machine: virtio-net, straight from and to the application's pages.
//!
//! The device interrupts only while somebody sleeps. Nothing here waits for it. A caller that wants a limit
//! gives it to [`crate::net::Nic::wait`].

use super::devices::{self, Found, Interrupt};
use super::machine::{Machine, accounting, count};
use super::vector;
use crate::cpu::lock::Masked;
use crate::memory::{self, Lent};
use crate::platform::{DeviceFault, NetError, NetPort, Packet, Pages, Piece};
use alloc::boxed::Box;
use alloc::sync::Arc;
use hyperexo_abi::net::{MacAddress, PacketOutcome};
use hyperexo_abi::offload::{Offload, Offloads};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, Page};
use hyperexo_hw::ioapic::Pin;
use hyperexo_hw::virtio::net::{Features, MAX_PARTS, Part, QUEUE_ENTRIES, SLOTS, StartError, VirtioNet};
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
    let mut device = VirtioNet::new(transport, Features::OFFLOADS).map_err(|error| match error {
        StartError::ShortQueue { entries } => {
            NetError::Unusable(DeviceFault::ShortQueue { entries, needed: QUEUE_ENTRIES as u32 })
        }
        StartError::Driver(_) | StartError::NoAddress => NetError::Unusable(DeviceFault::Refused),
    })?;
    device.interrupt_on_receive(false);
    let interrupt = Interrupt::connect(machine, place, 2, vector::NET).map_err(NetError::Unusable)?;
    *PIN.lock() = interrupt.pin();
    let offloads = Offloads::from_features(device.features().bits());
    let (room, sending) = ((0..SLOTS).map(|_| None).collect(), (0..SLOTS).map(|_| None).collect());
    Ok(DevicePort { device: Some(device), offloads, interrupt, room, sending })
}

/// The device, open.
///
/// Invariant: the pages that the device may write are those in `room`, and those that it may read are in
/// `sending`, each in the slot that the driver named. Nobody else writes those in `sending`: the head of a
/// packet is its own, and pages of pieces are shared for reading only.
pub(super) struct DevicePort {
    /// There until the port is dropped.
    device: Option<VirtioNet<SomeTransport<'static>>>,
    offloads: Offloads,
    interrupt: Interrupt,
    /// Pages for packets that come.
    room: Box<[Option<Lent<[Page]>>]>,
    /// Packets on their way.
    sending: Box<[Option<Packet>]>,
}

/// Where `bytes` bytes of the heap lie: adjacent pages of it are adjacent frames.
fn part((pages, start): (&[Page], usize), bytes: usize) -> Option<Part> {
    let frame = memory::frame_of(pages.first()?)?;
    Some(Part { address: (frame << FRAME_SHIFT) + start as u64, bytes })
}

/// Where a packet lies; `None` if it is not all on the heap, or in more parts than the device takes.
fn parts(packet: &Packet) -> Option<([Part; MAX_PARTS], usize)> {
    let mut parts = [Part { address: 0, bytes: 0 }; MAX_PARTS];
    // The queue would refuse an empty packet, so the packet gets at least one byte.
    parts[0] = part(packet.place(), packet.len().max(1))?;
    for (at, piece) in packet.pieces().iter().enumerate() {
        *parts.get_mut(1 + at)? = part(piece.place(), piece.len())?;
    }
    Some((parts, 1 + packet.pieces().len()))
}

impl DevicePort {
    /// The further buffers of a packet; `None` if the device has not filled as many as it claims.
    fn receive_more(&mut self, packet: &mut Packet, more: usize) -> Option<()> {
        for _ in 0..more {
            let (slot, bytes) = self.device.as_mut()?.receive_more()?;
            // SAFETY: the device has given it back.
            let pages = unsafe { self.room[slot].take()?.back() };
            packet.push(Piece::new(Arc::new(pages), 0..bytes));
        }
        Some(())
    }
}

impl NetPort for DevicePort {
    fn address(&self) -> MacAddress {
        MacAddress(self.device.as_ref().map_or([0; 6], VirtioNet::address))
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn takes(&self, packet: &Packet) -> bool {
        packet.pieces().len() < MAX_PARTS
    }

    fn supply(&mut self, buffer: Pages) -> Result<(), Pages> {
        let Some((device, part)) = self.device.as_mut().zip(part((&buffer, 0), FRAME_BYTES)) else {
            return Err(buffer);
        };
        // SAFETY: the page is a frame of the heap, and is lent until the device gives it back (invariant).
        match unsafe { device.supply(part.address, part.bytes) } {
            Ok(slot) => {
                self.room[slot] = Some(Lent::new(buffer));
                Ok(())
            }
            Err(_) => Err(buffer),
        }
    }

    fn receive(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        let arrival = self.device.as_mut()?.receive()?;
        // SAFETY: the device has given it back.
        let pages = unsafe { self.room[arrival.slot].take()?.back() };
        let mut packet = Packet::at(pages, arrival.start, arrival.bytes);
        if self.receive_more(&mut packet, arrival.more).is_none() {
            return Some((packet, Err(PacketOutcome::BadLength)));
        }
        let (offload, bytes) = (Offload::from_bytes(arrival.words), packet.total_bytes());
        // What makes no sense is as good as nothing: the receiver checks then.
        if offload.fits(packet.len(), bytes) {
            packet.set_offload(offload);
        }
        let counters = accounting();
        count(&counters.net_packets_received, 1);
        count(&counters.net_bytes_received, bytes as u64);
        Some((packet, Ok(())))
    }

    fn transmit(&mut self, packet: Packet) -> Result<(), Packet> {
        let Some((device, (parts, count))) = self.device.as_mut().zip(parts(&packet)) else {
            return Err(packet);
        };
        // SAFETY: frames of the heap, which are kept, and not written, until the device is done (invariant).
        match unsafe { device.transmit(packet.offload().to_bytes(), &parts[..count]) } {
            Ok(slot) => {
                self.sending[slot] = Some(packet);
                Ok(())
            }
            Err(_) => Err(packet),
        }
    }

    fn reclaim(&mut self) -> Option<(Packet, Result<(), PacketOutcome>)> {
        let slot = self.device.as_mut()?.reclaim()?;
        let packet = self.sending[slot].take()?;
        let counters = accounting();
        count(&counters.net_packets_sent, 1);
        count(&counters.net_bytes_sent, packet.total_bytes() as u64);
        Some((packet, Ok(())))
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

    fn is_ready(&self, room: bool) -> bool {
        let Some(device) = &self.device else { return true };
        device.has_received() || room && device.has_sent()
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
        self.sending.fill_with(|| None);
        for lent in self.room.iter_mut().filter_map(Option::take) {
            // SAFETY: a device that has been reset uses no buffers (virtio 1.1 §2.1.2).
            drop(unsafe { lent.back() });
        }
    }
}
