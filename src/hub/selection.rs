//! Which files of a repository a model needs.
//!
//! Repositories hold the same weights several times over (PyTorch, TensorFlow, ONNX, a dozen GGUF files). One copy is
//! fetched, and the small files that say how it is used.

use super::error::HubError;
use super::reference::Repository;

/// The wanted ones of a repository's files.
///
/// # Errors
/// When the repository holds several GGUF files and the reference does not choose one.
pub(crate) fn select<'n>(
    repository: &Repository,
    names: &[&'n str],
) -> Result<Vec<&'n str>, HubError> {
    let gguf: Vec<&str> = names.iter().copied().filter(|name| is_gguf(name)).collect();
    let has_weights = names.iter().any(|name| weights_rank(name).is_some());
    let mut wanted: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| describes(name))
        .collect();
    if repository.file.is_some() || (!gguf.is_empty() && !has_weights) {
        wanted.push(choose_gguf(repository, &gguf)?);
    } else {
        wanted.extend(weights(names));
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

/// The one GGUF file that a reference means: by its whole name, else by a part of it such as `Q4_K_M`.
///
/// # Errors
/// When none or several are meant.
pub(crate) fn choose_gguf<'n>(
    repository: &Repository,
    gguf: &[&'n str],
) -> Result<&'n str, HubError> {
    let choose = || HubError::ChooseFile {
        name: repository.name.clone(),
        wanted: repository.file.clone(),
        files: gguf.iter().map(ToString::to_string).collect(),
    };
    let Some(wanted) = &repository.file else {
        return match gguf {
            [only] => Ok(only),
            _ => Err(choose()),
        };
    };
    if let Some(exact) = gguf.iter().find(|name| *name == wanted) {
        return Ok(exact);
    }
    let wanted = wanted.to_lowercase();
    let mut matching = gguf.iter().filter(|name| {
        let name = name.to_lowercase();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        // `Q4_K` must not mean `Q4_K_M`: the part ends the name or is cut off by `-` or `.`.
        stem.split(['-', '.', '/']).any(|part| part == wanted)
    });
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(choose()),
    }
}

/// Whether a name is that of a GGUF file.
pub(crate) fn is_gguf(name: &str) -> bool {
    name.ends_with(".gguf")
}

/// Configuration, tokenizer, template, licence and card: in the main folder, and in those of the modules
/// (`1_Pooling/`, `2_Dense/`).
fn describes(name: &str) -> bool {
    let (folder, file) = split(name);
    if !is_module(folder) {
        return false;
    }
    let is_text = [".json", ".jinja", ".txt", ".md"]
        .iter()
        .any(|end| file.ends_with(end));
    (is_text && !file.ends_with(".index.json")) || file.starts_with("LICENSE")
}

/// The best form of the weights in each folder that has some.
fn weights<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let mut wanted = Vec::new();
    for name in names {
        let Some(rank) = weights_rank(name) else {
            continue;
        };
        let (folder, _) = split(name);
        let is_best = names
            .iter()
            .filter(|other| split(other).0 == folder)
            .filter_map(|other| weights_rank(other))
            .all(|other| other >= rank);
        if is_best {
            wanted.push(*name);
        }
    }
    wanted
}

/// Forms of weights, best first.
fn weights_rank(name: &str) -> Option<u8> {
    let (folder, file) = split(name);
    if !is_module(folder) {
        return None;
    }
    let is_shard = file.starts_with("model-") && file.ends_with(".safetensors");
    match file {
        "model.safetensors" => Some(0),
        "model.safetensors.index.json" => Some(1),
        _ if is_shard => Some(1),
        "pytorch_model.bin" => Some(2),
        _ => None,
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// The main folder, or one named like `1_Pooling`.
fn is_module(folder: &str) -> bool {
    folder.is_empty()
        || folder
            .split_once('_')
            .is_some_and(|(number, _)| number.parse::<u8>().is_ok())
            && !folder.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(file: Option<&str>) -> Repository {
        Repository {
            name: "org/name".to_string(),
            file: file.map(ToString::to_string),
        }
    }

    #[test]
    fn one_copy_of_the_weights_and_what_describes_them() {
        let check = |names: &[&str], expected: &[&str]| {
            assert_eq!(select(&repository(None), names).unwrap(), expected);
        };
        check(
            &[
                ".gitattributes",
                "1_Pooling/config.json",
                "README.md",
                "config.json",
                "model.safetensors",
                "modules.json",
                "onnx/model.onnx",
                "onnx/tokenizer.json",
                "pytorch_model.bin",
                "tf_model.h5",
                "tokenizer.json",
                "2_Dense/config.json",
                "2_Dense/pytorch_model.bin",
                "LICENSE",
                "train.jsonl",
            ],
            &[
                "1_Pooling/config.json",
                "2_Dense/config.json",
                "2_Dense/pytorch_model.bin",
                "LICENSE",
                "README.md",
                "config.json",
                "model.safetensors",
                "modules.json",
                "tokenizer.json",
            ],
        );
        check(
            &[
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
                "colbert_linear.pt",
            ],
            &[
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        );
        check(
            &["pytorch_model.bin", "config.json"],
            &["config.json", "pytorch_model.bin"],
        );
    }

    #[test]
    fn a_gguf_file_is_chosen_by_its_name_or_its_quantisation_and_never_guessed() {
        let names = ["a-Q4_K_M.gguf", "a-Q4_K_S.gguf", "a.Q8_0.gguf", "README.md"];
        let check = |file: Option<&str>, expected: Result<&[&str], &str>| match (
            select(&repository(file), &names),
            expected,
        ) {
            (Ok(selected), Ok(expected)) => assert_eq!(selected, expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (selected, _) => panic!("{file:?}: {selected:?}"),
        };
        check(Some("q4_k_m"), Ok(&["README.md", "a-Q4_K_M.gguf"]));
        check(Some("Q8_0"), Ok(&["README.md", "a.Q8_0.gguf"]));
        check(Some("a-Q4_K_S.gguf"), Ok(&["README.md", "a-Q4_K_S.gguf"]));
        check(
            Some("Q4_K"),
            Err("Q4_K: expected one of a-Q4_K_M.gguf, a-Q4_K_S.gguf, a.Q8_0.gguf"),
        );
        check(None, Err("org/name: holds several models: a-Q4_K_M.gguf"));
    }
}
