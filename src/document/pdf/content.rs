//! A page's content streams → what is painted on it: runs of glyphs and the rules (lines) of tables.
//!
//! The operators are run one by one on an explicit stack of streams, so that a form inside a form is followed without
//! recursion. Positions are kept exactly as the operators give them; what the positions mean (spaces, lines, columns,
//! tables) is decided later. Not run: colours, clipping, images, patterns.

use std::collections::HashSet;
use std::rc::Rc;

use anyhow::{Result, bail};
use lopdf::{Dictionary, Document, Object, ObjectId, Stream};

use super::font::{Font, FontSource};
use super::geometry::{Frame, Matrix};
use super::lexer::{Cursor, Lexer, Operand};
use super::objects;
use super::painting::{Mark, Page, Pen};
use super::tags::Tags;
use crate::document::Budget;

/// Deepest nesting of forms, and of saved graphics states.
const MAX_FORM_DEPTH: usize = 8;
const MAX_SAVED_STATES: usize = 512;

/// Operators one file may run.
const MAX_OPERATORS: usize = 20_000_000;

/// Operators between two looks at the clock.
const OPERATORS_PER_TIME_CHECK: usize = 4096;

/// What all pages of a document share while they are read.
pub(super) struct Interpreter<'a> {
    pub(super) document: &'a Document,
    fonts: FontSource<'a>,
    hidden_layers: HashSet<ObjectId>,
    tags: &'a Tags,
    budget: &'a Budget,
    operators_left: usize,
    bytes_left: usize,
}

/// A stream that is being run.
struct Call<'a> {
    bytes: Rc<Vec<u8>>,
    at: usize,
    resources: Option<&'a Dictionary>,
    /// What a form puts back when it ends.
    outer: Option<Outer<'a>>,
}

struct Outer<'a> {
    state: State<'a>,
    saved: Vec<State<'a>>,
    text: TextPosition,
    n_marks: usize,
}

/// The graphics state, as far as text depends on it.
#[derive(Clone)]
struct State<'a> {
    ctm: Matrix,
    font: Option<Rc<Font<'a>>>,
    font_size: f32,
    char_spacing: f32,
    word_spacing: f32,
    horizontal_scale: f32,
    leading: f32,
    rise: f32,
    /// Text is filled and stroked: bold without a bold font.
    stroked: bool,
}

#[derive(Debug, Clone, Copy)]
struct TextPosition {
    matrix: Matrix,
    line: Matrix,
}

/// Everything that changes while one page runs.
struct Machine<'a, 'p> {
    state: State<'a>,
    saved: Vec<State<'a>>,
    text: TextPosition,
    /// Forms that are being run, each with marked content of its own.
    n_forms: usize,
    page: &'p mut Page,
}

impl State<'_> {
    fn new(ctm: Matrix) -> Self {
        State {
            ctm,
            font: None,
            font_size: 0.0,
            char_spacing: 0.0,
            word_spacing: 0.0,
            horizontal_scale: 1.0,
            leading: 0.0,
            rise: 0.0,
            stroked: false,
        }
    }
}

impl TextPosition {
    const START: TextPosition = TextPosition {
        matrix: Matrix::IDENTITY,
        line: Matrix::IDENTITY,
    };

