//! Order statistics of a sample.

use std::time::Duration;

/// A sample in ascending order.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// In milliseconds.
    pub fn of_durations(values: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(values.into_iter().map(|value| value.as_secs_f64() * 1000.0).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that at least `percent` of the sample do not exceed (nearest rank); NaN without a sample.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub fn p50(&self) -> f64 {
        self.percentile(50.0)
    }

    pub fn p99(&self) -> f64 {
        self.percentile(99.0)
    }

    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let sample = Sample::new((1..=200).rev().map(f64::from).collect());
        assert_eq!((sample.p50(), sample.p99(), sample.max()), (100.0, 198.0, 200.0));
        let one = Sample::new(vec![7.0]);
        assert_eq!((one.p50(), one.p99(), one.max()), (7.0, 7.0, 7.0));
        assert!(Sample::default().p50().is_nan());
    }
}
