//! The cache of postings: which chunks hold a term, mapped into memory and ranked by BM25.
//!
//! FTS5 reads every posting of every term of a question, and most terms of a Korean question are bigrams that half of
//! the chunks hold. Here lists are cut into blocks that know the most a chunk in them can score, so that the common
//! terms are only looked up where a rare one has been found (Turtle and Flood, "Query evaluation: strategies and
//! optimizations", 1995). The ranking is that of FTS5: Robertson's BM25 with k1 = 1.2 and b = 0.75, as
//! `fts5_aux.c` computes it, a term in a heading counting like one in the text.
//!
//! A cache is merged from the one before it and from runs over the chunks that came since; removed chunks are left out
//! on the way, and until then their postings still count in document frequencies.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rayon::slice::ParallelSliceMut;

use super::filter::Bits;
use super::lexical;
use super::mapped::{Builder, Kind, Mapped, Parameters};
use super::vectors::Best;

/// For each term, ascending by hash: hash `u64`, first entry in [`BLOCKS`] `u32`, number of chunks `u32`, most
/// occurrences in a chunk `u16`, length of the shortest chunk `u16`, four bytes of nothing.
const TERMS: usize = 1;
const TERM_BYTES: usize = 24;
/// For each block of postings: its last chunk `u32`, most occurrences `u16`, shortest length `u16`, end of its bytes in
/// [`POSTINGS`] `u64`.
const BLOCKS: usize = 2;
const BLOCK_ENTRY_BYTES: usize = 16;
/// For each chunk of a block its distance from the one before and the number of occurrences, as LEB128.
const POSTINGS: usize = 0;
/// Chunk ids, `u64`, ascending; lists count chunks by their place here.
const CHUNKS: usize = 3;
/// Length of each chunk in terms, `u32`.
const LENGTHS: usize = 4;

const POSTINGS_PER_BLOCK: usize = 128;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// What a term is known by in the cache: 64-bit FNV-1a.
pub(super) fn term_hash(term: &str) -> u64 {
    term.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The terms of one chunk, counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Occurrences of each term, by hash.
    pub(super) occurrences: HashMap<u64, u32>,
    /// Number of terms, repeated ones counted each time.
    pub(super) n_terms: u32,
}

impl Counted {
    pub(super) fn new(heading: &str, text: &str) -> Counted {
        let mut counted = Counted::default();
        for term in lexical::terms(heading).iter().chain(&lexical::terms(text)) {
            *counted.occurrences.entry(term_hash(term)).or_default() += 1;
            counted.n_terms += 1;
        }
        counted
    }
}

/// What BM25 knows of all chunks together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collection {
    pub(super) n_chunks: u64,
    pub(super) n_terms: u64,
}

impl Collection {
    /// Weight of a term that so many chunks hold; a term that most hold weighs next to nothing, never less.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub(super) fn weight(self, n_chunks_with_term: u64) -> f64 {
        let (n, with) = (self.n_chunks as f64, n_chunks_with_term as f64);
        let weight = ((n - with + 0.5) / (with + 0.5)).ln();
        if weight > 0.0 { weight } else { 1e-6 }
    }

    /// How a term's score grows with its occurrences.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub(super) fn saturation(self) -> Saturation {
        let mean_length = self.n_terms as f64 / self.n_chunks.max(1) as f64;
        Saturation {
            per_length: K1 * B / mean_length,
        }
    }
}

/// What a term of weight 1 adds to the score of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saturation {
    per_length: f64,
}

impl Saturation {
    pub(super) fn of(self, n_occurrences: u32, chunk_length: u32) -> f64 {
        let occurrences = f64::from(n_occurrences);
        let half = K1 * (1.0 - B) + self.per_length * f64::from(chunk_length);
        occurrences * (K1 + 1.0) / (occurrences + half)
    }