    fn move_line(&mut self, x: f32, y: f32) {
        self.line = Matrix::translation(x, y).then(self.line);
        self.matrix = self.line;
    }
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(
        document: &'a Document,
        tags: &'a Tags,
        budget: &'a Budget,
    ) -> Interpreter<'a> {
        Interpreter {
            document,
            fonts: FontSource::new(document, budget.max_part_bytes),
            hidden_layers: hidden_layers(document),
            tags,
            budget,
            operators_left: MAX_OPERATORS,
            bytes_left: budget.max_unpacked_bytes,
        }
    }

    /// A stream's bytes, counted against the file's budget; `None` if it is damaged or too large.
    pub(super) fn unpack(&mut self, stream: &Stream) -> Option<Vec<u8>> {
        let max_bytes = self.budget.max_part_bytes.min(self.bytes_left);
        let bytes = objects::bytes(stream, max_bytes)?;
        self.bytes_left -= bytes.len().min(self.bytes_left);
        Some(bytes)
    }

    /// Runs one stream's operators and paints on `page`.
    ///
    /// # Errors
    /// When the file's time or number of operators is used up; what was painted until then stays painted.
    pub(super) fn run(
        &mut self,
        content: Vec<u8>,
        resources: Option<&'a Dictionary>,
        ctm: Matrix,
        page: &mut Page,
    ) -> Result<()> {
        let mut machine = Machine {
            state: State::new(ctm),
            saved: Vec::new(),
            text: TextPosition::START,
            n_forms: 0,
            page,
        };
        let mut lexer = Lexer::default();
        let mut calls = vec![Call {
            bytes: Rc::new(content),
            at: 0,
            resources,
            outer: None,
        }];
        while let Some(mut call) = calls.pop() {
            let bytes = Rc::clone(&call.bytes);
            let mut cursor = Cursor::at(&bytes, call.at);
            let mut form = None;
            while let Some(operator) = lexer.next_operator(&mut cursor) {
                self.count_operator()?;
                if operator == b"Do" {
                    form = self.call_form(&lexer, &call, calls.len(), &mut machine);
                    if form.is_some() {
                        break;
                    }
                } else {
                    self.operate(operator, &lexer, call.resources, &mut machine);
                }
            }
            match form {
                Some(form) => {
                    call.at = cursor.position();
                    calls.push(call);
                    calls.push(form);
                }
                None => machine.leave(call),
            }
        }
        Ok(())
    }

    fn count_operator(&mut self) -> Result<()> {
        let Some(left) = self.operators_left.checked_sub(1) else {
            bail!("gave up: more than {MAX_OPERATORS} drawing operators")
        };
        self.operators_left = left;
        if left.is_multiple_of(OPERATORS_PER_TIME_CHECK) {
            self.budget.check_time()?;
        }
        Ok(())
    }

    /// `Do`: a form becomes a call; an image is only noted.
    fn call_form(
        &mut self,
        lexer: &Lexer,
        caller: &Call<'a>,
        depth: usize,
        machine: &mut Machine<'a, '_>,
    ) -> Option<Call<'a>> {
        let Some(Operand::Name(name)) = lexer.operands.last() else {
            return None;
        };
        let document = self.document;
        let forms = objects::dictionary(document, caller.resources?, b"XObject")?;
        let Some(stream) = objects::stream(document, forms, lexer.bytes(name)) else {
            machine.page.n_damaged += 1;
            return None;
        };
        let is_form = objects::name(document, &stream.dict, b"Subtype") == Some(b"Form");
        if self.is_hidden(stream.dict.get(b"OC").ok()) {
            return None;
        }
        if !is_form {
            machine.page.has_image = true;
            return None;
        }
        if depth >= MAX_FORM_DEPTH {
            machine.page.n_damaged += 1;
            return None;
        }
        let Some(bytes) = self.unpack(stream) else {
            machine.page.n_damaged += 1;
            return None;
        };
        let outer = Outer {
            state: machine.state.clone(),
            saved: std::mem::take(&mut machine.saved),
            text: machine.text,
            n_marks: machine.page.n_marks(),
        };
        let matrix = objects::numbers::<6>(document, &stream.dict, b"Matrix");
        let matrix = matrix.map_or(Matrix::IDENTITY, Matrix::new);
        machine.state.ctm = matrix.then(machine.state.ctm);
        machine.n_forms += 1;
        let own = objects::dictionary(document, &stream.dict, b"Resources");
        Some(Call {
            bytes: Rc::new(bytes),
            at: 0,
            resources: own.or(caller.resources),
            outer: Some(outer),
        })
    }

    fn operate(
        &self,
        operator: &[u8],
        lexer: &Lexer,
        resources: Option<&'a Dictionary>,
        machine: &mut Machine<'a, '_>,
    ) {
        let numbers = Numbers(&lexer.operands);
        let first = numbers.last::<1>().map(|[number]| number);
        match operator {
            b"q" => machine.save(),
            b"Q" => machine.restore(),
            b"cm" => {
                if let Some(matrix) = numbers.last::<6>() {
                    machine.state.ctm = Matrix::new(matrix).then(machine.state.ctm);
                }
            }
            b"BT" => machine.text = TextPosition::START,
            b"Tc" => machine.state.char_spacing = first.unwrap_or(0.0),
            b"Tw" => machine.state.word_spacing = first.unwrap_or(0.0),
            b"Tz" => machine.state.horizontal_scale = first.unwrap_or(100.0) / 100.0,
            b"TL" => machine.state.leading = first.unwrap_or(0.0),
            b"Ts" => machine.state.rise = first.unwrap_or(0.0),
            b"Tr" => machine.state.stroked = first == Some(2.0),
            b"Tf" => self.set_font(lexer, resources, machine),
            b"gs" => self.set_font_of_state(lexer, resources, machine),
            b"Td" | b"TD" => {
                if let Some([x, y]) = numbers.last::<2>() {
                    if operator == b"TD" {
                        machine.state.leading = -y;
                    }
                    machine.text.move_line(x, y);
                }
            }
            b"Tm" => {
                if let Some(matrix) = numbers.last::<6>() {
                    machine.text.line = Matrix::new(matrix);
                    machine.text.matrix = machine.text.line;
                }
            }
            b"T*" => machine.text.move_line(0.0, -machine.state.leading),
            b"Tj" | b"TJ" => self.show(lexer, machine),
            b"'" | b"\"" => {
                if let Some([word, char]) = numbers.first_two() {
                    machine.state.word_spacing = word;
                    machine.state.char_spacing = char;
                }
                machine.text.move_line(0.0, -machine.state.leading);
                self.show(lexer, machine);
            }
            b"BMC" | b"BDC" => self.begin_mark(lexer, resources, machine),
            b"EMC" => machine.page.end_mark(),
            b"EI" => machine.page.has_image = true,
            b"sh" => machine.page.has_drawing = true,
            _ => machine.draw(operator, numbers),
        }
    }

    fn set_font(
        &self,
        lexer: &Lexer,
        resources: Option<&'a Dictionary>,
        machine: &mut Machine<'a, '_>,
    ) {
        let [.., Operand::Name(name), Operand::Number(size)] = &*lexer.operands else {
            return;
        };
        machine.state.font_size = *size;
        let fonts =
            resources.and_then(|resources| objects::dictionary(self.document, resources, b"Font"));
        let font =
            fonts.and_then(|fonts| objects::dictionary(self.document, fonts, lexer.bytes(name)));
        machine.state.font = font.map(|font| self.fonts.font(font));
    }

    /// `gs` may set a font as well.
    fn set_font_of_state(
        &self,
        lexer: &Lexer,
        resources: Option<&'a Dictionary>,
        machine: &mut Machine<'a, '_>,
    ) {
        let document = self.document;
        let Some(Operand::Name(name)) = lexer.operands.last() else {
            return;
        };
        let states =
            resources.and_then(|resources| objects::dictionary(document, resources, b"ExtGState"));
        let state =
            states.and_then(|states| objects::dictionary(document, states, lexer.bytes(name)));
        let font = state.and_then(|state| objects::array(document, state, b"Font"));
        if let Some([font, size]) = font
            && let Some(font) = objects::resolve(document, font).and_then(objects::as_dictionary)
        {
            machine.state.font = Some(self.fonts.font(font));
            machine.state.font_size = size.as_float().unwrap_or(0.0);
        }
    }

    /// `Tj`, `TJ`: every string of the operands, with the moves between them.
    fn show(&self, lexer: &Lexer, machine: &mut Machine<'a, '_>) {
        let Some(font) = machine.state.font.clone() else {
            machine.page.n_damaged += 1;
            return;
        };
        let state = &machine.state;
        let (size, scale) = (state.font_size, state.horizontal_scale);
        let whole = machine.text.matrix.then(state.ctm);
        let Some(pen) = Pen::new(whole, &font, size, scale, state.stroked) else {
            return;
        };
        // How far the text has moved on, in unscaled text space; positive is forwards.
        let mut moved = 0.0_f32;
        let origin = match font.vertical {
            true => pen.frame.project(whole.apply(state.rise, 0.0)),
            false => pen.frame.project(whole.apply(0.0, state.rise)),
        };
        let pen = pen.on_baseline(origin.1);
        machine.page.begin_show();
        for operand in &lexer.operands {
            match operand {
                Operand::Number(thousandths) if lexer.operands.len() > 1 => {
                    moved -= thousandths * 0.001 * size;
                }
                Operand::String(range) => {
                    font.decode(&self.fonts, lexer.bytes(range), |glyph, is_space| {
                        let start = origin.0 + moved * pen.unit;
                        moved += glyph.advance * size + state.char_spacing;
                        if is_space {
                            moved += state.word_spacing;
                        }
                        let end = origin.0 + moved * pen.unit;
                        machine.page.paint(glyph.text.as_deref(), &pen, start, end);
                    });
                }
                Operand::Number(_) | Operand::Name(_) | Operand::Other => {}
            }
        }
        let step = match font.vertical {
            true => Matrix::translation(0.0, -moved),
            false => Matrix::translation(moved * scale, 0.0),
        };
        machine.text.matrix = step.then(machine.text.matrix);
    }

    /// `BMC`, `BDC`: marked content may be hidden, may be page furniture, may say what it stands for, and may be a part of
    /// the logical structure.
    fn begin_mark(
        &self,
        lexer: &Lexer,
        resources: Option<&'a Dictionary>,
        machine: &mut Machine<'a, '_>,
    ) {
        let document = self.document;
        let names: Vec<&[u8]> = lexer
            .operands
            .iter()
            .filter_map(|operand| match operand {
                Operand::Name(name) => Some(lexer.bytes(name)),
                Operand::Number(_) | Operand::String(_) | Operand::Other => None,
            })
            .collect();
        let is_inline = lexer.operands.contains(&Operand::Other);
        let properties = match (resources, &*names) {
            (Some(resources), [_, name]) if !is_inline => {
                objects::dictionary(document, resources, b"Properties").and_then(|all| {
                    Some((
                        all.get(name).ok()?,
                        objects::dictionary(document, all, name)?,
                    ))
                })
            }
            _ => None,
        };
        let stands_for = match properties {
            Some((_, properties)) => objects::value(document, properties, b"ActualText")
                .and_then(|text| text.as_str().ok())
                .map(objects::text_string),
            None => inline_actual_text(lexer),
        };
        let tag = names.first().copied().unwrap_or_default();
        let hidden = tag == b"OC" && self.is_hidden(properties.map(|(reference, _)| reference));
        let furniture =
            tag == b"Artifact" && self.is_furniture(&names, properties.map(|all| all.1));
        let content = match properties {
            _ if self.tags.is_empty() || machine.n_forms > 0 => None,
            Some((_, properties)) => objects::integer(document, properties, b"MCID")
                .and_then(|number| u32::try_from(number).ok()),
            None => inline_content(lexer),
        };
        machine.page.begin_mark(Mark {
            stands_for,
            hidden,
            furniture,
            tag: content.and_then(|content| self.tags.tag(machine.page.object, content)),
        });
    }

    /// Whether an artifact is a header, footer or page number. Where a file has a logical structure, one of no kind can be.
    fn is_furniture(&self, names: &[&[u8]], properties: Option<&Dictionary>) -> bool {
        let document = self.document;
        let is_pagination = |name: &[u8]| matches!(name, b"Pagination" | b"Header" | b"Footer");
        let (is_pagination, has_kind) = match properties {
            Some(properties) => {
                let mut kinds = [&b"Type"[..], b"Subtype"].into_iter();
                let is_pagination = kinds
                    .any(|key| objects::name(document, properties, key).is_some_and(is_pagination));
                (is_pagination, properties.has(b"Type"))
            }
            None => (
                names.iter().any(|name| is_pagination(name)),
                names.contains(&&b"Type"[..]),
            ),
        };
        is_pagination || !has_kind && self.tags.has_structure
    }

    /// Whether an optional content group, or every group of a membership, is switched off.
    fn is_hidden(&self, content: Option<&Object>) -> bool {
        let Some(content) = content.filter(|_| !self.hidden_layers.is_empty()) else {
            return false;
        };
        if let Ok(id) = content.as_reference()
            && self.hidden_layers.contains(&id)
        {
            return true;
        }
        let membership = objects::resolve(self.document, content).and_then(objects::as_dictionary);
        let Some(groups) = membership.and_then(|membership| membership.get(b"OCGs").ok()) else {
            return false;
        };
        let is_off = |group: &Object| {
            group
                .as_reference()
                .is_ok_and(|id| self.hidden_layers.contains(&id))
        };
        match objects::resolve(self.document, groups).and_then(|groups| groups.as_array().ok()) {
            Some(list) => !list.is_empty() && list.iter().all(is_off),
            None => is_off(groups),
        }
    }
}

