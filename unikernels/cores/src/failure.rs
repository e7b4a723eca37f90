//! Bad ends on other cores: what the runtime then says.

use core::hint::black_box;
use libos_core::Arguments;
use libos_core::cores::StartError;

/// Does what the arguments ask for, if they do.
pub fn provoke(arguments: Arguments<'_>, cores: u64) -> Result<(), StartError> {
    if arguments.value("panic").is_some() {
        super::on_all(cores, panic_if_asked)?;
    }
    if arguments.value("overflow").is_some() {
        super::on_all(cores, overflow_if_asked)?;
    }
    Ok(())
}

/// Whether the word is meant for a place.
fn asked(key: &str, place: u64) -> bool {
    libos_core::argument(key).is_some_and(|value| value == "all" || value.parse() == Ok(place))
}

fn panic_if_asked(place: u64) {
    assert!(!asked("panic", place), "as the command line asked, at place {place}");
}

fn overflow_if_asked(place: u64) {
    if asked("overflow", place) {
        libos_core::println!("{}", overflow(1));
    }
}

/// Calls itself for ever.
fn overflow(depth: u64) -> u64 {
    if depth == 0 {
        return depth;
    }
    let filling = black_box([depth; 64]);
    overflow(black_box(depth + 1)) + filling[3]
}
