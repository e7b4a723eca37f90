//! Virtual CPUs that never run: tests are their guests. And what processors remember of nested tables.

use crate::kernel::Kernel;
use crate::machine::id::VcpuId;
use crate::resource::frame::Place;
use crate::resource::frame::audit::{Walk, walk};
use crate::resource::frame::nested::EntryFormat;
use crate::virt::{
    Backend, Exception, Frames, Guest, HostPage, Registers, Vcpu, VcpuBox, ViewChange, VmExit,
};
use core::fmt;
use std::collections::HashMap;

/// A virtualization extension without a processor.
pub struct ModelBackend(pub EntryFormat);

impl fmt::Display for ModelBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model")
    }
}

impl Backend for ModelBackend {
    fn entry_format(&self) -> EntryFormat {
        self.0
    }
    fn max_guests(&self) -> u64 {
        63
    }
    fn hypercall_instruction(&self) -> u64 {
        0
    }
    fn view_entry(&self, root: u64) -> u64 {
        root << 12 | 7
    }
    fn switches_views(&self) -> bool {
        false
    }
    fn host_page(&self) -> HostPage {
        HostPage(0)
    }
    unsafe fn new_vcpu(&self, frames: Frames, _guest: &Guest<'_>) -> VcpuBox {
        VcpuBox::leaked(Box::new(ModelVcpu::default()), frames)
    }
}

/// A virtual CPU of which there are only the registers.
#[derive(Default)]
struct ModelVcpu {
    registers: Registers,
    posted: bool,
}

impl Vcpu for ModelVcpu {
    fn take_core(&mut self) {}
    fn run(&mut self, _host: HostPage) -> VmExit {
        VmExit::Hypercall
    }
    fn registers(&mut self) -> &mut Registers {
        &mut self.registers
    }
    fn rip(&self) -> u64 {
        0
    }
    fn skip(&mut self, _bytes: u64) {}
    fn raise(&mut self, _exception: Exception) {}
    fn post_upcall(&mut self, _vector: u8) {
        self.posted = true;
    }
    fn upcall_posted(&self) -> bool {
        self.posted
    }
    fn interrupts_enabled(&self) -> bool {
        true
    }
    fn uses_xsave(&self) -> bool {
        false
    }
    fn set_xcr0(&mut self, _value: u64) -> bool {
        false
    }
    fn efer(&self) -> u64 {
        0
    }
    fn set_efer(&mut self, _value: u64) -> bool {
        false
    }
    fn change_views(&mut self, _change: &ViewChange) {}
    fn switch_view(&mut self, _entry: u64) -> bool {
        false
    }
    fn flush_nested(&mut self) {}
    fn leave_core(&mut self) {}
}

/// What the processors remember: as much as they may, as long as they may.
///
/// Whoever enters a guest has walked all of its tables, and goes on with what it saw until it is told to
/// forget. So a flush that is forgotten shows at once.
#[derive(Default)]
pub struct Processors(HashMap<VcpuId, HashMap<u64, Walk>>);

impl Processors {
    /// A virtual CPU enters its guest.
    pub fn enter(&mut self, kernel: &mut Kernel, who: VcpuId) {
        let roots = kernel.pages.view_roots(who.environment);
        let Some(slot) = kernel.vcpu_slot(who) else { return };
        let forget = std::mem::take(&mut slot.flush) | std::mem::take(&mut slot.views_changed);
        let remembered = self.0.entry(who).or_default();
        if forget {
            remembered.clear();
        }
        for root in roots.into_iter().filter(|root| *root != 0) {
            // What it knew before is still so, as was checked.
            remembered.insert(root, walk(&kernel.pages.memory, root));
        }
    }

    /// Checks that nobody remembers what is no more.
    ///
    /// # Panics
    ///
    /// If somebody does, and has not been told to forget it.
    pub fn audit(&self, kernel: &mut Kernel, tables: &[(Place, Walk)]) {
        let tables: HashMap<u64, &Walk> = tables.iter().map(|(_, walk)| (walk.root, walk)).collect();
        for (who, remembered) in &self.0 {
            let ended =
                kernel.environments.get(who.environment).is_none_or(|environment| environment.ended());
            let told = kernel.vcpu_slot(*who).is_none_or(|slot| slot.flush || slot.views_changed);
            if ended || told {
                continue;
            }
            let roots = kernel.pages.view_roots(who.environment);
            for (root, seen) in remembered {
                assert!(roots.contains(root), "{who:?} remembers a view that is not in its list");
                let now = tables[root];
                for (table, _) in &seen.tables {
                    let there = now.tables.iter().any(|(other, _)| other == table);
                    assert!(there, "{who:?} remembers the table {table:#x}");
                }
                let mut now = now.leaves.iter();
                for leaf in &seen.leaves {
                    assert!(now.any(|other| other == leaf), "{who:?} remembers {leaf:#x?}");
                }
            }
        }
    }
}
