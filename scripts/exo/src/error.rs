//! What can go wrong, in the words the user sees, and what to do about it.

use hyperexo_abi::bundle::BundleError;
use std::path::{Path, PathBuf};

/// Result of everything that can fail in this tool.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure. `Display` gives one line that names the thing; [`Error::fix`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// Verb: "read", "create", ...
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program that this job needs is missing.
    #[error("{program} is not installed")]
    NotInstalled {
        /// Its name.
        program: String,
        /// Debian package that has it.
        package: &'static str,
    },
    /// The sources of HyperExo are not where they were when this tool was built.
    #[error("no HyperExo checkout at {}", .0.display())]
    NoCheckout(PathBuf),
    /// cargo failed; it has printed why.
    #[error("building {what} failed ({status})")]
    Cargo {
        /// What was being built.
        what: String,
        /// How cargo ended.
        status: String,
    },
    /// No such unikernel.
    #[error("no unikernel named {name:?}")]
    UnknownApp {
        /// The name asked for.
        name: String,
        /// Names there are.
        known: Vec<String>,
    },
    /// Something is wrong with what the user asked for.
    #[error("{what}")]
    Argument {
        /// What is wrong.
        what: String,
        /// How to say it right.
        fix: String,
    },
    /// An ELF file can't be used.
    #[error("ELF file {}: {reason}", .path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle can't be used.
    #[error("bundle {}: {reason}", .path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: BundleError,
    },
    /// The emulator gave up before the kernel finished.
    #[error("{emulator} ended ({status}) before HyperExo finished: {said}")]
    Emulator {
        /// QEMU or Bochs.
        emulator: &'static str,
        /// Its exit status.
        status: String,
        /// What it complained of last, or the last line of the machine.
        said: String,
    },
    /// The machine came to an end of its own that is none.
    #[error("the machine was reset or switched off before HyperExo finished; its last line was: {}", .last.as_deref().unwrap_or("(none)"))]
    Reset {
        /// Last line of the machine, if it said anything.
        last: Option<String>,
    },
    /// A boot image could not be made.
    #[error("making a boot image failed ({status}): {said}")]
    BootImage {
        /// How grub-mkrescue ended.
        status: String,
        /// Last line it printed on standard error.
        said: String,
    },
    /// Something of a Linux guest to compare with is wrong.
    #[error("Linux guest: {0}")]
    LinuxKernel(String),
    /// This host does not have what is needed, and nothing here can change that.
    #[error("{what} is not offered here: {why}")]
    NotOffered {
        /// What is needed.
        what: String,
        /// Why it can't be had.
        why: String,
    },
    /// The time limit passed.
    #[error("no end after {seconds} s; the last line was: {last}")]
    Timeout {
        /// The limit.
        seconds: u64,
        /// Last line of the machine.
        last: String,
    },
    /// The machine has not written a single byte.
    #[error("the machine said nothing in {seconds} s: {state}")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
        /// What its processor does, as far as the emulator tells.
        state: String,
    },
    /// The kernel reported an error of its own.
    #[error("hyperexo: {0}")]
    Kernel(String),
    /// An environment did not end well.
    #[error("environment {name} ended: {end}")]
    Environment {
        /// Its name.
        name: String,
        /// How it ended, in the kernel's words.
        end: String,
    },
    /// The kernel finished with a status that no environment explains.
    #[error("hyperexo finished with status {0}, though every environment ended with exit code 0")]
    Status(u32),
    /// QEMU's control socket did not do what it should.
    #[error("QEMU's control socket: {0}")]
    Qmp(String),
    /// Counters that must agree do not, or a result is missing or wrong.
    #[error("{0}")]
    Measurement(String),
    /// A trace of block references can't be used.
    #[error("{}{place}: {reason}", .path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Where in it: ", line 3"; empty if nowhere in particular.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do about it.
        fix: String,
    },
    /// The system lets nobody watch a program.
    #[error("a command can't be recorded here: ptrace is forbidden: {0}")]
    NoPtrace(std::io::Error),
    /// A step of watching a program failed.
    #[error("recording: {what}: {source}")]
    Tracing {
        /// The step.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A command can't be run.
    #[error("cannot run {command:?}: {source}")]
    CannotRun {
        /// Its name.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file system on a disk image can't be used.
    #[error("{}: {reason}", .image.display())]
    FileSystem {
        /// The image.
        image: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A disk image is in a format of its own, and a raw one is needed.
    #[error("{} is a {format} image, and a raw one is needed", .image.display())]
    ImageFormat {
        /// The image.
        image: PathBuf,
        /// Its format, as `qemu-img` calls it.
        format: &'static str,
    },
    /// Another program has a disk image open.
    #[error("{} is in use: another program {does} it, such as QEMU", .image.display())]
    ImageInUse {
        /// The image.
        image: PathBuf,
        /// What the other does with it.
        does: &'static str,
    },
    /// Tests failed.
    #[error("{0} of the tests failed")]
    Tests(usize),
    /// The user pressed Ctrl-C, or the tool was told to end.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error: `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// What the user can do about it, if that is not plain.
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::NotInstalled { package, .. } => Some(format!("apt-get install {package}")),
            Error::NoCheckout(_) => Some("set HYPEREXO to the directory of the checkout".into()),
            Error::UnknownApp { known, .. } => Some(format!(
                "there are {}; an application elsewhere is named by the path of its directory",
                known.join(", ")
            )),
            Error::Argument { fix, .. } | Error::Trace { fix, .. } => Some(fix.clone()),
            Error::ImageFormat { image, format } => {
                let [from, to] = [image.clone(), image.with_extension("raw")]
                    .map(|path| crate::units::shell_quote(&path.to_string_lossy()));
                Some(format!("qemu-img convert -f {format} -O raw {from} {to}"))
            }
            Error::ImageInUse { .. } => Some("end that program first, or work on a copy".into()),
            Error::Timeout { .. } => Some("give it longer with --timeout SECONDS".into()),
            Error::Reset { last: None } => Some("it may have too little memory: give it more with --memory".into()),
            Error::Silent { .. } => Some(
                "its output may go elsewhere (the first serial port, or --console virtio, are listened to), it may lack \
                 what the image needs (memory, 64-bit mode), or it is slow: --silence SECONDS waits longer, 0 for ever"
                    .into(),
            ),
            Error::NoPtrace(_) => Some(
                "not under strace or gdb; in a container, allow it with --cap-add=SYS_PTRACE; elsewhere, with \
                 `sysctl kernel.yama.ptrace_scope=1`"
                    .into(),
            ),
            Error::CannotRun { source, .. } => Some(match source.kind() {
                std::io::ErrorKind::NotFound => "name a program on PATH, or one with its path".into(),
                _ => "make it executable, or name what runs it".into(),
            }),
            Error::Elf { .. } => Some("build it again, or run `exo build` to see why it fails".into()),
            _ => None,
        }
    }

    /// Exit status of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Interrupted => 130,
            Error::Argument { .. } | Error::UnknownApp { .. } => 2,
            // As shells have it.
            Error::CannotRun { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
            Error::CannotRun { .. } => 126,
            _ => 1,
        }
    }
}