    /// The most that a chunk within the bound can have.
    fn most(self, bound: Bound) -> f64 {
        if bound.most_occurrences == u16::MAX {
            return K1 + 1.0;
        }
        self.of(bound.most_occurrences.into(), bound.shortest.into())
    }
}

/// The most that a chunk of a list or block can have.
#[derive(Debug, Clone, Copy)]
struct Bound {
    most_occurrences: u16,
    shortest: u16,
}

impl Bound {
    fn of(postings: &[(u32, u32)], lengths: &[u32]) -> Bound {
        let mut bound = Bound {
            most_occurrences: 0,
            shortest: u16::MAX,
        };
        for (chunk, n_occurrences) in postings {
            let length = usize::try_from(*chunk)
                .ok()
                .and_then(|chunk| lengths.get(chunk))
                .copied()
                .unwrap_or(0);
            bound.most_occurrences = bound
                .most_occurrences
                .max(u16::try_from(*n_occurrences).unwrap_or(u16::MAX));
            bound.shortest = bound
                .shortest
                .min(u16::try_from(length).unwrap_or(u16::MAX));
        }
        bound
    }

    fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (
            self.most_occurrences.to_le_bytes(),
            self.shortest.to_le_bytes(),
        );
        [a, b, c, d]
    }
}

/// The mapped file.
#[derive(Debug)]
pub(super) struct Postings {
    file: Mapped,
    n_terms: usize,
    n_chunks: usize,
    last_id: i64,
    collection: Collection,
}

impl Postings {
    /// Maps the cache whose header has this checksum.
    pub(super) fn open(path: &Path, checksum: u32) -> Result<Postings> {
        let file = Mapped::open(path, Kind::Terms, checksum)?;
        let [n_terms, n_chunks, last_id, total, ..] = *file.parameters();
        let (n_terms, collection) = (
            usize::try_from(n_terms)?,
            Collection {
                n_chunks,
                n_terms: total,
            },
        );
        let n_chunks = usize::try_from(n_chunks)?;
        ensure!(
            file.section_bytes(TERMS) == n_terms * TERM_BYTES
                && file.section_bytes(CHUNKS) == n_chunks * 8
                && file.section_bytes(LENGTHS) == n_chunks * 4,
            "{}: damaged",
            path.display()
        );
        Ok(Postings {
            file,
            n_terms,
            n_chunks,
            last_id: i64::try_from(last_id)?,
            collection,
        })
    }

    pub(super) fn file(&self) -> &Mapped {
        &self.file
    }

    /// Chunks with greater numbers are not in the cache.
    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    pub(super) fn n_chunks(&self) -> usize {
        self.n_chunks
    }

    pub(super) fn collection(&self) -> Collection {
        self.collection
    }

    /// Number of chunks in the cache that hold the term.
    pub(super) fn document_frequency(&self, hash: u64) -> Result<u64> {
        Ok(self.find(hash)?.map_or(0, |term| term.n_chunks.into()))
    }

    /// The places of these chunks.
    pub(super) fn places_of(&self, ids: &Bits) -> Result<Bits> {
        let (of_places, _) = self
            .file
            .bytes(CHUNKS, 0..self.n_chunks * 8)?
            .as_chunks::<8>();
        let mut places = Bits::default();
        for (place, id) in of_places.iter().enumerate() {
            if ids.contains_id(i64::from_le_bytes(*id)) {
                places.insert(place);
            }
        }
        Ok(places)
    }

