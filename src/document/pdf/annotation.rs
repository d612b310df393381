//! Text that stands on a page without being part of it: form fields, text boxes, stamps, comments.
//!
//! What an annotation shows is painted like the page itself. The words of a comment, and a field or text box that shows
//! nothing, are returned as notes. Links, popups and what is hidden are left out.

use anyhow::Result;
use lopdf::{Dictionary, Document, Object, Stream};

use super::content::Interpreter;
use super::geometry::Matrix;
use super::objects;
use super::painting::Page;

/// Flags of an annotation (PDF 32000-1, table 165): invisible or hidden.
const FLAGS_UNSEEN: i64 = 1 << 1 | 1 << 5;

/// Annotations of one page that are looked at.
const MAX_ANNOTATIONS: usize = 5_000;

/// Field dictionaries above a widget that its value may be inherited from.
const MAX_FIELD_DEPTH: usize = 16;

/// Paints the annotations of a page and adds the texts that they do not show to its notes.
///
/// # Errors
/// When the file's time or number of operators is used up.
pub(super) fn paint<'a>(
    interpreter: &mut Interpreter<'a>,
    page_dictionary: &'a Dictionary,
    upright: Matrix,
    page: &mut Page,
) -> Result<()> {
    let document = interpreter.document;
    let annotations = objects::array(document, page_dictionary, b"Annots").unwrap_or_default();
    for annotation in annotations.iter().take(MAX_ANNOTATIONS) {
        let annotation = objects::resolve(document, annotation).and_then(objects::as_dictionary);
        let Some(annotation) = annotation else {
            continue;
        };
        let kind = objects::name(document, annotation, b"Subtype").unwrap_or_default();
        let flags = objects::integer(document, annotation, b"F").unwrap_or(0);
        if matches!(kind, b"Link" | b"Popup") || flags & FLAGS_UNSEEN != 0 {
            continue;
        }
        let n_glyphs = page.n_glyphs;
        if let Some(appearance) = appearance(document, annotation) {
            paint_appearance(interpreter, annotation, appearance, upright, page)?;
        }
        if page.n_glyphs > n_glyphs {
            continue;
        }
        let text = match kind {
            b"Widget" => field_value(document, annotation),
            _ => string(document, annotation, b"Contents"),
        };
        page.notes
            .extend(text.filter(|text| !text.trim().is_empty()));
    }
    Ok(())
}

/// The stream that shows an annotation in its present state.
fn appearance<'a>(document: &'a Document, annotation: &'a Dictionary) -> Option<&'a Stream> {
    let appearances = objects::dictionary(document, annotation, b"AP")?;
    let normal = objects::value(document, appearances, b"N")?;
    if let Ok(stream) = normal.as_stream() {
        return Some(stream);
    }
    let state = objects::name(document, annotation, b"AS")?;
    objects::stream(document, normal.as_dict().ok()?, state)
}

fn paint_appearance<'a>(
    interpreter: &mut Interpreter<'a>,
    annotation: &'a Dictionary,
    appearance: &'a Stream,
    upright: Matrix,
    page: &mut Page,
) -> Result<()> {
    let document = interpreter.document;
    let dictionary = &appearance.dict;
    let matrix = objects::numbers::<6>(document, dictionary, b"Matrix");
    let matrix = matrix.map_or(Matrix::IDENTITY, Matrix::new);
    let rectangle = objects::numbers::<4>(document, annotation, b"Rect").map(sorted);
    let bounds = objects::numbers::<4>(document, dictionary, b"BBox").map(sorted);
    let fitted = match (rectangle, bounds) {
        (Some(rectangle), Some(bounds)) => matrix.then(fit(bounds, matrix, rectangle)),
        (Some(_) | None, _) => matrix,
    };
    let Some(content) = interpreter.unpack(appearance) else {
        page.n_damaged += 1;
        return Ok(());
    };
    let resources = objects::dictionary(document, dictionary, b"Resources");
    interpreter.run(content, resources, fitted.then(upright), page)
}

/// The matrix that brings the box of an appearance onto the annotation's rectangle (PDF 32000-1, 12.5.5).
fn fit(bounds: [f32; 4], matrix: Matrix, rectangle: [f32; 4]) -> Matrix {
    let [left, bottom, right, top] = bounds;
    let corners = [(left, bottom), (right, bottom), (left, top), (right, top)]
        .map(|(x, y)| matrix.apply(x, y));
    let extent = |values: [f32; 4]| {
        let low = values.into_iter().fold(f32::INFINITY, f32::min);
        (low, values.into_iter().fold(f32::NEG_INFINITY, f32::max))
    };
    let (x0, x1) = extent(corners.map(|corner| corner.0));
    let (y0, y1) = extent(corners.map(|corner| corner.1));
    let scale = |from: f32, to: f32| if from > 0.0 { to / from } else { 1.0 };
    let a = scale(x1 - x0, rectangle[2] - rectangle[0]);
    let d = scale(y1 - y0, rectangle[3] - rectangle[1]);
    Matrix::new([a, 0.0, 0.0, d, rectangle[0] - a * x0, rectangle[1] - d * y0])
}

/// `[left, bottom, right, top]` from two opposite corners.
fn sorted([x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
    [x0.min(x1), y0.min(y1), x0.max(x1), y0.max(y1)]
}

/// What was filled into a form field; a ticked box is no text.
fn field_value(document: &Document, widget: &Dictionary) -> Option<String> {
    let mut field = widget;
    for _ in 0..MAX_FIELD_DEPTH {
        if let Some(text) = string(document, field, b"V") {
            return Some(text);
        }
        field = objects::dictionary(document, field, b"Parent")?;
    }
    None
}

fn string(document: &Document, dictionary: &Dictionary, key: &[u8]) -> Option<String> {
    match objects::value(document, dictionary, key)? {
        Object::String(bytes, _) => Some(objects::text_string(bytes)),
        Object::Null
        | Object::Boolean(_)
        | Object::Integer(_)
        | Object::Real(_)
        | Object::Name(_)
        | Object::Array(_)
        | Object::Dictionary(_)
        | Object::Stream(_)
        | Object::Reference(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_appearance_is_fitted_to_its_rectangle() {
        let matrix = fit(
            [0.0, 0.0, 10.0, 20.0],
            Matrix::IDENTITY,
            [100.0, 200.0, 120.0, 220.0],
        );
        assert_eq!(matrix.apply(0.0, 0.0), (100.0, 200.0));
        assert_eq!(matrix.apply(10.0, 20.0), (120.0, 220.0));
    }
}
