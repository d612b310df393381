//! One cache file: sections of bytes that are mapped into memory and checked as they are touched.
//!
//! Reading a whole file to check it would cost more than a question. So every block of 4 KiB has its own checksum,
//! verified the first time something in it is asked for; the header and the table of checksums are verified on
//! opening. Damage is an error, never a wrong answer. A file is written beside its place, made durable, and renamed;
//! after that nobody changes it, which is what makes mapping it sound.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use memmap2::Mmap;

/// Unit of checking; also the size of the header.
const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"ragq\0idx";
const N_PARAMETERS: usize = 8;
const N_SECTIONS: usize = 6;
/// Magic, kind, version, parameters, sections, end of the body, checksum of the table.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 * N_PARAMETERS + 16 * N_SECTIONS + 8 + 4;

/// What a file holds; a file of one kind is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Quantised vectors.
    Vectors,
    /// A graph over them.
    Graph,
    /// Postings of terms.
    Terms,
}

impl Kind {
    /// Name of the kind in file names and in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Vectors => "vectors",
            Kind::Graph => "graph",
            Kind::Terms => "terms",
        }
    }

    fn number(self) -> u32 {
        match self {
            Kind::Vectors => 1,
            Kind::Graph => 2,
            Kind::Terms => 3,
        }
    }

    /// Version of the layout within the sections.
    fn version(self) -> u32 {
        1
    }
}

/// Numbers a kind keeps in its header.
pub(super) type Parameters = [u64; N_PARAMETERS];

/// A file being written.
pub(super) struct Builder {
    file: BufWriter<tempfile::NamedTempFile>,
    /// The block that is not full yet.
    block: Vec<u8>,
    checksums: Vec<u32>,
    /// Start and length of each section so far, in bytes.
    sections: Vec<(u64, u64)>,
}

