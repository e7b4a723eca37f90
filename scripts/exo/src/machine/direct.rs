//! A unikernel directly on a machine, without HyperExo.

use crate::build::image::Image;
use crate::bundle::environments::Environment;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use crate::machine::args::MachineArgs;
use crate::machine::{Direct, Machine};

/// The machine on which an image runs by itself, with the name and words of `environment`.
pub fn machine(
    checkout: &Checkout,
    image: &Image,
    environment: &Environment,
    args: &MachineArgs,
) -> Result<Machine> {
    let direct = Direct { name: environment.label.clone(), words: environment.words.clone(), labelled: true };
    args.direct_machine(&file(checkout, image)?, direct)
}

/// The image as a file to boot, named after its content.
fn file(checkout: &Checkout, image: &Image) -> Result<std::path::PathBuf> {
    let name = format!("{}-{:08x}.elf", image.name, image.checksum());
    let path = checkout.artefacts("images")?.join(name);
    write_atomically(&path, &image.bytes)?;
    Ok(path)
}

/// The one environment that there can be.
pub fn single(environments: &[Environment]) -> Result<&Environment> {
    match environments {
        [one] => Ok(one),
        more => Err(Error::Argument {
            what: format!("{} applications on a machine without HyperExo", more.len()),
            fix: "name one, or leave --direct out".into(),
        }),
    }
}
