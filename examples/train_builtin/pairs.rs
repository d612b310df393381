//! Makes pairs of texts that belong together: something a person might ask, and the passage that answers it.
//!
//! Statutes give passages and headings; nobody asks in their words, so headings are put into everyday wordings
//! (`wording.tsv`), into the forms of questions, and are misspaced as people type. Sentences of a passage, a few of its
//! words, and articles that refer to each other give further pairs.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;

use crate::corpus::{Article, Passage, QuestionSet, SentencePair};
use crate::random::Random;

/// Two texts that belong together.
pub(crate) struct Pair {
    pub(crate) query: String,
    pub(crate) passage: String,
    /// What the query is about. Another pair's passage that carries this mark may be an answer too and is no negative.
    pub(crate) asked: u64,
    /// Everything a query could mean by which this passage is found.
    pub(crate) marks: [u64; 2],
}

/// Everything pairs are drawn from.
pub(crate) struct Sources {
    pub(crate) articles: Vec<Article>,
    /// Articles of one law by number, for cross references: `(law, number)` to the article's place.
    pub(crate) by_number: HashMap<(String, String), usize>,
    pub(crate) wordings: Vec<Wording>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) office: Vec<Office>,
    pub(crate) similarity: Vec<SentencePair>,
    pub(crate) welfare: Option<QuestionSet>,
}

/// A question as a person asks it about an article of a statute, written for this.
pub(crate) struct Asked {
    pub(crate) question: String,
    answer: String,
    /// Place of the article.
    at: usize,
}

impl Asked {
    /// Reads `questions.tsv` (file of the statute, heading of the article, question, answer), without
    /// statutes that are not to be trained on and what is about no article here.
    pub(crate) fn read_all(
        articles: &[Article],
        table: &str,
        is_trained: impl Fn(&str) -> bool,
    ) -> Vec<Self> {
        let places: HashMap<(&str, String), usize> = articles
            .iter()
            .enumerate()
            .map(|(at, a)| {
                (
                    (a.source.as_str(), format!("{} ({})", a.number, a.heading)),
                    at,
                )
            })
            .collect();
        let columns = table
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        columns
            .filter_map(|columns| {
                let [source, heading, question, answer] = columns[..] else {
                    return None;
                };
                is_trained(source).then_some(())?;
                Some(Self {
                    question: question.to_string(),
                    answer: answer.to_string(),
                    at: *places.get(&(source, heading.to_string()))?,
                })
            })
            .collect()
    }
}

/// A passage of an office document and a question about it, both written for this.
pub(crate) struct Office {
    question: String,
    title: String,
    text: String,
}

impl Office {
    /// Reads `passages.jsonl` and `passages.tsv` (passage, title, question, answer), without
    /// documents that are not to be trained on.
    pub(crate) fn read_all(
        passages: &str,
        questions: &str,
        is_trained: impl Fn(&str) -> bool,
    ) -> Result<Vec<Self>> {
        let passages: HashMap<String, Passage> = passages
            .lines()
            .map(|line| serde_json::from_str::<Passage>(line).map(|p| (p.id.clone(), p)))
            .collect::<Result<_, _>>()?;
        let columns = questions
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        Ok(columns
            .filter_map(|columns| {
                let [id, title, question, _] = columns[..] else {
                    return None;
                };
                let document = title.split_whitespace().next()?;
                is_trained(document).then_some(())?;
                Some(Self {
                    question: question.to_string(),
                    title: title.to_string(),
                    text: passages.get(id)?.text.clone(),
                })
            })
            .collect())
    }
}

/// A word of rules and the words people use for it.
pub(crate) struct Wording {
    pub(crate) formal: String,
    pub(crate) everyday: Vec<String>,
    pub(crate) english: Vec<String>,
}

impl Wording {
    pub(crate) fn read_all(table: &str) -> Vec<Self> {
        let words = |cell: Option<&str>| -> Vec<String> {
            let cell = cell.unwrap_or_default();
            cell.split('|')
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .map(String::from)
                .collect()
        };
        table
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| {
                let mut cells = line.split('\t');
                Self {
                    formal: cells.next().unwrap_or_default().to_string(),
                    everyday: words(cells.next()),
                    english: words(cells.next()),
                }
            })
            .collect()
    }
}

/// Shares of the kinds of pairs.
#[derive(Clone, Copy)]
pub(crate) struct Mixture {
    pub(crate) welfare: f32,
    pub(crate) similarity: f32,
    pub(crate) wording: f32,
    /// Two thirds of it about statutes, a third about office documents.
    pub(crate) asked: f32,
}

