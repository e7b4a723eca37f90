//! One boot of a program, and whether all counts of its blocks agree.

use super::super::boot::{DIRECT, LIMIT, whole_blocks};
use super::{APP, Comparison};
use crate::build::symbols::Symbols;
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::machine::accel::Accel;
use crate::machine::{Machine, direct};
use crate::session;
use crate::session::serial::{Line, parse};
use crate::units::Extent;
use pager::Program;
use results::PagingLine;

/// What is measured.
pub struct Setting<'a> {
    /// The program.
    pub program: Program,
    /// How many times the usual data.
    pub scale: usize,
    /// Frames, as the program understands them.
    pub memory: &'a str,
    /// Policy.
    pub policy: &'a str,
}

impl Setting<'_> {
    /// Words of the command line.
    pub fn words(&self) -> [String; 4] {
        [
            format!("program={}", self.program.name()),
            format!("policy={}", self.policy),
            format!("scale={}", self.scale),
            format!("frames={}", self.memory),
        ]
    }

    /// What it is, for messages.
    pub fn what(&self) -> String {
        format!("{} under {}", self.program.name(), self.policy)
    }
}

/// The result line among the lines of a machine, and all that was said besides.
#[derive(Default)]
pub struct Heard {
    line: Option<std::result::Result<PagingLine, String>>,
    said: Vec<String>,
}

impl Heard {
    /// Takes a line.
    pub fn line(&mut self, text: &str, symbols: &mut Symbols, verbose: bool) {
        let (own, shown) = match parse(text) {
            Line::Guest { name, text } => (text, symbols.annotate(name, text)),
            _ => (text, text.to_owned()),
        };
        match PagingLine::parse(own) {
            Some(line) => self.line = Some(line),
            None if !verbose => self.said.push(shown),
            None => eprintln!("{shown}"),
        }
    }

    /// The result line.
    pub fn result(self, setting: &Setting<'_>, ended: Result<()>) -> Result<PagingLine> {
        if let Err(error) = ended {
            self.said.iter().for_each(|line| eprintln!("{line}"));
            return Err(error);
        }
        let missing = |why: &str| Error::Measurement(format!("{}: {why}", setting.what()));
        self.line.ok_or_else(|| missing("no result line"))?.map_err(|why| missing(&why))
    }
}

/// Boots, waits for the result, and completes it.
pub fn boot(comparison: &Comparison<'_>, setting: &Setting<'_>) -> Result<PagingLine> {
    let Comparison { args, checkout, built, machine: arguments, .. } = comparison;
    let source = crate::build::Source::Member(APP.into());
    let environment = Environment {
        extent: Some(Extent::ALL),
        ..Environment::new(APP.to_owned(), source, setting.words().join(" "))
    };
    let mut symbols = Symbols::default();
    let mut machine: Machine = if args.direct {
        symbols.add(&environment.label, &built.apps[0].elf);
        direct::machine(checkout, &built.apps[0], &environment, arguments)?
    } else {
        let supply = arguments.supply();
        let bundle = pack(checkout, &built.kernel, &built.apps, &[environment], &supply, &mut symbols)?;
        arguments.machine(&built.kernel_file, &bundle)?
    };
    arguments.make_boot_image(&mut machine, checkout)?;
    if args.verbose && machine.accel != Accel::Bochs {
        eprintln!("exo: {}", machine.shell_command());
    }
    let mut heard = Heard::default();
    let limit = arguments.limit().unwrap_or(LIMIT);
    let outcome =
        session::run(&machine, Some(limit), &mut |line, _| heard.line(line, &mut symbols, args.verbose))?;
    let mut line = heard.result(setting, outcome.check())?;
    line.platform = Some(if args.direct { DIRECT } else { machine.accel.platform() }.to_owned());
    line.accel = Some(machine.accel.name().into());
    let mut counted = Vec::new();
    if let Some(own) = outcome.accounting_of(APP).filter(|_| !args.direct) {
        counted.push(("HyperExo", [own.disk_blocks_read, own.disk_blocks_written]));
    }
    if let (true, Some(stats)) = (machine.accel != Accel::Bochs, outcome.block_stats) {
        let blocks = |bytes| whole_blocks(bytes, &setting.what());
        counted.push(("QEMU", [blocks(stats.rd_bytes)?, blocks(stats.wr_bytes)?]));
    }
    for (who, [reads, writes]) in counted {
        if [reads, writes] != [line.reads, line.writes] {
            return Err(Error::Measurement(format!(
                "{}: counts differ: {} pages read and {} written by the pager's count; {reads} and {writes} by {who}'s",
                setting.what(),
                line.reads,
                line.writes
            )));
        }
    }
    Ok(line)
}
