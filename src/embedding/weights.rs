//! A checkpoint's weights on disk → tensors by name, checked for their shape.
//!
//! Safetensors are mapped into memory and converted tensor by tensor; the large word embedding table is not
//! converted at all: its rows are read where they lie ([`Table`]). `pytorch_model.bin` goes through candle's pickle
//! reader, which knows tensors and nothing that could run. Nothing is written, and no missing tensor is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::pickle::PthTensors;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use crate::fs;

/// The tensors of one model.
#[derive(Clone)]
pub(crate) struct Weights {
    source: Source,
    /// The files the tensors lie in.
    files: Vec<PathBuf>,
}

#[derive(Clone)]
enum Source {
    Mapped(Arc<MmapedSafetensors>),
    Pickled(Arc<PthTensors>),
}

/// Names of the files that hold weights, in the order they are looked for.
const SAFETENSORS: &str = "model.safetensors";
const SAFETENSORS_INDEX: &str = "model.safetensors.index.json";
const PICKLE: &str = "pytorch_model.bin";

impl Weights {
    /// Opens the weights in a folder: `model.safetensors`, else the shards of `model.safetensors.index.json`, else
    /// `pytorch_model.bin`.
    ///
    /// # Errors
    /// When the folder has none of them, or the file is cut or damaged.
    pub(crate) fn open(folder: &Path) -> Result<Weights> {
        let single = folder.join(SAFETENSORS);
        let index = folder.join(SAFETENSORS_INDEX);
        let pickle = folder.join(PICKLE);
        if single.is_file() {
            Self::map(vec![single])
        } else if index.is_file() {
            Self::map(shards(folder, &index)?)
        } else if pickle.is_file() {
            let tensors = PthTensors::new(&pickle, None).with_context(|| {
                format!(
                    "{}: not a PyTorch weights file that can be read",
                    pickle.display()
                )
            })?;
            Ok(Weights {
                source: Source::Pickled(Arc::new(tensors)),
                files: vec![pickle],
            })
        } else {
            bail!(
                "{}: no weights: expected {SAFETENSORS}, {SAFETENSORS_INDEX} or {PICKLE}",
                folder.display()
            )
        }
    }

    #[expect(
        unsafe_code,
        reason = "weights are mapped, not copied; files of a model folder are replaced whole, never rewritten in place"
    )]
    fn map(files: Vec<PathBuf>) -> Result<Weights> {
        for file in &files {
            fs::open(file)?;
        }
        // SAFETY: the files are opened for reading only and nothing in this program writes into a model file; the
        // hub cache and `models export` create files under another name and rename them.
        let mapped =
            unsafe { MmapedSafetensors::multi(&files) }.context("not a whole safetensors file")?;
        Ok(Weights {
            source: Source::Mapped(Arc::new(mapped)),
            files,
        })
    }

    /// The files the weights lie in.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Mapped(mapped) => mapped.get(name).is_ok(),
            Source::Pickled(pickled) => pickled.tensor_infos().contains_key(name),
        }
    }

    /// What stands before `name` in this checkpoint: nothing, or for example `bert.`.
    ///
    /// # Errors
    /// When no tensor's name ends in `name`.
    pub(crate) fn prefix(&self, name: &str) -> Result<String> {
        let names: Vec<String> = match &self.source {
            Source::Mapped(mapped) => mapped.tensors().into_iter().map(|(name, _)| name).collect(),
            Source::Pickled(pickled) => pickled.tensor_infos().keys().cloned().collect(),
        };
        names
            .iter()
            .filter_map(|full| full.strip_suffix(name))
            .min_by_key(|prefix| prefix.len())
            .map(ToString::to_string)
            .with_context(|| format!("tensor {name}: missing"))
    }

    /// A tensor in row-major order, converted to f32.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape, or holds no floating-point numbers.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match &self.source {
            Source::Mapped(mapped) => {
                let view = view(mapped, name, shape)?;
                let mut floats = vec![0f32; shape.iter().product()];
                decode(view.dtype(), view.data(), &mut floats)
                    .with_context(|| format!("tensor {name}"))?;
                Ok(floats)
            }
            Source::Pickled(pickled) => {
                let tensor = unpickle(pickled, name, shape)?;
                Ok(tensor
                    .to_dtype(DType::F32)?
                    .flatten_all()?
                    .to_vec1::<f32>()?)
            }
        }
    }

    /// A `[rows, width]` table whose rows are looked up one at a time.
    ///
    /// # Errors
    /// As [`Weights::floats`].
    pub(crate) fn table(&self, name: &str, rows: usize, width: usize) -> Result<Table> {
        match &self.source {
            Source::Mapped(mapped) => {
                let view = view(mapped, name, &[rows, width])?;
                float_bytes(view.dtype()).with_context(|| format!("tensor {name}"))?;
                Ok(Table::Mapped {
                    mapped: Arc::clone(mapped),
                    name: name.to_string(),
                    width,
                })
            }
            Source::Pickled(_) => Ok(Table::Owned {
                floats: self.floats(name, &[rows, width])?,
                width,
            }),
        }
    }

    /// All tensors, for candle's own modules: `(name, f32 tensor)`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub(crate) fn tensors(&self, device: &Device) -> Result<Vec<(String, Tensor)>> {
        let named: Vec<(String, Tensor)> = match &self.source {
            Source::Mapped(mapped) => mapped
                .tensors()
                .into_iter()
                .map(|(name, _)| {
                    let tensor = mapped.load(&name, device)?;
                    Ok((name, tensor))
                })
                .collect::<Result<_>>()?,
            Source::Pickled(pickled) => pickled
                .tensor_infos()
                .keys()
                .filter_map(|name| match pickled.get(name) {
                    Ok(Some(tensor)) => Some(Ok((name.clone(), tensor))),
                    Ok(None) => None,
                    Err(error) => Some(Err(error.into())),
                })
                .collect::<Result<_>>()?,
        };
        named
            .into_iter()
            .filter(|(_, tensor)| tensor.dtype().is_float())
            .map(|(name, tensor)| Ok((name, tensor.to_device(device)?.to_dtype(DType::F32)?)))
            .collect()
    }
}

