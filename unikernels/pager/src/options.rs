//! What a command line asks for.

use crate::programs::{OwnPolicy, Program, UnknownProgram};
use alloc::format;
use alloc::string::{String, ToString};
use libos_fs::PolicyKind;
use results::Role;

/// How pages are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// CLOCK; nobody listens to the program.
    Default,
    /// The program's own: it is listened to.
    Own,
    /// One of the library's; nobody listens to the program.
    Named(PolicyKind),
}

impl Policy {
    /// The policy of this name.
    ///
    /// # Errors
    ///
    /// A text that names those there are.
    pub fn parse(name: &str) -> Result<Policy, String> {
        match name {
            "default" => Ok(Policy::Default),
            "own" => Ok(Policy::Own),
            _ => name
                .parse()
                .map(Policy::Named)
                .map_err(|error| format!("policy {name:?}: default, own; {error}")),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Default => "default",
            Policy::Own => "own",
            Policy::Named(kind) => kind.name(),
        }
    }

    /// Where it comes from.
    pub fn role(self) -> Role {
        match self {
            Policy::Default => Role::Default,
            Policy::Own => Role::Own,
            Policy::Named(_) => Role::Other,
        }
    }

    /// What is behind it.
    pub fn of(self, program: Program) -> OwnPolicy {
        match self {
            Policy::Default => OwnPolicy::Library(PolicyKind::Clock),
            Policy::Own => program.own_policy(),
            Policy::Named(kind) => OwnPolicy::Library(kind),
        }
    }
}

/// Words of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `program=NAME`.
    pub program: Program,
    /// `policy=NAME`: `default` if not given.
    pub policy: Policy,
    /// `scale=N`: N times the usual data; 1 if not given.
    pub scale: usize,
    /// `frames=N` or `frames=N%` of the program's pages: [`Program::usual_frames`] if not given.
    pub frames: usize,
    /// `record=1`: page references are recorded.
    pub record: bool,
}

impl Options {
    /// Reads them; `value` gives the value of a word.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<Options, String> {
        let program: Program = value("program")
            .ok_or_else(|| format!("no program=NAME; {UnknownProgram}"))?
            .parse()
            .map_err(|error: UnknownProgram| error.to_string())?;
        let policy = Policy::parse(value("policy").unwrap_or("default"))?;
        let scale = scale(value("scale").unwrap_or("1"))?;
        let frames = frames(value("frames").unwrap_or(program.usual_frames()), program.pages(scale))?;
        let record = match value("record") {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(format!("record={other}: 0 or 1")),
        };
        Ok(Options { program, policy, scale, frames, record })
    }
}

/// How many times the usual data there are.
///
/// # Errors
///
/// What is wrong, in words.
pub fn scale(text: &str) -> Result<usize, String> {
    /// Beyond that, keys are drawn from too few numbers.
    const MOST: usize = 32;
    let wrong = || format!("scale={text}: a number from 1 to {MOST}");
    text.parse().ok().filter(|scale| (1..=MOST).contains(scale)).ok_or_else(wrong)
}

/// Frames: a number, or a share of the pages.
///
/// # Errors
///
/// What is wrong, in words.
pub fn frames(text: &str, pages: u64) -> Result<usize, String> {
    let wrong = || format!("frames={text}: a number from 8 on, or a share from 1% to 100%");
    let frames = match text.strip_suffix('%') {
        Some(share) => {
            let share: u64 = share.parse().map_err(|_| wrong())?;
            if !(1..=100).contains(&share) {
                return Err(wrong());
            }
            (pages * share / 100).max(8)
        }
        None => text.parse().map_err(|_| wrong())?,
    };
    if (8..=1 << 20).contains(&frames) { Ok(frames as usize) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_judged() {
        let parse = |words: &'static [(&str, &str)]| {
            Options::parse(|key| words.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
        };
        let options = parse(&[("program", "sort"), ("frames", "50%"), ("policy", "lru")]).unwrap();
        assert_eq!((options.frames as u64, options.record), (Program::Sort.pages(1) / 2, false));
        assert_eq!(options.policy.of(options.program), OwnPolicy::Library(PolicyKind::Lru));
        let options = parse(&[("program", "index"), ("scale", "3")]).unwrap();
        assert_eq!(options.frames as u64, Program::Index.pages(3) * 66 / 100);
        for wrong in [
            &[("policy", "own")][..],
            &[("program", "x")],
            &[("program", "bfs"), ("policy", "x")],
            &[("program", "bfs"), ("frames", "0%")],
            &[("program", "bfs"), ("frames", "7")],
            &[("program", "bfs"), ("frames", "101%")],
            &[("program", "bfs"), ("record", "yes")],
            &[("program", "bfs"), ("scale", "0")],
            &[("program", "bfs"), ("scale", "33")],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