impl<'a> Machine<'a, '_> {
    fn save(&mut self) {
        if self.saved.len() < MAX_SAVED_STATES {
            self.saved.push(self.state.clone());
        }
    }

    fn restore(&mut self) {
        if let Some(state) = self.saved.pop() {
            self.state = state;
        }
    }

    /// Puts back what the caller of a form had.
    fn leave(&mut self, call: Call<'a>) {
        if let Some(outer) = call.outer {
            self.state = outer.state;
            self.saved = outer.saved;
            self.text = outer.text;
            self.n_forms -= 1;
            self.page.end_marks_down_to(outer.n_marks);
        }
    }

    /// Path construction and painting.
    fn draw(&mut self, operator: &[u8], numbers: Numbers<'_>) {
        let ctm = self.state.ctm;
        let path = &mut self.page.path;
        match operator {
            b"m" => {
                if let Some([x, y]) = numbers.last() {
                    path.move_to(ctm.apply(x, y));
                }
            }
            b"l" => {
                if let Some([x, y]) = numbers.last() {
                    path.line_to(ctm.apply(x, y));
                }
            }
            b"c" | b"v" | b"y" => {
                if let Some([x, y]) = numbers.last() {
                    path.curve_to(ctm.apply(x, y));
                }
            }
            b"re" => {
                if let Some([x, y, width, height]) = numbers.last() {
                    path.move_to(ctm.apply(x, y));
                    path.line_to(ctm.apply(x + width, y));
                    path.line_to(ctm.apply(x + width, y + height));
                    path.line_to(ctm.apply(x, y + height));
                    path.close();
                }
            }
            b"h" => path.close(),
            b"S" => self.page.stroke_path(),
            b"s" => {
                path.close();
                self.page.stroke_path();
            }
            b"f" | b"F" | b"f*" => self.page.fill_path(),
            b"B" | b"B*" | b"b" | b"b*" => {
                if operator.starts_with(b"b") {
                    path.close();
                }
                self.page.stroke_and_fill_path();
            }
            b"n" => path.clear(),
            _ => {}
        }
    }
}

