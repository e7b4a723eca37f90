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
//! What bridges pass on counts as taken. If a device behind a bridge of bus 0 has a window without a place,
//! all windows behind that bridge are placed anew in one block, and the bridge passes on just that. What lies
//! behind further bridges stays as it is.
#![cfg_attr(not(test), forbid(unsafe_code))]

use crate::bridges::{self, Buses};
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
/// Unit of the windows of bridges.
const MIB: u64 = 1 << 20;

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

/// Gives every window of registers on bus 0, or behind a bridge there, an address in `reach` if it has none
/// there, as far as there is room. `reach` lies below 4 GiB. If there are more windows than can be kept in
/// mind, nothing is placed. Returns how many were. `access` goes to the same configuration space as `root`.
///
/// Every function is kept from answering for a moment: nobody may be using one.
pub fn bring_into_reach<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    access: &mut C,
    reach: &Range<u64>,
) -> usize {
    bridges::number_buses(root, access);
    let mut taken = Taken::new();
    let (mut homeless, mut all_known) = (false, true);
    let mut buses = Buses::from_bus_0();
    while let Some(bus) = buses.next_bus() {
        for (function, information) in root.enumerate_bus(bus) {
            let header = &information.header_type;
            buses.meet(access, function, header);
            for window in windows(root, function, header) {
                match window.is_in(reach) {
                    // Further down it is part of what a bridge passes on.
                    true if bus == 0 => all_known &= taken.add(window.address..window.address + window.bytes),
                    true => {}
                    false => homeless = true,
                }
            }
            if bus == 0 && *header == HeaderType::PciPciBridge {
                all_known &= bridges::windows(access, function).all(|window| taken.add(window));
            }
        }
    }
    if homeless && all_known { place_all(root, access, reach, &mut taken) } else { 0 }
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

fn place_all<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    access: &mut C,
    reach: &Range<u64>,
    taken: &mut Taken,
) -> usize {
    let mut placed = 0;
    for (function, information) in root.enumerate_bus(0) {
        placed += place(root, function, &information.header_type, |window| match window.is_in(reach) {
            true => None,
            false => taken.place(window.bytes, reach),
        });
        if information.header_type == HeaderType::PciPciBridge {
            placed += place_behind(root, access, function, reach, taken);
        }
    }
    placed
}

/// Places all windows behind a bridge, if one of them is not in reach.
fn place_behind<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    access: &mut C,
    bridge: DeviceFunction,
    reach: &Range<u64>,
    taken: &mut Taken,
) -> usize {
    let bus = bridges::bus_behind(access, bridge);
    let (mut bytes, mut homeless) = (0, false);
    for (function, information) in root.enumerate_bus(bus).take_while(|_| bus != 0) {
        if information.header_type == HeaderType::PciPciBridge {
            return 0;
        }
        for window in windows(root, function, &information.header_type) {
            bytes += window.bytes.max(PAGE);
            homeless |= !window.is_in(reach);
        }
    }
    // Twice as much, as each window begins at a multiple of its size.
    let size = (2 * bytes).next_power_of_two().max(MIB);
    let Some(start) = homeless.then(|| taken.place(size, reach)).flatten() else { return 0 };
    let block = start..start + size;
    bridges::set_window(access, bridge, &block);
    let mut inside = Taken::new();
    let mut placed = 0;
    for (function, information) in root.enumerate_bus(bus) {
        placed +=
            place(root, function, &information.header_type, |window| inside.place(window.bytes, &block));
    }
    placed
}