/// Forms of questions around a subject, `{}`.
const FORMS: &[&str] = &[
    "{}",
    "{}",
    "{}",
    "{}?",
    "{} 알려줘",
    "{} 알려줘!",
    "{}에 대하여 알려줘",
    "{}에 대해 알려줘",
    "{}에 대해서 알려주세요",
    "{} 알려주세요",
    "{} 뭐야?",
    "{} 뭐예요?",
    "{}이 뭔가요?",
    "{}란 무엇인가요?",
    "{}은 무엇입니까?",
    "{} 어떻게 돼?",
    "{} 어떻게 되나요?",
    "{}은 어떻게 되나요?",
    "{} 어떻게 해요?",
    "{}은 어떻게 하나요?",
    "{} 궁금해요",
    "{}이 궁금합니다",
    "{} 규정 알려줘",
    "{} 규정이 어떻게 되나요?",
    "{} 기준이 뭐야",
    "{} 기준은?",
    "{} 관련 규정",
    "{} 관련해서 물어볼게요",
    "{}에 관해 설명해줘",
    "{} 설명해 주세요",
    "{} 좀 알려줄래?",
    "{} 좀 알려주실 수 있나요?",
    "{} 가능한가요?",
    "{} 할 수 있나요?",
    "{} 되나요?",
    "{}은 언제 하나요?",
    "{}은 누가 하나요?",
    "{} 누가 해야 돼요?",
    "{} 하려면 어떻게 해야 하나요?",
    "{} 하고 싶은데 어떻게 해요?",
    "{} 때문에 그러는데 어떻게 해야 하죠?",
    "{} 문의드립니다",
    "{} 문의",
    "{} 찾아줘",
    "{} 정리해줘",
    "{} 요약",
    "{} 내용이 뭐예요",
    "{}에는 어떤 것이 있나요?",
    "{} 어디서 확인해?",
    "{} 받을 수 있어요?",
    "{} 해도 되나요?",
    "{} 안 하면 어떻게 되나요?",
    "{}은 꼭 해야 하나요?",
    "회사에서 {} 어떻게 되어 있나요?",
    "우리 회사 {}은?",
    "제가 {} 해당되나요?",
    "혹시 {} 아시나요?",
    "{} 조건이 어떻게 되나요?",
    "{} 절차 알려줘",
    "{} 방법",
    "{} 얼마나 걸려요?",
    "{} 며칠이야?",
    "{} 몇 번까지 되나요?",
    "{} 얼마예요?",
    "{}은 얼마까지 되나요?",
];

const ENGLISH_FORMS: &[&str] = &[
    "{}",
    "what is {}?",
    "tell me about {}",
    "{} policy",
    "how does {} work?",
    "rules on {}",
    "how long is {}?",
    "who can get {}?",
    "how do I apply for {}?",
    "{} requirements",
];

