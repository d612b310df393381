//! What is painted on one page: glyphs gathered into runs, lines and thin boxes into rules.
//!
//! Painting the same glyph twice at one place (fake bold) leaves one. Marked content that says what it stands for
//! (`/ActualText`) is replaced, hidden layers are left out.

use super::geometry::Frame;
use super::repainting::Painted;
use super::tags::Tag;

/// Marked content deeper than this is not told apart any more.
const MAX_MARKS: usize = 512;

/// Rules and path pieces kept for one page; what has more is a drawing, not a table.
const MAX_RULES: usize = 20_000;

/// A gap wider than this many em separates words: word spaces have 0.2 to 0.35 em, kerning and tracking less.
const WORD_GAP_EM: f32 = 0.17;

/// How far back a glyph may be set over the one before it, in em, and still follow it.
const OVERLAP_EM: f32 = 0.4;

/// Room that the text of a run begins with; most are shorter.
const RUN_BYTES: usize = 48;

/// Lines and boxes thinner than this, in points, can be the rule of a table; those shorter than this cannot.
const RULE_THICKNESS: f32 = 3.0;

/// What stands for a glyph that nothing in the file maps to text.
pub(super) const UNMAPPED: char = '\u{FFFD}';

/// Glyphs painted one after another on one baseline, without a word gap between them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    /// What they stand for; [`UNMAPPED`] for a glyph without text.
    pub(super) text: String,
    /// The direction they run in.
    pub(super) frame: Frame,
    /// Start along the baseline, in points.
    pub(super) start: f32,
    /// End along the baseline, in points.
    pub(super) end: f32,
    /// Where the baseline lies, in points; larger is further down.
    pub(super) baseline: f32,
    /// Height of the font in points.
    pub(super) size: f32,
    /// One em along the baseline in points (not `size` in condensed text).
    pub(super) em: f32,
    /// Whether they are painted heavier than text.
    pub(super) bold: bool,
    /// Whether the file marks them as a header, footer or page number.
    pub(super) furniture: bool,
    /// What they are a part of, if the file says.
    pub(super) tag: Option<Tag>,
}

/// A straight line along an axis, in points from the upper left corner: an edge of a table cell, or an underline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    /// Left end.
    pub(super) left: f32,
    /// Upper end.
    pub(super) top: f32,
    /// Right end; equals `left` if the line is upright.
    pub(super) right: f32,
    /// Lower end; equals `top` if the line is level.
    pub(super) bottom: f32,
}

/// How the glyphs of one string are painted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) frame: Frame,
    /// Points per unit of text space along the baseline; negative if the font is set backwards.
    pub(super) unit: f32,
    pub(super) baseline: f32,
    pub(super) size: f32,
    pub(super) em: f32,
    pub(super) bold: bool,
}

impl Pen {
    /// The same pen on another baseline.
    pub(super) fn on_baseline(self, baseline: f32) -> Pen {
        Pen { baseline, ..self }
    }
}

/// One page while it is painted, and when it is done.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Object number, by which the file's structure names it.
    pub(super) object: u32,
    /// Height of the upright page, in points.
    pub(super) height: f32,
    /// In the order of painting.
    pub(super) runs: Vec<Run>,
    /// In the order of painting.
    pub(super) rules: Vec<Rule>,
    /// The path under construction.
    pub(super) path: Path,
    /// Glyphs painted, without spaces.
    pub(super) n_glyphs: usize,
    /// Spaces painted as glyphs.
    pub(super) n_spaces: usize,
    /// Of the glyphs, those that nothing in the file maps to text.
    pub(super) n_unmapped: usize,
    /// Whether an image was painted.
    pub(super) has_image: bool,
    /// Whether curves were painted: drawings, or letters turned into outlines.
    pub(super) has_drawing: bool,
    /// Streams, fonts and forms that the page asks for and the file lacks, or that are damaged.
    pub(super) n_damaged: usize,
    /// Texts of annotations that are not painted.
    pub(super) notes: Vec<String>,
    /// What painting remembers.
    pub(super) memory: Memory,
}

