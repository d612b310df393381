//! A checkpoint folder in sentence-transformers layout → an embedder.
//!
//! `modules.json` names the steps: a transformer, a pooling, then any of Dense and Normalize. Pooling, prompts, lower
//! case and the longest text come from the files of the checkpoint. What the files do not say is an error that names
//! the file, unless the caller gave the value. Vectors leave here with unit length whatever the checkpoint does: the
//! index compares by cosine, and a checkpoint trained for anything else is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::dense::Dense;
use super::encoder::{Encode, Workers, encode_all};
use super::family::Settings;
use super::fingerprint::Fingerprint;
use super::pooling::{self, Pooling, normalize};
use super::tokenizer::{TextTokenizer, Tokens, model_max_length};
use super::weights::Weights;
use super::{Embed, EmbedderId, EmbeddingOptions, GivenPrefixes, Prefixes, transformer};
use crate::fs;

/// An embedder loaded from a checkpoint folder.
pub struct SentenceTransformer {
    id: EmbedderId,
    prefixes: Prefixes,
    tokenizer: TextTokenizer,
    encoder: Box<dyn Encode>,
    pooling: Vec<Pooling>,
    dense: Vec<Dense>,
    workers: Workers,
}

/// Name of the file that lists the steps.
const MODULES: &str = "modules.json";
/// Name of the file that holds the prompts.
const PROMPTS: &str = "config_sentence_transformers.json";

impl SentenceTransformer {
    /// Loads the checkpoint in `folder`. `name` is what the index will remember; `known` are the prefixes that are
    /// published for this model, used where the checkpoint itself says nothing.
    ///
    /// # Errors
    /// When a file is missing or damaged, or asks for something that is not supported; the message names the file
    /// and the field.
    pub fn load(
        folder: &Path,
        name: &str,
        known: Option<&Prefixes>,
        options: &EmbeddingOptions,
    ) -> Result<SentenceTransformer> {
        Self::load_parts(folder, name, known, options).with_context(|| folder.display().to_string())
    }

    fn load_parts(
        folder: &Path,
        name: &str,
        known: Option<&Prefixes>,
        options: &EmbeddingOptions,
    ) -> Result<SentenceTransformer> {
        let modules = Modules::read(folder, options.pooling)?;
        let prompts = Prompts::read(folder)?;
        prompts.check_similarity(modules.normalizes)?;
        let prefixes = prompts.prefixes(known, &options.prefixes);

        let settings = Settings::read(&modules.transformer)?;
        let transformer_config = TransformerConfig::read(&modules.transformer)?;
        let max_tokens = max_tokens(
            &settings,
            &transformer_config,
            &modules.transformer,
            options,
        )?;
        let tokenizer = TextTokenizer::open(
            &modules.transformer,
            max_tokens,
            transformer_config.do_lower_case,
        )?;

        let weights = Weights::open(&modules.transformer)?;
        let mut fingerprint = Fingerprint::default();
        fingerprint.text(&format!(
            "{:?} {prefixes:?} {max_tokens} {transformer_config:?}",
            modules.pooling
        ));
        fingerprint.files(&[
            modules.transformer.join("config.json"),
            modules.transformer.join("tokenizer.json"),
        ])?;
        fingerprint.files(weights.files())?;

        let mut dimension = settings.hidden_size * modules.pooling.len();
        let mut dense = Vec::new();
        for folder in &modules.dense {
            let layer = Dense::load(folder, dimension, &mut fingerprint)
                .with_context(|| folder.display().to_string())?;
            dimension = layer.out_features();
            dense.push(layer);
        }
        let encoder = transformer(&settings, &weights, &options.device)?;
        Ok(SentenceTransformer {
            id: EmbedderId {
                name: name.to_string(),
                fingerprint: fingerprint.finish(),
                dimension,
            },
            prefixes,
            tokenizer,
            encoder,
            pooling: modules.pooling,
            dense,
            workers: Workers::new(options.n_threads)?,
        })
    }

    fn embed(&self, prefix: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<Tokens> = self.workers.map(texts, |text| {
            if prefix.is_empty() {
                self.tokenizer.encode(text)
            } else {
                self.tokenizer.encode(&format!("{prefix}{text}"))
            }
        })?;
        encode_all(self.encoder.as_ref(), &self.workers, &tokens, |hidden| {
            self.finish(hidden)
        })
    }

