//! Trains the embedder that is part of the binary, and measures it. `README.md` beside this file tells how and on what.

mod alignment;
mod corpus;
mod evaluation;
mod pairs;
mod random;
mod training;
mod vocabulary;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use ragq::embedding::static_embedding::{
    BUCKET_SCALE, GREATEST, ROWS, SCALES, StaticEmbedding, two_numbers,
};
use ragq::embedding::subwords::{Feature, Subwords};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use alignment::WordLists;
use corpus::{Article, QuestionSet};
use pairs::{Asked, Mixture, Office, Pair, Sources, Wording};
use random::Random;
use training::{Batch, Losses, Table};
use vocabulary::WordCounts;
use words::Words;

/// Train the built-in static embedder.
#[derive(Parser)]
struct Arguments {
    /// Folder of statutes in Markdown.
    #[arg(long)]
    laws: PathBuf,
    /// Question set (corpus.jsonl, qa.jsonl) of which half of the passages' questions are trained on.
    #[arg(long)]
    questions: Option<PathBuf>,
    /// Folder of sentence pairs (KorSTS, KorNLI, KLUE).
    #[arg(long)]
    similarity: PathBuf,
    /// Words and their vectors, from `words.py`.
    #[arg(long)]
    words: PathBuf,
    /// Question sets to measure on when done; never trained on.
    #[arg(long)]
    check: Vec<PathBuf>,
    /// Folder for vocabulary.txt, model.safetensors and fingerprint.txt.
    #[arg(long)]
    out: PathBuf,
    /// Train without the questions on half of the passages, to measure on them.
    #[arg(long)]
    hold_out: bool,
    /// Only measure what `--out` holds.
    #[arg(long)]
    measure_only: bool,
    #[arg(long, default_value_t = 30_000)]
    vocabulary: usize,
    /// The most frequent of the words, added to the vocabulary.
    #[arg(long, default_value_t = 16_000)]
    frequent_words: usize,
    /// Share of the words' vectors in the rows that training starts from; the rest is random.
    #[arg(long, default_value_t = 0.9)]
    word_share: f32,
    #[arg(long, default_value_t = 384)]
    dimension: usize,
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    #[arg(long, default_value_t = 512)]
    batch: usize,
    #[arg(long, default_value_t = 0.004)]
    learning_rate: f32,
    /// What cosines are multiplied by before the softmax.
    #[arg(long, default_value_t = 20.0)]
    scale: f32,
    /// What alignments are multiplied by before the softmax.
    #[arg(long, default_value_t = 40.0)]
    aligned_scale: f32,
    /// Weight of the loss of alignments beside that of sums.
    #[arg(long, default_value_t = 2.0)]
    aligned_weight: f32,
    /// Weight of telling aligned passages from a threshold, beside telling them from each other.
    #[arg(long, default_value_t = 0.5)]
    threshold_weight: f32,
    /// Share of features left out of each text, so that no single one decides.
    #[arg(long, default_value_t = 0.3)]
    dropout: f32,
    /// Share of the way back to the untrained rows that the finished ones are moved.
    #[arg(long, default_value_t = 0.35)]
    keep_initial: f32,
    /// Share of pairs from the question set.
    #[arg(long, default_value_t = 0.12)]
    question_share: f32,
    #[arg(long, default_value_t = 0.06)]
    similarity_share: f32,
    #[arg(long, default_value_t = 0.1)]
    wording_share: f32,
    /// Share of pairs from the questions written for this.
    #[arg(long, default_value_t = 0.6)]
    asked_share: f32,
    /// Pairs that stand in a batch beside each drawn one: of the article it is about, or of any, and of those that follow.
    #[arg(long, default_value_t = 1)]
    neighbours: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.measure_only {
        train(&arguments)?;
    }
    measure(&arguments)
}