impl Builder {
    /// Starts a file that will stand in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Builder> {
        let create = || -> std::io::Result<BufWriter<tempfile::NamedTempFile>> {
            let mut options = tempfile::Builder::new();
            options.prefix(TEMPORARY_PREFIX);
            // Whoever may read the database may read its caches; the user's mask still applies.
            #[cfg(unix)]
            options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let file = options.tempfile_in(folder)?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&[0; BLOCK])?;
            Ok(file)
        };
        Ok(Builder {
            file: create().with_context(|| folder.display().to_string())?,
            block: Vec::with_capacity(BLOCK),
            checksums: Vec::new(),
            sections: Vec::new(),
        })
    }

    /// Begins the next section, at the start of a block.
    pub(super) fn begin_section(&mut self) -> Result<()> {
        self.pad()?;
        let start = (1 + self.checksums.len()) * BLOCK;
        self.sections.push((u64::try_from(start)?, 0));
        Ok(())
    }

    /// Appends to the section.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, n_bytes) = self.sections.last_mut().context("no section begun")?;
        *n_bytes += u64::try_from(bytes.len())?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = rest.len().min(BLOCK - self.block.len());
            let (now, later) = rest.split_at(n);
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == BLOCK {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.block.resize(BLOCK, 0);
            self.flush_block()?;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> Result<()> {
        self.checksums.push(crc32fast::hash(&self.block));
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Completes the file, makes it durable and puts it in its place. Returns the checksum of its header, which stands
    /// for all of it.
    pub(super) fn finish(
        mut self,
        path: &Path,
        kind: Kind,
        parameters: &Parameters,
    ) -> Result<u32> {
        self.pad()?;
        let table: Vec<u8> = self
            .checksums
            .iter()
            .flat_map(|checksum| checksum.to_le_bytes())
            .collect();
        self.file.write_all(&table)?;
        let header = self.header(kind, parameters, crc32fast::hash(&table))?;
        let checksum = crc32fast::hash(&header);
        let mut file = self
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.write_all(&checksum.to_le_bytes())?;
        super::fault_point("sync cache");
        file.as_file().sync_all()?;
        super::fault_point("rename cache");
        file.persist(path)?;
        super::fault_point("sync folder");
        crate::fs::sync_folder(path.parent().context("a file without a folder")?)?;
        Ok(checksum)
    }

    fn header(&self, kind: Kind, parameters: &Parameters, table_checksum: u32) -> Result<Vec<u8>> {
        if self.sections.len() > N_SECTIONS {
            bail!(
                "{} sections, a cache holds {N_SECTIONS}",
                self.sections.len()
            );
        }
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(kind.number().to_le_bytes());
        header.extend(kind.version().to_le_bytes());
        header.extend(
            parameters
                .iter()
                .flat_map(|parameter| parameter.to_le_bytes()),
        );
        for i in 0..N_SECTIONS {
            let (start, n_bytes) = self.sections.get(i).copied().unwrap_or_default();
            header.extend(start.to_le_bytes());
            header.extend(n_bytes.to_le_bytes());
        }
        let end = (1 + self.checksums.len()) * BLOCK;
        header.extend(u64::try_from(end)?.to_le_bytes());
        header.extend(table_checksum.to_le_bytes());
        Ok(header)
    }
}

/// How the names of files that are not finished begin.
pub(super) const TEMPORARY_PREFIX: &str = ".new-";

/// A file mapped for reading.
#[derive(Debug)]
pub(super) struct Mapped {
    map: Mmap,
    /// For reading what shall not stay in memory.
    #[cfg(unix)]
    file: File,
    parameters: Parameters,
    sections: Vec<Range<usize>>,
    /// Where the body ends and the table of checksums begins.
    end: usize,
    /// One bit for each block whose checksum was found right.
    verified: Vec<AtomicU64>,
}

impl Mapped {
    /// Maps a file of this kind whose header has this checksum.
    pub(super) fn open(path: &Path, kind: Kind, checksum: u32) -> Result<Mapped> {
        let file = crate::fs::open(path)?;
        Mapped::of_file(file, kind, checksum).with_context(|| path.display().to_string())
    }

    fn of_file(file: File, kind: Kind, checksum: u32) -> Result<Mapped> {
        #[expect(
            unsafe_code,
            reason = "the file is never changed once it has its name, only replaced or removed"
        )]
        // SAFETY: no process of ours writes to the file; one that another program cuts short while it is mapped would
        // end this process, as with every mapped file.
        let map = unsafe { Mmap::map(&file) }?;
        let mut header = Fields(map.get(..HEADER_BYTES + 4).context("too short")?);
        if crc32fast::hash(header.0.get(..HEADER_BYTES).unwrap_or_default()) != checksum {
            bail!("not the file that belongs to this index, or damaged");
        }
        if header.take::<8>()? != MAGIC || header.u32()? != kind.number() {
            bail!("not a cache of {}", kind.name());
        }
        let version = header.u32()?;
        if version != kind.version() {
            bail!("layout {version}, this program reads {}", kind.version());
        }
        let mut parameters = [0; N_PARAMETERS];
        for parameter in &mut parameters {
            *parameter = header.u64()?;
        }
        let mut sections = Vec::with_capacity(N_SECTIONS);
        for _ in 0..N_SECTIONS {
            let (start, n_bytes) = (header.usize()?, header.usize()?);
            sections.push(start..start.checked_add(n_bytes).context("damaged")?);
        }
        let end = header.usize()?;
        let table = map.get(end..).context("cut short")?;
        if crc32fast::hash(table) != header.u32()? {
            bail!("cut short or damaged");
        }
        let n_blocks = table.len() / 4;
        if (n_blocks + 1) * BLOCK != end || sections.iter().any(|section| section.end > end) {
            bail!("damaged");
        }
        let verified = (0..n_blocks.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        Ok(Mapped {
            map,
            #[cfg(unix)]
            file,
            parameters,
            sections,
            end,
            verified,
        })
    }

    /// The kind's own numbers.
    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Length of a section, in bytes.
    pub(super) fn section_bytes(&self, section: usize) -> usize {
        self.sections.get(section).map_or(0, ExactSizeIterator::len)
    }

    /// Bytes of a section, checked.
    ///
    /// # Errors
    /// When the range does not lie within the section or a checksum is wrong.
    pub(super) fn bytes(&self, section: usize, range: Range<usize>) -> Result<&[u8]> {
        let (start, end) = self.place(section, &range)?;
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            self.verify(block)?;
        }
        self.map.get(start..end).context("out of range")
    }

    /// As [`Mapped::bytes`], for pieces of a section one after the other: asks for the bytes that come next, so that they
    /// are on their way from memory while these are worked on. The nearest of 941,356 rows took 2 % less CPU so.
    ///
    /// # Errors
    /// As [`Mapped::bytes`].
    pub(super) fn next_bytes(&self, section: usize, range: Range<usize>) -> Result<&[u8]> {
        let (start, end) = self.place(section, &range)?;
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            let ahead = (block + BLOCKS_AHEAD) * BLOCK;
            if let Some(block) = self.map.get(ahead..ahead + BLOCK) {
                prefetch(block);
            }
            self.verify(block)?;
        }
        self.map.get(start..end).context("out of range")
    }

    /// Bytes of a section, checked, copied into `blocks` unless they are there already. Touching a mapped page brings
    /// fifteen neighbours along; for a few bytes here and there of a large file that is slower than reading them, and
    /// fills the memory.
    ///
    /// # Errors
    /// As [`Mapped::bytes`], and when the system cannot read the file.
    #[cfg(unix)]
    pub(super) fn read<'a>(
        &self,
        section: usize,
        range: Range<usize>,
        blocks: &'a mut Blocks,
    ) -> Result<&'a [u8]> {
        let (start, end) = self.place(section, &range)?;
        let (first, last) = (start / BLOCK, end.div_ceil(BLOCK));
        if first < blocks.first || blocks.first + blocks.bytes.len() / BLOCK < last {
            // What is read is not these blocks before all of them are right.
            blocks.first = usize::MAX;
            blocks.bytes.resize((last - first) * BLOCK, 0);
            let at = u64::try_from(first * BLOCK)?;
            std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut blocks.bytes, at)?;
            for (block, bytes) in (first..last).zip(blocks.bytes.chunks_exact(BLOCK)) {
                self.verify_bytes(block, bytes)?;
            }
            blocks.first = first;
        }
        let before = blocks.first * BLOCK;
        blocks
            .bytes
            .get(start - before..end - before)
            .context("out of range")
    }

    /// Bytes of a section, checked, copied into `blocks`.
    ///
    /// # Errors
    /// As [`Mapped::bytes`].
    #[cfg(not(unix))]
    pub(super) fn read<'a>(
        &self,
        section: usize,
        range: Range<usize>,
        blocks: &'a mut Blocks,
    ) -> Result<&'a [u8]> {
        blocks.bytes.clear();
        blocks.bytes.extend_from_slice(self.bytes(section, range)?);
        Ok(&blocks.bytes)
    }

    /// Maps all of a section at once, which costs less than a page fault for every sixteen blocks of it: the nearest of
    /// 619,914 rows took 7 % less CPU so.
    pub(super) fn map_now(&self, section: usize) {
        #[cfg(target_os = "linux")]
        if let Some(section) = self.sections.get(section) {
            let (start, n_bytes) = (section.start, section.len());
            // Systems before Linux 5.14 do not know it, and need not.
            let _ = self
                .map
                .advise_range(memmap2::Advice::PopulateRead, start, n_bytes);
        }
    }

    /// Where a range of a section stands in the file.
    fn place(&self, section: usize, range: &Range<usize>) -> Result<(usize, usize)> {
        let section = self.sections.get(section).context("no such section")?;
        let within = |at: usize| section.start.checked_add(at).context("out of range");
        let (start, end) = (within(range.start)?, within(range.end)?);
        if end > section.end || start > end {
            bail!("out of range");
        }
        Ok((start, end))
    }

    /// A number within a section of `u32`.
    pub(super) fn u32_at(&self, section: usize, index: usize) -> Result<u32> {
        let start = index.saturating_mul(4);
        let bytes = self.bytes(section, start..start.saturating_add(4))?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    }

    /// A number within a section of `u64`.
    pub(super) fn u64_at(&self, section: usize, index: usize) -> Result<u64> {
        let start = index.saturating_mul(8);
        let bytes = self.bytes(section, start..start.saturating_add(8))?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }

    /// Checks every block.
    ///
    /// # Errors
    /// When one is damaged.
    pub(super) fn verify_all(&self) -> Result<()> {
        (1..self.end / BLOCK).try_for_each(|block| self.verify(block))
    }

    /// `block` counts from the start of the file; the header is block 0.
    fn verify(&self, block: usize) -> Result<()> {
        let bytes = self.map.get(block * BLOCK..(block + 1) * BLOCK);
        self.verify_bytes(block, bytes.context("cut short")?)
    }

    /// Checks the bytes of a block unless it was found right before.
    fn verify_bytes(&self, block: usize, bytes: &[u8]) -> Result<()> {
        let index = block.checked_sub(1).context("out of range")?;
        let bits = self.verified.get(index / 64).context("out of range")?;
        let bit = 1 << (index % 64);
        // Relaxed is enough: the bit only saves repeating a check, and the bytes do not change.
        if bits.load(Ordering::Relaxed) & bit == 0 {
            let checksum = self.map.get(self.end + 4 * index..self.end + 4 * block);
            if checksum != Some(&crc32fast::hash(bytes).to_le_bytes()) {
                bail!("block {block} is damaged");
            }
            bits.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What [`Mapped::read`] read last.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The number of the first block; the header is block 0.
    #[cfg(unix)]
    first: usize,
    bytes: Vec<u8>,
}

/// How far ahead of the block that is worked on memory is asked for the next.
const BLOCKS_AHEAD: usize = 8;

/// Brings a block nearer to the processor.
fn prefetch(block: &[u8]) {
    // What is not mapped cannot be fetched; the system maps sixteen blocks at the first touch of one.
    std::hint::black_box(block.first());
    #[cfg(target_arch = "x86_64")]
    for line in block.chunks_exact(64) {
        #[expect(unsafe_code, reason = "there is no other way to ask")]
        // SAFETY: a hint reads nothing, and every processor of this architecture has it.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }
}

/// Little-endian numbers one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>().context("too short")?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn usize(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.u64()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, path: &Path) -> u32 {
        let mut builder = Builder::new(folder).unwrap();
        builder.begin_section().unwrap();
        builder.write(&[1; 5000]).unwrap();
        builder.begin_section().unwrap();
        builder.write(&7_u64.to_le_bytes()).unwrap();
        builder.write(&9_u64.to_le_bytes()).unwrap();
        builder
            .finish(path, Kind::Graph, &[5, 4, 3, 2, 1, 0, 0, 0])
            .unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph");
        let checksum = write(folder.path(), &path);
        let mapped = Mapped::open(&path, Kind::Graph, checksum).unwrap();
        assert_eq!(mapped.parameters(), &[5, 4, 3, 2, 1, 0, 0, 0]);
        assert_eq!(mapped.bytes(0, 4990..5000).unwrap(), [1; 10]);
        assert_eq!(mapped.u64_at(1, 1).unwrap(), 9);
        assert_eq!(mapped.section_bytes(1), 16);
        assert!(mapped.bytes(0, 4990..5001).is_err());
        assert!(mapped.u64_at(1, usize::MAX / 8).is_err());
        assert!(mapped.bytes(2, 0..1).is_err());
        mapped.verify_all().unwrap();
        assert!(Mapped::open(&path, Kind::Vectors, checksum).is_err());
        assert!(Mapped::open(&path, Kind::Graph, checksum ^ 1).is_err());
    }

    /// Everything in the file that is not padding, read; an error when any of it is damaged.
    fn read_all(path: &Path, checksum: u32) -> Result<()> {
        let mapped = Mapped::open(path, Kind::Graph, checksum)?;
        let (ones, numbers) = (
            mapped.bytes(0, 0..5000)?,
            (mapped.u64_at(1, 0)?, mapped.u64_at(1, 1)?),
        );
        assert!(ones.iter().all(|&one| one == 1), "damage went unnoticed");
        assert_eq!(numbers, (7, 9), "damage went unnoticed");
        Ok(())
    }

    /// Without waiting for the disk.
    fn write_in_place(path: &Path, bytes: &[u8]) {
        File::create(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph");
        let checksum = write(folder.path(), &path);
        let whole = crate::fs::read(&path).unwrap();
        read_all(&path, checksum).unwrap();
        for n_bytes in (0..whole.len()).step_by(97) {
            write_in_place(&path, &whole[..n_bytes]);
            assert!(read_all(&path, checksum).is_err(), "cut to {n_bytes} bytes");
        }
        // The rest of the header's block is padding that nothing reads.
        for at in (0..HEADER_BYTES).chain((BLOCK..whole.len()).step_by(61)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            write_in_place(&path, &damaged);
            assert!(
                read_all(&path, checksum).is_err(),
                "a bit flipped in byte {at}"
            );
        }
    }
}
