//! One boot of the store with one kind of traffic.

use super::super::boot::{DIRECT, LIMIT};
use super::{APP, Comparison, Policy};
use crate::build::Source;
use crate::build::symbols::Symbols;
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::machine::direct;
use crate::session;
use crate::session::serial::{Line, parse};
use kv::traffic::Traffic;
use results::KvLine;

/// Value of `--icount` with which a nanosecond of the machine is an instruction.
pub const COUNTED: &str = "shift=0";

/// Boots, waits for the result, and completes it.
pub fn boot(comparison: &Comparison<'_>, traffic: Traffic, share: u64, policy: &Policy) -> Result<KvLine> {
    let Comparison { args, checkout, built, machine: arguments, .. } = comparison;
    let source = Source::Member(APP.into());
    let words = format!(
        "traffic={} part={} maxmemory={share}% maxmemory-policy={}",
        traffic.name(),
        comparison.part(),
        policy.of_store
    );
    let environment = Environment::new(APP.to_owned(), source, words);
    let mut symbols = Symbols::default();
    let mut machine = if args.direct {
        symbols.add(&environment.label, &built.apps[0].elf);
        direct::machine(checkout, &built.apps[0], &environment, arguments)?
    } else {
        let supply = arguments.supply();
        let bundle = pack(checkout, &built.kernel, &built.apps, &[environment], &supply, &mut symbols)?;
        arguments.machine(&built.kernel_file, &bundle)?
    };
    arguments.make_boot_image(&mut machine, checkout)?;
    let (mut found, mut said) = (None, Vec::new());
    let limit = arguments.limit().unwrap_or(LIMIT);
    let outcome = session::run(&machine, Some(limit), &mut |text, _| {
        let (own, shown) = match parse(text) {
            Line::Guest { name, text } => (text, symbols.annotate(name, text)),
            _ => (text, text.to_owned()),
        };
        match KvLine::parse(own) {
            Some(line) => found = Some(line),
            None if args.verbose => eprintln!("{shown}"),
            None => said.push(shown),
        }
    })?;
    if let Err(error) = outcome.check() {
        said.iter().for_each(|line| eprintln!("{line}"));
        return Err(error);
    }
    let missing = |why: &str| Error::Measurement(format!("{} under {}: {why}", traffic.name(), policy.name));
    let line = found.ok_or_else(|| missing("no result line"))?.map_err(|why| missing(&why))?;
    let counted = machine.icount.as_deref() == Some(COUNTED);
    let instructions = line.server_ns as f64 / line.commands.max(1) as f64;
    Ok(KvLine {
        policy: policy.name.clone(),
        role: policy.role,
        instructions_per_command: counted.then_some(instructions),
        platform: Some(if args.direct { DIRECT } else { machine.accel.platform() }.to_owned()),
        accel: Some(machine.accel.name().into()),
        ..line
    })
}
