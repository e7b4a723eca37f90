//! Threads that job control has stopped: by `SIGSTOP`, Ctrl-Z and their like.
//!
//! Such a thread stays stopped until its process gets a `SIGCONT`. Linux offers a tracer to be told of that
//! (`PTRACE_LISTEN`), but no safe wrapper has this request. So whether a `SIGCONT` waits for the process is
//! looked up in `/proc`, every few milliseconds while any thread is stopped.

use nix::libc;
use std::collections::HashMap;

/// Those that are stopped, with the process of each.
#[derive(Debug, Default)]
pub struct Stopped {
    process_of: HashMap<i32, Option<u64>>,
}

impl Stopped {
    /// Whether any thread is stopped.
    pub fn any(&self) -> bool {
        !self.process_of.is_empty()
    }

    /// Adds one.
    pub fn insert(&mut self, thread: i32) {
        self.process_of.insert(thread, process(thread));
    }

    /// Forgets one, which has ended.
    pub fn remove(&mut self, thread: i32) {
        self.process_of.remove(&thread);
    }

    /// Takes out those that may run on: all threads of each process for which a `SIGCONT` waits.
    pub fn take_continued(&mut self) -> Vec<i32> {
        let threads = self.process_of.iter();
        let continued =
            threads.filter(|(thread, _)| status(**thread).is_none_or(|status| continues(&status)));
        let processes: Vec<Option<u64>> = continued.map(|(_, process)| *process).collect();
        self.take(&processes)
    }

    /// Takes out the threads of a process one thread of which has just got its `SIGCONT`.
    pub fn take_siblings(&mut self, thread: i32) -> Vec<i32> {
        if !self.any() {
            return vec![];
        }
        self.take(&[process(thread)])
    }

    fn take(&mut self, processes: &[Option<u64>]) -> Vec<i32> {
        let taken = self.process_of.extract_if(|_, process| processes.contains(process));
        taken.map(|(thread, _)| thread).collect()
    }
}

fn status(thread: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{thread}/status")).ok()
}

/// The process of a thread.
fn process(thread: i32) -> Option<u64> {
    number(&status(thread)?, "Tgid:", 10)
}

/// Whether a `SIGCONT` waits for this thread or its process.
fn continues(status: &str) -> bool {
    let bit = 1 << (libc::SIGCONT - 1);
    ["SigPnd:", "ShdPnd:"].into_iter().any(|key| number(status, key, 16).is_some_and(|set| set & bit != 0))
}

fn number(status: &str, key: &str, radix: u32) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    u64::from_str_radix(value.trim(), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_sigcont_is_seen() {
        let status =
            |own: &str, shared: &str| format!("Name:\ta\nTgid:\t7\nSigPnd:\t{own}\nShdPnd:\t{shared}\n");
        assert!(!continues(&status("0000000000000000", "0000000000010000")));
        assert!(continues(&status("0000000000000000", "0000000000020000")));
        assert!(continues(&status("0000000000020000", "0000000000000000")));
        assert_eq!(number(&status("0", "0"), "Tgid:", 10), Some(7));
    }
}
