//! Builds the graph: rows of the vector cache in, lists of neighbours out, as `hnsw.rs` writes and searches them.
//!
//! Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
//! world graphs" (2016), algorithms 1, 2 and 4. Rows stay where they are mapped. A list of neighbours is a line of a flat
//! table, which all threads read without waiting; writers of a list take turns. What is read of a list while it is
//! written are neighbours all the same. A row's level depends on its number alone, so the top of the graph is known
//! before the first row is put in; the links depend on which thread was quicker.
//!
//! Why not a library: over 100,000 statute passages of 384 numbers (M 16, efConstruction 200; medians of three runs in
//! turn) this takes 21 s of CPU, hnswlib 0.8.0 42 s, hnsw_rs 0.3.5 99 s, of which only 28 % are the distances that we
//! could make cheaper there; and 20 MB beside the mapped rows, where hnsw_rs takes 270 MB. Of the ten nearest a search
//! finds .998 (hnsw_rs .9985, hnswlib .9986) at ef 64, and .9989 (.9989, .9990) at ef 128. And every row is reached, of
//! which hnsw_rs cuts off 40.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::hnsw::{MAX_NEIGHBOURS, MAX_NEIGHBOURS_LOWEST, NONE};
use super::vectors::{Similarity, VectorCache};

/// Candidates looked at while a row is put in; 200 as usual.
const EF_CONSTRUCTION: usize = 200;
/// Layers above the lowest: one row in 16^8 would stand higher.
const MAX_LEVEL: usize = 8;
/// Locks for the lists of a layer; two writers seldom meet.
const N_LOCKS: usize = 1024;

/// What is built, as the sections of the file have it (`hnsw.rs`).
pub(super) struct Built {
    pub(super) lowest: Vec<u32>,
    pub(super) upper: Vec<u32>,
    pub(super) entry: usize,
    pub(super) n_layers_above: usize,
}

/// A graph over these rows, ascending, of which no two are equal. Every row can be reached from the entry.
pub(super) fn build(cache: &VectorCache, rows: &[u32]) -> Result<Built> {
    let graph = Growing::new(cache, rows)?;
    let next = AtomicUsize::new(0);
    rayon::broadcast(|_| {
        let mut visited = Visited::new(cache.n_rows());
        while let Some(&row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            graph.insert(row, &mut visited);
        }
    });
    graph.reconnect(rows, &mut Visited::new(cache.n_rows()));
    graph.finish()
}

/// The lists of a layer, or of the layers above the lowest; a node is a row in the lowest layer, a slot above.
struct Lists {
    width: usize,
    numbers: Vec<AtomicU32>,
    locks: Vec<Mutex<()>>,
}