    /// Token vectors of one text → its vector.
    fn finish(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        let mut vector = Vec::with_capacity(self.id.dimension);
        for mode in &self.pooling {
            mode.pool(hidden, self.encoder.hidden_size(), &mut vector);
        }
        for dense in &self.dense {
            vector = dense.forward(&vector);
        }
        normalize(&mut vector);
        ensure!(
            vector.iter().all(|value| value.is_finite()),
            "{}: the vector of a text is not finite: the weights are damaged",
            self.id.name
        );
        Ok(vector)
    }
}

impl Embed for SentenceTransformer {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        let vectors = self.embed(&self.prefixes.query, &[text])?;
        vectors.into_iter().next().context("no vector for the text")
    }

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.embed(&self.prefixes.passage, texts)
    }
}

/// The steps of `modules.json`.
struct Modules {
    transformer: PathBuf,
    pooling: Vec<Pooling>,
    dense: Vec<PathBuf>,
    normalizes: bool,
}

impl Modules {
    fn read(folder: &Path, given: Option<Pooling>) -> Result<Modules> {
        #[derive(Deserialize)]
        struct Module {
            path: String,
            #[serde(rename = "type")]
            kind: String,
        }
        let path = folder.join(MODULES);
        if !path.is_file() {
            return match given {
                Some(pooling) => Ok(Modules {
                    transformer: folder.to_path_buf(),
                    pooling: vec![pooling],
                    dense: Vec::new(),
                    normalizes: false,
                }),
                None => bail!(
                    "{MODULES}: missing: without it the pooling of this checkpoint is not known (cls, max, mean or lasttoken)"
                ),
            };
        }
        let listed: Vec<Module> = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?;
        let mut transformer = None;
        let mut pooling = given.map(|mode| vec![mode]);
        let mut dense = Vec::new();
        let mut normalizes = false;
        for module in listed {
            let place = folder.join(&module.path);
            // Older and newer releases write other module paths before the class name.
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => transformer = Some(place),
                "Pooling" => {
                    if pooling.is_none() {
                        pooling = Some(pooling::read_config(&place.join("config.json"))?);
                    }
                }
                "Dense" => dense.push(place),
                "Normalize" => normalizes = true,
                _ => bail!(
                    "{MODULES}: {}: expected Transformer, Pooling, Dense or Normalize",
                    module.kind
                ),
            }
        }
        Ok(Modules {
            transformer: transformer.with_context(|| format!("{MODULES}: names no Transformer"))?,
            pooling: pooling.with_context(|| format!("{MODULES}: names no Pooling"))?,
            dense,
            normalizes,
        })
    }
}

/// `config_sentence_transformers.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Prompts {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
}

impl Prompts {
    fn read(folder: &Path) -> Result<Prompts> {
        let path = folder.join(PROMPTS);
        if !path.is_file() {
            return Ok(Prompts::default());
        }
        serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())
    }

    /// Unit vectors compare by cosine; another measure over vectors of other lengths is lost by normalising.
    fn check_similarity(&self, normalizes: bool) -> Result<()> {
        match self.similarity_fn_name.as_deref() {
            None | Some("cosine") => Ok(()),
            Some(_) if normalizes => Ok(()),
            Some(other) => bail!(
                "{PROMPTS}: similarity_fn_name {other}: expected cosine, or a Normalize step in {MODULES}"
            ),
        }
    }

    /// The caller's prefix, else the checkpoint's, else the published one, else none. The names are those that
    /// sentence-transformers' `encode_query` and `encode_document` look for.
    fn prefixes(&self, known: Option<&Prefixes>, given: &GivenPrefixes) -> Prefixes {
        let named = |names: &[&str]| -> Option<String> {
            let default = self.default_prompt_name.as_deref();
            names
                .iter()
                .copied()
                .chain(default)
                .find_map(|name| self.prompts.get(name).cloned())
                // Current releases write empty prompts into every checkpoint they save.
                .filter(|prompt| !prompt.is_empty())
        };
        Prefixes {
            query: given
                .query
                .clone()
                .or_else(|| named(&["query"]))
                .or_else(|| known.map(|known| known.query.clone()))
                .unwrap_or_default(),
            passage: given
                .passage
                .clone()
                .or_else(|| named(&["document", "passage", "corpus"]))
                .or_else(|| known.map(|known| known.passage.clone()))
                .unwrap_or_default(),
        }
    }
}

