//! Curves in the terminal.

/// A curve.
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Points; x ascends.
    pub points: Vec<(f64, f64)>,
}

/// Signs of the curves, in their order; when they run out they begin again.
const SIGNS: [char; 16] = ['o', 'x', '+', '#', '*', '@', '%', '=', '~', 'v', '^', 's', 'q', 'z', 'k', 'n'];
/// What several curves in the same place look like.
const SEVERAL: char = '&';
/// Columns of the drawing.
const COLUMNS: usize = 64;
/// Rows of the drawing.
const ROWS: usize = 17;

/// A drawing of curves whose y is a share from 0 to 1. Between its points a curve is straight.
pub fn plot(x_name: &str, y_name: &str, curves: &[Curve<'_>]) -> String {
    let xs = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    let mut cells = [[' '; COLUMNS]; ROWS];
    for (curve, sign) in curves.iter().zip(SIGNS.iter().cycle()) {
        for (column, y) in (0..COLUMNS).filter_map(|column| {
            let x = least + (most - least) * column as f64 / (COLUMNS - 1) as f64;
            Some((column, height(&curve.points, x)?))
        }) {
            let row = ((1.0 - y.clamp(0.0, 1.0)) * (ROWS - 1) as f64).round() as usize;
            let cell = &mut cells[row][column];
            *cell = if *cell == ' ' { *sign } else { SEVERAL };
        }
    }
    let mut text = format!("{y_name}\n");
    for (number, row) in cells.iter().enumerate() {
        let share = 100.0 * (ROWS - 1 - number) as f64 / (ROWS - 1) as f64;
        let label =
            if number % 4 == 0 || number == ROWS - 1 { format!("{share:3.0} %") } else { " ".repeat(5) };
        text.push_str(&format!("{label} │{}\n", row.iter().collect::<String>().trim_end()));
    }
    text.push_str(&format!("      └{}\n", "─".repeat(COLUMNS)));
    let (left, right) = (format!("{least:.0}"), format!("{most:.0}"));
    let gap = COLUMNS.saturating_sub(left.len() + right.len() + x_name.chars().count()) / 2;
    text.push_str(&format!("       {left}{0}{x_name}{0}{right}\n", " ".repeat(gap)));
    let legend: Vec<String> = curves
        .iter()
        .zip(SIGNS.iter().cycle())
        .map(|(curve, sign)| format!("{sign} {}", curve.name))
        .collect();
    text.push_str(&format!("       {}   {SEVERAL} several\n", legend.join("   ")));
    text
}

/// Height of a curve at `x`; `None` outside of it.
fn height(points: &[(f64, f64)], x: f64) -> Option<f64> {
    // Rounding must not lose the ends.
    let slack = 1e-9 * x.abs().max(1.0);
    let after = points.iter().position(|point| point.0 >= x - slack)?;
    let (x1, y1) = points[after];
    let Some((x0, y0)) = after.checked_sub(1).map(|before| points[before]) else {
        return (x1 <= x + slack).then_some(y1);
    };
    Some(if x1 > x0 { y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).clamp(0.0, 1.0) } else { y1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_run_where_they_should() {
        let falling = Curve { name: "falling", points: vec![(0.0, 1.0), (100.0, 0.0)] };
        let flat = Curve { name: "flat", points: vec![(0.0, 0.5), (100.0, 0.5)] };
        let text = plot("blocks", "misses", &[falling, flat]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('│')).collect();
        assert_eq!(rows.len(), ROWS);
        assert!(rows[0].starts_with("100 % │o") && rows[ROWS - 1].starts_with("  0 % │"), "{text}");
        assert!(rows[ROWS - 1].ends_with('o'), "{text}");
        let middle = rows.iter().find(|row| row.contains("xxxx")).unwrap();
        assert!(middle.contains(SEVERAL), "they cross: {text}");
        assert!(text.contains("o falling   x flat"), "{text}");
    }

    #[test]
    fn a_single_size_is_a_point() {
        let text = plot("blocks", "misses", &[Curve { name: "one", points: vec![(5.0, 0.0)] }]);
        let last = text.lines().rfind(|line| line.contains('│')).unwrap();
        assert!(last.contains('o'), "{text}");
        assert!(!plot("", "", &[]).contains("NaN"));
    }
}