/// A table of word vectors, read row by row.
pub(crate) enum Table {
    /// Rows stay in the mapped file; only the pages that are used come into memory.
    Mapped {
        /// The open files.
        mapped: Arc<MmapedSafetensors>,
        /// The tensor's name.
        name: String,
        /// Numbers in a row.
        width: usize,
    },
    /// The whole table in memory.
    Owned {
        /// `[rows, width]`.
        floats: Vec<f32>,
        /// Numbers in a row.
        width: usize,
    },
}

impl Table {
    /// Copies the rows of `ids` into `out`, `[ids, width]`.
    ///
    /// # Errors
    /// When an id is beyond the table.
    pub(crate) fn gather(&self, ids: impl Iterator<Item = u32>, out: &mut [f32]) -> Result<()> {
        match self {
            Table::Mapped {
                mapped,
                name,
                width,
            } => {
                let view = mapped.get(name)?;
                let row_bytes = width * float_bytes(view.dtype())?;
                for (id, row) in ids.zip(out.chunks_exact_mut(*width)) {
                    let start = id as usize * row_bytes;
                    let bytes = view
                        .data()
                        .get(start..start + row_bytes)
                        .with_context(|| beyond(id, view.data().len() / row_bytes))?;
                    decode(view.dtype(), bytes, row)?;
                }
            }
            Table::Owned { floats, width } => {
                for (id, row) in ids.zip(out.chunks_exact_mut(*width)) {
                    let start = id as usize * width;
                    let source = floats
                        .get(start..start + width)
                        .with_context(|| beyond(id, floats.len() / width))?;
                    row.copy_from_slice(source);
                }
            }
        }
        Ok(())
    }
}

fn beyond(id: u32, rows: usize) -> String {
    format!("token {id}: the model knows {rows} tokens: tokenizer.json is of another model")
}

fn view<'m>(mapped: &'m MmapedSafetensors, name: &str, shape: &[usize]) -> Result<TensorView<'m>> {
    let view = mapped
        .get(name)
        .with_context(|| format!("tensor {name}: missing"))?;
    ensure!(
        view.shape() == shape,
        "tensor {name}: expected shape {shape:?}, got {:?}",
        view.shape()
    );
    Ok(view)
}

fn unpickle(pickled: &PthTensors, name: &str, shape: &[usize]) -> Result<Tensor> {
    let tensor = pickled
        .get(name)
        .with_context(|| format!("tensor {name}"))?
        .with_context(|| format!("tensor {name}: missing"))?;
    ensure!(
        tensor.dims() == shape,
        "tensor {name}: expected shape {shape:?}, got {:?}",
        tensor.dims()
    );
    Ok(tensor)
}

/// Bytes of one number.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not exhaustive: formats are added to it"
)]
fn float_bytes(dtype: Dtype) -> Result<usize> {
    match dtype {
        Dtype::F64 => Ok(8),
        Dtype::F32 => Ok(4),
        Dtype::F16 | Dtype::BF16 => Ok(2),
        other => bail!("expected f32, f16, bf16 or f64, got {other:?}"),
    }
}

/// Little-endian numbers → f32. `bytes` need not be aligned.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not exhaustive: formats are added to it"
)]
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    match dtype {
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F16 => each(bytes, out, |raw| f16::from_le_bytes(raw).to_f32()),
        Dtype::BF16 => each(bytes, out, |raw| bf16::from_le_bytes(raw).to_f32()),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an f64 weight is rounded to f32, as every consumer of such a checkpoint does"
        )]
        Dtype::F64 => each(bytes, out, |raw| f64::from_le_bytes(raw) as f32),
        other => bail!("expected f32, f16, bf16 or f64, got {other:?}"),
    }
    Ok(())
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = bytes.as_chunks::<N>();
    for (slot, raw) in out.iter_mut().zip(numbers) {
        *slot = convert(*raw);
    }
}

/// The files that a sharded checkpoint's index names, each once.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read_to_string(index)?;
    let parsed: Index = serde_json::from_str(&text).with_context(|| index.display().to_string())?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    ensure!(!names.is_empty(), "{}: names no file", index.display());
    names
        .into_iter()
        .map(|name| {
            let is_plain = Path::new(&name)
                .file_name()
                .is_some_and(|file| file == name.as_str());
            ensure!(is_plain, "{}: {name}: not a file name", index.display());
            let path = folder.join(&name);
            ensure!(
                path.is_file(),
                "{}: missing, though {SAFETENSORS_INDEX} names it",
                path.display()
            );
            Ok(path)
        })
        .collect()
}
