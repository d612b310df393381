//! A person asks the fixture documents and wants the answer, its place, or an honest 모른다.

mod support;

use support::{Bench, fixture};

const LEAVE: &str = "휴직 및 복직 관리기준.pdf";
const DRESS: &str = "근무 복장 기준.docx";

#[test]
fn one_command_reads_the_folder_and_answers_with_sources() {
    let run = Bench::with_documents()
        .run(&["ask", "--docs", "docs", "휴직 기간에 대하여 알려줘"])
        .expect(0);
    run.prints("육아휴직")
        .prints("최대 2년")
        .prints("[1]")
        .prints("출처")
        .prints(LEAVE)
        .prints("제3조(휴직기간)");
    for length in ["최대 2.5년", "최대 1년", "최대 90일"] {
        run.prints(length);
    }
}

#[test]
fn a_bare_title_is_answered_from_its_section() {
    let run = Bench::with_documents()
        .run(&["ask", "--docs", "docs", "휴직 기간"])
        .expect(0);
    run.prints("육아휴직").prints("제3조(휴직기간)");
}

#[test]
fn parental_leave_is_answered_from_the_rule() {
    let bench = Bench::with_documents();
    let answer = bench
        .run(&["ask", "--docs", "docs", "--json", "육아 휴직 기간 알려줘!"])
        .expect(0)
        .json();
    assert_eq!(answer["answered"], true);
    let text = answer["answer"].as_str().unwrap();
    assert!(
        text.contains("최대 2년") && text.contains("1회에 한하여 분할"),
        "{text}"
    );
    assert_eq!(answer["sources"][0], LEAVE);
}

#[test]
fn the_dress_code_is_answered_from_its_file_and_unknown_without_it() {
    let bench = Bench::with_documents();
    let answer = bench
        .run(&["ask", "--docs", "docs", "--json", "근무복장 규정 알려줘!"])
        .expect(0)
        .json();
    assert_eq!(answer["sources"][0], DRESS, "{answer}");

    let bench = Bench::new();
    bench.add_fixture(LEAVE);
    let run = bench
        .run(&["ask", "--docs", "docs", "근무복장 규정 알려줘!"])
        .expect(1);
    assert_eq!(run.stdout, "모른다\n");
}

#[test]
fn the_json_line_has_the_documented_shape() {
    let bench = Bench::with_documents();
    let answer = bench
        .run(&["ask", "--docs", "docs", "--json", "육아 휴직 기간 알려줘!"])
        .expect(0)
        .json();
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    let expected = [
        "question",
        "answered",
        "answer",
        "sources",
        "citations",
        "source_documents",
        "generator",
        "embedder",
        "elapsed_ms",
    ];
    assert_eq!(keys, expected);
    let citation = &answer["citations"][0];
    assert_eq!(citation["source"], LEAVE);
    assert_eq!(citation["location"]["page"], 1);
    assert!(
        citation["location"]["section"]
            .as_array()
            .unwrap()
            .iter()
            .any(|part| part == "제3조(휴직기간)"),
        "{citation}"
    );
    assert_eq!(citation["verified"], true);
    let metadata = answer["source_documents"][0]["metadata"]
        .as_object()
        .unwrap();
    assert_eq!(
        metadata.keys().collect::<Vec<_>>(),
        ["source", "page", "section", "row", "sheet"]
    );
    assert_eq!(answer["generator"], "extract");
    assert_eq!(answer["embedder"], "builtin");
    assert!(answer["elapsed_ms"]["retrieve"].is_number());
}

#[test]
fn a_page_that_bears_another_number_is_cited_with_both() {
    let mut pdf = lopdf::Document::load(fixture(&format!("documents/{LEAVE}"))).unwrap();
    let from_one = lopdf::dictionary! { "S" => "D", "P" => lopdf::Object::string_literal("A-") };
    let labels = lopdf::dictionary! { "Nums" => vec![0.into(), from_one.into()] };
    pdf.catalog_mut().unwrap().set("PageLabels", labels);
    let bench = Bench::new();
    let mut bytes = Vec::new();
    pdf.save_to(&mut bytes).unwrap();
    bench.write(&format!("docs/{LEAVE}"), bytes);
    let question = "육아 휴직 기간 알려줘!";
    bench
        .run(&["ask", "--docs", "docs", question])
        .expect(0)
        .prints("1쪽(쪽 번호 A-1), ");
    let answer = bench.run(&["ask", "--json", question]).expect(0).json();
    for place in [
        &answer["citations"][0]["location"],
        &answer["source_documents"][0]["metadata"],
    ] {
        assert_eq!(
            (&place["page"], &place["page_label"]),
            (&1.into(), &"A-1".into()),
            "{answer}"
        );
    }
}

#[test]
fn an_unanswerable_question_is_refused_with_status_one() {
    let bench = Bench::with_documents();
    let answer = bench
        .run(&[
            "ask",
            "--docs",
            "docs",
            "--json",
            "주식 매수선택권은 어떻게 행사하나요?",
        ])
        .expect(1)
        .json();
    assert_eq!(answer["answered"], false);
    assert_eq!(answer["answer"], "모른다");
    assert_eq!(answer["citations"].as_array().unwrap().len(), 0);
}

#[test]
fn a_question_nobody_can_mean_is_refused_in_words() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    bench
        .run(&["ask", &"가".repeat(10_000)])
        .expect(2)
        .says("the question has 10000 characters, at most 2000 are read");
    bench
        .run(&["ask", " "])
        .expect(2)
        .says("the question is empty");
}

#[test]
fn no_index_says_how_to_make_one() {
    let run = Bench::new().run(&["ask", "휴직"]).expect(2);
    run.says(".ragq: no index here")
        .says("hint: `ragq ingest ./docs`");
    assert_eq!(run.stdout, "");
}