fn train(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let sources = read_sources(arguments)?;
    eprintln!(
        "{} articles, {:.0?}",
        sources.articles.len(),
        start.elapsed()
    );
    let words = Words::read(&arguments.words)?;
    let (vocabulary, rarity) = choose_vocabulary(
        &sources,
        &words,
        arguments.vocabulary,
        arguments.frequent_words,
    );
    let subwords = Subwords::new(&vocabulary);
    eprintln!("{} entries, {:.0?}", subwords.n_rows(), start.elapsed());
    let meanings: Vec<Option<Vec<f32>>> = vocabulary.lines().map(|e| words.vector(e)).collect();
    let n_known = meanings.iter().flatten().count();
    eprintln!("{n_known} entries with a vector to start from");
    let mut table = Table::new(
        arguments.dimension,
        &rarity.0,
        &meanings,
        arguments.word_share,
        arguments.seed,
    );
    drop(meanings);
    let losses = Losses {
        scale: arguments.scale,
        aligned_scale: arguments.aligned_scale,
        aligned_weight: arguments.aligned_weight,
        threshold_weight: arguments.threshold_weight,
    };
    let mut mean_losses = [0.0; 2];
    for step in 0..arguments.steps {
        let mut random = Random::new(arguments.seed.wrapping_mul(1 << 32) + step as u64);
        let batch = draw_batch(&sources, &subwords, arguments, &mut random);
        let rate = arguments.learning_rate * (1.0 - step as f32 / arguments.steps as f32);
        for (mean, loss) in mean_losses
            .iter_mut()
            .zip(table.step(&batch, losses, rate)?)
        {
            *mean += loss / 50.0;
        }
        if (step + 1) % 50 == 0 {
            eprintln!(
                "step {}: losses {mean_losses:.3?}, threshold {:.3}, {:.0?}",
                step + 1,
                table.threshold,
                start.elapsed()
            );
            mean_losses = [0.0; 2];
        }
    }
    let rows = table.rows_between(arguments.keep_initial);
    save(&rows, &table, &vocabulary, &arguments.out)
}

fn read_sources(arguments: &Arguments) -> Result<Sources> {
    let articles = corpus::read_laws(&arguments.laws)?;
    let by_number = articles
        .iter()
        .enumerate()
        .map(|(at, a): (usize, &Article)| ((a.law.clone(), a.number.clone()), at))
        .collect();
    let welfare = match &arguments.questions {
        Some(folder) => {
            let mut set = QuestionSet::read(folder)?;
            set.questions
                .retain(|q| !arguments.hold_out || !held_out(&q.relevant));
            Some(set)
        }
        None => None,
    };
    let is_trained = |name: &str| !arguments.hold_out || !corpus::is_held_out(name);
    Ok(Sources {
        by_number,
        wordings: Wording::read_all(include_str!("wording.tsv")),
        asked: Asked::read_all(&articles, include_str!("questions.tsv"), is_trained),
        office: Office::read_all(
            include_str!("passages.jsonl"),
            include_str!("passages.tsv"),
            is_trained,
        )?,
        similarity: corpus::read_similarity(&arguments.similarity)?,
        welfare,
        articles,
    })
}

/// Half of the passages of the question set are kept for measuring, with all their questions.
fn held_out(relevant: &[String]) -> bool {
    relevant.first().is_some_and(|id| corpus::is_held_out(id))
}

