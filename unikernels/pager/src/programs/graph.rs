//! PageRank and breadth-first search on a graph whose degrees follow a power law.

use crate::memory::{Array, Draw, Memory, digest};

/// Vertices, at scale 1.
const VERTICES: usize = 16 << 10;
/// Edges of each vertex.
const DEGREE: usize = 6;
/// Rounds of PageRank.
const ROUNDS: usize = 8;
/// Vertices of the queue whose edges are foretold.
const FORETOLD: usize = 512;

/// Words of edges; of ranks before and after a round, or of distances and the queue.
pub(super) fn arrays(scale: usize) -> [usize; 3] {
    let vertices = VERTICES * scale;
    [vertices * DEGREE, vertices, vertices]
}

/// Draws the edges: few vertices have most of the links that lead to them.
fn edges<M: Memory>(memory: &M, vertices: usize) -> M::Array<'_> {
    let edges = memory.array(vertices * DEGREE);
    let mut draw = Draw::new(3);
    for at in 0..vertices * DEGREE {
        // A product of three draws prefers small numbers: much like a power law. The first link of each
        // vertex reaches its neighbour, so that all can be reached.
        let far = [draw.below(1 << 20), draw.below(1 << 20), draw.below(1 << 20)];
        let vertex = (((far[0] * far[1]) >> 20) * far[2]) >> 20;
        let vertex = (vertex as usize * vertices) >> 20;
        let neighbour = (at / DEGREE + 1) % vertices;
        edges.set(at, if at.is_multiple_of(DEGREE) { neighbour } else { vertex } as u64);
    }
    edges
}

/// Ranks in 1/2³² of a vertex's fair share.
const SHARE: u64 = 1 << 32;

pub(super) fn pagerank(memory: &impl Memory, scale: usize) -> u64 {
    let vertices = VERTICES * scale;
    let edges = edges(memory, vertices);
    let (mut ranks, mut next) = (memory.array(vertices), memory.array(vertices));
    (0..vertices).for_each(|vertex| ranks.set(vertex, SHARE));
    // Read from the first to the last in each round, and too many to keep.
    edges.sequential(0..vertices * DEGREE);
    for _ in 0..ROUNDS {
        // These are read in order, too; what is added to is used in no order.
        ranks.sequential(0..vertices);
        next.normal(0..vertices);
        (0..vertices).for_each(|vertex| next.set(vertex, SHARE * 15 / 100));
        for vertex in 0..vertices {
            let share = ranks.get(vertex) / DEGREE as u64 * 85 / 100;
            for at in vertex * DEGREE..(vertex + 1) * DEGREE {
                let target = edges.get(at) as usize;
                next.set(target, next.get(target) + share);
            }
        }
        (ranks, next) = (next, ranks);
    }
    digest(&ranks)
}

/// Distances from vertex 0, plus 1; 0 where it does not lead.
pub(super) fn bfs(memory: &impl Memory, scale: usize) -> u64 {
    let vertices = VERTICES * scale;
    let edges = edges(memory, vertices);
    let (distances, queue) = (memory.array(vertices), memory.array(vertices));
    // Edges are looked at in the order of the queue, so what is in it foretells them.
    edges.tells_all_of(0..vertices * DEGREE);
    let (mut head, mut tail, mut told) = (0, 1, 0);
    queue.set(0, 0);
    distances.set(0, 1);
    while head < tail {
        while told < tail.min(head + FORETOLD) {
            edges.will_use(queue.get(told) as usize * DEGREE);
            told += 1;
        }
        let vertex = queue.get(head) as usize;
        head += 1;
        if head.is_multiple_of(crate::PAGE_WORDS) {
            queue.discard(head - crate::PAGE_WORDS..head);
        }
        let distance = distances.get(vertex);
        for at in vertex * DEGREE..(vertex + 1) * DEGREE {
            let target = edges.get(at) as usize;
            if distances.get(target) == 0 {
                distances.set(target, distance + 1);
                queue.set(tail, target as u64);
                tail += 1;
            }
        }
        edges.has_used(vertex * DEGREE);
    }
    digest(&distances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;
    use alloc::collections::VecDeque;
    use alloc::vec;
    use alloc::vec::Vec;

    const EDGES: usize = VERTICES * DEGREE;

    #[test]
    fn links_lead_to_few_and_all_are_reached() {
        let memory = Recording::default();
        let edges = edges(&memory, VERTICES);
        let mut degrees = vec![0usize; VERTICES];
        (0..EDGES).for_each(|at| degrees[edges.get(at) as usize] += 1);
        degrees.sort_unstable();
        let most: usize = degrees[VERTICES * 9 / 10..].iter().sum();
        assert!(most * 2 > EDGES, "a tenth of the vertices has {most} of {EDGES} links");
        // Against a search without paged arrays.
        let links: Vec<usize> = (0..EDGES).map(|at| edges.get(at) as usize).collect();
        let mut distances = vec![0u64; VERTICES];
        let mut queue = VecDeque::from([0usize]);
        distances[0] = 1;
        while let Some(vertex) = queue.pop_front() {
            for target in &links[vertex * DEGREE..][..DEGREE] {
                if distances[*target] == 0 {
                    distances[*target] = distances[vertex] + 1;
                    queue.push_back(*target);
                }
            }
        }
        assert!(distances.iter().all(|distance| *distance > 0));
        let expected = memory.array(VERTICES);
        distances.iter().enumerate().for_each(|(at, distance)| expected.set(at, *distance));
        assert_eq!(bfs(&Recording::default(), 1), digest(&expected));
    }
}