/// What a passage says, and what one would then ask about it.
const CUES: &[(&str, &[&str])] = &[
    (
        "일 이내",
        &[
            "며칠 안에 해야 하나요?",
            "언제까지 해야 돼요?",
            "기한이 언제예요?",
            "며칠까지?",
        ],
    ),
    (
        "개월",
        &[
            "몇 달이에요?",
            "몇 개월?",
            "얼마 동안이에요?",
            "기간이 얼마나 돼요?",
        ],
    ),
    (
        "년 이내",
        &["몇 년까지 돼요?", "최대 몇 년?", "기간이 얼마나 되나요?"],
    ),
    (
        "년으로 한다",
        &["몇 년이에요?", "기간이 얼마나 돼?", "얼마 동안?"],
    ),
    (
        "시간",
        &[
            "몇 시간이에요?",
            "몇 시간까지 되나요?",
            "시간이 어떻게 되나요?",
        ],
    ),
    (
        "만원",
        &[
            "얼마예요?",
            "얼마나 받아요?",
            "얼마 내야 해요?",
            "금액이 어떻게 되나요?",
        ],
    ),
    (
        "퍼센트",
        &["몇 퍼센트예요?", "비율이 얼마야?", "얼마나 돼요?"],
    ),
    (
        "100분의",
        &["몇 퍼센트예요?", "비율이 얼마야?", "얼마나 더 줘요?"],
    ),
    (
        "징역",
        &[
            "어기면 처벌이 뭐예요?",
            "걸리면 어떻게 돼요?",
            "벌 받나요?",
            "감옥 가나요?",
        ],
    ),
    (
        "과태료",
        &[
            "과태료 얼마예요?",
            "안 지키면 벌금 있나요?",
            "어기면 어떻게 돼요?",
        ],
    ),
    (
        "서류",
        &[
            "뭘 내야 하나요?",
            "필요한 서류가 뭐예요?",
            "어떤 서류 준비해요?",
        ],
    ),
    (
        "신청서",
        &["어디에 신청해요?", "어떻게 신청하나요?", "신청 방법 알려줘"],
    ),
    ("다만,", &["예외가 있나요?", "안 되는 경우도 있어요?"]),
    (
        "아니 된다",
        &["하면 안 되나요?", "해도 돼요?", "금지인가요?"],
    ),
    ("할 수 있다", &["할 수 있나요?", "가능해요?"]),
    ("하여야 한다", &["꼭 해야 하나요?", "의무인가요?"]),
    ("해야 한다", &["꼭 해야 하나요?", "안 해도 돼요?"]),
    (
        "명 이상",
        &["몇 명부터 해당돼요?", "몇 명 이상이어야 하나요?"],
    ),
    ("명 이내", &["몇 명이에요?", "최대 몇 명?"]),
    (
        "세 이",
        &["몇 살부터예요?", "몇 살까지 되나요?", "나이 제한 있어요?"],
    ),
    ("임기", &["임기가 몇 년이에요?", "몇 년 동안 해요?"]),
    (
        "해당하는 사람",
        &["누가 되나요?", "자격이 뭐예요?", "누가 받을 수 있어요?"],
    ),
    ("보존", &["몇 년 보관해요?", "얼마나 보관해야 하나요?"]),
];

/// Endings that a word of a passage loses before it stands in a query.
const PARTICLES: &[&str] = &[
    "에게서",
    "으로서",
    "으로써",
    "에서는",
    "에게는",
    "으로는",
    "까지는",
    "부터는",
    "에서",
    "에게",
    "으로",
    "까지",
    "부터",
    "에는",
    "과의",
    "와의",
    "하여",
    "하는",
    "하고",
    "한다",
    "하며",
    "된",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "로",
    "과",
    "와",
    "도",
    "만",
];

impl Sources {
    /// One pair, and the place of the article it is about, if it is about one; the same state of the stream gives the
    /// same pair.
    pub(crate) fn draw(&self, mixture: Mixture, random: &mut Random) -> (Pair, Option<usize>) {
        let mut kind = random.unit();
        if let Some(welfare) = &self.welfare {
            if kind < mixture.welfare {
                return (welfare_pair(welfare, random), None);
            }
            kind -= mixture.welfare;
        }
        if kind < mixture.similarity {
            let (first, second) = random.pick(&self.similarity);
            let query = noisy(first.clone(), random);
            return (pair(query, second.clone(), first, second), None);
        }
        kind -= mixture.similarity;
        if kind < mixture.wording {
            return (self.wording_pair(random), None);
        }
        kind -= mixture.wording;
        if kind < mixture.asked / 3.0 {
            return (office_pair(random.pick(&self.office), random), None);
        }
        if kind < mixture.asked {
            let asked = random.pick(&self.asked);
            return (self.asked_pair(asked, random), Some(asked.at));
        }
        let at = random.below(self.articles.len());
        (self.article_pair(at, random), None)
    }

    /// A question of a person, and the article from the sentence that answers it, or from one before.
    fn asked_pair(&self, asked: &Asked, random: &mut Random) -> Pair {
        let article = &self.articles[asked.at];
        let lawful = format!("{} {}", article.law, article.heading);
        let mut sentences = article.sentences.iter();
        let answering = sentences.position(|s| s.contains(&asked.answer));
        let passage = window(article, answering.unwrap_or(0), None, random);
        Pair {
            query: noisy(asked.question.clone(), random),
            passage: headed(article, passage, random),
            asked: mark(&lawful),
            marks: [mark(&article.heading), mark(&lawful)],
        }
    }

