//! What several cores make possible: memory taken away under another's hands, virtual CPUs that can't be.

use crate::judge::{Attempt, Judge};
use crate::machine;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{ANY, FRAME_SHIFT, LINEAR_BASE};
use libos_core::cores::{self, CoreHandle, StartError};
use libos_core::exo::{hypercall, start_info};
use libos_core::{accounting, memory, println, time};

/// A frame of the kernel's image.
const KERNEL_FRAME: u64 = 0x100;
/// How long the kernel has to end us.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames taken away, one after the other.
const FRAMES: u64 = 200;
/// Calls in a storm.
const STORM: u64 = 2000;

/// Parts of tests with several environments.
pub const PARTS: &[Attempt] =
    &[Attempt::survives("foreign-core", "a virtual CPU on a core that is not its own", foreign_core)];

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::killed("shootdown-unbind", "reads on one core a frame whose binding another ends", |judge| {
        shootdown(judge, |capability, frame| {
            machine::page_unbind(frame, 1).is_ok() && machine::page_free(capability).is_ok()
        });
    })
    .with_cores(),
    Attempt::killed("shootdown-free", "reads on one core a frame that another gives back", |judge| {
        shootdown(judge, |capability, _| machine::page_free(capability).is_ok());
    })
    .with_cores(),
    Attempt::killed("shootdown-write", "writes on one core a frame that another makes read-only", |judge| {
        shootdown_write(judge);
    })
    .with_cores(),
    Attempt::survives(
        "shootdown-in-time",
        "gives frames back that another core, still running, does not use any more",
        shootdown_in_time,
    )
    .with_cores(),
    Attempt::survives("start-everywhere", "a virtual CPU on every core there is", start_everywhere)
        .with_cores(),
    Attempt::survives(
        "start-without-frames",
        "a virtual CPU when all frames are in use",
        start_without_frames,
    )
    .with_cores(),
    Attempt::survives("start-core", "virtual CPUs on cores that do not exist or are taken", start_core)
        .with_cores(),
    Attempt::killed("start-bad-stack", "a virtual CPU whose stack is nowhere", |judge| {
        born_dead(judge, machine::push_loop(), 0, machine::top_table());
    })
    .with_cores(),
    Attempt::killed("start-bad-instruction", "a virtual CPU whose first instruction is nowhere", |judge| {
        born_dead(judge, 1 << 63, 0, machine::top_table());
    })
    .with_cores(),
    Attempt::killed(
        "start-foreign-tables",
        "a virtual CPU with the kernel's memory for page tables",
        |judge| {
            born_dead(judge, machine::endless_loop(), 0, KERNEL_FRAME << FRAME_SHIFT);
        },
    )
    .with_cores(),
    Attempt::killed(
        "start-absurd-tables",
        "a virtual CPU whose page tables are beyond all addresses",
        |judge| {
            born_dead(judge, machine::endless_loop(), 0, u64::MAX);
        },
    )
    .with_cores(),
    Attempt::survives(
        "exit-while-running",
        "ends while another core computes with interrupts disabled",
        |judge| {
            run_forever(judge);
            let again = other_core().and_then(|core| cores::start(core, |_| (), 0).err());
            judge.expect("a second function there", matches!(again, Some(StartError::Busy { .. })), true);
        },
    )
    .with_cores(),
    Attempt::survives("exit-while-calling", "ends while another core makes calls without pause", |judge| {
        let forever = |_| {
            loop {
                let _ = hypercall::null();
                READS.fetch_add(1, Ordering::SeqCst);
            }
        };
        if start(judge, forever, 0).is_some() {
            used(judge);
        }
    })
    .with_cores(),
    Attempt::killed(
        "shootdown-calling",
        "reads, between calls, a frame that another core gives back",
        |judge| {
            shootdown_from(judge, call_and_read_forever, |capability, _| {
                machine::page_free(capability).is_ok()
            })
        },
    )
    .with_cores(),
    Attempt::killed("die-while-running", "reads the kernel while another core computes", |judge| {
        run_forever(judge);
        machine::read_word(LINEAR_BASE + (KERNEL_FRAME << FRAME_SHIFT));
    })
    .with_cores(),
    Attempt::killed("die-elsewhere", "computes while another core raises a triple fault", |judge| {
        if start(judge, |_| machine::triple_fault(), 0).is_some() {
            machine::disable_interrupts();
            spin_for(PATIENCE);
            machine::enable_interrupts();
        }
    })
    .with_cores(),
    Attempt::survives(
        "wake-storm",
        "wakes virtual CPUs without end, those that do not exist too",
        wake_storm,
    )
    .with_cores(),
];

