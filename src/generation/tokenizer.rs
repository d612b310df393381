//! Text ↔ token ids, as the checkpoint was trained with.
//!
//! [`Tokenizer`] comes from a `tokenizer.json` or is rebuilt from a GGUF file's metadata: SentencePiece vocabularies
//! (`tokenizer.ggml.model` = `llama`) and byte-level BPE (`gpt2`) with a pre-tokenizer that is known; an unknown one is
//! refused, because a wrong split gives tokens the model has never seen. [`TextStream`] turns ids back into text as
//! they come and holds back a character whose bytes are not complete.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::gguf::{Gguf, Value};
use crate::hint::Hinted;

/// Tokens that end a turn in the chat formats of the families this crate runs; they count where the checkpoint holds
/// them as control tokens, because many files name only one of several.
const END_OF_TURN: [&str; 8] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "[|endofturn|]",
    "<end_of_turn>",
    "<|end|>",
];

/// Text ↔ token ids.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Put before a raw text; a `tokenizer.json` does so itself.
    leading_bos: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: BTreeSet<u32>,
}

impl Tokenizer {
    /// From a `tokenizer.json`. Truncation and padding that it asks for are left out. `eos` and `bos` are what the
    /// checkpoint's other files name.
    ///
    /// # Errors
    /// When the file is missing or not a tokenizer.
    pub(crate) fn from_json(path: &Path, bos: Option<u32>, ends: &[u32]) -> Result<Self> {
        let bytes = crate::fs::read(path)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| anyhow!("{}: not a tokenizer: {error}", path.display()))?;
        inner
            .with_truncation(None)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        inner.with_padding(None);
        Ok(Tokenizer::new(inner, None, bos, ends))
    }

    /// From a GGUF file's metadata.
    ///
    /// # Errors
    /// When the metadata lack a key, or name a tokenizer that is not known.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let vocabulary = Vocabulary::from_gguf(gguf)?;
        let model = gguf
            .string("tokenizer.ggml.model")?
            .context("tokenizer.ggml.model: missing")?;
        let (mut inner, adds_bos) = match model {
            "llama" => (sentencepiece(gguf, &vocabulary)?, true),
            "gpt2" => byte_level_bpe(gguf, &vocabulary)?,
            _ => bail!("tokenizer.ggml.model {model}: not supported, expected llama or gpt2"),
        };
        inner
            .add_special_tokens(vocabulary.tokens_of(CONTROL).map(|text| added(text, true)))
            .and_then(|_| {
                inner.add_tokens(
                    vocabulary
                        .tokens_of(USER_DEFINED)
                        .map(|text| added(text, false)),
                )
            })
            .map_err(|error| anyhow!("special tokens: {error}"))?;
        let id = |name: &str| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            Ok(gguf.integer(&key)?.map(u32::try_from).transpose()?)
        };
        let bos = id("bos")?;
        let adds_bos = gguf
            .bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(adds_bos);
        let ends: Vec<u32> = [id("eos")?, id("eot")?, id("eom")?]
            .into_iter()
            .flatten()
            .collect();
        let leading_bos = bos.filter(|_| adds_bos);
        Ok(Tokenizer::new(inner, leading_bos, bos, &ends))
    }

    /// Names the tokens that begin and end a text by their texts, where the checkpoint does so; the latter ends a turn,
    /// too.
    pub(crate) fn name_tokens(&mut self, bos: Option<&str>, eos: Option<&str>) {
        let id = |text: Option<&str>| text.and_then(|text| self.inner.token_to_id(text));
        let (bos, eos) = (id(bos), id(eos));
        self.bos = bos.or(self.bos);
        self.eos = eos.or(self.eos);
        self.ends.extend(eos);
    }

    fn new(
        inner: tokenizers::Tokenizer,
        leading_bos: Option<u32>,
        bos: Option<u32>,
        ends: &[u32],
    ) -> Self {
        let added = inner.get_added_vocabulary();
        let known = END_OF_TURN
            .iter()
            .filter(|text| added.is_special_token(text))
            .filter_map(|text| inner.token_to_id(text));
        Tokenizer {
            ends: ends.iter().copied().chain(known).collect(),
            eos: ends.first().copied(),
            inner,
            leading_bos,
            bos,
        }
    }

    /// Ids of a raw text, beginning as the model expects a text to begin.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text, true)?;
        Ok(self.leading_bos.into_iter().chain(ids).collect())
    }

    /// Ids of a text in which control tokens are written out, as a chat template gives it; nothing is added.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text, false)
    }

    /// Ids of a text in which nothing is a control token.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn encode_plain(&mut self, text: &str) -> Result<Vec<u32>> {
        self.inner.set_encode_special_tokens(true);
        let ids = self.encode(text, false);
        self.inner.set_encode_special_tokens(false);
        ids
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| anyhow!("tokenizer: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, control tokens left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|error| anyhow!("tokenizer: {error}"))
    }

    /// Whether this token ends the model's turn.
    pub(crate) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The text of the token that begins a text, as chat templates write it.
    pub(crate) fn bos_text(&self) -> String {
        self.token_text(self.bos)
    }

    /// The text of the token that ends a text, as chat templates write it.
    pub(crate) fn eos_text(&self) -> String {
        self.token_text(self.eos)
    }

    /// The texts of all control tokens, longest first.
    pub(crate) fn control_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self
            .inner
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| token.special && !token.content.is_empty())
            .map(|token| token.content)
            .collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts
    }

    /// The id of a token by its text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    fn token_text(&self, id: Option<u32>) -> String {
        id.and_then(|id| self.inner.id_to_token(id))
            .unwrap_or_default()
    }
}

