//! A GGUF file → its metadata and its tensors, memory-mapped.
//!
//! In comes a path; out comes [`Gguf`]: typed look-ups in the metadata and, for each tensor, its type, shape and bytes
//! in the mapping. Every length is checked against the file before it is believed, so a truncated or hostile file is an
//! error that names the tensor or key, never a panic or a huge allocation. Shards (`-00001-of-00003.gguf`) are opened
//! together.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian. What the
//! metadata mean for a model is decided by [`super::config`] and [`super::tokenizer`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::quantized::GgmlDType;

use super::mapping::{MappedTensor, Mapping};

/// A metadata value. Integers of every width are [`Value::Integer`]; floats are widened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
}

/// A GGUF file (or all shards of one), opened.
#[derive(Debug)]
pub(crate) struct Gguf {
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, MappedTensor>,
}

impl Gguf {
    /// Maps the file and reads its header; the tensors' bytes are not touched.
    ///
    /// # Errors
    /// When the file is not GGUF, is truncated, or holds a quantisation that is not known, by tensor name.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut gguf = Gguf {
            metadata: HashMap::new(),
            tensors: HashMap::new(),
        };
        for shard in shards(path)? {
            gguf.read_shard(&shard)
                .with_context(|| shard.display().to_string())?;
        }
        Ok(gguf)
    }

    /// The tensor of this name, if the file holds one.
    pub(crate) fn tensor(&self, name: &str) -> Option<&MappedTensor> {
        self.tensors.get(name)
    }

    /// All tensors with their names, in no order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&String, &MappedTensor)> {
        self.tensors.iter()
    }

    /// The value of a key, if present.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A non-negative integer, if the key is present.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |value| match value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Float(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
        })
    }

    /// A number, if the key is present; integers count.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "hyperparameters are small")]
            Value::Integer(number) => Some(*number as f64),
            Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
        })
    }

    /// A truth value, if the key is present.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(truth) => Some(*truth),
            Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::Array(_) => None,
        })
    }

    /// A text, if the key is present.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => None,
        })
    }

    /// A list, if the key is present.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn array(&self, key: &str) -> Result<Option<&[Value]>> {
        self.typed(key, "a list", |value| match value {
            Value::Array(items) => Some(items.as_slice()),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::String(_) => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        convert(value)
            .map(Some)
            .ok_or_else(|| anyhow!("{key}: expected {expected}, got {}", describe(value)))
    }

    fn read_shard(&mut self, path: &Path) -> Result<()> {
        let mapping = Arc::new(Mapping::open(path)?);
        let mut reader = Reader {
            bytes: mapping.bytes(),
            position: 0,
        };
        let (n_tensors, n_entries) = read_header(&mut reader)?;
        for _ in 0..n_entries {
            let key = reader.string().context("metadata")?;
            let value = reader
                .typed_value()
                .with_context(|| format!("metadata key {key}"))?;
            self.metadata.insert(key, value);
        }
        let mut entries = Vec::new();
        for _ in 0..n_tensors {
            entries.push(read_tensor_entry(&mut reader)?);
        }
        let alignment = self.integer("general.alignment")?.unwrap_or(32);
        ensure!(
            alignment.is_power_of_two(),
            "general.alignment: expected a power of two, got {alignment}"
        );
        let data_start = reader
            .position
            .checked_next_multiple_of(alignment)
            .context("header: too long")?;
        for (name, dtype, shape, offset) in entries {
            let tensor = usize::try_from(offset)?
                .checked_add(data_start)
                .context("its offset is too large")
                .and_then(|offset| MappedTensor::new(&mapping, offset, dtype, shape))
                .with_context(|| format!("tensor {name}"))?;
            self.tensors.insert(name, tensor);
        }
        Ok(())
    }
}

