//! A person uses models of their own from a folder: to embed, to generate, to try one. The models are tiny seeded test
//! models whose values were computed by PyTorch (`fixtures/models`); what they write makes no sense and is not meant to.

mod support;

#[cfg(unix)]
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;
use support::{Bench, fixture};

fn model(name: &str) -> String {
    fixture(&format!("models/{name}")).display().to_string()
}

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("models/{name}/expected.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_generator_continues_a_text_as_the_reference_does() {
    let expected = expected("tiny-llama");
    let text = expected["greedy"]["text"].as_str().unwrap();
    let prompt = expected["prompt"].as_str().unwrap();
    for file in ["tiny-llama", "tiny-llama/model-f32.gguf"] {
        let run = Bench::new()
            .run(&[
                "models",
                "run",
                &model(file),
                prompt,
                "--raw",
                "--max-tokens",
                "32",
            ])
            .expect(0);
        assert_eq!(run.stdout, text, "{file}{}", run.report());
        run.says("prefill 27 tokens").says("decode 32 tokens");
    }
}

#[test]
fn texts_are_embedded_as_the_reference_does_by_every_family() {
    for family in ["bert", "xlm-roberta", "roberta", "distilbert", "modernbert"] {
        let name = format!("tiny-{family}");
        let expected = expected(&name);
        let cases: Vec<&Value> = expected["cases"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|case| is_line(case))
            .collect();
        let has_prompts = cases.iter().any(|case| case["prompt"] != "");
        for (option, word) in [(None, "passage"), (Some("--query"), "query")] {
            let is_wanted = |case: &&&Value| {
                let prompt = case["prompt"].as_str().unwrap();
                if has_prompts {
                    prompt.contains(word) || prompt.contains("document") && word == "passage"
                } else {
                    true
                }
            };
            let cases: Vec<&&Value> = cases.iter().filter(is_wanted).collect();
            assert!(cases.len() >= 3, "{name} {word}");
            let texts: String = cases
                .iter()
                .map(|case| format!("{}\n", case["text"].as_str().unwrap()))
                .collect();
            let folder = model(&name);
            let args: Vec<&str> = ["models", "embed", &folder]
                .into_iter()
                .chain(option)
                .collect();
            let run = Bench::new().pipe(&args, &texts).expect(0);
            for (case, line) in cases.iter().zip(run.json_lines()) {
                // ragq gives unit vectors whatever the checkpoint does.
                let reference = unit(&case["embedding"]);
                for (ours, theirs) in unit(&line["embedding"]).iter().zip(&reference) {
                    assert!(
                        (ours - theirs).abs() < 1e-5,
                        "{name} {word} {}: {ours} {theirs}",
                        case["text"]
                    );
                }
            }
        }
    }
}

fn is_line(case: &Value) -> bool {
    !case["text"].as_str().unwrap().contains('\n')
}

fn unit(vector: &Value) -> Vec<f64> {
    let vector: Vec<f64> = vector
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

#[test]
fn an_index_remembers_its_embedder_and_names_both_when_asked_with_another() {
    let bench = Bench::with_documents();
    let bert = model("tiny-bert");
    bench
        .run(&["ingest", "docs", "--embedder", &bert])
        .expect(0);
    let answer = bench
        .run(&["ask", "--json", "육아 휴직 기간 알려줘!"])
        .expect(0)
        .json();
    assert_eq!(answer["embedder"], bert.as_str());
    let run = bench
        .run(&["ask", "--embedder", "builtin", "육아 휴직 기간 알려줘!"])
        .expect(2);
    run.says("built with")
        .says("tiny-bert")
        .says("asked with builtin (384)")
        .says("hint: ");
}

/// Sources of the passages that a search finds, best first, and the embedder that answered.
fn search(bench: &Bench, query: &str) -> (Vec<Value>, Value) {
    let found = bench.run(&["search", "--json", query]).expect(0).json();
    let hits = found["hits"].as_array().unwrap().clone();
    let status = bench.run(&["status", "--json"]).expect(0).json();
    (hits, status["embedder"]["name"].clone())
}

#[test]
fn an_index_is_given_another_embedder_and_back_without_its_documents() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    let (query, bert) = ("복직 신청", model("tiny-bert"));
    let by_builtin = search(&bench, query);
    std::fs::rename(bench.path("docs"), bench.path("elsewhere")).unwrap();

    let run = bench.run(&["ingest", "--embedder", &bert]).expect(0);
    run.says("from builtin to ")
        .says("embedding 84 texts")
        .says("84 texts embedded with ");
    assert_eq!(run.stdout, "", "{}", run.report());
    let changed = search(&bench, query);
    assert_eq!(changed.1, bert.as_str());

    // The same as an index that never had another.
    let fresh = Bench::with_documents();
    fresh
        .run(&["ingest", "docs", "--embedder", &bert])
        .expect(0);
    assert_eq!(changed, search(&fresh, query));
    bench
        .run(&["status", "--check"])
        .expect(0)
        .prints("all is well");

    let run = bench
        .run(&["ingest", "--embedder", "builtin", "-q"])
        .expect(0);
    assert_eq!((&*run.stdout, &*run.stderr), ("", ""), "{}", run.report());
    assert_eq!(search(&bench, query), by_builtin);
    let again = bench
        .run(&["ingest", "--embedder", "builtin", "--json"])
        .expect(0)
        .json();
    assert_eq!(again["reembedded"], 0, "{again}");
}

