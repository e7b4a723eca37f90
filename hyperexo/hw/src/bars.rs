//! Base address registers that firmware left without an address, or gave one that nobody maps.
//!
//! SeaBIOS gives every window of registers an address below 4 GiB. qboot leaves out those that may lie
//! anywhere, and UEFI firmware puts them above 4 GiB. [`bring_into_reach`] gives these a place where device
//! registers are mapped:
//!
//! ```text
//! reach.start ─ windows that have an address, in reach ─ ... ─ windows placed here ─ CEILING: APICs, firmware
//!                                                          from the top downwards
//! ```
//!
//! Only bus 0 is looked at, as everywhere here; what its bridges pass on counts as taken.
#![cfg_attr(not(test), forbid(unsafe_code))]

use crate::linear::lies_in;
use core::ops::Range;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, HeaderType, PciRoot,
};

/// Nothing is placed from here on: I/O APICs, local APICs, firmware.
const CEILING: u64 = 0xfec0_0000;
/// Most windows that are kept in mind.
const MOST_WINDOWS: usize = 96;
/// Smallest alignment of a window: a page, so that no two share one.
const PAGE: u64 = 4096;
/// Registers of a bridge (PCI-to-PCI bridge 1.2 §3.2.5): memory base and limit, in units of 1 MiB.
const BRIDGE_WINDOWS: [u8; 2] = [0x20, 0x24];

/// Addresses that are in use.
struct Taken {
    windows: [Range<u64>; MOST_WINDOWS],
    count: usize,
}

impl Taken {
    const fn new() -> Taken {
        Taken { windows: [const { 0..0 }; MOST_WINDOWS], count: 0 }
    }

    /// Notes a window. `false` if there is no room to remember it.
    fn add(&mut self, window: Range<u64>) -> bool {
        let Some(slot) = self.windows.get_mut(self.count) else { return false };
        *slot = window;
        self.count += 1;
        true
    }

    /// The highest free place in `reach` for so many bytes (a power of two), aligned to their number, taken.
    fn place(&mut self, bytes: u64, reach: &Range<u64>) -> Option<u64> {
        let alignment = bytes.max(PAGE);
        let mut top = reach.end.min(CEILING);
        loop {
            let start = top.checked_sub(alignment)? / alignment * alignment;
            if start < reach.start {
                return None;
            }
            let window = start..start + alignment;
            let others = &self.windows[..self.count];
            match others.iter().find(|other| other.start < window.end && window.start < other.end) {
                Some(other) => top = other.start,
                None => return self.add(window).then_some(start),
            }
        }
    }
}

/// Gives every window of registers on bus 0 that has no address in `reach`, which lies below 4 GiB, one
/// there, as far as there is room, or none if there are more windows than can be kept in mind. Returns how
/// many were placed. `read` reads a word of configuration space.
///
/// Every function is kept from answering for a moment: nobody may be using one.
pub fn bring_into_reach<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    read: impl Fn(DeviceFunction, u8) -> u32,
    reach: &Range<u64>,
) -> usize {
    let mut taken = Taken::new();
    let (mut homeless, mut all_known) = (false, true);
    for (function, information) in root.enumerate_bus(0) {
        for window in windows(root, function, &information.header_type) {
            match window.is_in(reach) {
                true => all_known &= taken.add(window.address..window.address + window.bytes),
                false => homeless = true,
            }
        }
        if information.header_type == HeaderType::PciPciBridge {
            let mut bridged = BRIDGE_WINDOWS.into_iter().filter_map(|at| bridge_window(read(function, at)));
            all_known &= bridged.all(|window| taken.add(window));
        }
    }
    if homeless && all_known { place_all(root, reach, &mut taken) } else { 0 }
}

/// Whether all windows of registers of a function lie in `reach`.
pub fn are_in_reach<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    function: DeviceFunction,
    header: &HeaderType,
    reach: &Range<u64>,
) -> bool {
    windows(root, function, header).all(|window| window.is_in(reach))
}

