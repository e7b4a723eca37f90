//! What the references to a file look like, in figures and in a word.

use crate::units::thousands;
use libos_fs::FileId;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// A reference to a block of a file.
pub type Reference = (FileId, u64);

/// What references to a file are like as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The same blocks in the same order, again and again.
    Loop,
    /// In the order of the file, each block once or hardly more.
    Scan,
    /// Here and there, hardly a block twice.
    OneShot,
    /// A few blocks have most of the references.
    Skewed,
    /// None of these.
    Mixed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Loop => "loop",
            Kind::Scan => "scan",
            Kind::OneShot => "one-shot",
            Kind::Skewed => "skewed",
            Kind::Mixed => "mixed",
        })
    }
}

/// The references to one file, in figures. Shares are from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Character {
    /// Number of the file.
    pub file: u64,
    /// How many there are.
    pub references: u64,
    /// Blocks that are referred to.
    pub blocks: u64,
    /// References to the block after the one before (of the same file).
    pub in_order: f64,
    /// References to a block that has been referred to before, other than the last one.
    pub repeated: f64,
    /// Of those, the ones that follow the same block as the last time.
    pub same_order: f64,
    /// References to the tenth of the blocks that is used most.
    pub top_tenth: f64,
    /// What that comes to.
    pub kind: Kind,
}

/// References to a file so far.
#[derive(Default)]
struct Counts {
    /// By block: uses, and the block that was referred to before it, the last time.
    blocks: HashMap<u64, (u64, Option<u64>)>,
    last: Option<u64>,
    references: u64,
    in_order: u64,
    repeated: u64,
    same_order: u64,
}

impl Counts {
    fn refer(&mut self, block: u64) {
        let last = self.last.replace(block);
        self.references += 1;
        self.in_order += u64::from(last.and_then(|last| last.checked_add(1)) == Some(block));
        let (uses, before) = self.blocks.entry(block).or_default();
        if *uses > 0 && last != Some(block) {
            self.repeated += 1;
            self.same_order += u64::from(*before == last);
        }
        *uses += 1;
        *before = last;
    }

    fn character(&self, file: FileId) -> Character {
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let mut uses: Vec<u64> = self.blocks.values().map(|(uses, _)| *uses).collect();
        uses.sort_unstable_by(|one, other| other.cmp(one));
        let top: u64 = uses[..uses.len().div_ceil(10)].iter().sum();
        let mut character = Character {
            file: file.0,
            references: self.references,
            blocks: self.blocks.len() as u64,
            in_order: share(self.in_order, self.references),
            repeated: share(self.repeated, self.references),
            same_order: share(self.same_order, self.repeated),
            top_tenth: share(top, self.references),
            kind: Kind::Mixed,
        };
        character.kind = character.judge();
        character
    }
}

impl Character {
    /// The word for these figures.
    fn judge(&self) -> Kind {
        /// Fewer references than this are repeated where nothing comes back.
        const ONCE: f64 = 0.1;
        /// Where there is an order, this share keeps it at least.
        const ORDERLY: f64 = 0.7;
        /// A tenth of the blocks with so many of the references is worth more than the rest.
        const SKEWED: f64 = 0.4;
        if self.repeated < ONCE {
            return if self.in_order >= ORDERLY { Kind::Scan } else { Kind::OneShot };
        }
        if self.same_order >= ORDERLY {
            return Kind::Loop;
        }
        if self.top_tenth >= SKEWED { Kind::Skewed } else { Kind::Mixed }
    }

    /// The evidence, in a few words.
    pub fn evidence(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        match self.kind {
            Kind::Scan | Kind::OneShot => format!(
                "{} of the references are to a block read before, {} are in the file's order",
                percent(self.repeated),
                percent(self.in_order)
            ),
            Kind::Loop => format!(
                "each block {:.1} times; {} of the repeated references come in the same order as before",
                self.references as f64 / self.blocks.max(1) as f64,
                percent(self.same_order)
            ),
            Kind::Skewed | Kind::Mixed => format!(
                "a tenth of the blocks ({}) has {} of the references; {} come in the same order as before",
                thousands(self.blocks.div_ceil(10)),
                percent(self.top_tenth),
                percent(self.same_order)
            ),
        }
    }
}

/// The character of each file, the one with most references first.
pub fn characters(references: &[Reference]) -> Vec<Character> {
    let mut files: BTreeMap<FileId, Counts> = BTreeMap::new();
    for (file, block) in references {
        files.entry(*file).or_default().refer(*block);
    }
    let mut found: Vec<Character> = files.iter().map(|(file, counts)| counts.character(*file)).collect();
    found.sort_by_key(|character| std::cmp::Reverse(character.references));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(blocks: impl IntoIterator<Item = u64>) -> Kind {
        let references: Vec<Reference> = blocks.into_iter().map(|block| (FileId(1), block)).collect();
        characters(&references)[0].kind
    }

    /// Numbers that look like chance, the same each time.
    fn chance(count: usize) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |x| {
            let x = x ^ x << 13;
            let x = x ^ x >> 7;
            Some(x ^ x << 17)
        })
        .take(count)
    }

    #[test]
    fn each_kind_is_told() {
        assert_eq!(kind((0..100).collect::<Vec<_>>().repeat(5)), Kind::Loop);
        assert_eq!(kind((0..100).map(|at| at * 37 % 101).collect::<Vec<_>>().repeat(3)), Kind::Loop);
        assert_eq!(kind(0..1000), Kind::Scan);
        assert_eq!(kind((0..500).flat_map(|block| [block, block])), Kind::OneShot, "at once is not again");
        assert_eq!(kind((0..500).map(|at| at * 7919 % 104_729)), Kind::OneShot);
        assert_eq!(
            kind(chance(5000).map(|x| ((x % 1000) * (x >> 20 & 1023) * (x >> 40 & 1023)) >> 20)),
            Kind::Skewed
        );
        assert_eq!(kind(chance(5000).map(|x| x % 1000)), Kind::Mixed);
    }

    #[test]
    fn files_are_judged_apart() {
        let references: Vec<Reference> =
            (0..50).flat_map(|at| [(FileId(7), at), (FileId(3), at % 5), (FileId(3), at % 5 + 1)]).collect();
        let found = characters(&references);
        assert_eq!(
            found.iter().map(|one| (one.file, one.references)).collect::<Vec<_>>(),
            [(3, 100), (7, 50)]
        );
        assert_eq!((found[1].kind, found[1].in_order), (Kind::Scan, 49.0 / 50.0));
        assert!(found[1].evidence().contains("98 %"), "{}", found[1].evidence());
    }
}
