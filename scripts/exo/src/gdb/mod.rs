//! `exo gdb`: a debugger on both levels of a machine: the exokernel, and the unikernel in it.
//!
//! QEMU's stub listens on a socket in a private directory, not on a port. Kernel and unikernels are linked at
//! the same virtual addresses, so gdb has the symbols of one of them at a time: whenever the machine stops,
//! those of the level it stopped in ([`script`]). Breakpoints are set at addresses, found in the images'
//! symbol tables ([`place`]), on the condition that the machine is in that level.

mod place;
mod script;

use crate::build::symbols::Symbols;
use crate::build::{Freshness, Source, images};
use crate::bundle::environments::{EnvironmentArgs, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::children::{self, Group, Progress};
use crate::host::output::write_atomically;
use crate::host::programs::program_path;
use crate::machine::Machine;
use crate::machine::args::MachineArgs;
use crate::machine::direct;
use crate::session::follow;
use crate::session::qmp::Qmp;
use crate::units::shell_quote;
use script::{Breakpoint, Levels, Style};
use std::path::Path;
use std::process::Command;

/// Arguments of `exo gdb`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Breakpoints are names of functions as backtraces show them, or their last parts. Code that was inlined has \
                        none.\nIn gdb: `kernel` and `unikernel` change the symbols by hand.\n\nExamples:\n  exo gdb hello\n  exo \
                        gdb hello --break-kernel hypercall::perform --batch\n  exo gdb hello --direct -- panic=1"
)]
pub struct GdbArgs {
    #[command(flatten)]
    environments: EnvironmentArgs,
    /// The unikernel alone, without HyperExo
    #[arg(long)]
    direct: bool,
    /// Stops in this function of the first application; may be repeated (default: its program's)
    #[arg(long = "break", value_name = "FUNCTION")]
    breakpoints: Vec<String>,
    /// Stops in this function of HyperExo; may be repeated
    #[arg(long, value_name = "FUNCTION", conflicts_with = "direct")]
    break_kernel: Vec<String>,
    /// Runs from one breakpoint to the next, prints a backtrace at each, and ends
    #[arg(long)]
    batch: bool,
    /// Prints the commands for QEMU and for gdb, and runs nothing
    #[arg(long)]
    print: bool,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// The debugger.
const GDB: &str = "gdb";
/// Function in which every application's program begins, made by `libos_core::main!`.
const PROGRAM: &str = "_::program";

/// The verb.
pub fn gdb(args: &GdbArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let (machine, levels) = prepare(args, &checkout)?;
    let mut breakpoints = Vec::new();
    if let Some(kernel) = &levels.kernel {
        for name in &args.break_kernel {
            breakpoints.push(Breakpoint { address: place::of(kernel, name)?, kernel: true });
        }
    }
    let program = [PROGRAM.to_owned()];
    let wanted = if args.breakpoints.is_empty() { &program[..] } else { &args.breakpoints };
    for name in wanted {
        breakpoints.push(Breakpoint { address: place::of(&levels.unikernel, name)?, kernel: false });
    }
    let style = if args.batch { Style::Batch } else { Style::Interactive };
    if args.print {
        let socket = checkout.artefacts("gdb")?.join("stub");
        println!("{} &", stubbed(&machine, &socket).shell_command());
        println!("cat >gdb.commands <<'END'\n{}END", script::text(&levels, &breakpoints, &socket, style));
        println!("{GDB} -nx -q {}-x gdb.commands", if args.batch { "-batch " } else { "" });
        return Ok(());
    }
    let scratch = tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let (socket, control) = (scratch.path().join("stub"), scratch.path().join("qmp"));
    let file = scratch.path().join("commands");
    let text = script::text(&levels, &breakpoints, &socket, style);
    write_atomically(&file, text.as_bytes())?;
    let machine = Machine { qmp: Some(control), ..stubbed(&machine, &socket) };
    debug(&machine, &file, style)
}

/// Builds, and describes the machine and where its symbols are.
fn prepare(args: &GdbArgs, checkout: &Checkout) -> Result<(Machine, Levels)> {
    let list = args.environments.environments(&args.machine.supply(), checkout)?;
    let sources: Vec<Source> = list.iter().map(|one| one.source.clone()).collect();
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let built = images(checkout, &sources, freshness)?;
    let unikernel = built.apps[0].elf.clone();
    if args.direct {
        let machine = direct::machine(checkout, &built.apps[0], direct::single(&list)?, &args.machine)?;
        return Ok((machine, Levels { kernel: None, unikernel }));
    }
    let supply = args.machine.supply();
    let bundle = pack(checkout, &built.kernel, &built.apps, &list, &supply, &mut Symbols::default())?;
    let machine = args.machine.machine(&built.kernel_file, &bundle)?;
    Ok((machine, Levels { kernel: Some(built.kernel.elf.clone()), unikernel }))
}

/// The machine, stopped before its first instruction, with QEMU's stub on a socket.
fn stubbed(machine: &Machine, socket: &Path) -> Machine {
    let mut machine = Machine { gdb: None, ..machine.clone() };
    // In QEMU's option syntax a comma inside a value is doubled.
    let path = socket.to_string_lossy().replace(',', ",,");
    machine.extra.extend(["-gdb".into(), format!("unix:{path},server=on,wait=off"), "-S".into()]);
    machine
}

/// Starts both, and waits for gdb's end.
fn debug(machine: &Machine, commands: &Path, style: Style) -> Result<()> {
    if machine.accel == crate::machine::accel::Accel::Bochs {
        let fix = "leave --on out".to_owned();
        return Err(Error::Argument { what: "gdb works with QEMU only".into(), fix });
    }
    if program_path(GDB).is_none() {
        return Err(Error::NotInstalled { program: GDB.into(), package: "gdb" });
    }
    // Ctrl-C stops the machine for gdb, not this tool.
    if style == Style::Interactive {
        children::leave_interrupts_to_others();
    }
    eprintln!("exo: {}", machine.shell_command());
    let mut command = Command::new(&machine.qemu);
    command.args(machine.arguments());
    let mut group = Group::spawn(&command, Progress::Shown).map_err(|source| Error::Io {
        action: "start",
        path: machine.qemu.clone().into(),
        source,
    })?;
    let lines = follow(group.child.stdout.take());
    std::thread::spawn(move || lines.iter().for_each(|(_, line)| println!("{line}")));
    if let Some(socket) = &machine.qmp {
        // Its sockets are there once this one answers.
        Qmp::connect_when_ready(socket)?;
    }
    let mut gdb = Command::new(GDB);
    gdb.args(["-nx", "-q"]).args((style == Style::Batch).then_some("-batch")).arg("-x").arg(commands);
    let status = gdb.status().map_err(Error::io("run", Path::new(GDB)))?;
    if status.success() {
        return Ok(());
    }
    let what = format!("gdb ended with {status}");
    let fix = format!("{} --print shows its commands", shell_quote("exo gdb"));
    Err(Error::Argument { what, fix })
}
