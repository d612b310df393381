//! What the paragraphs of a Hangul document refer to by number: shapes of paragraphs and characters, numberings,
//! bullets.

use std::collections::HashMap;

use super::numbering::Numbering;

/// The definitions of one document.
#[derive(Debug, Default)]
pub(in crate::document) struct Definitions {
    paragraph_shapes: HashMap<u32, ParagraphShape>,
    numberings: HashMap<u32, Numbering>,
    bullets: HashMap<u32, String>,
    character_shapes: HashMap<u32, CharacterShape>,
}

/// How characters look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::document) struct CharacterShape {
    /// Bold.
    pub(in crate::document) is_bold: bool,
    /// Font size in half points; 0 if unknown.
    pub(in crate::document) n_half_points: u32,
}

/// What of a paragraph's shape concerns its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::document) struct ParagraphShape {
    /// What stands before the text.
    pub(in crate::document) head: Head,
    /// Outline or list level, from 0.
    pub(in crate::document) level: u8,
}

/// What stands before a paragraph's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::document) enum Head {
    /// Nothing.
    #[default]
    None,
    /// The number of the section's outline.
    Outline,
    /// A number of the numbering with this number, from 1.
    Number(u32),
    /// The bullet with this number, from 1.
    Bullet(u32),
}

impl Definitions {
    /// Defines a paragraph shape.
    pub(in crate::document) fn add_paragraph_shape(&mut self, number: u32, shape: ParagraphShape) {
        self.paragraph_shapes.insert(number, shape);
    }

    /// Defines a numbering.
    pub(in crate::document) fn add_numbering(&mut self, number: u32, numbering: Numbering) {
        self.numberings.insert(number, numbering);
    }

    /// Defines a bullet. Most are private-use characters of symbol fonts; those become `•`.
    pub(in crate::document) fn add_bullet(&mut self, number: u32, character: Option<char>) {
        let is_readable = |character: &char| {
            !character.is_control() && !('\u{E000}'..='\u{F8FF}').contains(character)
        };
        let character = character.filter(is_readable).unwrap_or('•');
        self.bullets.insert(number, character.to_string());
    }

    /// Defines a character shape.
    pub(in crate::document) fn add_character_shape(&mut self, number: u32, shape: CharacterShape) {
        self.character_shapes.insert(number, shape);
    }

    /// The character shape with this number; a plain one where the file does not define it.
    pub(super) fn character_shape(&self, number: u32) -> CharacterShape {
        let shape = self.character_shapes.get(&number);
        shape.copied().unwrap_or_default()
    }

    /// The shape with this number; a plain one where the file does not define it.
    pub(super) fn paragraph_shape(&self, number: u32) -> ParagraphShape {
        let shape = self.paragraph_shapes.get(&number);
        shape.copied().unwrap_or_default()
    }

    /// The numbering with this number.
    pub(super) fn numbering(&self, number: u32) -> Option<&Numbering> {
        self.numberings.get(&number)
    }

    /// The bullet with this number, empty where the file does not define it.
    pub(super) fn bullet(&self, number: u32) -> String {
        self.bullets.get(&number).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_font_s_bullet_becomes_a_bullet() {
        fn check(character: Option<char>, expected: &str) {
            let mut definitions = Definitions::default();
            definitions.add_bullet(1, character);
            assert_eq!(definitions.bullet(1), expected);
        }
        check(Some('\u{F06C}'), "•");
        check(Some('○'), "○");
        check(Some('\0'), "•");
        check(None, "•");
    }

    #[test]
    fn what_is_not_defined_is_plain() {
        let definitions = Definitions::default();
        assert_eq!(definitions.paragraph_shape(7), ParagraphShape::default());
        assert_eq!(definitions.bullet(7), "");
        assert!(definitions.numbering(0).is_none());
    }
}
