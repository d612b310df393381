//! A file's bytes in memory, mapped rather than read, and the tensors that stand in them.
//!
//! A quantised tensor costs no copy: candle computes on the blocks in the mapping, whose pages come from the file as
//! they are used and can be dropped again by the system. Plain values (F32, F16, BF16) are converted to f32 on demand,
//! from any alignment.

#![expect(
    unsafe_code,
    reason = "mapping a file, and reading quantised blocks in place, have no safe form"
)]

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::quantized::k_quants::{
    self, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, BlockQ8_1, BlockQ8K,
};
use candle_core::quantized::{GgmlDType, GgmlType, QStorage, QTensor, QuantizedType};
use candle_core::{CpuStorage, Device};
use half::{bf16, f16};

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(crate) struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps a file.
    ///
    /// # Errors
    /// The path and the system's reason.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = crate::fs::open(path)?;
        // SAFETY: the bytes are only ever read as plain numbers, for which every bit pattern is valid. Whoever
        // truncates a model file while it is in use gets a bus error, as with every program that maps its weights.
        let map = unsafe { memmap2::Mmap::map(&file) };
        Ok(Mapping(map.with_context(|| path.display().to_string())?))
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A tensor of a mapped file.
#[derive(Debug, Clone)]
pub(crate) struct MappedTensor {
    mapping: Arc<Mapping>,
    offset: usize,
    n_bytes: usize,
    dtype: GgmlDType,
    shape: Vec<usize>,
}

impl MappedTensor {
    /// The tensor of this shape (outermost dimension first) whose values begin at byte `offset` of the file.
    ///
    /// # Errors
    /// When a row does not divide into blocks, or the file ends before the tensor does.
    pub(crate) fn new(
        mapping: &Arc<Mapping>,
        offset: usize,
        dtype: GgmlDType,
        shape: Vec<usize>,
    ) -> Result<Self> {
        let row = shape.last().copied().unwrap_or(0);
        ensure!(
            row > 0 && row.is_multiple_of(dtype.block_size()),
            "{dtype:?} packs {} values at a time, a row has {row}",
            dtype.block_size()
        );
        let n_bytes = shape
            .iter()
            .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
            .and_then(|n_values| (n_values / dtype.block_size()).checked_mul(dtype.type_size()))
            .with_context(|| format!("shape {shape:?}: too large"))?;
        let n_file_bytes = mapping.bytes().len();
        ensure!(
            offset
                .checked_add(n_bytes)
                .is_some_and(|end| end <= n_file_bytes),
            "the file is truncated: {n_bytes} bytes expected at byte {offset}, the file has {n_file_bytes}"
        );
        Ok(MappedTensor {
            mapping: Arc::clone(mapping),
            offset,
            n_bytes,
            dtype,
            shape,
        })
    }

    /// Outermost dimension first, as candle and PyTorch count: `[rows, columns]`.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether the values are packed in blocks rather than plain numbers.
    pub(crate) fn is_quantized(&self) -> bool {
        !matches!(
            self.dtype,
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16
        )
    }

    /// The tensor as candle's quantised tensor: on the CPU it stands in the mapping, for a GPU it is copied.
    ///
    /// # Errors
    /// When the tensor is not aligned for its type, or the GPU has no room.
    pub(crate) fn quantized(&self, device: &Device) -> Result<QTensor> {
        let storage = if device.is_cpu() {
            QStorage::Cpu(mapped_blocks(self)?)
        } else {
            QStorage::from_data(self.bytes().into(), device, self.dtype)?
        };
        Ok(QTensor::new(storage, self.shape.clone())?)
    }

    /// The tensor's values in f32.
    ///
    /// # Errors
    /// When it is quantised and not aligned for its type.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        let bytes = self.bytes();
        Ok(match self.dtype {
            GgmlDType::F32 => plain_values(bytes, f32::from_le_bytes),
            GgmlDType::F16 => plain_values(bytes, |two| f16::from_le_bytes(two).to_f32()),
            GgmlDType::BF16 => plain_values(bytes, |two| bf16::from_le_bytes(two).to_f32()),
            GgmlDType::Q4_0
            | GgmlDType::Q4_1
            | GgmlDType::Q5_0
            | GgmlDType::Q5_1
            | GgmlDType::Q8_0
            | GgmlDType::Q8_1
            | GgmlDType::Q2K
            | GgmlDType::Q3K
            | GgmlDType::Q4K
            | GgmlDType::Q5K
            | GgmlDType::Q6K
            | GgmlDType::Q8K => {
                let values = self.quantized(&Device::Cpu)?.dequantize(&Device::Cpu)?;
                values.flatten_all()?.to_vec1()?
            }
        })
    }

    /// One row of a plain (not quantised) matrix in f32.
    ///
    /// # Errors
    /// When there is no such row.
    pub(crate) fn row(&self, row: usize) -> Result<Vec<f32>> {
        let n_rows = self.shape.first().copied().unwrap_or(0);
        ensure!(row < n_rows, "row {row} of {n_rows}");
        let n_row_bytes = self.n_bytes / n_rows;
        let mut one = self.clone();
        one.offset += row * n_row_bytes;
        one.n_bytes = n_row_bytes;
        one.values()
    }

    /// Bytes the tensor takes in memory: as in the file where it is quantised, else as f32.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let n_bytes = if self.is_quantized() {
            self.n_bytes
        } else {
            self.n_bytes / self.dtype.type_size() * size_of::<f32>()
        };
        n_bytes.try_into().unwrap_or(u64::MAX)
    }

    /// How the values are packed.
    pub(crate) fn dtype(&self) -> GgmlDType {
        self.dtype
    }

    /// Tells the system that the tensor's pages are not needed for now; they come back from the file when they are.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        {
            let map = &self.mapping.0;
            // SAFETY: the mapping is read-only and of a file, so that pages that are dropped are read again unchanged.
            // Advice that the system does not take changes nothing.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.offset,
                    self.n_bytes,
                )
            };
        }
    }

    /// The values as they stand in the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        // `new` checked the range.
        self.mapping
            .bytes()
            .get(self.offset..self.offset + self.n_bytes)
            .unwrap_or(&[])
    }
}

