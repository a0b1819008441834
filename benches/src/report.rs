//! How figures are written down: the machine, then medians.

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The processor's name and how many there are.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {}", name.trim_start_matches([' ', '\t', ':']))
}

/// Figures of several rounds, by what they are of, in the order in which they
/// first came.
#[derive(Default)]
pub struct Figures(Vec<(String, Vec<f64>)>);

impl Figures {
    pub fn add(&mut self, of: &str, figure: f64) {
        match self.0.iter_mut().find(|(name, _)| name == of) {
            Some((_, figures)) => figures.push(figure),
            None => self.0.push((of.to_owned(), vec![figure])),
        }
    }

    pub fn median(&self, of: &str) -> f64 {
        self.0.iter().find(|(name, _)| name == of).map_or(f64::NAN, |(_, figures)| median(figures))
    }

    /// The median of each, with the least and the greatest.
    #[allow(clippy::print_stdout)]
    pub fn print(&self) {
        for (name, figures) in &self.0 {
            let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            println!("{name:<48} {:>10.2}   ({least:.2} to {greatest:.2})", median(figures));
        }
    }
}