    /// A pair about the article of this number.
    pub(crate) fn article_pair(&self, at: usize, random: &mut Random) -> Pair {
        let article = &self.articles[at];
        let lawful = format!("{} {}", article.law, article.heading);
        let kind = random.unit();
        if kind < 0.4 {
            let with_law = random.chance(0.15);
            let passage = window(article, random.below(article.sentences.len()), None, random);
            let subject = if with_law {
                format!(
                    "{} {}",
                    article.law,
                    self.heading_query(&article.heading, random)
                )
            } else {
                self.heading_query(&article.heading, random)
            };
            let query = ask(&subject, &passage, random);
            let about = if with_law { &lawful } else { &article.heading };
            return Pair {
                query: noisy(query, random),
                passage: headed(article, passage, random),
                asked: mark(about),
                marks: [mark(&article.heading), mark(&lawful)],
            };
        }
        let at_sentence = random.below(article.sentences.len());
        let sentence = &article.sentences[at_sentence];
        if kind < 0.65 {
            let cropped = crop(sentence, random);
            let query = self.everyday(&cropped, 0.3, random);
            let leave_out =
                (article.sentences.len() > 1 && random.chance(0.7)).then_some(at_sentence);
            let passage = window(article, at_sentence, leave_out, random);
            return Pair {
                query: noisy(query, random),
                passage: headed(article, passage, random),
                asked: mark(sentence),
                marks: [mark(sentence), mark(&lawful)],
            };
        }
        if kind < 0.93 || self.reference(article, at).is_none() {
            let mut words = content_words(sentence);
            if random.chance(0.5) {
                words.extend(content_words(&article.heading));
            }
            let n_words = 2 + random.below(4);
            let words = choose(words, n_words, random);
            let passage = window(article, at_sentence, None, random);
            let query = ask(
                &self.everyday(&words.join(" "), 0.4, random),
                &passage,
                random,
            );
            return Pair {
                query: noisy(query, random),
                passage: headed(article, passage, random),
                asked: mark(&lawful),
                marks: [mark(&lawful), mark(sentence)],
            };
        }
        let other = &self.articles[self.reference(article, at).unwrap_or(at)];
        let from = window(article, at_sentence, None, random);
        let passage = window(other, random.below(other.sentences.len()), None, random);
        Pair {
            query: format!("{} {from}", article.heading),
            passage: format!("{} {passage}", other.heading),
            asked: mark(&lawful),
            marks: [
                mark(&lawful),
                mark(&format!("{} {}", other.law, other.heading)),
            ],
        }
    }

    /// The first other article of the same law that the text names.
    fn reference(&self, article: &Article, at: usize) -> Option<usize> {
        article.sentences.iter().find_map(|sentence| {
            let start = sentence.find('제')?;
            let rest = &sentence[start..];
            let end = rest.find('조')? + '조'.len_utf8();
            let number = &rest[..end];
            let place = *self
                .by_number
                .get(&(article.law.clone(), number.to_string()))?;
            (place != at).then_some(place)
        })
    }

    fn wording_pair(&self, random: &mut Random) -> Pair {
        let wording = random.pick(&self.wordings);
        let english = !wording.english.is_empty() && random.chance(0.3);
        let (query, form) = if english {
            (random.pick(&wording.english), *random.pick(ENGLISH_FORMS))
        } else {
            (random.pick(&wording.everyday), *random.pick(FORMS))
        };
        pair(
            form.replace("{}", query),
            wording.formal.clone(),
            &wording.formal,
            &wording.formal,
        )
    }

    fn heading_query(&self, heading: &str, random: &mut Random) -> String {
        let plain = heading.replace(
            ['ㆍ', '·', ','],
            if random.chance(0.5) { " " } else { "와 " },
        );
        let plain = plain.trim_end_matches(" 등").to_string();
        let words: Vec<&str> = plain.split_whitespace().collect();
        let shortened = if words.len() > 2 && random.chance(0.3) {
            let drop = random.below(words.len());
            let kept = words.iter().enumerate().filter(|(i, _)| *i != drop);
            kept.map(|(_, w)| *w).collect::<Vec<_>>().join(" ")
        } else {
            plain
        };
        self.everyday(&shortened, 0.5, random)
    }

    /// Puts some words of rules into everyday ones.
    fn everyday(&self, text: &str, probability: f32, random: &mut Random) -> String {
        let mut text = text.to_string();
        for wording in &self.wordings {
            if text.contains(&wording.formal) && random.chance(probability) {
                let english = !wording.english.is_empty() && random.chance(0.15);
                let words = if english {
                    &wording.english
                } else {
                    &wording.everyday
                };
                text = text.replacen(&wording.formal, random.pick(words.as_slice()).as_str(), 1);
            }
        }
        text
    }
}

