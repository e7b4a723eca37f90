//! Running the tool as a child, and judging what it says.

use super::Verdict;
use super::platform::Platform;
use crate::build::Built;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::children::{Group, Progress};
use crate::session::qmp::Qmp;
use hyperexo_abi::BLOCK_BYTES;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What all tests share.
pub struct Context {
    /// The checkout.
    pub checkout: Checkout,
    /// The images under test.
    pub built: Arc<Built>,
    /// The disk image with filecache's data.
    pub data: PathBuf,
    /// A directory for this run, removed at the end.
    pub scratch: tempfile::TempDir,
    /// Where the test at hand runs.
    pub platform: Platform,
    /// Applications that tests make, and what cargo builds of them.
    applications: Arc<Applications>,
}

/// Applications that tests make have the same libraries: these are built once, as the applications are.
struct Applications {
    folder: tempfile::TempDir,
    /// Held while one is made.
    making: Mutex<()>,
}

/// A directory that is removed when it is dropped.
fn directory() -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("exo-test-").tempdir();
    made.map_err(Error::io("create a directory in", &std::env::temp_dir()))
}

/// What the tool said.
pub struct Said {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output: what environments print.
    pub out: String,
    /// Standard error: what the tool and the kernel say.
    pub err: String,
}

/// What a running tool has printed so far on standard output.
#[derive(Default)]
pub struct Printed {
    state: Mutex<PrintedState>,
    more: Condvar,
}

#[derive(Default)]
struct PrintedState {
    bytes: Vec<u8>,
    ended: bool,
}

impl Printed {
    /// Waits until these words have been printed.
    ///
    /// # Errors
    ///
    /// If the tool has ended without them. It has a time limit of its own.
    pub fn wait_for(&self, words: &str) -> Result<()> {
        let found =
            |state: &PrintedState| state.bytes.windows(words.len()).any(|part| part == words.as_bytes());
        let mut state = self.lock();
        while !found(&state) && !state.ended {
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match found(&state) {
            true => Ok(()),
            false => Err(Error::Measurement(format!("{words:?} was never printed"))),
        }
    }

    /// Takes everything that comes out of a pipe.
    fn take_all(&self, mut pipe: impl Read) {
        let mut part = [0; 4096];
        loop {
            match pipe.read(&mut part) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // What could be read before an error is what there is to judge.
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    self.lock().bytes.extend_from_slice(&part[..count]);
                    self.more.notify_all();
                }
            }
        }
    }

    /// All of it.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// Notes the end when the value that this returns is dropped.
    fn end_with_this(&self) -> impl Drop + '_ {
        struct End<'a>(&'a Printed);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.lock().ended = true;
                self.0.more.notify_all();
            }
        }
        End(self)
    }

    fn lock(&self) -> MutexGuard<'_, PrintedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks of [`Context::small_disk`].
const SMALL_DISK_BLOCKS: usize = 512;

impl Context {
    /// For one run of the tests.
    pub fn new(checkout: Checkout, built: Built, data: PathBuf) -> Result<Context> {
        let folder = directory()?;
        let settings = folder.path().join(".cargo");
        let file = settings.join("config.toml");
        std::fs::create_dir(&settings).map_err(Error::io("create", &settings))?;
        let target = folder.path().join("target");
        let text = format!("[build]\ntarget-dir = {:?}\n", target.to_string_lossy());
        std::fs::write(&file, text).map_err(Error::io("write", &file))?;
        let applications = Arc::new(Applications { folder, making: Mutex::default() });
        let (built, platform) = (Arc::new(built), Platform::QemuSvm);
        Ok(Context { checkout, built, data, scratch: directory()?, platform, applications })
    }

    /// The same, with a directory of its own: for tests that run at the same time.
    pub fn another(&self) -> Result<Context> {
        Ok(Context {
            checkout: self.checkout.clone(),
            built: self.built.clone(),
            data: self.data.clone(),
            scratch: directory()?,
            platform: self.platform,
            applications: self.applications.clone(),
        })
    }

    /// The directory of an application, which `make` makes for whoever asks first.
    pub fn application(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> std::result::Result<(), String>,
    ) -> std::result::Result<PathBuf, String> {
        let _made_once = self.applications.making.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.applications.folder.path().join(name);
        if !path.exists() {
            make(&path)?;
        }
        Ok(path)
    }

