//! Figures in words.

use super::signal::Curve;

/// A curve's value: "41 ms", "12 connections".
pub(super) fn amount(curve: Curve, value: f64) -> String {
    let plain = curve.plain(value);
    if curve == Curve::Queue {
        return format!("{plain:.0} waiting");
    }
    match plain {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 10_000.0 => format!("{:.1} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// "1 request", "2 requests".
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let time = |us: f64| amount(Curve::Service50, (us + 1_000.0).ln());
        assert_eq!(time(400.0), "400 us");
        assert_eq!(time(3_200.0), "3.2 ms");
        assert_eq!(time(41_000.0), "41 ms");
        assert_eq!(time(2_500_000.0), "2.5 s");
        assert_eq!(amount(Curve::Queue, 30.0_f64.ln()), "6 waiting");
        assert_eq!(count(1, "request"), "1 request");
    }
}