/// The vocabulary, one entry a line, and how rare each entry is.
fn choose_vocabulary(
    sources: &Sources,
    known: &Words,
    n_entries: usize,
    n_frequent: usize,
) -> (String, Rarity) {
    let mut words = sources
        .articles
        .par_chunks(20_000)
        .map(|articles| {
            let mut words = WordCounts::default();
            for article in articles {
                words.add(&article.heading, 3);
                article.sentences.iter().for_each(|s| words.add(s, 1));
            }
            words
        })
        .reduce(WordCounts::default, WordCounts::merge);
    for (first, second) in &sources.similarity {
        words.add(first, 20);
        words.add(second, 20);
    }
    for wording in &sources.wordings {
        words.add(&wording.formal, 50);
        wording
            .everyday
            .iter()
            .chain(&wording.english)
            .for_each(|w| words.add(w, 50));
    }
    if let Some(welfare) = &sources.welfare {
        welfare
            .questions
            .iter()
            .for_each(|q| words.add(&q.question, 10));
    }
    for asked in &sources.asked {
        words.add(&asked.question, 10);
    }
    let mut entries: BTreeSet<String> = words.choose(n_entries).into_iter().collect();
    entries.extend(known.most_frequent(n_frequent).iter().cloned());
    let mut vocabulary = String::new();
    for entry in entries {
        vocabulary.push_str(&entry);
        vocabulary.push('\n');
    }
    let rarity = Rarity::count(&vocabulary, &genres(sources), known);
    (vocabulary, rarity)
}

/// Texts of a sentence or so, by the kind of writing they are.
fn genres(sources: &Sources) -> Vec<Vec<&str>> {
    let articles = sources.articles.iter();
    let statutes = articles
        .flat_map(|a| &a.sentences)
        .step_by(7)
        .map(String::as_str);
    let similarity = sources.similarity.iter().map(|(first, _)| first.as_str());
    let mut genres = vec![statutes.collect(), similarity.collect()];
    if let Some(welfare) = &sources.welfare {
        genres.push(
            welfare
                .questions
                .iter()
                .map(|q| q.question.as_str())
                .collect(),
        );
        genres.push(
            welfare
                .passages
                .iter()
                .flat_map(|p| p.text.lines())
                .collect(),
        );
    }
    genres
}

/// How rare each entry is: 1 for what stands in no text, less for what stands in many texts of some kind. A word of talk
/// is rare in statutes, and tells no more for it.
struct Rarity(Vec<f32>);

impl Rarity {
    fn count(vocabulary: &str, genres: &[Vec<&str>], known: &Words) -> Self {
        let subwords = Subwords::new(vocabulary);
        let n_rows = subwords.n_rows() as usize;
        let mut shares = vec![0f32; n_rows];
        let mut least = 1f32;
        for texts in genres {
            let mut in_texts = vec![0u32; n_rows];
            let features: Vec<Vec<Feature>> =
                texts.par_iter().map(|t| subwords.features(t)).collect();
            for feature in features.iter().flatten() {
                if let Some(count) = in_texts.get_mut(feature.id as usize) {
                    *count += 1;
                }
            }
            least = least.min(1.0 / texts.len() as f32);
            for (share, count) in shares.iter_mut().zip(in_texts) {
                // Half a count less: in a small genre, to be there once says little.
                *share = share.max((count as f32 - 0.5) / texts.len() as f32);
            }
        }
        for (share, entry) in shares.iter_mut().zip(vocabulary.lines()) {
            *share = share.max(known.share_of_sentences(entry).unwrap_or_default());
        }
        let rarity = |share: f32| (1.0 / share.max(least)).ln().max(0.5) / (1.0 / least).ln();
        Self(shares.into_iter().map(rarity).collect())
    }
}

