//! A person keeps an index up to date with a folder that changes, holds broken files, and is sometimes the wrong one.

mod support;

use support::Bench;
use unicode_normalization::UnicodeNormalization;

fn summary(bench: &Bench, status: i32) -> serde_json::Value {
    bench
        .run(&["ingest", "docs", "--json"])
        .expect(status)
        .json()
}

#[test]
fn a_second_run_embeds_nothing_and_says_so() {
    let bench = Bench::with_documents();
    let first = summary(&bench, 0);
    assert_eq!(first["documents"], 4, "{first}");
    assert!(first["embedded"].as_u64().unwrap() > 0);
    let run = bench.run(&["ingest", "docs"]).expect(0);
    run.prints("4 unchanged").prints("nothing to embed");
}

#[test]
fn new_changed_moved_and_removed_files_are_told_apart() {
    let bench = Bench::new();
    bench.write("docs/a.txt", "주차장은 지하 3층에 있다.");
    bench.write("docs/b.txt", "구내식당은 오전 11시 30분에 연다.");
    bench.write("docs/c.txt", "회의실은 2주 뒤까지 예약할 수 있다.");
    summary(&bench, 0);
    bench.write("docs/a.txt", "주차장은 지하 4층으로 옮겼다.");
    std::fs::rename(bench.path("docs/b.txt"), bench.path("docs/식당.txt")).unwrap();
    std::fs::remove_file(bench.path("docs/c.txt")).unwrap();
    bench.write("docs/d.txt", "사원증은 총무팀에서 만든다.");
    let second = summary(&bench, 0);
    assert_eq!(second["changed"][0], "a.txt", "{second}");
    assert_eq!(second["moved"][0]["from"], "b.txt", "{second}");
    assert_eq!(second["moved"][0]["to"], "식당.txt", "{second}");
    assert_eq!(second["removed"][0], "c.txt", "{second}");
    assert_eq!(second["new"][0], "d.txt", "{second}");
    assert_eq!(
        second["embedded"], 2,
        "the moved file must keep its vectors: {second}"
    );
    bench
        .run(&["ask", "주차장은 어디에 있나요?"])
        .expect(0)
        .prints("지하 4층");
    bench
        .run(&["ask", "회의실 예약은 어떻게 하나요?"])
        .expect(1);
}

#[test]
fn an_index_of_an_earlier_built_in_embedder_is_brought_up_to_date() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    let make_earlier = || {
        let index = rusqlite::Connection::open(bench.path(".ragq/index.sqlite")).unwrap();
        let earlier = "UPDATE meta SET value = 'earlier' WHERE key = 'embedder_fingerprint'";
        assert_eq!(index.execute(earlier, []).unwrap(), 1);
    };
    let question = "휴직 기간에 대하여 알려줘";
    make_earlier();
    bench
        .run(&["ask", question])
        .expect(2)
        .says("ragq ingest --embedder builtin");
    let run = bench.run(&["ingest", "docs"]).expect(0);
    run.says("builtin").prints("4 unchanged");
    bench
        .run(&["ask", question])
        .expect(0)
        .prints("제3조(휴직기간)");
    make_earlier();
    bench
        .run(&["ask", "--docs", "docs", question])
        .expect(0)
        .prints("제3조(휴직기간)");
}

#[test]
fn what_lies_elsewhere_stays() {
    let bench = Bench::new();
    bench.write("docs/a.txt", "주차장은 지하 3층에 있다.");
    bench.write("other/b.txt", "구내식당은 오전 11시 30분에 연다.");
    bench.run(&["ingest", "docs"]).expect(0);
    let second = bench.run(&["ingest", "other", "--json"]).expect(0).json();
    assert_eq!(second["removed"].as_array().unwrap().len(), 0);
    bench.run(&["ask", "주차장은 어디에 있나요?"]).expect(0);
}

#[test]
fn one_bad_file_never_stops_the_others() {
    let bench = Bench::with_documents();
    bench.write("docs/빈 파일.txt", "");
    bench.write(
        "docs/그림.txt",
        [
            0x89, b'P', b'N', b'G', 0, 0, 1, 2, 0xff, 0xfe, 0, 0, 7, 0, 0, 0, 200, 0, 1, 1,
        ]
        .repeat(40),
    );
    bench.write("docs/깨진.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog");
    bench.write("docs/깨진.docx", b"PK\x03\x04 not a zip");
    bench.write("docs/사진.jpg", [0xff, 0xd8, 0xff, 0xe0, 0, 16]);
    bench.write("docs/.숨김.txt", "보이지 않는다");
    let run = bench.run(&["ingest", "docs"]).expect(2);
    run.prints("4 of 8 documents in the index");
    for name in [
        "빈 파일.txt",
        "그림.txt",
        "깨진.pdf",
        "깨진.docx",
        "사진.jpg",
    ] {
        run.prints(name);
    }
    assert!(!run.stdout.contains("숨김"), "{}", run.report());
    bench.run(&["ask", "육아 휴직 기간 알려줘!"]).expect(0);
    // What could not be read stays so, and is said again.
    bench
        .run(&["ingest", "docs"])
        .expect(2)
        .prints("깨진.pdf")
        .prints("nothing to embed");
}

