//! Points, transformations and text directions on a page.
//!
//! Pages are turned upright first (`/Rotate`), and `y` grows downwards from there, so that "later in reading" is "larger"
//! on both axes.

/// An affine transformation `[a b c d e f]` as PDF writes it: `x' = a·x + c·y + e`, `y' = b·x + d·y + f`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Matrix {
    pub(super) a: f32,
    pub(super) b: f32,
    pub(super) c: f32,
    pub(super) d: f32,
    pub(super) e: f32,
    pub(super) f: f32,
}

impl Matrix {
    pub(super) const IDENTITY: Matrix = Matrix {
        a: 1.0,
        b: 0.0,
        c: 0.0,
        d: 1.0,
        e: 0.0,
        f: 0.0,
    };

    /// From six numbers in PDF's order.
    pub(super) fn new([a, b, c, d, e, f]: [f32; 6]) -> Matrix {
        Matrix { a, b, c, d, e, f }
    }

    /// A move by `(x, y)`.
    pub(super) fn translation(x: f32, y: f32) -> Matrix {
        Matrix {
            e: x,
            f: y,
            ..Matrix::IDENTITY
        }
    }

    /// First `self`, then `outer`.
    pub(super) fn then(self, outer: Matrix) -> Matrix {
        let (e, f) = outer.apply(self.e, self.f);
        let (a, b) = outer.apply_vector(self.a, self.b);
        let (c, d) = outer.apply_vector(self.c, self.d);
        Matrix { a, b, c, d, e, f }
    }

    /// Where the point `(x, y)` goes.
    pub(super) fn apply(self, x: f32, y: f32) -> (f32, f32) {
        (
            self.a * x + self.c * y + self.e,
            self.b * x + self.d * y + self.f,
        )
    }

    /// What becomes of the vector `(x, y)`: the move is left out.
    pub(super) fn apply_vector(self, x: f32, y: f32) -> (f32, f32) {
        (self.a * x + self.c * y, self.b * x + self.d * y)
    }
}

/// The matrix from a page's user space to upright coordinates with `y` downwards.
///
/// `media_box` is `[left, bottom, right, top]`, `rotate` in degrees clockwise.
pub(super) fn upright(media_box: [f32; 4], rotate: i64) -> Matrix {
    let [left, bottom, right, top] = media_box;
    match rotate.rem_euclid(360) {
        90 => Matrix::new([0.0, 1.0, 1.0, 0.0, -bottom, -left]),
        180 => Matrix::new([-1.0, 0.0, 0.0, 1.0, right, -bottom]),
        270 => Matrix::new([0.0, -1.0, -1.0, 0.0, top, right]),
        _ => Matrix::new([1.0, 0.0, 0.0, -1.0, -left, top]),
    }
}

/// The frame of a baseline: `u` runs along it in reading direction, `v` across it towards the next line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    /// Whole degrees from the page's horizontal; text of different angles never shares a line.
    pub(super) degrees: i16,
    x: f32,
    y: f32,
}

impl Frame {
    pub(super) const HORIZONTAL: Frame = Frame {
        degrees: 0,
        x: 1.0,
        y: 0.0,
    };

    /// The frame of text that advances along the vector `(x, y)`; `None` if it does not advance at all.
    pub(super) fn along(x: f32, y: f32) -> Option<Frame> {
        let length = x.hypot(y);
        if !length.is_finite() || length <= f32::EPSILON {
            return None;
        }
        let (x, y) = (x / length, y / length);
        if x > 0.9999 {
            return Some(Frame::HORIZONTAL);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an angle lies within ±180 degrees"
        )]
        let degrees = y.atan2(x).to_degrees().round() as i16;
        Some(Frame { degrees, x, y })
    }

    /// A point's `(u, v)`.
    pub(super) fn project(self, (x, y): (f32, f32)) -> (f32, f32) {
        (x * self.x + y * self.y, y * self.x - x * self.y)
    }

    /// The point at `(u, v)`.
    pub(super) fn unproject(self, (u, v): (f32, f32)) -> (f32, f32) {
        (u * self.x - v * self.y, u * self.y + v * self.x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_turned_upright() {
        let check = |rotate, point: (f32, f32), expected| {
            let page = upright([0.0, 0.0, 600.0, 800.0], rotate);
            assert_eq!(page.apply(point.0, point.1), expected, "{rotate}");
        };
        check(0, (10.0, 790.0), (10.0, 10.0));
        // Clockwise by 90°: the lower left corner of the paper is the upper left of what is seen.
        check(90, (0.0, 0.0), (0.0, 0.0));
        check(90, (0.0, 800.0), (800.0, 0.0));
        check(180, (600.0, 0.0), (0.0, 0.0));
        check(270, (600.0, 800.0), (0.0, 0.0));
    }

    #[test]
    fn transformations_apply_inside_out() {
        let scaled = Matrix::new([2.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        let moved = scaled.then(Matrix::translation(5.0, 0.0));
        assert_eq!(moved.apply(1.0, 1.0), (7.0, 2.0));
    }

    #[test]
    fn frames_follow_the_text() {
        let check = |vector: (f32, f32), degrees, point, expected| {
            let frame = Frame::along(vector.0, vector.1).unwrap();
            assert_eq!(frame.degrees, degrees);
            assert_eq!(frame.project(point), expected);
            assert_eq!(frame.unproject(expected), point);
        };
        check((3.0, 0.0), 0, (4.0, 5.0), (4.0, 5.0));
        // Vertical writing: down the page, the next column to the left.
        check((0.0, 1.0), 90, (4.0, 5.0), (5.0, -4.0));
        assert_eq!(Frame::along(0.0, 0.0), None);
        assert_eq!(Frame::along(f32::NAN, 0.0), None);
    }
}