fn draw_batch(
    sources: &Sources,
    subwords: &Subwords,
    arguments: &Arguments,
    random: &mut Random,
) -> Batch {
    let mixture = Mixture {
        welfare: arguments.question_share,
        similarity: arguments.similarity_share,
        wording: arguments.wording_share,
        asked: arguments.asked_share,
    };
    let mut pairs: Vec<Pair> = Vec::with_capacity(arguments.batch);
    while pairs.len() < arguments.batch {
        let (pair, near) = sources.draw(mixture, random);
        pairs.push(pair);
        let at = near.unwrap_or_else(|| random.below(sources.articles.len()));
        let last = sources.articles.len().min(at + arguments.neighbours);
        pairs.extend((at..last).map(|at| sources.article_pair(at, random)));
    }
    pairs.truncate(arguments.batch);
    let seed = random.next();
    let features = |text: &str, at: usize| -> Vec<Feature> {
        let mut random = Random::new(seed ^ (at as u64) << 32);
        let mut features = subwords.features(text);
        features.retain(|_| !random.chance(arguments.dropout));
        features
    };
    let (queries, passages) = pairs
        .par_iter()
        .enumerate()
        .map(|(at, pair)| {
            (
                features(&pair.query, 2 * at),
                features(&pair.passage, 2 * at + 1),
            )
        })
        .unzip();
    let masked = (0..pairs.len() * pairs.len())
        .map(|cell| (cell / pairs.len(), cell % pairs.len()))
        .map(|(q, p)| q != p && pairs[p].marks.contains(&pairs[q].asked))
        .collect();
    let words = |texts: Vec<&str>, dropout| WordLists::new(&texts, subwords, dropout, seed);
    let asked = pairs.iter().map(|pair| pair.query.as_str()).collect();
    let said = pairs.iter().map(|pair| pair.passage.as_str()).collect();
    Batch {
        queries,
        passages,
        asked: words(asked, 0.0),
        said: words(said, arguments.dropout),
        masked,
    }
}

/// Writes the table in 4 bits a number, with one scale a row.
fn save(trained: &[f32], table: &Table, vocabulary: &str, out: &Path) -> Result<()> {
    let mut rows = Vec::with_capacity(trained.len() / 2);
    let mut scales = Vec::new();
    for row in trained.chunks(table.dimension) {
        let scale = row.iter().fold(1e-9f32, |most, x| most.max(x.abs())) / GREATEST;
        let (low, high) = row.split_at(row.len() / 2);
        let pairs = low.iter().zip(high);
        rows.extend(pairs.map(|(low, high)| two_numbers([low / scale, high / scale])));
        scales.extend(scale.to_le_bytes());
    }
    let n_rows = trained.len() / table.dimension;
    let bucket_scale = table.bucket_scale.to_le_bytes();
    let tensors = [
        (
            ROWS,
            TensorView::new(Dtype::U8, vec![n_rows, table.dimension / 2], &rows)?,
        ),
        (SCALES, TensorView::new(Dtype::F32, vec![n_rows], &scales)?),
        (
            BUCKET_SCALE,
            TensorView::new(Dtype::F32, vec![1], &bucket_scale)?,
        ),
    ];
    let model = safetensors::serialize(tensors, None)?;
    let digest = Sha256::new()
        .chain_update(vocabulary)
        .chain_update(&model)
        .finalize();
    let fingerprint: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ragq::fs::write_atomic(&out.join("vocabulary.txt"), vocabulary.as_bytes())?;
    ragq::fs::write_atomic(&out.join("model.safetensors"), &model)?;
    ragq::fs::write_atomic(
        &out.join("fingerprint.txt"),
        format!("{fingerprint}\n").as_bytes(),
    )
}

fn measure(arguments: &Arguments) -> Result<()> {
    let vocabulary = ragq::fs::read_to_string(&arguments.out.join("vocabulary.txt"))?;
    let model = ragq::fs::read(&arguments.out.join("model.safetensors"))?;
    let embedder = StaticEmbedding::new(&vocabulary, &model, "").context("what was trained")?;
    let held_out_half = arguments.questions.iter().map(|folder| (folder, true));
    let checks = arguments.check.iter().map(|folder| (folder, false));
    for (folder, only_held_out) in held_out_half.chain(checks) {
        let set = QuestionSet::read(folder)?;
        let lines =
            evaluation::measure(&set, &embedder, |q| !only_held_out || held_out(&q.relevant))?;
        for (way, quality) in lines {
            let [first, in_five, reciprocal] = [quality.first, quality.in_five, quality.reciprocal];
            println!(
                "{}\t{way}\tR@1 {first:.3}\tR@5 {in_five:.3}\tMRR {reciprocal:.3}",
                set.name
            );
        }
    }
    Ok(())
}