/// The operands of an operator that takes numbers.
#[derive(Clone, Copy)]
struct Numbers<'l>(&'l [Operand]);

impl Numbers<'_> {
    /// The last `N` operands, if all are numbers; extra ones before them are ignored, as other readers do.
    fn last<const N: usize>(self) -> Option<[f32; N]> {
        let start = self.0.len().checked_sub(N)?;
        let mut found = [0.0; N];
        for (slot, operand) in found.iter_mut().zip(self.0.get(start..)?) {
            let Operand::Number(number) = operand else {
                return None;
            };
            *slot = *number;
        }
        Some(found)
    }

    /// The two numbers before the string of `"`.
    fn first_two(self) -> Option<[f32; 2]> {
        match self.0 {
            [
                Operand::Number(first),
                Operand::Number(second),
                Operand::String(_),
            ] => Some([*first, *second]),
            _ => None,
        }
    }
}

/// `/ActualText` of a property list written in the stream.
fn inline_actual_text(lexer: &Lexer) -> Option<String> {
    lexer.operands.windows(2).find_map(|pair| match pair {
        [Operand::Name(key), Operand::String(text)] if lexer.bytes(key) == b"ActualText" => {
            Some(objects::text_string(lexer.bytes(text)))
        }
        _ => None,
    })
}

