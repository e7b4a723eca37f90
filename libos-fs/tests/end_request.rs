//! A device that asks for the end: the volume commits before the next operation, and not without being asked.

use core::task::Waker;
use libos_fs::device::fault::{BitFlipper, DelayedDevice, FailingDevice};
use libos_fs::{
    BlockDevice, CacheOptions, Completion, DeviceError, EndRequest, FsError, RamDisk, Rejected, Request,
    Volume, extent_fs,
};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;

/// Asks when it is told to, and keeps what it hears.
#[derive(Default)]
struct Button {
    pressed: Cell<bool>,
    heard: RefCell<Vec<Option<String>>>,
}

impl EndRequest for Button {
    fn is_there(&self) -> bool {
        self.pressed.get()
    }

    fn end(&self, failure: Option<&dyn Display>) {
        self.pressed.set(false);
        self.heard.borrow_mut().push(failure.map(|failure| failure.to_string()));
    }
}

/// A disk with a button.
struct WithButton(RamDisk, Rc<Button>);

impl BlockDevice for WithButton {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }
    fn max_request_blocks(&self) -> usize {
        self.0.max_request_blocks()
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.0.submit(request)
    }
    fn poll(&mut self) -> Option<Completion> {
        self.0.poll()
    }
    fn wait(&mut self) {
        self.0.wait();
    }
    fn ready(&mut self, waker: &Waker) -> bool {
        self.0.ready(waker)
    }
    fn end_request(&self) -> Option<Rc<dyn EndRequest>> {
        Some(Rc::clone(&self.1) as Rc<dyn EndRequest>)
    }
}

fn mounted() -> (RamDisk, Rc<Button>, Volume) {
    let (disk, button) = (RamDisk::new(200), Rc::new(Button::default()));
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let device = WithButton(disk.clone(), Rc::clone(&button));
    let volume = Volume::mount(Box::new(device), CacheOptions { blocks: 32, ..CacheOptions::default() });
    (disk, button, volume.unwrap())
}

/// What is on the disk, whoever has it mounted.
fn on_disk(disk: &RamDisk, path: &str) -> Result<Vec<u8>, FsError> {
    let copy = RamDisk::from_bytes(disk.to_bytes());
    let file = Volume::mount(Box::new(copy), CacheOptions::default())?.open(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn what_was_written_is_there_after_the_next_operation() {
    type Operation = fn(&Volume) -> Result<(), FsError>;
    let operations: [Operation; 5] = [
        |volume| volume.open("/f").map(drop),
        |volume| volume.list("/").map(drop),
        |volume| volume.create("/g").map(drop),
        |volume| volume.open("/f")?.read_at(0, &mut [0; 4]).map(drop),
        |volume| volume.commit(),
    ];
    for operation in operations {
        let (disk, button, volume) = mounted();
        let file = volume.create("/f").unwrap();
        file.write_at(0, b"text").unwrap();
        assert_eq!(on_disk(&disk, "/f"), Err(FsError::NotFound("/f".into())), "nothing was committed");
        button.pressed.set(true);
        operation(&volume).unwrap();
        assert_eq!(button.heard.take(), [None]);
        assert_eq!(on_disk(&disk, "/f").unwrap(), b"text");
        assert!(matches!(on_disk(&disk, "/g"), Err(FsError::NotFound(_))), "the operation itself came later");
    }
}

#[test]
fn an_open_file_looks_too() {
    let (disk, button, volume) = mounted();
    let file = volume.create("/f").unwrap();
    file.write_at(0, b"before").unwrap();
    button.pressed.set(true);
    file.write_at(0, b"behind").unwrap();
    assert_eq!(button.heard.take(), [None]);
    assert_eq!(on_disk(&disk, "/f").unwrap(), b"before");
}

#[test]
fn who_could_not_commit_says_why() {
    let (disk, button) = (RamDisk::new(200), Rc::new(Button::default()));
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let (device, failures) = FailingDevice::new(WithButton(disk.clone(), Rc::clone(&button)));
    let volume = Volume::mount(Box::new(device), CacheOptions::default()).unwrap();
    volume.create("/f").unwrap().write_at(0, b"text").unwrap();
    (0..200).for_each(|block| failures.fail_writes_of(block, DeviceError::Io));
    button.pressed.set(true);
    let _ = volume.list("/");
    let heard = button.heard.take();
    assert!(matches!(&heard[..], [Some(why)] if why.contains("I/O error")), "{heard:?}");
    assert!(on_disk(&disk, "/f").is_err());
}

#[test]
fn devices_in_front_of_others_pass_the_question_on() {
    let button = Rc::new(Button::default());
    let with_button = || WithButton(RamDisk::new(8), Rc::clone(&button));
    assert!(DelayedDevice::new(with_button(), 4, 1).0.end_request().is_some());
    assert!(FailingDevice::new(with_button()).0.end_request().is_some());
    assert!(BitFlipper::new(with_button(), []).end_request().is_some());
    assert!((Box::new(with_button()) as Box<dyn BlockDevice>).end_request().is_some());
    assert!(RamDisk::new(8).end_request().is_none());
}