impl Lists {
    fn new(n: usize, width: usize) -> Lists {
        Lists {
            width,
            numbers: (0..n * width).map(|_| AtomicU32::new(NONE)).collect(),
            locks: (0..N_LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// The right to write a node's list.
    fn turn(&self, node: u32) -> Option<MutexGuard<'_, ()>> {
        let lock = self.locks.get(node as usize % N_LOCKS)?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn places(&self, node: u32) -> &[AtomicU32] {
        let start = node as usize * self.width;
        let places = self.numbers.get(start..start + self.width);
        places.unwrap_or_default()
    }

    /// The neighbours of a node.
    fn of(&self, node: u32) -> impl Iterator<Item = u32> {
        let numbers = self.places(node).iter();
        let numbers = numbers.map(|place| place.load(Ordering::Relaxed));
        numbers.take_while(|&number| number != NONE)
    }

    fn set(&self, node: u32, neighbours: &[Step]) {
        let numbers = neighbours.iter().map(|neighbour| neighbour.node);
        for (place, number) in self
            .places(node)
            .iter()
            .zip(numbers.chain(std::iter::repeat(NONE)))
        {
            place.store(number, Ordering::Relaxed);
        }
    }

    /// Whether there was a place for one more.
    fn add(&self, node: u32, new: u32) -> bool {
        let is_free = |place: &&AtomicU32| place.load(Ordering::Relaxed) == NONE;
        let free = self.places(node).iter().find(is_free);
        free.is_some_and(|place| {
            place.store(new, Ordering::Relaxed);
            true
        })
    }

    /// Returns what stood in the last place.
    fn replace_last(&self, node: u32, new: u32) -> Option<u32> {
        let place = self.places(node).last()?;
        Some(place.swap(new, Ordering::Relaxed))
    }
}

/// A node that a search has reached.
#[derive(Debug, Clone, Copy)]
struct Step {
    similarity: f32,
    node: u32,
    /// Whether its neighbours are still to be looked at.
    is_open: bool,
}

/// The graph while rows are put in.
struct Growing<'a> {
    rows: &'a [u8],
    row_bytes: usize,
    similarity: Similarity,
    lowest: Lists,
    upper: Lists,
    row_of_slot: Vec<u32>,
    /// Rows above the lowest layer and the first slot of each, ascending.
    first_slots: Vec<(u32, u32)>,
    entry: u32,
    /// The entry in the lowest layer.
    entry_row: u32,
    n_layers_above: usize,
}

impl Growing<'_> {
    fn new<'a>(cache: &'a VectorCache, rows: &[u32]) -> Result<Growing<'a>> {
        let first = rows.first().copied().unwrap_or(0);
        let mut graph = Growing {
            rows: cache.all_rows()?,
            row_bytes: cache.row_bytes(),
            similarity: Similarity::new(),
            lowest: Lists::new(cache.n_rows(), MAX_NEIGHBOURS_LOWEST),
            upper: Lists::new(0, MAX_NEIGHBOURS),
            row_of_slot: Vec::new(),
            first_slots: Vec::new(),
            entry: first,
            entry_row: first,
            n_layers_above: 0,
        };
        for &row in rows {
            let level = level(row);
            let n_slots = graph.row_of_slot.len() + level;
            if level > 0 {
                let first = u32::try_from(graph.row_of_slot.len())?;
                graph.first_slots.push((row, first));
                graph.row_of_slot.resize(n_slots, row);
            }
            if level > graph.n_layers_above {
                graph.n_layers_above = level;
                graph.entry = u32::try_from(n_slots - 1)?;
                graph.entry_row = row;
            }
        }
        graph.upper = Lists::new(graph.row_of_slot.len(), MAX_NEIGHBOURS);
        Ok(graph)
    }

    fn lists(&self, layer: usize) -> &Lists {
        if layer == 0 {
            &self.lowest
        } else {
            &self.upper
        }
    }

    /// The row that a slot stands for.
    #[inline]
    fn row_of_slot(&self, slot: u32) -> u32 {
        self.row_of_slot.get(slot as usize).copied().unwrap_or(0)
    }

    /// Bytes of a node's row.
    #[inline]
    fn bytes(&self, layer: usize, node: u32) -> &[u8] {
        let row = if layer == 0 {
            node
        } else {
            self.row_of_slot(node)
        };
        let start = row as usize * self.row_bytes;
        let bytes = self.rows.get(start..start + self.row_bytes);
        bytes.unwrap_or_default()
    }

    fn step(&self, layer: usize, bytes: &[u8], node: u32) -> Step {
        Step {
            similarity: self.similarity.of(bytes, self.bytes(layer, node)),
            node,
            is_open: true,
        }
    }

    /// The nodes of a row, lowest layer first.
    fn nodes(&self, row: u32) -> Vec<u32> {
        let mut nodes = vec![row];
        if let Ok(place) = self.first_slots.binary_search_by_key(&row, |slot| slot.0)
            && let Some((_, first)) = self.first_slots.get(place)
        {
            nodes.extend((*first..).take(level(row)));
        }
        nodes
    }

    fn insert(&self, row: u32, visited: &mut Visited) {
        if row == self.entry_row {
            return;
        }
        let (nodes, bytes) = (self.nodes(row), self.bytes(0, row));
        let mut start = self.entry;
        let mut links = Vec::with_capacity(nodes.len());
        for layer in (0..=self.n_layers_above).rev() {
            let own = nodes.get(layer);
            let ef = if own.is_some() { EF_CONSTRUCTION } else { 1 };
            let found = self.search(layer, bytes, start, ef, visited);
            if let Some(&node) = own {
                let lists = self.lists(layer);
                let neighbours = self.select(layer, &found, lists.width);
                lists.set(node, &neighbours);
                links.push((layer, node, neighbours));
            }
            let nearest = found.first().map_or(start, |nearest| nearest.node);
            // The same row one layer down.
            start = match layer {
                1 => self.row_of_slot(nearest),
                _ => nearest.saturating_sub(1),
            };
        }
        // From below, so that nobody comes upon the row before its lists go on downwards.
        for (layer, node, neighbours) in links.iter().rev() {
            for neighbour in neighbours {
                self.link(*layer, *neighbour, *node);
            }
        }
    }

    /// Algorithm 2: the `ef` nodes most similar to a row of those that steps from `start` reach, best first.
    fn search(
        &self,
        layer: usize,
        bytes: &[u8],
        start: u32,
        ef: usize,
        visited: &mut Visited,
    ) -> Vec<Step> {
        let lists = self.lists(layer);
        visited.clear();
        visited.insert(start);
        let mut found = Vec::with_capacity(ef + 1);
        found.push(self.step(layer, bytes, start));
        let mut first_open = 0;
        while let Some(next) = found.get_mut(first_open) {
            if !std::mem::take(&mut next.is_open) {
                first_open += 1;
                continue;
            }
            for node in lists.of(next.node) {
                if !visited.insert(node) {
                    continue;
                }
                let step = self.step(layer, bytes, node);
                if found.len() >= ef {
                    let worst = found.last().map_or(f32::NEG_INFINITY, |w| w.similarity);
                    if worst >= step.similarity {
                        continue;
                    }
                    found.pop();
                }
                let place = found.partition_point(|other| other.similarity >= step.similarity);
                found.insert(place, step);
                first_open = first_open.min(place);
            }
        }
        found
    }

    /// Algorithm 4: of nodes, best first, those that are not nearer to one chosen before, at most `n`.
    fn select(&self, layer: usize, found: &[Step], n: usize) -> Vec<Step> {
        let mut chosen: Vec<Step> = Vec::with_capacity(n);
        for step in found {
            if chosen.len() == n {
                break;
            }
            let bytes = self.bytes(layer, step.node);
            let is_nearer =
                |other: &Step| self.step(layer, bytes, other.node).similarity >= step.similarity;
            if !chosen.iter().any(is_nearer) {
                chosen.push(*step);
            }
        }
        chosen
    }

    /// Puts a node into the list of its neighbour `to`; where the list is full, in place of the least similar. To choose
    /// anew with [`Growing::select`] took longer and found fewer.
    fn link(&self, layer: usize, to: Step, node: u32) {
        let lists = self.lists(layer);
        let _turn = lists.turn(to.node);
        if lists.add(to.node, node) {
            return;
        }
        let bytes = self.bytes(layer, to.node);
        let mut least = (to.similarity, None);
        for place in lists.places(to.node) {
            let other = self.step(layer, bytes, place.load(Ordering::Relaxed));
            if other.similarity < least.0 {
                least = (other.similarity, Some(place));
            }
        }
        if let Some(place) = least.1 {
            place.store(node, Ordering::Relaxed);
        }
    }

    /// Makes the rows reachable that gave way to others in every list, up to one in a thousand.
    fn reconnect(&self, rows: &[u32], visited: &mut Visited) {
        let mut reached = Visited::new(visited.stamps.len());
        reached.clear();
        self.reach(self.entry_row, &mut reached);
        for &row in rows {
            if reached.contains(row) {
                continue;
            }
            let bytes = self.bytes(0, row);
            let found = self.search(0, bytes, self.entry_row, EF_CONSTRUCTION, visited);
            let Some(nearest) = found.first() else {
                continue;
            };
            // Where there is no place, the row steps in between the nearest and its last neighbour.
            if !self.lowest.add(nearest.node, row)
                && let Some(last) = self.lowest.replace_last(nearest.node, row)
                && !self.lowest.of(row).any(|neighbour| neighbour == last)
                && !self.lowest.add(row, last)
            {
                self.lowest.replace_last(row, last);
            }
            self.reach(row, &mut reached);
        }
    }

    /// Marks what steps from a row reach in the lowest layer.
    fn reach(&self, row: u32, reached: &mut Visited) {
        reached.insert(row);
        let mut open = vec![row];
        while let Some(row) = open.pop() {
            open.extend(self.lowest.of(row).filter(|&next| reached.insert(next)));
        }
    }

    fn finish(self) -> Result<Built> {
        let numbers = |lists: Lists| -> Vec<u32> {
            let numbers = lists.numbers.into_iter();
            numbers.map(AtomicU32::into_inner).collect()
        };
        let mut upper = Vec::with_capacity(self.row_of_slot.len() * (1 + MAX_NEIGHBOURS));
        let lists = numbers(self.upper);
        for (row, list) in self.row_of_slot.iter().zip(lists.chunks(MAX_NEIGHBOURS)) {
            upper.push(*row);
            upper.extend(list);
        }
        Ok(Built {
            lowest: numbers(self.lowest),
            upper,
            entry: usize::try_from(self.entry)?,
            n_layers_above: self.n_layers_above,
        })
    }
}