    /// The `n` best chunks by BM25 for terms given as (hash, weight), of those at allowed places, best first.
    pub(super) fn search(
        &self,
        terms: &[(u64, f64)],
        collection: Collection,
        n: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<(i64, f64)>> {
        let saturation = collection.saturation();
        let mut lists = Vec::with_capacity(terms.len());
        for &(hash, weight) in terms {
            if let Some(term) = self.find(hash)? {
                lists.push(List::new(self, term, weight, saturation)?);
            }
        }
        let best = best_chunks(self, &mut lists, n, allowed)?;
        best.into_iter()
            .map(|(chunk, score)| Ok((self.chunk_id(chunk)?, score)))
            .collect()
    }

    fn find(&self, hash: u64) -> Result<Option<Term>> {
        let (mut low, mut high) = (0, self.n_terms);
        while low < high {
            let middle = usize::midpoint(low, high);
            let term = self.term(middle)?;
            match term.hash.cmp(&hash) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(term)),
            }
        }
        Ok(None)
    }

    fn term(&self, index: usize) -> Result<Term> {
        let entry = self
            .file
            .bytes(TERMS, index * TERM_BYTES..(index + 1) * TERM_BYTES)?;
        let (hash, rest) = entry.split_first_chunk().context("short entry")?;
        let (first_block, rest) = rest.split_first_chunk().context("short entry")?;
        let (n_chunks, rest) = rest.split_first_chunk().context("short entry")?;
        Ok(Term {
            hash: u64::from_le_bytes(*hash),
            first_block: usize::try_from(u32::from_le_bytes(*first_block))?,
            n_chunks: u32::from_le_bytes(*n_chunks),
            bound: bound_from(rest)?,
        })
    }

    /// The entries of a term's blocks.
    fn entries(&self, term: &Term) -> Result<&[[u8; BLOCK_ENTRY_BYTES]]> {
        let (first, end) = (term.first_block, term.first_block + term.n_blocks());
        let bytes = self
            .file
            .bytes(BLOCKS, first * BLOCK_ENTRY_BYTES..end * BLOCK_ENTRY_BYTES)?;
        Ok(bytes.as_chunks().0)
    }

    /// Where a term's postings begin.
    fn start(&self, term: &Term) -> Result<usize> {
        let Some(before) = term.first_block.checked_sub(1) else {
            return Ok(0);
        };
        let entry = before * BLOCK_ENTRY_BYTES..term.first_block * BLOCK_ENTRY_BYTES;
        let entry = self.file.bytes(BLOCKS, entry)?.first_chunk();
        usize_from(Block::of(entry.context("short entry")?).end)
    }

    /// The postings of a block, as (chunk, occurrences), that follow the chunk `before`.
    fn decode(
        &self,
        bytes: Range<usize>,
        before: u32,
        postings: &mut Vec<(u32, u32)>,
    ) -> Result<()> {
        let mut bytes = self.file.bytes(POSTINGS, bytes)?;
        let mut chunk = before;
        postings.clear();
        while !bytes.is_empty() {
            chunk = chunk
                .checked_add(take_number(&mut bytes)?)
                .context("damaged")?;
            postings.push((chunk, take_number(&mut bytes)?));
        }
        Ok(())
    }

    /// All postings of a term, handed on in order.
    fn each_posting(
        &self,
        term: &Term,
        mut each: impl FnMut(u32, u32) -> Result<()>,
    ) -> Result<()> {
        let (mut start, mut before) = (self.start(term)?, 0);
        let mut postings = Vec::with_capacity(POSTINGS_PER_BLOCK);
        for entry in self.entries(term)? {
            let block = Block::of(entry);
            let end = usize_from(block.end)?;
            self.decode(start..end, before, &mut postings)?;
            for &(chunk, n_occurrences) in &postings {
                each(chunk, n_occurrences)?;
            }
            (start, before) = (end, block.last);
        }
        Ok(())
    }

    /// The chunk at this place.
    pub(super) fn chunk_id(&self, place: usize) -> Result<i64> {
        Ok(i64::try_from(self.file.u64_at(CHUNKS, place)?)?)
    }

    fn length(&self, chunk: usize) -> Result<u32> {
        self.file.u32_at(LENGTHS, chunk)
    }
}