    /// Runs the tool.
    pub fn exo(&self, arguments: &[&str]) -> std::result::Result<Said, String> {
        self.exo_watched(arguments, &Printed::default())
    }

    /// Runs the tool, while others see in `printed` what it prints.
    fn exo_watched(&self, arguments: &[&str], printed: &Printed) -> std::result::Result<Said, String> {
        let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
        let mut command = Command::new(own);
        command.args(arguments);
        // Whatever happens, nobody waits for more than there will be.
        let _end = printed.end_with_this();
        let mut group =
            Group::spawn(&command, Progress::Piped).map_err(|error| format!("starting exo: {error}"))?;
        let err = group.child.stderr.take().map(|pipe| std::thread::spawn(move || read(pipe)));
        group.child.stdout.take().into_iter().for_each(|pipe| printed.take_all(pipe));
        let err = err.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let status = group.wait().map_err(|error| format!("waiting for exo: {error}"))?;
        Ok(Said { status, out: printed.text(), err })
    }

    /// `exo run` on the platform at hand, with the images at hand and a time limit.
    pub fn run(&self, arguments: &[&str]) -> std::result::Result<Said, String> {
        self.run_on(self.platform, arguments)
    }

    /// [`Context::run`], while somebody else has QEMU's control socket: `act` is called as soon as QEMU
    /// listens there, and can wait for what the program prints.
    pub fn run_with_control(
        &self,
        arguments: &[&str],
        act: impl FnOnce(&mut Qmp, &Printed) -> Result<()> + Send,
    ) -> std::result::Result<Said, String> {
        let folder = tempfile::tempdir_in(self.scratch.path()).map_err(|error| error.to_string())?;
        let socket = folder.path().join("qmp");
        let control = format!("--qemu-arg=unix:{},server=on,wait=off", text(&socket));
        // In front: behind a mark stand words of the program.
        let arguments = [&["--qemu-arg=-qmp", &control], arguments].concat();
        let printed = Printed::default();
        let (said, acted) = std::thread::scope(|scope| {
            let acting =
                scope.spawn(|| Qmp::connect_when_ready(&socket).and_then(|mut qmp| act(&mut qmp, &printed)));
            let all = self.run_arguments(self.platform, &arguments);
            (self.exo_watched(&all, &printed), acting.join())
        });
        let acted = acted.map_err(|_| "the thread with the control socket has panicked")?;
        match (acted, said) {
            // Why nobody could act, the machine knows best.
            (Err(error), Ok(said)) => Err(said.complaint(&error.to_string())),
            (Err(error), Err(_)) => Err(error.to_string()),
            (Ok(()), said) => said,
        }
    }

    /// [`Context::run`], and sends these signals to the tool, one after the other, as soon as it has printed
    /// these words.
    pub fn run_signalled(
        &self,
        arguments: &[&str],
        words: &str,
        signals: &[Signal],
    ) -> std::result::Result<Said, String> {
        let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
        let mut command = Command::new(own);
        command.args(self.run_arguments(self.platform, arguments));
        let mut group =
            Group::spawn(&command, Progress::Piped).map_err(|error| format!("starting exo: {error}"))?;
        let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
        let pid = Pid::from_child(&group.child);
        let printed = Printed::default();
        let (err, sent) = std::thread::scope(|scope| {
            let err = err.map(|pipe| scope.spawn(move || read(pipe)));
            let sending = scope.spawn(|| {
                printed.wait_for(words)?;
                signals.iter().try_for_each(|signal| {
                    std::thread::sleep(std::time::Duration::from_millis(500));
                    kill_process(pid, *signal).map_err(|error| Error::Measurement(error.to_string()))
                })
            });
            let end = printed.end_with_this();
            out.into_iter().for_each(|pipe| printed.take_all(pipe));
            drop(end);
            (err.and_then(|thread| thread.join().ok()).unwrap_or_default(), sending.join())
        });
        sent.map_err(|_| "the thread with the signals has panicked")?.map_err(|error| error.to_string())?;
        let status = group.wait().map_err(|error| format!("waiting for exo: {error}"))?;
        Ok(Said { status, out: printed.text(), err })
    }

