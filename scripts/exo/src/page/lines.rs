//! Curves as inline SVG: each has its name at its end, so that nobody needs to find a colour in a legend.

use super::{coordinate, escape};
use crate::units::thousands;
use std::fmt::Write;

/// A curve.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points; x ascends.
    pub points: Vec<(f64, f64)>,
    /// Class of its colour, see [`super::series_class`].
    pub class: String,
}

/// What the heights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Shares from 0 to 1, shown as percentages; the axis has all of them.
    Share,
    /// Numbers from 0 on.
    Count,
}

/// A chart.
pub struct Chart<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Name of the axis to the right.
    pub x_name: &'a str,
    /// Heights.
    pub scale: Scale,
    /// Curves.
    pub lines: &'a [Line],
}

/// Width of the drawing.
const WIDTH: f64 = 760.0;
/// Height of the drawing.
const HEIGHT: f64 = 380.0;
/// Edges of the area of the curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 130.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = HEIGHT - 44.0;
/// Distance of two names.
const NAME_STEP: f64 = 14.0;
/// Up to so many points are dotted.
const DOTTED: usize = 24;

/// Where values are in the drawing.
struct Axes {
    least: f64,
    most: f64,
    highest: f64,
    scale: Scale,
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        let width = self.most - self.least;
        LEFT + if width > 0.0 { (value - self.least) / width * (RIGHT - LEFT) } else { (RIGHT - LEFT) / 2.0 }
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - if self.highest > 0.0 { value / self.highest * (BOTTOM - TOP) } else { 0.0 }
    }

    fn height(&self, value: f64) -> String {
        match self.scale {
            Scale::Share => format!("{:.0} %", value * 100.0),
            Scale::Count => thousands(value.round() as u64),
        }
    }
}

impl Chart<'_> {
    /// As SVG; nothing if there is no point.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().next().is_none() {
            return String::new();
        }
        let axes = Axes {
            least: points().map(|point| point.0).fold(f64::INFINITY, f64::min),
            most: points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max),
            highest: match self.scale {
                Scale::Share => 1.0,
                Scale::Count => points().map(|point| point.1).fold(0.0, f64::max),
            },
            scale: self.scale,
        };
        let title = escape(self.title);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}. {}\">\n<text x=\"0\" y=\"18\" \
             class=\"title\">{title}</text>\n",
            escape(&self.spoken(&axes))
        );
        self.grid(&axes, &mut svg);
        for (line, name_y) in self.lines.iter().zip(self.name_heights(&axes)) {
            curve(line, &axes, name_y, &mut svg);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The chart in words: where each curve begins and ends.
    fn spoken(&self, axes: &Axes) -> String {
        let words = |line: &Line| -> Option<String> {
            let (first, last) = (line.points.first()?, line.points.last()?);
            Some(format!(
                "{}: {} at {}, {} at {}",
                line.name,
                axes.height(first.1),
                thousands(first.0 as u64),
                axes.height(last.1),
                thousands(last.0 as u64)
            ))
        };
        let all: Vec<String> = self.lines.iter().filter_map(words).collect();
        format!("Over {}: {}", self.x_name, all.join("; "))
    }

    /// Axes, their numbers and names.
    fn grid(&self, axes: &Axes, svg: &mut String) {
        for value in ticks(0.0, axes.highest) {
            let y = axes.y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0}\" y2=\"{0}\" class=\"grid\"/><text x=\"{1}\" y=\"{2}\" \
                 text-anchor=\"end\" class=\"axis\">{3}</text>",
                coordinate(y),
                coordinate(LEFT - 8.0),
                coordinate(y + 4.0),
                escape(&axes.height(value))
            );
        }
        for value in ticks(axes.least, axes.most) {
            let x = coordinate(axes.x(value));
            let _ = writeln!(
                svg,
                "<line x1=\"{x}\" x2=\"{x}\" y1=\"{BOTTOM}\" y2=\"{}\" class=\"grid\"/><text x=\"{x}\" y=\"{}\" \
                 text-anchor=\"middle\" class=\"axis\">{}</text>",
                coordinate(BOTTOM + 5.0),
                coordinate(BOTTOM + 19.0),
                thousands(value as u64)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" class=\"axis\">{}</text>",
            coordinate((LEFT + RIGHT) / 2.0),
            coordinate(HEIGHT - 6.0),
            escape(self.x_name)
        );
    }

    /// Where the names stand: at the ends of the curves, moved apart as far as is needed. Curves that end in
    /// the same place are in the order in which they run.
    fn name_heights(&self, axes: &Axes) -> Vec<f64> {
        let end = |line: &Line| line.points.last().map_or(BOTTOM, |point| axes.y(point.1));
        let mean = |line: &Line| {
            line.points.iter().map(|point| axes.y(point.1)).sum::<f64>() / line.points.len().max(1) as f64
        };
        let places: Vec<(f64, f64)> = self.lines.iter().map(|line| (end(line).round(), mean(line))).collect();
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by(|a, b| {
            let ((end_a, mean_a), (end_b, mean_b)) = (places[*a], places[*b]);
            end_a.total_cmp(&end_b).then(mean_a.total_cmp(&mean_b))
        });
        let mut heights = vec![0.0; self.lines.len()];
        let mut free = TOP;
        for index in &order {
            heights[*index] = end(&self.lines[*index]).max(free);
            free = heights[*index] + NAME_STEP;
        }
        let mut limit = BOTTOM + NAME_STEP;
        for index in order.iter().rev() {
            heights[*index] = heights[*index].min(limit);
            limit = heights[*index] - NAME_STEP;
        }
        heights
    }
}

