//! A script pipes questions in and reads answers out.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use support::Bench;

const QUESTIONS: &str =
    "휴직 기간에 대하여 알려줘\n육아 휴직 기간 알려줘!\n근무복장 규정 알려줘!\n";

fn ingested() -> Bench {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    bench
}

#[test]
fn three_questions_get_three_objects_in_order() {
    let answers = ingested()
        .pipe(&["ask", "--json"], QUESTIONS)
        .expect(0)
        .json_lines();
    let questions: Vec<&str> = answers
        .iter()
        .map(|answer| answer["question"].as_str().unwrap())
        .collect();
    assert_eq!(questions, QUESTIONS.lines().collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer["answered"] == true));
}

#[test]
fn an_answer_comes_before_the_next_question_is_asked() {
    let bench = ingested();
    let mut command = bench.command(&["ask", "--json", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for question in QUESTIONS.lines() {
        writeln!(stdin, "{question}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains(question), "{line}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_line_that_cannot_be_answered_says_so_and_the_batch_goes_on() {
    let input = format!(
        "\n{}\n외계인 출입 절차는?\n휴직 기간 알려줘\n",
        "가".repeat(5000)
    );
    let answers = ingested()
        .pipe(&["ask", "--json", "-"], &input)
        .expect(0)
        .json_lines();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["error"], "the question is empty");
    assert!(
        answers[1]["error"]
            .as_str()
            .unwrap()
            .contains("5000 characters")
    );
    assert_eq!(answers[2]["answered"], false);
    assert_eq!(answers[3]["answered"], true);
}

#[test]
fn text_answers_stand_on_one_line_each() {
    let run = ingested().pipe(&["ask"], QUESTIONS).expect(0);
    assert_eq!(run.stdout.lines().count(), 3, "{}", run.report());
    assert!(
        run.stdout.lines().all(|line| line.contains('\t')),
        "{}",
        run.report()
    );
}

#[test]
fn search_follows_the_same_rule() {
    let bench = ingested();
    let lines = bench
        .pipe(&["search", "--json", "-k", "3"], QUESTIONS)
        .expect(0)
        .json_lines();
    assert_eq!(lines.len(), 3);
    let hit = &lines[1]["hits"][0];
    let keys: Vec<&String> = hit.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "rank",
            "source",
            "location",
            "text",
            "similarity",
            "dense",
            "lexical"
        ]
    );
    assert_eq!(hit["rank"], 1);
    assert_eq!(lines[1]["hits"].as_array().unwrap().len(), 3);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let bench = ingested();
    let mut command = bench.command(&["ask", "--json", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(QUESTIONS.repeat(50).as_bytes());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