/// The highest layer of a row: one row in [`MAX_NEIGHBOURS`] of each layer stands in the next.
fn level(row: u32) -> usize {
    // SplitMix64, so that neighbouring rows have levels that look random.
    let mut random = u64::from(row).wrapping_add(0x9e37_79b9_7f4a_7c15);
    random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random ^= random >> 31;
    let n_layers = random.trailing_zeros() / MAX_NEIGHBOURS.ilog2();
    MAX_LEVEL.min(n_layers as usize)
}

/// Nodes that were seen since the last clearing: those with its stamp.
struct Visited {
    stamps: Vec<u16>,
    stamp: u16,
}

impl Visited {
    fn new(n: usize) -> Visited {
        Visited {
            stamps: vec![0; n],
            stamp: 0,
        }
    }

    /// To be called first.
    fn clear(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.stamps.fill(0);
            self.stamp = 1;
        }
    }

    /// Whether the node was new.
    #[inline]
    fn insert(&mut self, node: u32) -> bool {
        let stamp = self.stamp;
        self.stamps
            .get_mut(node as usize)
            .is_some_and(|seen| std::mem::replace(seen, stamp) != stamp)
    }

    fn contains(&self, node: u32) -> bool {
        self.stamps.get(node as usize) == Some(&self.stamp)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::hnsw::tests::cache_of;
    use super::super::vectors::tests::unit_vectors;
    use super::*;

    const DIMENSION: usize = 32;

    /// Groups of rows far from each other, which a graph comes apart over.
    fn grouped(n: usize) -> Vec<Vec<f32>> {
        let (centres, mut rows) = (
            unit_vectors(n / 100, DIMENSION, 7),
            unit_vectors(n, DIMENSION, 8),
        );
        for (row, centre) in rows.iter_mut().zip(centres.iter().cycle()) {
            row.iter_mut()
                .zip(centre)
                .for_each(|(x, c)| *x = c + *x * 0.1);
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        rows
    }

    fn neighbours(list: &[u32]) -> Vec<u32> {
        let end = list.iter().position(|&number| number == NONE);
        list[..end.unwrap_or(list.len())].to_vec()
    }

    #[test]
    fn lists_hold_each_neighbour_once_and_reach_every_row() {
        let folder = tempfile::tempdir().unwrap();
        for vectors in [unit_vectors(3000, DIMENSION, 3), grouped(5000)] {
            let cache = cache_of(folder.path(), &vectors);
            // Every seventh row stays out, as a twin would.
            let rows: Vec<u32> = (0..)
                .take(vectors.len())
                .filter(|row| row % 7 != 5)
                .collect();
            let built = build(&cache, &rows).unwrap();
            let lists: Vec<Vec<u32>> = built
                .lowest
                .chunks(MAX_NEIGHBOURS_LOWEST)
                .map(neighbours)
                .collect();
            for (row, list) in (0..).zip(&lists) {
                let distinct: HashSet<&u32> = list.iter().collect();
                assert_eq!(distinct.len(), list.len(), "row {row}");
                assert!(!list.contains(&row) && list.iter().all(|row| row % 7 != 5));
                assert_eq!(list.is_empty(), row % 7 == 5, "row {row}");
            }

            let slots: Vec<&[u32]> = built.upper.chunks(1 + MAX_NEIGHBOURS).collect();
            assert!(built.n_layers_above > 0);
            let layer = |slot: usize| {
                let is_same = |other: &&&[u32]| other[0] == slots[slot][0];
                slots[..=slot].iter().rev().take_while(is_same).count()
            };
            assert_eq!(layer(built.entry), built.n_layers_above);
            for (slot, list) in slots.iter().enumerate() {
                for neighbour in neighbours(&list[1..]) {
                    let neighbour = neighbour as usize;
                    assert_eq!(layer(neighbour), layer(slot));
                    assert_ne!(neighbour, slot);
                }
            }

            let mut reached = HashSet::from([slots[built.entry][0]]);
            let mut open: Vec<u32> = reached.iter().copied().collect();
            while let Some(row) = open.pop() {
                open.extend(
                    lists[row as usize]
                        .iter()
                        .filter(|&&row| reached.insert(row)),
                );
            }
            assert_eq!(reached.len(), rows.len());
        }
    }

    #[test]
    fn one_row_in_sixteen_of_each_layer_stands_in_the_next() {
        let n_at_least = |least| (0..1_000_000).filter(|&row| level(row) >= least).count();
        for (least, expected) in [(1, 62_500), (2, 3906), (3, 244)] {
            let n = n_at_least(least);
            assert!(n.abs_diff(expected) * 5 < expected, "{n} at level {least}");
        }
    }
}
