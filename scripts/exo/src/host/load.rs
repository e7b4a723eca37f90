//! What other programs take of this computer.

use std::time::Duration;

/// How long the host is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Looks before it is called busy: a short burst is not a load.
const LOOKS: usize = 10;
/// Percent of one processor that others may take.
const LITTLE: u64 = 20;

/// Whether others leave this computer nearly alone. A host that does not tell is taken at its best.
pub fn is_quiet() -> bool {
    (0..LOOKS).any(|_| {
        let before = busy();
        std::thread::sleep(LOOK);
        match (before, busy()) {
            (Some(before), Some(after)) => {
                // A tick is 10 ms of one processor: percent of a second.
                let percent = (after - before) * 1000 / LOOK.as_millis() as u64;
                percent <= LITTLE
            }
            _ => true,
        }
    })
}

/// Ticks that all processors together have worked (proc(5), `/proc/stat`).
fn busy() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    busy_in(stat.lines().next()?)
}

/// The same in the line `cpu  user nice system idle iowait irq softirq steal guest …`.
fn busy_in(line: &str) -> Option<u64> {
    let numbers: Vec<u64> =
        line.strip_prefix("cpu ")?.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // Time of guests is counted as the user's, too.
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some(numbers.iter().take(8).sum::<u64>() - idle)
}

#[cfg(test)]
mod tests {
    use super::busy_in;

    #[test]
    fn idle_time_and_guests_are_not_counted() {
        assert_eq!(busy_in("cpu  10 2 30 400 50 6 7 8 9 1"), Some(10 + 2 + 30 + 6 + 7 + 8));
    }

    #[test]
    fn what_is_no_such_line_says_nothing() {
        assert_eq!(busy_in("cpu0 1 2 3 4 5 6 7 8"), None);
        assert_eq!(busy_in("cpu  1 2 x 4"), None);
    }
}