/// `sentence_bert_config.json`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

impl TransformerConfig {
    fn read(folder: &Path) -> Result<TransformerConfig> {
        let path = folder.join("sentence_bert_config.json");
        if !path.is_file() {
            return Ok(TransformerConfig::default());
        }
        serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())
    }
}

/// Most tokens of a text: the caller's number, else `max_seq_length`, else the tokenizer's limit; never more than
/// the model has positions for.
fn max_tokens(
    settings: &Settings,
    transformer: &TransformerConfig,
    folder: &Path,
    options: &EmbeddingOptions,
) -> Result<usize> {
    let capacity = settings.max_tokens()?;
    let wanted = match options.max_tokens.or(transformer.max_seq_length) {
        Some(max_tokens) => max_tokens,
        None => model_max_length(folder)?.unwrap_or(capacity),
    };
    Ok(wanted.min(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Expected {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        prompt: String,
        text: String,
        ids: Vec<u32>,
        embedding: Vec<f32>,
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new("fixtures/models").join(name)
    }

    fn load(folder: &Path, options: &EmbeddingOptions) -> Result<SentenceTransformer> {
        SentenceTransformer::load(folder, "tiny", None, options)
    }

    fn difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn vectors_are_those_of_the_reference_alone_and_in_a_batch() {
        let check = |name: &str| {
            let folder = fixture(name);
            let text = fs::read_to_string(&folder.join("expected.json")).unwrap();
            let expected: Expected = serde_json::from_str(&text).unwrap();
            let model = load(&folder, &EmbeddingOptions::default()).unwrap();
            let is_byte_level = matches!(name, "tiny-roberta" | "tiny-modernbert");
            // White space around a text is dropped here and was kept there; only byte-level tokens tell.
            let cases: Vec<&Case> = expected
                .cases
                .iter()
                .filter(|case| !is_byte_level || case.text.trim() == case.text)
                .collect();
            assert!(cases.len() >= 8, "{name}");
            let texts: Vec<String> = cases
                .iter()
                .map(|case| format!("{}{}", case.prompt, case.text))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let batch = model.embed("", &texts).unwrap();
            for ((case, text), in_batch) in cases.iter().zip(&texts).zip(&batch) {
                let tokens = model.tokenizer.encode(text).unwrap();
                assert_eq!(tokens.ids, case.ids, "{name}: {text:?}");
                let alone = &model.embed("", &[text]).unwrap()[0];
                assert!(
                    difference(alone, in_batch) < 1e-6,
                    "{name}: {text:?}: alone and in a batch"
                );
                // The vectors here have length 1 whatever the checkpoint does.
                let mut reference = case.embedding.clone();
                normalize(&mut reference);
                assert!(
                    difference(alone, &reference) < 1e-5,
                    "{name}: {text:?}: {alone:?}"
                );
            }
        };
        check("tiny-bert");
        check("tiny-bert-dense");
        check("tiny-xlm-roberta");
        check("tiny-xlm-roberta-sharded");
        check("tiny-roberta");
        check("tiny-distilbert");
        check("tiny-modernbert");
    }

    #[test]
    fn prompts_of_the_checkpoint_stand_before_queries_and_passages() {
        let check = |name: &str, query: &str, passage: &str| {
            let folder = fixture(name);
            let text = fs::read_to_string(&folder.join("expected.json")).unwrap();
            let expected: Expected = serde_json::from_str(&text).unwrap();
            let model = load(&folder, &EmbeddingOptions::default()).unwrap();
            let mut n_compared = 0;
            for case in expected.cases.iter().filter(|case| !case.prompt.is_empty()) {
                let vector = if case.prompt == query {
                    model.embed_query(&case.text).unwrap()
                } else {
                    assert_eq!(case.prompt, passage, "{name}");
                    model.embed_passages(&[&case.text]).unwrap().remove(0)
                };
                let far = difference(&vector, &case.embedding);
                assert!(far < 1e-5, "{name}: {}{}: {far}", case.prompt, case.text);
                n_compared += 1;
            }
            assert_eq!(n_compared, 6, "{name}");
        };
        check("tiny-bert", "query: ", "passage: ");
        check("tiny-bert-dense", "질문: ", "글: ");
        check("tiny-modernbert", "search_query: ", "search_document: ");
    }

    #[test]
    fn prefixes_come_from_the_caller_the_checkpoint_or_what_is_published() {
        let text = "휴직 기간";
        let prefixed = |prefix: &str, name: &str| {
            let model = load(&fixture(name), &EmbeddingOptions::default()).unwrap();
            model.embed(prefix, &[text]).unwrap().remove(0)
        };
        let given = EmbeddingOptions {
            prefixes: GivenPrefixes {
                query: Some("Q ".to_string()),
                passage: None,
            },
            ..EmbeddingOptions::default()
        };
        let published = Prefixes {
            query: "질문 ".to_string(),
            passage: "글 ".to_string(),
        };
        let check = |name: &str, options: &EmbeddingOptions, query: &str, passage: &str| {
            let folder = fixture(name);
            let model =
                SentenceTransformer::load(&folder, "tiny", Some(&published), options).unwrap();
            assert_eq!(
                model.embed_query(text).unwrap(),
                prefixed(query, name),
                "{name}: {query}"
            );
            let passages = model.embed_passages(&[text]).unwrap();
            assert_eq!(passages[0], prefixed(passage, name), "{name}: {passage}");
        };
        check(
            "tiny-bert",
            &EmbeddingOptions::default(),
            "query: ",
            "passage: ",
        );
        check("tiny-bert", &given, "Q ", "passage: ");
        check(
            "tiny-xlm-roberta",
            &EmbeddingOptions::default(),
            "질문 ",
            "글 ",
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let check = |change: &dyn Fn(&Path), words: &str| {
            let copy = tempfile::tempdir().unwrap();
            for entry in walkdir::WalkDir::new(fixture("tiny-bert")) {
                let entry = entry.unwrap();
                let to = copy
                    .path()
                    .join(entry.path().strip_prefix(fixture("tiny-bert")).unwrap());
                if entry.file_type().is_file() {
                    fs::write_atomic(&to, &fs::read(entry.path()).unwrap()).unwrap();
                }
            }
            change(copy.path());
            let error = load(copy.path(), &EmbeddingOptions::default())
                .err()
                .unwrap();
            assert!(
                format!("{error:#}").contains(words),
                "expected {words}: {error:#}"
            );
        };
        let remove = |name: &'static str| {
            move |folder: &Path| std::fs::remove_file(folder.join(name)).unwrap()
        };
        let write = |name: &'static str, text: &'static str| {
            move |folder: &Path| fs::write_atomic(&folder.join(name), text.as_bytes()).unwrap()
        };
        check(&remove("config.json"), "config.json");
        check(
            &remove("modules.json"),
            "modules.json: missing: without it the pooling",
        );
        check(&remove("1_Pooling/config.json"), "1_Pooling");
        check(&remove("tokenizer.json"), "tokenizer.json");
        check(
            &remove("model.safetensors"),
            "no weights: expected model.safetensors",
        );
        check(
            &write("model.safetensors", "short"),
            "not a whole safetensors file",
        );
        check(&write("config.json", "{}"), "field model_type: missing");
        check(&write("tokenizer.json", "{}"), "tokenizer.json");
        check(
            &write(
                "modules.json",
                r#"[{"path":"","type":"a.b.Transformer"},{"path":"","type":"a.b.LSTM"}]"#,
            ),
            "a.b.LSTM: expected Transformer, Pooling, Dense or Normalize",
        );
        check(
            &write("modules.json", r#"[{"path":"","type":"a.b.Transformer"}]"#),
            "names no Pooling",
        );
        check(
            &write("sentence_bert_config.json", r#"{"max_seq_length":2}"#),
            "no room is left",
        );
    }

    #[test]
    fn the_fingerprint_follows_the_settings() {
        let of = |options: &EmbeddingOptions| {
            load(&fixture("tiny-bert"), options)
                .unwrap()
                .id()
                .fingerprint
                .clone()
        };
        let plain = of(&EmbeddingOptions::default());
        assert_eq!(
            plain,
            of(&EmbeddingOptions {
                n_threads: Some(1),
                ..EmbeddingOptions::default()
            })
        );
        assert_ne!(
            plain,
            of(&EmbeddingOptions {
                pooling: Some(Pooling::Cls),
                ..EmbeddingOptions::default()
            })
        );
        assert_ne!(
            plain,
            of(&EmbeddingOptions {
                max_tokens: Some(9),
                ..EmbeddingOptions::default()
            })
        );
    }
}
