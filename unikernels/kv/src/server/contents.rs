//! The data, for a rewrite of the log.

use crate::bytes::Bytes;
use crate::command::Index;
use crate::log::format::{Item, item};
use crate::log::{Contents, dump};
use crate::number::parse_u64;
use crate::resp::OwnedArguments;
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
                _ => {
                    let args: Vec<&[u8]> = args.from(0).collect();
                    let places = command.keys.of(&args)?;
                    keys.extend(places.into_iter().map(|place| (database, Bytes::from(args[place]))));
                }
            }
        }
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_command;
    use alloc::string::String;

    #[test]
    fn the_keys_that_commands_change_are_known() {
        let (store, index) = (Store::new([1, 2, 3]), Index::new());
        let data = Data { store: &store, index: &index };
        for (line, expected) in [
            ("SET k v PX 5", Some("0:k")),
            ("DEL a b c", Some("0:a 0:b 0:c")),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", Some("0:d 0:a 0:b")),
            ("SELECT 3|RENAME a b", Some("3:a 3:b")),
            ("SET k v|FLUSHALL", None),
            ("COPY a b DB 2", None),
        ] {
            let mut commands = Vec::new();
            line.split('|').for_each(|line| {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                write_command(&mut commands, words.into_iter());
            });
            let keys = data.changed(0, &commands).map(|keys| {
                let shown = |(database, key): (u8, Bytes)| {
                    alloc::format!("{database}:{}", String::from_utf8_lossy(&key))
                };
                keys.into_iter().map(shown).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(keys.as_deref(), expected, "{line}");
        }
    }
}
