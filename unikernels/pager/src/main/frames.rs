//! Tests of frames in windows: which frame, large pages, caching, pins, and frames of another environment.

use super::{expect, memory, page, swap};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;
use hyperexo_abi::LARGE_FRAMES;
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::Status;
use libos_core::frames::{Frames, SharedFrames};
use libos_core::net::{MacAddress, Nic, Packet};
use libos_core::window::{Caching, CachingError, FrameError, Protection, Taken, Window};
use libos_core::{Host, println, time};

fn text(error: impl core::fmt::Display) -> String {
    error.to_string()
}

fn taken(status: Status) -> String {
    format!("frames: {status}")
}

/// Particular frames, large pages, caching, pins.
pub fn frames() -> Result<(), String> {
    particular_frames()?;
    large_pages()?;
    caching()?;
    pinned()
}

/// This frame, this alignment, this colour.
fn particular_frames() -> Result<(), String> {
    let window = Window::new(16).map_err(text)?;
    let (pages, cells) = (window.pages(), window.cells::<u64>(0..16));
    let number = Frames::allocate(1, 1).map_err(taken)?.first();
    let one = SharedFrames::new(Frames::allocate_at(number, 1).map_err(taken)?);
    pages.insert_frame(0, &one, 0, Protection::Write).map_err(text)?;
    pages.insert_frame(7, &one, 0, Protection::Read).map_err(text)?;
    cells.set(3, 42);
    expect(cells.get(7 * 512 + 3) == 42 && pages.frame(7) == Some(number), "this frame, shown twice")?;
    expect(Frames::allocate_at(number, 1).err() == Some(Status::InUse), "it can't be had again")?;
    let refused = pages.insert_frame(0, &one, 0, Protection::Write);
    expect(refused == Err(FrameError::Taken { page: 0 }), "the place is taken")?;
    let refused = pages.insert_frame(1, &one, 1, Protection::Write);
    expect(refused == Err(FrameError::NoSuchFrame { number: 1, count: 1 }), "there is one only")?;
    expect(matches!(pages.remove(0), Some(Taken::Frames(_))) && pages.is_there(7), "each place by itself")?;
    drop((pages.remove(7), one));
    expect(Frames::allocate_at(number, 1).is_ok(), "the last one gives it back")?;
    expect(Frames::allocate(4, 16).is_ok_and(|run| run.first().is_multiple_of(16)), "this alignment")?;
    for colour in [0, 5, 15] {
        let found = Frames::allocate_coloured(colour, 16).map_err(taken)?.first();
        expect(found % 16 == colour, "this colour")?;
    }
    expect(Frames::allocate_coloured(3, 3).is_err(), "no such colour")
}

