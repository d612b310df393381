//! `header.xml` → what paragraphs refer to: shapes, numberings, bullets.

use anyhow::Result;
use quick_xml::events::BytesStart;

use super::super::Budget;
use super::super::hwp::definitions::{CharacterShape, Definitions, Head, ParagraphShape};
use super::super::hwp::numbering::{Level, NumberFormat, Numbering};
use super::super::package::{attribute, number};
use super::super::xml::{Visit, visit};

/// Most levels that a numbering has.
const MAX_LEVELS: usize = 10;

/// Reads the header. What is damaged in it is left out: paragraphs then have no labels.
///
/// # Errors
/// When the budget's time is used up.
pub(super) fn read(xml: &str, budget: &Budget) -> Result<Definitions> {
    let mut header = Header::default();
    visit(xml, &mut header, budget)?;
    Ok(header.definitions)
}

#[derive(Default)]
struct Header {
    definitions: Definitions,
    /// The character shape that was defined last.
    character_shape: u32,
    last_character_shape: CharacterShape,
    /// The paragraph shape that is open.
    shape: Option<u32>,
    /// The numbering that is open.
    numbering: Option<(u32, Numbering)>,
    /// Whether the text being read is that of the numbering's last level.
    in_level: bool,
}

impl Visit for Header {
    fn open(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            "charPr" => {
                self.character_shape = number(element, "id").unwrap_or(0);
                let shape = CharacterShape {
                    is_bold: false,
                    // The file counts in hundredths of a point.
                    n_half_points: number::<u32>(element, "height").unwrap_or(0) / 50,
                };
                self.set_character_shape(shape);
            }
            "bold" => {
                let shape = CharacterShape {
                    is_bold: true,
                    ..self.last_character_shape
                };
                self.set_character_shape(shape);
            }
            "paraPr" => self.shape = number(element, "id"),
            "heading" => {
                if let Some(shape) = self.shape.take() {
                    self.definitions
                        .add_paragraph_shape(shape, paragraph_shape(element));
                }
            }
            "numbering" => {
                self.numbering = number(element, "id").map(|id| (id, Numbering::default()));
            }
            "paraHead" => {
                if let Some((_, numbering)) = &mut self.numbering
                    && numbering.levels.len() < MAX_LEVELS
                {
                    let format = attribute(element, "numFormat").unwrap_or_default();
                    numbering.levels.push(Level {
                        text: String::new(),
                        format: NumberFormat::from_name(&format),
                        start: number(element, "start").unwrap_or(1),
                    });
                    self.in_level = true;
                }
            }
            "bullet" => {
                let character = attribute(element, "char").and_then(|text| text.chars().next());
                if let Some(id) = number(element, "id") {
                    self.definitions.add_bullet(id, character);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "paraHead" => self.in_level = false,
            "paraPr" => self.shape = None,
            "numbering" => {
                if let Some((id, numbering)) = self.numbering.take() {
                    self.definitions.add_numbering(id, numbering);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some((_, numbering)) = &mut self.numbering
            && let Some(level) = numbering.levels.last_mut()
            && self.in_level
        {
            level.text.push_str(text);
        }
    }
}

impl Header {
    fn set_character_shape(&mut self, shape: CharacterShape) {
        self.last_character_shape = shape;
        self.definitions
            .add_character_shape(self.character_shape, shape);
    }
}

fn paragraph_shape(heading: &BytesStart<'_>) -> ParagraphShape {
    let id = number(heading, "idRef").unwrap_or(0);
    let level: u8 = number(heading, "level").unwrap_or(0);
    let head = match attribute(heading, "type").as_deref() {
        Some("OUTLINE") => Head::Outline,
        Some("NUMBER") => Head::Number(id),
        Some("BULLET") => Head::Bullet(id),
        _ => Head::None,
    };
    ParagraphShape {
        head,
        level: level.min(9),
    }
}
