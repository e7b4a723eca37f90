//! What the user asks for, judged before anything is made or booted.

use super::PeerSystem;
use crate::error::{Error, Result};
use crate::machine::Board;
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::units::parse_size;
use filecache::linux::PeerPolicy;
use filecache::{CacheSize, Workload};
use hyperexo_abi::BLOCK_BYTES;
use libos_fs::ReadAheadKind;

/// Refuses what can't be had without HyperExo before anything is made.
pub fn check_direct(machine: &MachineArgs, peer: Option<PeerSystem>) -> Result<()> {
    let refuse = |what: &str, fix: &str| Err(Error::Argument { what: what.into(), fix: fix.into() });
    if machine.direct_accelerator()?.0 == Accel::Bochs {
        return refuse(
            "--direct needs a virtio disk, which Bochs has not",
            "leave --on bochs out, or --direct: HyperExo has the disk in memory there",
        );
    }
    if !machine.kernel_args.is_empty() {
        return refuse("--kernel-args are for HyperExo, which --direct leaves out", "leave one of them out");
    }
    if machine.machine == Board::Microvm && peer.is_some() {
        return refuse(
            "the Linux guest's console does not work reliably on microvm",
            "--machine q35, or leave --peer out",
        );
    }
    Ok(())
}

/// Refuses the first of these options of other applications that is given, by saying what to do instead.
pub fn check_options(app: &str, options: &[(bool, &str, &str)]) -> Result<()> {
    match options.iter().find(|(given, ..)| *given) {
        Some((_, what, fix)) => {
            Err(Error::Argument { what: format!("{what} is not for exo compare {app}"), fix: (*fix).into() })
        }
        None => Ok(()),
    }
}

/// Refuses a list that names something twice.
pub fn check_once(what: &str, list: &[String]) -> Result<()> {
    match list.iter().enumerate().find(|(at, name)| list[..*at].contains(name)) {
        Some((_, name)) => {
            let fix = "name each once; --runs N repeats".to_owned();
            Err(Error::Argument { what: format!("{what} {name} is named twice"), fix })
        }
        None => Ok(()),
    }
}

/// Why an application can't be asked for less.
pub fn not_quick(app: &str) -> Error {
    Error::Argument {
        what: format!("--quick is not for exo compare {app}"),
        fix: "leave it out, or name fewer --workloads".into(),
    }
}

/// Refuses what several cores can't have.
pub fn check_cores(cores: u32, peer: Option<PeerSystem>, verify: bool, read_ahead: &[String]) -> Result<()> {
    let refuse = |what: &str, fix: &str| Err(Error::Argument { what: what.into(), fix: fix.into() });
    let disclosed = read_ahead.iter().find(|name| matches!(name.as_str(), "directed" | "aggressive"));
    match (cores, peer, verify, disclosed) {
        (0 | 1, ..) => Ok(()),
        (_, Some(_), ..) => {
            refuse("the programs of the peer run on one core", "--cores 1, or leave --peer out")
        }
        (_, _, true, _) => {
            refuse("what several cores count depends on who is where when", "--verify with --cores 1")
        }
        (_, _, _, Some(name)) => refuse(
            &format!("read-ahead {name} follows disclosures, which one core makes"),
            "--cores 1, or --read-ahead none,one-block,sequential,cluster",
        ),
        _ => Ok(()),
    }
}

/// Refuses names that filecache does not know before anything is booted.
pub fn check_names(workloads: &[String], policies: &[String], read_ahead: &[String]) -> Result<()> {
    let problem =
        |what: &str, name: &str, why: String| Error::Argument { what: format!("{what} {name:?}"), fix: why };
    for name in workloads {
        name.parse::<Workload>().map_err(|why| problem("workload", name, why.to_string()))?;
    }
    for name in policies.iter().filter(|name| PeerPolicy::named(name).is_none()) {
        name.parse::<filecache::Policy>().map_err(|why| problem("policy", name, why.to_string()))?;
    }
    for name in read_ahead {
        name.parse::<ReadAheadKind>().map_err(|why| problem("read-ahead", name, why.to_string()))?;
    }
    Ok(())
}

/// The values of `cache=` for the guest: shares as they are, sizes in blocks.
pub fn cache_words(sizes: &[String]) -> Result<Vec<String>> {
    let wrong =
        |what: String| Error::Argument { what, fix: "--cache 80%, --cache 4M or --cache paper:6.4".into() };
    let mut words = Vec::new();
    for text in sizes {
        if text == "paper" {
            words.extend(["paper:6.4", "paper:8", "paper:12", "paper:16"].map(str::to_owned));
        } else if text.ends_with('%') || text.starts_with("paper:") {
            text.parse::<CacheSize>().map_err(|why| wrong(format!("{text:?} {why}")))?;
            words.push(text.clone());
        } else {
            let blocks = parse_size(text).map_err(wrong)? / BLOCK_BYTES as u64;
            if blocks == 0 {
                return Err(wrong(format!("{text} is less than a block of {BLOCK_BYTES} bytes")));
            }
            words.push(blocks.to_string());
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_direct_runs_cannot_have_is_refused() {
        let check = |words: &[&str], peer| {
            let error = MachineArgs::of(words).and_then(|machine| check_direct(&machine, peer)).err();
            error.map_or(String::new(), |error| error.to_string())
        };
        assert_eq!(check(&["--machine", "microvm", "--accel", "tcg"], None), "");
        assert_eq!(check(&["--accel", "tcg"], Some(PeerSystem::Linux)), "");
        assert!(check(&["--on", "bochs"], None).contains("Bochs has not"));
        assert!(check(&["--accel", "tcg", "--kernel-args", "slice-us=9"], None).contains("--kernel-args"));
        let microvm = ["--machine", "microvm", "--accel", "tcg"];
        assert!(check(&microvm, Some(PeerSystem::Linux)).contains("on microvm"));
    }

    #[test]
    fn what_several_cores_cannot_have_is_refused() {
        let none: [String; 0] = [];
        let linux = Some(PeerSystem::Linux);
        assert!(check_cores(1, linux, true, &["directed".into()]).is_ok());
        assert!(check_cores(2, None, false, &["none".into()]).is_ok());
        for (peer, verify, ahead) in
            [(linux, false, &none[..]), (None, true, &none), (None, false, &["directed".into()])]
        {
            assert!(check_cores(2, peer, verify, ahead).is_err());
        }
    }

    #[test]
    fn cache_sizes() {
        let words = |text: &str| cache_words(&[text.to_owned()]);
        assert_eq!(words("80%").unwrap(), ["80%"]);
        assert_eq!(words("4M").unwrap(), ["1024"]);
        assert_eq!(words("paper").unwrap(), ["paper:6.4", "paper:8", "paper:12", "paper:16"]);
        for wrong in ["0%", "x%", "100", "M", "paper:0"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }
}
