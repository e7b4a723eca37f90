//! The kernel's command line.
#![forbid(unsafe_code)]

use hyperexo_hw::disks::Wanted;

/// What happens when all environments have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The machine ends (QEMU's `isa-debug-exit`).
    Exit,
    /// The processor halts for ever, so that somebody outside can look at the machine.
    Halt,
}

/// Settings, with their defaults in [`Settings::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `end=exit|halt`.
    pub end: End,
    /// `disk-timeout-ms=N`: how long the disk may take for a request.
    pub disk_timeout_ms: u64,
    /// `disk=N`, `disk=BB:DD.F`: which virtio disk is meant.
    pub disk: Wanted,
    /// `slice-us=N`: length of a time slice.
    pub slice_us: u64,
    /// `cores=N`: use at most so many cores.
    pub cores: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { end: End::Exit, disk_timeout_ms: 30_000, disk: Wanted::Only, slice_us: 10_000, cores: 64 }
    }
}

impl Settings {
    /// Reads `key=value` words. `unknown` hears of words that mean nothing here.
    pub fn parse<'a>(line: &'a str, mut unknown: impl FnMut(&'a str)) -> Settings {
        let mut settings = Settings::default();
        for word in line.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = value.parse::<u64>().ok().filter(|number| (1..1 << 40).contains(number));
            match (key, value, number) {
                ("end", "exit", _) => settings.end = End::Exit,
                ("end", "halt", _) => settings.end = End::Halt,
                ("disk", which, _) => match Wanted::parse(which) {
                    Some(disk) => settings.disk = disk,
                    None => unknown(word),
                },
                ("disk-timeout-ms", _, Some(number)) => settings.disk_timeout_ms = number,
                ("cores", _, Some(number)) => settings.cores = number,
                ("slice-us", _, Some(number)) => settings.slice_us = number,
                _ => unknown(word),
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_strangers_reported() {
        let mut strangers = Vec::new();
        let line = "end=halt disk-timeout-ms=5 slice-us=0 quiet end=never disk=1 disk=first";
        let settings = Settings::parse(line, |word| strangers.push(word));
        assert_eq!(
            settings,
            Settings { end: End::Halt, disk_timeout_ms: 5, disk: Wanted::Number(1), ..Settings::default() }
        );
        assert_eq!(strangers, ["slice-us=0", "quiet", "end=never", "disk=first"]);
    }
}
