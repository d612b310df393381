//! Reads the texts that pairs are made of: statutes in Markdown, question sets, sentence pairs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// One article of a statute.
pub(crate) struct Article {
    /// Path of its file below the folder of statutes.
    pub(crate) source: String,
    pub(crate) law: String,
    /// 제60조
    pub(crate) number: String,
    /// 연차 유급휴가
    pub(crate) heading: String,
    /// The body, cut at ends of sentences and of list items.
    pub(crate) sentences: Vec<String>,
}

/// A document of a question set.
#[derive(Deserialize)]
pub(crate) struct Passage {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) title: String,
    pub(crate) text: String,
}

/// A question of a question set.
#[derive(Deserialize)]
pub(crate) struct Question {
    pub(crate) question: String,
    #[serde(default)]
    pub(crate) answers: Vec<String>,
    #[serde(default)]
    pub(crate) relevant: Vec<String>,
    pub(crate) answerable: bool,
}

/// Half of what questions are about, by its name, is never trained on.
pub(crate) fn is_held_out(name: &str) -> bool {
    Sha256::digest(name.as_bytes())[0].is_multiple_of(2)
}

/// A folder with `corpus.jsonl` and `qa.jsonl`.
pub(crate) struct QuestionSet {
    pub(crate) name: String,
    pub(crate) passages: Vec<Passage>,
    pub(crate) questions: Vec<Question>,
}

impl QuestionSet {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            passages: read_lines(&folder.join("corpus.jsonl"))?,
            questions: read_lines(&folder.join("qa.jsonl"))?,
        })
    }
}

fn read_lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    let text = ragq::fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).with_context(|| path.display().to_string()))
        .collect()
}

/// Two sentences that say the same, or of which the second follows from the first.
pub(crate) type SentencePair = (String, String);

/// The sentence pairs of a folder with KorSTS, KorNLI and KLUE-NLI files that may be trained on; what is named `dev` of
/// KorSTS and all of KLUE-STS stay unseen.
pub(crate) fn read_similarity(folder: &Path) -> Result<Vec<SentencePair>> {
    let mut pairs = Vec::new();
    for line in ragq::fs::read_to_string(&folder.join("korsts-train.tsv"))?
        .lines()
        .skip(1)
    {
        let columns: Vec<&str> = line.split('\t').collect();
        if let [.., score, first, second] = columns[..]
            && score.parse::<f32>().is_ok_and(|score| score >= 3.6)
        {
            pairs.push((first.to_string(), second.to_string()));
        }
    }
    for line in ragq::fs::read_to_string(&folder.join("xnli.test.ko.tsv"))?
        .lines()
        .skip(1)
    {
        if let [premise, hypothesis, "entailment"] = line.split('\t').collect::<Vec<_>>()[..] {
            pairs.push((hypothesis.to_string(), premise.to_string()));
        }
    }
    #[derive(Deserialize)]
    struct Inference {
        premise: String,
        hypothesis: String,
        gold_label: String,
    }
    let path = folder.join("klue-nli-v1.1_dev.json");
    let inferences: Vec<Inference> = serde_json::from_slice(&ragq::fs::read(&path)?)
        .with_context(|| path.display().to_string())?;
    let entailed = inferences
        .into_iter()
        .filter(|x| x.gold_label == "entailment");
    pairs.extend(entailed.map(|x| (x.hypothesis, x.premise)));
    Ok(pairs)
}

/// The articles of all statutes below a folder, in the order of their paths.
pub(crate) fn read_laws(folder: &Path) -> Result<Vec<Article>> {
    let mut articles = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "md") {
            let text = ragq::fs::read_to_string(entry.path())?;
            let source = entry.path().strip_prefix(folder)?.to_string_lossy();
            push_articles(&source, &text, &mut articles);
        }
    }
    Ok(articles)
}

fn push_articles(source: &str, text: &str, articles: &mut Vec<Article>) {
    let law = text
        .lines()
        .find_map(|line| line.strip_prefix("제목: "))
        .map_or_else(String::new, |title| {
            title.trim_matches(['\'', '"', ' ']).to_string()
        });
    let body = text.split_once("\n---\n").map_or(text, |(_, body)| body);
    let mut current: Option<Article> = None;
    let mut finish = |article: Option<Article>| {
        if let Some(article) = article
            && article
                .sentences
                .iter()
                .map(|s| s.chars().count())
                .sum::<usize>()
                > 30
        {
            articles.push(article);
        }
    };
    for line in body.lines() {
        if line.starts_with('#') {
            finish(current.take());
            current = heading(line).map(|(number, heading)| Article {
                source: source.to_string(),
                law: law.clone(),
                number,
                heading,
                sentences: Vec::new(),
            });
        } else if let Some(article) = &mut current {
            push_sentences(&without_marks(line), &mut article.sentences);
        }
    }
    finish(current);
}

/// `##### 제60조 (연차 유급휴가)` → 제60조, 연차 유급휴가.
fn heading(line: &str) -> Option<(String, String)> {
    let rest = line.trim_start_matches('#').trim();
    let (number, heading) = rest.split_once('(')?;
    let heading = heading.strip_suffix(')')?;
    (rest.starts_with('제') && number.contains('조'))
        .then(|| (number.trim().to_string(), heading.trim().to_string()))
}

/// A line without Markdown's marks and without notes on its amendments.
fn without_marks(line: &str) -> String {
    let mut text = line.replace("**", "").replace('\\', "");
    for (open, close, words) in [
        ('<', '>', &["개정", "신설", "삭제"][..]),
        (
            '[',
            ']',
            &["본조신설", "전문개정", "제목개정", "종전", "시행일"][..],
        ),
    ] {
        while let Some((before, after)) = words
            .iter()
            .find_map(|word| text.split_once(&format!("{open}{word}")))
        {
            let rest = after.split_once(close).map_or("", |(_, rest)| rest);
            text = format!("{before}{rest}");
        }
    }
    text.trim().to_string()
}

/// Cuts a line after each full stop that ends a sentence.
fn push_sentences(line: &str, sentences: &mut Vec<String>) {
    let mut rest = line;
    while let Some(at) = rest.find("다. ") {
        let (sentence, after) = rest.split_at(at + "다.".len());
        sentences.push(sentence.trim().to_string());
        rest = after;
    }
    let rest = rest.trim();
    if rest.chars().count() > 2 {
        sentences.push(rest.to_string());
    }
}
