//! Medians and ranges.

use hotlb_tests::report;

/// Values of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Sample {
    /// The value that `part` (0 to 1) of the values do not exceed; 0 without values.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within a short list"
        )]
        let index = (part * last as f64).ceil() as usize;
        self.0.get(index).copied().unwrap_or_default()
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// "median [least to greatest]".
    pub(crate) fn describe(&self, digits: usize) -> String {
        let least = self.quantile(0.0);
        let greatest = self.quantile(1.0);
        format!(
            "{:.digits$} [{least:.digits$} to {greatest:.digits$}]",
            self.median()
        )
    }
}

/// Reports a value beside its aim.
pub(crate) fn against_aim(name: &str, value: &str, aim: &str, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    report::figure(name, format!("{value} (aim: {aim}: {verdict})"));
}
