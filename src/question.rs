//! Question → the words that carry its meaning.
//!
//! `휴직 기간에 대하여 알려줘` asks about 휴직 and 기간; the rest is how people ask. Search, the answerability decision and
//! `extract` all look at the same words. No dictionary: particles and endings are stripped by rule, and words of asking
//! are a closed list.

use anyhow::{Result, bail};
use unicode_normalization::UnicodeNormalization;

use crate::index::lexical;

/// Longest question that is read. A longer one is a pasted document, and its search would be about everything.
pub const MAX_CHARS: usize = 2_000;

/// A question as the stages see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// NFC, without control characters and surplus white space.
    pub text: String,
    /// The words that carry meaning, without particles, in order, each once.
    pub words: Vec<String>,
    /// Which language the answer should be in.
    pub language: Language,
}

/// Language of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Korean, the default.
    Korean,
    /// English: a question with Latin letters and no Hangul.
    English,
}

/// How people ask; words that say nothing about what is asked. Compared with a word both as it stands and stripped of its
/// particle.
const ASKING: &[&str] = &[
    "알려줘",
    "알려줘요",
    "알려주세요",
    "알려주십시오",
    "알려줄래",
    "알려줄래요",
    "알려달라",
    "알려",
    "알고",
    "알려면",
    "알아",
    "싶어",
    "싶어요",
    "싶습니다",
    "싶은데",
    "싶은데요",
    "싶다",
    "궁금해",
    "궁금해요",
    "궁금합니다",
    "궁금한데",
    "궁금",
    "설명해줘",
    "설명해주세요",
    "설명",
    "말해줘",
    "말씀해주세요",
    "가르쳐줘",
    "가르쳐주세요",
    "찾아줘",
    "보여줘",
    "정리해줘",
    "요약해줘",
    "무엇",
    "무엇인가",
    "무엇인가요",
    "무엇인지",
    "무엇입니까",
    "무슨",
    "뭐",
    "뭐가",
    "뭐야",
    "뭐예요",
    "뭐에요",
    "뭔가요",
    "뭔지",
    "뭘",
    "어떻게",
    "어떤",
    "어떠한",
    "어느",
    "어떤가요",
    "어때",
    "어때요",
    "얼마",
    "얼마나",
    "얼마인가요",
    "얼마예요",
    "얼마까지",
    "언제",
    "언제까지",
    "언제부터",
    "어디",
    "어디서",
    "어디에",
    "어디에서",
    "누가",
    "누구",
    "누구에게",
    "몇",
    "며칠",
    "왜",
    "되나",
    "되나요",
    "되는지",
    "되는가",
    "되는가요",
    "됩니까",
    "돼",
    "돼요",
    "되죠",
    "되지",
    "될까",
    "될까요",
    "되었나요",
    "됐나요",
    "있나",
    "있나요",
    "있는지",
    "있는가",
    "있는가요",
    "있습니까",
    "있어",
    "있어요",
    "있을까요",
    "있을까",
    "있죠",
    "있는",
    "없나요",
    "없는지",
    "없습니까",
    "인가요",
    "입니까",
    "인지",
    "인가",
    "이죠",
    "하나요",
    "하나",
    "하는지",
    "합니까",
    "하죠",
    "하지",
    "해야",
    "해도",
    "할까요",
    "하면",
    "하려면",
    "하는",
    "한",
    "할",
    "수",
    "때",
    "것",
    "게",
    "건",
    "걸",
    "거",
    "대하여",
    "대해",
    "대해서",
    "대한",
    "관하여",
    "관해",
    "관해서",
    "관한",
    "대하여서",
    "따라",
    "따른",
    "위한",
    "위해",
    "및",
    "또는",
    "그리고",
    "혹시",
    "좀",
    "제가",
    "저는",
    "나는",
    "내가",
    "우리",
    "주세요",
    "줘",
    "줘요",
    "해줘",
    "해주세요",
    "부탁해",
    "부탁드립니다",
    "구체적으로",
    "자세히",
    "다시",
    "바로",
    "동안",
    "중에",
    "중",
    "쓸",
    "쓰면",
    "써도",
    "써야",
    "받나요",
    "받으면",
    "받을",
    "주나요",
    "내나요",
    "내야",
    "나오나요",
    "나오",
    "나와",
    "나와요",
    "드나요",
    "괜찮나요",
    "괜찮아요",
    "괜찮",
    "얼마야",
    "얼마까지고",
    "하고",
    "번",
    "번에",
    "두",
    "세",
    "네",
    "년인가요",
    "데서",
    "다른",
    "총",
    "더",
    "안에",
    "있으면",
    "제한",
    "따로",
    "그",
    "이",
    "저",
    "the",
    "a",
    "an",
    "of",
    "is",
    "are",
    "was",
    "were",
    "do",
    "does",
    "did",
    "what",
    "which",
    "who",
    "whom",
    "when",
    "where",
    "why",
    "how",
    "to",
    "in",
    "on",
    "for",
    "and",
    "or",
    "be",
    "can",
    "could",
    "should",
    "would",
    "may",
    "i",
    "my",
    "me",
    "we",
    "our",
    "you",
    "your",
    "it",
    "its",
    "there",
    "tell",
    "about",
    "please",
    "much",
    "many",
    "long",
    "with",
    "at",
    "by",
    "from",
    "as",
    "if",
    "this",
    "that",
];

