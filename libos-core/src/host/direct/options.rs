//! The command line of a machine: what is for the platform, and what is for the program.
//!
//! `OPTIONS -- WORDS`: the words behind the first `--` are the program's. Without a `--` all words are. A
//! machine that describes its devices here adds words of its own at the end. They are left out.
#![forbid(unsafe_code)]

use hyperexo_hw::disks::Wanted;
use hyperexo_hw::virtio::mmio;

/// What happens at the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine ends.
    Exit,
    /// The processors halt for ever, so that the machine can be examined from outside.
    Halt,
}

/// How lines are written to the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// As the program prints them.
    Plain,
    /// With the program's name in front, and lines of the platform in between. A host tool reads them.
    Labelled,
}

/// What the console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsoleKind {
    /// The first serial port, or the virtio console where there is no such port.
    Auto,
    /// The first serial port.
    Serial,
    /// The virtio console, or the first serial port where there is no such device.
    Virtio,
}

/// The platform's part of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `name=NAME`: the name of the unikernel, if not that of its crate.
    pub name: &'static str,
    /// `end=exit|halt`.
    pub end: End,
    /// `lines=plain|labelled`.
    pub lines: Lines,
    /// `console=auto|serial|virtio`.
    pub console: ConsoleKind,
    /// `disk=N`, `disk=BB:DD.F`: which virtio disk is meant.
    pub disk: Wanted,
    /// `disk-timeout-ms=N`: how long the disk may take for a request.
    pub disk_timeout_ms: u64,
    /// `cores=N`: use at most so many cores.
    pub cores: u64,
    /// The program's part.
    pub words: &'static str,
}

impl Options {
    /// Reads a command line. `unknown` is called with each option that is not known.
    pub fn parse(line: &'static str, name: &'static str, mut unknown: impl FnMut(&'static str)) -> Options {
        let (own, words) = split(without_windows(line));
        let mut options = Options {
            name,
            end: End::Exit,
            lines: Lines::Plain,
            console: ConsoleKind::Auto,
            disk: Wanted::Only,
            disk_timeout_ms: 30_000,
            cores: u64::MAX,
            words,
        };
        for word in own.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = value.parse::<u64>().ok().filter(|number| (1..1 << 40).contains(number));
            match (key, value, number) {
                ("name", name, _) if !name.is_empty() => options.name = name,
                ("end", "exit", _) => options.end = End::Exit,
                ("end", "halt", _) => options.end = End::Halt,
                ("lines", "plain", _) => options.lines = Lines::Plain,
                ("lines", "labelled", _) => options.lines = Lines::Labelled,
                ("console", "auto", _) => options.console = ConsoleKind::Auto,
                ("console", "serial", _) => options.console = ConsoleKind::Serial,
                ("console", "virtio", _) => options.console = ConsoleKind::Virtio,
                ("disk", which, _) => match Wanted::parse(which) {
                    Some(disk) => options.disk = disk,
                    None => unknown(word),
                },
                ("disk-timeout-ms", _, Some(number)) => options.disk_timeout_ms = number,
                ("cores", _, Some(number)) => options.cores = number,
                _ => unknown(word),
            }
        }
        options
    }
}

/// A command line without the words at its end that describe devices.
fn without_windows(line: &str) -> &str {
    let line = line.trim_ascii_end();
    match line.rsplit(|character: char| character.is_ascii_whitespace()).next() {
        Some(word) if mmio::is_window(word) => without_windows(&line[..line.len() - word.len()]),
        _ => line,
    }
}

/// What is in front of the first word `--`, and what is behind it.
fn split(line: &str) -> (&str, &str) {
    let mut at = 0;
    while let Some(found) = line[at..].find("--") {
        let (start, end) = (at + found, at + found + 2);
        let edge = |character: Option<char>| character.is_none_or(|one| one.is_ascii_whitespace());
        if edge(line[..start].chars().next_back()) && edge(line[end..].chars().next()) {
            return (&line[..start], line[end..].trim_ascii());
        }
        at = end;
    }
    ("", line.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn parse(line: &'static str) -> (Options, Vec<&'static str>) {
        let mut strangers = Vec::new();
        let options = Options::parse(line, "crate", |word| strangers.push(word));
        (options, strangers)
    }

    #[test]
    fn without_a_mark_all_words_are_the_programs() {
        let (options, strangers) = parse(" greeting=1  x--y ");
        assert_eq!((options.name, options.words), ("crate", "greeting=1  x--y"));
        assert_eq!((options.end, options.lines, strangers), (End::Exit, Lines::Plain, Vec::new()));
        assert_eq!(parse("").0.words, "");
    }

    #[test]
    fn options_stand_in_front_of_the_mark() {
        let (options, strangers) = parse("name=a end=halt lines=labelled cores=0 quiet -- exit=3 -- x");
        assert_eq!((options.name, options.words), ("a", "exit=3 -- x"));
        assert_eq!((options.end, options.lines), (End::Halt, Lines::Labelled));
        assert_eq!(strangers, ["cores=0", "quiet"]);
        assert_eq!(parse("cores=2 disk-timeout-ms=5 --").0.words, "");
        assert_eq!(parse("cores=2 --").0.cores, 2);
        assert_eq!(parse("cores=2 --").0.console, ConsoleKind::Auto);
        assert_eq!(parse("console=virtio --").0.console, ConsoleKind::Virtio);
        assert_eq!(parse("console=virtio console=serial --").0.console, ConsoleKind::Serial);
        assert_eq!(parse("disk=1 --").0.disk, Wanted::Number(1));
        assert_eq!(parse("disk=first --").1, ["disk=first"]);
        assert_eq!(parse("console=hvc0 --").1, ["console=hvc0"]);
    }

    #[test]
    fn words_that_the_machine_adds_are_not_the_programs() {
        let (options, _) =
            parse("-- a=1 virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=512@0xfeb00c00:11");
        assert_eq!(options.words, "a=1");
        assert_eq!(parse("virtio_mmio.device=512@0xfeb00e00:12").0.words, "");
    }
}