fn bound_from(bytes: &[u8]) -> Result<Bound> {
    let (most_occurrences, rest) = bytes.split_first_chunk().context("short entry")?;
    let shortest = rest.first_chunk().context("short entry")?;
    Ok(Bound {
        most_occurrences: u16::from_le_bytes(*most_occurrences),
        shortest: u16::from_le_bytes(*shortest),
    })
}

/// LEB128.
#[inline]
fn take_number(bytes: &mut &[u8]) -> Result<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes.split_first().context("cut short")?;
        *bytes = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("number too long")
}

fn push_number(mut number: u32, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[derive(Debug, Clone, Copy)]
struct Term {
    hash: u64,
    first_block: usize,
    n_chunks: u32,
    bound: Bound,
}

impl Term {
    fn n_blocks(&self) -> usize {
        usize::try_from(self.n_chunks)
            .unwrap_or(usize::MAX)
            .div_ceil(POSTINGS_PER_BLOCK)
    }
}

/// The entry of a block.
#[derive(Debug, Clone, Copy)]
struct Block {
    last: u32,
    bound: Bound,
    end: u64,
}

impl Block {
    fn of(entry: &[u8; BLOCK_ENTRY_BYTES]) -> Block {
        let [a, b, c, d, e, f, g, h, end @ ..] = *entry;
        Block {
            last: u32::from_le_bytes([a, b, c, d]),
            bound: Bound {
                most_occurrences: u16::from_le_bytes([e, f]),
                shortest: u16::from_le_bytes([g, h]),
            },
            end: u64::from_le_bytes(end),
        }
    }
}

fn usize_from(number: u64) -> Result<usize> {
    Ok(usize::try_from(number)?)
}

/// A term's list while it is walked along.
struct List<'a> {
    postings: &'a Postings,
    entries: &'a [[u8; BLOCK_ENTRY_BYTES]],
    /// Where the first block's bytes begin.
    start: usize,
    weight: f64,
    saturation: Saturation,
    /// The most the term can add to a score.
    most: f64,
    /// The block that `decoded` holds, once it is some.
    at_block: usize,
    last_of_block: u32,
    /// The most the term can add to the score of a chunk of this block.
    most_of_block: f64,
    is_decoded: bool,
    decoded: Vec<(u32, u32)>,
    at: usize,
}

