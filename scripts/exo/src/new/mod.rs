//! `exo new`: an application outside the checkout that builds and runs.

use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use std::path::{Path, PathBuf};

/// Arguments of `exo new`.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// Name of the application; also the directory, unless --path says otherwise
    name: String,
    /// Directory to make
    #[arg(long)]
    path: Option<PathBuf>,
}

/// The files of a new application. `@NAME@`, `@ROOT@` and `@CHANNEL@` are filled in.
const TEMPLATE: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../template/Cargo.toml.in")),
    ("build.rs", include_str!("../../template/build.rs.in")),
    ("src/main.rs", include_str!("../../template/main.rs.in")),
    (".cargo/config.toml", include_str!("../../template/config.toml.in")),
    ("rust-toolchain.toml", include_str!("../../template/rust-toolchain.toml.in")),
    (".gitignore", "/target\n*.img\n"),
    ("README.md", include_str!("../../template/README.md.in")),
];

/// The verb.
pub fn create(args: &NewArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let path = args.path.clone().unwrap_or_else(|| args.name.clone().into());
    let name = Path::new(&args.name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    write(&checkout.root, &name, &path)?;
    eprintln!("exo: made {}; run it with `cargo exo run {}` in the checkout", path.display(), shown(&path));
    Ok(())
}

/// A path that `exo run` takes for one.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

/// Writes the files of an application called `name` into the new directory `path`.
pub fn write(root: &Path, name: &str, path: &Path) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts_well || !name.chars().all(plain) || name.len() > hyperexo_abi::start::NAME_BYTES {
        let fix = "a letter first, then letters, digits, - and _, at most 32".to_owned();
        return Err(Error::Argument { what: format!("{name:?} can't be the name of an application"), fix });
    }
    if path.exists() {
        let fix = "choose another name, or another directory with --path".to_owned();
        return Err(Error::Argument { what: format!("{} exists already", path.display()), fix });
    }
    let toolchain = root.join("rust-toolchain.toml");
    let toolchain = std::fs::read_to_string(&toolchain).map_err(Error::io("read", &toolchain))?;
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap_or("\"stable\"");
    for (file, text) in TEMPLATE {
        let target = path.join(file);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let text = text
            .replace("@NAME@", name)
            .replace("@ROOT@", &root.display().to_string())
            .replace("@CHANNEL@", channel);
        write_atomically(&target, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_filled_in() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Checkout::find().unwrap().root;
        let path = scratch.path().join("deep/app");
        write(&root, "my-app", &path).unwrap();
        for (file, _) in TEMPLATE {
            let text = std::fs::read_to_string(path.join(file)).unwrap();
            assert!(
                !text.contains("@NAME@") && !text.contains("@ROOT@") && !text.contains("@CHANNEL@"),
                "{file}"
            );
        }
        assert!(write(&root, "my-app", &path).is_err(), "exists already");
        for wrong in ["", "1st", "a b", "ä"] {
            assert!(write(&root, wrong, &scratch.path().join("x")).is_err(), "{wrong}");
        }
    }
}
