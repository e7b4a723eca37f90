//! What must hold of the whole kernel after each piece of work.

use super::Machine;
use crate::environment::Remains;
use crate::machine::id::EnvironmentId;
use crate::resource::frame::Place;
use crate::resource::frame::audit::Walk;
use crate::resource::frame::table::{Owner, regions};
use crate::virt::VCPU_FRAMES;
use core::sync::atomic::Ordering;
use hyperexo_abi::LARGE_FRAMES;
use std::collections::{BTreeSet, HashMap};

impl Machine {
    /// Checks everything.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn audit(&mut self) {
        self.kernel.pages.frames.audit();
        let tables = self.kernel.pages.all_tables();
        self.audit_tables(&tables);
        self.audit_bindings(&tables);
        self.audit_accounts(&tables);
        self.audit_pins();
        self.processors.audit(&mut self.kernel, &tables);
        if self.is_at_rest() {
            self.audit_published();
        }
    }

    /// Whether no call is underway, and nothing of the dead is left.
    fn is_at_rest(&self) -> bool {
        let mut environments = self.kernel.environments.iter();
        !self.kernel.has_remains()
            && environments.all(|environment| environment.vcpus.iter().all(|slot| slot.underway.is_none()))
    }

    /// Each table lies in a frame of the kernel of its own, and its entries are counted.
    fn audit_tables(&self, tables: &[(Place, Walk)]) {
        let frames = &self.kernel.pages.frames;
        let mut seen = BTreeSet::new();
        for (place, walk) in tables {
            for (table, entries) in &walk.tables {
                assert!(seen.insert(*table), "table {table:#x} of {place:?} is another's too");
                assert_eq!(frames.owner(*table), Owner::Kernel, "table {table:#x} of {place:?}");
                assert_eq!(frames.entries_of(*table), *entries, "entries of table {table:#x}");
            }
        }
    }

    /// What is counted of each frame is what tables have, and only what may be bound is.
    fn audit_bindings(&self, tables: &[(Place, Walk)]) {
        let frames = &self.kernel.pages.frames;
        let mut small = vec![0; frames.len() as usize];
        let mut large = vec![0; regions(frames.len()) as usize];
        for (_, walk) in tables {
            for leaf in &walk.leaves {
                match leaf.frames {
                    LARGE_FRAMES => large[(leaf.first / LARGE_FRAMES) as usize] += 1,
                    _ => small[leaf.first as usize] += 1,
                }
            }
        }
        let mut is_table = vec![false; frames.len() as usize];
        let own = tables.iter().flat_map(|(_, walk)| &walk.tables);
        own.for_each(|(table, _)| is_table[*table as usize] = true);
        let environments = self.kernel.environments.iter();
        let doorbells =
            environments.flat_map(|environment| &environment.vcpus).map(|slot| slot.doorbell_frame);
        let shown: BTreeSet<u64> = self.shown.iter().copied().chain(doorbells).collect();
        for frame in 0..frames.len() {
            let (counted, of_region) = (small[frame as usize], large[(frame / LARGE_FRAMES) as usize]);
            let is = if is_table[frame as usize] { (0, of_region) } else { frames.bindings(frame) };
            assert_eq!(is, (counted, of_region), "bindings of frame {frame:#x}");
            if counted + of_region == 0 {
                continue;
            }
            match frames.owner(frame) {
                Owner::Environment(id) => {
                    let owner = self.kernel.environments.get(id);
                    assert!(owner.is_some(), "frame {frame:#x} is bound, its owner {id:?} no more");
                }
                Owner::Kernel => {
                    assert!(shown.contains(&frame), "the kernel's frame {frame:#x} is bound")
                }
                owner => panic!("frame {frame:#x} is bound and {owner:?}"),
            }
        }
    }

    /// What is charged is what is held, and the kernel has no more than that.
    fn audit_accounts(&self, tables: &[(Place, Walk)]) {
        let pages = &self.kernel.pages;
        let (mut budgets, mut kernel) = (HashMap::<EnvironmentId, u64>::new(), self.kernel_frames);
        for (place, walk) in tables {
            kernel += walk.tables.len() as u64;
            if let Place::View(view) = place {
                let (owner, budget, taken) = pages.view_account(*view).expect("it was just there");
                assert_eq!(taken, walk.tables.len() as u64, "tables of {view:?}");
                *budgets.entry(owner).or_default() += budget;
            }
        }
        for environment in self.kernel.environments.iter() {
            let id = environment.id;
            let is_gone = environment.remains == Remains::Nothing;
            assert!(!is_gone || pages.frames.owned_by(id) == 0, "{id:?} is gone and owns frames");
            let own = tables.iter().find(|(place, _)| *place == Place::Own(id));
            let own = own.map_or(0, |(_, walk)| walk.tables.len() as u64);
            let vcpus = environment.vcpus.iter().filter(|slot| slot.vcpu.is_some()).count() * VCPU_FRAMES;
            let maps = self.kernel.disk.as_ref().map_or(0, |disk| disk.map_frames(id));
            let (charged, has_list) = pages.charged(id);
            // One for its console, for ever.
            let besides = (vcpus + environment.vcpus.len()) as u64 + u64::from(has_list) + maps + 1;
            let budget = budgets.get(&id).copied().unwrap_or(0);
            assert_eq!(charged, own + besides + budget, "charged to {id:?}");
            kernel += besides;
        }
        assert_eq!(pages.frames.kernel_frames(), kernel, "frames of the kernel");
    }

    /// What is pinned is what devices and rings use, and devices use nothing that is nobody's.
    fn audit_pins(&self) {
        let frames = &self.kernel.pages.frames;
        let environments = self.kernel.environments.iter();
        let slots = environments.flat_map(|environment| &environment.vcpus);
        let faults = slots.filter_map(|slot| slot.faults.as_ref()).map(|target| target.frame);
        let disk = self.kernel.disk.iter().flat_map(|disk| disk.pinned());
        let mut pins = vec![0; frames.len() as usize];
        let used = faults.chain(disk).chain(self.kernel.net.pinned());
        used.for_each(|frame| pins[frame as usize] += 1);
        for frame in 0..frames.len() {
            assert_eq!(frames.pins(frame), pins[frame as usize], "pins of frame {frame:#x}");
        }
    }

    /// What everybody can read is what the tables say.
    fn audit_published(&self) {
        let (pages, owners) = (&self.kernel.pages, self.kernel.pages.public.owners);
        let read = |counter: &core::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(read(&owners.free_frames), pages.frames.free_frames(), "published: free frames");
        assert_eq!(read(&owners.frames[0]), pages.frames.kernel_frames(), "published: the kernel's");
        for environment in self.kernel.environments.iter() {
            let id = environment.id;
            assert_eq!(read(&owners.frames[id.index()]), pages.frames.owned_by(id), "published: {id:?}");
            if let Some(disk) = &self.kernel.disk {
                assert_eq!(read(&owners.blocks[id.index()]), disk.owned_by(id), "published blocks: {id:?}");
            }
        }
    }
}