/// Open marks, and what was painted where.
#[derive(Debug, Default)]
pub(super) struct Memory {
    marks: Vec<Mark>,
    n_marks_too_deep: usize,
    painted: Painted,
}

/// What marked content says about what is painted in it.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// What it stands for.
    pub(super) stands_for: Option<String>,
    /// Whether it lies on a layer that is off.
    pub(super) hidden: bool,
    /// Whether it is a header, footer or page number.
    pub(super) furniture: bool,
    /// What it is a part of.
    pub(super) tag: Option<Tag>,
}

impl Page {
    /// An empty page that takes over the room another page has grown, for as many glyphs.
    pub(super) fn after(memory: Memory) -> Page {
        let mut painted = memory.painted;
        painted.clear();
        Page {
            memory: Memory {
                painted,
                ..Memory::default()
            },
            ..Page::default()
        }
    }

    /// Starts a string: glyphs of one string never count as painted twice.
    pub(super) fn begin_show(&mut self) {
        self.memory.painted.begin_string();
    }

    /// Paints one glyph from `start` to `end` along the pen's baseline.
    pub(super) fn paint(&mut self, text: Option<&str>, pen: &Pen, start: f32, end: f32) {
        let mut replaced = None;
        let mut furniture = false;
        let mut tag = None;
        for mark in &mut self.memory.marks {
            if mark.hidden {
                return;
            }
            furniture |= mark.furniture;
            tag = mark.tag.or(tag);
            if replaced.is_none()
                && let Some(stands_for) = &mut mark.stands_for
            {
                // The first glyph carries the whole text, the others only their width.
                replaced = Some(std::mem::take(stands_for));
            }
        }
        let mut unmapped = [0; 4];
        let text = match (&replaced, text) {
            (Some(replaced), _) => replaced.as_str(),
            (None, Some(text)) => text,
            (None, None) => {
                self.n_unmapped += 1;
                UNMAPPED.encode_utf8(&mut unmapped)
            }
        };
        let (start, end) = (start.min(end), start.max(end));
        if !start.is_finite() || !end.is_finite() {
            return;
        }
        if let Some(character) = text.chars().next().filter(|c| !c.is_whitespace()) {
            self.n_glyphs += 1;
            if self.memory.painted.is_repainted(character, pen, start) {
                if let Some(run) = self.runs.last_mut() {
                    run.bold = true;
                }
                return;
            }
        } else {
            self.n_spaces += usize::from(!text.is_empty());
        }
        let run = self
            .runs
            .last_mut()
            .filter(|run| run.tag == tag && run.is_followed_by(pen, start));
        match run {
            Some(run) => {
                run.text.push_str(text);
                run.end = run.end.max(end);
            }
            None if text.is_empty() => {}
            None => self.runs.push(Run {
                text: begun(text),
                frame: pen.frame,
                start,
                end,
                baseline: pen.baseline,
                size: pen.size,
                em: pen.em,
                bold: pen.bold,
                furniture,
                tag,
            }),
        }
    }

    /// Whether word spaces are painted as glyphs, not only left free. Korean has a space for about four syllables.
    pub(super) fn paints_spaces(&self) -> bool {
        self.n_spaces * 15 >= self.n_glyphs
    }

    /// Opens marked content.
    pub(super) fn begin_mark(&mut self, mark: Mark) {
        if self.memory.marks.len() >= MAX_MARKS {
            self.memory.n_marks_too_deep += 1;
            return;
        }
        self.memory.marks.push(mark);
    }

    /// Closes the innermost marked content.
    pub(super) fn end_mark(&mut self) {
        match self.memory.n_marks_too_deep.checked_sub(1) {
            Some(left) => self.memory.n_marks_too_deep = left,
            None => {
                self.memory.marks.pop();
            }
        }
    }