#[test]
fn a_change_of_embedder_and_of_documents_is_one_command() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    bench.write("docs/새 규칙.txt", "사원증은 총무팀에서 만든다.");
    let bert = model("tiny-bert");
    let summary = bench
        .run(&["ingest", "docs", "--json", "--embedder", &bert])
        .expect(0)
        .json();
    assert_eq!(summary["reembedded"], 84, "{summary}");
    assert_eq!(summary["embedded"], 1, "{summary}");
    assert_eq!(summary["new"][0], "새 규칙.txt", "{summary}");
    // A default that changes does not change an index.
    bench.run(&["models", "use", "builtin"]).expect(0);
    bench
        .run(&["ingest", "docs"])
        .expect(2)
        .says("asked with builtin")
        .says("ragq ingest --embedder builtin");
    bench.run(&["ingest"]).expect(2).says("<PATH>");
    Bench::new()
        .run(&["ingest", "--embedder", &bert])
        .expect(2)
        .says("no index here");
}

#[test]
fn a_change_of_embedder_killed_again_and_again_goes_on_and_loses_nothing() {
    let bench = Bench::new();
    for file in 0..20 {
        let clauses = (1..60).map(|number| {
            format!("제{number}조(부서 {file}) 부서 {file}의 직원은 {number}층 회의실을 {}시간 쓸 수 있다.\n", file + number)
        });
        bench.write(&format!("docs/{file}.txt"), clauses.collect::<String>());
    }
    bench.run(&["ingest", "docs"]).expect(0);
    let (query, bert) = (
        "부서 7의 직원은 13층 회의실을 몇 시간 쓸 수 있나요?",
        model("tiny-bert"),
    );
    let before = search(&bench, query);
    let status = || bench.run(&["status", "--json"]).expect(0).json();
    let n_texts = status()["vectors"].as_u64().unwrap();
    let (mut n_done, mut n_kills) = (0, 0);
    // The last run is left alone.
    while n_kills < 6 {
        let mut change = bench.command(&["ingest", "-q", "--embedder", &bert]);
        let mut change = change.spawn().unwrap();
        let reached = loop {
            let status = status();
            if status["embedder"]["name"] != "builtin" {
                break None;
            }
            match status["unfinished"]["vectors"].as_u64() {
                Some(n) if n > n_done => break Some(n),
                _ => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        };
        let Some(reached) = reached else {
            change.wait().unwrap();
            break;
        };
        assert_eq!(search(&bench, query), before, "while it goes on");
        change.kill().unwrap();
        change.wait().unwrap();
        let status = status();
        if status["embedder"]["name"] != "builtin" {
            break;
        }
        n_done = status["unfinished"]["vectors"].as_u64().unwrap();
        assert!(n_done >= reached, "{n_done} vectors of {reached} are left");
        assert_eq!(search(&bench, query), before, "after it was killed");
        n_kills += 1;
        let run = bench.run(&["status"]).expect(0);
        run.prints(&format!(
            "{n_done} of {n_texts} texts; `ragq ingest --embedder "
        ));
        match n_kills {
            1 => {
                bench
                    .run(&["ingest", "docs"])
                    .expect(0)
                    .says("on its way to ");
            }
            2 => {
                let stay = bench
                    .run(&["ingest", "docs", "--embedder", "builtin"])
                    .expect(0);
                stay.says("stays with builtin");
                n_done = 0;
            }
            _ => {}
        }
    }
    println!("{n_texts} texts, killed {n_kills} times");
    assert!(n_kills > 0, "it was never killed on its way");
    bench.run(&["ingest", "--embedder", &bert]).expect(0);
    let fresh = Bench::new();
    std::fs::rename(bench.path("docs"), fresh.path("docs")).unwrap();
    fresh
        .run(&["ingest", "docs", "--embedder", &bert])
        .expect(0);
    assert_eq!(search(&bench, query), search(&fresh, query));
    let status = status();
    assert_eq!(
        (status["vectors"].as_u64(), &status["unfinished"]),
        (Some(n_texts), &Value::Null)
    );
    bench
        .run(&["status", "--check"])
        .expect(0)
        .prints("all is well");
}

#[test]
fn a_generator_answers_from_the_passages_it_was_given() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    let generator = model("tiny-llama");
    let ask = [
        "ask",
        "--json",
        "-k",
        "1",
        "--max-tokens",
        "4",
        "--generator",
        &generator,
        "월급날이 언제예요?",
    ];
    let run = bench.run(&ask);
    // The test model holds 512 tokens of nearly one character each, so the rules alone may not fit: said, not cut.
    match run.status {
        Some(0) => assert_eq!(run.json()["generator"], generator.as_str()),
        _ => {
            run.expect(2).says("the model ");
        }
    }
}