    /// [`Context::run`] on another platform.
    pub fn run_on(&self, platform: Platform, arguments: &[&str]) -> std::result::Result<Said, String> {
        self.exo(&self.run_arguments(platform, arguments))
    }

    /// All arguments of the tool for a run with these.
    fn run_arguments<'a>(&self, platform: Platform, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["run", "--no-build"];
        all.extend(platform.arguments());
        if !arguments.contains(&"--timeout") {
            all.extend(["--timeout", platform.seconds()]);
        }
        all.extend(arguments);
        all
    }

    /// A disk without a file system, small so that a boot loader reads it quickly; each block holds its
    /// number.
    pub fn small_disk(&self) -> std::result::Result<PathBuf, String> {
        let path = self.scratch.path().join("small.img");
        if !path.exists() {
            let bytes: Vec<u8> =
                (0..SMALL_DISK_BLOCKS).flat_map(|block| [block as u8; BLOCK_BYTES]).collect();
            self.file("small.img", &bytes)?;
        }
        Ok(path)
    }

    /// A volume `name` with files of the data image and `room` bytes besides. Made once.
    pub fn volume_of(&self, name: &str, paths: &[&str], room: u64) -> std::result::Result<PathBuf, String> {
        let image = self.scratch.path().join(name);
        if image.exists() {
            return Ok(image);
        }
        let data = text(&self.data);
        let mut bytes = room;
        let mut files = Vec::new();
        for path in paths {
            let host = self.scratch.path().join(path.replace('/', "-"));
            self.exo(&["fs", "get", &data, path, &text(&host)])?.succeeded()?;
            bytes += host.metadata().map_err(|error| error.to_string())?.len();
            files.push((text(&host), path));
        }
        let made = text(&image);
        self.exo(&["fs", "make", &made, "--size", &bytes.to_string()])?.succeeded()?;
        for (host, path) in &files {
            self.exo(&["fs", "put", &made, host, "--to", path])?.succeeded()?;
        }
        Ok(image)
    }

    /// A file in the directory of this run.
    pub fn file(&self, name: &str, bytes: &[u8]) -> std::result::Result<PathBuf, String> {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What could be read before an error is what there is to judge.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The JSON values of a file, a line each.
pub fn json_lines<T: DeserializeOwned>(path: impl AsRef<Path>) -> std::result::Result<Vec<T>, String> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))).collect()
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Said {
    /// The tool must have ended with success.
    pub fn succeeded(self) -> std::result::Result<Said, String> {
        if self.status.success() { Ok(self) } else { Err(self.complaint("it should succeed")) }
    }

    /// Standard output must contain this.
    pub fn shows(self, wanted: &str) -> std::result::Result<Said, String> {
        if self.out.contains(wanted) {
            Ok(self)
        } else {
            Err(self.complaint(&format!("{wanted:?} is not shown")))
        }
    }

    /// Standard error must contain this.
    pub fn tells(self, wanted: &str) -> std::result::Result<Said, String> {
        if self.err.contains(wanted) {
            Ok(self)
        } else {
            Err(self.complaint(&format!("{wanted:?} is not told")))
        }
    }

    /// The tool must have ended without success and with exactly one line that names the error, with these
    /// words in it.
    pub fn fails_with(self, words: &[&str]) -> Verdict {
        if self.status.success() {
            return Err(self.complaint("it should fail"));
        }
        let lines: Vec<&str> = self.err.lines().filter(|line| line.starts_with("exo: error: ")).collect();
        let [line] = lines[..] else {
            return Err(self.complaint(&format!("{} error lines instead of one", lines.len())));
        };
        match words.iter().find(|word| !line.contains(**word)) {
            None => Ok(()),
            Some(word) => Err(format!("the error does not say {word:?}: {line}")),
        }
    }

    /// What went wrong, and the end of what was said.
    fn complaint(&self, what: &str) -> String {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(6)..].join("\n      ")
        };
        let (out, err) = (tail(&self.out), tail(&self.err));
        format!("{what}; {}\n    output:\n      {out}\n    messages:\n      {err}", self.status)
    }
}