fn place_all<C: ConfigurationAccess>(root: &mut PciRoot<C>, reach: &Range<u64>, taken: &mut Taken) -> usize {
    let mut placed = 0;
    for (function, information) in root.enumerate_bus(0) {
        let (_, command) = root.get_status_command(function);
        root.set_command(function, command & !Command::MEMORY_SPACE);
        for window in windows(root, function, &information.header_type) {
            if window.is_in(reach) {
                continue;
            }
            let Some(place) = taken.place(window.bytes, reach) else { continue };
            match window.wide {
                true => root.set_bar_64(function, window.register, place),
                false => root.set_bar_32(function, window.register, place as u32),
            }
            placed += 1;
        }
        root.set_command(function, command);
    }
    placed
}

/// A window of registers in memory.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Number of its base address register.
    register: u8,
    address: u64,
    bytes: u64,
    /// Whether the address has 64 bits.
    wide: bool,
}

impl Window {
    fn is_in(&self, reach: &Range<u64>) -> bool {
        lies_in(self.address, self.bytes, reach)
    }
}

/// The windows in memory of a function.
fn windows<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    function: DeviceFunction,
    header: &HeaderType,
) -> impl Iterator<Item = Window> + use<C> {
    let registers = match header {
        HeaderType::Standard => 6,
        HeaderType::PciPciBridge => 2,
        _ => 0,
    };
    let mut found = [None; 6];
    let mut register = 0;
    while register < registers {
        let info = root.bar_info(function, register).ok().flatten();
        let wide = info.as_ref().is_some_and(BarInfo::takes_two_entries);
        let place = info.and_then(|info| info.memory_address_size()).filter(|(_, bytes)| *bytes > 0);
        found[usize::from(register)] =
            place.map(|(address, bytes)| Window { register, address, bytes, wide });
        register += if wide { 2 } else { 1 };
    }
    found.into_iter().flatten()
}