/// Gives the windows of a function the places that `choose` has for them, and returns how many.
fn place<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    function: DeviceFunction,
    header: &HeaderType,
    mut choose: impl FnMut(&Window) -> Option<u64>,
) -> usize {
    let mut placed = 0;
    let (_, command) = root.get_status_command(function);
    root.set_command(function, command & !Command::MEMORY_SPACE);
    for window in windows(root, function, header) {
        let Some(place) = choose(&window) else { continue };
        match window.wide {
            true => root.set_bar_64(function, window.register, place),
            false => root.set_bar_32(function, window.register, place as u32),
        }
        placed += 1;
    }
    root.set_command(function, command);
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
        /// Index of the bridge that it is behind.
        above: Option<usize>,
    }

    impl Machine {
        /// Index of a function: on bus 0 its device number; the one behind a bridge is device 0.
        fn index(&self, device: DeviceFunction) -> Option<usize> {
            let machine = self.0.borrow();
            let bus = |index: usize| machine[index].map_or(0, |bridge| (bridge.words[6] >> 8) as u8);
            (0..machine.len()).filter(|_| device.function == 0).find(|index| {
                machine[*index].is_some_and(|function| match function.above {
                    None => (device.bus, usize::from(device.device)) == (0, *index),
                    Some(bridge) => (device.bus, device.device) == (bus(bridge), 0) && device.bus != 0,
                })
            })
        }
    }

    impl ConfigurationAccess for Machine {
        fn read_word(&self, device: DeviceFunction, offset: u8) -> u32 {
            let Some(index) = self.index(device) else { return u32::MAX };
            self.0.borrow()[index].map_or(u32::MAX, |function| function.words[usize::from(offset / 4)])
        }

        fn write_word(&mut self, device: DeviceFunction, offset: u8, data: u32) {
            let index = self.index(device).unwrap();
            let mut machine = self.0.borrow_mut();
            let function = machine[index].as_mut().unwrap();
            let word = usize::from(offset / 4);
            function.words[word] = match word.checked_sub(4).and_then(|bar| function.sizes.get(bar)) {
                // A bridge has two base address registers, and other registers after them.
                Some(_) if function.words[3] >> 16 == 1 && word >= 6 => data,
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
        Some(Function { words, sizes: bars.map(|(_, size)| size), above: None })
    }

    /// Runs it; returns how many windows were placed, and the base address registers of a device after that.
    fn run(functions: [Option<Function>; 4], device: usize) -> (usize, [u32; 6]) {
        let machine = Machine(Rc::new(RefCell::new(functions)));
        let (mut access, mut root) = (machine.clone(), PciRoot::new(machine.clone()));
        let placed = bring_into_reach(&mut root, &mut access, &REACH);
        let words = machine.0.borrow()[device].unwrap().words;
        assert_eq!(words[1], 2, "the function answers again");
        (placed, core::array::from_fn(|bar| words[4 + bar]))
    }

    /// All functions after that.
    fn machine_after(functions: [Option<Function>; 4]) -> [Option<Function>; 4] {
        let machine = Machine(Rc::new(RefCell::new(functions)));
        bring_into_reach(&mut PciRoot::new(machine.clone()), &mut machine.clone(), &REACH);
        *machine.0.borrow()
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

    /// A bridge, and a device behind it with a window of 64 bits.
    fn bridge_and_device(bus: u32, window: u32, place: u32) -> [Option<Function>; 4] {
        let mut bridge = function(1, [NONE; 6]).unwrap();
        (bridge.words[6], bridge.words[8], bridge.words[9]) = (bus << 16 | bus << 8, window, 0x1234_1230);
        let mut device = function(0, [NONE, (0, 0x1000), NONE, NONE, (place | 0xc, 0x4000), UPPER]).unwrap();
        device.above = Some(0);
        [Some(bridge), Some(device), None, None]
    }

    #[test]
    fn a_device_behind_a_bridge_without_number_is_placed() {
        let functions = bridge_and_device(0, 0, 0);
        let (placed, bars) = run(functions, 1);
        assert_eq!((placed, bars), (2, [0, 0xfebf_f000, 0, 0, 0xfebf_800c, 0]));
        let machine = machine_after(functions);
        assert_eq!(machine[0].unwrap().words[6], 0x0001_0100, "the bus has a number");
        assert_eq!(machine[0].unwrap().words[8], 0xfeb0_feb0, "one MiB is passed on");
        assert_eq!(machine[0].unwrap().words[9], 0x0000_fff0, "nothing else is");
    }

    #[test]
    fn what_firmware_did_behind_a_bridge_stays() {
        let mut functions = bridge_and_device(5, 0xfe80_fe80, 0xfe80_4000);
        functions[1].as_mut().unwrap().words[5] = 0xfe80_0000;
        let (placed, bars) = run(functions, 1);
        assert_eq!((placed, bars), (0, [0, 0xfe80_0000, 0, 0, 0xfe80_400c, 0]));
        assert_eq!(machine_after(functions)[0].unwrap().words[6], 0x0005_0500);
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