/// 512 frames behind one entry.
fn large_pages() -> Result<(), String> {
    let mut window = Window::new(2048).map_err(text)?;
    let (faults, allowing) = (Rc::new(Cell::new(0)), Rc::clone(window.pages()));
    let counting = Rc::clone(&faults);
    window.set_quick_handler(move |fault| {
        counting.set(counting.get() + 1);
        allowing.protect(fault.page, Protection::Write);
        true
    });
    let (pages, cells) = (window.pages(), window.cells::<u64>(0..2048));
    let large = SharedFrames::new(Frames::allocate(LARGE_FRAMES, LARGE_FRAMES).map_err(taken)?);
    // A small page used there before: the table must not be taken for the large page's.
    pages.insert(515, page(1), Protection::Write);
    expect(cells.get(515 * 512) == 0x0101_0101_0101_0101, "a small page")?;
    let refused = pages.insert_large(512, &large, 0, Protection::Write);
    expect(refused == Err(FrameError::Taken { page: 515 }), "a place is taken")?;
    drop(pages.remove(515));
    let frame = large.first();
    let refused = pages.insert_large(513, &large, 0, Protection::Write);
    expect(refused == Err(FrameError::Misaligned { page: 513, frame }), "a multiple of 512")?;
    pages.insert_large(512, &large, 0, Protection::Write).map_err(text)?;
    expect(!pages.used(600) && !pages.written(512), "fresh")?;
    (0..512).for_each(|page| cells.set((512 + page) * 512 + page % 512, page as u64));
    expect(
        (0..512).all(|page| cells.get((512 + page) * 512 + page % 512) == page as u64),
        "all of it is there",
    )?;
    expect(pages.frame(512 + 77) == Some(frame + 77), "frames in order")?;
    expect(pages.used(600) && pages.written(1023), "one bit for all")?;
    pages.insert(511, page(1), Protection::Write);
    cells.set(511 * 512, 1);
    let mut written = Vec::new();
    pages.take_written(500..600, |page| written.push(page));
    expect(written.into_iter().eq(511..600) && !pages.written(700), "bits of a range with a part of it")?;
    pages.protect_all(500..600, Protection::Read);
    [511, 700, 512, 1023].into_iter().for_each(|page| cells.set(page * 512 + 511, 1));
    expect(faults.get() == 2, "protection of a range with a part of it")?;
    drop(pages.remove(511));
    pages.insert_frame(20, &large, 77, Protection::Read).map_err(text)?;
    expect(cells.get(20 * 512 + 77) == 77, "a part of it as a small page")?;
    expect(pages.copy(512 + 77).is_some_and(|copy| copy.0[77 * 8] == 77), "a page of it can be copied")?;
    pages.protect_all(400..600, Protection::Read);
    expect(cells.get(600 * 512 + 88) == 88, "it may be read")?;
    pages.protect_all(512..513, Protection::Write);
    cells.set(600 * 512 + 88, 88);
    let mut written = alloc::vec::Vec::new();
    pages.take_written(0..2048, |page| written.push(page));
    expect(written.into_iter().eq(512..1024) && !pages.written(600), "written as a whole")?;
    expect(pages.remove(600).is_none(), "it goes as a whole")?;
    expect(matches!(pages.remove(512), Some(Taken::Frames(_))) && !pages.is_there(600), "by its first page")?;
    pages.insert(600, page(3), Protection::Write);
    expect(cells.get(600 * 512) == 0x0303_0303_0303_0303, "small pages come back")
}

/// Pages that the caches treat in other ways hold the same words.
fn caching() -> Result<(), String> {
    let window = Window::new(1024).map_err(text)?;
    let (pages, cells) = (window.pages(), window.cells::<u64>(0..1024));
    let large = SharedFrames::new(Frames::allocate(LARGE_FRAMES, LARGE_FRAMES).map_err(taken)?);
    pages.insert_large(512, &large, 0, Protection::Write).map_err(text)?;
    pages.insert(0, page(0), Protection::Write);
    let combining = match libos_core::host() {
        Host::Machine => Ok(()),
        Host::HyperExo { .. } => Err(CachingError::NotOffered),
    };
    for page in [0, 700] {
        for (number, caching) in
            [Caching::WriteThrough, Caching::Uncached, Caching::WriteBack].into_iter().enumerate()
        {
            let word = page as usize * 512 + 9;
            cells.set(word, number as u64);
            pages.set_caching(page, caching).map_err(text)?;
            expect(cells.get(word) == number as u64, "what was there is there")?;
            cells.set(word, 100);
            expect(cells.get(word) == 100, "words are words")?;
        }
        expect(
            pages.set_caching(page, Caching::WriteCombining) == combining,
            "write-combining where it is offered",
        )?;
        cells.set(page as usize * 512, 5);
        expect(cells.get(page as usize * 512) == 5, "and so they are then")?;
    }
    expect(pages.frame(700) == Some(large.first() + 188), "the frame is the same")?;
    expect(pages.set_caching(3, Caching::Uncached) == Err(CachingError::NotThere), "no page there")
}

/// Pages with names for a device.
fn pinned() -> Result<(), String> {
    let memory = memory(6)?;
    let region = memory.region(20, swap(20)?).map_err(text)?;
    let cells = region.cells::<u64>();
    let pinned = region.pin(2..4).map_err(text)?;
    let names: alloc::vec::Vec<u64> = pinned.frames().collect();
    (0..20).for_each(|page| cells.set(page * 512, page as u64));
    expect((0..20).all(|page| cells.get(page * 512) == page as u64), "all pages are right")?;
    expect(names.len() == 2 && pinned.frames().eq(names.iter().copied()), "pinned pages keep their frames")?;
    drop(pinned);
    (4..20).for_each(|page| cells.set(page * 512, 0));
    expect(!region.is_in_memory(2) && cells.get(2 * 512) == 2, "then they go, and come back")
}