/// Token kinds of a GGUF vocabulary (llama.h, `enum llama_token_type`).
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The token list of a GGUF file.
struct Vocabulary<'a> {
    texts: Vec<&'a str>,
    kinds: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    fn from_gguf(gguf: &'a Gguf) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf
            .array(key)?
            .with_context(|| format!("{key}: missing"))?;
        let texts = tokens
            .iter()
            .map(|token| match token {
                Value::String(text) => Ok(text.as_str()),
                Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => {
                    bail!("{key}: expected texts")
                }
            })
            .collect::<Result<Vec<&str>>>()?;
        let key = "tokenizer.ggml.token_type";
        let kinds = match gguf.array(key)? {
            Some(kinds) => kinds
                .iter()
                .map(|kind| match kind {
                    Value::Integer(kind) => Ok(*kind),
                    Value::Float(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => {
                        bail!("{key}: expected numbers")
                    }
                })
                .collect::<Result<Vec<i64>>>()?,
            None => vec![NORMAL; texts.len()],
        };
        ensure!(
            kinds.len() == texts.len(),
            "{key}: expected {} entries, got {}",
            texts.len(),
            kinds.len()
        );
        Ok(Vocabulary { texts, kinds })
    }

    fn tokens_of(&self, kind: i64) -> impl Iterator<Item = &'a str> {
        self.texts
            .iter()
            .zip(&self.kinds)
            .filter(move |(_, own)| **own == kind)
            .map(|(text, _)| *text)
    }

    fn ids(&self) -> Result<HashMap<String, u32>> {
        let mut ids = HashMap::with_capacity(self.texts.len());
        for (id, text) in self.texts.iter().enumerate() {
            // Of equal texts the first counts, as in llama.cpp's look-up from the other side.
            ids.entry((*text).to_owned()).or_insert(u32::try_from(id)?);
        }
        Ok(ids)
    }
}

fn added(text: &str, special: bool) -> AddedToken {
    AddedToken::from(text, special).normalized(false)
}

/// SentencePiece BPE. Its file has scores instead of merges: the better the score of the merged token, the earlier two
/// parts are merged. All splits of a token into two tokens are listed, the best merged token first.
fn sentencepiece(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<tokenizers::Tokenizer> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf
        .array(key)?
        .with_context(|| format!("{key}: missing"))?;
    ensure!(
        scores.len() == vocabulary.texts.len(),
        "{key}: expected {} entries, got {}",
        vocabulary.texts.len(),
        scores.len()
    );
    let ids = vocabulary.ids()?;
    let mut merges = Vec::new();
    for ((text, kind), score) in vocabulary.texts.iter().zip(&vocabulary.kinds).zip(scores) {
        let Value::Float(score) = score else {
            bail!("{key}: expected numbers");
        };
        if *kind != NORMAL {
            continue;
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((*score, left.to_owned(), right.to_owned()));
            }
        }
    }
    merges.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let merges = merges
        .into_iter()
        .map(|(_, left, right)| (left, right))
        .collect::<Vec<_>>();
    let unknown = gguf
        .integer("tokenizer.ggml.unknown_token_id")?
        .and_then(|id| vocabulary.texts.get(id))
        .unwrap_or(&"<unk>");
    let mut model = BPE::builder()
        .vocab_and_merges(ids.clone().into_iter().collect::<Vocab>(), merges)
        .byte_fallback(true)
        .fuse_unk(true);
    if ids.contains_key(*unknown) {
        model = model.unk_token((*unknown).to_owned());
    }
    let model = model
        .build()
        .map_err(|error| anyhow!("vocabulary: {error}"))?;
    let adds_space = gguf
        .bool("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    assemble_sentencepiece(model, adds_space).map_err(|error| anyhow!("tokenizer: {error}"))
}

