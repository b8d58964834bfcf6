//! Periods for a target utilisation.

use std::str::FromStr;

use aegis_types::Nanos;

/// Millionths in one.
const ONE: u128 = 1_000_000;
/// Periods are whole microseconds: what follows is read by people.
const GRAIN: u128 = 1_000;
/// The largest period that is written: a fleet refuses longer ones than its own limit, which is far above.
const LONGEST: u128 = 3_600_000_000_000;

/// A utilisation above zero, in millionths: the sum over tasks of execution alone over period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utilisation(u64);

/// The times of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// From job to job.
    pub period: Nanos,
    /// From release to the latest end.
    pub deadline: Nanos,
}

/// Why there are no periods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// A utilisation that is no number in the range.
    #[error("utilisation `{0}`; legal is a decimal number from 0.001 to 100, with at most six places")]
    Utilisation(String),
    /// A period beyond what a fleet is meant for.
    #[error("task `{0}` would have a period of more than an hour; legal is a higher utilisation")]
    TooLong(String),
}

impl FromStr for Utilisation {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Self, ScaleError> {
        let bad = || ScaleError::Utilisation(text.to_owned());
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(places) || places.len() > 6 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let places: u64 = format!("{places:0<6}").parse().map_err(|_| bad())?;
        let ppm = whole.checked_mul(1_000_000).and_then(|ppm| ppm.checked_add(places)).ok_or_else(bad)?;
        if (1_000..=100_000_000).contains(&ppm) { Ok(Self(ppm)) } else { Err(bad()) }
    }
}

/// Periods in the proportions of the natural ones, given as (name, cost, natural period, deadline in hundredths), such
/// that costs over periods add up to `target` or, by rounding periods up, a little less.
///
/// # Errors
/// [`ScaleError::TooLong`] for a period of more than an hour.
pub fn periods(tasks: &[(&str, Nanos, Nanos, u64)], target: Utilisation) -> Result<Vec<Period>, ScaleError> {
    // Rounded up, in millionths of a millionth: a fleet is never faster than it was asked to be.
    let natural: u128 = tasks
        .iter()
        .map(|(_, cost, natural, _)| {
            (u128::from(cost.get()) * ONE * ONE).div_ceil(u128::from(natural.get()).max(1))
        })
        .sum();
    tasks
        .iter()
        .map(|(name, _, period, deadline)| {
            let exact = (u128::from(period.get()) * natural).div_ceil(u128::from(target.0) * ONE);
            let period = exact.div_ceil(GRAIN).max(1) * GRAIN;
            if period > LONGEST {
                return Err(ScaleError::TooLong((*name).to_owned()));
            }
            // Both lie within the hour that was just checked.
            let period = u64::try_from(period).unwrap_or(u64::MAX);
            let deadline = (period / 100 * deadline / 1_000 * 1_000).clamp(1_000, period);
            Ok(Period { period: Nanos::new(period), deadline: Nanos::new(deadline) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Utilisation {
        text.parse().expect("a utilisation")
    }

    #[test]
    fn utilisations_are_decimal_numbers_in_a_range() {
        assert_eq!(target("0.9"), Utilisation(900_000));
        assert_eq!(target("2.5"), Utilisation(2_500_000));
        assert_eq!(target("1"), Utilisation(1_000_000));
        for bad in ["", ".", ".5", "0", "-1", "1e3", "0.0001", "101", "0.1234567", "99999999999999999999"] {
            let error = bad.parse::<Utilisation>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("legal"), "{bad}: {error}");
        }
    }

    /// The sum over tasks of cost over period is the target, missed by no more than the rounding of periods.
    #[test]
    fn costs_over_periods_add_up_to_the_target() {
        let micros = |n: u64| Nanos::new(n * 1_000);
        let tasks = [
            ("a", micros(1_300), micros(33_000), 100),
            ("b", micros(700), micros(50_000), 80),
            ("c", micros(4_100), micros(250_000), 100),
        ];
        for text in ["0.1", "0.5", "0.9", "1.5", "2.5"] {
            let times = periods(&tasks, target(text)).expect("short enough");
            let sum: f64 = tasks
                .iter()
                .zip(&times)
                .map(|((_, cost, ..), time)| cost.get() as f64 / time.period.get() as f64)
                .sum();
            let wanted: f64 = text.parse().expect("a number");
            assert!(sum <= wanted && sum > wanted * 0.997, "{text}: {sum}");
            for ((_, _, _, share), time) in tasks.iter().zip(&times) {
                assert!(time.deadline <= time.period);
                let exact = time.period.get() as f64 * *share as f64 / 100.0;
                assert!((exact - time.deadline.get() as f64).abs() <= 1_100.0, "{time:?}");
            }
        }
    }

    #[test]
    fn a_period_beyond_an_hour_is_refused_by_the_task_that_has_it() {
        let tasks = [("slow", Nanos::new(10_000_000_000), Nanos::new(1_000_000_000), 100)];
        let error = periods(&tasks, target("0.001")).unwrap_err();
        assert_eq!(error, ScaleError::TooLong("slow".into()));
    }
}
