//! What kind of thing would answer a question, and whether a text holds one.
//!
//! `며칠 쉴 수 있나요?` wants a number of days, `누구에게 신고하나요?` an office or a person. Of two lines that speak of the same
//! matter, the one that holds such a thing is the answer more often. Closed lists of words, no grammar: a question may want
//! several things or nothing that can be told.

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// An amount of money, or a share.
    Money,
    /// A period, a date, an age.
    Time,
    /// Who does it, or where it is done.
    Agent,
    /// Any number.
    Count,
}

const ALL: [Expectation; 4] = [
    Expectation::Money,
    Expectation::Time,
    Expectation::Agent,
    Expectation::Count,
];

/// What stands between a number and its unit: `3만 원`, `2천억원`.
const MAGNITUDES: &[char] = &['십', '백', '천', '만', '억', '조', ' '];

/// What a question asks for, by its words, whatever their spacing.
#[must_use]
pub fn expectations(question: &str) -> Vec<Expectation> {
    let lower = question.to_lowercase();
    let squashed: String = lower.split_whitespace().collect();
    let is_asked = |expectation: &Expectation| {
        let mut words = expectation.asked_by().iter();
        words.any(|word| squashed.contains(word) || lower.contains(word))
    };
    ALL.into_iter().filter(is_asked).collect()
}

impl Expectation {
    /// Words of questions.
    fn asked_by(self) -> &'static [&'static str] {
        match self {
            Expectation::Money => &[
                "얼마",
                "금액",
                "비용",
                "돈",
                "수당",
                "급여",
                "월급",
                "연봉",
                "가격",
                "요금",
                "수수료",
                "과태료",
                "벌금",
                "비율",
                "퍼센트",
                "how much",
                "salary",
                "fee",
                "price",
                "cost",
            ],
            Expectation::Time => &[
                "며칠",
                "기간",
                "기한",
                "언제",
                "몇일",
                "몇년",
                "몇개월",
                "몇달",
                "몇주",
                "몇시",
                "몇살",
                "얼마나",
                "나이",
                "연령",
                "날짜",
                "까지",
                "이내",
                "동안",
                "시간",
                "when",
                "how long",
                "deadline",
                "days",
            ],
            Expectation::Agent => &[
                "누가",
                "누구",
                "어디",
                "기관",
                "부서",
                "담당",
                "책임",
                "who ",
                "where",
                "department",
            ],
            Expectation::Count => &[
                "몇", "얼마", "횟수", "최대", "최소", "한도", "how many", "how much", "maximum",
                "minimum",
            ],
        }
    }

    /// Whether a text holds such a thing.
    #[must_use]
    pub fn is_met_by(self, text: &str) -> bool {
        let lower = text.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let counts = |units: &[&str]| {
            after_numbers(&lower).any(|rest| {
                let unit = rest.trim_start_matches(MAGNITUDES);
                units.iter().any(|known| unit.starts_with(known))
            })
        };
        match self {
            Expectation::Money => {
                counts(&["원", "%", "퍼센트", "percent", "won"])
                    || says(&["분의", "전액", "무료", "면제", "free of charge"])
            }
            Expectation::Time => {
                counts(&[
                    "일", "년", "개월", "월", "주", "시", "세", "분", "day", "week", "month",
                    "year", "hour", "minute",
                ]) || says(&[
                    "다음 날",
                    "당일",
                    "즉시",
                    "지체 없이",
                    "매년",
                    "매월",
                    "immediately",
                ])
            }
            Expectation::Agent => says(&[
                "장관",
                "위원회",
                "시장",
                "군수",
                "구청장",
                "지사",
                "청장",
                "기관의 장",
                "원장",
                "사장",
                "팀",
                "부서",
                "공단",
                "센터",
                "법원",
                "서장",
                "대통령",
                "총장",
                "처장",
                "부장",
                "국장",
                "과장",
                "위원장",
                "manager",
                "director",
                "team",
                "department",
                "committee",
            ]),
            Expectation::Count => lower.contains(|character: char| character.is_ascii_digit()),
        }
    }
}

/// What follows each number of a text.
fn after_numbers(text: &str) -> impl Iterator<Item = &str> {
    let is_digit = |character: char| character.is_ascii_digit();
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_at_checked(rest.find(is_digit)?)?;
        rest = from
            .trim_start_matches(|character| is_digit(character) || matches!(character, ',' | '.'));
        Some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Expectation::{Agent, Count, Money, Time};

    #[test]
    fn what_a_question_wants() {
        let check = |question: &str, expected: &[Expectation]| {
            assert_eq!(expectations(question), expected, "{question}");
        };
        check("휴직은 최대 몇 년인가요?", &[Time, Count]);
        check("수수료가 얼마예요?", &[Money, Count]);
        check("누구에게 신고하나요?", &[Agent]);
        check("Who approves leave?", &[Agent]);
        check("How long is the whole leave?", &[Time]);
        check("근무복장 규정 알려줘!", &[]);
    }

    #[test]
    fn what_a_text_holds() {
        let check = |text: &str, expected: &[Expectation]| {
            let met = ALL.into_iter().filter(|one| one.is_met_by(text));
            assert_eq!(met.collect::<Vec<_>>(), expected, "{text}");
        };
        check("월 10만 원을 지급한다", &[Money, Count]);
        check("2천억원", &[Money, Count]);
        check("통상임금의 100분의 50", &[Money, Time, Count]);
        check("30일 이내에 시장에게 신고한다", &[Time, Agent, Count]);
        check("within 3 days", &[Time, Count]);
        check("제3조에 따른다", &[Count]);
        check("지체 없이 알린다", &[Time]);
        check("정한다", &[]);
    }
}
