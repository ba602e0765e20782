//! Statistics of one column.

use serde::Serialize;

/// What is said of the values of one column, in their unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Numbers {
    /// How many.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the sample (n − 1); 0 of one value.
    pub sd: f64,
    /// Half of the 95 % interval of the mean, by the normal distribution.
    pub ci95: f64,
    /// Smallest.
    pub min: f64,
    /// A quarter is below.
    pub p25: f64,
    /// Half.
    pub p50: f64,
    /// Three quarters.
    pub p75: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// The document's three words for how much a type differs from run to run (R-004-130), by its standard deviation beside
/// the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steadiness {
    /// Up to a tenth of the mean.
    Stable,
    /// Up to a third: the document's own two are at 0.10 and 0.31.
    RelativelyStable,
    /// More.
    Unstable,
}

impl Steadiness {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::RelativelyStable => "relatively stable",
            Self::Unstable => "unstable",
        }
    }
}

impl Numbers {
    /// Of these values; all 0 of none.
    #[allow(clippy::cast_precision_loss)] // how many values there are
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if n > 1 {
            (squares / (n - 1) as f64).sqrt()
        } else {
            0.0
        };
        Self {
            n,
            mean,
            sd,
            ci95: 1.96 * sd / (n as f64).sqrt(),
            min: *min,
            p25: percentile(&values, 25),
            p50: percentile(&values, 50),
            p75: percentile(&values, 75),
            p90: percentile(&values, 90),
            p95: percentile(&values, 95),
            p99: percentile(&values, 99),
            max: *max,
        }
    }

    /// How much the values differ from run to run.
    #[must_use]
    pub fn steadiness(&self) -> Steadiness {
        let share = if self.sd == 0.0 {
            0.0
        } else {
            self.sd / self.mean.abs()
        };
        match share {
            share if share <= 0.1 => Steadiness::Stable,
            share if share <= 1.0 / 3.0 => Steadiness::RelativelyStable,
            _ => Steadiness::Unstable,
        }
    }
}

/// The nearest rank: a value that was seen, never one between two.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_own_column_comes_out_as_in_the_document() {
        // Table 6.2, "Actual total": mean 18, sample standard deviation 3.521363.
        let numbers = Numbers::of([21.0, 17.0, 22.0, 14.0, 14.0, 20.0]);
        assert!((numbers.mean - 18.0).abs() < 1e-9);
        assert!((numbers.sd - 3.521_363).abs() < 1e-6);
        assert_eq!((numbers.min, numbers.p50, numbers.max), (14.0, 17.0, 22.0));
        assert_eq!(numbers.steadiness(), Steadiness::RelativelyStable);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let numbers = Numbers::of((1..=30).map(f64::from));
        assert_eq!((numbers.p50, numbers.p90, numbers.p99), (15.0, 27.0, 30.0));
        assert_eq!(Numbers::of([7.0]).p99, 7.0);
        assert_eq!(Numbers::of([]).n, 0);
        assert_eq!(Numbers::of([5.0, 5.0]).steadiness(), Steadiness::Stable);
    }
}
