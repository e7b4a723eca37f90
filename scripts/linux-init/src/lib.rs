//! What the first program of a Linux guest does: the plan, as `exo` writes it and as the guest reads it.
//!
//! A plan is a text, one step a line, at [`PLAN_PATH`] in the initial file system:
//!
//! | line | step |
//! |---|---|
//! | `say TEXT` | print a line |
//! | `module PATH` | load a kernel module |
//! | `mount TYPE SOURCE TARGET [OPTIONS]` | mount a file system; the directory is made if it is missing |
//! | `run PATH` | run a program, with the lines `word WORD` that follow as its arguments; the first that fails is the last |
//!
//! Then the guest prints [`FINISHED`] with a status: 0, or what the program that failed ended with.
#![forbid(unsafe_code)]

use std::fmt;

/// Path of the plan in the guest.
pub const PLAN_PATH: &str = "/plan";
/// What the guest's last line starts with; the status follows.
pub const FINISHED: &str = "linux: finished: status ";
/// What a line starts with that says why a step failed.
pub const ERROR: &str = "linux: error: ";
/// Word of the kernel's command line: end the machine when done (`end=exit`), or halt, so that the emulator's
/// counters can be read. Linux passes it to its first program as an environment variable.
pub const END: &str = "end";

/// Word with which `/init`, run as a second program, is a server of streams: `streams PORT`. The first
/// byte of a client says what the server does until the client has gone: `<` gives bytes without end, `>`
/// takes them.
pub const STREAMS: &str = "streams";
/// The first byte of a client that wants bytes.
pub const GIVE: u8 = b'<';
/// The first byte of a client that brings bytes.
pub const TAKE: u8 = b'>';

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Print a line.
    Say(String),
    /// Load a kernel module.
    Module(String),
    /// Mount a file system.
    Mount {
        /// Type of the file system.
        kind: String,
        /// Device, or any word for file systems without one.
        source: String,
        /// Directory.
        target: String,
        /// Options of the file system, `ro` among them; empty for none.
        options: String,
    },
    /// Run a program to its end.
    Run {
        /// The program.
        path: String,
        /// Its arguments.
        words: Vec<String>,
    },
}

/// A line of a plan that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The line.
    pub line: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line of the plan not understood: {:?}", self.line)
    }
}

/// The text of a plan. Words and paths must not contain line breaks, nor sources and targets spaces: the
/// steps are `exo`'s own, not somebody's input.
pub fn write(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Say(line) => text += &format!("say {line}\n"),
            Step::Module(path) => text += &format!("module {path}\n"),
            Step::Mount { kind, source, target, options } => {
                text += format!("mount {kind} {source} {target} {options}").trim_end();
                text.push('\n');
            }
            Step::Run { path, words } => {
                text += &format!("run {path}\n");
                words.iter().for_each(|word| text += &format!("word {word}\n"));
            }
        }
    }
    text
}

/// Reads the text of a plan.
///
/// # Errors
///
/// With the first line that is no step.
pub fn read(text: &str) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for line in text.lines() {
        let wrong = || PlanError { line: line.to_owned() };
        let (verb, rest) = line.split_once(' ').ok_or_else(wrong)?;
        match (verb, steps.last_mut()) {
            ("say", _) => steps.push(Step::Say(rest.to_owned())),
            ("module", _) => steps.push(Step::Module(rest.to_owned())),
            ("mount", _) => {
                let mut parts = rest.splitn(4, ' ').map(str::to_owned);
                let (Some(kind), Some(source), Some(target)) = (parts.next(), parts.next(), parts.next())
                else {
                    return Err(wrong());
                };
                steps.push(Step::Mount { kind, source, target, options: parts.next().unwrap_or_default() });
            }
            ("run", _) => steps.push(Step::Run { path: rest.to_owned(), words: Vec::new() }),
            ("word", Some(Step::Run { words, .. })) => words.push(rest.to_owned()),
            _ => return Err(wrong()),
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mount = |options: &str| Step::Mount {
            kind: "ext4".into(),
            source: "/dev/vda".into(),
            target: "/data".into(),
            options: options.into(),
        };
        let steps = vec![
            Step::Say("one line".into()),
            Step::Module("/modules/virtio_blk.ko".into()),
            mount("ro,noatime"),
            mount(""),
            Step::Run { path: "/program".into(), words: vec!["a b".into(), String::new()] },
            Step::Run { path: "/other".into(), words: vec![] },
        ];
        assert_eq!(read(&write(&steps)), Ok(steps));
    }

    #[test]
    fn lines_that_are_no_step_are_named() {
        for line in ["", "say", "word alone", "mount ext4 /dev/vda", "reboot now"] {
            assert_eq!(read(&format!("{line}\n")), Err(PlanError { line: line.to_owned() }));
        }
    }
}
