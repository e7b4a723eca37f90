//! `exo build`: cargo makes the images, this cuts them down to what is booted.

pub mod image;
pub mod symbols;

use crate::build::image::Image;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::children::{Group, Progress, describe, interrupted};
use crate::host::output::write_atomically;
use crate::host::programs::program_path;
use crate::units::human_bytes;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cargo profile of images.
const PROFILE: &str = "image";
/// Package and binary of the exokernel.
pub const KERNEL: &str = "hyperexo";

/// Arguments of `exo build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Unikernels of the checkout, or directories of applications elsewhere; all of the checkout if none is
    /// named
    apps: Vec<String>,
    /// Features to build with, such as httpd/tls; may be repeated
    #[arg(long, value_name = "PACKAGE/FEATURE", value_delimiter = ',')]
    features: Vec<String>,
}

/// Where the code of an application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A unikernel of the checkout.
    Member(String),
    /// The directory of a crate elsewhere.
    Directory(PathBuf),
    /// An ELF file, used as it is.
    File(PathBuf),
}

impl Source {
    /// Understands what the user wrote: a name, or the path of a directory or file.
    pub fn of(text: &str, checkout: &Checkout) -> Result<Source> {
        let known = checkout.unikernels()?;
        if known.iter().any(|name| name == text) {
            return Ok(Source::Member(text.to_owned()));
        }
        let path = Path::new(text);
        let absolute = || std::path::absolute(path).map_err(Error::io("resolve", path));
        if path.join("Cargo.toml").is_file() {
            return Ok(Source::Directory(absolute()?));
        }
        if path.is_file() {
            return Ok(Source::File(absolute()?));
        }
        if path.is_dir() {
            return Err(Error::Argument {
                what: format!("{text} is a directory without Cargo.toml"),
                fix: format!("`exo new {text}` makes an application"),
            });
        }
        Err(Error::UnknownApp { name: text.to_owned(), known })
    }

    /// Name that an environment made from it has by default.
    pub fn name(&self) -> String {
        match self {
            Source::Member(name) => name.clone(),
            Source::Directory(path) | Source::File(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                stem.chars()
                    .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
                    .collect()
            }
        }
    }
}

/// The verb.
pub fn build(args: &BuildArgs) -> Result<()> {
    let checkout = Checkout { features: args.features.clone(), ..Checkout::find()? };
    let names = if args.apps.is_empty() { checkout.unikernels()? } else { args.apps.clone() };
    let sources = names.iter().map(|name| Source::of(name, &checkout)).collect::<Result<Vec<_>>>()?;
    let built = images(&checkout, &sources, Freshness::Build)?;
    println!("{:<16} {:>12} {:>12} {:>12}  symbols", "image", "booted", "in memory", "with symbols");
    for image in std::iter::once(&built.kernel).chain(&built.apps) {
        let unstripped = image.elf.metadata().map_or(0, |meta| meta.len());
        println!(
            "{:<16} {:>12} {:>12} {:>12}  {}",
            image.name,
            human_bytes(image.bytes.len() as u64),
            human_bytes(image.memory_bytes),
            human_bytes(unstripped),
            image.elf.display()
        );
    }
    Ok(())
}

/// What `exo run` boots.
#[derive(Debug)]
pub struct Built {
    /// The exokernel.
    pub kernel: Image,
    /// Cut-down ELF of the kernel, for `qemu -kernel`.
    pub kernel_file: PathBuf,
    /// The applications, in the order asked for.
    pub apps: Vec<Image>,
}

/// Whether to build first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Let cargo bring everything up to date.
    Build,
    /// Use what the last build left.
    AsIs,
}

