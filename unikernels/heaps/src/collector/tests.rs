use super::*;
use crate::memory::Model;
use crate::programs::{PAGES, Program, YOUNG_PAGES};
use libos_fs::device::fault::Dice;

fn no_clock() -> u64 {
    0
}

/// A graph on the side that is what the heap should hold: for each object its references and its words.
type Graph = Vec<(Vec<Option<usize>>, Vec<u64>)>;

/// Random steps on a small heap, compared with a plain graph after each collection and at the end.
fn agrees<const SOFTWARE: bool>(barrier: Barrier, seed: u64) -> Collections {
    const ROOTS: usize = 12;
    let (mut dice, pages) = (Dice::new(seed), 41);
    let mut heap = Heap::<_, SOFTWARE>::new(Model::new(pages), pages, 4, barrier, no_clock);
    let mut graph: Graph = Vec::new();
    let mut holds: Vec<Option<usize>> = vec![None; ROOTS];
    let roots: Vec<Root> = (0..ROOTS).map(|_| heap.root(0)).collect();
    let mut collections = heap.collections();
    for step in 0..4000 {
        let (one, other) = (dice.below(ROOTS as u64) as usize, dice.below(ROOTS as u64) as usize);
        match dice.below(10) {
            0..=4 => {
                // One in fifty is so large that it is old at once.
                let (few, many) = (dice.below(4) as usize, dice.below(700) as usize);
                let references = if dice.below(50) == 0 { many } else { few };
                let data = dice.below(6) as usize;
                let count = heap.roots();
                let Ok(made) = heap.allocate(references, data) else { panic!("{barrier:?} {seed}: full") };
                let object = heap.at(made);
                heap.truncate_roots(count);
                heap.set_root(roots[one], object);
                holds[one] = Some(graph.len());
                graph.push((vec![None; references], vec![0; data]));
            }
            5..=7 => {
                if let Some(from) = holds[one]
                    && !graph[from].0.is_empty()
                {
                    let number = dice.below(graph[from].0.len() as u64) as usize;
                    heap.set_reference(heap.at(roots[one]), number, heap.at(roots[other]));
                    graph[from].0[number] = holds[other];
                }
            }
            8 => {
                if let Some(at) = holds[one]
                    && !graph[at].1.is_empty()
                {
                    let number = dice.below(graph[at].1.len() as u64) as usize;
                    heap.set_data(heap.at(roots[one]), number, step);
                    graph[at].1[number] = step;
                }
            }
            _ => {
                // On to something that the object refers to, or to nothing.
                let (to, reference) = match holds[one] {
                    Some(from) if !graph[from].0.is_empty() => {
                        let number = dice.below(graph[from].0.len() as u64) as usize;
                        (graph[from].0[number], heap.reference(heap.at(roots[one]), number))
                    }
                    _ => (None, 0),
                };
                heap.set_root(roots[other], reference);
                holds[other] = to;
            }
        }
        if heap.collections() != collections || step == 3999 {
            collections = heap.collections();
            same(&heap, &roots, &graph, &holds);
        }
    }
    collections
}

fn same<const S: bool>(heap: &Heap<Model, S>, roots: &[Root], graph: &Graph, holds: &[Option<usize>]) {
    let mut places: Vec<Option<u64>> = vec![None; graph.len()];
    let mut pending: Vec<(Option<usize>, u64)> =
        holds.iter().copied().zip(roots.iter().map(|root| heap.at(*root))).collect();
    while let Some((expected, found)) = pending.pop() {
        let Some(expected) = expected else {
            assert_eq!(found, 0);
            continue;
        };
        assert_ne!(found, 0, "object {expected} is lost");
        if let Some(place) = places[expected] {
            assert_eq!(place, found, "object {expected} is there twice");
            continue;
        }
        places[expected] = Some(found);
        let (references, data) = &graph[expected];
        for (number, word) in data.iter().enumerate() {
            assert_eq!(heap.data(found, number), *word, "word {number} of object {expected}");
        }
        pending.extend(references.iter().enumerate().map(|(at, to)| (*to, heap.reference(found, at))));
    }
}

#[test]
fn all_barriers_keep_what_is_reachable() {
    let mut sum = Collections::default();
    for seed in 0..12 {
        for done in [
            agrees::<true>(Barrier::Software, seed),
            agrees::<false>(Barrier::Protection, seed),
            agrees::<false>(Barrier::Dirty, seed),
        ] {
            sum.small += done.small;
            sum.full += done.full;
            sum.pages_scanned += done.pages_scanned;
            sum.fields_noted += done.fields_noted;
        }
    }
    // What the barriers are for must have come up.
    assert!(sum.small > 100 && sum.full > 10, "{sum:?}");
    assert!(sum.pages_scanned > 100 && sum.fields_noted > 100, "{sum:?}");
}

#[test]
fn programs_come_to_the_same_under_every_barrier() {
    for program in Program::ALL {
        let software = {
            let memory = Model::new(PAGES);
            let mut heap = Heap::<_, true>::new(memory, PAGES, YOUNG_PAGES, Barrier::Software, no_clock);
            program.run(&mut heap).unwrap()
        };
        for barrier in [Barrier::Protection, Barrier::Dirty] {
            let mut heap = Heap::<_, false>::new(Model::new(PAGES), PAGES, YOUNG_PAGES, barrier, no_clock);
            assert_eq!(program.run(&mut heap), Ok(software), "{} {}", program.name(), barrier.name());
            assert!(heap.collections().small > 0, "{}: no collection", program.name());
        }
    }
}

#[test]
fn a_heap_that_is_full_says_so() {
    let mut heap = Heap::<_, false>::new(Model::new(13), 13, 4, Barrier::Protection, no_clock);
    let mut made = 0;
    let full = loop {
        match heap.allocate(1, 30) {
            Ok(_) => made += 1,
            Err(full) => break full,
        }
    };
    assert!(made > 4 * 16 && full.words == 32, "{made} objects, then {full}");
}
