//! A drawing, as SVG text: lines, boxes and words in a frame with axes.

use std::fmt::Write;

/// Width of a drawing, in its units.
const WIDTH: f64 = 720.0;
/// Height of one with axes.
pub const HEIGHT: f64 = 420.0;
/// The frame of its axes.
pub const LEFT: f64 = 80.0;
/// See [`LEFT`].
pub const RIGHT: f64 = 540.0;
/// See [`LEFT`].
pub const TOP: f64 = 50.0;
/// See [`LEFT`].
pub const BOTTOM: f64 = 360.0;

/// Where a word's position is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its begin.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// As SVG has it.
    pub colour: &'static str,
    /// In the drawing's units.
    pub width: f64,
    /// Lengths of dashes and gaps; empty for none.
    pub dashes: &'static str,
}

/// A drawing in the making.
#[derive(Debug)]
pub struct Drawing {
    text: String,
}

impl Drawing {
    /// With a title and its unit, so high.
    pub fn new(title: &str, unit: &str, height: f64) -> Drawing {
        let mut drawing = Drawing {
            text: String::new(),
        };
        drawing.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"
        ));
        drawing.word(LEFT, TOP - 28.0, Anchor::Start, title);
        drawing.word(LEFT, TOP - 10.0, Anchor::Start, unit);
        drawing
    }

    /// The lower axis, with words below it.
    pub fn horizontal_axis(&mut self, words: &str) {
        let axis = Stroke {
            colour: "black",
            width: 1.0,
            dashes: "",
        };
        self.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], axis);
        let middle = f64::midpoint(LEFT, RIGHT);
        self.word(middle, BOTTOM + 40.0, Anchor::Middle, words);
    }

    /// Lines across at round numbers from 0 to `most` or a little more, with the numbers; answers where a number is.
    pub fn vertical_axis(&mut self, most: f64) -> impl Fn(f64) -> f64 + use<> {
        let step = step(most);
        let count = (most / step).ceil().max(1.0) as u32;
        let top = f64::from(count) * step;
        let place = move |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
        for value in (0..=count).map(|index| f64::from(index) * step) {
            let y = place(value);
            let across = Stroke {
                colour: "#dddddd",
                width: 1.0,
                dashes: "",
            };
            self.line(&[(LEFT, y), (RIGHT, y)], across);
            self.word(LEFT - 8.0, y + 4.0, Anchor::End, &format!("{value}"));
        }
        place
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-dasharray=\"{}\"/>",
            points.join(" "),
            stroke.colour,
            stroke.width,
            stroke.dashes
        ));
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        self.put(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        ));
    }

    /// A box that stands on the lower axis.
    pub fn bar(&mut self, left: f64, width: f64, top: f64, colour: &str) {
        self.put(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            BOTTOM - top
        ));
    }

    /// A word.
    pub fn word(&mut self, x: f64, y: f64, anchor: Anchor, word: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let word = word.replace('&', "&amp;").replace('<', "&lt;");
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{word}</text>"
        ));
    }

    /// The whole drawing.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn put(&mut self, element: std::fmt::Arguments) {
        writeln!(self.text, "{element}").expect("writing to a string succeeds");
    }
}

/// A round number of which about five make `most`.
fn step(most: f64) -> f64 {
    let least = (most / 6.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(least.log10().floor());
    let multiples = [1.0, 2.0, 5.0, 10.0];
    let fitting = multiples.map(|multiple| multiple * power);
    fitting
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([3000.0, 70.0, 1.1].map(step), [500.0, 20.0, 0.2]);
    }

    #[test]
    fn the_axis_reaches_over_the_most() {
        let mut drawing = Drawing::new("a & b", "ms", HEIGHT);
        let place = drawing.vertical_axis(3100.0);
        assert_eq!(place(0.0), BOTTOM);
        assert_eq!(place(4000.0), TOP);
        let text = drawing.finish();
        assert!(
            text.contains(">4000<") && text.contains("a &amp; b"),
            "{text}"
        );
        assert!(text.ends_with("</svg>\n"));
    }
}
