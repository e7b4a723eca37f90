//! The driver against a device made of the queue's memory.

extern crate std;

use super::*;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;
use std::{cell::RefCell, string::String};
use virtio_drivers::PhysAddr;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the device has seen.
#[derive(Default)]
struct Seen {
    /// Each request's bytes.
    requests: Vec<Vec<u8>>,
    /// Whether it takes requests when it is told of them.
    takes: bool,
    /// Addresses of the transmit queue: descriptors, what the driver writes, what the device writes.
    queue: [PhysAddr; 3],
    reset: bool,
}

/// A device that is told of requests by calls.
struct Device(Rc<RefCell<Seen>>);

impl Drop for Device {
    fn drop(&mut self) {
        self.0.borrow_mut().reset = true;
    }
}

/// A number in the queue's memory.
fn at<T: Copy>(address: PhysAddr, offset: u64) -> *mut T {
    (address + offset) as *mut T
}

impl Seen {
    /// Takes all requests: reads what they name, and returns them.
    fn take(&mut self) {
        let [descriptors, driver, device] = self.queue;
        // SAFETY: the queue's memory, as virtio 1.1 §2.6 lays it out; the driver is not running.
        unsafe {
            loop {
                let (wanted, done) =
                    (at::<u16>(driver, 2).read_volatile(), at::<u16>(device, 2).read_volatile());
                if wanted == done {
                    return;
                }
                let slot = u64::from(done) % SLOTS as u64;
                let head = at::<u16>(driver, 4 + 2 * slot).read();
                let descriptor = u64::from(head) * 16;
                let address = at::<u64>(descriptors, descriptor).read();
                let bytes = at::<u32>(descriptors, descriptor + 8).read();
                assert_eq!(at::<u16>(descriptors, descriptor + 12).read(), 0, "one piece, to be read");
                let text = core::slice::from_raw_parts(address as *const u8, bytes as usize);
                self.requests.push(text.to_vec());
                at::<u32>(device, 4 + 8 * slot).write(head.into());
                at::<u32>(device, 8 + 8 * slot).write(0);
                at::<u16>(device, 2).write_volatile(done.wrapping_add(1));
            }
        }
    }
}

impl Transport for Device {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }
    fn read_device_features(&mut self) -> u64 {
        1 << 32 | 1 << 1
    }
    fn write_driver_features(&mut self, features: u64) {
        assert_eq!(features, 1 << 32);
    }
    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        64
    }
    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, TRANSMIT_QUEUE);
        let mut seen = self.0.borrow_mut();
        if seen.takes {
            seen.take();
        }
    }
    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }
    fn set_status(&mut self, _status: DeviceStatus) {}
    fn set_guest_page_size(&mut self, _bytes: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(
        &mut self,
        queue: u16,
        _size: u32,
        descriptors: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        if queue == TRANSMIT_QUEUE {
            self.0.borrow_mut().queue = [descriptors, driver, device];
        }
    }
    fn queue_unset(&mut self, _queue: u16) {}
    fn queue_used(&mut self, _queue: u16) -> bool {
        false
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, _offset: usize) -> Result<T> {
        Err(Error::ConfigSpaceMissing)
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _offset: usize, _value: T) -> Result<()> {
        Err(Error::ConfigSpaceMissing)
    }
}

fn console(takes: bool) -> (VirtioConsole<Device>, Rc<RefCell<Seen>>) {
    let seen = Rc::new(RefCell::new(Seen { takes, ..Seen::default() }));
    (VirtioConsole::new(Device(seen.clone())).unwrap(), seen)
}

/// Patience for so many looks.
fn patience(mut looks: usize) -> impl FnMut() -> bool {
    move || {
        looks = looks.saturating_sub(1);
        looks == 0
    }
}

/// Text of `bytes` bytes that is like no other part of itself.
fn long_text(bytes: usize) -> String {
    let mut text: String = (0..).take(bytes / 4).map(|number: u32| std::format!("{number:04x}")).collect();
    text.truncate(bytes);
    text
}

#[test]
fn what_is_put_before_a_send_is_one_request() {
    let (mut console, seen) = console(true);
    for line in ["first", "second"] {
        for piece in ["hello", "| ", line, "\n"] {
            assert_eq!(console.put(piece.as_bytes(), patience(1)), piece.len());
        }
        console.send();
        console.send();
    }
    assert!(console.drain(patience(1)));
    assert_eq!(seen.borrow().requests, [b"hello| first\n".to_vec(), b"hello| second\n".to_vec()]);
}

#[test]
fn long_text_takes_as_few_requests_as_can_be() {
    let (mut console, seen) = console(true);
    let text = long_text(10 * BUFFER_BYTES + 100);
    assert_eq!(console.put(text.as_bytes(), patience(1)), text.len());
    assert!(console.drain(patience(1)));
    let seen = seen.borrow();
    assert_eq!(seen.requests.len(), 11);
    assert_eq!(seen.requests.concat(), text.as_bytes());
}

#[test]
fn a_device_that_takes_nothing_is_waited_for_no_longer_than_one_wants() {
    let (mut console, seen) = console(false);
    let text = long_text(BUFFER_BYTES);
    let mut looks = 0;
    let mut taken = 0;
    for _ in 0..SLOTS + 3 {
        taken += console.put(text.as_bytes(), || {
            looks += 1;
            looks % 10 == 0
        });
    }
    // Three found no buffer, and waited for ten looks each.
    assert_eq!((taken, looks), (SLOTS * BUFFER_BYTES, 30));
    assert!(!console.has_room() && !console.drain(patience(5)));
    let mut shown = vec![];
    console.unreturned(|bytes| shown.extend_from_slice(bytes));
    assert_eq!(shown, text.as_bytes().repeat(SLOTS));

    // It comes to its senses: what it was given is not lost, and what comes goes on.
    seen.borrow_mut().takes = true;
    seen.borrow_mut().take();
    assert!(console.has_room());
    assert_eq!(console.put(b"more\n", patience(1)), 5);
    assert!(console.drain(patience(1)));
    let requests = seen.borrow().requests.concat();
    assert_eq!(requests, [&text.as_bytes().repeat(SLOTS)[..], b"more\n"].concat());
}

#[test]
fn a_machine_that_stood_still_is_no_device_that_takes_nothing() {
    let (mut console, seen) = console(false);
    let text = long_text(BUFFER_BYTES);
    for _ in 0..SLOTS {
        console.put(text.as_bytes(), patience(1));
    }
    // The time is over at the first look, and in that time the device has taken all.
    assert_eq!(
        console.put(b"x", || {
            seen.borrow_mut().take();
            true
        }),
        1
    );
}

#[test]
fn many_lines_wrap_around_the_queue() {
    let (mut console, seen) = console(true);
    let lines: Vec<String> = (0..70_000).map(|number| std::format!("{number}\n")).collect();
    for line in &lines {
        assert_eq!(console.put(line.as_bytes(), patience(1)), line.len());
        console.send();
    }
    let seen = seen.borrow();
    assert!(seen.requests.iter().eq(lines.iter().map(|line| line.as_bytes())));
}

#[test]
fn the_device_is_reset_before_its_memory_goes() {
    let (mut console, seen) = console(false);
    console.put(b"text", patience(1));
    console.send();
    drop(console);
    assert!(seen.borrow().reset);
}
