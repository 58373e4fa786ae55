//! Rates of simulated events, held against the range that they should lie in.

/// How often something happened in a number of experiments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rate {
    hits: usize,
    experiments: usize,
}

impl Rate {
    /// Counts the experiments in which `event` happened.
    pub(crate) fn of(experiments: usize, mut event: impl FnMut() -> bool) -> Self {
        let mut rate = Self::default();
        for _ in 0..experiments {
            rate.count(event());
        }
        rate
    }

    /// Counts one experiment more.
    pub(crate) fn count(&mut self, hit: bool) {
        self.experiments += 1;
        self.hits += usize::from(hit);
    }

    /// Share of experiments in which it happened.
    pub(crate) fn share(self) -> f64 {
        self.hits as f64 / self.experiments as f64
    }

    /// Whether a true rate within `low..=high` could have given this share, four standard errors allowed.
    pub(crate) fn fits(self, low: f64, high: f64) -> bool {
        let error = |p: f64| 4.0 * (p * (1.0 - p) / self.experiments as f64).sqrt();
        self.share() >= low - error(low) && self.share() <= high + error(high)
    }

    /// Fails unless [`Self::fits`]; prints the share either way.
    #[track_caller]
    pub(crate) fn within(self, low: f64, high: f64, what: &str) {
        let share = self.share();
        println!(
            "{what}: {share:.4} of {} (stated {low} to {high})",
            self.experiments
        );
        assert!(
            self.fits(low, high),
            "{what}: {share} of {} does not fit {low} to {high}",
            self.experiments
        );
    }
}