/// A function on another core.
fn start(judge: &mut Judge, function: fn(u64), argument: u64) -> Option<CoreHandle> {
    judge.found("a second core", other_core().and_then(|core| cores::start(core, function, argument).ok()))
}

fn other_core() -> Option<u64> {
    (0..cores::count()).find(|core| *core != cores::current())
}

fn spin_for(duration: Duration) {
    let end = time::now_ns() + duration.as_nanos() as u64;
    while time::now_ns() < end {
        machine::spin();
    }
}

/// Times that the other core has read (or written) the frame.
static READS: AtomicU64 = AtomicU64::new(0);
/// Something that was read and should not have been; [`OWN`] stands for none.
static WRONG: AtomicU64 = AtomicU64::new(OWN);
/// Frame that the other core uses, or one of the words below.
static FRAME: AtomicU64 = AtomicU64::new(NONE);
/// In [`FRAME`]: there is none.
const NONE: u64 = 0;
/// In [`FRAME`]: the other core is to answer with [`NONE`] once it uses the frame no more.
const LEAVING: u64 = u64::MAX - 1;
/// In [`FRAME`]: the other core is to end.
const END: u64 = u64::MAX;
/// What our frames hold as long as they are ours.
const OWN: u64 = 0x5ee4_ca7e_0000_0001;

/// A frame that holds [`OWN`] in its first word, bound.
fn own_frame(judge: &mut Judge) -> Option<(Capability, u64)> {
    let capability = judge.allowed("allocating", hypercall::page_alloc(ANY, 1, 1))?;
    judge.allowed("binding", machine::page_bind(&capability, Rights::READ_WRITE))?;
    let frame = capability.claim()?.first;
    machine::write_word(memory::linear_address(frame), OWN);
    Some((capability, frame))
}

