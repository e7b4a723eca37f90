//! How much code a policy is: lines that are neither blank nor comment nor test, in the file that holds it.
//!
//! Of an application's own policy that is the file in its workload's folder; of a policy of the library, its
//! file or folder in `libos-fs/src/cache/policies/`. What these use of other files is not counted: neither
//! the library's lists, nor what one workload takes from another.

use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::source;
use filecache::{Policy, Workload};
use libos_fs::PolicyKind;
use std::path::{Path, PathBuf};

/// Lines of the policy that runs under this name; `None` if that is the default, for which nobody writes any,
/// and for names that are not `filecache`'s.
///
/// # Errors
///
/// If the sources can't be read, or are no Rust.
pub fn of(checkout: &Checkout, workload: &str, policy: &str) -> Result<Option<u64>> {
    let place = match (workload.parse::<Workload>(), policy.parse::<Policy>()) {
        (Ok(workload), Ok(Policy::Own)) => {
            checkout.root.join("unikernels/filecache/src").join(workload.own_policy_file())
        }
        (_, Ok(Policy::Forced(kind))) => place_of(&checkout.root, kind),
        _ => return Ok(None),
    };
    sources(&place)?.iter().map(|path| lines_of_file(path)).sum::<Result<u64>>().map(Some)
}

/// File or folder of a policy of the library.
fn place_of(root: &Path, kind: PolicyKind) -> PathBuf {
    let module = match kind {
        PolicyKind::TwoQ => "two_q".to_owned(),
        kind => kind.name().replace('-', "_"),
    };
    let folder = root.join("libos-fs/src/cache/policies");
    let file = folder.join(format!("{module}.rs"));
    if file.is_file() { file } else { folder.join(module) }
}

/// The file, or the files in the folder.
fn sources(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_path_buf()]);
    }
    let listing = std::fs::read_dir(place).map_err(Error::io("list", place))?;
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect())
}

fn lines_of_file(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    source::lines(&text).map_err(|why| Error::Measurement(format!("{}: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_lines() {
        let checkout = Checkout::find().unwrap();
        let of = |workload: &str, policy: &str| of(&checkout, workload, policy).unwrap();
        for workload in Workload::ALL {
            let lines = of(workload.name(), "own").unwrap();
            assert!((3..100).contains(&lines), "{}: {lines}", workload.name());
        }
        for kind in PolicyKind::ALL {
            let lines = of("din", kind.name()).unwrap();
            assert!((10..500).contains(&lines), "{kind:?}: {lines}");
        }
        assert_eq!((of("din", "default"), of("din", "linux")), (None, None));
        assert_eq!(of("another application's", "own"), None);
    }
}
