//! Relocations of x86-64 (System V ABI, AMD64 supplement, 4.4.1), as far as static programs have them.

use elf::abi;

/// What a relocation needs the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// The symbol.
    Symbol,
    /// The entry of the global offset table that holds the symbol's address.
    Entry,
}

/// What a relocation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) operand: Operand,
    /// Whether the place that is written is subtracted.
    relative: bool,
    bytes: usize,
}

impl Rule {
    /// The rule for a type of relocation; `None` if it is none that static programs have.
    pub(super) fn of(kind: u32) -> Option<Rule> {
        let rule = |operand, relative, bytes| Some(Rule { operand, relative, bytes });
        match kind {
            abi::R_X86_64_64 => rule(Operand::Symbol, false, 8),
            abi::R_X86_64_PC64 => rule(Operand::Symbol, true, 8),
            abi::R_X86_64_32 | abi::R_X86_64_32S | abi::R_X86_64_TPOFF32 => rule(Operand::Symbol, false, 4),
            abi::R_X86_64_PC32 | abi::R_X86_64_PLT32 => rule(Operand::Symbol, true, 4),
            abi::R_X86_64_GOTPCREL
            | abi::R_X86_64_GOTTPOFF
            | abi::R_X86_64_GOTPCRELX
            | abi::R_X86_64_REX_GOTPCRELX => rule(Operand::Entry, true, 4),
            _ => None,
        }
    }

    /// Writes the value at `offset` of a section's contents, whose first byte has the address `address`.
    /// `false` if it is not inside.
    pub(super) fn apply(
        self,
        contents: &mut [u8],
        address: u64,
        offset: u64,
        operand: u64,
        addend: i64,
    ) -> bool {
        let place = if self.relative { address.wrapping_add(offset) } else { 0 };
        let value = operand.wrapping_add_signed(addend).wrapping_sub(place);
        let start = offset as usize;
        let target = start.checked_add(self.bytes).and_then(|end| contents.get_mut(start..end));
        target.map(|target| target.copy_from_slice(&value.to_le_bytes()[..self.bytes])).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_abi() {
        let apply = |kind, offset| {
            let mut contents = [0xee; 12];
            let rule = Rule::of(kind).expect("is known");
            (rule.apply(&mut contents, 0x1000, offset, 0x2345, -4), contents)
        };
        let (done, contents) = apply(abi::R_X86_64_64, 2);
        assert!(done && contents[..2] == [0xee; 2] && contents[2..10] == 0x2341u64.to_le_bytes());
        let (done, contents) = apply(abi::R_X86_64_PC32, 8);
        assert!(done && contents[..8] == [0xee; 8] && contents[8..] == 0x1339u32.to_le_bytes());
        assert!(!apply(abi::R_X86_64_PC32, 9).0 && !apply(abi::R_X86_64_64, u64::MAX).0);
        assert_eq!(Rule::of(abi::R_X86_64_COPY), None);
        assert_eq!(Rule::of(abi::R_X86_64_REX_GOTPCRELX).map(|rule| rule.operand), Some(Operand::Entry));
    }
}
