//! Memory references from single steps under `ptrace`.
//!
//! The program starts behind a shell that waits for a line on its input, so that it can be seized before it
//! runs; it then runs freely to its entry point (the dynamic loader is not what we want to watch) and from
//! there on instruction by instruction. System calls count as one instruction; what the kernel touches is not
//! seen.

use super::{ENVIRONMENT, Trace, TraceError, arguments};
use crate::din::Kind;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register, UsedMemory};
use nix::libc::user_regs_struct;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace::{self, AddressType, Event, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Says that it runs, waits for a line, then becomes the program.
const SHELL_SCRIPT: &str = "echo ready; read go; exec \"$@\" >/dev/null";

/// Runs the program step by step.
pub fn run(program: &Path, directory: &Path, trace: &mut Trace<'_>) -> Result<(), TraceError> {
    // On one processor, handing over between the two takes a fraction of the time. Where that is refused, it
    // is slow.
    let everywhere = sched_getaffinity(THIS_THREAD);
    if let Ok(all) = &everywhere {
        let _ = sched_setaffinity(THIS_THREAD, &first_of(all));
    }
    let result = run_here(program, directory, trace);
    if let Ok(all) = &everywhere {
        let _ = sched_setaffinity(THIS_THREAD, all);
    }
    result
}

/// The calling thread, to the scheduler.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The first processor of a set.
fn first_of(all: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    if let Some(first) = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)) {
        // Its number is one of a set of the same size.
        let _ = one.set(first);
    }
    one
}

/// Runs the program step by step, on the processors of the calling thread.
fn run_here(program: &Path, directory: &Path, trace: &mut Trace<'_>) -> Result<(), TraceError> {
    let mut child = start(program, directory)?;
    let result = seize_at_entry(&mut child).and_then(|pid| step_through(pid, trace));
    // It may have ended already; either way it is waited for.
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// Starts the shell, without address-space randomization if that can be turned off.
fn start(program: &Path, directory: &Path) -> Result<Child, TraceError> {
    let before = personality::get();
    if let Ok(persona) = before {
        // Where it is refused, the trace differs from run to run, and is as good a trace.
        let _ = personality::set(persona | Persona::ADDR_NO_RANDOMIZE);
    }
    let child = Command::new("/bin/sh")
        .args(["-c", SHELL_SCRIPT, "sh"])
        .arg(program)
        .args(arguments())
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    if let Ok(persona) = before {
        let _ = personality::set(persona);
    }
    child.map_err(|error| TraceError::Failed { operation: "starting a shell", error })
}

fn seize_at_entry(child: &mut Child) -> Result<Pid, TraceError> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let talking = |error| TraceError::Failed { operation: "talking to the shell", error };
    // Seized earlier, it might still be on its way to becoming the shell.
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut String::new()).map_err(talking)?;
    }
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL)
        .map_err(failed("seizing the program"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"go\n").map_err(talking)?;
    }
    match wait(pid)? {
        WaitStatus::PtraceEvent(_, Signal::SIGTRAP, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {}
        other => return Err(unexpected("the shell did not start the program", &other)),
    }
    run_to(pid, entry_point(pid)?)?;
    Ok(pid)
}

/// The program's entry point, from the auxiliary vector.
fn entry_point(pid: Pid) -> Result<u64, TraceError> {
    /// Key of the entry point in the auxiliary vector.
    const AT_ENTRY: u64 = 9;
    let vector = std::fs::read(format!("/proc/{pid}/auxv"))
        .map_err(|error| TraceError::Failed { operation: "reading the auxiliary vector", error })?;
    let (words, _) = vector.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| pair.map(u64::from_ne_bytes))
        .find_map(|[key, value]| (key == AT_ENTRY).then_some(value))
        .ok_or_else(|| TraceError::Unexpected { what: "the program has no entry point".to_string() })
}