/// `/MCID` of a property list written in the stream: the number of the content among all of its page.
fn inline_content(lexer: &Lexer) -> Option<u32> {
    lexer.operands.windows(2).find_map(|pair| match pair {
        [Operand::Name(key), Operand::Number(number)] if lexer.bytes(key) == b"MCID" => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the numbers are small and whole; the cast saturates"
            )]
            let number = *number as u32;
            Some(number)
        }
        _ => None,
    })
}

/// The optional content groups that are off when the file is opened.
fn hidden_layers(document: &Document) -> HashSet<ObjectId> {
    let ids = |list: Option<&[Object]>| -> HashSet<ObjectId> {
        let list = list.unwrap_or_default().iter();
        list.filter_map(|object| object.as_reference().ok())
            .collect()
    };
    let Ok(catalog) = document.catalog() else {
        return HashSet::new();
    };
    let Some(properties) = objects::dictionary(document, catalog, b"OCProperties") else {
        return HashSet::new();
    };
    let Some(default) = objects::dictionary(document, properties, b"D") else {
        return HashSet::new();
    };
    if objects::name(document, default, b"BaseState") == Some(b"OFF") {
        let on = ids(objects::array(document, default, b"ON"));
        let all = ids(objects::array(document, properties, b"OCGs"));
        return all.difference(&on).copied().collect();
    }
    ids(objects::array(document, default, b"OFF"))
}

impl Pen {
    /// The pen for a font under the combined text and page matrix; `None` if the text has no extent.
    fn new(
        whole: Matrix,
        font: &Font<'_>,
        font_size: f32,
        horizontal_scale: f32,
        stroked: bool,
    ) -> Option<Pen> {
        // One unscaled unit of text space, forwards.
        let step = match font.vertical {
            true => whole.apply_vector(0.0, -1.0),
            false => whole.apply_vector(horizontal_scale, 0.0),
        };
        let sign = if font_size < 0.0 { -1.0 } else { 1.0 };
        let frame = Frame::along(step.0 * sign, step.1 * sign)?;
        let across = match font.vertical {
            true => whole.apply_vector(font_size, 0.0),
            false => whole.apply_vector(0.0, font_size),
        };
        let unit = step.0.hypot(step.1) * sign;
        let em = (unit * font_size).abs() * font.em;
        let size = across.0.hypot(across.1) * font.em;
        let usable = em.is_finite() && size.is_finite() && em > 0.01 && size > 0.01;
        usable.then_some(Pen {
            frame,
            unit,
            baseline: 0.0,
            size,
            em,
            bold: font.bold || stroked,
        })
    }
}