    /// How many marks are open.
    pub(super) fn n_marks(&self) -> usize {
        self.memory.marks.len()
    }

    /// Closes marks that a form left open.
    pub(super) fn end_marks_down_to(&mut self, n_marks: usize) {
        if self.memory.marks.len() > n_marks {
            self.memory.n_marks_too_deep = 0;
            self.memory.marks.truncate(n_marks);
        }
    }

    /// Paints the outline of the path.
    pub(super) fn stroke_path(&mut self) {
        self.has_drawing |= self.path.is_curved;
        for &rule in &self.path.segments {
            add_rule(&mut self.rules, rule);
        }
        self.path.clear();
    }

    /// Paints the inside of the path: a thin box is a line.
    pub(super) fn fill_path(&mut self) {
        self.has_drawing |= self.path.is_curved;
        for &rule in &self.path.boxes {
            add_rule(&mut self.rules, rule);
        }
        self.path.clear();
    }

    /// Paints both.
    pub(super) fn stroke_and_fill_path(&mut self) {
        self.stroke_path();
    }
}

impl Run {
    fn is_followed_by(&self, pen: &Pen, start: f32) -> bool {
        let gap = start - self.end;
        self.frame.degrees == pen.frame.degrees
            && gap <= WORD_GAP_EM * pen.em
            && gap >= -OVERLAP_EM * pen.em
            && (self.baseline - pen.baseline).abs() <= 0.05 * pen.size
            && (self.size - pen.size).abs() <= 0.1 * pen.size
            && self.bold == pen.bold
    }
}

/// The text of a run that begins, with room for some words.
fn begun(text: &str) -> String {
    let mut begun = String::with_capacity(RUN_BYTES.max(text.len()));
    begun.push_str(text);
    begun
}

/// Keeps a line or thin box as a rule, drawn along its middle.
fn add_rule(rules: &mut Vec<Rule>, mut rule: Rule) {
    let (width, height) = (rule.right - rule.left, rule.bottom - rule.top);
    if rules.len() >= MAX_RULES || !width.is_finite() || !height.is_finite() {
        return;
    }
    if height <= RULE_THICKNESS && width > RULE_THICKNESS {
        rule.top += height / 2.0;
        rule.bottom = rule.top;
        rules.push(rule);
    } else if width <= RULE_THICKNESS && height > RULE_THICKNESS {
        rule.left += width / 2.0;
        rule.right = rule.left;
        rules.push(rule);
    }
}

/// A path under construction: its straight pieces, and the box around each part.
#[derive(Debug, Default)]
pub(super) struct Path {
    segments: Vec<Rule>,
    boxes: Vec<Rule>,
    start: Option<(f32, f32)>,
    at: Option<(f32, f32)>,
    is_curved: bool,
}

impl Path {
    pub(super) fn move_to(&mut self, point: (f32, f32)) {
        self.start = Some(point);
        self.at = Some(point);
        if self.boxes.len() < MAX_RULES {
            self.boxes.push(around(point, point));
        }
    }

    pub(super) fn line_to(&mut self, point: (f32, f32)) {
        if let Some(at) = self.at
            && self.segments.len() < MAX_RULES
        {
            self.segments.push(around(at, point));
        }
        self.extend(point);
    }

    pub(super) fn curve_to(&mut self, point: (f32, f32)) {
        self.is_curved = true;
        self.extend(point);
    }

    pub(super) fn close(&mut self) {
        if let Some(start) = self.start {
            self.line_to(start);
        }
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.boxes.clear();
        self.start = None;
        self.at = None;
        self.is_curved = false;
    }

    fn extend(&mut self, point: (f32, f32)) {
        self.at = Some(point);
        if let Some(bounds) = self.boxes.last_mut() {
            bounds.left = bounds.left.min(point.0);
            bounds.right = bounds.right.max(point.0);
            bounds.top = bounds.top.min(point.1);
            bounds.bottom = bounds.bottom.max(point.1);
        }
    }
}

