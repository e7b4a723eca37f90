//! What an application tells its cache, as one value: priorities of files, policies of priorities,
//! read-ahead.
//!
//! Its text can be given on a command line, so that plans are tried without compiling anything:
//!
//! ```text
//! 0=lirs,-1=mru,read-ahead=cluster,/cs/text=-1
//! ```
//!
//! says: LIRS for blocks of priority 0, MRU for those of priority −1, the file `/cs/text` has that priority,
//! and with a block comes what follows it, as much as one request carries. Bytes of a path that mean
//! something here are written `%2C`.

use crate::cache::{PolicyKind, ReadAheadKind};
use crate::error::FsError;
use crate::volume::Volume;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::str::FromStr;

/// What stands before the name of a read-ahead policy.
const READ_AHEAD: &str = "read-ahead";

/// Priorities, policies, read-ahead. Files that are not named have priority 0; priorities without a policy
/// have the cache's own. A program that always follows the same plan writes it down:
///
/// ```
/// # use libos_fs::{FsError, PolicyKind, ReadAheadKind, Volume};
/// # fn follow(volume: &Volume) -> Result<(), FsError> {
/// volume.cache().set_read_ahead(ReadAheadKind::Cluster);
/// volume.manager().set_policy(0, PolicyKind::Lirs);
/// volume.manager().set_priority(&volume.open("/index")?, 1)?;
/// volume.set_priority_below("/articles", -1)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePlan {
    /// The policy of a priority.
    pub policies: Vec<(i32, PolicyKind)>,
    /// The priority of a file, by its path; with `/` at its end, of all files that are below a directory now.
    pub files: Vec<(String, i32)>,
    /// The read-ahead policy, if it is not to stay as it is.
    pub read_ahead: Option<ReadAheadKind>,
}

impl CachePlan {
    /// Has the volume's cache follow the plan, from here on.
    ///
    /// # Errors
    ///
    /// If a file is not there, or belongs to another manager.
    pub fn apply(&self, volume: &Volume) -> Result<(), FsError> {
        let manager = volume.manager();
        if let Some(kind) = self.read_ahead {
            volume.cache().set_read_ahead(kind);
        }
        for (priority, policy) in &self.policies {
            manager.set_policy(*priority, *policy);
        }
        for (path, priority) in &self.files {
            match path.strip_suffix('/') {
                Some(directory) => volume.set_priority_below(directory, *priority)?,
                None => manager.set_priority(&volume.open(path)?, *priority)?,
            }
        }
        Ok(())
    }
}

/// Whether a byte of a path can't stand for itself.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'%' | b',' | b'=') || byte <= b' ' || byte >= 0x7f
}

impl fmt::Display for CachePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if let Some(kind) = self.read_ahead {
            write!(f, "{READ_AHEAD}={}", kind.name())?;
            comma = ",";
        }
        for (priority, policy) in &self.policies {
            write!(f, "{comma}{priority}={}", policy.name())?;
            comma = ",";
        }
        for (path, priority) in &self.files {
            f.write_str(comma)?;
            for byte in path.bytes() {
                if is_special(byte) { write!(f, "%{byte:02X}")? } else { f.write_char(char::from(byte))? }
            }
            write!(f, "={priority}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// A part of a text that is no part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlan(String);

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is neither a priority and its policy (-1=mru) nor a file and its priority (/path=-1) nor \
             read-ahead=none and the like",
            self.0
        )
    }
}

impl core::error::Error for BadPlan {}

impl FromStr for CachePlan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<CachePlan, BadPlan> {
        let mut plan = CachePlan::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            plan.add(part).ok_or_else(|| BadPlan(part.into()))?;
        }
        Ok(plan)
    }
}

impl CachePlan {
    fn add(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=')?;
        if name.starts_with('/') {
            self.files.push((decoded(name)?, value.parse().ok()?));
        } else if name == READ_AHEAD {
            self.read_ahead = Some(value.parse().ok()?);
        } else {
            self.policies.push((name.parse().ok()?, value.parse().ok()?));
        }
        Some(())
    }
}

/// A path with its special bytes as they are.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn plans_survive_the_command_line() {
        let plan = CachePlan {
            policies: vec![(0, PolicyKind::Lirs), (-1, PolicyKind::Mru)],
            files: vec![("/a b,c=%/ü".into(), -1), ("/x".into(), 7)],
            read_ahead: Some(ReadAheadKind::OneBlock),
        };
        let text = plan.to_string();
        assert_eq!(text, "read-ahead=one-block,0=lirs,-1=mru,/a%20b%2Cc%3D%25/%C3%BC=-1,/x=7");
        assert_eq!(text.parse(), Ok(plan));
        assert_eq!("".parse(), Ok(CachePlan::default()));
    }

    #[test]
    fn what_is_no_plan_is_told() {
        for bad in
            ["x", "0=lur", "a=lru", "/x=lru", "/x", "/%2=1", "/%zz=1", "/%ff=1", "1e9=lru", "read-ahead=1"]
        {
            assert!(bad.parse::<CachePlan>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
