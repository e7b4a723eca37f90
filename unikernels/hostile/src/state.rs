//! What the processor holds of one environment while another has the core.
//!
//! Each environment that runs this leaves values of its own in every register that it can write, gives the
//! core to the next, and looks. Nobody's values may be found by another, none may be gone. Two of them on one
//! core are each other's neighbours.

use crate::judge::{Attempt, Judge};
use crate::machine::{self, Floating};
use libos_core::exo::{hypercall, start_info};

pub const ATTEMPTS: &[Attempt] = &[Attempt::survives(
    "registers",
    "leaves values of its own in all registers, and looks for a neighbour's",
    registers,
)];

/// Most environments that can be neighbours.
const NEIGHBOURS: u64 = 4;
/// How often the core goes to the neighbour.
const ROUNDS: u64 = 20;

/// MSRs that every guest has of its own, and bits that any value of them may have.
const OWN_MSRS: [(u32, u64); 10] = [
    (0x174, 0xffff),
    (0x175, 0x7fff_ffff),
    (0x176, 0x7fff_ffff),
    (0xc000_0081, 0x7fff_ffff_ffff_0000),
    (0xc000_0082, 0x7fff_ffff),
    (0xc000_0083, 0x7fff_ffff),
    (0xc000_0084, 0x003f_ffff),
    (0xc000_0100, 0x7fff_ffff),
    (0xc000_0101, 0x7fff_ffff),
    (0xc000_0102, 0x7fff_ffff),
];

/// MSRs that no guest has: speculation control, performance, debugging, the numbers that `RDTSCP` reads,
/// shadow stacks, extended state of supervisors, memory types, deadlines.
const REFUSED_MSRS: [u32; 19] = [
    0x48,
    0x49,
    0xc1,
    0xe1,
    0xe7,
    0xe8,
    0x10b,
    0x1c4,
    0x1d9,
    0x277,
    0x38f,
    0x6a0,
    0x6a2,
    0x6a4,
    0x6a7,
    0x6e0,
    0xda0,
    0xc000_0103,
    0xc001_011f,
];

/// Bits of CR0 that differ between neighbours: MP, NE, AM.
const CR0_BITS: u64 = 1 << 1 | 1 << 5 | 1 << 18;
/// Bits of CR4: TSD, DE, PGE, PCE.
const CR4_BITS: u64 = 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8;

/// A value that only this environment has, for register number `item`.
fn mark(environment: u64, item: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    ODD.wrapping_mul(environment << 8 | item)
}

fn registers(judge: &mut Judge) {
    let own = start_info().environment;
    let others = || (1..=NEIGHBOURS).filter(move |other| *other != own);
    let next = if own == 1 { 2 } else { 1 };
    judge.expect("TSC_AUX", machine::rdtscp_number().unwrap_or(0), 0);
    for register in REFUSED_MSRS {
        judge.expect(format_args!("{register:#x} is read"), machine::read_msr(register).is_err(), true);
        judge.expect(
            format_args!("{register:#x} is written"),
            machine::write_msr(register, 1).is_some(),
            true,
        );
    }
    let keys = machine::turn_on_protection_keys();
    if keys {
        judge.expect("protection keys at the start", machine::protection_keys(), 0);
    }
    for (register, bits) in OWN_MSRS {
        let value = machine::read_msr(register);
        let foreign = others().any(|other| value == Ok(mark(other, register.into()) & bits));
        judge.expect(format_args!("{register:#x} at the start: {value:x?} is a neighbour's"), foreign, false);
    }
    let foreign = others().any(|other| machine::fault_address() == mark(other, 2));
    judge.expect("CR2 at the start is a neighbour's", foreign, false);
    judge.expect("x87 at the start", Floating::here().x87_is_reset(), true);
    let avx = machine::turn_on_avx();

    let old = OWN_MSRS.map(|(register, _)| machine::read_msr(register).unwrap_or_default());
    let controls = machine::controls();
    for round in 0..ROUNDS {
        leave(judge, own, keys);
        let before = Floating::of(|item| mark(own, item), round % 2 == 0);
        let (loaded, after) = before.keep_while_yielding(next, avx);
        judge.expect("x87, SSE and AVX state", after == loaded, true);
        look(judge, own, keys);
    }
    machine::set_controls(controls);
    for ((register, _), value) in OWN_MSRS.iter().zip(old) {
        machine::write_msr(*register, value);
    }
    // The neighbour may be there for longer.
    let _ = hypercall::yield_to(next);
}

/// Leaves values of our own.
fn leave(judge: &mut Judge, own: u64, keys: bool) {
    for (register, bits) in OWN_MSRS {
        let trap = machine::write_msr(register, mark(own, register.into()) & bits);
        judge.expect(format_args!("writing {register:#x}"), trap, None);
    }
    let (cr0, cr4) = machine::controls();
    machine::set_controls((
        cr0 & !CR0_BITS | mark(own, 0) & CR0_BITS,
        cr4 & !CR4_BITS | mark(own, 4) & CR4_BITS,
    ));
    machine::set_fault_address(mark(own, 2));
    machine::set_task_priority(own);
    if keys {
        machine::set_protection_keys(mark(own, 3) as u32);
    }
}

/// Looks whether they are still there.
fn look(judge: &mut Judge, own: u64, keys: bool) {
    for (register, bits) in OWN_MSRS {
        let expected = Ok(mark(own, register.into()) & bits);
        judge.expect(format_args!("{register:#x}"), machine::read_msr(register), expected);
    }
    let (cr0, cr4) = machine::controls();
    judge.expect("CR0", cr0 & CR0_BITS, mark(own, 0) & CR0_BITS);
    judge.expect("CR4", cr4 & CR4_BITS, mark(own, 4) & CR4_BITS);
    judge.expect("CR2", machine::fault_address(), mark(own, 2));
    judge.expect("CR8", machine::task_priority(), own);
    machine::set_task_priority(0);
    if keys {
        judge.expect("protection keys", machine::protection_keys(), mark(own, 3) as u32);
    }
}