/// Builds the kernel and `sources`, and cuts the images down.
pub fn images(checkout: &Checkout, sources: &[Source], freshness: Freshness) -> Result<Built> {
    let mut members = vec![KERNEL.to_owned()];
    for source in sources {
        if let Source::Member(name) = source
            && !members.contains(name)
        {
            members.push(name.clone());
        }
    }
    let in_workspace = match freshness {
        Freshness::Build => workspace(checkout, &members)?,
        Freshness::AsIs => last_built(checkout, &members),
    };
    let find = |name: &str| -> Result<PathBuf> {
        in_workspace.get(name).cloned().ok_or_else(|| Error::Cargo {
            what: name.to_owned(),
            status: "it has no binary of that name".into(),
        })
    };
    let kernel = Image::read(KERNEL, &find(KERNEL)?)?;
    let kernel_file = checkout.artefacts("images")?.join("hyperexo.elf");
    write_atomically(&kernel_file, &kernel.bytes)?;
    let mut apps = Vec::new();
    for source in sources {
        apps.push(match source {
            Source::Member(name) => Image::read(name, &find(name)?)?,
            Source::Directory(path) => Image::read(&source.name(), &elsewhere(path, freshness)?)?,
            Source::File(path) => Image::read_verbatim(&source.name(), path)?,
        });
    }
    Ok(Built { kernel, kernel_file, apps })
}

/// Builds packages of the checkout; returns the executables by name.
fn workspace(checkout: &Checkout, packages: &[String]) -> Result<HashMap<String, PathBuf>> {
    let mut arguments = vec!["build", "--profile", PROFILE];
    for package in packages {
        arguments.extend(["-p", package]);
    }
    let target = checkout.target.to_string_lossy();
    arguments.extend(["--target-dir", &target]);
    for feature in &checkout.features {
        arguments.extend(["--features", feature]);
    }
    cargo(&checkout.root, &arguments, &packages.join(", "))
}

/// Builds the crate in a directory elsewhere; returns its executable.
fn elsewhere(directory: &Path, freshness: Freshness) -> Result<PathBuf> {
    let what = directory.display().to_string();
    let mut arguments = vec!["build", "--profile", PROFILE];
    if freshness == Freshness::AsIs {
        arguments.push("--quiet");
    }
    let executables = cargo(directory, &arguments, &what)?;
    let mut paths = executables.into_values();
    match (paths.next(), paths.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => Err(Error::Cargo { what, status: "it has no binary".into() }),
        (Some(_), Some(_)) => Err(Error::Cargo { what, status: "it has more than one binary".into() }),
    }
}

fn last_built(checkout: &Checkout, packages: &[String]) -> HashMap<String, PathBuf> {
    let folder = checkout.target.join(PROFILE);
    packages.iter().map(|name| (name.clone(), folder.join(name))).filter(|(_, path)| path.is_file()).collect()
}

/// Runs cargo, its progress shown, and returns the executables it made (or found fresh) by name.
pub fn cargo(directory: &Path, arguments: &[&str], what: &str) -> Result<HashMap<String, PathBuf>> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    if program_path(&program).is_none() {
        return Err(Error::NotInstalled { program, package: "rustup, then `rustup toolchain install`" });
    }
    let mut command = Command::new(&program);
    command.args(arguments).arg("--message-format=json-render-diagnostics").current_dir(directory);
    // Variables that cargo sets for this tool when it runs it, and that must not leak into another build.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_BIN_")
            || name.starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(&key);
        }
    }
    let failed = |source| Error::Io { action: "run", path: program.clone().into(), source };
    let mut group = Group::spawn(&command, Progress::Shown).map_err(failed)?;
    let mut executables = HashMap::new();
    if let Some(stdout) = group.child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line =
                line.map_err(|source| Error::Io { action: "read from", path: "cargo".into(), source })?;
            executables.extend(executable(&line));
        }
    }
    let status =
        group.wait().map_err(|source| Error::Io { action: "wait for", path: "cargo".into(), source })?;
    if interrupted() {
        return Err(Error::Interrupted);
    }
    if !status.success() {
        return Err(Error::Cargo { what: what.to_owned(), status: describe(status) });
    }
    Ok(executables)
}

/// Name and path of the binary that a message of cargo announces.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_binary = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "bin");
    let path = message["executable"].as_str().filter(|_| is_binary)?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo() {
        let text = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"hello"},"executable":"/t/hello"}"#;
        assert_eq!(executable(text), Some(("hello".into(), "/t/hello".into())));
        let library =
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("not json"), None);
    }

    #[test]
    fn names_of_environments_are_plain() {
        assert_eq!(Source::Directory("/a/my app!".into()).name(), "my-app-");
        assert_eq!(Source::File("/a/x.elf".into()).name(), "x");
    }
}
