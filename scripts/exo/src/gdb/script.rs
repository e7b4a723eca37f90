//! Commands for gdb.

use std::path::{Path, PathBuf};

/// Where the symbols of a machine are.
pub struct Levels {
    /// Of the exokernel; none if the unikernel runs without it.
    pub kernel: Option<PathBuf>,
    /// Of the unikernel.
    pub unikernel: PathBuf,
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Virtual address.
    pub address: u64,
    /// Whether it is the kernel's address.
    pub kernel: bool,
}

/// How gdb is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// By somebody at its prompt.
    Interactive,
    /// By this tool: to every breakpoint, and a backtrace there.
    Batch,
}

/// The stacks of unikernels on HyperExo are at the upper end of either half of the address space, those of
/// the kernel where memory is: no machine has that much.
const UNIKERNEL_STACKS: u64 = 1 << 46;

/// The commands.
pub fn text(levels: &Levels, breakpoints: &[Breakpoint], socket: &Path, style: Style) -> String {
    // Conditions are C's, whatever the language of the place where the machine stops.
    let mut text =
        String::from("set pagination off\nset confirm off\nset language c\nset architecture i386:x86-64\n");
    let first = levels.kernel.as_deref().unwrap_or(&levels.unikernel);
    text += &format!("symbol-file {}\n", quote(first));
    if let Some(kernel) = &levels.kernel {
        text += &by_level(kernel, &levels.unikernel);
    }
    text += &format!("target remote {}\n", socket.display());
    for one in breakpoints {
        let condition = match (&levels.kernel, one.kernel) {
            (None, _) => String::new(),
            (Some(_), true) => format!(" if (unsigned long)$rsp < {UNIKERNEL_STACKS:#x}"),
            (Some(_), false) => format!(" if (unsigned long)$rsp >= {UNIKERNEL_STACKS:#x}"),
        };
        // In the processor's debug registers: in memory there is nothing to change yet.
        text += &format!("hbreak *{:#x}{condition}\n", one.address);
    }
    if style == Style::Batch {
        for number in 1..=breakpoints.len() {
            // Once is enough: another one may be further on.
            text += &format!("continue\nbacktrace\nclear *$pc\necho \\nstopped {number}\\n\n");
        }
        // The machine is ended by whoever started it: told to by gdb, it may be gone before it has answered.
        text += "disconnect\n";
    }
    text
}

/// Commands that change the symbols to those of a level, by hand and whenever the machine stops.
fn by_level(kernel: &Path, unikernel: &Path) -> String {
    let (kernel, unikernel) = (quote(kernel), quote(unikernel));
    format!(
        "define kernel
  symbol-file {kernel}
end
define unikernel
  symbol-file {unikernel}
end
define hook-stop
  if (unsigned long)$rsp >= {UNIKERNEL_STACKS:#x}
    unikernel
  else
    kernel
  end
  set language c
end
"
    )
}

fn quote(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"");
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(kernel: Option<&str>, style: Style) -> String {
        let levels = Levels { kernel: kernel.map(PathBuf::from), unikernel: "/a b/hello".into() };
        let breakpoints =
            [Breakpoint { address: 0x1000, kernel: true }, Breakpoint { address: 0x2000, kernel: false }];
        text(&levels, &breakpoints, Path::new("/s"), style)
    }

    #[test]
    fn each_level_has_its_symbols_and_breakpoints() {
        let text = script(Some("/k"), Style::Interactive);
        assert!(text.contains("symbol-file /k\n") && text.contains("symbol-file \"/a b/hello\"\n"), "{text}");
        assert!(text.contains("hbreak *0x1000 if (unsigned long)$rsp < 0x400000000000\n"));
        assert!(text.contains("hbreak *0x2000 if (unsigned long)$rsp >= 0x400000000000\n"));
        assert!(!text.contains("continue"));
    }

    #[test]
    fn without_hyperexo_there_is_one_level() {
        let text = script(None, Style::Batch);
        assert!(!text.contains("hook-stop") && text.contains("hbreak *0x2000\n"), "{text}");
        assert_eq!(text.matches("continue\nbacktrace\n").count(), 2);
        assert!(text.ends_with("disconnect\n"));
    }
}