impl<'a> List<'a> {
    fn new(
        postings: &'a Postings,
        term: Term,
        weight: f64,
        saturation: Saturation,
    ) -> Result<List<'a>> {
        let mut list = List {
            postings,
            entries: postings.entries(&term)?,
            start: postings.start(&term)?,
            weight,
            saturation,
            most: weight * saturation.most(term.bound),
            at_block: 0,
            last_of_block: 0,
            most_of_block: 0.0,
            is_decoded: false,
            decoded: Vec::with_capacity(POSTINGS_PER_BLOCK),
            at: 0,
        };
        list.enter(0);
        Ok(list)
    }

    fn block(&self, index: usize) -> Option<Block> {
        self.entries.get(index).map(Block::of)
    }

    /// Goes to a block, if there is one.
    fn enter(&mut self, index: usize) -> bool {
        let Some(block) = self.block(index) else {
            return false;
        };
        self.at_block = index;
        self.last_of_block = block.last;
        self.most_of_block = self.weight * self.saturation.most(block.bound);
        self.is_decoded = false;
        true
    }

    /// Goes to the block that holds the first chunk that is not before `chunk`; false when there is none.
    #[inline]
    fn seek_block(&mut self, chunk: u32) -> bool {
        self.last_of_block >= chunk || self.seek_later_block(chunk)
    }

    /// In steps that double, and then halve: the block is mostly one of the next.
    fn seek_later_block(&mut self, chunk: u32) -> bool {
        let later = self.entries.get(self.at_block..).unwrap_or_default();
        let is_before = |entry: &[u8; BLOCK_ENTRY_BYTES]| Block::of(entry).last < chunk;
        let mut n = 1;
        while later.get(n).is_some_and(is_before) {
            n *= 2;
        }
        let near = later.get(n / 2..later.len().min(n + 1));
        let index = self.at_block + n / 2 + near.unwrap_or_default().partition_point(is_before);
        self.enter(index)
    }

    /// The first posting that is not before `chunk`.
    #[inline]
    fn seek(&mut self, chunk: u32) -> Result<Option<(u32, u32)>> {
        if !self.seek_block(chunk) {
            return Ok(None);
        }
        if !self.is_decoded {
            self.decode()?;
        }
        while let Some(&posting) = self.decoded.get(self.at) {
            if posting.0 >= chunk {
                return Ok(Some(posting));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn decode(&mut self) -> Result<()> {
        let before = self.at_block.checked_sub(1).and_then(|i| self.block(i));
        let start = match before {
            Some(before) => usize_from(before.end)?,
            None => self.start,
        };
        let end = self.block(self.at_block).map_or(0, |block| block.end);
        self.postings.decode(
            start..usize_from(end)?,
            before.map_or(0, |before| before.last),
            &mut self.decoded,
        )?;
        self.is_decoded = true;
        self.at = 0;
        Ok(())
    }

    /// Whether the walk stands at this chunk.
    fn is_at(&self, chunk: u32) -> bool {
        let posting = self.decoded.get(self.at);
        self.is_decoded && posting.is_some_and(|posting| posting.0 == chunk)
    }

    /// What the term adds to the score of this chunk.
    fn score_of(&mut self, chunk: u32, length: u32) -> Result<f64> {
        Ok(match self.seek(chunk)? {
            Some((found, n_occurrences)) if found == chunk => {
                self.weight * self.saturation.of(n_occurrences, length)
            }
            _ => 0.0,
        })
    }
}

/// Lengths of chunks that are asked for in ascending order.
struct Lengths<'a> {
    postings: &'a Postings,
    first: usize,
    lengths: &'a [[u8; 4]],
}

/// Lengths that are checked and kept together.
const LENGTHS_AT_ONCE: usize = 1024;

impl Lengths<'_> {
    fn of(&mut self, chunk: usize) -> Result<u32> {
        let first = chunk / LENGTHS_AT_ONCE * LENGTHS_AT_ONCE;
        if self.lengths.is_empty() || first != self.first {
            let end = self.postings.n_chunks.min(first + LENGTHS_AT_ONCE);
            let bytes = self.postings.file.bytes(LENGTHS, first * 4..end * 4)?;
            (self.first, self.lengths) = (first, bytes.as_chunks().0);
        }
        let length = self.lengths.get(chunk - first).context("damaged")?;
        Ok(u32::from_le_bytes(*length))
    }
}