fn around(from: (f32, f32), to: (f32, f32)) -> Rule {
    Rule {
        left: from.0.min(to.0),
        top: from.1.min(to.1),
        right: from.0.max(to.0),
        bottom: from.1.max(to.1),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes 10 point text from left to right.
    pub(in crate::document::pdf) const PEN: Pen = Pen {
        frame: Frame::HORIZONTAL,
        unit: 1.0,
        baseline: 100.0,
        size: 10.0,
        em: 10.0,
        bold: false,
    };

    fn texts(page: &Page) -> Vec<&str> {
        page.runs.iter().map(|run| run.text.as_str()).collect()
    }

    #[test]
    fn glyphs_that_touch_are_one_run() {
        let mut page = Page::default();
        page.begin_show();
        page.paint(Some("휴"), &PEN, 10.0, 20.0);
        page.paint(Some("직"), &PEN, 20.5, 30.5);
        page.paint(Some("기"), &PEN, 33.0, 43.0);
        page.paint(Some("간"), &PEN.on_baseline(120.0), 43.0, 53.0);
        assert_eq!(texts(&page), ["휴직", "기", "간"]);
    }

    #[test]
    fn fake_bold_is_painted_once() {
        let mut page = Page::default();
        for shift in [0.0, 0.4] {
            page.begin_show();
            page.paint(Some("ㅋ"), &PEN, 10.0 + shift, 20.0 + shift);
            page.paint(Some("ㅋ"), &PEN, 20.0 + shift, 30.0 + shift);
        }
        assert_eq!(texts(&page), ["ㅋㅋ"]);
        assert!(page.runs[0].bold);
    }

    #[test]
    fn equal_glyphs_of_one_string_stay() {
        let mut page = Page::default();
        page.begin_show();
        for _ in 0..3 {
            page.paint(Some("1"), &PEN, 10.0, 10.0);
        }
        assert_eq!(texts(&page), ["111"]);
    }

    #[test]
    fn actual_text_replaces_what_is_painted() {
        let mut page = Page::default();
        page.begin_mark(Mark {
            stands_for: Some("휴직".to_owned()),
            ..Mark::default()
        });
        page.begin_show();
        page.paint(Some("x"), &PEN, 10.0, 20.0);
        page.paint(None, &PEN, 20.0, 30.0);
        page.end_mark();
        page.paint(Some("은"), &PEN, 30.0, 40.0);
        page.begin_mark(Mark {
            hidden: true,
            ..Mark::default()
        });
        page.paint(Some("숨은"), &PEN, 40.0, 60.0);
        assert_eq!(texts(&page), ["휴직은"]);
        assert_eq!(page.n_unmapped, 0);
    }

    #[test]
    fn unmapped_glyphs_are_counted() {
        let mut page = Page::default();
        page.begin_show();
        page.paint(None, &PEN, 10.0, 20.0);
        page.paint(Some("직"), &PEN, 20.0, 30.0);
        assert_eq!(texts(&page), ["\u{FFFD}직"]);
        assert_eq!((page.n_glyphs, page.n_unmapped), (2, 1));
    }

    #[test]
    fn lines_and_thin_boxes_are_rules() {
        let mut page = Page::default();
        page.path.move_to((0.0, 10.0));
        page.path.line_to((100.0, 10.0));
        page.stroke_path();
        // A filled box half a point high, and one too large to be a line.
        for height in [0.5, 30.0] {
            page.path.move_to((0.0, 20.0));
            page.path.line_to((100.0, 20.0));
            page.path.line_to((100.0, 20.0 + height));
            page.path.line_to((0.0, 20.0 + height));
            page.path.close();
            page.fill_path();
        }
        let tops: Vec<f32> = page.rules.iter().map(|rule| rule.top).collect();
        assert_eq!(tops, [10.0, 20.25]);
    }
}