/// Type of the frames that carry capabilities: for local experiments (IEEE 802).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// How often is asked whether the other has done its part.
const TURNS: usize = 2000;
/// Time between two looks.
const TURN: Duration = Duration::from_millis(2);

/// Lends two frames to another environment: one to be written, one to be read.
pub fn lend() -> Result<(), String> {
    let window = Window::new(2).map_err(text)?;
    let (pages, cells) = (window.pages(), window.cells::<u64>(0..2));
    let mut capabilities = alloc::vec::Vec::new();
    for number in 0..2 {
        let frames = SharedFrames::new(Frames::allocate(1, 1).map_err(taken)?);
        pages.insert_frame(number, &frames, 0, Protection::Write).map_err(text)?;
        cells.set(number as usize * 512, 40 + number);
        capabilities.push(frames.lend(number == 0).map_err(taken)?);
    }
    let mut nic = Nic::open().map_err(text)?;
    let mut bytes = [&MacAddress::BROADCAST.0[..], &nic.address().0, &ETHER_TYPE].concat();
    for word in capabilities.iter().flat_map(|capability| capability.0) {
        bytes.extend(word.to_le_bytes());
    }
    for _ in 0..TURNS {
        // The other may not be there yet, and packets can be lost.
        let _ = nic.transmit(Packet::from_bytes(&bytes));
        nic.wait(Some(TURN));
        while let Some(packet) = nic.receive() {
            nic.recycle(packet);
        }
        if cells.get(1) == 1234 {
            cells.set(2, 5678);
            // Until the other has seen it: the frames go with this environment.
            let seen = || {
                cells.get(3) == 1 || {
                    time::sleep(TURN);
                    false
                }
            };
            return expect((0..TURNS).any(|_| seen()), "the other has seen the answer");
        }
    }
    Err("nobody took the frames".into())
}

/// Takes the frames that another environment lends.
pub fn accept() -> Result<(), String> {
    let mut nic = Nic::open().map_err(text)?;
    let [writable, readable] = await_capabilities(&mut nic)?;
    let window = Window::new(2).map_err(text)?;
    let (pages, cells) = (window.pages(), window.cells::<u64>(0..2));
    let mut forged = writable;
    forged.0[3] ^= 1;
    expect(SharedFrames::accept(&forged, true).is_err(), "a forged capability is refused")?;
    expect(SharedFrames::accept(&readable, true).is_err(), "the right to write is not there")?;
    let frames = SharedFrames::accept(&writable, true).map_err(taken)?;
    expect(frames.lend(true) == Err(Status::NoSuch), "who has it lends it")?;
    pages.insert_frame(0, &frames, 0, Protection::Write).map_err(text)?;
    let frames = SharedFrames::accept(&readable, false).map_err(taken)?;
    let refused = pages.insert_frame(1, &frames, 0, Protection::Write);
    expect(refused == Err(FrameError::ReadOnly), "not to be written")?;
    pages.insert_frame(1, &frames, 0, Protection::Read).map_err(text)?;
    expect((cells.get(0), cells.get(512)) == (40, 41), "what the other wrote")?;
    cells.set(1, 1234);
    let answered = || {
        cells.get(2) == 5678 || {
            time::sleep(TURN);
            false
        }
    };
    expect((0..TURNS).any(|_| answered()), "the other answers")?;
    cells.set(3, 1);
    drop((pages.remove(0), pages.remove(1), frames));
    println!("two environments share a frame");
    Ok(())
}

/// Waits for a packet with two capabilities.
fn await_capabilities(nic: &mut Nic) -> Result<[Capability; 2], String> {
    for _ in 0..TURNS {
        while let Some(packet) = nic.receive() {
            if packet.get(12..14) == Some(&ETHER_TYPE[..])
                && let Some(words) = packet.get(14..14 + 64)
            {
                let mut words = words
                    .chunks_exact(8)
                    .map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
                let mut capability = || Capability([(); 4].map(|()| words.next().unwrap_or(0)));
                return Ok([capability(), capability()]);
            }
            nic.recycle(packet);
        }
        nic.wait(Some(TURN));
    }
    Err("no capability came".into())
}