/// The files of a sharded model, in order, or the path alone.
fn shards(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str());
    let numbered = name.and_then(|name| {
        let (stem, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let n_shards: usize = count.parse().ok()?;
        (number.len() == 5 && count.len() == 5).then_some((stem, n_shards, number, count))
    });
    let Some((stem, n_shards, number, count)) = numbered else {
        return Ok(vec![path.to_owned()]);
    };
    ensure!(
        number == "00001",
        "{}: shard {number} of {count}, expected the first one, {stem}-00001-of-{count}.gguf",
        path.display()
    );
    Ok((1..=n_shards)
        .map(|number| path.with_file_name(format!("{stem}-{number:05}-of-{count}.gguf")))
        .collect())
}

/// Checks magic and version; returns the numbers of tensors and of metadata entries.
fn read_header(reader: &mut Reader<'_>) -> Result<(u64, u64)> {
    let magic = reader.take(4).context("not a GGUF file: too short")?;
    ensure!(
        magic == b"GGUF",
        "not a GGUF file: it starts with {:?}",
        String::from_utf8_lossy(magic)
    );
    let version = reader.u32()?;
    ensure!(
        version == 2 || version == 3,
        "GGUF version {version}, expected 2 or 3"
    );
    Ok((reader.u64()?, reader.u64()?))
}

type TensorEntry = (String, GgmlDType, Vec<usize>, u64);

fn read_tensor_entry(reader: &mut Reader<'_>) -> Result<TensorEntry> {
    let name = reader.string().context("tensor list")?;
    let mut entry = || -> Result<_> {
        let n_dimensions = reader.u32()?;
        ensure!(
            (1..=4).contains(&n_dimensions),
            "{n_dimensions} dimensions, expected 1 to 4"
        );
        let mut shape = (0..n_dimensions)
            .map(|_| Ok(usize::try_from(reader.u64()?)?))
            .collect::<Result<Vec<usize>>>()?;
        shape.reverse();
        Ok((dtype(reader.u32()?)?, shape, reader.u64()?))
    };
    let (dtype, shape, offset) = entry().with_context(|| format!("tensor {name}"))?;
    Ok((name, dtype, shape, offset))
}

/// The quantisations that candle computes with; GGML numbers from ggml.h, `enum ggml_type`.
fn dtype(number: u32) -> Result<GgmlDType> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => bail!(
            "quantisation {}: not supported, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2_K, \
             Q3_K, Q4_K, Q5_K, Q6_K, Q8_K",
            unsupported_name(number)
        ),
    })
}

fn unsupported_name(number: u32) -> String {
    let name = match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("number {number}"),
    };
    name.to_owned()
}

