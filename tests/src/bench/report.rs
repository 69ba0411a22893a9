//! What a measurement found: every value of every round, medians, and how we stand beside the peers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// All figures in the order they were first made.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: String,
    /// With which peers.
    pub versions: Vec<String>,
    /// One per measure and path.
    pub figures: Vec<Figure>,
    /// One per bar or aim.
    pub comparisons: Vec<Comparison>,
}

/// The values of one measure on one path, a round each.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub measure: String,
    /// In which unit.
    pub unit: &'static str,
    /// On which path.
    pub path: &'static str,
    /// Median of the rounds.
    pub median: f64,
    /// The rounds.
    pub rounds: Vec<f64>,
}

/// One figure beside what is wanted of it.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub measure: String,
    /// On which path of ours.
    pub path: &'static str,
    /// Beside whom; without one, the figure itself counts.
    pub beside: Option<&'static str>,
    /// The median of the rounds' ratios, or of the figure.
    pub found: f64,
    /// What is wanted.
    pub wanted: Wanted,
    /// Whether the run fails without it.
    pub strictness: Strictness,
    /// Whether it holds.
    pub holds: bool,
}

/// What a comparison wants.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// How much a comparison matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// It must hold.
    Bar,
    /// It should.
    Aim,
}

impl Report {
    /// An empty one.
    pub fn new(versions: Vec<String>) -> Self {
        Self { machine: machine(), versions, figures: vec![], comparisons: vec![] }
    }

    /// Whether every bar holds.
    pub fn passed(&self) -> bool {
        self.comparisons.iter().all(|comparison| comparison.holds || comparison.strictness == Strictness::Aim)
    }

    pub(super) fn add(&mut self, measure: &str, unit: &'static str, path: &'static str, value: f64) {
        let known = self.figures.iter_mut().find(|figure| figure.measure == measure && figure.path == path);
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                measure: measure.into(),
                unit,
                path,
                median: 0.0,
                rounds: vec![value],
            }),
        }
        if let Some(figure) =
            self.figures.iter_mut().find(|figure| figure.measure == measure && figure.path == path)
        {
            figure.median = median(&figure.rounds);
        }
    }

    /// Compares a figure with that of another path, round by round, or with `wanted` itself.
    pub(super) fn compare(
        &mut self,
        measure: &str,
        path: &'static str,
        beside: Option<&'static str>,
        wanted: Wanted,
        strictness: Strictness,
    ) {
        let rounds = |path| {
            let figure = self.figures.iter().find(|figure| figure.measure == measure && figure.path == path);
            figure.map(|figure| figure.rounds.clone()).unwrap_or_default()
        };
        let mut values = rounds(path);
        if let Some(beside) = beside {
            values = values.iter().zip(rounds(beside)).map(|(ours, theirs)| ours / theirs).collect();
        }
        if values.is_empty() {
            return;
        }
        let found = median(&values);
        let holds = match wanted {
            Wanted::AtLeast(bound) => found >= bound,
            Wanted::AtMost(bound) => found <= bound,
        };
        let measure = measure.to_owned();
        self.comparisons.push(Comparison { measure, path, beside, found, wanted, strictness, holds });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} · {}\n", self.machine, self.versions.join(" · "))?;
        let mut measures: Vec<&str> = Vec::new();
        let mut by_path: BTreeMap<&str, Vec<&Figure>> = BTreeMap::new();
        for figure in &self.figures {
            if !measures.contains(&figure.measure.as_str()) {
                measures.push(&figure.measure);
            }
            by_path.entry(&figure.measure).or_default().push(figure);
        }
        for measure in measures {
            let figures = &by_path[measure];
            writeln!(f, "{measure} ({})", figures[0].unit)?;
            for figure in figures {
                let (low, high) =
                    figure.rounds.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                let (median, low, high) = (number(figure.median), number(low), number(high));
                writeln!(f, "  {:<34} {median:>10}   {low:>9} … {high}", figure.path)?;
            }
        }
        writeln!(f, "\nbeside the peers (median of the rounds' ratios)")?;
        for comparison in &self.comparisons {
            let Comparison { measure, path, beside, found, wanted, strictness, holds } = comparison;
            let verdict = match (holds, strictness) {
                (true, _) => "ok    ",
                (false, Strictness::Bar) => "MISSED",
                (false, Strictness::Aim) => "below ",
            };
            let (sign, bound) = match wanted {
                Wanted::AtLeast(bound) => ("≥", bound),
                Wanted::AtMost(bound) => ("≤", bound),
            };
            let kind = if *strictness == Strictness::Bar { "bar" } else { "aim" };
            let what = match beside {
                Some(beside) => format!("{path} : {beside}, {measure}"),
                None => format!("{path}, {measure}"),
            };
            writeln!(f, "  {verdict} {:>7}  {kind} {sign} {bound:<5} {what}", number(*found))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {}", model.trim_start_matches([' ', '\t', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut report = Report::new(vec![]);
        for (ours, theirs) in [(20.0, 10.0), (9.0, 3.0), (400.0, 100.0)] {
            report.add("speed", "1/s", "ours", ours);
            report.add("speed", "1/s", "theirs", theirs);
        }
        report.compare("speed", "ours", Some("theirs"), Wanted::AtLeast(3.0), Strictness::Bar);
        report.compare("speed", "ours", Some("theirs"), Wanted::AtMost(2.9), Strictness::Aim);
        report.compare("speed", "nobody", Some("theirs"), Wanted::AtLeast(3.0), Strictness::Bar);
        assert_eq!(report.figures[0].median, 20.0);
        assert_eq!(
            report.comparisons.iter().map(|c| (c.found, c.holds)).collect::<Vec<_>>(),
            [(3.0, true), (3.0, false)]
        );
        assert!(report.passed(), "an aim may be missed");
        report.compare("speed", "ours", None, Wanted::AtLeast(21.0), Strictness::Bar);
        assert!(!report.passed());
    }
}