/// A curve, its dots, and its name behind a piece of the curve, with a line to it.
fn curve(line: &Line, axes: &Axes, name_y: f64, svg: &mut String) {
    let Some(last) = line.points.last() else { return };
    let places: Vec<String> = line
        .points
        .iter()
        .map(|(x, y)| format!("{},{}", coordinate(axes.x(*x)), coordinate(axes.y(*y))))
        .collect();
    let _ = write!(
        svg,
        "<g class=\"{}\"><polyline points=\"{}\" class=\"curve\"/>",
        escape(&line.class),
        places.join(" ")
    );
    if line.points.len() <= DOTTED {
        for (x, y) in &line.points {
            let (x, y) = (coordinate(axes.x(*x)), coordinate(axes.y(*y)));
            let _ = write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
        }
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{}\" y1=\"{}\" x2=\"{sample}\" y2=\"{y}\" class=\"lead\"/><line x1=\"{sample}\" x2=\"{}\" \
         y1=\"{y}\" y2=\"{y}\" class=\"curve\"/><text x=\"{}\" y=\"{}\" class=\"name\">{}</text></g>",
        coordinate(axes.x(last.0)),
        coordinate(axes.y(last.1)),
        coordinate(RIGHT + 36.0),
        coordinate(RIGHT + 42.0),
        coordinate(name_y + 4.0),
        escape(&line.name),
        sample = coordinate(RIGHT + 12.0),
        y = coordinate(name_y),
    );
}

/// Round numbers between two values: four to nine of them, in steps of 1, 2 or 5 times a power of ten.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let width = most - least;
    if width <= 0.0 {
        return vec![least];
    }
    let power = 10_f64.powf((width / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| width / step <= 8.0);
    let step = step.unwrap_or(width);
    let first = (least / step).ceil();
    // Rounding must not lose the last.
    let count = ((most / step + 1e-9).floor() - first) as usize;
    (0..=count).map(|number| (first + number as f64) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{document, tests::stands_alone};
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.into(), points: points.to_vec(), class: "c0 d0".into() }
    }

    #[test]
    fn points_are_where_they_belong() {
        let lines = [line("a<b", &[(100.0, 1.0), (200.0, 0.5)])];
        let chart = Chart { title: "misses", x_name: "blocks", scale: Scale::Share, lines: &lines };
        let svg = chart.svg();
        let middle = (TOP + BOTTOM) / 2.0;
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{TOP:.1} {RIGHT:.1},{middle:.1}\"")), "{svg}");
        assert!(svg.contains("a&lt;b: 100 % at 100, 50 % at 200"), "{svg}");
        stands_alone(&document("t", &svg));
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let lines: Vec<Line> = (0..16).map(|_| line("x", &[(1.0, 0.1), (2.0, 0.0)])).collect();
        let chart = Chart { title: "t", x_name: "x", scale: Scale::Share, lines: &lines };
        let axes = Axes { least: 1.0, most: 2.0, highest: 1.0, scale: Scale::Share };
        let mut heights = chart.name_heights(&axes);
        heights.sort_by(f64::total_cmp);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= NAME_STEP - 1e-9), "{heights:?}");
        assert!(heights[15] <= BOTTOM + NAME_STEP && heights[0] >= 0.0, "{heights:?}");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(130.0, 1000.0), [200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!(ticks(5.0, 5.0), [5.0]);
        for most in [1.0, 3.0, 17.0, 99.0, 1e4, 1.5e9] {
            assert!((4..=9).contains(&ticks(0.0, most).len()), "{most}: {:?}", ticks(0.0, most));
        }
    }

    #[test]
    fn nothing_divides_by_zero() {
        let one = [line("x", &[(7.0, 0.0)])];
        for scale in [Scale::Share, Scale::Count] {
            stands_alone(&document("t", &Chart { title: "t", x_name: "x", scale, lines: &one }.svg()));
        }
        assert_eq!(Chart { title: "t", x_name: "x", scale: Scale::Count, lines: &[] }.svg(), "");
    }
}