fn describe(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(items) => format!("a list of {}", items.len()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Result<&'a [u8]> {
        let taken = self
            .bytes
            .get(self.position..)
            .and_then(|rest| rest.get(..n_bytes))
            .ok_or_else(|| {
                anyhow!(
                    "the file is truncated: {n_bytes} bytes expected at byte {}, the file has {}",
                    self.position,
                    self.bytes.len()
                )
            })?;
        self.position += n_bytes;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<String> {
        let n_bytes = usize::try_from(self.u64()?)?;
        // Some writers end a text with NUL or cut a character; the rest of it is still good.
        let text = String::from_utf8_lossy(self.take(n_bytes)?);
        Ok(text.trim_end_matches('\0').to_owned())
    }

    fn typed_value(&mut self) -> Result<Value> {
        let kind = self.u32()?;
        self.value(kind, 0)
    }

    /// Value kinds from the GGUF specification, `gguf_metadata_value_type`.
    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        // Real files nest once; the bound keeps a hostile one from using up the stack.
        ensure!(depth < 8, "lists nested more than 8 deep");
        Ok(match kind {
            0 => Value::Integer(i64::from(u8::from_le_bytes(self.array()?))),
            1 => Value::Integer(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Integer(i64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Integer(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Integer(i64::from(self.u32()?)),
            5 => Value::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::String(self.string()?),
            9 => {
                let kind = self.u32()?;
                let n_items = self.u64()?;
                // No `with_capacity`: the count is not believed until the items have been read.
                let mut items = Vec::new();
                for _ in 0..n_items {
                    items.push(self.value(kind, depth + 1)?);
                }
                Value::Array(items)
            }
            10 => Value::Integer(i64::try_from(self.u64()?)?),
            11 => Value::Integer(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => bail!("value of unknown kind {kind}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "fixtures/models/tiny-llama/model-q8_0.gguf";

    fn open(bytes: &[u8]) -> Result<Gguf> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        Gguf::open(&path)
    }

    #[test]
    fn it_reads_what_candle_reads() {
        let mut file = std::fs::File::open(MODEL).unwrap();
        let candle = candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
        let ours = Gguf::open(MODEL.as_ref()).unwrap();
        assert_eq!(ours.metadata.len(), candle.metadata.len());
        assert_eq!(ours.tensors.len(), candle.tensor_infos.len());
        let device = &candle_core::Device::Cpu;
        for name in candle.tensor_infos.keys() {
            let theirs = candle.tensor(&mut file, name, device).unwrap();
            let tensor = ours.tensor(name).unwrap();
            assert_eq!(tensor.shape(), theirs.shape().dims(), "{name}");
            let theirs = theirs.dequantize(device).unwrap().flatten_all().unwrap();
            assert_eq!(tensor.values().unwrap(), theirs.to_vec1::<f32>().unwrap());
        }
        assert_eq!(ours.string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(ours.integer("llama.block_count").unwrap(), Some(2));
        assert_eq!(ours.integer("llama.nothing").unwrap(), None);
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_named() {
        let gguf = Gguf::open(MODEL.as_ref()).unwrap();
        let error = gguf.integer("general.architecture").unwrap_err();
        assert_eq!(
            error.to_string(),
            "general.architecture: expected a non-negative integer, got \"llama\""
        );
    }

    #[test]
    fn a_truncated_file_is_an_error_wherever_it_ends() {
        let bytes = std::fs::read(MODEL).unwrap();
        for n_bytes in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
            let error = open(&bytes[..n_bytes]).map(|_| n_bytes).unwrap_err();
            let error = format!("{error:#}");
            let expected = ["truncated", "too short", "empty"];
            assert!(expected.iter().any(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn a_damaged_header_never_panics() {
        let bytes = std::fs::read(MODEL).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        for position in (0..12_000.min(bytes.len())).step_by(29) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xFF;
            std::fs::write(&path, damaged).unwrap();
            // Either is right: a damaged name still is a name.
            let device = &candle_core::Device::Cpu;
            let _ = crate::generation::LocalModel::open(&path, "damaged", None, device);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let error = format!("{:#}", open(bytes).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check(b"PK\x03\x04....", "not a GGUF file: it starts with \"PK");
        check(b"GGUF\x01\0\0\0", "GGUF version 1, expected 2 or 3");
        let mut one_tensor = b"GGUF\x03\0\0\0".to_vec();
        one_tensor.extend(1u64.to_le_bytes());
        one_tensor.extend(0u64.to_le_bytes());
        one_tensor.extend(1u64.to_le_bytes());
        one_tensor.extend(b"w");
        one_tensor.extend(1u32.to_le_bytes());
        one_tensor.extend(256u64.to_le_bytes());
        one_tensor.extend(23u32.to_le_bytes());
        one_tensor.extend(0u64.to_le_bytes());
        check(
            &one_tensor,
            "tensor w: quantisation IQ4_XS: not supported, expected one of F32, F16",
        );
    }

    #[test]
    fn shards_are_opened_together() {
        let check = |name: &str, expected: &[&str]| {
            let names: Vec<String> = shards(name.as_ref())
                .unwrap()
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            assert_eq!(names, expected);
        };
        check("a/model.gguf", &["a/model.gguf"]);
        check(
            "a/m-00001-of-00002.gguf",
            &["a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf"],
        );
        assert!(shards("m-00002-of-00002.gguf".as_ref()).is_err());
    }
}
