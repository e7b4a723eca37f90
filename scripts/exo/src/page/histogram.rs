//! Histograms as inline SVG: the shares of several series in the same classes, beside each other.

use super::{coordinate, escape};
use std::fmt::Write;

/// The shares of a series.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Shares from 0 to 1, one for each class.
    pub shares: Vec<f64>,
    /// Class of its colour, see [`super::series_class`].
    pub class: String,
}

/// Width of the drawing.
const WIDTH: f64 = 760.0;
/// Left edge of the bars.
const LEFT: f64 = 64.0;
/// Upper edge of the first panel.
const TOP: f64 = 30.0;
/// Height of the bars of one series.
const PANEL: f64 = 70.0;
/// Room for the name of a series above its bars.
const NAME: f64 = 30.0;

/// A panel with bars for each series, all on the same scale, one above the other. `classes` are the names of
/// the classes.
pub fn histogram(title: &str, x_name: &str, classes: &[String], series: &[Series]) -> String {
    let highest = series.iter().flat_map(|series| &series.shares).copied().fold(0.0, f64::max);
    if highest <= 0.0 {
        return String::new();
    }
    let bottom = TOP + (NAME + PANEL) * series.len() as f64;
    let height = bottom + 44.0;
    let title = escape(title);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}. {}\">\n<text x=\"0\" y=\"18\" \
         class=\"title\">{title}</text>\n",
        escape(&spoken(classes, series))
    );
    let step = (WIDTH - LEFT) / classes.len() as f64;
    for (number, series) in series.iter().enumerate() {
        let base = TOP + (NAME + PANEL) * (number + 1) as f64;
        panel(series, base, step, highest, &mut svg);
    }
    for (index, class) in classes.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" class=\"axis\">{}</text>",
            coordinate(LEFT + step * (index as f64 + 0.5)),
            coordinate(bottom + 16.0),
            escape(class)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" class=\"axis\">{}</text>\n</svg>",
        coordinate((LEFT + WIDTH) / 2.0),
        coordinate(bottom + 36.0),
        escape(x_name)
    );
    svg
}

/// Bars of a series, which stand on `base`.
fn panel(series: &Series, base: f64, step: f64, highest: f64, svg: &mut String) {
    let _ = write!(
        svg,
        "<g class=\"{}\"><line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{base:.1}\" y2=\"{base:.1}\" class=\"grid\"/>\
         <text x=\"{LEFT}\" y=\"{}\" class=\"name\">{}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\" \
         class=\"axis\">{:.0} %</text>",
        escape(&series.class),
        coordinate(base - PANEL - 4.0),
        escape(&series.name),
        coordinate(LEFT - 8.0),
        coordinate(base - PANEL + 10.0),
        highest * 100.0
    );
    for (index, share) in series.shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let height = (share / highest * PANEL).max(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            coordinate(LEFT + step * (index as f64 + 0.1)),
            coordinate(base - height),
            coordinate(step * 0.8),
            coordinate(height)
        );
    }
    svg.push_str("</g>\n");
}

/// The largest class of each series.
fn spoken(classes: &[String], series: &[Series]) -> String {
    let words = |series: &Series| {
        let most = series.shares.iter().zip(classes).max_by(|a, b| a.0.total_cmp(b.0));
        most.map(|(share, class)| format!("{}: most, {:.0} %, at {class}", series.name, share * 100.0))
    };
    series.iter().filter_map(words).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::{document, tests::stands_alone};
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let series = |name: &str, shares: [f64; 2]| Series {
            name: name.into(),
            shares: shares.into(),
            class: "own".into(),
        };
        let all = [series("a", [0.8, 0.2]), series("b", [0.0, 0.4])];
        let svg = histogram("ages", "references", &["1".into(), "2–3".into()], &all);
        for height in ["70.0", "17.5", "35.0"] {
            assert!(svg.contains(&format!("height=\"{height}\"/>")), "{height}: {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("a: most, 80 %, at 1"), "{svg}");
        stands_alone(&document("t", &svg));
        assert_eq!(histogram("t", "x", &["1".into()], &[series("a", [0.0, 0.0])]), "");
    }
}
