//! A device that asks for the end: the volume commits before the next operation, and not without being asked.

use core::task::Waker;
use libos_fs::cache::SharedCache;
use libos_fs::device::fault::{BitFlipper, DelayedDevice, FailingDevice};
use libos_fs::shared::Threads;
use libos_fs::{
    BlockDevice, CacheOptions, Completion, DeviceError, EndRequest, FsError, RamDisk, Rejected, Request,
    SharedVolume, Volume, extent_fs,
};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Asks when it is told to, and keeps what it hears.
#[derive(Default)]
struct Button {
    pressed: AtomicBool,
    has_something: AtomicBool,
    heard: Mutex<Vec<Option<String>>>,
}

impl Button {
    fn press(&self) {
        self.pressed.store(true, Relaxed);
    }

    fn has_something(&self) -> bool {
        self.has_something.load(Relaxed)
    }

    fn heard(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl EndRequest for Button {
    fn is_there(&self) -> bool {
        self.pressed.load(Relaxed)
    }

    fn has_something(&self, there_is: bool) {
        self.has_something.store(there_is, Relaxed);
    }

    fn end(&self, failure: Option<&dyn Display>) {
        self.pressed.store(false, Relaxed);
        self.heard.lock().unwrap().push(failure.map(|failure| failure.to_string()));
    }
}

/// A disk with a button.
struct WithButton(RamDisk, Arc<Button>);

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
    fn end_request(&self) -> Option<Arc<dyn EndRequest>> {
        Some(Arc::clone(&self.1) as Arc<dyn EndRequest>)
    }
}

fn mounted() -> (RamDisk, Arc<Button>, Volume) {
    let (disk, button) = (RamDisk::new(200), Arc::new(Button::default()));
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let device = WithButton(disk.clone(), Arc::clone(&button));
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
        button.press();
        operation(&volume).unwrap();
        assert_eq!(button.heard(), [None]);
        assert_eq!(on_disk(&disk, "/f").unwrap(), b"text");
        assert!(matches!(on_disk(&disk, "/g"), Err(FsError::NotFound(_))), "the operation itself came later");
    }
}

#[test]
fn an_open_file_looks_too() {
    let (disk, button, volume) = mounted();
    let file = volume.create("/f").unwrap();
    file.write_at(0, b"before").unwrap();
    button.press();
    file.write_at(0, b"behind").unwrap();
    assert_eq!(button.heard(), [None]);
    assert_eq!(on_disk(&disk, "/f").unwrap(), b"before");
}

#[test]
fn who_could_not_commit_says_why() {
    let (disk, button) = (RamDisk::new(200), Arc::new(Button::default()));
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let (device, failures) = FailingDevice::new(WithButton(disk.clone(), Arc::clone(&button)));
    let volume = Volume::mount(Box::new(device), CacheOptions::default()).unwrap();
    volume.create("/f").unwrap().write_at(0, b"text").unwrap();
    (0..200).for_each(|block| failures.fail_writes_of(block, DeviceError::Io));
    button.press();
    let _ = volume.list("/");
    let heard = button.heard();
    assert!(matches!(&heard[..], [Some(why)] if why.contains("I/O error")), "{heard:?}");
    assert!(on_disk(&disk, "/f").is_err());
}

#[test]
fn devices_in_front_of_others_pass_the_question_on() {
    let button = Arc::new(Button::default());
    let with_button = || WithButton(RamDisk::new(8), Arc::clone(&button));
    assert!(DelayedDevice::new(with_button(), 4, 1).0.end_request().is_some());
    assert!(FailingDevice::new(with_button()).0.end_request().is_some());
    assert!(BitFlipper::new(with_button(), []).end_request().is_some());
    assert!((Box::new(with_button()) as Box<dyn BlockDevice>).end_request().is_some());
    assert!(RamDisk::new(8).end_request().is_none());
}

#[test]
fn only_what_was_changed_since_the_last_commit_keeps_the_end_waiting() {
    let (_, button, volume) = mounted();
    volume.list("/").unwrap();
    assert!(!button.has_something(), "who only reads has nothing to save");
    let file = volume.create("/f").unwrap();
    assert!(button.has_something());
    volume.commit().unwrap();
    assert!(!button.has_something());
    file.read_at(0, &mut [0; 4]).unwrap();
    assert!(!button.has_something());
    for change in [|file: &libos_fs::File| file.write_at(0, b"x"), |file: &libos_fs::File| file.truncate(0)] {
        change(&file).unwrap();
        assert!(button.has_something());
        file.sync().unwrap();
        assert!(!button.has_something());
    }
}

#[test]
fn volumes_of_several_cores_look_too() {
    let (disk, button) = (RamDisk::new(200), Arc::new(Button::default()));
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let device = WithButton(disk.clone(), Arc::clone(&button));
    let volume = SharedVolume::mount(device, SharedCache::sieve(32, 1), Threads).unwrap();
    assert!(!button.has_something());
    let file = volume.create("/f").unwrap();
    file.write_at(0, b"text").unwrap();
    assert!(button.has_something());
    button.press();
    file.read_at(0, &mut [0; 4]).unwrap();
    assert_eq!((button.heard(), button.has_something()), (vec![None], false));
    assert_eq!(on_disk(&disk, "/f").unwrap(), b"text");
    file.write_at(0, b"more").unwrap();
    volume.commit().unwrap();
    assert!(!button.has_something());
}