/// MaxScore. The lists that together cannot lift a chunk over the worst of the best are not walked along: they are only
/// asked about chunks that the others bring, and only while the sum could still be enough.
fn best_chunks(
    postings: &Postings,
    lists: &mut [List<'_>],
    n: usize,
    allowed: Option<&Bits>,
) -> Result<Vec<(usize, f64)>> {
    lists.sort_by(|a, b| a.most.total_cmp(&b.most));
    // What the lists up to here, this one not included, can add together.
    let mut most_before = vec![0.0];
    for list in lists.iter() {
        most_before.push(most_before.last().copied().unwrap_or(0.0) + list.most);
    }
    let mut lengths = Lengths {
        postings,
        first: 0,
        lengths: &[],
    };
    let mut best = Best::new(n);
    let mut n_asked_only = 0;
    let mut chunk = 0;
    loop {
        let worst = best.worst().unwrap_or(f64::NEG_INFINITY);
        while n_asked_only < lists.len() && most_before[n_asked_only + 1] <= worst {
            n_asked_only += 1;
        }
        let (asked_only, walked) = lists.split_at_mut(n_asked_only);
        let mut next = None;
        for list in walked.iter_mut() {
            if let Some((found, _)) = list.seek(chunk)? {
                next = Some(next.map_or(found, |next: u32| next.min(found)));
            }
        }
        let Some(found) = next else { break };
        let Some(after) = found.checked_add(1) else {
            break;
        };
        let index = usize::try_from(found)?;
        if let Some(allowed) = allowed {
            match allowed.next(index) {
                Some(next) if next > index => {
                    chunk = u32::try_from(next)?;
                    continue;
                }
                Some(_) => {}
                None => break,
            }
        }
        let (asked_before, mut most) = (most_before[n_asked_only], 0.0);
        for list in walked.iter_mut().filter(|list| list.is_at(found)) {
            most += list.most_of_block;
        }
        if most + asked_before <= worst {
            chunk = after;
            continue;
        }
        let length = lengths.of(index)?;
        let mut score = 0.0;
        for list in walked {
            score += list.score_of(found, length)?;
        }
        for (list, most) in asked_only.iter_mut().zip(&most_before).rev() {
            if score + most + list.most <= worst {
                break;
            }
            if !list.seek_block(found) {
                continue;
            }
            // The other lists and the most that this block has to give.
            if score + most + list.most_of_block <= worst {
                break;
            }
            score += list.score_of(found, length)?;
        }
        best.offer(index, score);
        chunk = after;
    }
    Ok(best.into_sorted())
}

/// Chunks inverted together; bounds the memory that takes to about 100 MB.
pub(super) const CHUNKS_PER_RUN: usize = 16_384;

/// Writes the postings of some chunks, given as (id, terms) ascending. Returns the checksum of the file's header.
pub(super) fn write_run(path: &Path, chunks: &[(i64, Counted)]) -> Result<u32> {
    let mut postings = Vec::new();
    let mut file = FileBuilder::new(path)?;
    for (place, (id, counted)) in (0..).zip(chunks) {
        file.push_chunk(*id, counted.n_terms)?;
        postings.extend(
            counted
                .occurrences
                .iter()
                .map(|(hash, n_occurrences)| (*hash, place, *n_occurrences)),
        );
    }
    postings.par_sort_unstable();
    for of_term in postings.chunk_by(|a, b| a.0 == b.0) {
        let list: Vec<(u32, u32)> = of_term
            .iter()
            .map(|&(_, place, n_occurrences)| (place, n_occurrences))
            .collect();
        file.push_term(of_term.first().map_or(0, |posting| posting.0), &list)?;
    }
    file.finish(path)
}

/// Merges caches, whose chunks follow each other, into one without the chunks in `removed`. Returns the checksum of its
/// header.
pub(super) fn merge(path: &Path, sources: &[&Postings], removed: &HashSet<i64>) -> Result<u32> {
    let mut file = FileBuilder::new(path)?;
    let mut new_places: Vec<Vec<Option<u32>>> = Vec::with_capacity(sources.len());
    for source in sources {
        let mut places = Vec::with_capacity(source.n_chunks);
        for place in 0..source.n_chunks {
            let id = source.chunk_id(place)?;
            places.push(if removed.contains(&id) {
                None
            } else {
                Some(file.push_chunk(id, source.length(place)?)?)
            });
        }
        new_places.push(places);
    }
    let mut next = vec![0; sources.len()];
    let mut list = Vec::new();
    loop {
        let mut hash: Option<u64> = None;
        for (source, &next) in sources.iter().zip(&next) {
            if next < source.n_terms {
                let of_source = source.term(next)?.hash;
                hash = Some(hash.map_or(of_source, |hash| hash.min(of_source)));
            }
        }
        let Some(hash) = hash else { break };
        list.clear();
        for ((source, next), places) in sources.iter().zip(&mut next).zip(&new_places) {
            if *next >= source.n_terms {
                continue;
            }
            let term = source.term(*next)?;
            if term.hash != hash {
                continue;
            }
            *next += 1;
            source.each_posting(&term, |place, n_occurrences| {
                let new = places.get(usize::try_from(place)?).context("damaged")?;
                list.extend(new.map(|new| (new, n_occurrences)));
                Ok(())
            })?;
        }
        if !list.is_empty() {
            file.push_term(hash, &list)?;
        }
    }
    file.finish(path)
}

/// Writes a cache file: first all chunks, then term by term in ascending order of hash.
struct FileBuilder {
    builder: Builder,
    terms: Vec<u8>,
    blocks: Vec<u8>,
    n_blocks: u32,
    n_posting_bytes: u64,
    ids: Vec<i64>,
    lengths: Vec<u32>,
}

impl FileBuilder {
    fn new(path: &Path) -> Result<FileBuilder> {
        let mut builder = Builder::new(path.parent().context("a file without a folder")?)?;
        builder.begin_section()?;
        Ok(FileBuilder {
            builder,
            terms: Vec::new(),
            blocks: Vec::new(),
            n_blocks: 0,
            n_posting_bytes: 0,
            ids: Vec::new(),
            lengths: Vec::new(),
        })
    }

    /// Returns the chunk's place.
    fn push_chunk(&mut self, id: i64, n_terms: u32) -> Result<u32> {
        let place = u32::try_from(self.ids.len())?;
        self.ids.push(id);
        self.lengths.push(n_terms);
        Ok(place)
    }

    fn push_term(&mut self, hash: u64, list: &[(u32, u32)]) -> Result<()> {
        self.terms.extend(hash.to_le_bytes());
        self.terms.extend(self.n_blocks.to_le_bytes());
        self.terms.extend(u32::try_from(list.len())?.to_le_bytes());
        self.terms.extend(Bound::of(list, &self.lengths).to_bytes());
        self.terms.extend([0; 4]);
        let mut before = 0;
        let mut bytes = Vec::with_capacity(4 * POSTINGS_PER_BLOCK);
        for block in list.chunks(POSTINGS_PER_BLOCK) {
            bytes.clear();
            for &(place, n_occurrences) in block {
                push_number(place - before, &mut bytes);
                push_number(n_occurrences, &mut bytes);
                before = place;
            }
            self.builder.write(&bytes)?;
            self.n_posting_bytes += u64::try_from(bytes.len())?;
            self.blocks.extend(before.to_le_bytes());
            self.blocks
                .extend(Bound::of(block, &self.lengths).to_bytes());
            self.blocks.extend(self.n_posting_bytes.to_le_bytes());
            self.n_blocks = self.n_blocks.checked_add(1).context("too many postings")?;
        }
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<u32> {
        let FileBuilder {
            mut builder,
            terms,
            blocks,
            ids,
            lengths,
            ..
        } = self;
        let n_terms: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        let sections = [
            terms,
            blocks,
            ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
            lengths
                .iter()
                .flat_map(|length| length.to_le_bytes())
                .collect(),
        ];
        let mut parameters = Parameters::default();
        let [terms, ..] = &sections;
        parameters[0] = u64::try_from(terms.len() / TERM_BYTES)?;
        parameters[1] = u64::try_from(ids.len())?;
        parameters[2] = u64::try_from(ids.last().copied().unwrap_or(0))?;
        parameters[3] = n_terms;
        for section in sections {
            builder.begin_section()?;
            builder.write(&section)?;
        }
        builder.finish(path, Kind::Terms, &parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of common and rare words, as many in each as languages have.
    fn chunks(range: std::ops::Range<u32>) -> Vec<(i64, Counted)> {
        range
            .map(|i| {
                let words: Vec<String> = (1..=i % 60 + 1)
                    .map(|rank| {
                        let random = i.wrapping_mul(rank).wrapping_mul(2_654_435_761) >> 8;
                        format!("word{}", random % (1 << (1 + rank % 12)))
                    })
                    .collect();
                (i64::from(i) * 3 + 1, Counted::new("규칙", &words.join(" ")))
            })
            .collect()
    }

    fn cache_of(path: &Path, chunks: &[(i64, Counted)]) -> Postings {
        let checksum = write_run(path, chunks).unwrap();
        Postings::open(path, checksum).unwrap()
    }

    /// BM25 of every chunk from the definition.
    fn rank_all(chunks: &[(i64, Counted)], terms: &[&str], n: usize) -> Vec<(i64, f64)> {
        let collection = Collection {
            n_chunks: chunks.len().try_into().unwrap(),
            n_terms: chunks
                .iter()
                .map(|(_, counted)| u64::from(counted.n_terms))
                .sum(),
        };
        let weighted: Vec<(u64, f64)> = terms
            .iter()
            .map(|term| {
                let hash = term_hash(term);
                let with = chunks
                    .iter()
                    .filter(|chunk| chunk.1.occurrences.contains_key(&hash))
                    .count();
                (hash, collection.weight(with.try_into().unwrap()))
            })
            .collect();
        let mut scores: Vec<(i64, f64)> = chunks
            .iter()
            .filter_map(|(id, counted)| {
                let scores = weighted.iter().filter_map(|(hash, weight)| {
                    let n_occurrences = *counted.occurrences.get(hash)?;
                    Some(weight * collection.saturation().of(n_occurrences, counted.n_terms))
                });
                Some((*id, scores.reduce(|a, b| a + b)?))
            })
            .collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scores.truncate(n);
        scores
    }

    fn check(postings: &Postings, chunks: &[(i64, Counted)]) {
        let collection = postings.collection();
        for terms in [
            vec!["word0"],
            vec!["없음"],
            vec!["word1", "word77", "word1000", "규칙", "word3"],
            vec!["word0", "word1", "word2", "word3", "word4", "word5", "규칙"],
            vec!["word200", "word300", "word400", "word5"],
        ] {
            let weighted: Vec<(u64, f64)> = terms
                .iter()
                .map(|term| {
                    let hash = term_hash(term);
                    (
                        hash,
                        collection.weight(postings.document_frequency(hash).unwrap()),
                    )
                })
                .collect();
            for n in [1, 10, 100, 5000] {
                let found = postings.search(&weighted, collection, n, None).unwrap();
                let expected = rank_all(chunks, &terms, n);
                assert_eq!(found.len(), expected.len(), "{terms:?}, {n} best");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found.1 - expected.1).abs() < 1e-9,
                        "{terms:?}, {n} best: {found:?} {expected:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ranking_is_that_of_the_definition() {
        let folder = tempfile::tempdir().unwrap();
        let chunks = chunks(0..3000);
        check(&cache_of(&folder.path().join("terms"), &chunks), &chunks);
    }

    #[test]
    fn a_merge_equals_a_cache_of_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = chunks(0..2000);
        let sources: Vec<Postings> = [0..1500, 1500..1501, 1501..2000]
            .into_iter()
            .map(|range| {
                cache_of(
                    &folder.path().join(format!("run {}", range.start)),
                    &all[range],
                )
            })
            .collect();
        let removed: HashSet<i64> = all
            .iter()
            .map(|chunk| chunk.0)
            .filter(|id| id % 7 < 2)
            .collect();
        let merged = folder.path().join("merged");
        let checksum = merge(&merged, &sources.iter().collect::<Vec<_>>(), &removed).unwrap();
        all.retain(|chunk| !removed.contains(&chunk.0));
        let fresh = folder.path().join("fresh");
        write_run(&fresh, &all).unwrap();
        assert!(crate::fs::read(&merged).unwrap() == crate::fs::read(&fresh).unwrap());
        check(&Postings::open(&merged, checksum).unwrap(), &all);
    }

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            push_number(number, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!((take_number(&mut rest).unwrap(), rest.len()), (number, 0));
        }
    }
}