/// Tails of words in which asking is fused with the thing asked: 기간얼마나돼요, 신청하려면, 휴직인가요. Longest first.
const TAILS: &[&str] = &[
    "얼마나되나요",
    "얼마나돼요",
    "얼마인가요",
    "무엇인가요",
    "어떻게되나요",
    "알려주세요",
    "해주세요",
    "하려고하면",
    "할수있나요",
    "되었나요",
    "하였나요",
    "했나요",
    "됐나요",
    "하셨나요",
    "해야하나요",
    "해야되나요",
    "하려면",
    "하는지",
    "하나요",
    "하는가",
    "하는데",
    "합니까",
    "합니다",
    "할까요",
    "할때",
    "하면",
    "하여",
    "해야",
    "해도",
    "했을",
    "하던",
    "하는",
    "되려면",
    "되나요",
    "되는지",
    "되는가",
    "됩니까",
    "됩니다",
    "될까요",
    "되면",
    "되는",
    "되어",
    "인가요",
    "인가",
    "인지",
    "입니까",
    "이에요",
    "예요",
    "이야",
    "이죠",
    "이란",
    "이라면",
    "있나요",
    "있어요",
    "받나요",
    "나요",
    "알려줘",
];

/// How verbs and adjectives end inside a question. A noun of three or more characters rarely ends so.
const PREDICATE_ENDINGS: &[&str] = &[
    "하면", "으면", "되면", "리면", "오면", "가면", "나면", "주면", "두면", "려면", "려고", "느라",
    "면서", "다가", "니까", "는데", "은데", "인데", "아서", "어서", "와서", "워서", "해서", "돼서",
    "여서", "아도", "어도", "해도", "와도", "써도", "아야", "어야", "해야", "여야", "써야", "거나",
    "든지", "하게", "되게", "나요", "하고", "되고", "리고", "꾸고", "지만", "했는", "됐는", "나오",
    "나와", "던데", "어요", "아요", "했어", "됐어", "눠서", "려와", "쉬게", "이고", "지고", "해줘",
    "주나", "내나", "드나", "괜찮", "하기", "되는", "하는",
];

/// Whether a word of a question looks like a verb or an adjective: what is done, not what it is done to.
#[must_use]
pub fn is_predicate(word: &str) -> bool {
    let n_chars = word.chars().count();
    PREDICATE_ENDINGS
        .iter()
        .any(|ending| word == *ending || (n_chars >= 3 && word.ends_with(ending)))
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// When it is empty or longer than [`MAX_CHARS`].
    pub fn parse(text: &str) -> Result<Question> {
        let is_space =
            |character: char| character.is_control() || matches!(character, 'ㆍ' | '·' | '・');
        let clean: String = text
            .nfc()
            .map(|character| if is_space(character) { ' ' } else { character })
            .collect();
        let text = clean.split_whitespace().collect::<Vec<_>>().join(" ");
        let n_chars = text.chars().count();
        if n_chars == 0 {
            bail!("the question is empty");
        }
        if n_chars > MAX_CHARS {
            bail!("the question has {n_chars} characters, at most {MAX_CHARS} are read");
        }
        let lower = text.to_lowercase();
        let is_hangul = |character: char| matches!(character, '가'..='힣' | 'ㄱ'..='ㆎ');
        let language = if !text.contains(is_hangul)
            && text.contains(|character: char| character.is_ascii_alphabetic())
        {
            Language::English
        } else {
            Language::Korean
        };
        Ok(Question {
            words: words(&lower),
            language,
            text,
        })
    }

    /// The words joined by spaces: what the lexical leg searches for. The whole question when nothing else is left.
    #[must_use]
    pub fn search_text(&self) -> String {
        if self.words.is_empty() {
            self.text.clone()
        } else {
            self.words.join(" ")
        }
    }
}

fn words(lower: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if ASKING.contains(&word) {
            continue;
        }
        let word = lexical::strip_particle(strip_tail(word));
        if !word.is_empty() && !ASKING.contains(&word) && !words.iter().any(|known| known == word) {
            words.push(word.to_string());
        }
    }
    words
}

/// Removes fused words of asking while at least two characters of substance remain.
fn strip_tail(word: &str) -> &str {
    let mut word = word;
    while let Some(stem) = TAILS
        .iter()
        .filter_map(|tail| word.strip_suffix(tail))
        .find(|stem| stem.chars().count() >= 2)
    {
        word = stem;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_carry_meaning() {
        let check = |question: &str, expected: &[&str]| {
            assert_eq!(
                Question::parse(question).unwrap().words,
                expected,
                "{question}"
            );
        };
        check("휴직 기간에 대하여 알려줘", &["휴직", "기간"]);
        check("육아 휴직 기간 알려줘!", &["육아", "휴직", "기간"]);
        check("근무복장 규정 알려줘!", &["근무복장", "규정"]);
        check("육아휴직기간얼마나돼요", &["육아휴직기간"]);
        check("복직을 신청하려면 어떻게 해야 하나요?", &["복직", "신청"]);
        check("How long is parental leave?", &["parental", "leave"]);
    }

    #[test]
    fn a_question_of_asking_words_alone_is_searched_as_it_stands() {
        assert_eq!(Question::parse("뭐예요?").unwrap().search_text(), "뭐예요?");
    }

    #[test]
    fn too_long_and_empty_questions_are_refused_in_words() {
        let error = |text: &str| Question::parse(text).unwrap_err().to_string();
        assert_eq!(error(" \t "), "the question is empty");
        assert_eq!(
            error(&"가".repeat(10_000)),
            "the question has 10000 characters, at most 2000 are read"
        );
    }

    #[test]
    fn language() {
        let check = |question: &str, expected| {
            assert_eq!(
                Question::parse(question).unwrap().language,
                expected,
                "{question}"
            );
        };
        check("휴직은 최대 몇 년인가요?", Language::Korean);
        check("Who approves leave?", Language::English);
    }
}
