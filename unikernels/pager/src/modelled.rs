//! Paged memory of the host: the engine of `libos-pager` and its policies, over a page table that is a model
//! and a disk that is memory. So what a program's own policy does is seen without a machine.

use crate::memory::{Array, Memory, pages_touched, pages_within};
use crate::options::Policy;
use crate::programs::{OwnPolicy, Program};
use crate::{PAGE_BYTES, PAGE_WORDS};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::ops::Range;
use libos_core::window::Protection;
use libos_fs::RamDisk;
use libos_fs::cache::Advice;
use libos_pager::model::Model;
use libos_pager::{Area, Engine, Foretelling, References, Statistics, Swap};

/// Most pages of a request.
pub const CLUSTER: usize = 16;

/// Paged memory whose processor is this program.
pub struct Modelled {
    model: Model,
    engine: Rc<RefCell<Engine<Model>>>,
    disk: Swap,
    next: Cell<u64>,
    /// What a program says goes here, if its policy listens.
    foretelling: Foretelling,
    listens: bool,
}

impl Modelled {
    /// Memory for a program under a policy.
    ///
    /// # Panics
    ///
    /// If there are too few frames: none.
    pub fn new(program: Program, scale: usize, policy: Policy, frames: usize) -> Modelled {
        let pages = program.pages(scale);
        let model = Model::new(pages);
        let foretelling = Foretelling::new();
        let first = Box::new(foretelling.policy());
        let mut engine = Engine::new(model.clone(), pages, frames, CLUSTER, first, References::Sampled);
        if let OwnPolicy::Library(kind) = policy.of(program) {
            engine.use_policy(kind, model.bits());
        }
        let disk = Swap::new(Box::new(RamDisk::new(pages)), 0).unwrap_or_else(|error| panic!("{error}"));
        let engine = Rc::new(RefCell::new(engine));
        Modelled { model, engine, disk, next: Cell::new(0), foretelling, listens: policy == Policy::Own }
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.engine.borrow().statistics()
    }
}

/// An array of a [`Modelled`].
pub struct ModelledArray {
    model: Model,
    engine: Rc<RefCell<Engine<Model>>>,
    foretelling: Option<Foretelling>,
    first: u64,
    words: usize,
}

impl Memory for Modelled {
    type Array<'m> = ModelledArray;

    fn array(&self, words: usize) -> ModelledArray {
        let pages = words.div_ceil(PAGE_WORDS) as u64;
        let first = self.next.replace(self.next.get() + pages + 1);
        let pager = Box::new(self.disk.another(pages).unwrap_or_else(|error| panic!("{error}")));
        let area = Area { pages: first..first + pages, pager, protection: Protection::Write };
        self.engine.borrow_mut().add(area);
        ModelledArray {
            model: self.model.clone(),
            engine: Rc::clone(&self.engine),
            foretelling: self.listens.then(|| self.foretelling.clone()),
            first,
            words,
        }
    }

    fn frames(&self) -> Option<usize> {
        self.listens.then(|| self.engine.borrow().frames())
    }
}

impl ModelledArray {
    fn access<T>(&self, at: usize, write: bool, with: impl Fn(&mut [u8; 8]) -> T) -> T {
        let (page, offset) = (self.first + (at / PAGE_WORDS) as u64, at * 8 % PAGE_BYTES);
        loop {
            let word = |page: &mut hyperexo_abi::Page| page.0[offset..].first_chunk_mut().map(&with);
            match self.model.access(page, write, word) {
                Some(done) => return done.expect("a word of the page"),
                None => self.engine.borrow_mut().fault(page, write).unwrap_or_else(|error| panic!("{error}")),
            }
        }
    }

    fn page(&self, at: usize) -> u64 {
        self.first + (at / PAGE_WORDS) as u64
    }

    fn say(&self, pages: Range<u64>, what: impl Fn(&mut Engine<Model>, Range<u64>)) {
        if self.foretelling.is_some() && !pages.is_empty() {
            what(&mut self.engine.borrow_mut(), self.first + pages.start..self.first + pages.end);
        }
    }

    fn advise(&self, words: &Range<usize>, advice: Advice) {
        self.say(pages_touched(words), |engine, pages| {
            // A page that can't come ahead fails when it is needed.
            let _ = engine.advise(pages, advice);
        });
    }
}

impl Array for ModelledArray {
    fn get(&self, at: usize) -> u64 {
        self.access(at, false, |word| u64::from_le_bytes(*word))
    }

    fn set(&self, at: usize, word: u64) {
        self.access(at, true, |bytes| *bytes = word.to_le_bytes());
    }

    fn words(&self) -> usize {
        self.words
    }

    fn will_need(&self, words: Range<usize>) {
        self.advise(&words, Advice::WillNeed);
    }

    fn done_with(&self, words: Range<usize>) {
        self.say(pages_within(&words), |engine, pages| {
            let _ = engine.advise(pages, Advice::DoneWith);
        });
    }

    fn sequential(&self, words: Range<usize>) {
        self.advise(&words, Advice::Sequential);
    }

    fn looping(&self, words: Range<usize>) {
        self.advise(&words, Advice::Loop);
    }

    fn normal(&self, words: Range<usize>) {
        self.advise(&words, Advice::Normal);
    }

    fn discard(&self, words: Range<usize>) {
        self.say(pages_within(&words), |engine, pages| engine.discard(pages));
    }

    fn tells_all_of(&self, words: Range<usize>) {
        let pages = pages_touched(&words);
        if let Some(foretelling) = &self.foretelling {
            foretelling.tells_all_of(self.first + pages.start..self.first + pages.end);
        }
    }

    fn will_use(&self, at: usize) {
        if let Some(foretelling) = &self.foretelling {
            foretelling.will_use(self.page(at));
        }
    }

    fn has_used(&self, at: usize) {
        if let Some(foretelling) = &self.foretelling {
            foretelling.has_used(self.page(at));
        }
    }

    fn is_in_memory(&self, at: usize) -> Option<bool> {
        self.foretelling.is_some().then(|| self.engine.borrow().is_in_memory(self.page(at)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::Recording;
    use crate::options::frames;
    use libos_fs::cache::{Opt, Referenced, Simulation};

    /// What a program does under a policy, its result checked.
    fn run(program: Program, policy: Policy, frames: usize, digest: u64) -> Statistics {
        let memory = Modelled::new(program, 1, policy, frames);
        assert_eq!(program.run(1, &memory), digest, "{} under {}", program.name(), policy.name());
        memory.statistics()
    }

    /// Within a tenth of Belady's optimum, or far fewer pages read where the program adapts. The product by
    /// rows takes long; the machine's test has it.
    #[test]
    fn own_policies_come_near_the_optimum() {
        for program in Program::ALL.into_iter().filter(|program| *program != Program::Matmul) {
            let memory = Recording::default();
            let digest = program.run(1, &memory);
            let frames = frames(program.usual_frames(), program.pages(1)).unwrap();
            let own = run(program, Policy::Own, frames, digest);
            if program.adapts() {
                let default = run(program, Policy::Default, frames, digest);
                let text = std::format!("{}: {own:?}, by default {default:?}", program.name());
                assert!(own.read * 10 < default.read * 6, "{text}");
                continue;
            }
            let references = memory.references();
            let mut opt = Opt::new(&references);
            let mut cache = Simulation::new(&mut opt, frames);
            let missed = |page: &&u64| cache.reference(**page) != Referenced::Hit;
            let least = references.iter().filter(missed).count() as u64;
            assert!(own.brought * 10 <= least * 11, "{}: {own:?}, at least {least}", program.name());
        }
    }
}
