//! The data, for a rewrite of the log.

use crate::bytes::Bytes;
use crate::command::{Command, Index, Keys};
use crate::log::format::{Item, item};
use crate::log::{Contents, dump};
use crate::number::parse_u64;
use crate::resp::{Arguments, OwnedArguments};
use crate::store::{DATABASES, Store};
use alloc::vec::Vec;

/// All keys, and the commands that change them.
pub(super) struct Data<'a> {
    pub store: &'a Store,
    pub index: &'a Index,
}

impl Contents for Data<'_> {
    fn visit(&self, database: u8, cursor: u64, keys: &mut dyn FnMut(&[u8])) -> u64 {
        self.store.scan(database, cursor, |at| keys(self.store.key(at)))
    }

    fn dump(&self, database: u8, key: &[u8], commands: &mut Vec<u8>) {
        if let Some(at) = self.store.find(database, key) {
            dump(self.store, at, commands);
        }
    }

    fn databases(&self) -> u8 {
        DATABASES as u8
    }

    fn changed(&self, database: u8, commands: &[u8]) -> Option<Vec<(u8, Bytes)>> {
        let (mut database, mut keys, mut rest) = (database, Vec::new(), commands);
        while let Ok((Item::Command(places), bytes)) = item(rest) {
            let mut args = OwnedArguments::default();
            places.iter().for_each(|(start, end)| args.push(&rest[*start..*end]));
            rest = &rest[bytes..];
            let args = args.arguments();
            let command = self.index.named(args.at(0))?;
            match command.name {
                "select" => database = u8::try_from(parse_u64(args.at(1))?).ok()?,
                // Into another database, or a whole one.
                "flushall" | "flushdb" | "swapdb" | "move" => return None,
                "copy" if args.len() > 3 => return None,
                _ => keys.extend(keys_of(command, &args).map(|key| (database, Bytes::from(key)))),
            }
        }
        Some(keys)
    }
}

/// The keys of a command.
fn keys_of<'a>(command: &Command, args: &Arguments<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let count = args.len();
    let word = |word: &str| (1..count).find(|index| args.at(*index).eq_ignore_ascii_case(word.as_bytes()));
    let places: Vec<usize> = match command.keys {
        Keys::None => Vec::new(),
        Keys::Places(first, last, step) => {
            let last = if last < 0 { count as isize + isize::from(last) } else { isize::from(last) };
            (first as usize..=last.max(0) as usize).step_by(step.unsigned_abs().max(1).into()).collect()
        }
        Keys::Counted(place, before) => {
            let numbered = args.get(place.into()).and_then(parse_u64).unwrap_or(0) as usize;
            let first = usize::from(place) + 1;
            let before = (before > 0).then_some(usize::from(before));
            before.into_iter().chain(first..first.saturating_add(numbered).min(count)).collect()
        }
        Keys::Streams => {
            word("STREAMS").map_or(Vec::new(), |at| (at + 1..at + 1 + (count - at - 1) / 2).collect())
        }
        Keys::AndStored => [Some(1), word("STORE").map(|at| at + 1)].into_iter().flatten().collect(),
    };
    let args = *args;
    places.into_iter().filter_map(move |index| args.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn the_keys_of_commands_are_known() {
        let index = Index::new();
        for (line, expected) in [
            ("SET k v PX 5", "k"),
            ("DEL a b c", "a b c"),
            ("MSET a 1 b 2", "a b"),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
            ("LMPOP 2 a b LEFT", "a b"),
            ("BLPOP a b 0", "a b"),
            ("SORT k BY x STORE d", "k d"),
            ("RENAME a b", "a b"),
            ("PING", ""),
        ] {
            let mut owned = OwnedArguments::default();
            line.split(' ').for_each(|word| owned.push(word.as_bytes()));
            let args = owned.arguments();
            let command = index.named(args.at(0)).expect(line);
            let keys: Vec<String> =
                keys_of(command, &args).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
            assert_eq!(keys.join(" "), expected, "{line}");
        }
    }
}
