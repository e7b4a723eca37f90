//! What the linear map shows: all of memory, writable except for the image's constants and code.
#![forbid(unsafe_code)]

use super::paging::{self, Access, Mapping, PageSize};
use crate::platform::Facts;
use core::ops::Range;
use hyperexo_abi::{FRAME_SHIFT, LINEAR_BASE};

/// The parts of the linear map: RAM below the device registers, the registers, and RAM above them.
pub(super) fn linear_areas(facts: &Facts) -> [Mapping; 3] {
    let end = (facts.memory_end_frame << FRAME_SHIFT).next_multiple_of(paging::LARGE_BYTES);
    let devices = &facts.devices;
    let part = |start: u64, end: u64, access| Mapping {
        virtual_start: LINEAR_BASE + start,
        physical_start: start,
        bytes: end.saturating_sub(start),
        access,
        size: PageSize::Large,
    };
    let low_end = if devices.is_empty() { end } else { end.min(devices.start) };
    [
        part(0, low_end, Access::Write),
        part(devices.start, devices.end, Access::Device),
        part(devices.end.max(low_end), end, Access::Write),
    ]
}

/// The mappings of a part of the linear map. Its pages are large, but small where a large one would hold
/// addresses of `read_only`.
pub(super) fn around_read_only(part: Mapping, read_only: &Range<u64>) -> [Mapping; 5] {
    let within = |address: u64| address.clamp(part.physical_start, part.physical_start + part.bytes);
    let borders = [
        part.physical_start,
        within(read_only.start / paging::LARGE_BYTES * paging::LARGE_BYTES),
        within(read_only.start),
        within(read_only.end),
        within(read_only.end.next_multiple_of(paging::LARGE_BYTES)),
        part.physical_start + part.bytes,
    ];
    core::array::from_fn(|at| Mapping {
        virtual_start: LINEAR_BASE + borders[at],
        physical_start: borders[at],
        bytes: borders[at + 1] - borders[at],
        access: if at == 2 { Access::Read } else { part.access },
        size: if (1..=3).contains(&at) { PageSize::Small } else { PageSize::Large },
    })
}

#[cfg(test)]
mod tests {
    use super::super::space::tables_for;
    use super::*;
    use alloc::vec::Vec;

    const FACTS: Facts = Facts::EXAMPLE;
    const PAGE: u64 = hyperexo_abi::FRAME_BYTES as u64;

    #[test]
    fn device_registers_lie_beside_memory() {
        let gigabyte = 1 << 30;
        let parts = |memory_bytes: u64| {
            let facts = Facts {
                memory_end_frame: memory_bytes >> FRAME_SHIFT,
                devices: 3 * gigabyte..4 * gigabyte,
                ..FACTS
            };
            linear_areas(&facts).map(|part| (part.physical_start >> 20, part.bytes >> 20, part.access))
        };
        let devices = (3 << 10, 1 << 10, Access::Device);
        assert_eq!(parts(3 << 20), [(0, 4, Access::Write), devices, (4 << 10, 0, Access::Write)]);
        assert_eq!(
            parts(5 * gigabyte),
            [(0, 3 << 10, Access::Write), devices, (4 << 10, 1 << 10, Access::Write)]
        );
    }

    #[test]
    fn the_linear_map_is_whole_wherever_the_image_lies() {
        let [part, ..] = linear_areas(&FACTS);
        let large = paging::LARGE_BYTES;
        for read_only in [
            0..PAGE,
            PAGE..large,
            large..2 * large,
            large - PAGE..large + PAGE,
            8 * large - PAGE..8 * large,
            0..0,
        ] {
            let mappings = around_read_only(part, &read_only);
            let mut next = 0;
            for mapping in mappings {
                assert_eq!((mapping.physical_start, mapping.virtual_start), (next, LINEAR_BASE + next));
                assert!(mapping.bytes.is_multiple_of(mapping.size.bytes()), "{read_only:x?}: {mapping:x?}");
                next += mapping.bytes;
            }
            assert_eq!(next, part.bytes);
            let read: u64 = mappings.iter().filter(|m| m.access == Access::Read).map(|m| m.bytes).sum();
            assert_eq!(read, read_only.end - read_only.start);
            let needed = tables_for(&FACTS, &read_only) - tables_for(&FACTS, &(0..0));
            let small: u64 = mappings.iter().filter(|m| m.size == PageSize::Small).map(|m| m.bytes).sum();
            assert_eq!(needed, small / large);
        }
        // A part without read-only addresses is one mapping.
        let high = Mapping { physical_start: 32 << 20, virtual_start: LINEAR_BASE + (32 << 20), ..part };
        let mappings = around_read_only(high, &(large..large + PAGE));
        assert_eq!(mappings.iter().filter(|mapping| mapping.bytes > 0).collect::<Vec<_>>(), [&high]);
    }
}