/// A question about a subject; sometimes about what the passage says of it.
fn ask(subject: &str, passage: &str, random: &mut Random) -> String {
    if random.chance(0.35) {
        let fitting: Vec<_> = CUES
            .iter()
            .filter(|(cue, _)| passage.contains(cue))
            .collect();
        if !fitting.is_empty() {
            let (_, questions) = random.pick(&fitting);
            return format!("{subject} {}", random.pick(questions));
        }
    }
    random.pick(FORMS).replace("{}", subject)
}

fn office_pair(office: &Office, random: &mut Random) -> Pair {
    let passage = if random.chance(0.6) {
        format!("{} {}", office.title, office.text)
    } else {
        office.text.clone()
    };
    pair(
        noisy(office.question.clone(), random),
        passage.chars().take(400).collect(),
        &office.title,
        &office.title,
    )
}

fn welfare_pair(set: &QuestionSet, random: &mut Random) -> Pair {
    let question = random.pick(&set.questions);
    let relevant = question.relevant.first().map_or("", String::as_str);
    let passage = set.passages.iter().find(|p| p.id == relevant);
    let (title, text) = passage.map_or(("", ""), |p| (p.title.as_str(), p.text.as_str()));
    let kind = random.unit();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let answer = question.answers.first().map_or("", String::as_str);
    let (query, passage) = if kind < 0.7 || lines.is_empty() {
        let start = random.below(lines.len().max(1));
        let mut body: String = lines
            .iter()
            .skip(start)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        body = body.chars().take(300).collect();
        let start = if random.chance(0.7) {
            format!("{title} {body}")
        } else {
            body
        };
        (question.question.clone(), start)
    } else if kind < 0.85 && !answer.is_empty() {
        (question.question.clone(), answer.to_string())
    } else {
        (
            random.pick(FORMS).replace("{}", title),
            text.chars().take(300).collect(),
        )
    };
    pair(noisy(query, random), passage, relevant, relevant)
}

fn pair(query: String, passage: String, about: &str, says: &str) -> Pair {
    Pair {
        query,
        passage,
        asked: mark(about),
        marks: [mark(about), mark(says)],
    }
}

fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// About 300 characters of an article from this sentence on, or from one before it.
fn window(article: &Article, at: usize, leave_out: Option<usize>, random: &mut Random) -> String {
    let first = at - random.below(at.min(3) + 1);
    let budget = 60 + random.below(240);
    let mut text = String::new();
    let mut n_chars = 0;
    let around = (first..article.sentences.len()).chain((0..first).rev());
    for i in around.filter(|i| Some(*i) != leave_out) {
        if n_chars >= budget {
            break;
        }
        text.extend(article.sentences[i].chars().take(400).chain([' ']));
        n_chars += article.sentences[i].chars().count().min(400);
    }
    text
}

/// A passage as the index will see it, below its path; or bare, so that the body itself must answer.
fn headed(article: &Article, passage: String, random: &mut Random) -> String {
    match random.below(10) {
        0..3 => format!(
            "{} {}({}) {passage}",
            article.law, article.number, article.heading
        ),
        3..5 => format!("{} {passage}", article.heading),
        _ => passage,
    }
}

/// Three to twelve words of a sentence in a row.
fn crop(sentence: &str, random: &mut Random) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let n_words = words.len().min(3 + random.below(10));
    let first = random.below(words.len() - n_words + 1);
    words[first..first + n_words].join(" ")
}

/// The words of a text without their endings.
fn content_words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(|word| {
            let bare = PARTICLES.iter().find_map(|p| word.strip_suffix(p));
            bare.filter(|b| b.chars().count() >= 2)
                .unwrap_or(word)
                .to_string()
        })
        .filter(|word| word.chars().count() >= 2)
        .collect()
}

fn choose(mut words: Vec<String>, n_words: usize, random: &mut Random) -> Vec<String> {
    while words.len() > n_words {
        words.remove(random.below(words.len()));
    }
    words
}

/// Spaces as people leave them out or put them in.
fn noisy(text: String, random: &mut Random) -> String {
    match random.below(20) {
        0 => text.chars().filter(|c| !c.is_whitespace()).collect(),
        1 | 2 => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if c != ' ' || random.chance(0.6) {
                    out.push(c);
                }
            }
            out
        }
        3 => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                out.push(c);
                if random.chance(0.1) {
                    out.push(' ');
                }
            }
            out
        }
        _ => text,
    }
}
