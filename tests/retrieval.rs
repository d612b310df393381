//! How well the fixture documents' questions are found, answered, cited and refused, with floors just below what was
//! measured. The questions are `fixtures/questions.csv`: easy, medium and hard ones, and ones the documents do not answer.

mod support;

use serde_json::{Value, json};
use support::{Bench, fixture};

/// Measure and floor. Raise a floor when the measured value rises for good.
const FLOORS: &[(&str, f64)] = &[
    ("hit_at_1", 0.92),
    ("hit_at_5", 0.98),
    ("mrr", 0.95),
    ("answer_containment", 0.74),
    ("refusal_precision", 0.52),
    ("refusal_recall", 0.75),
    ("citation_correctness", 0.95),
    ("citations_verified", 1.0),
];

fn cases() -> Vec<Value> {
    let mut reader = csv::Reader::from_path(fixture("questions.csv")).unwrap();
    let cases = reader.records().map(|record| {
        let record = record.unwrap();
        let (question, source, answers) = (&record[0], &record[1], &record[3]);
        let answers: Vec<&str> = answers.split('|').filter(|answer| !answer.is_empty()).collect();
        let source = (!source.is_empty()).then_some(source);
        json!({ "question": question, "answers": answers, "source": source, "answerable": source.is_some() })
    });
    cases.collect()
}

#[test]
fn the_questions_are_answered_as_well_as_measured() {
    let cases = cases();
    assert!(cases.len() >= 30);
    let lines: Vec<String> = cases.iter().map(Value::to_string).collect();
    let bench = Bench::with_documents();
    bench.write("questions.jsonl", lines.join("\n"));
    bench.run(&["ingest", "docs"]).expect(0);
    let run = bench.run(&["eval", "questions.jsonl", "--json"]).expect(0);
    let report = run.json();
    println!("{report:#}");
    for (name, floor) in FLOORS {
        let measured = report[name].as_f64().unwrap();
        assert!(
            measured >= *floor,
            "{name}: {measured} is below {floor}{}",
            run.report()
        );
    }
}

#[test]
fn a_report_can_be_compared_with_an_earlier_one() {
    let bench = Bench::with_documents();
    bench.write(
        "questions.jsonl",
        r#"{"question":"육아 휴직 기간 알려줘!","answers":["최대 2년"],"answerable":true}"#,
    );
    bench.run(&["ingest", "docs"]).expect(0);
    let earlier = bench.run(&["eval", "questions.jsonl", "--json"]).expect(0);
    bench.write("earlier.json", &earlier.stdout);
    let run = bench
        .run(&["eval", "questions.jsonl", "--against", "earlier.json"])
        .expect(0);
    run.prints("answer containment       1.000     1.000    +0.000");
}
