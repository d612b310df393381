//! The models and presets that ragq knows by name.
//!
//! Any other model works by its repository name; what is listed here only saves a user the search. Sizes are what a
//! pull takes, rounded; the hub says the exact number when pulling. Licences and prefixes are those on the models'
//! cards.

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Text → vector.
    Embedder,
    /// Question and passage → how well they fit.
    Reranker,
    /// Prompt → text.
    Generator,
}

impl Role {
    /// The word that a table shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Embedder => "embedder",
            Role::Reranker => "reranker",
            Role::Generator => "generator",
        }
    }
}

/// A model that ragq knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What it is for.
    pub role: Role,
    /// Where it lies: `org/name`, or `org/name:Q4_K_M` for one file of a GGUF repository.
    pub reference: &'static str,
    /// Millions of bytes that a pull takes, rounded.
    pub n_megabytes: u64,
    /// As its card says.
    pub licence: &'static str,
    /// Languages it is good at.
    pub languages: &'static str,
    /// Words before a question and before a passage, where the card names them and the checkpoint's files do not.
    pub prefixes: Option<(&'static str, &'static str)>,
}

impl Model {
    /// The name without its owner: `KURE-v1`.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        let name = self.reference.split(':').next().unwrap_or_default();
        name.rsplit('/').next().unwrap_or_default()
    }
}

/// A set of models for one kind of machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// What a user types.
    pub name: &'static str,
    /// For whom.
    pub purpose: &'static str,
    /// References of its models, each listed in [`MODELS`].
    pub models: &'static [&'static str],
}

impl Preset {
    /// The preset's model for a role, if it has one.
    #[must_use]
    pub fn model(&self, role: Role) -> Option<&'static Model> {
        self.models
            .iter()
            .filter_map(|reference| model(reference))
            .find(|model| model.role == role)
    }
}

/// Sets of models, by the memory of the machine.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "lite",
        purpose: "8 GB of memory",
        models: &[
            "dragonkue/multilingual-e5-small-ko-v2",
            "mykor/Midm-2.0-Mini-Instruct-gguf:Q4_K_M",
        ],
    },
    Preset {
        name: "standard",
        purpose: "16 GB of memory",
        models: &[
            "dragonkue/snowflake-arctic-embed-l-v2.0-ko",
            "dragonkue/bge-reranker-v2-m3-ko",
            "Mungert/kanana-1.5-8b-instruct-2505-GGUF:Q4_K_M",
        ],
    },
    Preset {
        name: "seed",
        purpose: "a widely known pair to compare with",
        models: &[
            "intfloat/multilingual-e5-small",
            "TheBloke/Mistral-7B-Instruct-v0.2-GGUF:Q4_K_M",
        ],
    },
];

const E5: Option<(&str, &str)> = Some(("query: ", "passage: "));

/// Models known by name.
pub const MODELS: &[Model] = &[
    Model {
        role: Role::Embedder,
        reference: "dragonkue/multilingual-e5-small-ko-v2",
        n_megabytes: 490,
        licence: "Apache-2.0",
        languages: "ko, en",
        prefixes: E5,
    },
    Model {
        role: Role::Embedder,
        reference: "dragonkue/snowflake-arctic-embed-l-v2.0-ko",
        n_megabytes: 2_290,
        licence: "Apache-2.0",
        languages: "ko, en",
        prefixes: Some(("query: ", "")),
    },
    Model {
        role: Role::Embedder,
        reference: "nlpai-lab/KURE-v1",
        n_megabytes: 2_290,
        licence: "MIT",
        languages: "ko, en",
        prefixes: None,
    },
    Model {
        role: Role::Embedder,
        reference: "nlpai-lab/KoE5",
        n_megabytes: 2_260,
        licence: "MIT",
        languages: "ko, en",
        prefixes: E5,
    },
    Model {
        role: Role::Embedder,
        reference: "BAAI/bge-m3",
        n_megabytes: 2_290,
        licence: "MIT",
        languages: "100 and more",
        prefixes: None,
    },
    Model {
        role: Role::Embedder,
        reference: "intfloat/multilingual-e5-small",
        n_megabytes: 490,
        licence: "MIT",
        languages: "94",
        prefixes: E5,
    },
    Model {
        role: Role::Reranker,
        reference: "dragonkue/bge-reranker-v2-m3-ko",
        n_megabytes: 2_290,
        licence: "Apache-2.0",
        languages: "ko, en",
        prefixes: None,
    },
    Model {
        role: Role::Reranker,
        reference: "BAAI/bge-reranker-v2-m3",
        n_megabytes: 2_290,
        licence: "Apache-2.0",
        languages: "100 and more",
        prefixes: None,
    },
    Model {
        role: Role::Generator,
        reference: "mykor/Midm-2.0-Mini-Instruct-gguf:Q4_K_M",
        n_megabytes: 1_400,
        licence: "MIT",
        languages: "ko, en",
        prefixes: None,
    },
    Model {
        role: Role::Generator,
        reference: "Mungert/kanana-1.5-8b-instruct-2505-GGUF:Q4_K_M",
        n_megabytes: 4_900,
        licence: "Apache-2.0",
        languages: "ko, en",
        prefixes: None,
    },
    Model {
        role: Role::Generator,
        reference: "TheBloke/Mistral-7B-Instruct-v0.2-GGUF:Q4_K_M",
        n_megabytes: 4_370,
        licence: "Apache-2.0",
        languages: "en",
        prefixes: None,
    },
];

/// The preset of this name.
#[must_use]
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The model of this reference, repository or short name.
#[must_use]
pub fn model(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| {
        let repository = model.reference.split(':').next().unwrap_or_default();
        [model.reference, repository, model.short_name()].contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_name_known_models_and_one_for_each_role() {
        for preset in PRESETS {
            let known: Vec<&Model> = preset
                .models
                .iter()
                .filter_map(|name| model(name))
                .collect();
            assert_eq!(known.len(), preset.models.len(), "{}", preset.name);
            for role in [Role::Embedder, Role::Generator] {
                assert!(preset.model(role).is_some(), "{}: {role:?}", preset.name);
                assert_eq!(known.iter().filter(|model| model.role == role).count(), 1);
            }
        }
    }

    #[test]
    fn a_model_answers_to_its_long_and_its_short_name() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(model(name).map(|model| model.reference), expected, "{name}");
        };
        check("KURE-v1", Some("nlpai-lab/KURE-v1"));
        check("nlpai-lab/KURE-v1", Some("nlpai-lab/KURE-v1"));
        check("someone/KURE-v1", None);
        check("", None);
    }
}
