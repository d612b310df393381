//! ragq answers questions about a folder of office documents and says where each answer stands.
//!
//! The modules in reading order are the pipeline:
//!
//! ```text
//! ragq ingest   folder → document → chunk → embedding → index
//! ragq ask      question → retrieval → prompt → generation → answer
//! ```
//!
//! | stage | in | out |
//! |---|---|---|
//! | [`folder`] | paths a user named | [`FoundFile`](folder::FoundFile)s |
//! | [`document`] | bytes | [`Document`](document::Document): text with [`Location`](document::Location)s |
//! | [`chunk`] | document | [`Chunk`](chunk::Chunk)s of one section each |
//! | [`embedding`] | texts | unit vectors, by anything that can [`Embed`](embedding::Embed) |
//! | [`index`] | chunks and vectors | one [`Reader`](index::Reader) a question, one [`Writer`](index::Writer) at a time |
//! | [`question`] | text | [`Question`](question::Question): the words that carry meaning |
//! | [`retrieval`] | question | ranked [`Hit`](retrieval::Hit)s |
//! | [`reranking`] | hits | the same, re-ordered by a cross-encoder, if one is named |
//! | [`prompt`] | hits | [`Passage`](prompt::Passage)s, and the [`Prompt`](prompt::Prompt) with them |
//! | [`answerability`] | passages | a [`Judgement`](answerability::Judgement): answer, or 모른다 |
//! | [`generation`] | prompt | text, by anything that can [`Generate`](generation::Generate) |
//! | [`answer`] | text | [`Answer`](answer::Answer): citations resolved and checked |
//!
//! [`ingest`] and [`ask`] connect the stages and are the only modules that know all of them. A stage takes data and returns
//! data: it does not print, read arguments or reach for the network. [`alignment`] and [`expectation`] tell how well a text
//! fits a question; [`hub`] finds model files; [`evaluation`] measures answers; [`fs`], [`hint`], [`sentence`] and `simd`
//! are what several stages share.

pub mod ingest;

pub mod folder;

pub mod document;

pub mod chunk;

pub mod embedding;

pub mod index;

pub mod ask;

pub mod question;

pub mod retrieval;

pub mod prompt;

pub mod reranking;

pub mod answerability;

pub mod generation;

pub mod answer;

pub mod alignment;

pub mod expectation;

pub mod evaluation;

pub mod hub;

pub mod fs;

pub mod hint;

pub mod sentence;

mod normalisation;
mod simd;