/// Lets the program run to an address, with a breakpoint there.
fn run_to(pid: Pid, address: u64) -> Result<(), TraceError> {
    /// The instruction `int3`.
    const BREAKPOINT: i64 = 0xcc;
    let original = read_word(pid, address).map_err(failed("reading code"))?;
    let set = |word| ptrace::write(pid, pointer(address), word).map_err(failed("setting a breakpoint"));
    set(original & !0xff | BREAKPOINT)?;
    ptrace::cont(pid, None).map_err(failed("continuing the program"))?;
    match wait(pid)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        other => return Err(unexpected("the program did not reach its entry point", &other)),
    }
    set(original)?;
    let mut registers = ptrace::getregs(pid).map_err(failed("reading registers"))?;
    registers.rip = address;
    ptrace::setregs(pid, registers).map_err(failed("writing registers"))
}

/// A decoded instruction.
struct Decoded {
    repeated: bool,
    memory: Vec<UsedMemory>,
}

fn step_through(pid: Pid, trace: &mut Trace<'_>) -> Result<(), TraceError> {
    let mut factory = InstructionInfoFactory::new();
    let mut code: HashMap<u64, Decoded> = HashMap::new();
    let mut last_address = 0;
    while !trace.is_full() {
        let registers = ptrace::getregs(pid).map_err(failed("reading registers"))?;
        let address = registers.rip;
        let decoded = match code.entry(address) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(decode(pid, address, &mut factory)?),
        };
        // An instruction with a REP prefix stops at every iteration, and is fetched once.
        if !(decoded.repeated && address == last_address) {
            trace.add(Kind::Fetch, address);
        }
        last_address = address;
        decoded.memory.iter().for_each(|memory| add_data_reference(trace, memory, &registers));
        if !step(pid)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Executes one instruction. `false` if the program has ended.
fn step(pid: Pid) -> Result<bool, TraceError> {
    let mut signal = None;
    loop {
        ptrace::step(pid, signal).map_err(failed("stepping"))?;
        match wait(pid)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(true),
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(false),
            other => return Err(unexpected("the program stopped", &other)),
        }
    }
}

fn decode(pid: Pid, address: u64, factory: &mut InstructionInfoFactory) -> Result<Decoded, TraceError> {
    let mut bytes = [0; 16];
    let first = read_word(pid, address).map_err(failed("reading code"))?;
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    // The next word may lie on a page that is not there: then the instruction does not reach it.
    if let Ok(second) = read_word(pid, address + 8) {
        bytes[8..].copy_from_slice(&second.to_ne_bytes());
    }
    let instruction = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE).decode();
    let memory = factory.info(&instruction).used_memory().to_vec();
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    Ok(Decoded { repeated, memory })
}

fn add_data_reference(trace: &mut Trace<'_>, memory: &UsedMemory, registers: &user_regs_struct) {
    let kinds: &[Kind] = match memory.access() {
        OpAccess::Read | OpAccess::CondRead => &[Kind::Load],
        OpAccess::Write | OpAccess::CondWrite => &[Kind::Store],
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => &[Kind::Load, Kind::Store],
        _ => return,
    };
    // Operands that depend on a vector register (gathers) have no address here, and are left out.
    if let Some(address) = memory.virtual_address(0, |register, _, _| value(registers, register)) {
        kinds.iter().for_each(|kind| trace.add(*kind, address));
    }
}

/// The value of a register, or the base of a segment.
fn value(registers: &user_regs_struct, register: Register) -> Option<u64> {
    let whole = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        _ => return None,
    };
    Some(match register.size() {
        1 => whole & 0xff,
        4 if register.is_gpr() => whole & 0xffff_ffff,
        _ => whole,
    })
}

fn pointer(address: u64) -> AddressType {
    address as AddressType
}

fn read_word(pid: Pid, address: u64) -> nix::Result<i64> {
    ptrace::read(pid, pointer(address))
}

fn wait(pid: Pid) -> Result<WaitStatus, TraceError> {
    waitpid(pid, None).map_err(failed("waiting for the program"))
}

fn failed(operation: &'static str) -> impl FnOnce(nix::Error) -> TraceError {
    move |error| TraceError::Failed { operation, error: error.into() }
}

fn unexpected(what: &str, status: &WaitStatus) -> TraceError {
    TraceError::Unexpected { what: format!("{what}: {status:?}") }
}
