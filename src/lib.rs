//! ragq answers questions about a folder of office documents and says where each answer stands.

pub mod chunk;
pub mod document;
pub mod embedding;
pub mod fs;
pub mod generation;
pub mod hub;
pub mod index;
pub mod prompt;
pub mod reranking;