#[test]
fn a_wrong_folder_is_said_in_words() {
    let bench = Bench::new();
    bench
        .run(&["ingest", "dcos"])
        .expect(2)
        .says("dcos: ")
        .says("hint: ");
    assert!(
        !bench.path(".ragq").exists(),
        "a wrong path must not leave an index behind"
    );
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench
        .run(&["ingest", "empty"])
        .expect(2)
        .says("empty: no documents here");
}

#[test]
fn a_decomposed_file_name_is_cited_composed() {
    let bench = Bench::new();
    let name: String = "휴직 안내.txt".nfd().collect();
    bench.write(&format!("docs/{name}"), "휴직 상담은 매주 수요일에 한다.");
    let answer = bench
        .run(&[
            "ask",
            "--docs",
            "docs",
            "--json",
            "휴직 상담은 언제 하나요?",
        ])
        .expect(0)
        .json();
    assert_eq!(answer["sources"][0], "휴직 안내.txt");
}

#[test]
fn a_single_file_can_be_ingested() {
    let bench = Bench::with_documents();
    bench
        .run(&["ingest", "docs/지급보험금계산.txt"])
        .expect(0)
        .prints("1 of 1 documents");
}

#[test]
fn the_text_of_a_file_can_be_looked_at() {
    let bench = Bench::with_documents();
    bench
        .run(&["text", "docs/근무 복장 기준.docx"])
        .expect(0)
        .prints("제3조")
        .prints("사무직 | 금 | 자율복장");
    let elements = bench
        .run(&["text", "--json", "docs/회사생활가이드(QA형).csv"])
        .expect(0)
        .json();
    assert_eq!(elements["elements"][0]["kind"], "record");
    assert_eq!(elements["elements"][0]["location"]["row"], 2);
    bench
        .run(&["text", "docs/none.pdf"])
        .expect(2)
        .says("docs/none.pdf: ");
}

#[test]
fn status_tells_what_is_there() {
    let bench = Bench::with_documents();
    bench.write("docs/깨진.pdf", b"%PDF-1.7\n");
    bench.run(&["ingest", "docs"]).expect(2);
    bench
        .run(&["status"])
        .expect(0)
        .prints("builtin")
        .prints("깨진.pdf");
    let status = bench.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["documents"], 4, "{status}");
    assert_eq!(status["embedder"]["name"], "builtin", "{status}");
    assert_eq!(status["problems"][0]["source"], "깨진.pdf", "{status}");
}

#[test]
fn of_two_ingests_the_second_names_the_first_and_questions_go_on() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    let mut lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(bench.path(".ragq/lock"))
        .unwrap();
    lock.lock().unwrap();
    std::io::Write::write_all(&mut lock, b"4242\n").unwrap();
    bench
        .run(&["ingest", "docs"])
        .expect(2)
        .says("being changed by process 4242");
    bench
        .run(&["ask", "--docs", "docs", "육아 휴직 기간 알려줘!"])
        .expect(0)
        .says("answering from what is there");
    drop(lock);
    bench.run(&["ingest", "docs"]).expect(0);
}

#[test]
fn only_the_documents_asked_for_are_searched() {
    let bench = Bench::new();
    bench.write("docs/인사/휴가.txt", "연차 휴가는 하루 전에 신청한다.");
    bench.write("docs/인사/2026/휴가.md", "연차 휴가는 이틀 전에 신청한다.");
    bench.write(
        "docs/총무/휴가.txt",
        "총무팀 연차 휴가는 사흘 전에 신청한다.",
    );
    bench.run(&["ingest", "docs"]).expect(0);
    let found = |options: &[&str]| -> Vec<String> {
        let arguments = [&["search", "--json", "연차 휴가 신청"], options].concat();
        let result = bench.run(&arguments).expect(0).json();
        let hits = result["hits"].as_array().unwrap();
        let mut sources: Vec<String> = hits
            .iter()
            .map(|hit| hit["source"].as_str().unwrap().to_owned())
            .collect();
        sources.sort();
        sources
    };
    let all = ["인사/2026/휴가.md", "인사/휴가.txt", "총무/휴가.txt"];
    assert_eq!(found(&[]), all);
    assert_eq!(found(&["--path", "인사"]), all[..2]);
    assert_eq!(found(&["--path", "docs/인사/"]), all[..2]);
    assert_eq!(found(&["--path", "인사/*.txt"]), all[1..2]);
    assert_eq!(found(&["--ext", "md"]), all[..1]);
    assert_eq!(
        found(&["--ext", "md,txt", "--path", "2026", "--path", "총무"]),
        [all[0], all[2]]
    );
    bench
        .run(&["ask", "--path", "총무", "연차 휴가는 언제 신청하나요?"])
        .expect(0)
        .prints("사흘");
    bench
        .run(&["search", "--path", "영업", "연차"])
        .expect(2)
        .says("--path 영업: no document in the index matches")
        .says("hint: ");
}