#[test]
fn a_model_that_is_not_here_names_the_command_that_brings_it() {
    let bench = Bench::with_documents();
    bench.run(&["ingest", "docs"]).expect(0);
    let run = bench
        .run(&["ask", "--generator", "org/name:model.gguf", "휴직"])
        .expect(2);
    run.says("org/name").says("ragq models pull org/name");
    bench
        .run(&["models", "list"])
        .expect(0)
        .prints("lite")
        .prints("standard")
        .prints("seed");
    let run = bench
        .run(&["models", "pull", "lite", "--offline"])
        .expect(2);
    run.says("offline");
}

#[test]
fn a_default_model_is_kept_in_the_users_config() {
    let bench = Bench::with_documents();
    bench.run(&["models", "use", &model("tiny-bert")]).expect(0);
    bench.run(&["ingest", "docs"]).expect(0);
    bench.run(&["status"]).expect(0).prints("tiny-bert");
    // A flag wins over the config.
    bench
        .run(&["ask", "--embedder", "builtin", "휴직"])
        .expect(2)
        .says("asked with builtin");
}

/// A prompt that the test model answers with many tokens, slowly enough to be interrupted.
fn long_run(bench: &Bench) -> std::process::Child {
    let model = model("tiny-llama");
    let mut command = bench.command(&[
        "models",
        "run",
        &model,
        "휴직 기간",
        "--raw",
        "--max-tokens",
        "480",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_closed_pipe_ends_generation_quietly() {
    let bench = Bench::new();
    let mut child = long_run(&bench);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_generation_with_status_130() {
    let bench = Bench::new();
    let interrupted = || {
        let mut child = long_run(&bench);
        let mut first = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        let id = child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-INT", &id])
            .status();
        assert!(sent.unwrap().success());
        let output = child.wait_with_output().unwrap();
        // No speeds, no message: the user knows what happened.
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // A quick machine may be done before the signal arrives, but not every time.
    let runs: Vec<_> = (0..5).map(|_| interrupted()).collect();
    assert!(runs.contains(&(Some(130), String::new())), "{runs:?}");
}

#[test]
fn a_file_that_is_cut_or_no_model_is_named_with_what_is_wrong() {
    let bench = Bench::new();
    let whole = std::fs::read(fixture("models/tiny-llama/model-f32.gguf")).unwrap();
    bench.write("cut.gguf", &whole[..whole.len() / 2]);
    bench.write("foreign.gguf", "%PDF-1.7 not a model");
    let mut other = whole.clone();
    let at = other
        .windows(5)
        .position(|bytes| bytes == b"llama")
        .unwrap();
    other[at..at + 5].copy_from_slice(b"mamba");
    bench.write("mamba.gguf", &other);
    let check = |file: &str, expected: &str| {
        let path = bench.path(file).display().to_string();
        let run = bench
            .run(&["models", "run", &path, "휴직", "--raw"])
            .expect(2);
        assert_eq!(run.stdout, "");
        run.says(file).says(expected);
    };
    check("cut.gguf", "the file is truncated");
    check("foreign.gguf", "not a GGUF file: it starts with \"%PDF\"");
    check("mamba.gguf", "mamba");
}

#[test]
fn a_prompt_that_is_too_long_is_refused_with_both_numbers() {
    let long = "휴직 기간은 이 년이다. ".repeat(100);
    let run = Bench::new()
        .run(&["models", "run", &model("tiny-llama"), &long, "--raw"])
        .expect(2);
    assert_eq!(run.stdout, "");
    run.says("prompt is ").says(" tokens, the model holds 512");
}
