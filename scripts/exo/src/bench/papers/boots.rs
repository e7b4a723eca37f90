//! Ours and Linux's figures: what the unikernel `primitives` says, and the program of the same name in a
//! guest.

use crate::build::Built;
use crate::build::Source;
use crate::build::symbols::Symbols;
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::linux::{Kernel, LinuxGuest, Step, static_program};
use crate::machine::Machine;
use crate::machine::args::{AccelChoice, Emulator, MachineArgs};
use crate::machine::direct;
use crate::session;
use crate::session::serial::{Line, parse};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The unikernel.
pub const APP: &str = "primitives";
/// The program in the guest.
const PROGRAM: &str = "/primitives";
/// Time limit of a boot unless the user gives one.
const LIMIT: Duration = Duration::from_secs(300);
/// Operations in a batch, for a quick look.
const FEW: u32 = 20;

/// Where ours is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Platform {
    /// Under HyperExo, in QEMU's emulation of SVM: instructions
    QemuSvm,
    /// Directly on QEMU's machine: instructions
    Direct,
    /// Under HyperExo, in Bochs's emulation of VMX: ticks
    BochsVmx,
}

impl Platform {
    /// All of them.
    pub const ALL: [Platform; 3] = [Platform::QemuSvm, Platform::Direct, Platform::BochsVmx];

    /// As in results.
    pub fn name(self) -> &'static str {
        match self {
            Platform::QemuSvm => "qemu-svm",
            Platform::Direct => "direct",
            Platform::BochsVmx => "bochs-vmx",
        }
    }

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Platform::QemuSvm | Platform::Direct => "instructions",
            Platform::BochsVmx => "ticks",
        }
    }

    /// Whether the Linux guest is measured in the same unit.
    pub fn counts_as_linux(self) -> bool {
        self != Platform::BochsVmx
    }
}

/// What was measured: ticks of one operation, by primitive, the loop around it taken off.
pub type Measured = BTreeMap<String, f64>;

/// A line of the unikernel, and of the program.
#[derive(Deserialize)]
struct Primitive {
    primitive: String,
    ticks: f64,
}

/// The turn of a measuring loop around nothing.
const EMPTY: &str = "nothing";
/// Primitives whose batch is a single call: there is no loop to take off.
const SINGLE: [&str; 4] = ["matrix", "prot100", "unprot100", "dirty100"];

/// Takes the figures out of what was said.
fn figures<'a>(lines: impl Iterator<Item = &'a str>) -> Measured {
    let all: Vec<Primitive> = lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect();
    let empty = all.iter().find(|one| one.primitive == EMPTY).map_or(0.0, |one| one.ticks);
    let around = |one: &Primitive| if SINGLE.contains(&one.primitive.as_str()) { 0.0 } else { empty };
    let net = |one: &Primitive| (one.ticks - around(one)).max(0.0);
    all.iter().map(|one| (one.primitive.clone(), net(one))).collect()
}

/// Boots the unikernel on a platform.
pub fn ours(
    checkout: &Checkout,
    built: &Built,
    arguments: &MachineArgs,
    platform: Platform,
    groups: &[&str],
    quick: bool,
) -> Result<Measured> {
    eprintln!("exo: {APP}, {}: {}", platform.name(), groups.join(", "));
    let mut words = format!("only={}", groups.join(","));
    if quick {
        words += &format!(" rounds={FEW}");
    }
    let environment = Environment::new(APP.into(), Source::Member(APP.into()), words);
    let emulator = if platform == Platform::BochsVmx { Emulator::Bochs } else { Emulator::Qemu };
    let mut arguments = MachineArgs { on: Some(emulator), ..arguments.clone() };
    if platform != Platform::BochsVmx {
        count_instructions(&mut arguments);
    }
    let machine = match platform {
        Platform::Direct => direct::machine(checkout, &built.apps[0], &environment, &arguments)?,
        Platform::QemuSvm | Platform::BochsVmx => {
            let (supply, mut symbols) = (arguments.supply(), Symbols::default());
            let bundle = pack(checkout, &built.kernel, &built.apps, &[environment], &supply, &mut symbols)?;
            arguments.machine(&built.kernel_file, &bundle)?
        }
    };
    said(&machine, &arguments)
}

/// Boots Linux with the program.
pub fn linux(checkout: &Checkout, arguments: &MachineArgs, groups: &[&str]) -> Result<Measured> {
    eprintln!("exo: {APP}, linux: {}", groups.join(", "));
    let mut guest = LinuxGuest::new(Kernel::fetch(checkout)?);
    guest.file_systems = true;
    guest.files = vec![(PROGRAM.into(), static_program(checkout, APP, &["linux"])?)];
    guest.steps = vec![Step::Run { path: PROGRAM.into(), words: vec![format!("only={}", groups.join(","))] }];
    let mut arguments = MachineArgs { on: Some(Emulator::Qemu), ..arguments.clone() };
    count_instructions(&mut arguments);
    said(&guest.machine(checkout, &arguments)?, &arguments)
}

/// Only the emulator counts instructions.
fn count_instructions(arguments: &mut MachineArgs) {
    arguments.accel = AccelChoice::Tcg;
    arguments.icount.get_or_insert_with(|| "shift=0".into());
}

/// Runs a machine to its end; the figures that its program told.
fn said(machine: &Machine, arguments: &MachineArgs) -> Result<Measured> {
    let mut lines = Vec::new();
    let limit = arguments.limit().unwrap_or(LIMIT);
    let outcome = session::run(machine, Some(limit), &mut |line, _| match parse(line) {
        Line::Guest { text, .. } | Line::Other(text) => lines.push(text.to_owned()),
        _ => {}
    })?;
    if let Err(error) = outcome.check() {
        // What the guest said explains its end.
        lines.iter().for_each(|line| eprintln!("{line}"));
        return Err(error);
    }
    match figures(lines.iter().map(String::as_str)) {
        none if none.is_empty() => Err(Error::Measurement(format!("{APP} told no figures"))),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_without_the_loop() {
        let lines = [
            r#"{"primitive":"nothing","operations":200,"ticks":3.00,"exits":{}}"#,
            "something else",
            "{\"primitive\":\"trap\",\"operations\":200,\"ticks\":93.50,\"exits\":{}}\r",
            r#"{"primitive":"matrix","operations":1,"ticks":20000001.00,"exits":{}}"#,
        ];
        let found = figures(lines.into_iter());
        assert_eq!([found["nothing"], found["trap"], found["matrix"]], [0.0, 90.5, 20_000_001.0]);
    }
}