/// Base and limit of a bridge's window, as its register holds them; `None` if it passes nothing on.
fn bridge_window(word: u32) -> Option<Range<u64>> {
    let base = u64::from(word & 0xfff0) << 16;
    let limit = u64::from(word >> 16 & 0xfff0) << 16 | 0xf_ffff;
    (base != 0 && base < limit).then_some(base..limit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use core::cell::RefCell;

    const REACH: Range<u64> = crate::linear::DEVICE_REGISTERS;

    /// Configuration space of a machine: for each function its words, and of which bits its base address
    /// registers consist.
    #[derive(Clone)]
    struct Machine(Rc<RefCell<[Option<Function>; 4]>>);

    #[derive(Clone, Copy)]
    struct Function {
        words: [u32; 16],
        /// Size of the window of each base address register; 0: none. With 64 bits the next has 1.
        sizes: [u32; 6],
    }

    impl ConfigurationAccess for Machine {
        fn read_word(&self, device: DeviceFunction, offset: u8) -> u32 {
            let machine = self.0.borrow();
            let found = machine.get(usize::from(device.device)).filter(|_| device.function == 0);
            found.copied().flatten().map_or(u32::MAX, |function| function.words[usize::from(offset / 4)])
        }

        fn write_word(&mut self, device: DeviceFunction, offset: u8, data: u32) {
            let mut machine = self.0.borrow_mut();
            let function = machine[usize::from(device.device)].as_mut().unwrap();
            let word = usize::from(offset / 4);
            function.words[word] = match word.checked_sub(4).and_then(|bar| function.sizes.get(bar)) {
                Some(0) => 0,
                Some(1) => data,
                Some(size) => data & !(size - 1) & !0xf | function.words[word] & 0xf,
                None => data,
            };
        }

        // SAFETY: nothing is asked of the caller: both share the words, and one thread uses them.
        unsafe fn unsafe_clone(&self) -> Machine {
            self.clone()
        }
    }

    fn function(kind: u32, bars: [(u32, u32); 6]) -> Option<Function> {
        let mut words = [0; 16];
        (words[0], words[1], words[3]) = (0x1042_1af4, 2, kind << 16);
        bars.iter().enumerate().for_each(|(bar, (value, _))| words[4 + bar] = *value);
        Some(Function { words, sizes: bars.map(|(_, size)| size) })
    }

    /// Runs it; returns how many windows were placed, and the base address registers of a device after that.
    fn run(functions: [Option<Function>; 4], device: usize) -> (usize, [u32; 6]) {
        let machine = Machine(Rc::new(RefCell::new(functions)));
        let (reader, mut root) = (machine.clone(), PciRoot::new(machine.clone()));
        let placed = bring_into_reach(&mut root, |function, at| reader.read_word(function, at), &REACH);
        let words = machine.0.borrow()[device].unwrap().words;
        assert_eq!(words[1], 2, "the function answers again");
        (placed, core::array::from_fn(|bar| words[4 + bar]))
    }

    const NONE: (u32, u32) = (0, 0);
    const UPPER: (u32, u32) = (0, 1);

    #[test]
    fn what_has_an_address_keeps_it() {
        let device = function(0, [(0xfebf_0000, 0x1000), NONE, (0xc, 0), NONE, (0xfe00_000c, 0x4000), UPPER]);
        let (placed, bars) = run([device, None, None, None], 0);
        assert_eq!((placed, bars), (0, [0xfebf_0000, 0, 0, 0, 0xfe00_000c, 0]));
    }

    #[test]
    fn what_has_none_gets_one_beside_the_others() {
        let device = function(0, [NONE, (0xfebf_f000, 0x1000), NONE, NONE, (0xc, 0x4000), UPPER]);
        let other = function(0, [(0xfebf_8000, 0x4000), NONE, NONE, NONE, (0xc, 0x4000), UPPER]);
        assert_eq!(run([device, other, None, None], 0), (2, [0, 0xfebf_f000, 0, 0, 0xfebf_400c, 0]));
        assert_eq!(run([device, other, None, None], 1), (2, [0xfebf_8000, 0, 0, 0, 0xfebf_000c, 0]));
    }

    #[test]
    fn what_lies_above_4_gib_is_brought_down() {
        let device = function(0, [NONE, NONE, NONE, NONE, (0x8000_000c, 0x4000), (0x38, 1)]);
        assert_eq!(run([device, None, None, None], 0), (1, [0, 0, 0, 0, 0xfebf_c00c, 0]));
    }

    #[test]
    fn what_a_bridge_passes_on_is_taken() {
        let mut bridge = function(1, [NONE; 6]).unwrap();
        bridge.words[8] = 0xfeb0_fe00;
        let device = function(0, [(0, 0x1000), NONE, NONE, NONE, NONE, NONE]);
        assert_eq!(run([Some(bridge), device, None, None], 1), (1, [0xfdff_f000, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn bridges_that_pass_nothing_on() {
        assert_eq!(bridge_window(0xfeb0_fe00), Some(0xfe00_0000..0xfec0_0000));
        assert_eq!(bridge_window(0), None);
        assert_eq!(bridge_window(0x0000_fff0), None);
    }

    #[test]
    fn places_are_aligned_and_do_not_overlap() {
        let mut taken = Taken::new();
        let mut seed = 3u64;
        let mut windows: [Range<u64>; 90] = core::array::from_fn(|_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bytes = 16 << ((seed >> 33) % 14);
            let start = taken.place(bytes, &REACH).unwrap();
            assert!(start.is_multiple_of(bytes) && start.is_multiple_of(PAGE));
            start..start + bytes
        });
        windows.sort_by_key(|window| window.start);
        assert!(windows.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(windows[0].start >= REACH.start && windows[89].end <= CEILING);
        assert_eq!(Taken::new().place(1 << 30, &REACH), None);
    }
}
