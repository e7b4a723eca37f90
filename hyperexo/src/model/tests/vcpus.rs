//! Virtual CPUs: what they cost, where they may be, how they are called.

use crate::machine::id::VcpuId;
use crate::model::{Machine, Parts, Share};
use core::sync::atomic::Ordering;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::upcall::Cause;

/// The attack: five environments start as many as they can, in little memory. It can be refused; it never
/// panics.
#[test]
fn virtual_cpus_are_paid_for_or_refused() {
    for (frames, quota) in [(200, 1000), (400, 40), (300, 1000), (2048, 1000)] {
        let mut machine = Machine::new(Parts { frames, cores: 16, environments: 5, ..Parts::default() });
        let all: Vec<_> = (0..5).map(|_| machine.add(Share { quota, ..Share::default() })).collect();
        let mut refused = 0;
        for core in 1..16 {
            for who in &all {
                let room = machine.kernel.pages.room(who.environment);
                let before = machine.kernel.pages.charged(who.environment);
                match machine.call(*who, Call::VcpuStart, &[core, 0, 0, 0, 0]) {
                    Ok([index, doorbell, ..]) => {
                        assert_eq!(index, core);
                        assert!(machine.kernel.pages.has_bound(
                            who.environment,
                            doorbell,
                            Rights::READ_WRITE
                        ));
                    }
                    Err(status) => {
                        let full = machine.kernel.pages.frames.free_frames() < 8;
                        let expected = if room < 8 { Status::QuotaExceeded } else { Status::Exhausted };
                        assert!(status == expected && (room < 8 || full), "{status:?} with room for {room}");
                        assert_eq!(machine.kernel.pages.charged(who.environment), before);
                        refused += 1;
                    }
                }
            }
        }
        assert_eq!(refused != 0, frames < 2048, "{frames} frames, quota {quota}");
        all.into_iter().for_each(|who| machine.end(who));
        assert!(machine.kernel.finished());
    }
}

#[test]
fn only_cores_that_the_manifest_names_are_used() {
    let mut machine = Machine::new(Parts { cores: 4, ..Parts::default() });
    let one = machine.add(Share { cores: 0b1010, ..Share::default() });
    let start = |machine: &mut Machine, core: u64| machine.call(one, Call::VcpuStart, &[core, 0, 0, 0, 0]);
    assert_eq!(start(&mut machine, 2), Err(Status::NoRight));
    assert_eq!(start(&mut machine, 4), Err(Status::NoSuch));
    assert_eq!(start(&mut machine, u64::MAX), Err(Status::NoSuch));
    assert_eq!(start(&mut machine, 0), Err(Status::InUse));
    assert!(start(&mut machine, 3).is_ok() && start(&mut machine, 1).is_ok());
    assert_eq!(start(&mut machine, 1), Err(Status::InUse));
    let alone = machine.add(Share { core: 2, cores: 0, ..Share::default() });
    assert_eq!(machine.call(alone, Call::VcpuStart, &[0, 0, 0, 0, 0]), Err(Status::NoRight));
}

/// The attack: a stream of wakes takes a neighbour off its core. Only the first of them changes what the core
/// should do.
#[test]
fn waking_what_is_awake_disturbs_nobody() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let [index, doorbell, ..] = machine.call(one, Call::VcpuStart, &[1, 0, 0, 0, 0]).unwrap();
    let other = VcpuId { environment: one.environment, index: index as usize, core: 1 };
    let signals = machine.kernel.signals;
    let mut wake = |waiting: bool, posted: bool, running: Option<VcpuId>| {
        let slot = machine.kernel.vcpu_slot(other).unwrap();
        (slot.waiting, slot.posted) = (waiting, posted);
        signals.take_pending(1);
        match running {
            Some(who) => signals.entering(1, who.environment),
            None => signals.left(1),
        }
        machine.call(one, Call::VcpuWake, &[index]).unwrap();
        let slot = machine.kernel.vcpu_slot(other).unwrap();
        assert!(!slot.waiting && slot.posted);
        let disturbed = signals.pending(1);
        signals.left(1);
        disturbed
    };
    assert!(wake(true, false, Some(two)), "it waits: the neighbour shares the core from now on");
    assert!(!wake(false, true, Some(two)), "it is called already");
    assert!(!wake(false, false, Some(two)), "it has its turn anyway");
    assert!(wake(false, false, Some(one)), "it runs, and does not know");
    assert!(!wake(false, true, Some(one)), "it knows");
    assert!(!wake(false, true, None));
    let pending = machine.kernel.pages.memory.word(doorbell, 0);
    assert_eq!(pending, Cause::Wake as u64);
    assert_eq!(machine.call(one, Call::VcpuWake, &[2]), Err(Status::NoSuch));
    assert_eq!(machine.call(one, Call::VcpuWake, &[ANY]), Err(Status::NoSuch));
}

#[test]
fn timers_call_once_when_they_are_due() {
    let mut machine = Machine::with(1);
    let one = machine.vcpu(1);
    machine.call(one, Call::TimerSet, &[1000]).unwrap();
    assert_eq!(machine.kernel.next_deadline(0), Some(1000));
    machine.attend(999);
    let pending = |machine: &mut Machine| {
        machine.kernel.vcpu_slot(one).unwrap().doorbell.pending.swap(0, Ordering::Relaxed)
    };
    assert_eq!(pending(&mut machine), 0);
    machine.attend(1000);
    assert_eq!(pending(&mut machine), Cause::Timer as u64);
    machine.attend(2000);
    assert_eq!((pending(&mut machine), machine.kernel.next_deadline(0)), (0, None));
    machine.call(one, Call::TimerSet, &[1]).unwrap();
    machine.call(one, Call::TimerSet, &[0]).unwrap();
    assert_eq!(machine.kernel.next_deadline(0), None);
}

#[test]
fn fault_pages_are_ones_own_and_pinned() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let (frame, capability) = machine.frames(one, 2);
    machine.bind(two, capability, Rights::READ_WRITE).unwrap();
    for (who, wrong) in [(two, frame), (one, 0), (one, u64::MAX - 1), (one, 2047)] {
        assert_eq!(machine.call(who, Call::FaultPage, &[wrong]), Err(Status::NotBound), "{wrong:x}");
    }
    machine.call(one, Call::FaultPage, &[frame]).unwrap();
    assert_eq!(machine.call_with(one, Call::PageFree, capability, &[]), Err(Status::Busy));
    machine.call(one, Call::FaultPage, &[frame + 1]).unwrap();
    machine.call(one, Call::PageUnbind, &[frame, 1, 0]).unwrap();
    assert_eq!(machine.call(one, Call::PageUnbind, &[frame + 1, 1, 0]), Err(Status::Busy));
    machine.call(one, Call::FaultPage, &[ANY]).unwrap();
    machine.call_with(one, Call::PageFree, capability, &[]).unwrap();
    let (frame, _) = machine.frames(one, 1);
    machine.call(one, Call::FaultPage, &[frame]).unwrap();
    machine.end(one);
}

#[test]
fn calls_that_there_are_not_are_refused() {
    let mut machine = Machine::with(1);
    let one = machine.vcpu(1);
    for number in [Call::ALL.len() as u64, 1000, u64::MAX] {
        let mut vcpu = machine.kernel.vcpu_slot(one).unwrap().vcpu.take().unwrap();
        vcpu.registers().rax = number;
        crate::call::dispatch(&mut machine.kernel, one, &mut *vcpu);
        machine.kernel.vcpu_slot(one).unwrap().vcpu = Some(vcpu);
        assert_eq!(machine.outcome(one), Err(Status::UnknownCall), "{number}");
    }
}
