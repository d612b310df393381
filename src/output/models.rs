//! `ragq models`.