/// Reads a frame for ever, with interrupts disabled.
fn read_forever(frame: u64) {
    machine::disable_interrupts();
    loop {
        let word = machine::read_word(memory::linear_address(frame));
        if word != OWN {
            WRONG.store(word, Ordering::SeqCst);
        }
        READS.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until the other core has used its frame; whether it has in time.
fn used(judge: &mut Judge) -> bool {
    let before = READS.load(Ordering::SeqCst);
    let end = time::now_ns() + PATIENCE.as_nanos() as u64;
    while READS.load(Ordering::SeqCst) < before + 1000 && time::now_ns() < end {
        machine::spin();
    }
    judge.found("the other core at work", (READS.load(Ordering::SeqCst) > before).then_some(())).is_some()
}

/// Reads a frame for ever, with a call after each time that the kernel answers at once, and with interrupts
/// enabled.
fn call_and_read_forever(frame: u64) {
    loop {
        let word = machine::read_word(memory::linear_address(frame));
        if word != OWN {
            WRONG.store(word, Ordering::SeqCst);
        }
        READS.fetch_add(1, Ordering::SeqCst);
        let _ = hypercall::null();
    }
}

/// [`shootdown_from`] a core that only reads.
fn shootdown(judge: &mut Judge, take_away: fn(&Capability, u64) -> bool) {
    shootdown_from(judge, read_forever, take_away);
}

/// Takes a frame away while another core reads it, then has the kernel clear it: nobody may see that.
fn shootdown_from(judge: &mut Judge, reader: fn(u64), take_away: fn(&Capability, u64) -> bool) {
    let Some((capability, frame)) = own_frame(judge) else { return };
    if start(judge, reader, frame).is_none() || !used(judge) {
        return;
    }
    if !take_away(&capability, frame) {
        println!("error: the frame can't be taken away");
        return;
    }
    // No read may succeed that began after the call returned. One may have been in its last instruction when
    // the kernel took its core back; its count has long been written.
    let after = READS.load(Ordering::SeqCst);
    // The kernel writes zeros.
    let cleared = hypercall::page_alloc(frame, 1, 1);
    spin_for(PATIENCE);
    println!(
        "error: {} reads went on; the last odd word is {:#x} (frame allocated again: {})",
        READS.load(Ordering::SeqCst) - after,
        WRONG.load(Ordering::SeqCst),
        cleared.is_ok()
    );
}

/// Makes a frame read-only while another core writes it.
fn shootdown_write(judge: &mut Judge) {
    let Some((capability, frame)) = own_frame(judge) else { return };
    let write_forever = |frame| {
        machine::disable_interrupts();
        loop {
            machine::write_word(memory::linear_address(frame), READS.fetch_add(1, Ordering::SeqCst));
        }
    };
    if start(judge, write_forever, frame).is_none() || !used(judge) {
        return;
    }
    judge.allowed("binding read-only", machine::page_bind(&capability, Rights::READ));
    spin_for(PATIENCE);
}

/// Reads the frame in [`FRAME`] as long as there is one, with interrupts disabled; goes on computing without
/// one.
fn in_time(_: u64) {
    machine::disable_interrupts();
    loop {
        match FRAME.load(Ordering::SeqCst) {
            END => break,
            NONE => machine::spin(),
            LEAVING => FRAME.store(NONE, Ordering::SeqCst),
            frame => {
                let word = machine::read_word(memory::linear_address(frame));
                if word != OWN {
                    WRONG.store(word, Ordering::SeqCst);
                }
                READS.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    machine::enable_interrupts();
}

fn shootdown_in_time(judge: &mut Judge) {
    let Some(handle) = start(judge, in_time, 0) else { return };
    for _ in 0..FRAMES {
        let Some((capability, frame)) = own_frame(judge) else { break };
        FRAME.store(frame, Ordering::SeqCst);
        let seen = used(judge);
        FRAME.store(LEAVING, Ordering::SeqCst);
        while FRAME.load(Ordering::SeqCst) == LEAVING {
            machine::spin();
        }
        judge.allowed("giving back", machine::page_free(&capability));
        if !seen {
            break;
        }
    }
    FRAME.store(END, Ordering::SeqCst);
    handle.join();
    judge.expect("every word was ours", WRONG.load(Ordering::SeqCst), OWN);
}

/// Each takes memory: as much as the quota and the machine have, and not more.
fn start_everywhere(judge: &mut Judge) {
    let frames = || accounting().frames.load(Ordering::Relaxed);
    let before = frames();
    let mut started = 0;
    for core in (0..cores::count()).filter(|core| *core != cores::current()) {
        match machine::vcpu_start(core, machine::endless_loop(), 0, machine::top_table()) {
            Ok(_) => started += 1,
            Err(status) => {
                let refused = matches!(status, Status::QuotaExceeded | Status::Exhausted);
                judge.expect(format_args!("core {core}: {status:?}"), refused, true);
            }
        }
    }
    judge.expect("frames of its own", frames(), before);
    println!("{started} virtual CPUs started");
}

fn foreign_core(judge: &mut Judge) {
    let Some(core) = judge.found("another core", other_core()) else { return };
    for _ in 0..3 {
        let started = machine::vcpu_start(core, machine::endless_loop(), 0, machine::top_table());
        judge.refused("a core that the manifest does not name", started, Status::NoRight);
    }
}

/// A call that is refused leaves nothing behind: as soon as there are frames again, it succeeds.
fn start_without_frames(judge: &mut Judge) {
    let other = other_core().unwrap_or(ANY);
    let start = || machine::vcpu_start(other, machine::endless_loop(), 0, machine::top_table());
    let mut hoard = Vec::with_capacity(64);
    let mut count = 1 << 12;
    while count != 0 && hoard.len() < hoard.capacity() {
        match hypercall::page_alloc(ANY, count, 1) {
            Ok(capability) => hoard.push(capability),
            Err(_) => count /= 2,
        }
    }
    let refused = [start(), start()].map(|made| made.err());
    let all = refused.iter().all(|status| matches!(status, Some(Status::QuotaExceeded | Status::Exhausted)));
    for capability in &hoard {
        judge.allowed("giving frames back", machine::page_free(capability));
    }
    judge.expect(format_args!("without frames: {refused:?}"), all, true);
    judge.expect("its index", index_of(start()), Some(1));
}

/// The index of a virtual CPU that could be started.
fn index_of(made: Result<hypercall::NewVcpu, Status>) -> Option<u64> {
    made.ok().map(|made| made.index)
}

fn start_core(judge: &mut Judge) {
    let start = |core| machine::vcpu_start(core, machine::endless_loop(), 0, machine::top_table());
    let own = cores::current();
    for core in [cores::count(), 255, 1 << 32, 1 << 63, ANY] {
        judge.refused(format_args!("core {core}"), start(core), Status::NoSuch);
    }
    judge.refused("our own core", start(own), Status::InUse);
    let index = judge.allowed("another core", start(other_core().unwrap_or(ANY))).map(|made| made.index);
    judge.refused("another core, again", start(other_core().unwrap_or(ANY)), Status::InUse);
    judge.expect("its index", index, Some(1));
    // The runtime, which knows nothing of it, passes the refusal on; twice, as it keeps what it had prepared.
    for _ in 0..2 {
        let started = cores::start(other_core().unwrap_or(ANY), |_| (), 0).err();
        judge.expect("by the runtime", started, Some(StartError::Refused(Status::InUse)));
    }
    let (core, cores) = (own, cores::count());
    judge.expect(
        "our own, by the runtime",
        cores::start(own, |_| (), 0).err(),
        Some(StartError::Busy { core }),
    );
    let absent = StartError::NoSuchCore { core: cores, cores };
    judge.expect("one too many, by the runtime", cores::start(cores, |_| (), 0).err(), Some(absent));
    judge.allowed("waking it", hypercall::vcpu_wake(1));
    for index in [2, 64, 1 << 32, u64::MAX] {
        judge.refused(format_args!("waking number {index}"), hypercall::vcpu_wake(index), Status::NoSuch);
    }
    judge.refused("the doorbell of the other core", bind_doorbell(), Status::ForgedCapability);
}

/// Binding the kernel's own frame with all rights, by a capability that is made up.
fn bind_doorbell() -> Result<(), Status> {
    machine::page_bind(&Capability([1, start_info().doorbell_frame, 1, 0]), Rights::ALL)
}

/// A virtual CPU that can't live.
fn born_dead(judge: &mut Judge, instruction: u64, stack: u64, root: u64) {
    let Some(core) = judge.found("a second core", other_core()) else { return };
    judge.allowed("starting it", machine::vcpu_start(core, instruction, stack, root));
    time::sleep(PATIENCE);
}

/// Has the other core compute with interrupts disabled, and waits until it does.
fn run_forever(judge: &mut Judge) {
    let forever = |_| {
        machine::disable_interrupts();
        loop {
            READS.fetch_add(1, Ordering::SeqCst);
        }
    };
    if start(judge, forever, 0).is_some() {
        used(judge);
    }
}

fn wake_storm(judge: &mut Judge) {
    let storm = |_| {
        for number in 0..STORM {
            // The first virtual CPU and this one, by turns; what the answer is does not matter here.
            let _ = hypercall::vcpu_wake(number % 2);
        }
    };
    let Some(handle) = start(judge, storm, 0) else { return };
    for number in 0..STORM {
        judge.allowed("waking", hypercall::vcpu_wake(number % 2));
    }
    handle.join();
    time::sleep(Duration::from_millis(2));
    judge.expect("the other core has finished", handle.is_done(), true);
}
