//! Bar charts as inline SVG: text and shapes only, colours from the page.

use super::escape;
use std::fmt::Write;

/// A bar.
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length, in the units of the chart.
    pub value: f64,
    /// The value as text.
    pub text: String,
    /// Class of its colour: `default`, `own` or `other`.
    pub class: String,
}

/// A mark across all bars.
pub struct Mark {
    /// Where.
    pub value: f64,
    /// What it says.
    pub label: String,
}

/// Width of the drawing.
const WIDTH: f64 = 640.0;
/// Room for labels on the left.
const LEFT: f64 = 84.0;
/// Room for values on the right.
const RIGHT: f64 = 110.0;
/// Height of a bar with the gap below.
const STEP: f64 = 34.0;
/// Height of a bar.
const THICK: f64 = 22.0;

/// A chart with horizontal bars. `title` is its heading, `unit` goes into the text for screen readers.
pub fn bars(title: &str, unit: &str, bars: &[Bar], mark: Option<&Mark>) -> String {
    let longest = bars.iter().map(|bar| bar.value).chain(mark.map(|mark| mark.value)).fold(0.0, f64::max);
    let scale = if longest > 0.0 { (WIDTH - LEFT - RIGHT) / longest } else { 0.0 };
    let top = 34.0;
    let bottom = top + STEP * bars.len() as f64;
    let height = bottom + if mark.is_some() { 22.0 } else { 6.0 };
    let spoken: Vec<String> = bars.iter().map(|bar| format!("{}: {} {unit}", bar.label, bar.text)).collect();
    let title = escape(title);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}. {}\">\n<text x=\"0\" y=\"18\" \
         class=\"title\">{title}</text>\n",
        escape(&spoken.join("; "))
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = top + STEP * index as f64;
        let middle = y + THICK / 2.0 + 5.0;
        let length = (bar.value * scale).max(1.0);
        // The value stands behind the bar, or behind the mark if that would run through it.
        let end = LEFT + length + 8.0;
        let crossing =
            mark.map(|mark| LEFT + mark.value * scale).filter(|x| (end - 8.0..end + 60.0).contains(x));
        let value_x = crossing.map_or(end, |x| x.max(end - 8.0) + 8.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{THICK}\" rx=\"3\" class=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{middle:.1}\" class=\"value\">{}</text>",
            LEFT - 10.0,
            escape(&bar.label),
            escape(&bar.class),
            value_x,
            escape(&bar.text)
        );
    }
    if let Some(mark) = mark {
        let x = LEFT + mark.value * scale;
        // Keep the words inside the drawing whichever end the mark is at.
        let anchor = if x > WIDTH / 2.0 { "end" } else { "start" };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" class=\"mark\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" class=\"note\">{}</text>",
            top - 5.0,
            bottom,
            bottom + 14.0,
            escape(&mark.label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_text_is_escaped() {
        let bar = |label: &str, value| Bar {
            label: label.into(),
            value,
            text: format!("{value}"),
            class: "own".into(),
        };
        let svg = bars("a < b", "blocks", &[bar("one", 100.0), bar("two", 50.0)], None);
        assert!(svg.contains("width=\"446.0\"") && svg.contains("width=\"223.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert!(svg.contains("one: 100 blocks; two: 50 blocks"));
    }

    #[test]
    fn nothing_divides_by_zero() {
        let bar = Bar { label: "x".into(), value: 0.0, text: "0".into(), class: "own".into() };
        let svg = bars("t", "u", &[bar], Some(&Mark { value: 0.0, label: "m".into() }));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