fn assemble_sentencepiece(
    model: BPE,
    adds_space: bool,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    let mut decoders: Vec<DecoderWrapper> = vec![
        Replace::new("▁", " ")?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if adds_space {
        normalizers.push(Prepend::new("▁".to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    normalizers.push(Replace::new(" ", "▁")?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

/// How a byte-level BPE vocabulary splits text before it merges.
struct PreTokenization {
    /// Whether each digit stands alone before anything else is split.
    digits_alone: bool,
    /// `None` is GPT-2's own pattern.
    pattern: Option<&'static str>,
    /// Whether a piece that is a token as a whole is taken without merging.
    ignores_merges: bool,
    /// Whether a text begins with BOS where the file does not say.
    adds_bos: bool,
}

const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// llama.cpp's names of pre-tokenizers, and the patterns of the tokenizers they stand for (llama-vocab.cpp,
/// `llm_tokenizer_bpe`).
fn pre_tokenization(name: &str) -> Option<PreTokenization> {
    let split = |pattern, ignores_merges, adds_bos| PreTokenization {
        digits_alone: false,
        pattern,
        ignores_merges,
        adds_bos,
    };
    Some(match name {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" | "midm-2.0" => {
            split(Some(LLAMA3_PATTERN), true, true)
        }
        "qwen2" | "deepseek-r1-qwen" | "megrez" => split(Some(QWEN2_PATTERN), false, false),
        "tekken" => split(Some(TEKKEN_PATTERN), true, true),
        "gpt-2" | "gpt2" | "trillion" => split(None, false, false),
        "exaone" | "smollm" => PreTokenization {
            digits_alone: true,
            ..split(None, false, false)
        },
        _ => return None,
    })
}

/// Byte-level BPE, and whether a text begins with BOS where the file does not say.
fn byte_level_bpe(
    gguf: &Gguf,
    vocabulary: &Vocabulary<'_>,
) -> Result<(tokenizers::Tokenizer, bool)> {
    let key = "tokenizer.ggml.pre";
    let name = gguf
        .string(key)?
        .with_context(|| format!("{key}: missing"))?;
    let splitting = pre_tokenization(name).ok_or_else(|| {
        let message = format!(
            "{key} {name}: not supported, expected one of llama-bpe, llama3, qwen2, tekken, exaone, gpt-2, midm-2.0, \
             falcon3, pixtral, smollm, trillion"
        );
        Hinted::error(message, "put the model's tokenizer.json beside the file")
    })?;
    let key = "tokenizer.ggml.merges";
    let merges = gguf
        .array(key)?
        .with_context(|| format!("{key}: missing"))?;
    let merges = merges
        .iter()
        .map(|merge| match merge {
            Value::String(pair) => pair
                .split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .with_context(|| format!("{key}: {pair:?} is not two parts")),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => {
                bail!("{key}: expected texts")
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids()?.into_iter().collect::<Vocab>(), merges)
        .ignore_merges(splitting.ignores_merges)
        .build()
        .map_err(|error| anyhow!("vocabulary: {error}"))?;
    let tokenizer =
        assemble_byte_level(model, &splitting).map_err(|error| anyhow!("tokenizer: {error}"))?;
    Ok((tokenizer, splitting.adds_bos))
}

fn assemble_byte_level(
    model: BPE,
    splitting: &PreTokenization,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut pre: Vec<PreTokenizerWrapper> = Vec::new();
    if splitting.digits_alone {
        pre.push(Digits::new(true).into());
    }
    if let Some(pattern) = splitting.pattern {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        pre.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
    }
    pre.push(ByteLevel::new(false, true, splitting.pattern.is_none()).into());
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// Ids → pieces of text, as they come. A piece is given out once its last character is complete, so that a Hangul
/// syllable of three byte tokens appears whole.
pub(crate) struct TextStream {
    ids: Vec<u32>,
    /// Where decoding starts: some tokens back, because a decoder treats the first token of a text differently.
    start: usize,
    /// Ids before this one have been given out.
    given: usize,
}

impl TextStream {
    /// A stream that continues the text of `context`, which is not given out.
    pub(crate) fn after(context: &[u32]) -> Self {
        // Six tokens are enough for the bytes of one character and the token before it.
        let context = context
            .get(context.len().saturating_sub(6)..)
            .unwrap_or(&[]);
        TextStream {
            ids: context.to_vec(),
            start: 0,
            given: context.len(),
        }
    }

    /// Takes the next id and returns the text that is complete now, perhaps none.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        self.take(tokenizer, false)
    }

    /// What was held back when no more ids come: an incomplete character appears as U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn finish(mut self, tokenizer: &Tokenizer) -> Result<String> {
        self.take(tokenizer, true)
    }

    fn take(&mut self, tokenizer: &Tokenizer, is_last: bool) -> Result<String> {
        let decode = |ids: Option<&[u32]>| tokenizer.decode(ids.unwrap_or(&[]));
        let before = decode(self.ids.get(self.start..self.given))?;
        let whole = decode(self.ids.get(self.start..))?;
        if whole.ends_with('\u{FFFD}') && !is_last {
            return Ok(String::new());
        }
        let Some(new) = whole.strip_prefix(before.as_str()) else {
            return Ok(String::new());
        };
        if !new.is_empty() {
            self.start = self.given;
            self.given = self.ids.len();
        }
        Ok(new.to_owned())
    }
}