fn plain_values<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<N>();
    values.iter().map(|value| convert(*value)).collect()
}

fn mapped_blocks(info: &MappedTensor) -> Result<Box<dyn QuantizedType>> {
    Ok(match info.dtype {
        GgmlDType::F32 => Box::new(MappedBlocks::<f32>::new(info)?),
        GgmlDType::F16 => Box::new(MappedBlocks::<f16>::new(info)?),
        GgmlDType::BF16 => Box::new(MappedBlocks::<bf16>::new(info)?),
        GgmlDType::Q4_0 => Box::new(MappedBlocks::<BlockQ4_0>::new(info)?),
        GgmlDType::Q4_1 => Box::new(MappedBlocks::<BlockQ4_1>::new(info)?),
        GgmlDType::Q5_0 => Box::new(MappedBlocks::<BlockQ5_0>::new(info)?),
        GgmlDType::Q5_1 => Box::new(MappedBlocks::<BlockQ5_1>::new(info)?),
        GgmlDType::Q8_0 => Box::new(MappedBlocks::<BlockQ8_0>::new(info)?),
        GgmlDType::Q8_1 => Box::new(MappedBlocks::<BlockQ8_1>::new(info)?),
        GgmlDType::Q2K => Box::new(MappedBlocks::<BlockQ2K>::new(info)?),
        GgmlDType::Q3K => Box::new(MappedBlocks::<BlockQ3K>::new(info)?),
        GgmlDType::Q4K => Box::new(MappedBlocks::<BlockQ4K>::new(info)?),
        GgmlDType::Q5K => Box::new(MappedBlocks::<BlockQ5K>::new(info)?),
        GgmlDType::Q6K => Box::new(MappedBlocks::<BlockQ6K>::new(info)?),
        GgmlDType::Q8K => Box::new(MappedBlocks::<BlockQ8K>::new(info)?),
    })
}

/// Quantised blocks of type `T` that stand in a mapped file; what candle does with `Vec<T>`, without the copy.
struct MappedBlocks<T> {
    mapping: Arc<Mapping>,
    offset: usize,
    n_blocks: usize,
    blocks: PhantomData<T>,
}

impl<T: GgmlType> MappedBlocks<T> {
    fn new(info: &MappedTensor) -> Result<Self> {
        ensure!(
            info.offset.is_multiple_of(align_of::<T>()),
            "byte {} is not a multiple of {}, the alignment of {:?}",
            info.offset,
            align_of::<T>(),
            info.dtype
        );
        Ok(MappedBlocks {
            mapping: Arc::clone(&info.mapping),
            offset: info.offset,
            n_blocks: info.n_bytes / size_of::<T>(),
            blocks: PhantomData,
        })
    }

    fn as_slice(&self) -> &[T] {
        let start = self.mapping.bytes().as_ptr().wrapping_add(self.offset);
        // SAFETY: `MappedTensor::new` checked that the blocks end within the mapping, `new` that the offset is aligned
        // for `T` (a mapping starts on a page). `GgmlType`s are plain numbers, valid for every bit pattern, and the mapping is
        // never written and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(start.cast::<T>(), self.n_blocks) }
    }
}

impl<T: GgmlType + Send + Sync> QuantizedType for MappedBlocks<T> {
    fn dtype(&self) -> GgmlDType {
        T::DTYPE
    }

    fn matmul_t(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f32],
        dst: &mut [f32],
    ) -> candle_core::Result<()> {
        k_quants::matmul(mkn, lhs, self.as_slice(), dst)
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f16],
        dst: &mut [f16],
    ) -> candle_core::Result<()> {
        k_quants::matmul_f16(mkn, lhs, self.as_slice(), dst)
    }

    fn embedding(
        &self,
        ids: &[u32],
        rows: usize,
        hidden: usize,
    ) -> candle_core::Result<CpuStorage> {
        let blocks_per_row = hidden / T::BLCK_SIZE;
        let mut values = vec![0f32; ids.len() * hidden];
        for (&id, row) in ids.iter().zip(values.chunks_exact_mut(hidden)) {
            let start = usize::try_from(id).unwrap_or(usize::MAX);
            let blocks = start
                .checked_mul(blocks_per_row)
                .and_then(|start| self.as_slice().get(start..start + blocks_per_row))
                .filter(|_| start < rows);
            let Some(blocks) = blocks else {
                candle_core::bail!("token {id}: the embedding table has {rows} rows");
            };
            T::to_float(blocks, row);
        }
        Ok(CpuStorage::F32(values))
    }

    fn dequantize(&self, elem_count: usize) -> candle_core::Result<CpuStorage> {
        let mut values = vec![0f32; elem_count];
        T::to_float(self.as_slice(), &mut values);
        Ok(CpuStorage::F32(values))
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.n_blocks * size_of::<T>()
    }

    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr().cast()
    }

    fn block_size(&self) -> usize {
        T::BLCK_SIZE
    }

    fn from_float(&mut self, _values: &[f32]) {
        unreachable!("a mapped file is read-only; candle quantises into storage of its own");
    }

    fn from_float_imatrix(&mut self, _values: &[f32], _importance: &[f32], _n_per_row: usize) {
        unreachable!("a mapped file is read-only; candle quantises into storage of its own");
    }

    fn size(&self) -> usize {
        self.storage_size_in_bytes()
    }
}
