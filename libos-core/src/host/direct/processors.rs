//! The processors of a machine: which there are.
#![forbid(unsafe_code)]

use hyperexo_hw::acpi::{self, MAX_PROCESSORS};

/// Local APIC numbers of the processors. The first is the one that booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processors {
    apic_ids: [u8; MAX_PROCESSORS],
    count: usize,
}

impl Processors {
    /// The processors in the firmware's tables, at most `limit`. Without tables, the calling one alone.
    ///
    /// `own` is the number of the calling one.
    pub fn new(tables: Option<&acpi::Machine>, own: u8, limit: u64) -> Processors {
        let told = tables.map_or(&[][..], acpi::Machine::apic_ids);
        let mut processors = Processors { apic_ids: [0; MAX_PROCESSORS], count: 0 };
        let others = told.iter().copied().filter(|id| *id != own);
        let limit = usize::try_from(limit).unwrap_or(MAX_PROCESSORS);
        for id in core::iter::once(own).chain(others).take(limit.clamp(1, MAX_PROCESSORS)) {
            processors.apic_ids[processors.count] = id;
            processors.count += 1;
        }
        processors
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The local APIC number of a core.
    pub fn apic_id(&self, core: u64) -> Option<u8> {
        self.apic_ids[..self.count].get(usize::try_from(core).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tables_there_is_one_processor() {
        let processors = Processors::new(None, 3, 8);
        assert_eq!((processors.count(), processors.apic_id(0), processors.apic_id(1)), (1, Some(3), None));
    }
}
